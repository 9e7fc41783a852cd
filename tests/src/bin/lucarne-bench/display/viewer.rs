//! The measuring viewer: VeNCrypt with a certificate over TCP, as ordinary viewers come in; it decodes all that it gets,
//! asks for updates as viewers do, and reads the frame's number from the picture.

use super::codecs::codecs;
use anyhow::{Context, Result, bail, ensure};
use lucarne_control::link::{Open, Opened};
use lucarne_player::{Workload, barcode};
use lucarne_rfb::audio::AudioRequest;
use lucarne_rfb::client::{
    Framebuffer, Handshake, HandshakeEvent, ServerEvent, Viewer as Decoder, Want, write,
};
use lucarne_rfb::encodings as enc;
use lucarne_rfb::security::{Password, Subtype};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What TigerVNC's viewer asks for by default: Tight with JPEG quality 8 and compression level 2.
const ENCODINGS: [i32; 12] = [
    enc::TIGHT,
    enc::COPY_RECT,
    enc::ZRLE,
    enc::HEXTILE,
    enc::RAW,
    enc::LAST_RECT,
    enc::CURSOR_WITH_ALPHA,
    enc::CURSOR,
    enc::FENCE,
    enc::CONTINUOUS_UPDATES,
    enc::QUALITY_0 + 8,
    enc::COMPRESSION_0 + 2,
];

/// The request bit of a fence, which its answer lacks, and the bits that it keeps (rfbproto, "ClientFence").
const FENCE_REQUEST: u32 = 1 << 31;
const FENCE_KEPT: u32 = 7;

/// The longest wait for anything that should come.
pub const LIMIT: Duration = Duration::from_secs(60);

/// As whom to sign in.
#[derive(Clone, Debug)]
pub enum Login {
    /// Anybody may look.
    Anyone,
    /// Name and password.
    Plain(String, String),
}

/// Where a server is and how to get in.
#[derive(Clone, Debug)]
pub struct Target {
    /// The port on `host`.
    pub address: std::net::SocketAddr,
    /// The certificate to trust, in PEM.
    pub certificate: PathBuf,
    /// As whom.
    pub login: Login,
    /// To ask for video too.
    pub video: bool,
}

/// What a viewer is connected by.
trait Stream: Read + Write + Send {
    /// The longest wait for bytes.
    fn set_limit(&self, limit: Duration) -> io::Result<()>;
    /// Sends no more; the other end is told.
    fn finish(&mut self) -> io::Result<()>;
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn set_limit(&self, limit: Duration) -> io::Result<()> {
        self.sock.set_read_timeout(Some(limit))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn set_limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A connected viewer.
pub struct Viewer {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    buffer: Vec<u8>,
    continuous: bool,
    bytes: u64,
    updates: u64,
}

impl Viewer {
    /// Connects over a stream to the target, and waits for the first picture.
    pub fn open(tcp: TcpStream, target: &Target) -> Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        let mut tcp = tcp;
        let (subtype, user, password) = match &target.login {
            Login::Anyone => (Subtype::X509None, String::new(), String::new()),
            Login::Plain(user, password) => (Subtype::X509Plain, user.clone(), password.clone()),
        };
        let want = Want::VeNCrypt { subtypes: vec![subtype], user, password: Password::new(password) };
        let mut shake = Handshake::new(want);
        handshake(&mut shake, &mut tcp, HandshakeEvent::StartTls(subtype), Vec::new())?;
        let mut stream = lucarne_tests::http::tls(&target.certificate, tcp);
        let mut out = Vec::new();
        shake.tls_started(&mut out)?;
        handshake(&mut shake, &mut stream, HandshakeEvent::Secured, out)?;
        Self::begin(Box::new(stream), &shake.take_rest(), target.video)
    }

    /// Connects as a gateway does, beside it, to a desktop's display socket.
    pub fn open_display(socket: &Path, open: &Open) -> Result<Self> {
        let mut stream =
            UnixStream::connect(socket).with_context(|| format!("{} cannot be reached", socket.display()))?;
        stream.set_limit(LIMIT)?;
        let mut line = serde_json::to_vec(open)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = Vec::new();
        while answer.last() != Some(&b'\n') {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if let Opened::Refused { reason } = serde_json::from_slice(&answer)? {
            bail!("the desktop refuses a viewer: {reason}");
        }
        let mut shake = Handshake::new(Want::None);
        handshake(&mut shake, &mut stream, HandshakeEvent::Secured, Vec::new())?;
        Self::begin(Box::new(stream), &shake.take_rest(), false)
    }

    fn begin(stream: Box<dyn Stream>, early: &[u8], video: bool) -> Result<Self> {
        let decoder = Decoder::with_codecs(codecs());
        let mut viewer =
            Self { stream, decoder, buffer: vec![0; 1 << 18], continuous: false, bytes: 0, updates: 0 };
        let mut out = Vec::new();
        write::client_init(true, &mut out);
        viewer.send(&out)?;
        viewer.decoder.feed(early)?;
        viewer.first_picture(video)?;
        Ok(viewer)
    }

    fn first_picture(&mut self, video: bool) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !matches!(self.event(deadline)?, Some(ServerEvent::Init(_))) {
            ensure!(Instant::now() < deadline, "the server does not say the size of its picture");
        }
        let mut out = Vec::new();
        let mut encodings = ENCODINGS.to_vec();
        encodings.extend(video.then_some(enc::OPEN_H264));
        write::set_encodings(&encodings, &mut out);
        write::framebuffer_update_request(false, self.decoder.framebuffer().rect(), &mut out);
        self.send(&out)?;
        while self.updates == 0 {
            self.step(deadline)?;
            ensure!(Instant::now() < deadline, "the server sends no picture");
        }
        Ok(())
    }

    /// Goes, and waits until the server knows. A link that ends before that leaves the server with a viewer that stands still.
    pub fn close(mut self) -> Result<()> {
        self.stream.set_limit(LIMIT)?;
        self.stream.finish()?;
        // What it has sent meanwhile is nobody's; an end without TLS's own is one too.
        while self.stream.read(&mut self.buffer).is_ok_and(|n| n > 0) {}
        Ok(())
    }

    /// What the viewer shows.
    pub fn picture(&self) -> &Framebuffer {
        self.decoder.framebuffer()
    }

    /// Bytes of RFB that came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The frame that it shows, if all of it is there.
    pub fn shown(&self) -> Option<(Workload, u32)> {
        let picture = self.picture();
        let width = usize::from(picture.width());
        let pixels = picture.pixels();
        let at =
            |x: u16, y: u16| pixels.get(usize::from(y) * width + usize::from(x)).copied().unwrap_or_default();
        barcode::read(picture.height(), at)
    }

    /// Presses a key and lets it go.
    pub fn press(&mut self, key: char) -> Result<()> {
        let mut out = Vec::new();
        write::key_event(true, key.into(), &mut out);
        write::key_event(false, key.into(), &mut out);
        self.send(&out)
    }

    /// Follows the stream until the frame is shown, with all that came in the same update: a part of it may be behind the
    /// barcodes.
    pub fn wait_for(&mut self, workload: Workload, frame: u32) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let mut is_whole = true;
        while !is_whole || self.shown() != Some((workload, frame)) {
            is_whole = self.step(deadline)?;
            if Instant::now() >= deadline {
                bail!("{} frame {frame} did not come; {:?} is shown", workload.name(), self.shown());
            }
        }
        Ok(())
    }

    /// Follows the stream until a time; `seen` is told of each update.
    pub fn follow(&mut self, until: Instant, mut seen: impl FnMut(&Self)) -> Result<()> {
        while Instant::now() < until {
            if self.step(until)? {
                seen(self);
            }
        }
        Ok(())
    }

    /// Asks for sound as Opus, which the server has said it has.
    pub fn listen(&mut self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let mut out = Vec::new();
        write::set_encodings(&[&ENCODINGS[..], &[enc::OPUS_AUDIO]].concat(), &mut out);
        self.send(&out)?;
        while self.next(deadline)? != Some(ServerEvent::Acknowledged(enc::OPUS_AUDIO)) {
            ensure!(Instant::now() < deadline, "the server does not say that it has sound");
        }
        out.clear();
        write::audio(&AudioRequest::Opus, &mut out);
        write::audio(&AudioRequest::Enable, &mut out);
        self.send(&out)
    }

    /// Handles the next event before the deadline; whether an update ended.
    fn step(&mut self, deadline: Instant) -> Result<bool> {
        Ok(matches!(self.next(deadline)?, Some(ServerEvent::Updated { .. })))
    }

    /// The next event before the deadline, answered as viewers do.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<ServerEvent>> {
        let mut out = Vec::new();
        let event = self.event(deadline)?;
        match event {
            Some(ServerEvent::Updated { .. }) => {
                self.updates += 1;
                if !self.continuous {
                    write::framebuffer_update_request(true, self.decoder.framebuffer().rect(), &mut out);
                }
            }
            Some(ServerEvent::Fence { flags, ref payload }) if flags & FENCE_REQUEST != 0 => {
                write::fence(flags & FENCE_KEPT, payload, &mut out);
            }
            Some(ServerEvent::EndOfContinuousUpdates) if !self.continuous => {
                self.continuous = true;
                write::enable_continuous_updates(true, self.decoder.framebuffer().rect(), &mut out);
            }
            _ => {}
        }
        self.send(&out)?;
        Ok(event)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        if !bytes.is_empty() {
            self.stream.write_all(bytes)?;
            self.stream.flush()?;
        }
        Ok(())
    }

    fn event(&mut self, deadline: Instant) -> Result<Option<ServerEvent>> {
        loop {
            if let Some(event) = self.decoder.next_event()? {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_limit(left)?;
            match self.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the server ended the stream"),
                Ok(n) => {
                    self.bytes += n as u64;
                    self.decoder.feed(&self.buffer[..n])?;
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(e) => return Err(e).context("the stream broke"),
            }
        }
    }
}

/// Goes through the handshake up to `wanted`; `out` is sent first.
fn handshake(
    shake: &mut Handshake,
    stream: &mut (impl Read + Write),
    wanted: HandshakeEvent,
    mut out: Vec<u8>,
) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let event = shake.poll(&mut out)?;
        stream.write_all(&out)?;
        stream.flush()?;
        out.clear();
        match event {
            Some(event) if event == wanted => return Ok(()),
            Some(event) => bail!("{event:?} came instead of {wanted:?}"),
            None => {}
        }
        let n = stream.read(&mut buffer).context("the handshake broke")?;
        ensure!(n > 0, "the server went in the handshake");
        shake.feed(&buffer[..n])?;
    }
}

/// A JPEG of this size as `0x00RRGGBB`.
pub fn decode_jpeg(bytes: &[u8], width: u16, height: u16) -> Option<Vec<u32>> {
    let (w, h) = (usize::from(width), usize::from(height));
    let mut pixels = vec![0; w * h * 4];
    let image = turbojpeg::Image {
        pixels: &mut pixels[..],
        width: w,
        pitch: w * 4,
        height: h,
        format: turbojpeg::PixelFormat::BGRX,
    };
    let mut decompressor = turbojpeg::Decompressor::new().ok()?;
    let header = decompressor.read_header(bytes).ok()?;
    if (header.width, header.height) != (w, h) {
        return None;
    }
    decompressor.decompress(bytes, image).ok()?;
    let pixel = |p: &[u8]| u32::from(p[2]) << 16 | u32::from(p[1]) << 8 | u32::from(p[0]);
    Some(pixels.chunks_exact(4).map(pixel).collect())
}
