// Changing one's own password.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import * as api from '../api/client';
import { asApiError } from '../api/error';
import type { User } from '../api/types';
import { text } from '../text';
import { Dialog } from '../ui/dialog';
import { Field } from '../ui/field';
import { Notice } from '../ui/notice';

/** The server's own least length. */
const SHORTEST = 8;

export interface PasswordDialogProps {
  user: User;
  onCancel: () => void;
  onDone: () => void;
  onSignedOut: () => void;
}

export function PasswordDialog(props: PasswordDialogProps) {
  const [current, setCurrent] = useState('');
  const [fresh, setFresh] = useState('');
  const [repeat, setRepeat] = useState('');
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);

  const submit = async (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (busy) return;
    if (fresh.length < SHORTEST) return setFailure(text.account.tooShort);
    if (fresh !== repeat) return setFailure(text.account.differ);
    setBusy(true);
    setFailure(undefined);
    try {
      await api.changePassword(current, fresh);
      props.onDone();
    } catch (cause) {
      const error = asApiError(cause);
      if (error.signedOut) return props.onSignedOut();
      setFailure(error.code === 'bad_credentials' ? text.account.wrongCurrent : error.detail);
      setBusy(false);
    }
  };

  return (
    <Dialog
      heading={text.account.changePassword}
      onCancel={props.onCancel}
      busy={busy}
      testId="password-dialog"
    >
      <form onSubmit={submit} noValidate method="post">
        <input
          class="unseen"
          name="username"
          autocomplete="username"
          value={props.user.name}
          readOnly
          tabIndex={-1}
          aria-hidden="true"
        />
        {failure && <Notice kind="trouble">{failure}</Notice>}
        <Field
          label={text.account.current}
          name="current"
          autocomplete="current-password"
          secret
          value={current}
          onValue={setCurrent}
          autofocus
          testId="password-current"
        />
        <Field
          label={text.account.fresh}
          name="new"
          autocomplete="new-password"
          secret
          value={fresh}
          onValue={setFresh}
          hint={text.account.freshHint}
          testId="password-new"
        />
        <Field
          label={text.account.repeat}
          name="repeat"
          autocomplete="new-password"
          secret
          value={repeat}
          onValue={setRepeat}
          testId="password-repeat"
        />
        <div class="dialog-actions">
          <button type="button" disabled={busy} onClick={props.onCancel}>
            {text.common.cancel}
          </button>
          <button type="submit" class="primary" aria-disabled={busy} data-testid="password-submit">
            {busy ? text.account.saving : text.account.save}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
