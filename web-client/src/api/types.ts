// The REST types of `/api/v1` that this client reads, in the server's own words: snake case, times in seconds since
// the epoch. Fields that the client does not use are left out.

/** An error, RFC 9457 (`application/problem+json`). */
export interface Problem {
  code: string;
  title: string;
  status: number;
  detail: string;
}

export interface User {
  id: string;
  name: string;
  role: 'administrator' | 'user';
  groups: string[];
}

/** What is seen of a desktop; the life cycle is unplaced → placing → preparing → starting → ready → stopping → stopped, or off. */
export type Phase =
  | 'unplaced'
  | 'placing'
  | 'preparing'
  | 'starting'
  | 'ready'
  | 'stopping'
  | 'off'
  | 'suspended'
  | 'stopped'
  | 'lost'
  | 'failed';

export interface Desktop {
  id: string;
  /** The guest's host name. */
  name: string;
  /** The pool's name. */
  pool: string;
  phase: Phase;
  /** What is going on, or why it failed, for people. */
  detail: string;
  /** It stays when its user logs off. */
  persistent?: boolean;
}

export interface Session {
  id: string;
  /** The user's name. */
  user: string;
  /** The pool's name. */
  pool: string;
  desktop: string;
  desktop_name: string;
  state: 'connecting' | 'connected' | 'disconnected' | 'ended';
  /** Its viewers now, in the order in which they came. */
  viewers: Viewer[];
  /** What is on the screen is recorded. */
  recorded?: boolean;
  /** Which way copied text goes. */
  clipboard?: ClipboardPolicy;
}

/** Which way copied text goes between a pool's desktops and their viewers. */
export type ClipboardPolicy = 'both' | 'to_desktop' | 'from_desktop' | 'off';

/** A viewer that is connected. */
export interface Viewer {
  id: number;
  role: 'owner' | 'view_only' | 'shadow';
  /** What it types reaches the desktop. */
  control: boolean;
  /** The name of the user who looks. */
  user: string;
  address: string;
  kind: 'browser' | 'vnc';
  since: number;
}

/** What happens to the viewers with control that are there already. */
export type ViewerWish = 'take_over' | 'share' | 'view_only';

/** An administrator wants to watch. */
export interface ShadowQuestion {
  id: string;
  user: string;
  control: boolean;
  reason: string;
  answer_within_s: number;
}

/** What a stream tells beside the picture, as JSON in a text message. */
export type Notice =
  | { notice: 'viewers'; you: number; viewers: Viewer[]; questions: ShadowQuestion[] }
  | { notice: 'ending'; ending: Ending | null }
  | { notice: 'taken_over'; by: Viewer };

/** An end that is near: nothing is typed, and this viewer is disconnected; or the session has lasted for as long as it may. */
export interface Ending {
  left_s: number;
  why: 'idle' | 'session_limit' | 'maintenance';
}

/** A pool that the user may use, and their desktop of it if they have one. */
export interface Card {
  pool: string;
  name: string;
  description: string;
  desktop: Desktop | null;
  session: Session | null;
  availability: 'available' | 'preparing' | 'unavailable';
  /** When it is not available: what is being waited for or what to do, for people. */
  detail: string;
  /** While preparing: estimated share that is done, 0 to 100. */
  progress: number | null;
}

/** The answer to a connect. */
export interface Connection {
  session: Session;
  desktop: Desktop;
  /** With status 201: good for 30 s, once. With status 202: null, ask again. */
  ticket: string | null;
  /** Path of the WebSocket. */
  websocket: string;
  /** The viewers that end when the ticket is redeemed. */
  takes_over: Viewer[];
  /** With status 202: what is being waited for, for people. */
  detail: string;
  /** With status 202: estimated share that is done, 0 to 100, where known. */
  progress: number | null;
}

/** A connection that may be opened. */
export type ReadyConnection = Connection & { ticket: string };

export interface HostFacts {
  cpus: number;
  memory_mib: number;
  driver: string;
  driver_version: string;
  accel: string;
  accel_reason: string;
  network: string;
}

export interface Host {
  id: string;
  name: string;
  online: boolean;
  last_seen: number;
  facts: HostFacts;
  desktops: number;
  /** Bytes. */
  disk_free: number;
  /** Bytes. */
  memory_available: number;
}

/** One page of a list, oldest first; `next` is the `after` of the next page, null at the end. */
export interface Page<T> {
  items: T[];
  next: string | null;
}
