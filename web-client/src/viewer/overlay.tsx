// What the viewer says when there is no live picture: how far the connection is, that it is being restored, or why it
// has ended and what can be done.
import { text } from '../text';
import { Mark } from '../ui/mark';
import { Progress } from '../ui/progress';
import type { Viewer } from '../api/types';
import type { ViewAs } from '../lib/router';
import type { Ended, State, Underway } from './connection';

export interface OverlayProps {
  state: State;
  /** The pool's or desktop's name, when known. */
  name: string;
  as: ViewAs;
  /** The desktop stays when the session ends. */
  persistent: boolean;
  /** Who took the desktop over, when that is known. */
  takenOverBy: Viewer | undefined;
  onPortal: () => void;
  onUseHere: () => void;
  onSignIn: () => void;
}

export function Overlay(props: OverlayProps) {
  switch (props.state.name) {
    case 'connected':
      return null;
    case 'connecting':
      return <Connecting {...props} state={props.state} />;
    case 'reconnecting':
      return <Reconnecting state={props.state} />;
    case 'ended':
      return <Over {...props} state={props.state} />;
  }
}

function Connecting(props: OverlayProps & { state: Underway }) {
  const { stage, detail, share } = props.state;
  const stages = props.as === 'owner' || props.as === 'view_only' ? text.viewer.stage : text.shadow.stage;
  return (
    <div class="overlay">
      <div class="overlay-panel">
        <Mark class="mark-large mark-dark" />
        <h1>{props.name || text.viewer.connecting}</h1>
        <Progress label={stage === 'preparing' && detail ? detail : stages[stage]} share={share} />
        {stage === 'retrying' && detail && <p class="quiet">{detail}</p>}
        <button type="button" onClick={props.onPortal}>
          {text.viewer.toPortal}
        </button>
      </div>
    </div>
  );
}

function Reconnecting({ state }: { state: Underway }) {
  return (
    <div class="banner" role="status" data-testid="reconnecting">
      <span class="banner-pulse" aria-hidden="true" />
      <div>
        <strong>{text.viewer.reconnecting}</strong>
        <p>{state.detail || text.viewer.reconnectingDetail}</p>
      </div>
    </div>
  );
}

function Over(props: OverlayProps & { state: Ended }) {
  const { reason, detail } = props.state;
  const words = (props.persistent && text.viewer.endedPersonal[reason]) || text.viewer.ended[reason];
  const by = reason === 'taken_over' ? props.takenOverBy : undefined;
  const shadow = props.as === 'shadow' || props.as === 'control';
  const over = reason === 'taken_over' || reason === 'stopped' || reason === 'idle';
  const again = over || (shadow && reason === 'refused');
  return (
    <div class="overlay" role="alert">
      <div class="overlay-panel">
        <Mark class="mark-large mark-dark" />
        <h1>{words.heading}</h1>
        <p data-testid="end-detail">{detail || (by ? text.viewer.takenOverBy(by) : words.detail)}</p>
        <div class="overlay-actions">
          {again && (
            <button type="button" class="primary" onClick={props.onUseHere} data-testid="use-here">
              {shadow ? text.shadow.again : reason === 'idle' ? text.portal.resume : text.viewer.useHere}
            </button>
          )}
          {reason === 'signed_out' ? (
            <button type="button" class="primary" onClick={props.onSignIn} data-testid="viewer-signin">
              {text.viewer.signIn}
            </button>
          ) : (
            <button
              type="button"
              class={again ? '' : 'primary'}
              onClick={props.onPortal}
              data-testid="to-portal"
            >
              {text.viewer.toPortal}
            </button>
          )}
        </div>
      </div>
    </div>
  );
}
