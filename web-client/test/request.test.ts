import { afterEach, describe, expect, it, vi } from 'vitest';
import { ApiError, asApiError } from '../src/api/error';
import { request } from '../src/api/request';
import { connect, logOff, login } from '../src/api/client';

type Seen = { path: string; init: RequestInit };
let seen: Seen[] = [];

function serverAnswers(status: number, body: string, type = 'application/json') {
  seen = [];
  vi.stubGlobal('fetch', (path: string, init: RequestInit) => {
    seen.push({ path, init });
    const bodyless = status === 204;
    return Promise.resolve(
      new Response(bodyless ? null : body, { status, headers: { 'Content-Type': type } }),
    );
  });
}

/** A server that never answers, and notices when the request is given up. */
function serverIsSilent() {
  vi.stubGlobal(
    'fetch',
    (_path: string, init: RequestInit) =>
      new Promise((_, reject) => {
        init.signal?.addEventListener('abort', () => reject(init.signal?.reason as Error));
      }),
  );
}

async function failure(promise: Promise<unknown>): Promise<ApiError> {
  const cause: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(cause instanceof ApiError)) throw new Error(`no ApiError but ${String(cause)}`);
  return cause;
}

const problem = (status: number, code: string, detail: string) =>
  serverAnswers(status, JSON.stringify({ code, title: 't', status, detail }), 'application/problem+json');

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('request', () => {
  it('is never cached and never follows a redirect', async () => {
    serverAnswers(200, '{}');
    await request('GET', '/api/v1/me');
    expect(seen[0]?.init).toMatchObject({ cache: 'no-store', redirect: 'error', credentials: 'same-origin' });
  });

  it('gives the status, so that 201 and 202 differ', async () => {
    serverAnswers(202, '{"ticket":null}');
    expect(await request('POST', '/x', { body: {} })).toEqual({ status: 202, body: { ticket: null } });
  });

  it('accepts an answer without a body', async () => {
    serverAnswers(204, '');
    expect((await request('DELETE', '/x')).body).toBeUndefined();
  });

  it('passes on the server’s own words and code', async () => {
    problem(409, 'pool_full', 'All 16 desktops of pool “office” are in use. Ask for a larger pool.');
    const error = await failure(request('POST', '/x'));
    expect(error).toMatchObject({ kind: 'problem', status: 409, code: 'pool_full', passing: false });
    expect(error.detail).toContain('All 16 desktops');
  });

  it('takes a page of a proxy for no answer of the server', async () => {
    serverAnswers(502, '<html>Bad gateway</html>', 'text/html');
    expect(await failure(request('GET', '/x'))).toMatchObject({
      kind: 'network',
      status: 502,
      passing: true,
    });
    serverAnswers(200, '<html>Please accept our terms</html>', 'text/html');
    expect(await failure(request('GET', '/x'))).toMatchObject({ kind: 'garbled', passing: true });
  });

  it('says so when the server can’t be reached', async () => {
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')));
    expect(await failure(request('GET', '/x'))).toMatchObject({ kind: 'network', status: 0, passing: true });
  });

  it('gives up after its time and says so', async () => {
    vi.useFakeTimers();
    serverIsSilent();
    const caught = failure(request('GET', '/x', { timeoutMs: 1000 }));
    await vi.advanceTimersByTimeAsync(1000);
    expect(await caught).toMatchObject({ kind: 'timeout', passing: true });
  });

  it('rejects with the caller’s reason when the caller ends it', async () => {
    serverIsSilent();
    const control = new AbortController();
    const caught = request('GET', '/x', { signal: control.signal }).catch((cause: unknown) => cause);
    control.abort('left the page');
    expect(await caught).toBe('left the page');
  });
});

describe('being signed out', () => {
  it('is told from a wrong password', async () => {
    problem(401, 'bad_credentials', 'Wrong.');
    expect((await failure(login('a', 'b'))).signedOut).toBe(false);
    problem(401, 'not_signed_in', 'Sign in.');
    expect((await failure(connect('p'))).signedOut).toBe(true);
  });
  it('is told from a refused desktop', async () => {
    problem(403, 'not_entitled', 'Not yours.');
    expect((await failure(connect('p'))).signedOut).toBe(false);
  });
});

it('keeps ids from climbing out of their place in an address', async () => {
  serverAnswers(204, '');
  await logOff('../users/x?y');
  expect(seen[0]?.path).toBe('/api/v1/sessions/..%2Fusers%2Fx%3Fy?wait=true');
});

it('turns any thrown value into words', () => {
  expect(asApiError(undefined).detail).not.toBe('');
  expect(asApiError(new Error('boom'))).toMatchObject({ kind: 'network' });
});
