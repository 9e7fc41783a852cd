// Joins a page's elements with a link that stays up: the live picture, the last picture, the clipboard's text.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api/client';
import { ApiError, asApiError } from '../api/error';
import type { Connection, Ending, Notice, ShadowQuestion, Viewer } from '../api/types';
import { Backoff } from '../lib/backoff';
import { takeOver } from '../lib/handoff';
import { pause } from '../lib/pause';
import type { ViewAs } from '../lib/router';
import { text } from '../text';
import { CLOSE_STALLED, CLOSE_STOPPED, ELSEWHERE, START, type State } from './connection';
import { Link, type LinkDeps, type StreamEnd } from './link';
import { LinkWatch } from './link-watch';
import { Snapshot } from './snapshot';
import { Sound, canPlay } from './sound';
import { Stream } from './stream';

export interface Screen {
  state: State;
  /** The server's newest word on the session, for its names. */
  connection: Connection | undefined;
  /** The session's other viewers. */
  others: Viewer[];
  /** The stream is about to end. */
  ending: Ending | undefined;
  /** What the user is asked. */
  questions: ShadowQuestion[];
  /** The viewers that this one took over from. */
  moved: Viewer[];
  /** Who took the desktop over. */
  takenOverBy: Viewer | undefined;
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
  as: ViewAs,
  target: { current: HTMLElement | null },
  last: { current: HTMLCanvasElement | null },
): Screen {
  const [state, setState] = useState<State>(START);
  const [connection, setConnection] = useState<Connection>();
  const [clipboard, setClipboard] = useState('');
  const [sight, setSight] = useState<Extract<Notice, { notice: 'viewers' }>>();
  const [ending, setEnding] = useState<Ending>();
  const [moved, setMoved] = useState<Viewer[]>([]);
  const [takenOverBy, setTakenOverBy] = useState<Viewer>();
  const [hearing, setHearing] = useState<Hearing>('none');
  const muted = useRef(false);
  const link = useRef<Link>();
  /** This viewer as the server last saw it: whoever else has the desktop after a loss was there by the user's will. */
  const own = useRef<Viewer>();
  const stream = useRef<Stream>();

  useEffect(() => {
    if (!target.current || !last.current) return;
    const place = target.current;
    const snapshot = new Snapshot(last.current);
    let watch: LinkWatch | undefined;
    const watching = as === 'shadow' || as === 'control';
    let sound: Sound | undefined;

    const open: LinkDeps['stream'] = (ready, events, signal) =>
      new Promise<StreamEnd>((resolve) => {
        const cut = () => opened.end(1000, '');
        const opened = new Stream({
          target: place,
          path: ready.websocket,
          ticket: ready.ticket,
          viewOnly: as === 'view_only' || as === 'shadow',
          onNotice: (notice) => {
            if (notice.notice === 'taken_over') return setTakenOverBy(notice.by);
            if (notice.notice === 'ending') return setEnding(notice.ending ?? undefined);
            setSight(notice);
            const before = own.current;
            own.current = notice.viewers.find((viewer) => viewer.id === notice.you);
            if (!before) setMoved(ready.takes_over ?? []);
          },
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
            setSight(undefined);
            setEnding(undefined);
            // Consent is for one stream: a new one is asked for by the administrator, not by this page.
            const lost = watching && (code < 4000 || code === CLOSE_STALLED);
            resolve(lost ? { code: CLOSE_STOPPED, detail: text.shadow.broken } : { code, detail });
          },
        });
        stream.current = opened;
        signal.addEventListener('abort', cut);
      });

    const ask: LinkDeps['ask'] = async (signal) => {
      if (watching) {
        try {
          return await api.shadow(session, as === 'control', signal);
        } catch (cause) {
          const error = asApiError(cause);
          // One asking, one answer: asking again is for people to decide.
          throw error.signedOut || signal.aborted
            ? error
            : new ApiError('problem', 409, error.code, error.detail);
        }
      }
      const ready = await api.reconnect(session, as === 'view_only' ? as : 'take_over', signal);
      const before = own.current;
      const newer = (ready.takes_over ?? []).find((v) => v.id !== before?.id || v.since !== before.since);
      if (before && newer) {
        setTakenOverBy(newer);
        throw new ApiError('problem', 409, ELSEWHERE, '');
      }
      return ready;
    };

    const running = new Link(
      {
        ask,
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
    const handed = as === 'owner' ? takeOver(session) : undefined;
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
  }, [session, as]);

  return {
    state,
    connection,
    ending,
    others: sight?.viewers.filter((viewer) => viewer.id !== sight.you) ?? [],
    questions: sight?.questions ?? [],
    moved,
    takenOverBy,
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
    useHere: useCallback(() => {
      own.current = undefined;
      link.current?.restart();
    }, []),
  };
}
