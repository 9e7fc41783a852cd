// The picture behind sign-in: roofs at dusk, one dormer window lit. Decoration only.

/** A dormer with its gable's tip at (x, y); the lit one is the way in. */
function Dormer(props: { x: number; y: number; size: number; lit?: boolean }) {
  return (
    <g transform={`translate(${props.x} ${props.y}) scale(${props.size})`}>
      <path class="roofs-wall" d="M-26 46 V-2 L0 -26 L26 -2 V46 Z" />
      <path class={props.lit ? 'roofs-lit' : 'roofs-dark'} d="M-14 36 V10 a14 14 0 0 1 28 0 V36 Z" />
      <path class="roofs-bars" d="M0 -4 V36 M-14 14 H14" />
      <path class="roofs-gable" d="M-36 6 L0 -27 L36 6" />
      <path class="roofs-sill" d="M-19 38 H19" />
    </g>
  );
}

export function Roofs() {
  return (
    <svg class="roofs" viewBox="0 0 1600 420" preserveAspectRatio="xMidYMax slice" aria-hidden="true">
      <path
        class="roofs-far"
        d="M0 420 V210 L90 130 H260 L340 210 V180 H420 L470 120 H640 L720 200 V150 H740 V90 H768 V150 L840 150 L900 95 H1090 L1170 190 V160 H1260 L1310 110 H1480 L1600 210 V420 Z"
      />
      <path
        class="roofs-mid"
        d="M0 420 V300 L60 230 H330 L420 320 V290 H520 V210 H556 V290 L610 225 H860 L950 330 V300 H1040 L1110 235 H1390 L1470 320 V280 H1500 V250 H1600 V420 Z"
      />
      <Dormer x={170} y={285} size={0.8} />
      <Dormer x={735} y={283} size={0.8} />
      <Dormer x={1250} y={292} size={0.8} />
      <path
        class="roofs-near"
        d="M0 420 V392 L150 318 H540 L660 420 Z M770 420 L870 322 H1420 L1600 404 V420 Z"
      />
      <Dormer x={340} y={368} size={1.05} />
      <Dormer x={945} y={366} size={1.15} lit />
      <Dormer x={1235} y={370} size={1.05} />
    </svg>
  );
}
