import { expect, it } from 'vitest';
import { Backoff } from '../src/lib/backoff';

const middle = () => 0.5;

it('doubles from 0.2 s up to 5 s and stays there', () => {
  const backoff = new Backoff(middle);
  const waits = Array.from({ length: 8 }, () => backoff.next());
  expect(waits).toEqual([200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
});

it('never waits longer than 5 s however often it is asked', () => {
  const backoff = new Backoff(() => 1);
  for (let i = 0; i < 5000; i++) expect(backoff.next()).toBeLessThanOrEqual(5000);
});

it('spreads the waits of many clients', () => {
  expect(new Backoff(() => 0).next()).toBeCloseTo(160);
  expect(new Backoff(() => 1).next()).toBeCloseTo(240);
});

it('starts over after a success', () => {
  const backoff = new Backoff(middle);
  backoff.next();
  backoff.next();
  backoff.reset();
  expect(backoff.next()).toBe(200);
});
