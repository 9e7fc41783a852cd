// One pool on the portal: picture, state in words, Connect and Log off.
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api/client';
import { asApiError } from '../api/error';
import type { Card } from '../api/types';
import { handOver } from '../lib/handoff';
import { desktopPath, navigate, viewPath } from '../lib/router';
import { text } from '../text';
import { Notice } from '../ui/notice';
import { Progress } from '../ui/progress';
import { conditionOf } from './condition';
import { launch, type LaunchProgress } from './launch';
import { LogOffDialog } from './log-off';
import { Placeholder } from './placeholder';
import { Thumbnail } from './thumbnail';

export interface CardProps {
  card: Card;
  /** Something was changed; the list should be asked for again. */
  onChanged: () => void;
  onLoggedOff: (notice: string) => void;
  onSignedOut: () => void;
}

export function DesktopCard(props: CardProps) {
  const { card } = props;
  const condition = conditionOf(card);
  const [progress, setProgress] = useState<LaunchProgress>();
  const [failure, setFailure] = useState<string>();
  const [asking, setAsking] = useState(false);
  const [pictured, setPictured] = useState(false);
  const running = useRef<AbortController>();
  useEffect(() => () => running.current?.abort(), []);

  const connect = async () => {
    if (running.current) return;
    const control = new AbortController();
    running.current = control;
    setFailure(undefined);
    setProgress({ detail: card.desktop ? text.launch.starting : text.launch.asking, share: null });
    try {
      const connection = await launch(
        (signal) => api.connect(card.pool, signal),
        setProgress,
        control.signal,
      );
      handOver(connection);
      navigate(desktopPath(connection.session.id));
    } catch (cause) {
      if (control.signal.aborted) return;
      const error = asApiError(cause);
      if (error.signedOut) return props.onSignedOut();
      setFailure(error.detail);
      setProgress(undefined);
      props.onChanged();
    } finally {
      if (running.current === control) running.current = undefined;
    }
  };
  const stopWaiting = () => {
    running.current?.abort();
    running.current = undefined;
    setProgress(undefined);
    props.onChanged();
  };

  // A template that is being made shows its progress whether or not the user waits for it.
  const making =
    condition.progress === null ? undefined : { detail: condition.detail, share: condition.progress };
  const shownProgress = progress ?? (failure === undefined ? making : undefined);

  return (
    <article class="card" data-testid="card" data-pool={card.name} aria-busy={progress !== undefined}>
      <div class="card-picture">
        {!pictured && <Placeholder lit={condition.connect !== null} />}
        {condition.hasPicture && card.desktop && (
          <Thumbnail desktop={card.desktop.id} name={card.name} onPicture={setPictured} />
        )}
      </div>
      <div class="card-body">
        <div class="card-head">
          <h2>{card.name}</h2>
          <span class={`chip chip-${condition.tone}`} data-testid="card-state">
            {condition.chip}
          </span>
        </div>
        {card.description && <p class="card-description">{card.description}</p>}
        {failure !== undefined ? (
          <Notice kind="trouble" testId="card-error">
            {failure}
          </Notice>
        ) : (
          !shownProgress && condition.detail && <p class="card-detail">{condition.detail}</p>
        )}
        {shownProgress && (
          <Progress label={shownProgress.detail} share={shownProgress.share} testId="card-progress" />
        )}
        <div class="card-actions">
          {progress ? (
            <button type="button" onClick={stopWaiting} data-testid="card-stop">
              {text.portal.stopWaiting}
            </button>
          ) : (
            <button
              type="button"
              class="primary"
              disabled={condition.connect === null}
              onClick={connect}
              data-testid="card-connect"
            >
              {failure === undefined ? (condition.connect ?? text.portal.connect) : text.common.tryAgain}
            </button>
          )}
          {condition.canView && card.session && !progress && (
            <button
              type="button"
              class="plain"
              onClick={() => card.session && navigate(viewPath(card.session.id))}
              data-testid="card-view"
            >
              {text.portal.view}
            </button>
          )}
          {condition.canLogOff && !progress && (
            <button type="button" class="plain" onClick={() => setAsking(true)} data-testid="card-logoff">
              {text.portal.logOff}
            </button>
          )}
        </div>
      </div>
      {asking && card.session && (
        <LogOffDialog
          session={card.session.id}
          pool={card.name}
          persistent={card.desktop?.persistent === true}
          onCancel={() => setAsking(false)}
          onSignedOut={props.onSignedOut}
          onDone={() => {
            setAsking(false);
            setFailure(undefined);
            props.onLoggedOff(text.portal.loggedOff(card.name, card.desktop?.persistent === true));
            props.onChanged();
          }}
        />
      )}
    </article>
  );
}
