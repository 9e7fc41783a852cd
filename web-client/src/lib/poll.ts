// A value that is asked for again and again while someone looks. Knows nothing of the value.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { asApiError, type ApiError } from '../api/error';

export interface Polled<T> {
  /** The newest value; kept while later requests fail. */
  value: T | undefined;
  /** Why the newest request failed; undefined after a success. */
  error: ApiError | undefined;
  /** Asks now. */
  refresh: () => void;
}

/**
 * Calls `ask` at once and then `intervalMs` after each answer, while the page is visible. `ask` and the interval may
 * change from one rendering to the next; the newest ones are used.
 */
export function usePoll<T>(ask: (signal: AbortSignal) => Promise<T>, intervalMs: number): Polled<T> {
  const [value, setValue] = useState<T>();
  const [error, setError] = useState<ApiError>();
  const newest = useRef({ ask, intervalMs });
  newest.current = { ask, intervalMs };
  const kick = useRef<() => void>(() => undefined);

  useEffect(() => {
    let control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gone = false;
    const round = async () => {
      clearTimeout(timer);
      control.abort();
      control = new AbortController();
      const { signal } = control;
      try {
        const answer = await newest.current.ask(signal);
        if (signal.aborted) return;
        setValue(answer);
        setError(undefined);
      } catch (cause) {
        if (signal.aborted) return;
        setError(asApiError(cause));
      }
      if (!gone && !document.hidden) timer = setTimeout(() => void round(), newest.current.intervalMs);
    };
    const shown = () => {
      if (document.hidden) clearTimeout(timer);
      else void round();
    };
    kick.current = () => void round();
    document.addEventListener('visibilitychange', shown);
    addEventListener('online', shown);
    void round();
    return () => {
      gone = true;
      control.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', shown);
      removeEventListener('online', shown);
    };
  }, []);

  return { value, error, refresh: useCallback(() => kick.current(), []) };
}
