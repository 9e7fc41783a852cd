// How long to wait before trying again: growing, bounded, spread. Reads no clock.

/** First wait, ms. Higher is felt after a short cut of the link; lower hammers a server that is just gone. */
const FIRST_MS = 200;
/** Longest wait, ms. Higher keeps people waiting after the server is back; lower is load while it is away. */
const LONGEST_MS = 5_000;
/** Share by which a wait is varied, so that a thousand viewers that lost one gateway don't come back in one instant. */
const SPREAD = 0.2;

export class Backoff {
  private attempts = 0;

  /** `random` gives numbers from 0 to 1. */
  constructor(private readonly random: () => number = Math.random) {}

  /** The next wait, ms. */
  next(): number {
    const base = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.attempts, 30));
    this.attempts += 1;
    return Math.min(LONGEST_MS, base * (1 + SPREAD * (2 * this.random() - 1)));
  }

  /** Starts over, after a success that lasted. */
  reset(): void {
    this.attempts = 0;
  }
}
