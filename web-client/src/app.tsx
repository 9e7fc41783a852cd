// Who is signed in, and which page they see. The one place that switches between sign-in, portal and viewer.
import { useCallback, useEffect, useState } from 'preact/hooks';
import * as api from './api/client';
import { asApiError, type ApiError } from './api/error';
import type { User } from './api/types';
import { SignIn } from './auth/sign-in';
import { Backoff } from './lib/backoff';
import { pause } from './lib/pause';
import { navigate, portalPath, useRoute } from './lib/router';
import { useTitle } from './lib/title';
import { Portal } from './portal/portal';
import { text } from './text';
import { later } from './ui/later';
import { Mark } from './ui/mark';

/** The viewer and its decoders are the larger half of the client; they come when they are first needed. */
const loadViewer = () => import('./viewer/viewer');
const Viewer = later(
  () => loadViewer().then((module) => module.Viewer),
  () => <Opening onRetry={() => undefined} />,
);

type Who =
  { state: 'asking'; error?: ApiError } | { state: 'out'; again: boolean } | { state: 'in'; user: User };

export function App() {
  const route = useRoute();
  const [who, setWho] = useState<Who>({ state: 'asking' });
  const [notice, setNotice] = useState<string>();
  const [nudge, setNudge] = useState(0);

  useEffect(() => {
    if (who.state !== 'asking') return;
    const control = new AbortController();
    void askWho(control.signal, setWho);
    return () => control.abort();
  }, [who.state, nudge]);

  const signedOut = useCallback(() => setWho({ state: 'out', again: true }), []);
  const signOut = useCallback(async () => {
    await api.logout();
    navigate(portalPath, { replace: true });
    setNotice(undefined);
    setWho({ state: 'out', again: false });
  }, []);
  const preload = useCallback(() => void loadViewer(), []);

  if (who.state === 'asking') return <Opening error={who.error} onRetry={() => setNudge(nudge + 1)} />;
  if (who.state === 'out') {
    return <SignIn again={who.again} onSignedIn={(user) => setWho({ state: 'in', user })} />;
  }
  switch (route.page) {
    case 'portal':
      return (
        <Portal
          user={who.user}
          notice={notice}
          onNotice={setNotice}
          onSignOut={signOut}
          onSignedOut={signedOut}
          onIdle={preload}
        />
      );
    case 'desktop':
      return (
        <Viewer
          key={`${route.session}/${route.as}`}
          session={route.session}
          as={route.as}
          onLoggedOff={setNotice}
          onSignedOut={signedOut}
        />
      );
    case 'unknown':
      return <NotFound />;
  }
}

/** Asks who is signed in until the server says so or says nobody. */
async function askWho(signal: AbortSignal, tell: (who: Who) => void): Promise<void> {
  const backoff = new Backoff();
  while (!signal.aborted) {
    try {
      const user = await api.me(signal);
      if (!signal.aborted) tell({ state: 'in', user });
      return;
    } catch (cause) {
      if (signal.aborted) return;
      const error = asApiError(cause);
      if (!error.passing) return tell({ state: 'out', again: false });
      tell({ state: 'asking', error });
    }
    await pause(backoff.next(), signal);
  }
}

function Opening(props: { error?: ApiError | undefined; onRetry: () => void }) {
  useTitle(undefined);
  return (
    <main class="plain-page">
      <Mark class="mark-large" />
      {props.error ? (
        <>
          <h1>{text.start.unreachable}</h1>
          <p role="status">
            {props.error.detail} {text.start.retrying}
          </p>
          <button type="button" class="primary" onClick={props.onRetry}>
            {text.start.tryNow}
          </button>
        </>
      ) : (
        <p class="late" role="status">
          {text.start.opening}
        </p>
      )}
    </main>
  );
}

function NotFound() {
  useTitle(text.notFound.heading);
  return (
    <main class="plain-page">
      <Mark class="mark-large" />
      <h1>{text.notFound.heading}</h1>
      <p>{text.notFound.detail}</p>
      <button type="button" class="primary" onClick={() => navigate(portalPath, { replace: true })}>
        {text.notFound.toPortal}
      </button>
    </main>
  );
}
