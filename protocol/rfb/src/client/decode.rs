//! Decodes the rectangles of FramebufferUpdate messages as their bytes arrive.
//!
//! A rectangle is decoded when all its bytes are there, except Raw (row by row) and Hextile (tile by tile), whose sizes
//! are not bounded otherwise. Knows nothing of messages.

use super::codecs::Codecs;
use super::cursor::{self, Cursor};
use super::framebuffer::Framebuffer;
use super::h264::H264;
use super::hextile::Hextile;
use super::inflate::Inflate;
use super::jpeg::Jpeg;
use super::tight::{Kind, Tight};
use super::zrle::Zrle;
use crate::encodings as enc;
use crate::pixel::PixelReader;
use crate::rect::Rect;
use crate::wire::Reader;

/// The longest data of one rectangle, bytes, where a length is sent.
pub(super) const MAX_RECT_BYTES: usize = 64 << 20;

/// The encodings whose rectangle is a part of the framebuffer.
const PIXELS: [i32; 9] = [
    enc::RAW,
    enc::COPY_RECT,
    enc::HEXTILE,
    enc::ZLIB,
    enc::TIGHT,
    enc::ZRLE,
    enc::JPEG,
    enc::OPEN_H264,
    enc::TIGHT_PNG,
];

/// Why a rectangle could not be decoded. The stream can't be understood any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An encoding that this client does not know.
    #[error("the server sent a rectangle in encoding {0}, which was not asked for")]
    Encoding(i32),
    /// A rectangle, or its source, is not on the framebuffer.
    #[error("the rectangle {rect:?} is outside the framebuffer of {width}×{height} pixels")]
    Outside {
        /// The rectangle.
        rect: Rect,
        /// Of the framebuffer.
        width: u16,
        /// Of the framebuffer.
        height: u16,
    },
    /// A framebuffer that is too large.
    #[error("a framebuffer of {width}×{height} pixels is too large")]
    Size {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
    /// zlib's data is broken, or not as long as the rectangle needs.
    #[error("the rectangle's compressed data is broken")]
    Zlib,
    /// A JPEG that can't be decoded, or no decoder for it.
    #[error("the rectangle's JPEG cannot be decoded")]
    Jpeg,
    /// A PNG that can't be decoded, or no decoder for it.
    #[error("the rectangle's PNG cannot be decoded")]
    Png,
    /// No decoder for video, or one that gives pictures of another size.
    #[error("the rectangle's video cannot be decoded")]
    H264,
    /// The data breaks the encoding's rules.
    #[error("the rectangle breaks the rules of its encoding: {0}")]
    Rules(&'static str),
}

/// What a whole rectangle was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Pixels,
    /// Nothing was drawn.
    Nothing,
    Cursor(Cursor),
}

/// The state of all decoders of a connection.
pub(super) struct Decoders {
    reader: PixelReader,
    codecs: Codecs,
    tight: Tight,
    zrle: Zrle,
    hextile: Hextile,
    jpeg: Jpeg,
    h264: H264,
    zlib: Inflate,
    /// Rows of the present Raw rectangle that are done.
    raw_rows: u16,
}

/// `None`: more bytes are needed. The reader has consumed what needs not be fed again.
type Progress = Result<Option<Decoded>, DecodeError>;

impl Decoders {
    pub(super) fn new(reader: PixelReader, codecs: Codecs) -> Self {
        Self {
            reader,
            codecs,
            tight: Tight::default(),
            zrle: Zrle::default(),
            hextile: Hextile::default(),
            jpeg: Jpeg::default(),
            h264: H264::default(),
            zlib: Inflate::default(),
            raw_rows: 0,
        }
    }

    pub(super) fn set_format(&mut self, reader: PixelReader) {
        self.reader = reader;
    }

    /// Decodes `rect` as far as the bytes go; `consumed` says how many need not come again.
    pub(super) fn rect(
        &mut self,
        rect: Rect,
        encoding: i32,
        bytes: &[u8],
        consumed: &mut usize,
        fb: &mut Framebuffer,
    ) -> Progress {
        let mut r = Reader::new(bytes);
        let shape = match encoding {
            enc::CURSOR => Some(cursor::masked(rect, &mut r, &self.reader)?),
            enc::CURSOR_WITH_ALPHA => Some(cursor::with_alpha(rect, &mut r)?),
            enc::VMWARE_CURSOR => Some(cursor::vmware(rect, &mut r, &self.reader)?),
            _ => None,
        };
        if let Some(shape) = shape {
            return Ok(whole(shape.map(Decoded::Cursor), &r, consumed));
        }
        if let Err(outside) = fb.check(rect)
            && PIXELS.contains(&encoding)
        {
            return Err(outside);
        }
        let (reader, codecs) = (&self.reader, &mut self.codecs);
        let drawn = match encoding {
            // These are drawn as they come, so they say themselves what need not come again.
            enc::RAW => {
                let done = self.raw(rect, &mut r, fb);
                *consumed = r.consumed();
                return Ok(done.then_some(Decoded::Pixels));
            }
            enc::HEXTILE => {
                let done = self.hextile.rect(rect, bytes, consumed, reader, fb)?;
                return Ok(done.then_some(Decoded::Pixels));
            }
            // This one finds its end itself.
            enc::JPEG => {
                let end = self.jpeg.rect(rect, bytes, codecs, fb)?;
                *consumed = end.unwrap_or(0);
                return Ok(end.map(|_| Decoded::Pixels));
            }
            enc::COPY_RECT => copy_rect(rect, &mut r, fb)?,
            enc::TIGHT => self.tight.rect(Kind::Zlib, rect, &mut r, reader, codecs, fb)?,
            enc::TIGHT_PNG => self.tight.rect(Kind::Png, rect, &mut r, reader, codecs, fb)?,
            enc::ZRLE => self.zrle.rect(rect, &mut r, reader, fb)?,
            enc::ZLIB => self.zlib(rect, &mut r, fb)?,
            enc::OPEN_H264 => {
                let drawn = self.h264.rect(rect, &mut r, codecs, fb)?;
                let drawn = drawn.map(|drawn| if drawn { Decoded::Pixels } else { Decoded::Nothing });
                return Ok(whole(drawn, &r, consumed));
            }
            other => return Err(DecodeError::Encoding(other)),
        };
        Ok(whole(drawn.map(|()| Decoded::Pixels), &r, consumed))
    }

    fn zlib(
        &mut self,
        rect: Rect,
        r: &mut Reader<'_>,
        fb: &mut Framebuffer,
    ) -> Result<Option<()>, DecodeError> {
        let Some(length) = r.u32().map(|n| n as usize) else { return Ok(None) };
        if length > MAX_RECT_BYTES {
            return Err(DecodeError::Rules("compressed data of more than 64 MiB"));
        }
        let Some(packed) = r.bytes(length) else { return Ok(None) };
        let size = self.reader.format().bytes_per_pixel();
        let plain = self.zlib.exactly(packed, rect.area() as usize * size)?;
        fb.put(rect, plain.chunks_exact(size).map(|p| self.reader.pixel(p)));
        Ok(Some(()))
    }

    fn raw(&mut self, rect: Rect, r: &mut Reader<'_>, fb: &mut Framebuffer) -> bool {
        // An empty rectangle counts as inside wherever it is, so its rows may be none.
        if rect.is_empty() {
            return true;
        }
        let size = self.reader.format().bytes_per_pixel();
        while self.raw_rows < rect.h {
            let Some(row) = r.bytes(usize::from(rect.w) * size) else { return false };
            let pixels = row.chunks_exact(size).map(|p| self.reader.pixel(p));
            fb.put(Rect { y: rect.y + self.raw_rows, h: 1, ..rect }, pixels);
            self.raw_rows += 1;
        }
        self.raw_rows = 0;
        true
    }
}

/// Bytes count as consumed only when the rectangle is whole.
fn whole(decoded: Option<Decoded>, r: &Reader<'_>, consumed: &mut usize) -> Option<Decoded> {
    if decoded.is_some() {
        *consumed = r.consumed();
    }
    decoded
}

fn copy_rect(rect: Rect, r: &mut Reader<'_>, fb: &mut Framebuffer) -> Result<Option<()>, DecodeError> {
    let (Some(x), Some(y)) = (r.u16(), r.u16()) else { return Ok(None) };
    fb.copy(rect, x, y).map(Some)
}
