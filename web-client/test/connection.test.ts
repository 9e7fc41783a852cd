import { describe, expect, it } from 'vitest';
import { ApiError } from '../src/api/error';
import { START, step, type Happening, type State } from '../src/viewer/connection';

const after = (...happenings: Happening[]): State => happenings.reduce(step, START);
const problem = (status: number, code: string, detail = 'words') =>
  new ApiError('problem', status, code, detail);
const closed = (code: number, detail = ''): Happening => ({ type: 'closed', code, detail });
const seen: Happening[] = [{ type: 'asked' }, { type: 'opening' }, { type: 'opened' }, { type: 'picture' }];

it('goes through its stages in words until the first picture', () => {
  expect(after({ type: 'asked' })).toMatchObject({ name: 'connecting', stage: 'asking' });
  expect(after({ type: 'asked' }, { type: 'opening' })).toMatchObject({
    name: 'connecting',
    stage: 'linking',
  });
  expect(after(...seen.slice(0, 3))).toMatchObject({ name: 'connecting', stage: 'painting' });
  expect(after(...seen)).toEqual({ name: 'connected' });
});

it('shows how far a template is while it is being made', () => {
  const state = after({ type: 'asked' }, { type: 'pending', detail: 'being painted', share: 40 });
  expect(state).toEqual({ name: 'connecting', stage: 'preparing', detail: 'being painted', share: 40 });
});

describe('a lost link', () => {
  it('is reconnecting once the desktop has been seen, through every stage until the next picture', () => {
    let state = after(...seen, closed(1006));
    expect(state).toMatchObject({ name: 'reconnecting', stage: 'retrying' });
    for (const happening of seen.slice(0, 3)) {
      state = step(state, happening);
      expect(state.name).toBe('reconnecting');
    }
    expect(step(state, { type: 'picture' })).toEqual({ name: 'connected' });
  });

  it('is still connecting before the desktop has been seen', () => {
    expect(after({ type: 'asked' }, { type: 'opening' }, closed(1006))).toMatchObject({
      name: 'connecting',
      stage: 'retrying',
    });
  });

  it.each([1000, 1001, 1005, 1006, 1011, 1012, 4900])('comes back after close code %i', (code) => {
    expect(after(...seen, closed(code)).name).toBe('reconnecting');
  });

  it('keeps the reason on the screen while the next attempt runs', () => {
    const failed: Happening = { type: 'failed', error: problem(503, 'no_host', 'The disk is full.') };
    expect(after(...seen, closed(1006), failed, { type: 'asked' })).toMatchObject({
      stage: 'retrying',
      detail: 'The disk is full.',
    });
  });
});

describe('the end', () => {
  it.each([
    [4001, 'logged_off'],
    [4002, 'desktop_ended'],
    [4003, 'taken_over'],
    [4004, 'stopped'],
    [4005, 'refused'],
    [4007, 'refused'],
    [4006, 'stopped'],
  ])('close code %i means %s', (code, reason) => {
    expect(after(...seen, closed(code))).toMatchObject({ name: 'ended', reason });
  });

  it.each([
    [401, 'not_signed_in', 'signed_out'],
    [403, 'not_entitled', 'refused'],
    [404, 'session_not_found', 'not_found'],
    [410, 'session_ended', 'session_ended'],
  ])('status %i %s means %s', (status, code, reason) => {
    const state = after(...seen, closed(1006), { type: 'failed', error: problem(status, code) });
    expect(state).toMatchObject({ name: 'ended', reason });
  });

  it('comes without a fight when somebody else has the desktop now', () => {
    const error = problem(409, 'used_elsewhere', '');
    expect(after(...seen, closed(1006), { type: 'failed', error })).toMatchObject({ reason: 'taken_over' });
  });

  it.each([429, 500, 502, 503])('status %i does not end it', (status) => {
    const state = after(...seen, closed(1006), { type: 'failed', error: problem(status, 'x') });
    expect(state.name).toBe('reconnecting');
  });

  it('stays, whatever still comes in', () => {
    const ended = after(...seen, closed(4003));
    for (const happening of [...seen, closed(1006)]) expect(step(ended, happening)).toBe(ended);
  });

  it('is left only by the user’s wish', () => {
    expect(step(after(...seen, closed(4003)), { type: 'restart' })).toEqual(START);
  });
});

it('ends for good when nothing was typed, when the time is over and when the desktop is powered off', () => {
  for (const [code, reason] of [
    [4008, 'idle'],
    [4009, 'lasted'],
    [4010, 'powered_off'],
    [4012, 'suspended'],
    [4013, 'put_back'],
    [4011, 'maintenance'],
  ] as const) {
    expect(after(...seen, closed(code, 'words'))).toEqual({ name: 'ended', reason, detail: '' });
  }
});
