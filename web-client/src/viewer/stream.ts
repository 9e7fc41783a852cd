// One stream: a WebSocket opened with a ticket, and noVNC decoding what comes into a canvas of its own layer. It ends
// once and is then thrown away. Knows nothing of tickets' origin, of retries or of what is around the picture.
import type { Notice } from '../api/types';
import { text } from '../text';
import AudioRfb, { type AudioEvents } from './audio-rfb';
import { CLOSE_STALLED } from './connection';

export interface StreamOptions {
  /** The layer is put in here and taken away at the end. */
  target: HTMLElement;
  /** Path of the WebSocket on this server. */
  path: string;
  ticket: string;
  /** Nothing is typed, copied or clicked into it; the server holds to that too. */
  viewOnly: boolean;
  /** The stream is open. */
  onOpened: () => void;
  /** The first picture is painted. */
  onPicture: () => void;
  /** The server tells something beside the picture. */
  onNotice: (notice: Notice) => void;
  /** Bytes came. */
  onHeard: () => void;
  /** The desktop's clipboard has new text. */
  onClipboard: (text: string) => void;
  /** The desktop's sound. */
  audio: AudioEvents;
  /** It is over. The canvas still holds the last picture if there was one. */
  onEnd: (code: number, detail: string, picture: HTMLCanvasElement | null) => void;
}

/** Longest time, ms, from the beginning to the first picture. Lower gives up on slow links, higher leaves people waiting on a dead one. */
const FIRST_PICTURE_MS = 20_000;
/** JPEG quality that is asked for, 0 to 9: text stays crisp, photographs stay small. */
const QUALITY = 6;
/** zlib effort that is asked for, 0 to 9: the server's processor is scarcer than the link. */
const COMPRESSION = 2;

export class Stream {
  private readonly rfb: AudioRfb;
  private readonly socket: WebSocket;
  private readonly layer: HTMLElement;
  private readonly canvas: HTMLCanvasElement | null;
  private readonly timer: ReturnType<typeof setTimeout>;
  private pictured = false;
  private ended = false;

  constructor(private readonly options: StreamOptions) {
    const address = new URL(options.path, location.href);
    address.protocol = address.protocol === 'http:' ? 'ws:' : 'wss:';
    this.socket = new WebSocket(address, ['lucarne.notices', 'binary', `lucarne.ticket.${options.ticket}`]);
    this.socket.addEventListener('open', () => options.onOpened());
    this.socket.addEventListener('message', (event) => {
      options.onHeard();
      if (typeof event.data !== 'string') return;
      // Not the picture's: noVNC, which listens after this, would take it for bytes.
      event.stopImmediatePropagation();
      options.onNotice(JSON.parse(event.data) as Notice);
    });
    this.socket.addEventListener('close', (event) => this.end(event.code, event.reason));

    this.layer = document.createElement('div');
    this.layer.className = 'viewer-layer';
    options.target.append(this.layer);

    this.rfb = new AudioRfb(this.layer, this.socket, { shared: true });
    this.rfb.audio = options.audio;
    this.rfb.viewOnly = options.viewOnly;
    this.rfb.background = 'transparent';
    this.rfb.scaleViewport = true;
    this.rfb.clipViewport = false;
    this.rfb.resizeSession = false;
    this.rfb.showDotCursor = true;
    this.rfb.qualityLevel = QUALITY;
    this.rfb.compressionLevel = COMPRESSION;
    this.rfb.addEventListener('connect', () => this.awaitPicture());
    this.rfb.addEventListener('clipboard', (event) => options.onClipboard(event.detail.text));
    // The gateway has authenticated the user; a desktop that asks again is not ours to answer.
    this.rfb.addEventListener('credentialsrequired', () => this.rfb.disconnect());
    this.canvas = this.layer.querySelector('canvas');
    this.timer = setTimeout(() => this.end(CLOSE_STALLED, text.viewer.stalled), FIRST_PICTURE_MS);
  }

  focus(): void {
    this.rfb.focus({ preventScroll: true });
  }

  sendCtrlAltDel(): void {
    this.rfb.sendCtrlAltDel();
    this.focus();
  }

  sendClipboard(content: string): void {
    this.rfb.clipboardPasteFrom(content);
  }

  /** Wants the desktop's sound, which was offered, or does not. */
  listen(on: boolean): void {
    this.rfb.listen(on);
  }

  /** Ends the stream now, without waiting for the other side: the link may be dead. */
  end(code: number, detail: string): void {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    this.options.onEnd(code, detail, this.pictured ? this.canvas : null);
    this.layer.remove();
    this.rfb.disconnect();
    if (this.canvas) this.canvas.width = this.canvas.height = 0;
  }

  /**
   * noVNC has no event for the first picture. It shows what it decoded by drawing into its visible canvas, so the first
   * such drawing after the connection is set up is the first picture.
   */
  private awaitPicture(): void {
    const context = this.canvas?.getContext('2d');
    if (!context) return this.painted();
    const draw = context.drawImage.bind(context) as (...values: unknown[]) => void;
    const once = (...values: unknown[]) => {
      draw(...values);
      Reflect.deleteProperty(context, 'drawImage');
      this.painted();
    };
    Object.defineProperty(context, 'drawImage', { configurable: true, value: once });
  }

  private painted(): void {
    if (this.ended || this.pictured) return;
    this.pictured = true;
    clearTimeout(this.timer);
    this.layer.classList.add('viewer-layer-shown');
    this.focus();
    this.options.onPicture();
  }
}
