// The live picture on a card: asked for every few seconds while it can be seen, drawn into a canvas, kept nowhere.
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api/client';
import { pause } from '../lib/pause';
import { text } from '../text';

/** Time between pictures, ms. Lower loads hosts; higher looks frozen. */
const REFRESH_MS = 4_000;
/** Widest picture that is asked for, pixels. */
const WIDEST = 960;

/** `onPicture` tells whether there is anything to see. */
export function Thumbnail(props: { desktop: string; name: string; onPicture: (shown: boolean) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [shown, setShown] = useState(false);
  const tell = useRef(props.onPicture);
  tell.current = props.onPicture;

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const control = new AbortController();
    const sight = new Sight(element);
    void (async () => {
      while (!control.signal.aborted) {
        await sight.visible(control.signal);
        if (control.signal.aborted) break;
        const drawn = await refresh(element, props.desktop, control.signal);
        if (drawn) {
          setShown(true);
          tell.current(true);
        }
        await pause(REFRESH_MS, control.signal);
      }
    })();
    return () => {
      control.abort();
      sight.close();
      element.width = 0;
      element.height = 0;
      tell.current(false);
    };
  }, [props.desktop]);

  return (
    <canvas
      ref={canvas}
      class={`thumbnail ${shown ? 'thumbnail-shown' : ''}`}
      role="img"
      aria-label={text.portal.preview(props.name)}
    />
  );
}

/** Draws the present picture. False when there is none; the last one then stays. */
async function refresh(canvas: HTMLCanvasElement, desktop: string, signal: AbortSignal): Promise<boolean> {
  const wanted = Math.ceil((canvas.clientWidth || 320) * devicePixelRatio);
  try {
    const jpeg = await api.thumbnail(desktop, Math.min(WIDEST, wanted), signal);
    if (jpeg === null || signal.aborted) return false;
    const picture = await createImageBitmap(jpeg);
    if (!signal.aborted) {
      canvas.width = picture.width;
      canvas.height = picture.height;
      canvas.getContext('2d')?.drawImage(picture, 0, 0);
    }
    picture.close();
    return !signal.aborted;
  } catch {
    return false; // A picture that can't be had is no trouble of the user's; the card's words come from the list.
  }
}

/** Whether an element can be seen: scrolled into view, in a tab that is in front. */
class Sight {
  private inView = false;
  private readonly waiters = new Set<() => void>();
  private readonly observer: IntersectionObserver;

  constructor(element: Element) {
    this.observer = new IntersectionObserver((entries) => {
      this.inView = entries.some((entry) => entry.isIntersecting);
      this.changed();
    });
    this.observer.observe(element);
    document.addEventListener('visibilitychange', this.changed);
  }

  private readonly changed = () => {
    if (!this.inView || document.hidden) return;
    for (const resolve of this.waiters) resolve();
    this.waiters.clear();
  };

  /** Resolves once the element can be seen, or the signal aborts. */
  visible(signal: AbortSignal): Promise<void> {
    if ((this.inView && !document.hidden) || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.waiters.add(resolve);
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  close(): void {
    this.observer.disconnect();
    document.removeEventListener('visibilitychange', this.changed);
    this.waiters.clear();
  }
}
