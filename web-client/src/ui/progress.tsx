// A bar that says what is being waited for. With an unknown share it moves without claiming one.
import { text } from '../text';

export interface ProgressProps {
  /** What is being waited for, in words. */
  label: string;
  /** 0 to 100, or null where unknown. */
  share: number | null;
  testId?: string;
}

export function Progress(props: ProgressProps) {
  const known = props.share !== null;
  return (
    <div class="progress" data-testid={props.testId}>
      <p class="progress-label" role="status">
        {text.launch.progress(props.label, props.share)}
      </p>
      <svg
        class="progress-bar"
        role="progressbar"
        aria-label={props.label}
        aria-valuemin={0}
        aria-valuemax={100}
        {...(known ? { 'aria-valuenow': Math.round(props.share ?? 0) } : {})}
        viewBox="0 0 100 2"
        preserveAspectRatio="none"
      >
        <rect class="progress-track" width="100" height="2" />
        <rect
          class={known ? 'progress-done' : 'progress-moving'}
          width={known ? (props.share ?? 0) : 30}
          height="2"
        />
      </svg>
    </div>
  );
}
