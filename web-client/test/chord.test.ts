import { expect, it } from 'vitest';
import { Chord, type KeyLike } from '../src/viewer/chord';

const key = (type: 'keydown' | 'keyup', name: string, held: string): KeyLike => ({
  type,
  key: name,
  ctrlKey: held.includes('c'),
  altKey: held.includes('a'),
  shiftKey: held.includes('s'),
});
const feed = (...events: KeyLike[]) => {
  const chord = new Chord();
  return events.map((event) => chord.feed(event));
};
const press = [
  key('keydown', 'Control', 'c'),
  key('keydown', 'Alt', 'ca'),
  key('keydown', 'Shift', 'cas'),
] as const;
const release = [key('keyup', 'Shift', 'ca'), key('keyup', 'Alt', 'c'), key('keyup', 'Control', '')] as const;

it('counts when the last of the three keys is released', () => {
  expect(feed(...press, ...release)).toEqual([false, false, false, false, false, true]);
});

it('leaves shortcuts that use the three keys to the desktop', () => {
  const shortcut = [key('keydown', 'F', 'cas'), key('keyup', 'F', 'cas')];
  expect(feed(...press, ...shortcut, ...release)).not.toContain(true);
});

it('does not count with fewer keys', () => {
  const two = [press[0], press[1], key('keyup', 'Alt', 'c'), key('keyup', 'Control', '')];
  expect(feed(...two)).not.toContain(true);
});
