//! The decoders of pictures and video. They are the caller's, so that this crate needs no C library; it finds out where a
//! picture ends and bounds it.

use crate::rect::Rect;

/// Decodes a JPEG of the given width and height into `0x00RRGGBB`, row by row; `None` when it is broken.
pub type JpegDecoder = Box<dyn FnMut(&[u8], u16, u16) -> Option<Vec<u32>> + Send>;

/// The same for a PNG.
pub type PngDecoder = JpegDecoder;

/// Decodes video into the `0x00RRGGBB` of its rectangle, row by row, what is larger cut off at the right and below;
/// `None` when there is no picture yet or the data is broken, which leaves the rectangle as it was.
pub type H264Decoder = Box<dyn FnMut(H264Frames<'_>) -> Option<Vec<u32>> + Send>;

/// One rectangle of Open H.264.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Frames<'a> {
    /// Where it belongs.
    pub rect: Rect,
    /// Which decoder has its past: 0 to 63.
    pub context: u8,
    /// That decoder begins anew. What it decoded before belonged to another rectangle, or was reset.
    pub fresh: bool,
    /// Whole frames as a byte stream (ITU-T H.264, Annex B), at least one byte.
    pub data: &'a [u8],
}

/// What a caller can decode. For what it cannot, it must not ask: such a rectangle is an error.
#[derive(Default)]
pub struct Codecs {
    /// For Tight, Tight PNG and JPEG.
    pub jpeg: Option<JpegDecoder>,
    /// For Tight PNG.
    pub png: Option<PngDecoder>,
    /// For Open H.264.
    pub h264: Option<H264Decoder>,
}

impl std::fmt::Debug for Codecs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codecs")
            .field("jpeg", &self.jpeg.is_some())
            .field("png", &self.png.is_some())
            .field("h264", &self.h264.is_some())
            .finish()
    }
}
