// The key chord that opens the toolbar: Ctrl, Alt and Shift pressed together with nothing else, then released. It counts
// on release, so that the desktop has seen every key go up before the focus leaves it. Pure; fed with key events.

export interface KeyLike {
  type: string;
  key: string;
  ctrlKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
}

const MODIFIERS = new Set(['Control', 'Alt', 'Shift', 'Meta']);

export class Chord {
  private armed = false;

  /** Takes the next key event; true when it completes the chord. */
  feed(event: KeyLike): boolean {
    if (event.type === 'keydown') {
      if (!MODIFIERS.has(event.key)) this.armed = false;
      else if (event.ctrlKey && event.altKey && event.shiftKey) this.armed = true;
      return false;
    }
    if (!this.armed || event.ctrlKey || event.altKey || event.shiftKey) return false;
    this.armed = false;
    return true;
  }
}
