// The user's menu in the header: who is signed in, change of password, sign out.
import { useEffect, useRef, useState } from 'preact/hooks';
import { asApiError } from '../api/error';
import type { User } from '../api/types';
import { text } from '../text';
import { Icon } from '../ui/icons';
import { PasswordDialog } from './password-dialog';

export interface AccountMenuProps {
  user: User;
  onSignOut: () => Promise<void>;
  onSignedOut: () => void;
  onNotice: (notice: string) => void;
  onTrouble: (trouble: string) => void;
}

export function AccountMenu(props: AccountMenuProps) {
  const [open, setOpen] = useState(false);
  const [changing, setChanging] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    if (!open) return;
    const outside = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const escape = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      setOpen(false);
      button.current?.focus();
    };
    addEventListener('pointerdown', outside);
    addEventListener('focusin', outside);
    addEventListener('keydown', escape);
    return () => {
      removeEventListener('pointerdown', outside);
      removeEventListener('focusin', outside);
      removeEventListener('keydown', escape);
    };
  }, [open]);

  const signOut = () => {
    setOpen(false);
    props.onSignOut().catch((cause: unknown) => {
      const error = asApiError(cause);
      if (error.signedOut) props.onSignedOut();
      else props.onTrouble(error.detail);
    });
  };

  return (
    <div class="account" ref={root}>
      <button
        type="button"
        class="account-button"
        ref={button}
        aria-expanded={open}
        title={text.account.menu(props.user.name)}
        onClick={() => setOpen(!open)}
        data-testid="account"
      >
        <span class="account-initial" aria-hidden="true">
          {props.user.name.slice(0, 1).toUpperCase()}
        </span>
        <span class="account-name">{props.user.name}</span>
        <Icon name="chevron" />
      </button>
      {open && (
        <div class="account-menu">
          <p class="account-who">
            <strong>{props.user.name}</strong>
            {props.user.role === 'administrator' && <span>{text.account.administrator}</span>}
          </p>
          <button
            type="button"
            onClick={() => {
              setOpen(false);
              setChanging(true);
            }}
            data-testid="account-password"
          >
            <Icon name="key" /> {text.account.changePassword}
          </button>
          <button type="button" onClick={signOut} data-testid="account-signout">
            <Icon name="leave" /> {text.account.signOut}
          </button>
        </div>
      )}
      {changing && (
        <PasswordDialog
          user={props.user}
          onCancel={() => setChanging(false)}
          onSignedOut={props.onSignedOut}
          onDone={() => {
            setChanging(false);
            props.onNotice(text.account.changed);
          }}
        />
      )}
    </div>
  );
}
