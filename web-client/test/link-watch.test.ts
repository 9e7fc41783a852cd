import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LinkWatch, PROBE_MS, SILENCE_MS } from '../src/viewer/link-watch';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function watchOf(probe: (timeoutMs: number) => Promise<void>) {
  const lost = vi.fn();
  const probes = vi.fn(probe);
  const watch = new LinkWatch({ probe: probes, now: () => Date.now(), lost });
  return { watch, lost, probes };
}

const alive = () => Promise.resolve();
const dead = (timeoutMs: number) =>
  new Promise<void>((_, reject) => setTimeout(() => reject(new Error('silence')), timeoutMs));

it('asks for no sign of life while the desktop sends', async () => {
  const { watch, probes } = watchOf(alive);
  for (let i = 0; i < 20; i++) {
    await vi.advanceTimersByTimeAsync(SILENCE_MS / 2);
    watch.heard();
  }
  expect(probes).not.toHaveBeenCalled();
  watch.close();
});

it('leaves an idle desktop alone as long as the server answers', async () => {
  const { watch, lost, probes } = watchOf(alive);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(probes.mock.calls.length).toBeGreaterThan(5);
  expect(lost).not.toHaveBeenCalled();
  watch.close();
});

it('finds a dead link within silence and probe, and says so once', async () => {
  const { lost } = watchOf(dead);
  await vi.advanceTimersByTimeAsync(SILENCE_MS + PROBE_MS + 1_000);
  expect(lost).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(lost).toHaveBeenCalledTimes(1);
});

it('believes the stream more than a missing answer', async () => {
  const { watch, lost } = watchOf(dead);
  const checked = watch.check();
  await vi.advanceTimersByTimeAsync(1_000);
  watch.heard();
  await vi.advanceTimersByTimeAsync(PROBE_MS);
  await checked;
  expect(lost).not.toHaveBeenCalled();
  watch.close();
});

it('is silent after it was closed, even with a probe under way', async () => {
  const { watch, lost } = watchOf(dead);
  void watch.check();
  watch.close();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(lost).not.toHaveBeenCalled();
});
