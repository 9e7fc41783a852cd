//! A viewer without a screen: what a server sends after ClientInit, as events and a framebuffer.
//!
//! ```text
//! Init ─► Message ─► Rects(left) ─► Rect(header) ─┐
//!            ▲          ▲  └──────────────────────┘
//!            └──────────┴─ after the last, or LastRect
//! ```
//!
//! Bounded by [`super::MAX_PIXELS`], 64 MiB of one rectangle's data and 1 MiB of text or sound. It knows nothing of
//! sockets, and writes nothing: the caller sends requests with [`super::write`].

use super::codecs::{Codecs, JpegDecoder};
use super::cursor::Cursor;
use super::decode::{DecodeError, Decoded, Decoders, MAX_RECT_BYTES};
use super::framebuffer::{Framebuffer, MAX_PIXELS};
use crate::audio::{Audio, AudioError};
use crate::clipboard::{Clipboard, ClipboardError};
use crate::encodings as enc;
use crate::pixel::{PixelFormat, PixelFormatError, PixelReader};
use crate::rect::Rect;
use crate::server::{MAX_CUT_TEXT, Screen};
use crate::wire::{Input, Reader, from_latin1};

/// The longest name of a desktop, bytes.
const MAX_NAME: usize = 4096;

/// The most that may wait unparsed, bytes.
const MAX_PENDING: usize = MAX_RECT_BYTES + (2 << 20);

/// ServerInit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInit {
    /// Width of the framebuffer, pixels.
    pub width: u16,
    /// Height of the framebuffer, pixels.
    pub height: u16,
    /// The server's format, used until the client sets another.
    pub format: PixelFormat,
    /// Name of the desktop.
    pub name: String,
}

/// What the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// ServerInit: the first event.
    Init(ServerInit),
    /// One rectangle of pixels was drawn.
    Drawn {
        /// Where.
        rect: Rect,
        /// How it was encoded.
        encoding: i32,
    },
    /// A FramebufferUpdate ended.
    Updated {
        /// Rectangles in it, LastRect not counted.
        rects: u32,
    },
    /// A new shape of the pointer.
    Cursor(Cursor),
    /// DesktopSize, or ExtendedDesktopSize with its reason, status and screens. The framebuffer has its new size when
    /// the status is 0.
    Resized {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
        /// 0 server, 1 this client, 2 another.
        reason: u16,
        /// 0 done; else why not.
        status: u16,
        /// The layout; empty with DesktopSize.
        screens: Vec<Screen>,
    },
    /// DesktopName.
    Name(String),
    /// QEMU Pointer Motion Change.
    PointerMotion {
        /// Positions, not deltas.
        absolute: bool,
    },
    /// The server understands this extension.
    Acknowledged(i32),
    /// The lock keys: bit 0 scroll, 1 num, 2 caps.
    Leds(u8),
    /// Bell.
    Bell,
    /// ServerCutText.
    CutText(String),
    /// ServerCutText of the extended clipboard.
    Clipboard(Clipboard),
    /// EndOfContinuousUpdates.
    EndOfContinuousUpdates,
    /// ServerFence.
    Fence {
        /// Bits as in rfbproto, "ClientFence".
        flags: u32,
        /// To be sent back.
        payload: Vec<u8>,
    },
    /// xvp.
    Xvp {
        /// Version of the extension.
        version: u8,
        /// 0 refused, 1 the extension is there.
        code: u8,
    },
    /// Sound.
    Audio(Audio),
}

/// Why a server's bytes are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewerError {
    /// A message that is not known.
    #[error("the server sent a message of unknown type {0}")]
    Unknown(u8),
    /// A pixel format that makes no sense.
    #[error("the server announced a pixel format that makes no sense")]
    PixelFormat(#[from] PixelFormatError),
    /// A name or text that is too long.
    #[error("the server sent a text of {0} bytes, which is too long")]
    TextTooLong(usize),
    /// A broken extended clipboard message.
    #[error("the server sent a broken clipboard message")]
    Clipboard(#[from] ClipboardError),
    /// A QEMU message that is not known.
    #[error("the server sent a QEMU message of unknown sub-type {0}")]
    UnknownQemu(u8),
    /// An audio message that makes no sense.
    #[error("the server sent a broken audio message")]
    Audio(#[from] AudioError),
    /// A rectangle that can't be decoded.
    #[error("the server sent a rectangle that cannot be decoded")]
    Decode(#[from] DecodeError),
    /// The caller feeds without asking for events.
    #[error("more than {MAX_PENDING} bytes wait to be decoded")]
    Backlog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Init,
    Message,
    /// Rectangles that are left (`None` until LastRect) and that were.
    Rects {
        left: Option<u16>,
        seen: u32,
    },
    Rect {
        left: Option<u16>,
        seen: u32,
        rect: Rect,
        encoding: i32,
    },
    Failed,
}

/// Decodes what one server sends.
pub struct Viewer {
    state: State,
    input: Input,
    decoders: Decoders,
    framebuffer: Framebuffer,
    max_pixels: u64,
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = (self.framebuffer.width(), self.framebuffer.height());
        f.debug_struct("Viewer").field("state", &self.state).field("size", &size).finish_non_exhaustive()
    }
}

type Parsed = Result<Option<ServerEvent>, ViewerError>;

impl Viewer {
    /// Expects ServerInit. Without a JPEG decoder the caller must not ask for a quality level.
    #[must_use]
    pub fn new(jpeg: Option<JpegDecoder>) -> Self {
        Self::with_codecs(Codecs { jpeg, ..Codecs::default() })
    }

    /// The same with decoders for more than JPEG.
    #[must_use]
    pub fn with_codecs(codecs: Codecs) -> Self {
        Self {
            state: State::Init,
            input: Input::default(),
            decoders: Decoders::new(PixelReader::new(PixelFormat::BGRX), codecs),
            framebuffer: Framebuffer::default(),
            max_pixels: MAX_PIXELS,
        }
    }

    /// Takes only framebuffers of at most this many pixels, if that is less than [`MAX_PIXELS`].
    #[must_use]
    pub fn limited_to(self, max_pixels: u64) -> Self {
        Self { max_pixels: max_pixels.min(MAX_PIXELS), ..self }
    }

    /// What the server has drawn.
    #[must_use]
    pub fn framebuffer(&self) -> &Framebuffer {
        &self.framebuffer
    }

    /// The caller sent SetPixelFormat. It must do so only while no update is under way, as RFB has no answer to it.
    pub fn set_format(&mut self, format: PixelFormat) {
        self.decoders.set_format(PixelReader::new(format));
    }

    /// Takes bytes in any chunking; then call [`Self::next_event`] until it gives none.
    ///
    /// # Errors
    /// Too much waits.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ViewerError> {
        if self.input.len() + bytes.len() > MAX_PENDING {
            self.state = State::Failed;
            return Err(ViewerError::Backlog);
        }
        self.input.push(bytes);
        Ok(())
    }

    /// The next event; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes make no sense; after that there are no more events.
    pub fn next_event(&mut self) -> Parsed {
        loop {
            let before = self.state;
            let result = match self.state {
                State::Init => self.init(),
                State::Message => self.message(),
                State::Rects { left, seen } => self.rects(left, seen),
                State::Rect { .. } => self.rect(),
                State::Failed => return Ok(None),
            };
            match result {
                Ok(None) if self.state != before => {}
                Err(e) => {
                    self.state = State::Failed;
                    return Err(e);
                }
                other => return other,
            }
        }
    }

    fn init(&mut self) -> Parsed {
        let mut r = Reader::new(self.input.pending());
        let (Some(width), Some(height), Some(Ok(format))) =
            (r.u16(), r.u16(), r.bytes(PixelFormat::WIRE_LEN).map(TryInto::try_into))
        else {
            return Ok(None);
        };
        let format = PixelFormat::parse(&format)?;
        let Some(name) = text(&mut r, MAX_NAME)? else { return Ok(None) };
        let n = r.consumed();
        self.set_size(width, height)?;
        self.set_format(format);
        self.input.consume(n);
        self.state = State::Message;
        Ok(Some(ServerEvent::Init(ServerInit { width, height, format, name })))
    }

    fn message(&mut self) -> Parsed {
        let mut r = Reader::new(self.input.pending());
        let Some(kind) = r.u8() else { return Ok(None) };
        if kind == 0 {
            let (Some(_), Some(count)) = (r.u8(), r.u16()) else { return Ok(None) };
            self.input.consume(4);
            self.state = State::Rects { left: (count != u16::MAX).then_some(count), seen: 0 };
            return Ok(None);
        }
        let event = match kind {
            2 => Some(ServerEvent::Bell),
            3 => cut_text(&mut r)?,
            150 => Some(ServerEvent::EndOfContinuousUpdates),
            248 => fence(&mut r),
            250 => xvp(&mut r),
            255 => qemu(&mut r)?,
            other => return Err(ViewerError::Unknown(other)),
        };
        if event.is_some() {
            let n = r.consumed();
            self.input.consume(n);
        }
        Ok(event)
    }

    fn rects(&mut self, left: Option<u16>, seen: u32) -> Parsed {
        if left == Some(0) {
            self.state = State::Message;
            return Ok(Some(ServerEvent::Updated { rects: seen }));
        }
        let mut r = Reader::new(self.input.pending());
        let (Some(rect), Some(encoding)) = (r.rect(), r.i32()) else { return Ok(None) };
        self.input.consume(12);
        if encoding == enc::LAST_RECT {
            self.state = State::Rects { left: Some(0), seen };
        } else {
            let left = left.map(|n| n - 1);
            self.state = State::Rect { left, seen: seen.saturating_add(1), rect, encoding };
        }
        Ok(None)
    }

    fn rect(&mut self) -> Parsed {
        let State::Rect { left, seen, rect, encoding } = self.state else { return Ok(None) };
        let mut r = Reader::new(self.input.pending());
        let mut consumed = 0;
        let event = match encoding {
            enc::DESKTOP_SIZE => Some(self.resize(rect.w, rect.h, 0, 0, Vec::new())?),
            enc::EXTENDED_DESKTOP_SIZE => {
                let Some(screens) = screens(&mut r) else { return Ok(None) };
                consumed = r.consumed();
                Some(self.resize(rect.w, rect.h, rect.x, rect.y, screens)?)
            }
            enc::DESKTOP_NAME => {
                let name = text(&mut r, MAX_NAME)?.map(ServerEvent::Name);
                consumed = r.consumed();
                name
            }
            enc::QEMU_POINTER_MOTION => Some(ServerEvent::PointerMotion { absolute: rect.x != 0 }),
            enc::QEMU_EXTENDED_KEY | enc::QEMU_AUDIO | enc::OPUS_AUDIO | enc::EXTENDED_MOUSE_BUTTONS => {
                Some(ServerEvent::Acknowledged(encoding))
            }
            enc::QEMU_LED_STATE => {
                consumed = 1;
                r.u8().map(ServerEvent::Leds)
            }
            _ => {
                let pending = self.input.pending();
                let decoded =
                    self.decoders.rect(rect, encoding, pending, &mut consumed, &mut self.framebuffer)?;
                match decoded {
                    Some(Decoded::Pixels) => Some(ServerEvent::Drawn { rect, encoding }),
                    Some(Decoded::Cursor(cursor)) => Some(ServerEvent::Cursor(cursor)),
                    Some(Decoded::Nothing) => {
                        self.input.consume(consumed);
                        self.state = State::Rects { left, seen };
                        return Ok(None);
                    }
                    // Raw and Hextile are drawn as they come, so their bytes are spent before the rectangle is whole.
                    None => {
                        self.input.consume(consumed);
                        None
                    }
                }
            }
        };
        if event.is_some() {
            self.input.consume(consumed);
            self.state = State::Rects { left, seen };
        }
        Ok(event)
    }

    fn resize(
        &mut self,
        width: u16,
        height: u16,
        reason: u16,
        status: u16,
        screens: Vec<Screen>,
    ) -> Result<ServerEvent, ViewerError> {
        if status == 0 && (width, height) != (self.framebuffer.width(), self.framebuffer.height()) {
            self.set_size(width, height)?;
        }
        Ok(ServerEvent::Resized { width, height, reason, status, screens })
    }

    fn set_size(&mut self, width: u16, height: u16) -> Result<(), DecodeError> {
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(DecodeError::Size { width, height });
        }
        // Two of the largest at once would be too much memory.
        self.framebuffer = Framebuffer::default();
        self.framebuffer = Framebuffer::new(width, height)?;
        Ok(())
    }
}

/// A string with its length before it.
fn text(r: &mut Reader<'_>, limit: usize) -> Result<Option<String>, ViewerError> {
    let Some(length) = r.u32().map(|n| n as usize) else { return Ok(None) };
    if length > limit {
        return Err(ViewerError::TextTooLong(length));
    }
    Ok(r.bytes(length).map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

fn cut_text(r: &mut Reader<'_>) -> Parsed {
    let (Some(_), Some(length)) = (r.bytes(3), r.i32()) else { return Ok(None) };
    let extended = length < 0;
    let length = length.unsigned_abs() as usize;
    if length > MAX_CUT_TEXT {
        return Err(ViewerError::TextTooLong(length));
    }
    let Some(body) = r.bytes(length) else { return Ok(None) };
    Ok(Some(if extended {
        ServerEvent::Clipboard(Clipboard::parse(body)?)
    } else {
        ServerEvent::CutText(from_latin1(body))
    }))
}

fn fence(r: &mut Reader<'_>) -> Option<ServerEvent> {
    r.bytes(3)?;
    let flags = r.u32()?;
    let length = r.u8()?;
    Some(ServerEvent::Fence { flags, payload: r.bytes(length.into())?.to_vec() })
}

fn xvp(r: &mut Reader<'_>) -> Option<ServerEvent> {
    r.u8()?;
    Some(ServerEvent::Xvp { version: r.u8()?, code: r.u8()? })
}

fn qemu(r: &mut Reader<'_>) -> Parsed {
    match r.u8() {
        None => Ok(None),
        Some(1) => Ok(Audio::parse(r)?.map(ServerEvent::Audio)),
        Some(other) => Err(ViewerError::UnknownQemu(other)),
    }
}

fn screens(r: &mut Reader<'_>) -> Option<Vec<Screen>> {
    let count = r.u8()?;
    r.bytes(3)?;
    (0..count).map(|_| Some(Screen { id: r.u32()?, rect: r.rect()?, flags: r.u32()? })).collect()
}

#[cfg(test)]
#[path = "viewer_tests.rs"]
mod tests;
