//! What a client sends after ClientInit (rfbproto, "Client to Server Messages"), parsed as the bytes come.
//!
//! Bounded: at most [`MAX_PENDING`] bytes wait, at most [`MAX_CUT_TEXT`] bytes of clipboard text are kept, and longer
//! text is skipped without being stored. Knows nothing of what the messages do.

use crate::audio::{AudioError, AudioRequest};
use crate::clipboard::{Clipboard, ClipboardError};
use crate::encodings::EXTENDED_MOUSE_BUTTONS;
use crate::pixel::{PixelFormat, PixelFormatError};
use crate::rect::Rect;
use crate::wire::{Input, Reader, from_latin1};

/// The longest clipboard message that is kept, bytes. Longer ones are skipped and reported: a user who copies a whole
/// log file should lose that copy, not the desktop.
pub const MAX_CUT_TEXT: usize = 1 << 20;

/// The most encodings that a client may list. Real clients list fewer than a hundred.
pub const MAX_ENCODINGS: usize = 1024;

/// The most that may wait unparsed, bytes: the longest message and a chunk as large as it.
pub const MAX_PENDING: usize = 2 * MAX_CUT_TEXT + 64;

/// One screen of SetDesktopSize and ExtendedDesktopSize (SCREEN in rfbproto).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// The screen's id, which its creator chose.
    pub id: u32,
    /// The part of the framebuffer that it shows.
    pub rect: Rect,
    /// Unused, to be preserved.
    pub flags: u32,
}

/// A message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// 0: how pixels are to be sent from now on.
    SetPixelFormat(PixelFormat),
    /// 2: encodings and pseudo-encodings, most preferred first.
    SetEncodings(Vec<i32>),
    /// 3: the client wants the area: all of it, or what changed (`incremental`).
    FramebufferUpdateRequest {
        /// Only what changed.
        incremental: bool,
        /// The area; it may lie outside the framebuffer.
        rect: Rect,
    },
    /// 4: a key by its X11 keysym.
    KeyEvent {
        /// Pressed or released.
        down: bool,
        /// X11 keysym.
        keysym: u32,
    },
    /// 5: the pointer.
    PointerEvent {
        /// Bit 0 left, 1 middle, 2 right, 3 to 6 the wheel up, down, left, right, 7 back, 8 forward.
        buttons: u16,
        /// Position, or delta + 0x7fff when the server asked for relative motion.
        x: u16,
        /// Position, or delta + 0x7fff.
        y: u16,
    },
    /// 6: clipboard text (ISO 8859-1 on the wire).
    CutText(String),
    /// 6 with a negative length: the extended clipboard.
    Clipboard(Clipboard),
    /// 6, with more text than is kept: it was skipped.
    CutTextTooLong {
        /// Bytes on the wire; for compressed text, [`MAX_CUT_TEXT`] is what it would have passed when unpacked.
        length: usize,
    },
    /// 150: send updates without requests, or stop.
    EnableContinuousUpdates {
        /// Start or stop.
        enable: bool,
        /// The area.
        rect: Rect,
    },
    /// 248: a fence, at most 64 bytes.
    Fence {
        /// Bits as in rfbproto, "ClientFence".
        flags: u32,
        /// To be sent back.
        payload: Vec<u8>,
    },
    /// 250: a power request: 2 shut down, 3 reboot, 4 reset.
    Xvp {
        /// Version of the extension.
        version: u8,
        /// The code.
        code: u8,
    },
    /// 251: another size of the framebuffer.
    SetDesktopSize {
        /// Width, pixels.
        width: u16,
        /// Height, pixels.
        height: u16,
        /// The screens on it.
        screens: Vec<Screen>,
    },
    /// 255, 0: a key by its place on the keyboard.
    ExtendedKeyEvent {
        /// Pressed or released.
        down: bool,
        /// X11 keysym, 0 when the client has none.
        keysym: u32,
        /// XT scancode, extended ones with bit 7 set.
        keycode: u32,
    },
    /// 255, 1: sound, which only clients that were told of it should ask for.
    Audio(AudioRequest),
}

/// Why a client's bytes are refused. The stream can't be understood any more: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A message that is not known, or was not negotiated.
    #[error("the client sent a message of unknown type {0}")]
    Unknown(u8),
    /// A QEMU message that is not known.
    #[error("the client sent a QEMU message of unknown sub-type {0}")]
    UnknownQemu(u8),
    /// A pixel format that can't be served.
    #[error("the client asked for a pixel format that cannot be served")]
    PixelFormat(#[from] PixelFormatError),
    /// Too many encodings.
    #[error("the client listed {0} encodings; at most {MAX_ENCODINGS} are taken")]
    TooManyEncodings(usize),
    /// A fence with more payload than the protocol allows.
    #[error("the client sent a fence of {0} bytes; the protocol allows 64")]
    FenceTooLong(usize),
    /// A broken extended clipboard message.
    #[error("the client sent a broken clipboard message")]
    Clipboard(#[source] ClipboardError),
    /// An audio message that makes no sense.
    #[error("the client sent a broken audio message")]
    Audio(#[from] AudioError),
    /// More bytes wait than any message needs: the caller does not ask for messages, or feeds too much at once.
    #[error("more than {MAX_PENDING} bytes of the client's messages wait to be handled")]
    Backlog,
}

/// Parses a client's messages. After an error it stays silent.
#[derive(Debug, Default)]
pub struct ClientMessages {
    input: Input,
    /// Bytes of an oversized cut text still to come and to be dropped.
    skip: usize,
    extended_mouse: bool,
    failed: bool,
}

impl ClientMessages {
    /// A parser that expects the first message after ClientInit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn after_handshake(rest: Vec<u8>) -> Self {
        Self { input: Input::from_bytes(rest), ..Self::default() }
    }

    /// Takes bytes in any chunking; then call [`Self::next_message`] until it gives none.
    ///
    /// # Errors
    /// Too much waits.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), MessageError> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let bytes = &bytes[skipped..];
        if self.input.len() + bytes.len() > MAX_PENDING {
            self.failed = true;
            return Err(MessageError::Backlog);
        }
        self.input.push(bytes);
        Ok(())
    }

    /// Whether a message has begun and its rest is still to come, once [`Self::next_message`] gives none.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.skip > 0 || self.input.len() > 0
    }

    /// The next whole message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no message; close the connection.
    pub fn next_message(&mut self) -> Result<Option<ClientMessage>, MessageError> {
        if self.failed {
            return Ok(None);
        }
        let mut reader = Reader::new(self.input.pending());
        match self.parse(&mut reader) {
            Ok(None) => Ok(None),
            Ok(Some(message)) => {
                let n = reader.consumed();
                self.input.consume(n);
                self.after(&message);
                Ok(Some(message))
            }
            Err(e) => {
                self.failed = true;
                Err(e)
            }
        }
    }

    fn after(&mut self, message: &ClientMessage) {
        match message {
            // From its SetEncodings on, a client's high button bit means a longer message (rfbproto, "PointerEvent").
            ClientMessage::SetEncodings(list) => {
                self.extended_mouse = list.contains(&EXTENDED_MOUSE_BUTTONS);
            }
            // A compressed text that unpacks to too much was parsed whole, so nothing is left to skip.
            ClientMessage::CutTextTooLong { length } if *length > MAX_CUT_TEXT => {
                let here = self.input.len().min(*length);
                self.input.consume(here);
                self.skip = length - here;
            }
            _ => {}
        }
    }

    fn parse(&self, r: &mut Reader<'_>) -> Result<Option<ClientMessage>, MessageError> {
        let Some(kind) = r.u8() else { return Ok(None) };
        match kind {
            0 => set_pixel_format(r),
            2 => set_encodings(r),
            3 => Ok(update_request(r)),
            4 => Ok(key_event(r)),
            5 => Ok(self.pointer_event(r)),
            6 => cut_text(r),
            150 => Ok(continuous_updates(r)),
            248 => fence(r),
            250 => Ok(xvp(r)),
            251 => Ok(set_desktop_size(r)),
            255 => qemu(r),
            other => Err(MessageError::Unknown(other)),
        }
    }

    fn pointer_event(&self, r: &mut Reader<'_>) -> Option<ClientMessage> {
        let mask = u16::from(r.u8()?);
        let (x, y) = (r.u16()?, r.u16()?);
        let buttons = if self.extended_mouse && mask & 0x80 != 0 {
            mask & 0x7f | u16::from(r.u8()?) << 7
        } else {
            mask
        };
        Some(ClientMessage::PointerEvent { buttons, x, y })
    }
}

type Parsed = Result<Option<ClientMessage>, MessageError>;

fn set_pixel_format(r: &mut Reader<'_>) -> Parsed {
    let (Some(_), Some(Ok(wire))) = (r.bytes(3), r.bytes(PixelFormat::WIRE_LEN).map(TryInto::try_into))
    else {
        return Ok(None);
    };
    Ok(Some(ClientMessage::SetPixelFormat(PixelFormat::parse(&wire)?)))
}

fn set_encodings(r: &mut Reader<'_>) -> Parsed {
    let (Some(_), Some(count)) = (r.u8(), r.u16()) else { return Ok(None) };
    let count = usize::from(count);
    if count > MAX_ENCODINGS {
        return Err(MessageError::TooManyEncodings(count));
    }
    let Some(body) = r.bytes(count * 4) else { return Ok(None) };
    let list = body.chunks_exact(4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Some(ClientMessage::SetEncodings(list)))
}

fn update_request(r: &mut Reader<'_>) -> Option<ClientMessage> {
    Some(ClientMessage::FramebufferUpdateRequest { incremental: r.u8()? != 0, rect: r.rect()? })
}

fn key_event(r: &mut Reader<'_>) -> Option<ClientMessage> {
    let down = r.u8()? != 0;
    r.u16()?;
    Some(ClientMessage::KeyEvent { down, keysym: r.u32()? })
}

fn cut_text(r: &mut Reader<'_>) -> Parsed {
    let (Some(_), Some(length)) = (r.bytes(3), r.i32()) else { return Ok(None) };
    let extended = length < 0;
    let length = length.unsigned_abs() as usize;
    if length > MAX_CUT_TEXT {
        return Ok(Some(ClientMessage::CutTextTooLong { length }));
    }
    let Some(body) = r.bytes(length) else { return Ok(None) };
    if !extended {
        return Ok(Some(ClientMessage::CutText(from_latin1(body))));
    }
    match Clipboard::parse(body) {
        Ok(message) => Ok(Some(ClientMessage::Clipboard(message))),
        Err(ClipboardError::TooLong) => Ok(Some(ClientMessage::CutTextTooLong { length: MAX_CUT_TEXT })),
        Err(e) => Err(MessageError::Clipboard(e)),
    }
}

fn continuous_updates(r: &mut Reader<'_>) -> Option<ClientMessage> {
    Some(ClientMessage::EnableContinuousUpdates { enable: r.u8()? != 0, rect: r.rect()? })
}

fn fence(r: &mut Reader<'_>) -> Parsed {
    let (Some(_), Some(flags), Some(length)) = (r.bytes(3), r.u32(), r.u8()) else { return Ok(None) };
    let length = usize::from(length);
    if length > 64 {
        return Err(MessageError::FenceTooLong(length));
    }
    Ok(r.bytes(length).map(|payload| ClientMessage::Fence { flags, payload: payload.to_vec() }))
}

fn xvp(r: &mut Reader<'_>) -> Option<ClientMessage> {
    r.u8()?;
    Some(ClientMessage::Xvp { version: r.u8()?, code: r.u8()? })
}

fn set_desktop_size(r: &mut Reader<'_>) -> Option<ClientMessage> {
    r.u8()?;
    let (width, height) = (r.u16()?, r.u16()?);
    let count = usize::from(r.u8()?);
    r.u8()?;
    if r.remaining() < count * 16 {
        return None;
    }
    let screens = (0..count)
        .map(|_| Some(Screen { id: r.u32()?, rect: r.rect()?, flags: r.u32()? }))
        .collect::<Option<_>>()?;
    Some(ClientMessage::SetDesktopSize { width, height, screens })
}

fn qemu(r: &mut Reader<'_>) -> Parsed {
    match r.u8() {
        None => Ok(None),
        Some(0) => Ok(extended_key_event(r)),
        Some(1) => Ok(AudioRequest::parse(r)?.map(ClientMessage::Audio)),
        Some(other) => Err(MessageError::UnknownQemu(other)),
    }
}

fn extended_key_event(r: &mut Reader<'_>) -> Option<ClientMessage> {
    let down = r.u16()? != 0;
    Some(ClientMessage::ExtendedKeyEvent { down, keysym: r.u32()?, keycode: r.u32()? })
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
