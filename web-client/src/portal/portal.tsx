// The user's page: a card for each pool that they may use. Asks for the list when the server says that something changed, and again
// and again while someone looks: seldom while the server can say so, often while it cannot.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api/client';
import type { User } from '../api/types';
import { AccountMenu } from '../auth/account-menu';
import { useChanges } from '../lib/changes';
import { usePoll } from '../lib/poll';
import { useTitle } from '../lib/title';
import { text } from '../text';
import { Mark } from '../ui/mark';
import { Notice } from '../ui/notice';
import { DesktopCard } from './card';
import { conditionOf } from './condition';
import { Hosts } from './hosts';
import { Placeholder } from './placeholder';
import '../styles/portal.css';

/** Time between askings, ms: while something is under way, and while all is quiet. */
const MOVING_MS = 1_000;
const QUIET_MS = 4_000;
/** The same while the server says what changes: it does not say everything, such as how full a pool is. */
const TOLD_MOVING_MS = 4_000;
const TOLD_QUIET_MS = 30_000;

export interface PortalProps {
  user: User;
  /** What happened before the user came here. */
  notice: string | undefined;
  onNotice: (notice: string | undefined) => void;
  onSignOut: () => Promise<void>;
  onSignedOut: () => void;
  /** The page is drawn and the browser has time. */
  onIdle: () => void;
}

export function Portal(props: PortalProps) {
  useTitle(text.portal.heading);
  const [interval, setInterval] = useState(QUIET_MS);
  const [trouble, setTrouble] = useState<string>();
  const ask = useCallback((signal: AbortSignal) => api.portal(signal), []);
  const { value: cards, error, refresh } = usePoll(ask, interval);

  const told = useChanges(api.changes, refresh);
  const wasTold = useRef(false);
  useEffect(() => {
    // The long wait that runs is over: nobody says what changes meanwhile.
    if (wasTold.current && !told && !document.hidden) refresh();
    wasTold.current = told;
  }, [told, refresh]);

  const { onSignedOut, onIdle } = props;
  useEffect(() => {
    if (error?.signedOut) onSignedOut();
  }, [error, onSignedOut]);
  useEffect(() => {
    const moving = cards?.some((card) => conditionOf(card).moving) ?? false;
    if (told) setInterval(moving ? TOLD_MOVING_MS : TOLD_QUIET_MS);
    else setInterval(moving ? MOVING_MS : QUIET_MS);
  }, [cards, told]);
  useEffect(() => {
    if (cards !== undefined) onIdle();
  }, [cards === undefined, onIdle]);

  return (
    <div class="portal">
      <header class="top">
        <Mark />
        <span class="top-name">{text.product}</span>
        <AccountMenu
          user={props.user}
          onSignOut={props.onSignOut}
          onSignedOut={props.onSignedOut}
          onNotice={props.onNotice}
          onTrouble={setTrouble}
        />
      </header>
      <main>
        <h1>{text.portal.heading}</h1>
        {trouble && (
          <Notice kind="trouble" onDismiss={() => setTrouble(undefined)}>
            {trouble}
          </Notice>
        )}
        {props.notice && (
          <Notice kind="good" onDismiss={() => props.onNotice(undefined)} testId="notice">
            {props.notice}
          </Notice>
        )}
        {error && !error.signedOut && (
          <Notice kind="trouble" testId="portal-error">
            {cards ? `${text.portal.stale} ${error.detail}` : error.detail}
          </Notice>
        )}
        {cards === undefined && !error && (
          <p class="late quiet" role="status">
            {text.portal.loading}
          </p>
        )}
        {cards?.length === 0 && <Empty user={props.user} />}
        {cards !== undefined && cards.length > 0 && (
          <div class="cards" data-testid="cards">
            {cards.map((card) => (
              <DesktopCard
                key={card.pool}
                card={card}
                onChanged={refresh}
                onLoggedOff={props.onNotice}
                onSignedOut={props.onSignedOut}
              />
            ))}
          </div>
        )}
        {props.user.role === 'administrator' && <Hosts />}
      </main>
    </div>
  );
}

function Empty({ user }: { user: User }) {
  return (
    <section class="empty" data-testid="empty">
      <Placeholder lit={false} />
      <div>
        <h2>{text.portal.emptyHeading}</h2>
        {user.role === 'administrator' ? (
          <p>{text.portal.emptyAdmin}</p>
        ) : (
          <p>
            {text.portal.emptyDetail} <strong>{user.name}</strong>
          </p>
        )}
      </div>
    </section>
  );
}
