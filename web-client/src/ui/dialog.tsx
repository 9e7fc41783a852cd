// A modal dialog on the browser's own <dialog>: it keeps the focus, closes on Escape and gives the focus back.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';

export interface DialogProps {
  heading: string;
  /** Escape was pressed; the owner decides whether the dialog goes. */
  onCancel: () => void;
  /** While true, Escape does nothing. */
  busy?: boolean;
  testId?: string;
  children: ComponentChildren;
}

export function Dialog(props: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  const cancel = (event: Event) => {
    event.preventDefault();
    if (!props.busy) props.onCancel();
  };
  return (
    <dialog
      ref={element}
      class="dialog"
      aria-labelledby={heading}
      onCancel={cancel}
      data-testid={props.testId}
    >
      <h2 id={heading}>{props.heading}</h2>
      {props.children}
    </dialog>
  );
}
