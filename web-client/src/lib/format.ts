// Quantities for people, by the browser's own language rules. Knows nothing of pages.

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];

/** Bytes in the largest unit that gives at least 1, such as `3.4 GB` (units of 1,024). */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const options: Intl.NumberFormatOptions = {
    style: 'unit',
    unit: UNITS[unit] ?? 'byte',
    maximumFractionDigits: value < 10 && unit > 2 ? 1 : 0,
  };
  return new Intl.NumberFormat('en', options).format(value);
}

/** A time that is left, such as `45 s` or `4 min 30 s`. */
export function formatLeft(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const rest = seconds % 60;
  if (minutes === 0) return `${rest} s`;
  return rest === 0 ? `${minutes} min` : `${minutes} min ${rest} s`;
}

/** A moment (seconds since the epoch) as time of day, with the date when it was not today. */
export function formatMoment(seconds: number, now = new Date()): string {
  const at = new Date(seconds * 1000);
  const today = at.toDateString() === now.toDateString();
  const options: Intl.DateTimeFormatOptions = today
    ? { timeStyle: 'short' }
    : { dateStyle: 'medium', timeStyle: 'short' };
  return new Intl.DateTimeFormat('en', options).format(at);
}
