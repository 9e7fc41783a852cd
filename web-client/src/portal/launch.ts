// From the click on Connect to a ticket: asks until the desktop is ready and tells how far it is. Knows no pages.
import { pause } from '../lib/pause';
import type { Connection, ReadyConnection } from '../api/types';
import { text } from '../text';

export interface LaunchProgress {
  detail: string;
  share: number | null;
}

/** Shortest time between two askings, ms: the server may say "not yet" at once. */
const ASK_EVERY_MS = 1_000;

/**
 * Calls `ask` until it brings a ticket, telling `progress` each time it does not.
 *
 * @throws whatever `ask` throws, and the signal's reason when it was aborted.
 */
export async function launch(
  ask: (signal: AbortSignal) => Promise<Connection>,
  progress: (progress: LaunchProgress) => void,
  signal: AbortSignal,
  wait: (ms: number, signal: AbortSignal) => Promise<void> = pause,
): Promise<ReadyConnection> {
  for (;;) {
    const connection = await ask(signal);
    signal.throwIfAborted();
    if (connection.ticket !== null) return { ...connection, ticket: connection.ticket };
    progress({ detail: connection.detail || text.launch.starting, share: connection.progress });
    await wait(ASK_EVERY_MS, signal);
    signal.throwIfAborted();
  }
}
