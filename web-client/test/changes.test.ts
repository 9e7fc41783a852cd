import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Changes } from '../src/lib/changes';

/** A stream that tests speak through. */
class FakeSource extends EventTarget {
  readyState = 1;
  close(): void {
    this.readyState = 2;
  }
  say(kind: string): void {
    this.dispatchEvent(new Event(kind));
  }
  breaks(readyState: number): void {
    this.readyState = readyState;
    this.dispatchEvent(new Event('error'));
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('EventSource', { CLOSED: 2 });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function listen() {
  const sources: FakeSource[] = [];
  const changed = vi.fn();
  const told = vi.fn();
  const open = () => {
    const source = new FakeSource();
    sources.push(source);
    return source as unknown as EventSource;
  };
  const changes = new Changes({ open, changed, told, now: () => Date.now(), random: () => 1 });
  const newest = () => sources[sources.length - 1]!;
  return { sources, newest, changed, told, changes };
}

it('asks after the first event, for what changed before', async () => {
  const { newest, changed, told } = listen();
  expect(told).not.toHaveBeenCalled();
  newest().say('hello');
  expect(told).toHaveBeenLastCalledWith(true);
  await vi.advanceTimersByTimeAsync(200);
  expect(changed).toHaveBeenCalledTimes(1);
});

it('asks once for what changes together, and not more than once in a second', async () => {
  const { newest, changed } = listen();
  for (let i = 0; i < 50; i++) {
    newest().say(i % 2 ? 'desktop' : 'session');
    await vi.advanceTimersByTimeAsync(50);
  }
  await vi.advanceTimersByTimeAsync(2_000);
  expect(changed.mock.calls.length).toBeGreaterThanOrEqual(3);
  expect(changed.mock.calls.length).toBeLessThanOrEqual(4);
});

it('takes its time when everyone was told to ask', async () => {
  const { newest, changed } = listen();
  newest().say('reset');
  await vi.advanceTimersByTimeAsync(3_000);
  expect(changed).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(200);
  expect(changed).toHaveBeenCalledTimes(1);
});

it('says so while nothing is heard, and leaves it to the browser to come back', async () => {
  const { sources, newest, told } = listen();
  newest().say('hello');
  newest().breaks(0);
  expect(told).toHaveBeenLastCalledWith(false);
  await vi.advanceTimersByTimeAsync(120_000);
  expect(sources).toHaveLength(1);
  newest().say('hello');
  expect(told).toHaveBeenLastCalledWith(true);
});

it('comes back after a while where the server refused', async () => {
  const { sources, newest } = listen();
  newest().breaks(2);
  await vi.advanceTimersByTimeAsync(59_000);
  expect(sources).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(sources).toHaveLength(2);
});

it('is silent after it was closed', async () => {
  const { newest, sources, changed, changes } = listen();
  newest().say('desktop');
  changes.close();
  await vi.advanceTimersByTimeAsync(120_000);
  expect(changed).not.toHaveBeenCalled();
  expect(sources).toHaveLength(1);
  expect(newest().readyState).toBe(2);
});
