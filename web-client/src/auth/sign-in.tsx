// The sign-in page. Shown at whatever address was asked for, so that signing in leads straight there.
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api/client';
import { asApiError } from '../api/error';
import type { User } from '../api/types';
import { useTitle } from '../lib/title';
import { text } from '../text';
import { Field } from '../ui/field';
import { Mark } from '../ui/mark';
import { Notice } from '../ui/notice';
import { Roofs } from './roofs';
import '../styles/sign-in.css';

/** Milliseconds until a slow answer is explained: after failures the server answers late on purpose. */
const EXPLAIN_AFTER_MS = 2_500;

export interface SignInProps {
  /** The user was signed in a moment ago and is not any more. */
  again: boolean;
  onSignedIn: (user: User) => void;
}

export function SignIn(props: SignInProps) {
  useTitle(text.signIn.heading);
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [missing, setMissing] = useState<'name' | 'password'>();
  const [failure, setFailure] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [slow, setSlow] = useState(false);
  const nameInput = useRef<HTMLInputElement>(null);
  const passwordInput = useRef<HTMLInputElement>(null);

  useEffect(() => nameInput.current?.focus(), []);
  useEffect(() => {
    setSlow(false);
    if (!busy) return;
    const timer = setTimeout(() => setSlow(true), EXPLAIN_AFTER_MS);
    return () => clearTimeout(timer);
  }, [busy]);

  const submit = async (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (busy) return;
    const lacks = name.trim() === '' ? 'name' : password === '' ? 'password' : undefined;
    setMissing(lacks);
    setFailure(undefined);
    if (lacks) return (lacks === 'name' ? nameInput : passwordInput).current?.focus();
    setBusy(true);
    try {
      props.onSignedIn(await api.login(name.trim(), password));
    } catch (cause) {
      const error = asApiError(cause);
      setFailure(error.code === 'bad_credentials' ? text.signIn.bad : error.detail);
      setBusy(false);
      passwordInput.current?.focus();
      passwordInput.current?.select();
    }
  };

  return (
    <main class="sign-in">
      <Roofs />
      <form class="sign-in-card" onSubmit={submit} noValidate aria-busy={busy} method="post">
        <header>
          <Mark class="mark-large" />
          <h1>{text.product}</h1>
          <p>{text.signIn.lead}</p>
        </header>
        {props.again && !failure && <p class="sign-in-again">{text.signIn.again}</p>}
        {failure && (
          <Notice kind="trouble" testId="signin-error">
            {failure}
          </Notice>
        )}
        <Field
          label={text.signIn.name}
          name="username"
          autocomplete="username"
          value={name}
          onValue={setName}
          error={missing === 'name' ? text.signIn.nameMissing : undefined}
          autofocus
          inputRef={nameInput}
          testId="signin-name"
        />
        <Field
          label={text.signIn.password}
          name="password"
          autocomplete="current-password"
          secret
          value={password}
          onValue={setPassword}
          error={missing === 'password' ? text.signIn.passwordMissing : undefined}
          inputRef={passwordInput}
          testId="signin-password"
        />
        <button type="submit" class="primary wide" aria-disabled={busy} data-testid="signin-submit">
          {busy ? text.signIn.busy : text.signIn.submit}
        </button>
        <p class="sign-in-foot" role="status">
          {slow ? text.signIn.slow : text.signIn.privacy}
        </p>
      </form>
    </main>
  );
}
