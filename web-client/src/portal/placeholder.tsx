// What a card shows while there is no picture of the desktop: a roof by night, its window lit when it can be opened.

export function Placeholder(props: { lit: boolean }) {
  return (
    <svg class="placeholder" viewBox="0 0 320 200" preserveAspectRatio="xMidYMid slice" aria-hidden="true">
      <rect class="placeholder-sky" width="320" height="200" />
      <circle class="placeholder-moon" cx="262" cy="44" r="13" />
      <path class="placeholder-far" d="M0 200 V128 L44 92 H120 L160 130 V112 H210 L244 88 H320 V200 Z" />
      <path class="placeholder-roof" d="M0 200 L58 116 H262 L320 200 Z" />
      <g transform="translate(160 126)">
        <path class="placeholder-wall" d="M-27 44 V-4 L0 -29 L27 -4 V44 Z" />
        <path
          class={props.lit ? 'placeholder-lit' : 'placeholder-dark'}
          d="M-17 36 V6 a17 17 0 0 1 34 0 V36 Z"
        />
        <path class="placeholder-bars" d="M0 -11 V36 M-17 12 H17" />
        <path class="placeholder-gable" d="M-38 5 L0 -30 L38 5" />
      </g>
    </svg>
  );
}
