// The server's REST interface as functions. Each may throw ApiError; none keeps anything.
import { request } from './request';
import { errorFromAnswer, errorFromFailure } from './error';
import type { Card, Connection, Host, Page, User, ViewerWish } from './types';

const V1 = '/api/v1';
const at = (path: string, id: string) => `${V1}/${path}/${encodeURIComponent(id)}`;

/** Longest time that the server holds a connect before it says how far it is. Higher makes its words rarer, lower makes more requests. */
const CONNECT_WAIT_MS = 4_000;
/** Longest time for a connect's answer: forking on a busy host is slow. */
const CONNECT_TIMEOUT_MS = 40_000;
/** Longest time for the answer to a wish to watch: the user has 30 s. */
const SHADOW_TIMEOUT_MS = 45_000;
/** Longest time for a desktop's destruction to be confirmed. */
const LOGOFF_TIMEOUT_MS = 60_000;

export async function login(name: string, password: string): Promise<User> {
  const body = { name, password };
  return (await request<User>('POST', `${V1}/auth/login`, { body, timeoutMs: 30_000 })).body;
}

export async function logout(): Promise<void> {
  await request('POST', `${V1}/auth/logout`);
}

export async function me(signal?: AbortSignal): Promise<User> {
  return (await request<User>('GET', `${V1}/me`, { signal })).body;
}

export async function changePassword(current: string, password: string): Promise<void> {
  await request('PUT', `${V1}/me/password`, { body: { current, password }, timeoutMs: 30_000 });
}

export async function portal(signal?: AbortSignal): Promise<Card[]> {
  return (await request<Card[]>('GET', `${V1}/portal`, { signal })).body;
}

/** What changes of the caller's cards, as server-sent events; the browser comes back by itself. */
export function changes(): EventSource {
  return new EventSource(`${V1}/events?kind=card,desktop,session`);
}

export async function hosts(signal?: AbortSignal): Promise<Host[]> {
  return (await request<Page<Host>>('GET', `${V1}/hosts`, { signal })).body.items;
}

/** Asks for a desktop of a pool. A `ticket` of null says: not ready, ask again. */
export async function connect(pool: string, signal?: AbortSignal): Promise<Connection> {
  const options = { body: { pool, wait_ms: CONNECT_WAIT_MS }, signal, timeoutMs: CONNECT_TIMEOUT_MS };
  return (await request<Connection>('POST', `${V1}/sessions`, options)).body;
}

/** Asks for a new ticket to the desktop of a session. */
export async function reconnect(
  session: string,
  viewers: ViewerWish,
  signal?: AbortSignal,
): Promise<Connection> {
  const options = { signal, timeoutMs: CONNECT_TIMEOUT_MS };
  const path = `${at('sessions', session)}/ticket?viewers=${viewers}`;
  return (await request<Connection>('POST', path, options)).body;
}

/** Asks to watch a session, for administrators; ending the request takes the question back. */
export async function shadow(session: string, control: boolean, signal?: AbortSignal): Promise<Connection> {
  const options = { body: { control }, signal, timeoutMs: SHADOW_TIMEOUT_MS };
  return (await request<Connection>('POST', `${at('sessions', session)}/shadow`, options)).body;
}

/** Answers an administrator's question to watch. */
export async function answerShadow(session: string, question: string, allow: boolean): Promise<void> {
  const path = `${at('sessions', session)}/shadows/${encodeURIComponent(question)}`;
  await request('POST', path, { body: { allow } });
}

/** Ends one viewer of a session; the desktop runs on. */
export async function endViewer(session: string, viewer: number): Promise<void> {
  await request('DELETE', `${at('sessions', session)}/viewers/${viewer}`);
}

/** Ends a session; resolves when the desktop's destruction is confirmed. */
export async function logOff(session: string): Promise<void> {
  await request('DELETE', `${at('sessions', session)}?wait=true`, { timeoutMs: LOGOFF_TIMEOUT_MS });
}

/** Resolves when the server answers anything at all within `timeoutMs`. */
export async function probe(timeoutMs: number, signal?: AbortSignal): Promise<void> {
  await request('GET', `${V1}/health`, { signal, timeoutMs });
}

/** A JPEG of a desktop's picture at most `width` pixels wide, or null when there is none yet. */
export async function thumbnail(desktop: string, width: number, signal: AbortSignal): Promise<Blob | null> {
  const path = `${at('desktops', desktop)}/thumbnail?width=${width}`;
  let response: Response;
  try {
    response = await fetch(path, { cache: 'no-store', credentials: 'same-origin', signal });
  } catch (cause) {
    throw errorFromFailure(cause);
  }
  if (response.status === 404 || response.status === 503) return null;
  if (!response.ok) throw errorFromAnswer(response.status, undefined);
  return response.blob();
}
