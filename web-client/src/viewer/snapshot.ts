// The last picture of the desktop, held in a canvas while the link is away. In memory only, and wiped when done.

export class Snapshot {
  constructor(private readonly canvas: HTMLCanvasElement) {}

  /** Copies what `source` shows. A source without a picture leaves the last one in place. */
  take(source: HTMLCanvasElement): void {
    if (source.width === 0 || source.height === 0) return;
    this.canvas.width = source.width;
    this.canvas.height = source.height;
    this.canvas.getContext('2d')?.drawImage(source, 0, 0);
  }

  /** Gives the pixels' memory back. */
  wipe(): void {
    this.canvas.width = 0;
    this.canvas.height = 0;
  }
}
