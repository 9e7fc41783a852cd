// The server's half of a WebSocket (RFC 6455) for the mock: enough to carry binary frames and a close code.
import { createHash } from 'node:crypto';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

/** Completes the handshake on `socket` and gives an object with `send(buffer)`, `close(code)`, and the two callbacks. */
export function accept(request, socket, protocol) {
  const key = createHash('sha1')
    .update(request.headers['sec-websocket-key'] + GUID)
    .digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Accept: ${key}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
  const peer = { onData: () => undefined, onClose: () => undefined, send, close };
  let pending = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    for (let frame = take(); frame; frame = take()) {
      if (frame.opcode === CLOSE) socket.end(encode(CLOSE, frame.payload));
      else if (frame.opcode === PING) socket.write(encode(PONG, frame.payload));
      else if (frame.opcode !== PONG) peer.onData(frame.payload);
    }
  });
  socket.on('close', () => peer.onClose());
  socket.on('error', () => socket.destroy());
  return peer;

  function send(payload) {
    if (socket.writable) socket.write(encode(BINARY, payload));
  }
  function close(code) {
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(code);
    if (socket.writable) socket.end(encode(CLOSE, payload));
  }

  /** The next whole frame of what has come, or undefined. */
  function take() {
    if (pending.length < 2) return undefined;
    let length = pending[1] & 0x7f;
    let offset = 2;
    if (length === 126) {
      if (pending.length < 4) return undefined;
      length = pending.readUInt16BE(2);
      offset = 4;
    } else if (length === 127) {
      if (pending.length < 10) return undefined;
      length = Number(pending.readBigUInt64BE(2));
      offset = 10;
    }
    if (pending.length < offset + 4 + length) return undefined;
    const mask = pending.subarray(offset, offset + 4);
    const payload = Buffer.from(pending.subarray(offset + 4, offset + 4 + length));
    for (let i = 0; i < payload.length; i++) payload[i] ^= mask[i & 3];
    const opcode = pending[0] & 0x0f;
    pending = pending.subarray(offset + 4 + length);
    return { opcode, payload };
  }
}

function encode(opcode, payload) {
  const { length } = payload;
  let head;
  if (length < 126) {
    head = Buffer.from([0x80 | opcode, length]);
  } else if (length < 65536) {
    head = Buffer.from([0x80 | opcode, 126, length >> 8, length & 0xff]);
  } else {
    head = Buffer.alloc(10);
    head[0] = 0x80 | opcode;
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head, payload]);
}
