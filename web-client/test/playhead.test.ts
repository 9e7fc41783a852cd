import { describe, expect, it } from 'vitest';
import { BUFFER_MOST_S, LEAST_S, MOST_S, Playhead, STEP_S } from '../src/viewer/playhead';

const PIECE = 0.02;

describe('when a piece of sound is played', () => {
  it('plays pieces without a gap however unevenly they come', () => {
    const playhead = new Playhead();
    const at = [0, 0.035, 0.036, 0.06].map((now) => playhead.place(10 + now, PIECE));
    at.forEach((time, i) => expect(time).toBeCloseTo(10 + LEAST_S + i * PIECE));
  });

  it('fills a larger buffer after it ran dry, and no larger than keeps sound with the picture', () => {
    const playhead = new Playhead();
    playhead.place(1, PIECE);
    expect(playhead.place(5, PIECE)).toBeCloseTo(5 + LEAST_S + STEP_S);
    for (let i = 6; i < 20; i++) playhead.place(i, PIECE);
    expect(playhead.place(30, PIECE)).toBeCloseTo(30 + BUFFER_MOST_S);
  });

  it('keeps what it learned of the link over silence', () => {
    const playhead = new Playhead();
    playhead.place(1, PIECE);
    playhead.place(2, PIECE);
    playhead.reset();
    expect(playhead.place(9, PIECE)).toBeCloseTo(9 + LEAST_S + STEP_S);
  });

  it('leaves out what would be heard too late, and goes on with what comes next', () => {
    const playhead = new Playhead();
    const placed = Array.from({ length: 20 }, () => playhead.place(1, PIECE)).filter(
      (at) => at !== undefined,
    );
    expect(Math.max(...placed)).toBeLessThanOrEqual(1 + MOST_S);
    expect(playhead.place(1.05, PIECE)).toBeDefined();
  });

  it('starts anew after silence', () => {
    const playhead = new Playhead();
    for (let i = 0; i < 5; i++) playhead.place(1, PIECE);
    playhead.reset();
    expect(playhead.place(1, PIECE)).toBeCloseTo(1 + LEAST_S);
  });
});
