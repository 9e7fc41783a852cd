// The desktop, full-window: the picture, the toolbar over it, and words when there is no picture.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { navigate, portalPath, type ViewAs } from '../lib/router';
import { useTitle } from '../lib/title';
import { LogOffDialog } from '../portal/log-off';
import { text } from '../text';
import { Chord } from './chord';
import { ClipboardPanel } from './clipboard-panel';
import { Consent } from './consent';
import { EndingNote } from './ending';
import { canFullScreen, leaveFullScreen, toggleFullScreen, useFullScreen } from './full-screen';
import { Overlay } from './overlay';
import { Presence } from './presence';
import { Toolbar } from './toolbar';
import { useScreen } from './use-screen';
import '../styles/viewer.css';

export interface ViewerProps {
  session: string;
  as: ViewAs;
  /** The user logged off; the words are for the portal. */
  onLoggedOff: (notice: string) => void;
  onSignedOut: () => void;
}

export function Viewer(props: ViewerProps) {
  const root = useRef<HTMLElement>(null);
  const target = useRef<HTMLDivElement>(null);
  const last = useRef<HTMLCanvasElement>(null);
  const screen = useScreen(props.session, props.as, target, last);
  const typing = props.as === 'owner' || props.as === 'control';
  const [barOpen, setBarOpen] = useState(false);
  const [panelOpen, setPanelOpen] = useState(false);
  const [leaving, setLeaving] = useState(false);
  const fullScreen = useFullScreen();

  const { state } = screen;
  const pool = screen.connection?.session.pool ?? '';
  const desktop = screen.connection?.desktop.name ?? '';
  const name = desktop && desktop !== pool ? `${pool} · ${desktop}` : pool;
  const connected = state.name === 'connected';
  const persistent = screen.connection?.desktop.persistent === true;
  const clipboard = screen.connection?.session.clipboard ?? 'both';
  useTitle(name || text.viewer.connecting);

  const greeted = useRef(false);
  useEffect(() => {
    if (!connected || greeted.current) return;
    greeted.current = true;
    setBarOpen(true);
  }, [connected]);
  useEffect(() => {
    if (state.name === 'ended') leaveFullScreen();
  }, [state.name]);
  useEffect(() => () => leaveFullScreen(), []);
  useEffect(() => {
    const chord = new Chord();
    const feed = (event: KeyboardEvent) => {
      if (!chord.feed(event)) return;
      setBarOpen(true);
      root.current?.querySelector<HTMLElement>('.toolbar-tab')?.focus();
    };
    addEventListener('keydown', feed, true);
    addEventListener('keyup', feed, true);
    return () => {
      removeEventListener('keydown', feed, true);
      removeEventListener('keyup', feed, true);
    };
  }, []);

  const toPortal = useCallback(() => navigate(portalPath), []);
  const setBar = useCallback(
    (open: boolean) => {
      setBarOpen(open);
      if (!open) {
        setPanelOpen(false);
        screen.focus();
      }
    },
    [screen.focus],
  );

  // The focus goes back to where the panel was opened: what goes away must not take it along.
  const closePanel = () => {
    setPanelOpen(false);
    root.current?.querySelector<HTMLElement>('[data-testid="toolbar-clipboard"]')?.focus();
  };

  return (
    <main ref={root} class="viewer" data-testid="viewer">
      <div
        class="viewer-state"
        data-testid="viewer-state"
        data-state={state.name}
        data-stage={'stage' in state ? state.stage : ''}
      >
        <canvas ref={last} class="viewer-last" aria-hidden="true" />
        <div ref={target} class="viewer-screen" role="application" aria-label={text.viewer.label(name)} />
        <Overlay
          state={state}
          name={name}
          as={props.as}
          persistent={persistent}
          takenOverBy={screen.takenOverBy}
          onPortal={toPortal}
          onUseHere={screen.useHere}
          onSignIn={props.onSignedOut}
        />
      </div>
      {screen.connection?.session.recorded && state.name !== 'ended' && (
        <p class="viewer-recorded" role="note" title={text.viewer.recordedHint} data-testid="viewer-recorded">
          {text.viewer.recorded}
        </p>
      )}
      {(connected || state.name === 'reconnecting') && (
        <Toolbar
          name={name}
          open={barOpen}
          onOpen={setBar}
          held={panelOpen || leaving}
          connected={connected}
          fullScreen={fullScreen}
          canFullScreen={canFullScreen()}
          clipboardOpen={panelOpen}
          canType={typing}
          canCopy={props.as === 'owner' && clipboard !== 'off'}
          canLogOff={props.as === 'owner' && screen.connection !== undefined}
          hearing={screen.hearing}
          onBack={toPortal}
          onCtrlAltDel={screen.sendCtrlAltDel}
          onFullScreen={() => {
            if (root.current) void toggleFullScreen(root.current).then(screen.focus);
          }}
          onClipboard={() => (panelOpen ? closePanel() : setPanelOpen(true))}
          onLogOff={() => setLeaving(true)}
          onSound={screen.toggleSound}
        >
          {panelOpen && clipboard !== 'off' && (
            <ClipboardPanel
              policy={clipboard}
              content={screen.clipboard}
              onContent={screen.setClipboard}
              onSend={screen.sendClipboard}
              onClose={closePanel}
            />
          )}
        </Toolbar>
      )}
      {connected && screen.ending && <EndingNote ending={screen.ending} persistent={persistent} />}
      {connected && (
        <Presence
          session={props.session}
          as={props.as}
          owner={screen.connection?.session.user ?? ''}
          others={screen.others}
          moved={screen.moved}
          onDone={screen.focus}
        />
      )}
      {screen.questions.map((question) => (
        <Consent key={question.id} session={props.session} question={question} onClosed={screen.focus} />
      ))}
      {leaving && (
        <LogOffDialog
          session={props.session}
          pool={pool}
          persistent={persistent}
          onCancel={() => {
            setLeaving(false);
            screen.focus();
          }}
          onSignedOut={props.onSignedOut}
          onDone={() => {
            props.onLoggedOff(text.portal.loggedOff(pool, persistent));
            navigate(portalPath, { replace: true });
          }}
        />
      )}
    </main>
  );
}
