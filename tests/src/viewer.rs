//! A VNC viewer without a screen: VeNCrypt X509Plain over TCP, as ordinary viewers come in.

use crate::http::{Tls, tls};
use crate::poll::LIMIT;
use crate::server::{Server, password_of};
use lucarne_rfb::client::{Framebuffer, Handshake, HandshakeEvent, ServerEvent, Viewer, Want, write};
use lucarne_rfb::clipboard::Clipboard;
use lucarne_rfb::encodings;
use lucarne_rfb::rect::Rect;
use lucarne_rfb::security::{Password, Subtype};
use std::io::{self, Read, Write};
use std::net::TcpStream;
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

/// A connected viewer.
pub struct Vnc {
    stream: Tls,
    viewer: Viewer,
    /// What was copied on the viewer's machine.
    copied: String,
    /// What the desktop has copied last.
    clipboard: Option<String>,
}

impl Vnc {
    /// Connects, signs in and waits for the first whole picture.
    ///
    /// # Errors
    /// The server's reason, or the connection's end.
    pub fn connect(server: &Server, user: &str) -> Result<Self, String> {
        let mut tcp = TcpStream::connect(server.vnc).map_err(|e| e.to_string())?;
        tcp.set_read_timeout(Some(LIMIT)).map_err(|e| e.to_string())?;
        let mut shake = Handshake::new(Want::VeNCrypt {
            subtypes: vec![Subtype::X509Plain],
            user: user.to_owned(),
            password: Password::new(password_of(user)),
        });
        handshake(&mut shake, &mut tcp, HandshakeEvent::StartTls(Subtype::X509Plain), Vec::new())?;
        let mut stream = tls(&server.cert(), tcp);
        let mut out = Vec::new();
        shake.tls_started(&mut out).map_err(|e| e.to_string())?;
        handshake(&mut shake, &mut stream, HandshakeEvent::Secured, out)?;
        let mut out = Vec::new();
        write::client_init(true, &mut out);
        let mut vnc = Self { stream, viewer: Viewer::new(None), copied: String::new(), clipboard: None };
        vnc.send(&out)?;
        vnc.viewer.feed(&shake.take_rest()).map_err(|e| e.to_string())?;
        vnc.init()?;
        Ok(vnc)
    }

    fn init(&mut self) -> Result<(), String> {
        let size = loop {
            match self.event(LIMIT)? {
                Some(ServerEvent::Init(init)) => break (init.width, init.height),
                Some(_) => {}
                None => return Err("the server does not say the size of its picture".into()),
            }
        };
        let mut out = Vec::new();
        write::set_encodings(
            &[
                encodings::ZRLE,
                encodings::COPY_RECT,
                encodings::RAW,
                encodings::LAST_RECT,
                encodings::EXTENDED_CLIPBOARD,
                encodings::FENCE,
            ],
            &mut out,
        );
        write::framebuffer_update_request(false, Rect::new(0, 0, size.0, size.1), &mut out);
        self.send(&out)?;
        self.pump("the first picture", |_, updates| updates > 0)
    }

    /// What is on the screen.
    #[must_use]
    pub fn picture(&self) -> &Framebuffer {
        self.viewer.framebuffer()
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
            if let Some(ServerEvent::Updated { .. }) = self.event(Duration::from_millis(200))? {
                updates += 1;
                let mut out = Vec::new();
                write::framebuffer_update_request(true, self.viewer.framebuffer().rect(), &mut out);
                self.send(&out)?;
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

    /// Follows the stream for a moment.
    ///
    /// # Errors
    /// The stream ended.
    pub fn follow(&mut self) -> Result<(), String> {
        self.event(Duration::from_millis(500)).map(|_| ())
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
                Some(event) => return Ok(Some(event)),
                None => {}
            }
            let Some(left) = limit.checked_sub(began.elapsed()).filter(|l| !l.is_zero()) else {
                return Ok(None);
            };
            self.stream.sock.set_read_timeout(Some(left)).map_err(|e| e.to_string())?;
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
