// Line icons on a 24-unit grid, drawn for this client. Decorative: the words beside them carry the meaning.
const SHAPES = {
  back: 'M15 5l-7 7 7 7',
  keys: 'M3 7h18v10H3z M7 11h.01 M12 11h.01 M17 11h.01 M8 14h8',
  expand: 'M4 9V4h5 M20 9V4h-5 M4 15v5h5 M20 15v5h-5',
  shrink: 'M9 4v5H4 M15 4v5h5 M9 20v-5H4 M15 20v-5h5',
  clipboard: 'M8 5H6v16h12V5h-2 M8 3h8v4H8z M9 12h6 M9 16h4',
  sound: 'M4 10v4h4l5 4V6L8 10z M16 9a4 4 0 0 1 0 6 M18.5 6.5a8 8 0 0 1 0 11',
  silent: 'M4 10v4h4l5 4V6L8 10z M16 10l4 4 M20 10l-4 4',
  power: 'M12 3v9 M6.5 6.5a8 8 0 1 0 11 0',
  chevron: 'M6 9l6 6 6-6',
  up: 'M6 15l6-6 6 6',
  eye: 'M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12z M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  eyeOff:
    'M4 4l16 16 M9.5 5.4A10 10 0 0 1 12 5c6 0 10 7 10 7a17 17 0 0 1-3 3.7 M6 7.2A17 17 0 0 0 2 12s4 7 10 7a9.6 9.6 0 0 0 4-.9',
  key: 'M8 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z M12 12h9 M17 12v3 M20 12v3',
  leave: 'M14 4H5v16h9 M10 12h11 M17 8l4 4-4 4',
  alert: 'M12 3l10 18H2z M12 10v5 M12 18h.01',
  check: 'M5 12l5 5 9-10',
  close: 'M6 6l12 12 M18 6L6 18',
} as const;

export type IconName = keyof typeof SHAPES;

export function Icon(props: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={SHAPES[props.name]} />
    </svg>
  );
}
