// A stand-in for the server while working on the pages: `npm run build && npm run mock`, then http://127.0.0.1:5180.
// It serves dist with the content security policy that the client is made for, answers the REST calls from memory and
// carries streams to a real VNC server (LUCARNE_VNC=host:port, for example one of `Xvnc -SecurityTypes None`).
// `POST /mock` with a JSON object changes its world (see below); it is no part of the build or of the product.
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { accept } from './websocket.mjs';

const dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist');
const port = Number(process.env.PORT ?? 5180);
const [vncHost, vncPort] = (process.env.LUCARNE_VNC ?? '127.0.0.1:5917').split(':');
const thumbnailFile = process.env.LUCARNE_THUMBNAIL;

const CSP =
  "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
};

/** What the mock answers from. `POST /mock` overwrites the given members. */
const world = {
  user: undefined,
  role: 'administrator',
  delayMs: 0,
  /** Milliseconds until a desktop is ready after the first asking; below that the answer is 202. */
  prepareMs: 0,
  /** A problem {status, code, detail} for POST /sessions and tickets, or null. */
  connectProblem: null,
  /** Fail everything with a cut connection. */
  down: false,
  cards: null,
  hosts: null,
};
const tickets = new Set();
const streams = new Set();
let session = { id: '0199a3f0-0000-7000-8000-000000000001', state: 'disconnected', live: false };
let askedAt = 0;

const desktop = () => ({ id: 'd-1', name: 'office-7f3a', pool: 'office', phase: 'ready', detail: '' });
const sessionOf = () => ({
  id: session.id,
  user: world.user,
  pool: 'office',
  desktop: 'd-1',
  desktop_name: 'office-7f3a',
  state: session.state,
});
const connection = (ticket, detail = '', progress = null) => ({
  session: sessionOf(),
  desktop: desktop(),
  ticket,
  websocket: '/api/v1/stream',
  detail,
  progress,
});
const defaultCards = () => [
  {
    pool: 'p-1',
    name: 'office',
    description: 'Debian with office programs and a browser',
    desktop: session.live ? desktop() : null,
    session: session.live ? sessionOf() : null,
    availability: 'available',
    detail: '',
    progress: null,
  },
];

createServer(handle).on('upgrade', upgrade).listen(port, '127.0.0.1');
console.log(`mock server on http://127.0.0.1:${port}, VNC from ${vncHost}:${vncPort}`);

async function handle(request, response) {
  const { pathname } = new URL(request.url, 'http://mock');
  const body = await read(request);
  if (pathname === '/mock') {
    if (body?.closeStreams) for (const peer of streams) peer.close(body.closeStreams);
    if (body?.cutStreams) for (const peer of streams) peer.cut();
    if (body?.session) session = { ...session, ...body.session };
    Object.assign(world, body);
    return answer(response, 200, { streams: streams.size });
  }
  if (world.down) return request.socket.destroy();
  if (!pathname.startsWith('/api/')) return file(pathname, response);
  if (world.delayMs) await new Promise((resolve) => setTimeout(resolve, world.delayMs));
  route(`${request.method} ${pathname.slice('/api/v1'.length)}`, body, response);
}

function route(call, body, response) {
  if (call === 'GET /health') return answer(response, 200, { version: 'mock', hosts_online: 1 });
  if (call === 'POST /auth/login') {
    if (body?.password !== 'dormer-window') {
      return problem(response, 401, 'bad_credentials', 'Name or password is wrong.');
    }
    world.user = body.name;
    return answer(response, 200, me());
  }
  if (!world.user) return problem(response, 401, 'not_signed_in', 'Sign in first.');
  if (call === 'GET /me') return answer(response, 200, me());
  if (call === 'POST /auth/logout') {
    world.user = undefined;
    return answer(response, 204);
  }
  if (call === 'PUT /me/password') {
    if (body?.current === 'dormer-window') return answer(response, 204);
    return problem(response, 401, 'bad_credentials', 'The current password is wrong.');
  }
  if (call === 'GET /portal') return answer(response, 200, world.cards ?? defaultCards());
  if (call === 'GET /hosts') return answer(response, 200, { items: world.hosts ?? [], next: null });
  if (/^GET \/desktops\/[^/]+\/thumbnail$/.test(call)) {
    if (!thumbnailFile) return problem(response, 404, 'no_picture', 'There is no picture yet.');
    response.writeHead(200, { 'Content-Type': 'image/jpeg', 'Cache-Control': 'no-store' });
    return response.end(readFileSync(thumbnailFile));
  }
  if (call === 'POST /sessions' || /^POST \/sessions\/[^/]+\/ticket$/.test(call)) return give(call, response);
  if (/^DELETE \/sessions\//.test(call)) {
    session = {
      id: `${session.id.slice(0, -1)}${Math.floor(Math.random() * 10)}`,
      state: 'ended',
      live: false,
    };
    for (const peer of streams) peer.close(4001);
    return setTimeout(() => answer(response, 204), 600);
  }
  problem(response, 404, 'not_found', `The mock does not know ${call}.`);
}

function give(call, response) {
  if (world.connectProblem) {
    const { status, code, detail } = world.connectProblem;
    return problem(response, status, code, detail);
  }
  if (call.endsWith('/ticket') && !call.includes(session.id)) {
    return problem(response, 404, 'session_not_found', 'There is no such session.');
  }
  askedAt ||= Date.now();
  const done = (Date.now() - askedAt) / world.prepareMs;
  if (world.prepareMs && done < 1) {
    const words = 'The template of “office” is being made: waiting for the desktop to be painted';
    return answer(response, 202, connection(null, words, Math.floor(done * 100)));
  }
  askedAt = 0;
  session.live = true;
  const ticket = Math.random().toString(36).slice(2);
  tickets.add(ticket);
  answer(response, 201, connection(ticket));
}

const me = () => ({ id: 'u-1', name: world.user, role: world.role, groups: [], created_at: 0 });

function upgrade(request, socket) {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(/,\s*/);
  const ticket = offered.find((name) => name.startsWith('lucarne.ticket.'))?.slice('lucarne.ticket.'.length);
  if (world.down) return socket.destroy();
  if (!offered.includes('binary') || !tickets.delete(ticket)) {
    return socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  }
  for (const peer of streams) peer.close(4003);
  const peer = accept(request, socket, 'binary');
  const vnc = connect(Number(vncPort), vncHost);
  peer.cut = () => socket.destroy();
  session.state = 'connected';
  streams.add(peer);
  vnc.on('data', (chunk) => peer.send(chunk));
  vnc.on('error', () => peer.close(4002));
  vnc.on('end', () => peer.close(4002));
  peer.onData = (payload) => vnc.write(payload);
  peer.onClose = () => {
    streams.delete(peer);
    if (streams.size === 0) session.state = 'disconnected';
    vnc.destroy();
  };
}

function file(pathname, response) {
  let path = join(dist, normalize(pathname));
  if (!existsSync(path) || !statSync(path).isFile()) {
    if (extname(pathname)) return answer(response, 404);
    path = join(dist, 'index.html');
  }
  response.writeHead(200, {
    'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream',
    'Cache-Control': 'no-store',
    'Content-Security-Policy': CSP,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
  });
  createReadStream(path).pipe(response);
}

async function read(request) {
  let raw = '';
  for await (const chunk of request) raw += chunk;
  try {
    return raw ? JSON.parse(raw) : undefined;
  } catch {
    return undefined;
  }
}

function answer(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

function problem(response, status, code, detail) {
  response.writeHead(status, { 'Content-Type': 'application/problem+json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify({ code, title: code.replaceAll('_', ' '), status, detail }));
}
