// Joins a page's elements with a link that stays up: the live picture, the last picture, the clipboard's text.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api/client';
import type { Connection } from '../api/types';
import { Backoff } from '../lib/backoff';
import { takeOver } from '../lib/handoff';
import { pause } from '../lib/pause';
import { CLOSE_STALLED, START, type State } from './connection';
import { Link, type LinkDeps, type StreamEnd } from './link';
import { LinkWatch } from './link-watch';
import { Snapshot } from './snapshot';
import { Sound, canPlay } from './sound';
import { Stream } from './stream';

export interface Screen {
  state: State;
  /** The server's newest word on the session, for its names. */
  connection: Connection | undefined;
  /** Text of the desktop's clipboard, or what the user wrote to send. */
  clipboard: string;
  setClipboard: (content: string) => void;
  sendClipboard: (content: string) => void;
  sendCtrlAltDel: () => void;
  hearing: Hearing;
  /** Mutes the desktop, or lets it be heard. */
  toggleSound: () => void;
  /** Gives the keyboard to the desktop. */
  focus: () => void;
  /** Opens the desktop here after it was opened elsewhere. */
  useHere: () => void;
}

/** Whether the desktop is heard: it has no sound for this user, it is, the user does not want it, or the browser cannot. */
export type Hearing = 'none' | 'on' | 'muted' | 'unable';

/** Runs a viewer of `session` in two elements: `target` for the live picture, `last` for the last one. */
export function useScreen(
  session: string,
  target: { current: HTMLElement | null },
  last: { current: HTMLCanvasElement | null },
): Screen {
  const [state, setState] = useState<State>(START);
  const [connection, setConnection] = useState<Connection>();
  const [clipboard, setClipboard] = useState('');
  const [hearing, setHearing] = useState<Hearing>('none');
  const muted = useRef(false);
  const link = useRef<Link>();
  const stream = useRef<Stream>();

  useEffect(() => {
    if (!target.current || !last.current) return;
    const place = target.current;
    const snapshot = new Snapshot(last.current);
    let watch: LinkWatch | undefined;
    let sound: Sound | undefined;

    const open: LinkDeps['stream'] = (ready, events, signal) =>
      new Promise<StreamEnd>((resolve) => {
        const cut = () => opened.end(1000, '');
        const opened = new Stream({
          target: place,
          path: ready.websocket,
          ticket: ready.ticket,
          onOpened: events.opened,
          onHeard: () => watch?.heard(),
          onClipboard: setClipboard,
          audio: {
            onOffer: () => {
              if (!canPlay()) return setHearing('unable');
              sound ??= new Sound();
              setHearing(muted.current ? 'muted' : 'on');
              if (!muted.current) opened.listen(true);
            },
            onBegin: () => sound?.begin(),
            onPacket: (packet) => sound?.packet(packet),
          },
          onPicture: () => {
            snapshot.wipe();
            watch = new LinkWatch({
              probe: api.probe,
              now: () => performance.now(),
              lost: () => opened.end(CLOSE_STALLED, ''),
            });
            events.picture();
          },
          onEnd: (code, detail, picture) => {
            watch?.close();
            watch = undefined;
            stream.current = undefined;
            signal.removeEventListener('abort', cut);
            if (picture && !signal.aborted) snapshot.take(picture);
            resolve({ code, detail });
          },
        });
        stream.current = opened;
        signal.addEventListener('abort', cut);
      });

    const running = new Link(
      {
        ask: (signal) => api.reconnect(session, signal),
        stream: open,
        pause,
        now: () => performance.now(),
        backoff: new Backoff(),
      },
      (next) => {
        // After the end nobody may look at what was on the screen.
        if (next.name === 'ended') snapshot.wipe();
        setState(next);
      },
      setConnection,
    );
    link.current = running;
    const handed = takeOver(session);
    if (handed) setConnection(handed);
    running.start(handed);

    const online = () => running.nudge();
    const offline = () => void watch?.check();
    const shown = () => {
      if (document.hidden) return;
      running.nudge();
      void watch?.check();
    };
    addEventListener('online', online);
    addEventListener('offline', offline);
    document.addEventListener('visibilitychange', shown);
    return () => {
      removeEventListener('online', online);
      removeEventListener('offline', offline);
      document.removeEventListener('visibilitychange', shown);
      running.stop();
      link.current = undefined;
      snapshot.wipe();
      sound?.close();
      setHearing('none');
    };
  }, [session]);

  return {
    state,
    connection,
    clipboard,
    setClipboard,
    sendClipboard: useCallback((content: string) => stream.current?.sendClipboard(content), []),
    sendCtrlAltDel: useCallback(() => stream.current?.sendCtrlAltDel(), []),
    hearing,
    toggleSound: useCallback(() => {
      muted.current = !muted.current;
      stream.current?.listen(!muted.current);
      setHearing(muted.current ? 'muted' : 'on');
    }, []),
    focus: useCallback(() => stream.current?.focus(), []),
    useHere: useCallback(() => link.current?.restart(), []),
  };
}
