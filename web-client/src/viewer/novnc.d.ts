// The part of noVNC's interface that the viewer uses (docs/API.md of @novnc/novnc 1.7),
// and the few of its methods that `audio-rfb.ts` extends.
declare module '@novnc/novnc' {
  export interface RfbEvents {
    connect: CustomEvent<Record<string, never>>;
    disconnect: CustomEvent<{ clean: boolean }>;
    credentialsrequired: CustomEvent<{ types: string[] }>;
    securityfailure: CustomEvent<{ status: number; reason?: string }>;
    clipboard: CustomEvent<{ text: string }>;
    desktopname: CustomEvent<{ name: string }>;
  }

  /** Bytes that came and bytes to send (core/websock.js). */
  export interface Websock {
    rQpeek8(): number;
    rQpeekBytes(length: number): Uint8Array;
    rQskipBytes(length: number): void;
    rQshiftBytes(length: number): Uint8Array;
    /** True while fewer bytes than these have come. */
    rQwait(what: string, length: number): boolean;
    sQpush8(value: number): void;
    sQpush16(value: number): void;
    sQpush32(value: number): void;
    flush(): void;
  }

  export default class RFB extends EventTarget {
    constructor(target: HTMLElement, urlOrChannel: string | WebSocket, options?: { shared?: boolean });
    static messages: { clientEncodings: (socket: Websock, list: number[]) => void };
    /** Not part of the documented interface (core/rfb.js). */
    protected readonly _sock: Websock;
    protected readonly _FBU: { rects: number; encoding: number | null };
    protected _handleRect(): boolean;
    protected _normalMsg(): boolean;
    background: string;
    clipViewport: boolean;
    compressionLevel: number;
    focusOnClick: boolean;
    qualityLevel: number;
    resizeSession: boolean;
    scaleViewport: boolean;
    showDotCursor: boolean;
    viewOnly: boolean;
    addEventListener<K extends keyof RfbEvents>(type: K, listener: (event: RfbEvents[K]) => void): void;
    blur(): void;
    clipboardPasteFrom(text: string): void;
    disconnect(): void;
    focus(options?: FocusOptions): void;
    sendCtrlAltDel(): void;
  }
}
