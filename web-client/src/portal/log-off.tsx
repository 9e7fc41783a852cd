// The question before the user is logged off, which destroys a desktop that is not personal. Used by the portal and the viewer.
import { useState } from 'preact/hooks';
import * as api from '../api/client';
import { asApiError } from '../api/error';
import { text } from '../text';
import { Dialog } from '../ui/dialog';
import { Notice } from '../ui/notice';

export interface LogOffProps {
  session: string;
  /** The pool's name. */
  pool: string;
  /** The desktop stays. */
  persistent: boolean;
  onCancel: () => void;
  /** The desktop's destruction is confirmed, or it was gone already. */
  onDone: () => void;
  onSignedOut: () => void;
}

export function LogOffDialog(props: LogOffProps) {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string>();
  const words = props.persistent ? text.logOff.personal : text.logOff.floating;
  const confirm = async () => {
    if (busy) return;
    setBusy(true);
    setFailure(undefined);
    try {
      await api.logOff(props.session);
      props.onDone();
    } catch (cause) {
      const error = asApiError(cause);
      if (error.status === 404 || error.status === 410) return props.onDone();
      if (error.signedOut) return props.onSignedOut();
      setFailure(error.detail);
      setBusy(false);
    }
  };
  return (
    <Dialog
      heading={text.logOff.heading(props.pool)}
      onCancel={props.onCancel}
      busy={busy}
      testId="logoff-dialog"
    >
      <p>{words.detail}</p>
      <p class="quiet">{words.keep}</p>
      {failure && <Notice kind="trouble">{failure}</Notice>}
      <div class="dialog-actions">
        <button type="button" disabled={busy} onClick={props.onCancel} data-testid="logoff-cancel" autofocus>
          {text.common.cancel}
        </button>
        <button
          type="button"
          class={props.persistent ? 'primary' : 'danger'}
          aria-disabled={busy}
          onClick={confirm}
          data-testid="logoff-confirm"
        >
          {busy ? words.busy : words.confirm}
        </button>
      </div>
    </Dialog>
  );
}
