import { expect, it } from 'vitest';
import type { Connection } from '../src/api/types';
import { handOver, takeOver } from '../src/lib/handoff';
import { launch, type LaunchProgress } from '../src/portal/launch';

const answer = (ticket: string | null, detail = '', progress: number | null = null) =>
  ({ ticket, detail, progress, session: { id: 's1' } }) as Connection;
const noWait = () => Promise.resolve();

it('asks until there is a ticket and tells each step', async () => {
  const answers = [answer(null, 'Booting', 10), answer(null, 'Painting', 80), answer('t')];
  const told: LaunchProgress[] = [];
  const ask = () => Promise.resolve(answers.shift() ?? answer('too far'));
  const ready = await launch(ask, (step) => told.push(step), new AbortController().signal, noWait);
  expect(ready.ticket).toBe('t');
  expect(told).toEqual([
    { detail: 'Booting', share: 10 },
    { detail: 'Painting', share: 80 },
  ]);
});

it('stops asking when the user stops waiting', async () => {
  const control = new AbortController();
  let asked = 0;
  const ask = () => {
    asked += 1;
    if (asked === 3) control.abort('stopped');
    return Promise.resolve(answer(null));
  };
  await expect(launch(ask, () => undefined, control.signal, noWait)).rejects.toBe('stopped');
  expect(asked).toBe(3);
});

it('passes a refusal on', async () => {
  const refused = new Error('pool full');
  const run = launch(
    () => Promise.reject(refused),
    () => undefined,
    new AbortController().signal,
    noWait,
  );
  await expect(run).rejects.toBe(refused);
});

it('hands a ticket over once, to its own session, while it is fresh', () => {
  const ready = { ...answer('t'), ticket: 't' };
  handOver(ready, 0);
  expect(takeOver('s1', 1_000)).toEqual(ready);
  expect(takeOver('s1', 1_000)).toBeUndefined();
  handOver(ready, 0);
  expect(takeOver('another', 1_000)).toBeUndefined();
  handOver(ready, 0);
  expect(takeOver('s1', 29_000)).toBeUndefined();
});
