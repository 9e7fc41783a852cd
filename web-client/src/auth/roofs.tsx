// The picture behind sign-in: roofs at dusk, one dormer window lit. Decoration only.

/** A dormer with its gable's tip at (x, y); the lit one is the way in. */
function Dormer(props: { x: number; y: number; size: number; lit?: boolean }) {
  return (
    <g transform={`translate(${props.x} ${props.y}) scale(${props.size})`}>
      <path class="roofs-gable" d="M0 -30 L34 0 H26 V44 H-26 V0 H-34 Z" />
      <path class={props.lit ? 'roofs-lit' : 'roofs-dark'} d="M-15 34 V8 a15 15 0 0 1 30 0 V34 Z" />
      <path class="roofs-bars" d="M0 -7 V34 M-15 12 H15" />
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
        d="M0 420 V392 L150 318 H560 L700 420 Z M820 420 L930 322 H1420 L1600 404 V420 Z"
      />
      <Dormer x={355} y={368} size={1.05} />
      <Dormer x={1090} y={366} size={1.15} lit />
      <Dormer x={1290} y={370} size={1.05} />
    </svg>
  );
}
