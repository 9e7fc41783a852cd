// Who else sees this desktop: an administrator who watches, the user's other viewers, and what this viewer may not do.
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api/client';
import type { Viewer } from '../api/types';
import type { ViewAs } from '../lib/router';
import { text } from '../text';

/** Time that the word on where it was open before stays, ms. */
const MOVED_MS = 8_000;

export interface PresenceProps {
  session: string;
  as: ViewAs;
  /** The name of the session's user. */
  owner: string;
  /** All viewers but this one. */
  others: Viewer[];
  /** The viewers that this one took over from. */
  moved: Viewer[];
  /** A button was pressed: the keyboard belongs to the desktop again. */
  onDone: () => void;
}

export function Presence(props: PresenceProps) {
  const { others, moved, as } = props;
  const [fresh, setFresh] = useState(true);
  useEffect(() => {
    setFresh(true);
    const timer = setTimeout(() => setFresh(false), MOVED_MS);
    return () => clearTimeout(timer);
  }, [moved]);
  const shadow = as === 'shadow' || as === 'control';
  const own = shadow
    ? text.presence.shadowed(props.owner, as === 'control')
    : as === 'view_only'
      ? text.presence.viewOnly
      : undefined;
  const listed = shadow ? [] : others;
  const came = fresh && moved.length > 0;
  if (own === undefined && listed.length === 0 && !came) return null;
  return (
    <aside class="presence" aria-label={text.presence.label} role="status" data-testid="presence">
      {own && (
        <p class="presence-row" data-testid="presence-own">
          {own}
        </p>
      )}
      {came && (
        <p class="presence-row" data-testid="presence-moved">
          {text.presence.moved(moved)}
        </p>
      )}
      {listed.map((viewer) => (
        <Other key={viewer.id} session={props.session} viewer={viewer} onDone={props.onDone} />
      ))}
    </aside>
  );
}

function Other({ session, viewer, onDone }: { session: string; viewer: Viewer; onDone: () => void }) {
  const [ending, setEnding] = useState(false);
  const watching = viewer.role === 'shadow';
  const end = () => {
    setEnding(true);
    onDone();
    // It is gone when the server says so; if it does not, the button can be pressed again.
    api.endViewer(session, viewer.id).catch(() => setEnding(false));
  };
  return (
    <p class="presence-row" data-testid={watching ? 'presence-shadow' : 'presence-viewer'}>
      {watching && <span class="presence-lamp" aria-hidden="true" />}
      <span>{watching ? text.presence.watching(viewer) : text.presence.also(viewer)}</span>
      <button type="button" class="plain" disabled={ending} onClick={end} data-testid="presence-end">
        {watching ? text.presence.stop : text.presence.end}
      </button>
    </p>
  );
}
