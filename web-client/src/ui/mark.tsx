// The product's mark: a dormer window in a roof. The same drawing as public/favicon.svg, coloured by the theme.

export function Mark(props: { class?: string }) {
  return (
    <svg class={`mark ${props.class ?? ''}`} viewBox="0 0 64 64" aria-hidden="true">
      <path class="mark-roof" d="M12 14 H52 L62 52 H2 Z" />
      <path class="mark-house" d="M32 8 L51 26 H46 V48 H18 V26 H13 Z" />
      <path class="mark-window" d="M23 42 V30 a9 9 0 0 1 18 0 V42 Z" />
      <path class="mark-bars" d="M32 21 V42 M23 32 H41" />
    </svg>
  );
}
