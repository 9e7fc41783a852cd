// One request to the server: JSON in and out, never cached, bounded in time. Knows no addresses and no pages.
import { ApiError, errorFromAnswer, errorFromFailure } from './error';
import { text } from '../text';

export interface RequestOptions {
  /** Sent as JSON. */
  body?: unknown;
  /** Ends the request; the promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds until a `timeout` error; too low gives up on slow links, too high leaves people waiting on dead ones. */
  timeoutMs?: number;
}

export interface Answer<T> {
  status: number;
  body: T;
}

const DEFAULT_TIMEOUT_MS = 15_000;

/** Why a request was ended by its own clock, as `AbortSignal.timeout` words it. */
const timeoutReason = () => new DOMException('no answer in time', 'TimeoutError');

/**
 * Sends a request and gives the answer's status and parsed body (`undefined` with status 204).
 *
 * @throws {ApiError} for every answer outside 200 to 299 and every failure; the signal's reason when it was aborted.
 */
export async function request<T>(
  method: string,
  path: string,
  options: RequestOptions = {},
): Promise<Answer<T>> {
  const control = new AbortController();
  const abort = () => control.abort(options.signal?.reason);
  const timer = setTimeout(() => control.abort(timeoutReason()), options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  if (options.signal?.aborted) abort();
  options.signal?.addEventListener('abort', abort);
  try {
    const init: RequestInit = {
      method,
      cache: 'no-store',
      credentials: 'same-origin',
      redirect: 'error',
      signal: control.signal,
      headers: { Accept: 'application/json' },
    };
    if (options.body !== undefined) {
      init.headers = { ...init.headers, 'Content-Type': 'application/json' };
      init.body = JSON.stringify(options.body);
    }
    const response = await fetch(path, init);
    const raw = await response.text();
    if (response.ok && raw === '') return { status: response.status, body: undefined as T };
    const body = parse(raw);
    if (!response.ok) throw errorFromAnswer(response.status, body);
    if (body === undefined) throw new ApiError('garbled', response.status, '', text.error.garbled);
    return { status: response.status, body: body as T };
  } catch (cause) {
    if (cause instanceof ApiError) throw cause;
    if (options.signal?.aborted) throw options.signal.reason;
    throw errorFromFailure(control.signal.aborted ? control.signal.reason : cause);
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', abort);
  }
}

function parse(raw: string): unknown {
  try {
    return JSON.parse(raw) as unknown;
  } catch {
    return undefined;
  }
}
