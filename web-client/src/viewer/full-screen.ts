// Full screen with the keyboard locked to the page where the browser can do that, so that Escape, Alt-Tab and the like
// go to the desktop. Knows nothing of what is shown.
import { useEffect, useState } from 'preact/hooks';

/** https://wicg.github.io/keyboard-lock/ */
interface KeyboardLock {
  lock?: () => Promise<void>;
  unlock?: () => void;
}

const keyboard = (): KeyboardLock | undefined =>
  (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;

export const canFullScreen = () => document.fullscreenEnabled;

/** Enters full screen with `element`, or leaves it. A browser that refuses leaves things as they are. */
export async function toggleFullScreen(element: HTMLElement): Promise<void> {
  try {
    if (document.fullscreenElement) {
      keyboard()?.unlock?.();
      await document.exitFullscreen();
    } else {
      await element.requestFullscreen({ navigationUI: 'hide' });
      await keyboard()?.lock?.();
    }
  } catch (cause) {
    console.warn('lucarne: full screen is not to be had', cause);
  }
}

/** Leaves full screen, for a page that goes away. */
export function leaveFullScreen(): void {
  keyboard()?.unlock?.();
  if (document.fullscreenElement) void document.exitFullscreen().catch(() => undefined);
}

/** Whether the page is in full screen now. */
export function useFullScreen(): boolean {
  const [full, setFull] = useState(document.fullscreenElement !== null);
  useEffect(() => {
    const changed = () => setFull(document.fullscreenElement !== null);
    document.addEventListener('fullscreenchange', changed);
    return () => document.removeEventListener('fullscreenchange', changed);
  }, []);
  return full;
}
