//! A VNC viewer without a screen: VeNCrypt X509Plain over TCP, as ordinary viewers come in; or, beside a viewer that has the
//! session's place, at the desktop process's own socket, as the gateway comes in.

use crate::http::{Tls, tls};
use crate::poll::LIMIT;
use crate::server::{Server, password_of};
use lucarne_control::link::{Open, Opened, Purpose};
use lucarne_rfb::audio::{Audio, AudioRequest};
use lucarne_rfb::client::{Framebuffer, Handshake, HandshakeEvent, ServerEvent, Viewer, Want, write};
use lucarne_rfb::clipboard::Clipboard;
use lucarne_rfb::rect::Rect;
use lucarne_rfb::security::{Password, Subtype};
use lucarne_rfb::server::Screen;
use lucarne_rfb::{PixelFormat, encodings};
use serde_json::Value;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Keysyms that tests press (X11 `keysymdef.h`).
pub mod keys {
    /// Control_L.
    pub const CONTROL: u32 = 0xffe3;
    /// Alt_L.
    pub const ALT: u32 = 0xffe9;
    /// Shift_L.
    pub const SHIFT: u32 = 0xffe1;
    /// Return.
    pub const RETURN: u32 = 0xff0d;
}

/// What carries a viewer's stream.
trait Stream: Read + Write + Send {
    /// How long a read may take.
    fn patience(&self, limit: Duration) -> io::Result<()>;

    /// Nothing more is written; what was is still read by the other side.
    fn end(&self) -> io::Result<()>;
}

impl Stream for Tls {
    fn patience(&self, limit: Duration) -> io::Result<()> {
        self.sock.set_read_timeout(Some(limit))
    }

    fn end(&self) -> io::Result<()> {
        self.sock.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn patience(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }

    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Connects, with VeNCrypt and X509Plain.
fn sign_in(
    address: &SocketAddr,
    cert: &Path,
    user: &str,
    password: &str,
) -> Result<(Tls, Handshake), String> {
    let mut tcp = TcpStream::connect(address).map_err(|e| e.to_string())?;
    tcp.set_read_timeout(Some(LIMIT)).map_err(|e| e.to_string())?;
    let mut shake = Handshake::new(Want::VeNCrypt {
        subtypes: vec![Subtype::X509Plain],
        user: user.to_owned(),
        password: Password::new(password.to_owned()),
    });
    handshake(&mut shake, &mut tcp, HandshakeEvent::StartTls(Subtype::X509Plain), Vec::new())?;
    let mut stream = tls(cert, tcp);
    let mut out = Vec::new();
    shake.tls_started(&mut out).map_err(|e| e.to_string())?;
    handshake(&mut shake, &mut stream, HandshakeEvent::Secured, out)?;
    Ok((stream, shake))
}

/// A connected viewer.
pub struct Vnc {
    stream: Box<dyn Stream>,
    viewer: Viewer,
    /// What was copied on the viewer's machine.
    copied: String,
    /// What the desktop has copied last.
    clipboard: Option<String>,
    /// The lock keys' lights.
    leds: Option<u8>,
    /// How often the server rang.
    bells: u32,
}

/// What viewers ask for where a test does not say.
const ENCODINGS: [i32; 2] = [encodings::ZRLE, encodings::COPY_RECT];

impl Vnc {
    /// Connects, signs in and waits for the first whole picture.
    ///
    /// # Errors
    /// The server's reason, or the connection's end.
    pub fn connect(server: &Server, user: &str) -> Result<Self, String> {
        Self::connect_with(server, user, PixelFormat::BGRX, &ENCODINGS)
    }

    /// The same with a pixel format and encodings of one's own.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_with(
        server: &Server,
        user: &str,
        format: PixelFormat,
        encodings: &[i32],
    ) -> Result<Self, String> {
        let (stream, shake) = sign_in(&server.vnc, &server.cert(), user, &password_of(user))?;
        Self::begin(Box::new(stream), shake, format, encodings)
    }

    /// As [`Self::connect`], at any server's address for viewers.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_at(address: &SocketAddr, cert: &Path, user: &str, password: &str) -> Result<Self, String> {
        let (stream, shake) = sign_in(address, cert, user, password)?;
        Self::begin(Box::new(stream), shake, PixelFormat::BGRX, &ENCODINGS)
    }

    /// Comes to a connection's desktop in nobody's place, with input or without, and waits for the first whole picture.
    ///
    /// # Errors
    /// The desktop process's reason, or the connection's end.
    ///
    /// # Panics
    /// It is no connection.
    pub fn beside(server: &Server, connection: &Value, view_only: bool) -> Result<Self, String> {
        let dir = server.desktop_dir(connection["desktop"]["id"].as_str().expect("a connection"));
        let config = fs::read(dir.join("desktop.json")).map_err(|e| e.to_string())?;
        let config: Value = serde_json::from_slice(&config).map_err(|e| e.to_string())?;
        let open = Open {
            desktop: serde_json::from_value(config["desktop"].clone()).map_err(|e| e.to_string())?,
            generation: config["generation"].as_u64().expect("a generation"),
            session: None,
            purpose: Purpose::View { view_only, shadow: false },
        };
        let mut stream = UnixStream::connect(dir.join("display.sock")).map_err(|e| e.to_string())?;
        stream.patience(LIMIT).map_err(|e| e.to_string())?;
        let line = serde_json::to_string(&open).map_err(|e| e.to_string())? + "\n";
        stream.write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = String::new();
        // Byte by byte: what follows the line is RFB.
        BufReader::with_capacity(1, &stream).read_line(&mut answer).map_err(|e| e.to_string())?;
        if serde_json::from_str(&answer).ok() != Some(Opened::Ok) {
            return Err(answer);
        }
        let mut shake = Handshake::new(Want::None);
        handshake(&mut shake, &mut stream, HandshakeEvent::Secured, Vec::new())?;
        Self::begin(Box::new(stream), shake, PixelFormat::BGRX, &ENCODINGS)
    }

    fn begin(
        stream: Box<dyn Stream>,
        mut shake: Handshake,
        format: PixelFormat,
        encodings: &[i32],
    ) -> Result<Self, String> {
        let mut out = Vec::new();
        write::client_init(true, &mut out);
        let viewer = Viewer::new(None);
        let mut vnc = Self { stream, viewer, copied: String::new(), clipboard: None, leds: None, bells: 0 };
        vnc.send(&out)?;
        vnc.viewer.feed(&shake.take_rest()).map_err(|e| e.to_string())?;
        vnc.init(format, encodings)?;
        Ok(vnc)
    }

    fn init(&mut self, format: PixelFormat, wanted: &[i32]) -> Result<(), String> {
        let size = loop {
            match self.event(LIMIT)? {
                Some(ServerEvent::Init(init)) => break (init.width, init.height),
                Some(_) => {}
                None => return Err("the server does not say the size of its picture".into()),
            }
        };
        let mut out = Vec::new();
        write::set_pixel_format(&format, &mut out);
        self.viewer.set_format(format);
        let always = [
            encodings::RAW,
            encodings::LAST_RECT,
            encodings::EXTENDED_CLIPBOARD,
            encodings::EXTENDED_DESKTOP_SIZE,
            encodings::QEMU_LED_STATE,
            encodings::FENCE,
        ];
        write::set_encodings(&[wanted, &always].concat(), &mut out);
        write::framebuffer_update_request(false, Rect::new(0, 0, size.0, size.1), &mut out);
        self.send(&out)?;
        self.pump("the first picture", |_, updates| updates > 0)
    }

    /// What is on the screen.
    #[must_use]
    pub fn picture(&self) -> &Framebuffer {
        self.viewer.framebuffer()
    }

    /// What is on the screen, after all that has come.
    ///
    /// # Errors
    /// The stream ended.
    pub fn newest(&mut self) -> Result<&Framebuffer, String> {
        while self.step(Duration::from_millis(20))?.is_some() {}
        Ok(self.picture())
    }

    /// The next event within `limit`; after an update, more is asked for.
    fn step(&mut self, limit: Duration) -> Result<Option<ServerEvent>, String> {
        let event = self.event(limit)?;
        if let Some(ServerEvent::Updated { .. }) = event {
            let mut out = Vec::new();
            write::framebuffer_update_request(true, self.viewer.framebuffer().rect(), &mut out);
            self.send(&out)?;
        }
        Ok(event)
    }

    /// Follows the stream until the picture, or the number of updates seen meanwhile, is as wanted.
    ///
    /// # Errors
    /// The stream ended, or it is not within the limit.
    pub fn pump(
        &mut self,
        what: &str,
        mut done: impl FnMut(&Framebuffer, u32) -> bool,
    ) -> Result<(), String> {
        let began = Instant::now();
        let mut updates = 0;
        while began.elapsed() < LIMIT {
            if let Some(ServerEvent::Updated { .. }) = self.step(Duration::from_millis(200))? {
                updates += 1;
            }
            if done(self.viewer.framebuffer(), updates) {
                return Ok(());
            }
        }
        Err(format!("not within {} s: {what}; {updates} updates came", LIMIT.as_secs()))
    }

    /// Presses keys in this order and lets them go in the other.
    ///
    /// # Errors
    /// The stream ended.
    pub fn press(&mut self, keys: &[u32]) -> Result<(), String> {
        let mut out = Vec::new();
        keys.iter().for_each(|key| write::key_event(true, *key, &mut out));
        keys.iter().rev().for_each(|key| write::key_event(false, *key, &mut out));
        self.send(&out)
    }

    /// Types text of printable ASCII and line ends as a US keyboard would.
    ///
    /// # Errors
    /// The stream ended.
    pub fn type_text(&mut self, text: &str) -> Result<(), String> {
        text.chars().try_for_each(|c| match c {
            '\n' => self.press(&[keys::RETURN]),
            c if c.is_ascii_uppercase() || "~!@#$%^&*()_+{}|:\"<>?".contains(c) => {
                self.press(&[keys::SHIFT, u32::from(c)])
            }
            c => self.press(&[u32::from(c)]),
        })
    }

    /// Copies a text on the viewer's machine; it is sent when the server asks for it, which [`Self::pump`] hears.
    ///
    /// # Errors
    /// The stream ended.
    pub fn copy(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(&mut self.copied);
        let mut out = Vec::new();
        write::clipboard(&Clipboard::Notify { text: true }, &mut out);
        self.send(&out)
    }

    /// What the desktop has copied last, as far as the stream was followed.
    #[must_use]
    pub fn clipboard(&self) -> Option<&str> {
        self.clipboard.as_deref()
    }

    /// Asks for sound, as this format if it is one; the server has said that there is some then.
    ///
    /// # Errors
    /// The stream ended, or there is none.
    pub fn listen(&mut self, format: AudioRequest) -> Result<(), String> {
        let wanted = if format == AudioRequest::Opus { encodings::OPUS_AUDIO } else { encodings::QEMU_AUDIO };
        let mut out = Vec::new();
        write::set_encodings(&[encodings::ZRLE, encodings::RAW, encodings::LAST_RECT, wanted], &mut out);
        write::framebuffer_update_request(true, self.viewer.framebuffer().rect(), &mut out);
        self.send(&out)?;
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if let Some(ServerEvent::Acknowledged(number)) = self.event(LIMIT)? {
                if number != wanted {
                    return Err(format!("the server knows {number} and not {wanted}"));
                }
                let mut out = Vec::new();
                write::audio(&format, &mut out);
                write::audio(&AudioRequest::Enable, &mut out);
                return self.send(&out);
            }
        }
        Err("the server does not say that there is sound".into())
    }

    /// The next message of sound; pictures are followed meanwhile.
    ///
    /// # Errors
    /// The stream ended, or there is none within the limit.
    pub fn hear(&mut self) -> Result<Audio, String> {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            match self.event(LIMIT)? {
                Some(ServerEvent::Audio(audio)) => return Ok(audio),
                Some(ServerEvent::Updated { .. }) => {
                    let mut out = Vec::new();
                    write::framebuffer_update_request(true, self.viewer.framebuffer().rect(), &mut out);
                    self.send(&out)?;
                }
                _ => {}
            }
        }
        Err(format!("no sound within {} s", LIMIT.as_secs()))
    }

    /// Follows the stream for a moment.
    ///
    /// # Errors
    /// The stream ended.
    pub fn follow(&mut self) -> Result<(), String> {
        self.event(Duration::from_millis(500)).map(|_| ())
    }

    /// Follows the stream for a moment, and asks for what comes next whenever an update came.
    ///
    /// # Errors
    /// The stream ended.
    pub fn follow_and_ask(&mut self) -> Result<(), String> {
        let began = Instant::now();
        self.pump("a moment", |_, _| began.elapsed() > Duration::from_millis(500))
    }

    /// The lock keys' lights as far as the stream was followed: bit 0 scroll, 1 num, 2 caps.
    #[must_use]
    pub fn leds(&self) -> Option<u8> {
        self.leds
    }

    /// How often the server rang, as far as the stream was followed.
    #[must_use]
    pub fn bells(&self) -> u32 {
        self.bells
    }

    /// Asks for a size of the desktop; gives the server's answer (rfbproto, "ExtendedDesktopSize": 0 done, 3 an invalid
    /// layout, 4 passed on).
    ///
    /// # Errors
    /// The stream ended, or there is no answer within the limit.
    pub fn ask_for_size(&mut self, width: u16, height: u16, screens: &[Screen]) -> Result<u16, String> {
        let mut out = Vec::new();
        write::set_desktop_size(width, height, screens, &mut out);
        self.send(&out)?;
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if let Some(ServerEvent::Resized { reason: 1, status, .. }) = self.step(LIMIT)? {
                return Ok(status);
            }
        }
        Err("no answer to SetDesktopSize".into())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The stream ended.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.send(bytes)
    }

    /// Goes after what was sent, and waits until the server has noticed; says how the stream ended. (Closing at once could
    /// reset the connection, and what was sent last would never be read.)
    ///
    /// # Panics
    /// The server does not close the stream within the limit.
    pub fn leave(self) -> String {
        match self.stream.end() {
            Ok(()) => self.until_closed(),
            Err(e) => e.to_string(),
        }
    }

    /// Reads to the stream's end without a word, which would end a message that has begun; says how it ended.
    ///
    /// # Panics
    /// It does not end within the limit.
    pub fn until_closed(mut self) -> String {
        let began = Instant::now();
        let mut buffer = [0; 64 << 10];
        loop {
            self.stream.patience(LIMIT).expect("a limit can be set");
            match self.stream.read(&mut buffer) {
                Ok(0) => return "the server ended the stream".into(),
                Ok(_) => assert!(began.elapsed() < LIMIT, "the server does not close the stream"),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the server does not close the stream");
                }
                Err(e) => return format!("the stream broke: {e}"),
            }
        }
    }

    /// Answers as viewers do that copy everything that is offered.
    fn answer(&mut self, message: Clipboard) -> Result<(), String> {
        let mut out = Vec::new();
        match message {
            Clipboard::Notify { text: true } => write::clipboard(&Clipboard::Request, &mut out),
            Clipboard::Notify { text: false } => self.clipboard = None,
            Clipboard::Request => write::clipboard(&Clipboard::Provide(self.copied.clone()), &mut out),
            Clipboard::Provide(text) => self.clipboard = Some(text),
            _ => {}
        }
        self.send(&out)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).map_err(|e| format!("sending: {e}"))
    }

    /// The next event within `limit`.
    fn event(&mut self, limit: Duration) -> Result<Option<ServerEvent>, String> {
        let mut buffer = [0; 64 << 10];
        let began = Instant::now();
        loop {
            match self.viewer.next_event().map_err(|e| e.to_string())? {
                Some(ServerEvent::Clipboard(message)) => {
                    self.answer(message)?;
                    continue;
                }
                Some(ServerEvent::Fence { flags, payload }) => {
                    // What came before it is drawn already.
                    let mut out = Vec::new();
                    write::fence(flags & !(1 << 31), &payload, &mut out);
                    self.send(&out)?;
                    continue;
                }
                Some(event) => {
                    match event {
                        ServerEvent::Leds(leds) => self.leds = Some(leds),
                        ServerEvent::Bell => self.bells += 1,
                        _ => {}
                    }
                    return Ok(Some(event));
                }
                None => {}
            }
            let Some(left) = limit.checked_sub(began.elapsed()).filter(|l| !l.is_zero()) else {
                return Ok(None);
            };
            self.stream.patience(left).map_err(|e| e.to_string())?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the server ended the stream".into()),
                Ok(n) => self.viewer.feed(&buffer[..n]).map_err(|e| e.to_string())?,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(e) => return Err(format!("the stream broke: {e}")),
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
) -> Result<(), String> {
    let mut buffer = [0; 4096];
    loop {
        let event = shake.poll(&mut out).map_err(|e| e.to_string())?;
        stream.write_all(&out).and_then(|()| stream.flush()).map_err(|e| e.to_string())?;
        out.clear();
        match event {
            Some(event) if event == wanted => return Ok(()),
            Some(event) => return Err(format!("{event:?} came instead of {wanted:?}")),
            None => {}
        }
        let n = stream.read(&mut buffer).map_err(|e| e.to_string())?;
        if n == 0 {
            return Err("the server went in the handshake".into());
        }
        shake.feed(&buffer[..n]).map_err(|e| e.to_string())?;
    }
}
