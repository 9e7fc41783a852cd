//! The extended clipboard: the payload of cut-text messages with a negative length (rfbproto, "Extended Clipboard
//! Pseudo-Encoding"). Plain text only; other formats are counted out of announcements and skipped in data.
//!
//! ```text
//! owner of the text            the other side
//!   │ ── Notify(text) ──────────►  │   there is something
//!   │ ◄───────────── Request(text) │
//!   │ ── Provide(text) ─────────►  │
//! ```
//!
//! Knows nothing of guests or of who may use the clipboard.

use crate::wire::{Put, Reader};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The longest text that is taken, bytes of UTF-8 on the wire.
pub const MAX_TEXT: usize = 1 << 20;

const TEXT: u32 = 1;
const FORMATS: u32 = 0xffff;
const CAPS: u32 = 1 << 24;
const REQUEST: u32 = 1 << 25;
const PEEK: u32 = 1 << 26;
const NOTIFY: u32 = 1 << 27;
const PROVIDE: u32 = 1 << 28;
const ACTIONS: u32 = 0xff00_0000;

/// One message of the extended clipboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clipboard {
    /// What the sender understands.
    Caps {
        /// The largest text that may be provided without a request, bytes; `None` when text is not understood.
        text: Option<u32>,
    },
    /// Send the text.
    Request,
    /// Say whether there is text.
    Peek,
    /// Whether there is text.
    Notify {
        /// There is.
        text: bool,
    },
    /// The text, with `\n` at the end of lines.
    Provide(String),
    /// Data without text, an action without text or an unknown action: nothing to do.
    Nothing,
}

/// Why a payload is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClipboardError {
    /// It ends too early.
    #[error("the extended clipboard message is cut short")]
    Short,
    /// Its compressed data is broken.
    #[error("the extended clipboard message holds data that zlib cannot read")]
    Zlib,
    /// Its text is too long.
    #[error("the clipboard's text is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// Its text is not UTF-8.
    #[error("the clipboard's text is not UTF-8")]
    NotUtf8,
}

impl Clipboard {
    /// Understands a payload: everything after the length of the cut-text message.
    ///
    /// # Errors
    /// The payload is malformed or its text too long.
    pub fn parse(payload: &[u8]) -> Result<Self, ClipboardError> {
        let mut r = Reader::new(payload);
        let flags = r.u32().ok_or(ClipboardError::Short)?;
        let text = flags & TEXT != 0;
        if flags & CAPS != 0 {
            let mut sizes = [0u32; 16];
            for size in sizes.iter_mut().take((flags & FORMATS).count_ones() as usize) {
                *size = r.u32().ok_or(ClipboardError::Short)?;
            }
            return Ok(Self::Caps { text: text.then_some(sizes[0]) });
        }
        Ok(match flags & ACTIONS {
            REQUEST if text => Self::Request,
            PEEK => Self::Peek,
            NOTIFY => Self::Notify { text },
            PROVIDE if text => Self::Provide(inflate_text(&payload[r.consumed()..])?),
            _ => Self::Nothing,
        })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Caps { text } => {
                let format = if text.is_some() { TEXT } else { 0 };
                out.put_u32(CAPS | REQUEST | PEEK | NOTIFY | PROVIDE | format);
                text.iter().for_each(|&size| out.put_u32(size));
            }
            Self::Request => out.put_u32(REQUEST | TEXT),
            Self::Peek => out.put_u32(PEEK),
            Self::Notify { text } => out.put_u32(NOTIFY | u32::from(*text)),
            Self::Provide(text) => {
                out.put_u32(PROVIDE | TEXT);
                deflate_text(text, out);
            }
            Self::Nothing => out.put_u32(0),
        }
    }
}

fn inflate_text(data: &[u8]) -> Result<String, ClipboardError> {
    let mut zlib = Decompress::new(true);
    // Room grows only with what really comes out, up to the size that the text claims.
    let mut text: Vec<u8> = Vec::with_capacity(4096.min(MAX_TEXT));
    let mut wanted = 4;
    loop {
        if text.len() >= 4 {
            let size = u32::from_be_bytes([text[0], text[1], text[2], text[3]]) as usize;
            if size > MAX_TEXT {
                return Err(ClipboardError::TooLong);
            }
            wanted = 4 + size;
            if text.len() >= wanted {
                break;
            }
        }
        if text.len() == text.capacity() {
            text.reserve(text.len());
        }
        let (before_in, before_out) = (zlib.total_in(), text.len());
        let rest = &data[usize::try_from(before_in).unwrap_or(data.len()).min(data.len())..];
        let status =
            zlib.decompress_vec(rest, &mut text, FlushDecompress::Sync).map_err(|_| ClipboardError::Zlib)?;
        let stuck = text.len() == before_out && zlib.total_in() == before_in;
        if text.len() < 4 && (stuck || status == Status::StreamEnd) {
            return Err(ClipboardError::Short);
        }
        if text.len() < wanted && (stuck || status == Status::StreamEnd) && text.len() == before_out {
            return Err(ClipboardError::Short);
        }
    }
    text.truncate(wanted);
    text.drain(..4);
    while text.last() == Some(&0) {
        text.pop();
    }
    let text = String::from_utf8(text).map_err(|_| ClipboardError::NotUtf8)?;
    Ok(text.replace("\r\n", "\n"))
}

fn deflate_text(text: &str, out: &mut Vec<u8>) {
    let body = text.replace("\r\n", "\n").replace('\n', "\r\n");
    let mut plain = Vec::with_capacity(body.len() + 5);
    plain.put_u32(body.len() as u32 + 1);
    plain.put_bytes(body.as_bytes());
    plain.put_u8(0);
    let mut zlib = Compress::new(Compression::fast(), true);
    let mut packed = Vec::with_capacity(plain.len() / 2 + 64);
    loop {
        let done = usize::try_from(zlib.total_in()).unwrap_or(plain.len());
        match zlib.compress_vec(&plain[done..], &mut packed, FlushCompress::Finish) {
            Ok(Status::StreamEnd) | Err(_) => break,
            Ok(_) => packed.reserve(packed.capacity()),
        }
    }
    out.put_bytes(&packed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(c: &Clipboard) -> Vec<u8> {
        let mut out = Vec::new();
        c.write(&mut out);
        out
    }

    proptest! {
        #[test]
        fn messages_round_trip(text in "(\\PC|\n){0,3000}", choice in 0..6) {
            let message = match choice {
                0 => Clipboard::Caps { text: Some(77) },
                1 => Clipboard::Request,
                2 => Clipboard::Peek,
                3 => Clipboard::Notify { text: true },
                4 => Clipboard::Notify { text: false },
                _ => Clipboard::Provide(text),
            };
            prop_assert_eq!(Clipboard::parse(&payload(&message)), Ok(message));
        }

        #[test]
        fn soup_never_panics(flags in any::<u32>(), rest in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Clipboard::parse(&[&flags.to_be_bytes()[..], &rest].concat());
        }

        #[test]
        fn a_cut_provide_is_an_error(cut in 5usize..40) {
            let whole = payload(&Clipboard::Provide("some text of no great length, not very repetitive".into()));
            prop_assert!(Clipboard::parse(&whole[..cut.min(whole.len() - 20)]).is_err());
        }
    }

    #[test]
    fn a_small_message_cannot_inflate_beyond_the_limit() {
        let bomb = payload(&Clipboard::Provide("a".repeat(MAX_TEXT + 1)));
        assert!(bomb.len() < 20_000);
        assert_eq!(Clipboard::parse(&bomb), Err(ClipboardError::TooLong));
    }

    #[test]
    fn lines_end_as_each_side_expects() {
        let wire = payload(&Clipboard::Provide("a\nb".into()));
        let mut plain = Vec::with_capacity(100);
        Decompress::new(true).decompress_vec(&wire[4..], &mut plain, FlushDecompress::Sync).unwrap();
        assert_eq!(plain, b"\0\0\0\x05a\r\nb\0");
    }
}
