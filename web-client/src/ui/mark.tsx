// The product's mark: a dormer window in a roof. The same drawing as public/favicon.svg, coloured by the theme.

export function Mark(props: { class?: string }) {
  return (
    <svg class={`mark ${props.class ?? ''}`} viewBox="0 0 64 64" aria-hidden="true">
      <path class="mark-roof" d="M19 12 H45 L60 54 H4 Z" />
      <path class="mark-wall" d="M20 50 V31 L32 20 L44 31 V50 Z" />
      <path class="mark-gable" d="M14 34 L32 17.5 L50 34" />
      <path class="mark-window" d="M25 45 V36 a7 7 0 0 1 14 0 V45 Z" />
      <path class="mark-bars" d="M32 29 V45 M25 37.5 H39" />
    </svg>
  );
}
