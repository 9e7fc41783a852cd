// When the next piece of sound is to be heard, so that neither hiccups of the link nor clocks that differ are. Pure; times in
// seconds of the device's clock.

/** Waits between the first piece and its sound. Lower and every hiccup is a gap; higher and sound is behind the picture. */
export const BUFFER_S = 0.04;
/** More than this in front of a piece and it is left out: sound would fall behind the picture. */
export const MOST_S = 0.12;

export class Playhead {
  private next = 0;

  /** Sound begins after silence. */
  reset(): void {
    this.next = 0;
  }

  /** When to play a piece of this length that came now; `undefined` leaves it out. */
  place(now: number, length: number): number | undefined {
    // It ran dry: the buffer is filled again.
    if (this.next < now) this.next = now + BUFFER_S;
    else if (this.next > now + MOST_S) return undefined;
    const at = this.next;
    this.next += length;
    return at;
  }
}
