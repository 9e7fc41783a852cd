// Hands a fresh ticket from the portal to the viewer within this page's memory, so that connecting takes one request.
import type { ReadyConnection } from '../api/types';

/** Tickets live 30 s; an older one than this, ms, is not worth trying. */
const FRESH_MS = 25_000;

let kept: { connection: ReadyConnection; at: number } | undefined;

export function handOver(connection: ReadyConnection, now = performance.now()): void {
  kept = { connection, at: now };
}

/** The connection that was handed over for this session, once, if its ticket may still be good. */
export function takeOver(session: string, now = performance.now()): ReadyConnection | undefined {
  const found = kept;
  kept = undefined;
  if (found === undefined || found.connection.session.id !== session || now - found.at > FRESH_MS)
    return undefined;
  return found.connection;
}
