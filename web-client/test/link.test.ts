import { describe, expect, it } from 'vitest';
import { ApiError } from '../src/api/error';
import type { Connection, ReadyConnection } from '../src/api/types';
import { Backoff } from '../src/lib/backoff';
import type { State } from '../src/viewer/connection';
import { Link, type StreamEnd, type StreamEvents } from '../src/viewer/link';

const connection = (ticket: string | null): Connection =>
  ({ ticket, websocket: '/api/v1/stream', detail: 'being made', progress: 40 }) as Connection;

interface OpenStream {
  ticket: string;
  events: StreamEvents;
  end: (code: number) => void;
}

/** A link whose server, streams and time are in the test's hands. */
class World {
  answers: (Connection | ApiError)[] = [];
  streams: OpenStream[] = [];
  waits: number[] = [];
  states: State[] = [];
  asked = 0;
  clock = 0;
  /** When false, waits last until the link is nudged or stopped. */
  timePasses = true;

  readonly link = new Link(
    {
      ask: () => {
        this.asked += 1;
        const answer = this.answers.shift() ?? connection(`ticket-${this.asked}`);
        return answer instanceof ApiError ? Promise.reject(answer) : Promise.resolve(answer);
      },
      stream: (ready, events, signal) =>
        new Promise<StreamEnd>((resolve) => {
          const end = (code: number) => resolve({ code, detail: '' });
          signal.addEventListener('abort', () => end(1000));
          this.streams.push({ ticket: ready.ticket, events, end });
        }),
      pause: (ms, signal) => {
        this.waits.push(ms);
        if (this.timePasses) return Promise.resolve();
        return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
      },
      now: () => this.clock,
      backoff: new Backoff(() => 0.5),
    },
    (state) => this.states.push(state),
  );

  get state(): State | undefined {
    return this.states.at(-1);
  }

  /** Lets everything that is ready to run do so, until `done`. */
  async until(done: () => boolean): Promise<void> {
    for (let i = 0; i < 1000 && !done(); i++) await Promise.resolve();
    expect(done()).toBe(true);
  }

  async stream(index: number): Promise<OpenStream> {
    await this.until(() => this.streams.length > index);
    const found = this.streams[index];
    if (!found) throw new Error('no such stream');
    return found;
  }

  /** The stream shows a picture for `ms` and then breaks. */
  async live(index: number, ms: number, code = 1006): Promise<void> {
    const stream = await this.stream(index);
    stream.events.opened();
    stream.events.picture();
    this.clock += ms;
    stream.end(code);
  }
}

const away = new ApiError('network', 0, '', 'The server can’t be reached.');

describe('Link', () => {
  it('opens a stream with the ticket that was handed over, without asking', async () => {
    const world = new World();
    world.link.start(connection('handed') as ReadyConnection);
    expect((await world.stream(0)).ticket).toBe('handed');
    expect(world.asked).toBe(0);
  });

  it('asks for a new ticket after the link was lost, for as long as the server is away', async () => {
    const world = new World();
    world.answers = [connection('first'), away, away, away];
    world.link.start();
    await world.live(0, 60_000);
    const second = await world.stream(1);
    expect(second.ticket).toBe('ticket-5');
    expect(world.waits).toEqual([200, 400, 800, 1600]);
    second.events.picture();
    expect(world.state).toEqual({ name: 'connected' });
  });

  it('begins with the shortest wait again only after a stream that lasted', async () => {
    const world = new World();
    world.link.start();
    await world.live(0, 10);
    await world.live(1, 10);
    await world.live(2, 60_000);
    await world.stream(3);
    expect(world.waits).toEqual([200, 400, 200]);
  });

  it('tells how far the desktop is until there is a ticket', async () => {
    const world = new World();
    world.answers = [connection(null), connection(null)];
    world.link.start();
    expect((await world.stream(0)).ticket).toBe('ticket-3');
    expect(world.states).toContainEqual({
      name: 'connecting',
      stage: 'preparing',
      detail: 'being made',
      share: 40,
    });
  });

  it('stops trying when the desktop was taken over, and starts when the user wants it back', async () => {
    const world = new World();
    world.link.start();
    await world.live(0, 60_000, 4003);
    await world.until(() => world.state?.name === 'ended');
    expect(world.asked).toBe(1);
    world.link.restart();
    (await world.stream(1)).events.picture();
    expect(world.state).toEqual({ name: 'connected' });
  });

  it('tries at once when the network comes back', async () => {
    const world = new World();
    world.timePasses = false;
    world.answers = [away];
    world.link.start();
    await world.until(() => world.waits.length === 1);
    world.link.nudge();
    await world.stream(0);
  });

  it('does and tells nothing more after it was stopped', async () => {
    const world = new World();
    world.link.start();
    const stream = await world.stream(0);
    const told = world.states.length;
    world.link.stop();
    stream.events.picture();
    for (let i = 0; i < 50; i++) await Promise.resolve();
    expect(world.states).toHaveLength(told);
    expect(world.asked).toBe(1);
  });
});
