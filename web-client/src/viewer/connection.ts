// The states of a viewer's connection, as a pure function of what happens. Knows no sockets, clocks or pictures.
//
//                 ┌──────────── closed, failed ───────────┐
//                 ▼                                       │
//   ─────► connecting ── picture ──► connected ── closed, failed ──► reconnecting
//             │   ▲                     │    ▲                          │   │
//             │   └─ restart ─┐         │    └──────── picture ─────────┘   │
//             └──────────► ended ◄──────┴───────────────────────────────────┘
//                  (closed with 4001 to 4013; refused for good; signed out)
//
// The difference between connecting and reconnecting is that the user has seen their desktop already.
import type { ApiError } from '../api/error';
import { text } from '../text';

/** What is being done to get a picture. */
export type Stage = 'asking' | 'preparing' | 'linking' | 'painting' | 'retrying';

export type EndReason =
  | 'logged_off'
  | 'desktop_ended'
  | 'taken_over'
  | 'stopped'
  | 'idle'
  | 'lasted'
  | 'powered_off'
  | 'suspended'
  | 'put_back'
  | 'maintenance'
  | 'signed_out'
  | 'session_ended'
  | 'not_found'
  | 'refused';

/** On the way to a picture. `detail` says why it takes longer, for people; `share` is 0 to 100 where known. */
export interface Underway {
  name: 'connecting' | 'reconnecting';
  stage: Stage;
  detail: string;
  share: number | null;
}

export interface Ended {
  name: 'ended';
  reason: EndReason;
  detail: string;
}

export type State = Underway | { name: 'connected' } | Ended;

export type Happening =
  /** A ticket is asked for. */
  | { type: 'asked' }
  /** The server says: not yet. */
  | { type: 'pending'; detail: string; share: number | null }
  /** A ticket is here; the stream is being opened. */
  | { type: 'opening' }
  /** The stream is open. */
  | { type: 'opened' }
  /** The first picture is on the screen. */
  | { type: 'picture' }
  /** The stream closed (RFC 6455 section 7.4 codes; 4000 and above are the server's own). */
  | { type: 'closed'; code: number; detail: string }
  /** No ticket was to be had. */
  | { type: 'failed'; error: ApiError }
  /** The user wants this desktop here after all. */
  | { type: 'restart' };

/** Close codes of the stream, as the server's gateway gives them. */
export const CLOSE_LOGGED_OFF = 4001;
export const CLOSE_DESKTOP_ENDED = 4002;
export const CLOSE_TAKEN_OVER = 4003;
export const CLOSE_STOPPED = 4004;
export const CLOSE_FULL = 4005;
export const CLOSE_UNSEEN = 4006;
export const CLOSE_WITHDRAWN = 4007;
export const CLOSE_IDLE = 4008;
export const CLOSE_LASTED = 4009;
export const CLOSE_POWERED_OFF = 4010;
export const CLOSE_MAINTENANCE = 4011;
export const CLOSE_SUSPENDED = 4012;
export const CLOSE_PUT_BACK = 4013;
export const CLOSE_GOING_AWAY = 1012;
/** Given by this client when a stream shows nothing in time, or the link is found dead. */
export const CLOSE_STALLED = 4900;

export const START: State = { name: 'connecting', stage: 'asking', detail: '', share: null };

/** The code of an error that says: another viewer has the desktop now. */
export const ELSEWHERE = 'used_elsewhere';

/** The state after something happened. */
export function step(state: State, happening: Happening): State {
  if (happening.type === 'restart') return START;
  if (state.name === 'ended') return state;
  switch (happening.type) {
    case 'picture':
      return { name: 'connected' };
    case 'closed':
      return afterClose(state, happening.code, happening.detail);
    case 'failed':
      return afterFailure(state, happening.error);
    case 'asked':
      // After a failure its reason stays on the screen while the next attempt runs: words that flicker can't be read.
      if (state.name !== 'connected' && state.stage === 'retrying') return state;
      return underway(state, 'asking', '', null);
    case 'pending':
      return underway(state, 'preparing', happening.detail, happening.share);
    case 'opening':
      return underway(state, 'linking', '', null);
    case 'opened':
      return underway(state, 'painting', '', null);
  }
}

function underway(state: State, stage: Stage, detail: string, share: number | null): Underway {
  const name = state.name === 'connecting' ? 'connecting' : 'reconnecting';
  return { name, stage, detail, share };
}

function afterClose(state: State, code: number, detail: string): State {
  switch (code) {
    case CLOSE_LOGGED_OFF:
      return { name: 'ended', reason: 'logged_off', detail: '' };
    case CLOSE_DESKTOP_ENDED:
      return { name: 'ended', reason: 'desktop_ended', detail };
    case CLOSE_TAKEN_OVER:
      return { name: 'ended', reason: 'taken_over', detail: '' };
    case CLOSE_STOPPED:
    case CLOSE_UNSEEN:
      return { name: 'ended', reason: 'stopped', detail: sentence(detail) };
    case CLOSE_WITHDRAWN:
    case CLOSE_FULL:
      return { name: 'ended', reason: 'refused', detail: sentence(detail) };
    case CLOSE_IDLE:
      return { name: 'ended', reason: 'idle', detail: '' };
    case CLOSE_LASTED:
      return { name: 'ended', reason: 'lasted', detail: '' };
    case CLOSE_POWERED_OFF:
      return { name: 'ended', reason: 'powered_off', detail: '' };
    case CLOSE_SUSPENDED:
      return { name: 'ended', reason: 'suspended', detail: '' };
    case CLOSE_PUT_BACK:
      return { name: 'ended', reason: 'put_back', detail: '' };
    case CLOSE_MAINTENANCE:
      return { name: 'ended', reason: 'maintenance', detail: '' };
    case CLOSE_GOING_AWAY:
      return underway(state, 'retrying', text.viewer.serverAway, null);
    case CLOSE_STALLED:
      return underway(state, 'retrying', detail, null);
    default:
      // 1005 and 1006 are the browser's own words for "no reason given": nothing a person could use.
      return underway(state, 'retrying', code >= 4000 ? detail || text.viewer.closed(code) : '', null);
  }
}

/** A server's words as a sentence. */
function sentence(words: string): string {
  return words && `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;
}

function afterFailure(state: State, error: ApiError): State {
  if (error.signedOut) return { name: 'ended', reason: 'signed_out', detail: '' };
  if (error.code === ELSEWHERE) return { name: 'ended', reason: 'taken_over', detail: '' };
  if (error.passing) return underway(state, 'retrying', error.detail, null);
  if (error.status === 410) return { name: 'ended', reason: 'session_ended', detail: '' };
  if (error.status === 404) return { name: 'ended', reason: 'not_found', detail: '' };
  return { name: 'ended', reason: 'refused', detail: error.detail };
}
