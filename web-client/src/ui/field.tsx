// A labelled text or password field with its hint and its error beneath.
import type { JSX, Ref } from 'preact';
import { useId, useState } from 'preact/hooks';
import { text } from '../text';
import { Icon } from './icons';

export interface FieldProps {
  label: string;
  name: string;
  value: string;
  onValue: (value: string) => void;
  /** For password managers: `username`, `current-password`, `new-password`. */
  autocomplete: 'username' | 'current-password' | 'new-password';
  secret?: boolean;
  hint?: string;
  error?: string | undefined;
  autofocus?: boolean;
  disabled?: boolean;
  testId?: string;
  inputRef?: Ref<HTMLInputElement>;
}

export function Field(props: FieldProps) {
  const id = useId();
  const [shown, setShown] = useState(false);
  const note = props.error ?? props.hint;
  const input = (event: JSX.TargetedInputEvent<HTMLInputElement>) => props.onValue(event.currentTarget.value);
  return (
    <div class={`field ${props.error ? 'field-bad' : ''}`}>
      <label for={id}>{props.label}</label>
      <div class="field-box">
        <input
          id={id}
          ref={props.inputRef ?? null}
          name={props.name}
          type={props.secret && !shown ? 'password' : 'text'}
          value={props.value}
          onInput={input}
          autocomplete={props.autocomplete}
          autocapitalize="none"
          autocorrect="off"
          spellcheck={false}
          autofocus={props.autofocus}
          disabled={props.disabled}
          aria-invalid={props.error !== undefined}
          aria-describedby={note ? `${id}-note` : undefined}
          data-testid={props.testId}
        />
        {props.secret && (
          <button
            type="button"
            class="field-reveal"
            aria-pressed={shown}
            aria-label={shown ? text.signIn.hide : text.signIn.show}
            title={shown ? text.signIn.hide : text.signIn.show}
            onClick={() => setShown(!shown)}
          >
            <Icon name={shown ? 'eyeOff' : 'eye'} />
          </button>
        )}
      </div>
      {note && (
        <p class="field-note" id={`${id}-note`} role={props.error ? 'alert' : undefined}>
          {note}
        </p>
      )}
    </div>
  );
}
