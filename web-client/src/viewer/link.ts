// Keeps a viewer connected: asks for a ticket, opens the stream, and starts over when it breaks, for as long as the
// page is open. What a stream is and how time passes is given to it, so that tests run it without either.
import { asApiError } from '../api/error';
import type { Connection, ReadyConnection } from '../api/types';
import { Backoff } from '../lib/backoff';
import { START, step, type Happening, type State } from './connection';

/** How a stream ended: a WebSocket close code, and words for people where there are any. */
export interface StreamEnd {
  code: number;
  detail: string;
}

/** What a stream tells while it lives. */
export interface StreamEvents {
  opened: () => void;
  picture: () => void;
}

export interface LinkDeps {
  /** Asks for a new ticket. A connection without one says: not yet. */
  ask: (signal: AbortSignal) => Promise<Connection>;
  /** Opens a stream and resolves when it has ended; ends it when the signal aborts. Never rejects. */
  stream: (connection: ReadyConnection, events: StreamEvents, signal: AbortSignal) => Promise<StreamEnd>;
  /** Resolves after `ms` or when the signal aborts. Never rejects. */
  pause: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Milliseconds, never going back. */
  now: () => number;
  backoff: Backoff;
}

/** Time between askings while the desktop is being prepared, ms. */
const ASK_EVERY_MS = 1_000;
/** A stream that lived this long, ms, was a success: the next loss starts with the shortest wait again. */
const LASTING_MS = 3_000;

export class Link {
  private state: State = START;
  private run: AbortController | undefined;
  private nap: AbortController | undefined;

  constructor(
    private readonly deps: LinkDeps,
    private readonly onState: (state: State) => void,
    /** Each answer of the server about the session, for its names. */
    private readonly onConnection: (connection: Connection) => void = () => undefined,
  ) {}

  /** Begins, with a connection that is at hand if there is one. */
  start(handed?: ReadyConnection): void {
    this.stop();
    this.run = new AbortController();
    void this.loop(this.run.signal, handed);
  }

  /** Begins anew after the end, with a new ticket. */
  restart(): void {
    this.happen({ type: 'restart' });
    this.start();
  }

  /** Tries at once instead of at the end of the present wait: the network came back. */
  nudge(): void {
    this.deps.backoff.reset();
    this.nap?.abort();
  }

  /** Ends the stream and all trying. */
  stop(): void {
    this.run?.abort();
    this.run = undefined;
  }

  private happen(happening: Happening): void {
    const next = step(this.state, happening);
    if (next === this.state) return;
    this.state = next;
    this.onState(next);
  }

  private async loop(signal: AbortSignal, handed: ReadyConnection | undefined): Promise<void> {
    let next = handed;
    while (!signal.aborted) {
      const connection = next ?? (await this.ticket(signal));
      next = undefined;
      if (signal.aborted) return;
      if (connection) await this.show(connection, signal);
      if (signal.aborted || this.state.name === 'ended') return;
      await this.wait(this.deps.backoff.next(), signal);
    }
  }

  /** A connection with a ticket, or undefined after a failure, which has been told. */
  private async ticket(signal: AbortSignal): Promise<ReadyConnection | undefined> {
    this.happen({ type: 'asked' });
    try {
      for (;;) {
        const connection = await this.deps.ask(signal);
        if (signal.aborted) return undefined;
        this.onConnection(connection);
        if (connection.ticket !== null) return { ...connection, ticket: connection.ticket };
        this.happen({ type: 'pending', detail: connection.detail, share: connection.progress });
        await this.deps.pause(ASK_EVERY_MS, signal);
        if (signal.aborted) return undefined;
      }
    } catch (cause) {
      if (!signal.aborted) this.happen({ type: 'failed', error: asApiError(cause) });
      return undefined;
    }
  }

  private async show(connection: ReadyConnection, signal: AbortSignal): Promise<void> {
    this.happen({ type: 'opening' });
    let picturedAt: number | undefined;
    const events: StreamEvents = {
      opened: () => {
        if (!signal.aborted) this.happen({ type: 'opened' });
      },
      picture: () => {
        if (signal.aborted) return;
        picturedAt = this.deps.now();
        this.happen({ type: 'picture' });
      },
    };
    const end = await this.deps.stream(connection, events, signal);
    if (signal.aborted) return;
    if (picturedAt !== undefined && this.deps.now() - picturedAt >= LASTING_MS) this.deps.backoff.reset();
    this.happen({ type: 'closed', code: end.code, detail: end.detail });
  }

  private async wait(ms: number, signal: AbortSignal): Promise<void> {
    const nap = new AbortController();
    const wake = () => nap.abort();
    signal.addEventListener('abort', wake);
    this.nap = nap;
    await this.deps.pause(ms, nap.signal);
    this.nap = undefined;
    signal.removeEventListener('abort', wake);
  }
}
