// What can go wrong with a request, in a form that pages can decide on and people can read. Knows nothing of pages.
import { text } from '../text';
import type { Problem } from './types';

/** `problem`: the server said no. `network`: no answer. `timeout`: none in time. `garbled`: an answer that is not ours. */
export type ErrorKind = 'problem' | 'network' | 'timeout' | 'garbled';

export class ApiError extends Error {
  constructor(
    readonly kind: ErrorKind,
    /** HTTP status, 0 when there was no answer. */
    readonly status: number,
    /** The server's stable word, such as `pool_full`; empty when it gave none. */
    readonly code: string,
    /** What happened and what to do, for people. */
    readonly detail: string,
  ) {
    super(detail);
    this.name = 'ApiError';
  }

  /** The cookie is missing or no longer good: only signing in again helps. */
  get signedOut(): boolean {
    return this.status === 401 && this.code !== 'bad_credentials' && this.code !== 'ticket_invalid';
  }

  /** Asking again later may help: the server is away, busy or lacks something. */
  get passing(): boolean {
    return this.kind !== 'problem' || this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

function isProblem(body: unknown): body is Problem {
  const b = body as Partial<Problem> | null;
  return typeof b === 'object' && b !== null && typeof b.code === 'string' && typeof b.detail === 'string';
}

/** The error for a status outside 200 to 299; `body` is the parsed answer, or undefined when it was not JSON. */
export function errorFromAnswer(status: number, body: unknown): ApiError {
  if (isProblem(body)) {
    return new ApiError('problem', status, body.code, body.detail || body.title || text.error.status(status));
  }
  // A proxy in front of the server speaks here, not the server.
  const kind = status >= 500 ? 'network' : 'problem';
  return new ApiError(kind, status, '', text.error.status(status));
}

/** The error for a request that brought no answer at all. */
export function errorFromFailure(cause: unknown): ApiError {
  const name = (cause as { name?: string } | null)?.name;
  if (name === 'TimeoutError') return new ApiError('timeout', 0, '', text.error.timeout);
  return new ApiError('network', 0, '', text.error.network);
}

/** Any thrown value as an {@link ApiError}, so that every page shows words. */
export function asApiError(cause: unknown): ApiError {
  return cause instanceof ApiError ? cause : errorFromFailure(cause);
}
