// Plays a desktop's sound: packets of Opus decoded by the browser (WebCodecs) and put one behind the other on its clock. It
// is made once for a viewer and outlives its connections. Knows nothing of where packets come from.
import { Playhead } from './playhead';

const RATE = 48_000;
/** A packet's length, microseconds. */
const PACKET_US = 20_000;

/** Whether this browser can play what desktops send. */
export const canPlay = (): boolean => 'AudioDecoder' in globalThis && 'AudioContext' in globalThis;

export class Sound {
  private readonly context = new AudioContext({ sampleRate: RATE, latencyHint: 'interactive' });
  private readonly playhead = new Playhead();
  private decoder: AudioDecoder | undefined;
  private packets = 0;

  constructor() {
    // Browsers play nothing on a page that nobody has touched.
    addEventListener('pointerdown', this.resume, true);
    addEventListener('keydown', this.resume, true);
    this.resume();
  }

  private readonly resume = () => {
    if (this.context.state === 'suspended') void this.context.resume().catch(() => undefined);
  };

  /** Sound begins after silence, or on another connection. */
  begin(): void {
    this.playhead.reset();
    this.stopDecoder();
  }

  /** The next packet. */
  packet(data: Uint8Array): void {
    if (this.context.state !== 'running') return;
    this.decoder ??= this.startDecoder();
    const timestamp = this.packets * PACKET_US;
    this.packets += 1;
    this.decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp, data }));
  }

  close(): void {
    removeEventListener('pointerdown', this.resume, true);
    removeEventListener('keydown', this.resume, true);
    this.stopDecoder();
    void this.context.close().catch(() => undefined);
  }

  private startDecoder(): AudioDecoder {
    const decoder = new AudioDecoder({
      output: (data) => this.play(data),
      error: (cause) => {
        console.error('lucarne: sound cannot be decoded', cause);
        // The next packet gets a fresh one.
        if (this.decoder === decoder) this.decoder = undefined;
      },
    });
    decoder.configure({ codec: 'opus', sampleRate: RATE, numberOfChannels: 2 });
    return decoder;
  }

  private stopDecoder(): void {
    if (this.decoder && this.decoder.state !== 'closed') this.decoder.close();
    this.decoder = undefined;
  }

  private play(data: AudioData): void {
    const { numberOfFrames, numberOfChannels, sampleRate } = data;
    const at = this.playhead.place(this.context.currentTime, numberOfFrames / sampleRate);
    if (at !== undefined) {
      const piece = this.context.createBuffer(numberOfChannels, numberOfFrames, sampleRate);
      for (let channel = 0; channel < numberOfChannels; channel++) {
        const samples = new Float32Array(numberOfFrames);
        data.copyTo(samples, { planeIndex: channel, format: 'f32-planar' });
        piece.copyToChannel(samples, channel);
      }
      const source = this.context.createBufferSource();
      source.buffer = piece;
      source.connect(this.context.destination);
      source.start(at);
    }
    data.close();
  }
}
