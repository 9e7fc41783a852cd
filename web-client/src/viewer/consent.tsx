// The question whether an administrator may see the desktop. Escape means no, and so does time.
import { useEffect, useState } from 'preact/hooks';
import * as api from '../api/client';
import type { ShadowQuestion } from '../api/types';
import { text } from '../text';
import { Dialog } from '../ui/dialog';

export interface ConsentProps {
  session: string;
  question: ShadowQuestion;
  /** The question is over: the keyboard belongs to the desktop again. */
  onClosed: () => void;
}

export function Consent({ session, question, onClosed }: ConsentProps) {
  const [left, setLeft] = useState(question.answer_within_s);
  const [answered, setAnswered] = useState(false);
  useEffect(() => {
    const timer = setInterval(() => setLeft((seconds) => Math.max(0, seconds - 1)), 1_000);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => onClosed, [onClosed]);
  const answer = (allow: boolean) => {
    setAnswered(true);
    // The dialog goes when the server closes the question; if the answer got lost, it can be given again.
    api.answerShadow(session, question.id, allow).catch(() => setAnswered(false));
  };
  return (
    <Dialog heading={text.shadow.heading(question.user)} onCancel={() => answer(false)} testId="consent">
      <p>{question.control ? text.shadow.control : text.shadow.look}</p>
      {question.reason && <p>{text.shadow.reason(question.reason)}</p>}
      <p class="quiet">{text.shadow.left(left)}</p>
      <div class="dialog-actions">
        <button
          type="button"
          class="primary"
          disabled={answered}
          onClick={() => answer(false)}
          data-testid="consent-deny"
        >
          {text.shadow.deny}
        </button>
        <button type="button" disabled={answered} onClick={() => answer(true)} data-testid="consent-allow">
          {text.shadow.allow}
        </button>
      </div>
    </Dialog>
  );
}
