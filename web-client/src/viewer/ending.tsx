// The word that the stream is about to end, with the time that is left.
import { useEffect, useState } from 'preact/hooks';
import type { Ending } from '../api/types';
import { formatLeft } from '../lib/format';
import { text } from '../text';

export interface EndingProps {
  ending: Ending;
  /** The desktop stays when the session ends. */
  persistent: boolean;
}

export function EndingNote({ ending, persistent }: EndingProps) {
  const [left, setLeft] = useState(ending.left_s);
  useEffect(() => {
    const end = performance.now() + ending.left_s * 1_000;
    const show = () => setLeft(Math.max(0, Math.round((end - performance.now()) / 1_000)));
    show();
    const timer = setInterval(show, 1_000);
    return () => clearInterval(timer);
  }, [ending]);
  const words = text.ending[ending.why](formatLeft(left), persistent);
  return (
    <div class="banner ending" role="alert" data-testid="ending" data-why={ending.why}>
      <div>
        <strong>{words.heading}</strong>
        <p>{words.detail}</p>
      </div>
    </div>
  );
}
