// Finds out that a link is dead. A browser notices a cut cable only after minutes; an idle desktop sends nothing. So when
// nothing came for a while the server is asked for a sign of life. Knows nothing of streams or pictures.

/** Silence, ms, after which a sign of life is asked for. Lower is traffic; higher is time in front of a frozen picture. */
export const SILENCE_MS = 5_000;
/** Longest time for the sign of life, ms. Lower takes slow links for dead ones. */
export const PROBE_MS = 4_000;
/** How often the silence is looked at, ms. */
const LOOK_MS = 1_000;

export interface WatchDeps {
  /** Resolves when the server answered anything within `timeoutMs`. */
  probe: (timeoutMs: number, signal: AbortSignal) => Promise<void>;
  /** Milliseconds, never going back. */
  now: () => number;
  /** The link is dead. Called at most once. */
  lost: () => void;
}

export class LinkWatch {
  private last: number;
  private readonly control = new AbortController();
  private probing = false;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(private readonly deps: WatchDeps) {
    this.last = deps.now();
    this.timer = setInterval(() => {
      if (this.deps.now() - this.last >= SILENCE_MS) void this.check();
    }, LOOK_MS);
  }

  /** Something came from the desktop: the link is alive. */
  heard(): void {
    this.last = this.deps.now();
  }

  /** Asks for a sign of life now, because something speaks against the link. */
  async check(): Promise<void> {
    if (this.probing || this.control.signal.aborted) return;
    this.probing = true;
    const before = this.last;
    try {
      await this.deps.probe(PROBE_MS, this.control.signal);
      this.heard();
    } catch {
      // What came meanwhile through the stream itself counts more than the missing answer.
      if (!this.control.signal.aborted && this.last === before) {
        this.close();
        this.deps.lost();
      }
    } finally {
      this.probing = false;
    }
  }

  close(): void {
    clearInterval(this.timer);
    this.control.abort();
  }
}
