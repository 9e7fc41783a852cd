// A line that tells what happened: good news or trouble, and a way to put it away.
import type { ComponentChildren } from 'preact';
import { text } from '../text';
import { Icon } from './icons';

export interface NoticeProps {
  kind: 'good' | 'trouble';
  children: ComponentChildren;
  onDismiss?: () => void;
  testId?: string;
}

export function Notice(props: NoticeProps) {
  return (
    <div
      class={`notice notice-${props.kind}`}
      role={props.kind === 'trouble' ? 'alert' : 'status'}
      data-testid={props.testId}
    >
      <Icon name={props.kind === 'trouble' ? 'alert' : 'check'} />
      <p>{props.children}</p>
      {props.onDismiss && (
        <button type="button" class="plain" aria-label={text.common.dismiss} onClick={props.onDismiss}>
          <Icon name="close" />
        </button>
      )}
    </div>
  );
}
