//! Decodes the rectangles of FramebufferUpdate messages as their bytes arrive.
//!
//! A rectangle is decoded when all its bytes are there, except Raw (row by row) and Hextile (tile by tile), whose sizes
//! are not bounded otherwise. Knows nothing of messages.

use super::framebuffer::Framebuffer;
use super::hextile::Hextile;
use super::inflate::Inflate;
use super::tight::Tight;
use super::zrle::Zrle;
use crate::encodings as enc;
use crate::pixel::PixelReader;
use crate::rect::Rect;
use crate::wire::Reader;

/// Decodes a JPEG of the given width and height into `0x00RRGGBB`, row by row; `None` when it is broken. It is the
/// caller's, so that this crate needs no C library.
pub type JpegDecoder = Box<dyn FnMut(&[u8], u16, u16) -> Option<Vec<u32>> + Send>;

/// The longest data of one rectangle, bytes, where a length is sent.
pub(super) const MAX_RECT_BYTES: usize = 64 << 20;

/// The largest pointer, pixels each way.
const MAX_CURSOR: u16 = 1024;

/// The shape of the pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Hot spot and size.
    pub rect: Rect,
    /// `0xAARRGGBB`, row by row; with a mask, alpha is 0 or 255.
    pub pixels: Vec<u32>,
}

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
    /// The data breaks the encoding's rules.
    #[error("the rectangle breaks the rules of its encoding: {0}")]
    Rules(&'static str),
}

/// What a whole rectangle was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Pixels,
    Cursor(Cursor),
}

/// The state of all decoders of a connection.
pub(super) struct Decoders {
    reader: PixelReader,
    tight: Tight,
    zrle: Zrle,
    hextile: Hextile,
    zlib: Inflate,
    /// Rows of the present Raw rectangle that are done.
    raw_rows: u16,
}

/// `None`: more bytes are needed. The reader has consumed what needs not be fed again.
type Progress = Result<Option<Decoded>, DecodeError>;

impl Decoders {
    pub(super) fn new(reader: PixelReader, jpeg: Option<JpegDecoder>) -> Self {
        Self {
            reader,
            tight: Tight::new(jpeg),
            zrle: Zrle::default(),
            hextile: Hextile::default(),
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
        let progress = match encoding {
            enc::CURSOR => return whole(cursor(rect, &mut r, &self.reader), &r, consumed),
            enc::CURSOR_WITH_ALPHA => return whole(cursor_with_alpha(rect, &mut r), &r, consumed),
            enc::COPY_RECT => copy_rect(rect, &mut r, fb),
            enc::TIGHT => fb.check(rect).and_then(|()| self.tight.rect(rect, &mut r, &self.reader, fb)),
            enc::ZRLE => fb.check(rect).and_then(|()| self.zrle.rect(rect, &mut r, &self.reader, fb)),
            enc::ZLIB => fb.check(rect).and_then(|()| self.zlib(rect, &mut r, fb)),
            enc::RAW => {
                fb.check(rect)?;
                let done = self.raw(rect, &mut r, fb);
                *consumed = r.consumed();
                return Ok(done.then_some(Decoded::Pixels));
            }
            enc::HEXTILE => {
                fb.check(rect)?;
                return Ok(self
                    .hextile
                    .rect(rect, bytes, consumed, &self.reader, fb)?
                    .then_some(Decoded::Pixels));
            }
            other => Err(DecodeError::Encoding(other)),
        };
        whole(progress.map(|p| p.map(|()| Decoded::Pixels)), &r, consumed)
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
fn whole(progress: Progress, r: &Reader<'_>, consumed: &mut usize) -> Progress {
    if let Ok(Some(_)) = &progress {
        *consumed = r.consumed();
    }
    progress
}

fn copy_rect(rect: Rect, r: &mut Reader<'_>, fb: &mut Framebuffer) -> Result<Option<()>, DecodeError> {
    let (Some(x), Some(y)) = (r.u16(), r.u16()) else { return Ok(None) };
    fb.copy(rect, x, y).map(Some)
}

fn check_cursor(rect: Rect) -> Result<usize, DecodeError> {
    if rect.w > MAX_CURSOR || rect.h > MAX_CURSOR {
        return Err(DecodeError::Rules("a pointer of more than 1024 pixels each way"));
    }
    Ok(usize::from(rect.w) * usize::from(rect.h))
}

fn cursor(rect: Rect, r: &mut Reader<'_>, reader: &PixelReader) -> Progress {
    let (count, size, row) =
        (check_cursor(rect)?, reader.format().bytes_per_pixel(), usize::from(rect.w).div_ceil(8));
    let (Some(pixels), Some(mask)) = (r.bytes(count * size), r.bytes(row * usize::from(rect.h))) else {
        return Ok(None);
    };
    let alpha = |i: usize| {
        let (x, y) = (i % usize::from(rect.w), i / usize::from(rect.w));
        if mask[y * row + x / 8] & 0x80 >> (x % 8) == 0 { 0 } else { 0xff00_0000 }
    };
    let pixels = pixels.chunks_exact(size).enumerate().map(|(i, p)| alpha(i) | reader.pixel(p)).collect();
    Ok(Some(Decoded::Cursor(Cursor { rect, pixels })))
}

fn cursor_with_alpha(rect: Rect, r: &mut Reader<'_>) -> Progress {
    let count = check_cursor(rect)?;
    match r.i32() {
        None => return Ok(None),
        Some(enc::RAW) => {}
        Some(_) => return Err(DecodeError::Rules("a pointer with alpha in another encoding than Raw")),
    }
    let Some(bytes) = r.bytes(count * 4) else { return Ok(None) };
    let pixels = bytes.chunks_exact(4).map(|p| u32::from_be_bytes([p[3], p[0], p[1], p[2]])).collect();
    Ok(Some(Decoded::Cursor(Cursor { rect, pixels })))
}
