// When the next piece of sound is to be heard, so that neither hiccups of the link nor clocks that differ are. Pure; times in
// seconds of the device's clock.

/** Waits between the first piece and its sound on a link that has shown no hiccups: one piece of the server's. */
export const LEAST_S = 0.02;
/** So much more after each hiccup, which is heard as a gap, up to a buffer that outlasts those of ordinary links. */
export const STEP_S = 0.01;
export const BUFFER_MOST_S = 0.06;
/** More than this in front of a piece and it is left out: sound would fall behind the picture. */
export const MOST_S = 0.12;

export class Playhead {
  private next = 0;
  private buffer = LEAST_S;

  /** Sound begins after silence. What was learned of the link stays. */
  reset(): void {
    this.next = 0;
  }

  /** When to play a piece of this length that came now; `undefined` leaves it out. */
  place(now: number, length: number): number | undefined {
    if (this.next === 0) this.next = now + this.buffer;
    else if (this.next < now) {
      this.buffer = Math.min(this.buffer + STEP_S, BUFFER_MOST_S);
      this.next = now + this.buffer;
    } else if (this.next > now + MOST_S) return undefined;
    const at = this.next;
    this.next += length;
    return at;
  }
}
