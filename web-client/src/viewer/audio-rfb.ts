// noVNC with sound: a server's offer of Opus (docs/decisions/0008-audio.md) and the packets that follow. noVNC 1.7 knows
// nothing of sound and has no place to add it, so the three methods that see every message are extended. Knows nothing of
// decoding or playing.
import RFB from '@novnc/novnc';

/** The pseudo-encoding that stands for Opus, ASCII `LCOP`. */
const OPUS_AUDIO = 0x4c434f50;
/** QEMU's message type and its sub-type for sound. */
const QEMU = 255;
const AUDIO = 1;
/** What the server says; 0 is the end of sound. */
const BEGIN = 1;
const DATA = 2;
/** What a client says. */
const ENABLE = 0;
const DISABLE = 1;
const FORMAT = 2;
/** Opus among the sample formats, always stereo at 48 kHz. */
const OPUS = 128;
/** The longest packet, bytes (RFC 6716 section 3.4). */
const MAX_PACKET = 1275;

const listEncodings = RFB.messages.clientEncodings;
RFB.messages.clientEncodings = (socket, list) => listEncodings(socket, [...list, OPUS_AUDIO]);

export interface AudioEvents {
  /** The server has sound. */
  onOffer: () => void;
  /** Sound begins after silence. */
  onBegin: () => void;
  /** The next 20 ms. */
  onPacket: (packet: Uint8Array) => void;
}

export default class AudioRfb extends RFB {
  /** Set before anything can have come. */
  audio: AudioEvents | undefined;

  /** Wants sound from now on, or none; once it was offered. */
  listen(on: boolean): void {
    if (on) this.request(FORMAT, true);
    this.request(on ? ENABLE : DISABLE, false);
  }

  private request(operation: number, format: boolean): void {
    const socket = this._sock;
    socket.sQpush8(QEMU);
    socket.sQpush8(AUDIO);
    socket.sQpush16(operation);
    if (format) {
      socket.sQpush8(OPUS);
      socket.sQpush8(2);
      socket.sQpush32(48_000);
    }
    socket.flush();
  }

  override _handleRect(): boolean {
    if (this._FBU.encoding !== OPUS_AUDIO) return super._handleRect();
    this.audio?.onOffer();
    return true;
  }

  override _normalMsg(): boolean {
    const ours = this._FBU.rects === 0 && this._sock.rQpeek8() === QEMU;
    return ours ? this.audioMessage() : super._normalMsg();
  }

  /** Takes one message, if all of it is there; like noVNC's own. */
  private audioMessage(): boolean {
    const socket = this._sock;
    if (socket.rQwait('QEMU header', 4)) return false;
    const [, kind, high, low] = socket.rQpeekBytes(4);
    const operation = ((high ?? 0) << 8) | (low ?? 0);
    if (kind !== AUDIO || operation > DATA) return this.fail(`message ${kind}, ${operation}`);
    if (operation !== DATA) {
      socket.rQskipBytes(4);
      if (operation === BEGIN) this.audio?.onBegin();
      return true;
    }
    if (socket.rQwait('packet length', 8)) return false;
    const length = new DataView(socket.rQpeekBytes(8).buffer).getUint32(4);
    if (length > MAX_PACKET) return this.fail(`a packet of ${length} bytes`);
    if (socket.rQwait('packet', 8 + length)) return false;
    socket.rQskipBytes(8);
    this.audio?.onPacket(socket.rQshiftBytes(length));
    return true;
  }

  private fail(what: string): boolean {
    console.error('lucarne: the server sent broken sound:', what);
    this.disconnect();
    return false;
  }
}
