// Hears from the server that something changed, while the page is visible. Knows nothing of what did: whoever wants to know asks.
import { useEffect, useRef, useState } from 'preact/hooks';

/** Wait before the asking, ms: what changes together is asked for once. */
const GATHER_MS = 100;
/** Shortest time between two askings, ms, however much changes. */
const SPACING_MS = 1_000;
/** Longest wait after everyone was told to ask, ms: a thousand pages don't ask in one instant. */
const SPREAD_MS = 3_000;
/** Wait after a refusal, ms. The browser gives up then, and comes back by itself after everything else. */
const REFUSED_MS = 60_000;

/** What tells that a thing changed. */
const KINDS = ['card', 'desktop', 'session'] as const;

export interface ChangesDeps {
  /** Opens the server's stream. */
  open: () => EventSource;
  /** Something may have changed. */
  changed: () => void;
  /** Whether changes are heard of. */
  told: (told: boolean) => void;
  /** Milliseconds, never going back. */
  now: () => number;
  /** Numbers from 0 to 1. */
  random: () => number;
}

export class Changes {
  private source: EventSource | undefined;
  private asking: ReturnType<typeof setTimeout> | undefined;
  private again: ReturnType<typeof setTimeout> | undefined;
  private asked = -Infinity;

  constructor(private readonly deps: ChangesDeps) {
    this.open();
  }

  close(): void {
    clearTimeout(this.asking);
    clearTimeout(this.again);
    this.source?.close();
    this.source = undefined;
  }

  private open(): void {
    const source = this.deps.open();
    this.source = source;
    // What changed before it was open was heard by nobody.
    source.addEventListener('hello', () => {
      this.deps.told(true);
      this.ask(GATHER_MS);
    });
    source.addEventListener('reset', () => {
      this.deps.told(true);
      this.ask(GATHER_MS + this.deps.random() * SPREAD_MS);
    });
    for (const kind of KINDS) source.addEventListener(kind, () => this.ask(GATHER_MS));
    source.addEventListener('error', () => {
      this.deps.told(false);
      if (source.readyState !== EventSource.CLOSED) return;
      source.close();
      this.again = setTimeout(() => this.open(), REFUSED_MS);
    });
  }

  private ask(waitMs: number): void {
    if (this.asking !== undefined) return;
    const wait = Math.max(waitMs, this.asked + SPACING_MS - this.deps.now());
    this.asking = setTimeout(() => {
      this.asking = undefined;
      this.asked = this.deps.now();
      this.deps.changed();
    }, wait);
  }
}

/** Calls `changed` when something may have, and says whether it will; while the page is hidden it does not. */
export function useChanges(open: () => EventSource, changed: () => void): boolean {
  const [told, setTold] = useState(false);
  const newest = useRef(changed);
  newest.current = changed;

  useEffect(() => {
    let changes: Changes | undefined;
    const shown = () => {
      changes?.close();
      changes = undefined;
      setTold(false);
      // A connection of each page that nobody looks at: browsers have six to a server.
      if (document.hidden) return;
      changes = new Changes({
        open,
        changed: () => newest.current(),
        told: setTold,
        now: () => performance.now(),
        random: Math.random,
      });
    };
    document.addEventListener('visibilitychange', shown);
    shown();
    return () => {
      document.removeEventListener('visibilitychange', shown);
      changes?.close();
    };
  }, [open]);

  return told;
}
