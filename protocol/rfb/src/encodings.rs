//! Numbers of encodings and pseudo-encodings, and what a client's list of them means.
//!
//! Source: rfbproto, "Encodings" and "Pseudo-encodings". Knows how to encode nothing.

/// Raw pixels.
pub const RAW: i32 = 0;
/// A copy of another part of the client's framebuffer.
pub const COPY_RECT: i32 = 1;
/// Hextile.
pub const HEXTILE: i32 = 5;
/// zlib: raw pixels in one zlib stream of the connection.
pub const ZLIB: i32 = 6;
/// Tight.
pub const TIGHT: i32 = 7;
/// ZRLE.
pub const ZRLE: i32 = 16;
/// JPEG: a picture without anything around it.
pub const JPEG: i32 = 21;
/// Open H.264.
pub const OPEN_H264: i32 = 50;
/// Tight PNG: Tight with PNG in place of zlib.
pub const TIGHT_PNG: i32 = -260;
/// Cursor: shape with a bit mask.
pub const CURSOR: i32 = -239;
/// Cursor With Alpha.
pub const CURSOR_WITH_ALPHA: i32 = -314;
/// VMware Cursor.
pub const VMWARE_CURSOR: i32 = 0x574d_5664;
/// DesktopSize.
pub const DESKTOP_SIZE: i32 = -223;
/// LastRect: the number of rectangles need not be known in advance.
pub const LAST_RECT: i32 = -224;
/// QEMU Pointer Motion Change: relative or absolute.
pub const QEMU_POINTER_MOTION: i32 = -257;
/// QEMU Extended Key Event.
pub const QEMU_EXTENDED_KEY: i32 = -258;
/// QEMU Audio.
pub const QEMU_AUDIO: i32 = -259;
/// QEMU LED State.
pub const QEMU_LED_STATE: i32 = -261;
/// Sound as Opus, by the messages of QEMU Audio: an extension of Lucarne's own (`docs/decisions/0008-audio.md`). ASCII `LCOP`.
pub const OPUS_AUDIO: i32 = 0x4c43_4f50;
/// DesktopName.
pub const DESKTOP_NAME: i32 = -307;
/// ExtendedDesktopSize.
pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
/// xvp: power controls.
pub const XVP: i32 = -309;
/// Fence.
pub const FENCE: i32 = -312;
/// ContinuousUpdates.
pub const CONTINUOUS_UPDATES: i32 = -313;
/// ExtendedMouseButtons.
pub const EXTENDED_MOUSE_BUTTONS: i32 = -316;
/// Extended Clipboard (`0xc0a1e5ce`).
pub const EXTENDED_CLIPBOARD: i32 = 0xc0a1_e5ce_u32 as i32;
/// JPEG quality 0 is this, quality 9 is nine more.
pub const QUALITY_0: i32 = -32;
/// Compression level 0 is this, level 9 is nine more.
pub const COMPRESSION_0: i32 = -256;
/// Fine JPEG quality 0 is this, quality 100 is a hundred more.
pub const FINE_QUALITY_0: i32 = -512;
/// JPEG subsampling 1X; 4X, 2X, grey, 8X, 16X follow.
pub const SUBSAMPLING_1X: i32 = -768;

/// The encodings of the pointer's shape; a client that lists one of them draws the pointer itself.
pub const CURSORS: [i32; 3] = [CURSOR, CURSOR_WITH_ALPHA, VMWARE_CURSOR];

/// The pixel encodings that our server writes, in no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelEncoding {
    /// [`RAW`].
    Raw,
    /// [`HEXTILE`].
    Hextile,
    /// [`ZLIB`].
    Zlib,
    /// [`TIGHT`].
    Tight,
    /// [`ZRLE`].
    Zrle,
}

/// JPEG chroma subsampling that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subsampling {
    /// None (4:4:4).
    Full,
    /// One chroma sample for two pixels (4:2:2).
    Half,
    /// One chroma sample for four pixels (4:2:0), or fewer.
    Quarter,
    /// No chroma.
    Grey,
}

/// What a client's SetEncodings message means.
///
/// Before that message a client is held to understand nothing but Raw, which is [`ClientEncodings::default`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientEncodings {
    list: Vec<i32>,
}

impl ClientEncodings {
    /// Takes the numbers of a SetEncodings message, most preferred first.
    #[must_use]
    pub fn new(list: Vec<i32>) -> Self {
        Self { list }
    }

    /// The numbers as they came.
    #[must_use]
    pub fn list(&self) -> &[i32] {
        &self.list
    }

    /// The client listed this number.
    #[must_use]
    pub fn supports(&self, encoding: i32) -> bool {
        self.list.contains(&encoding)
    }

    /// The first pixel encoding of the list that our server writes; Raw when there is none, since every client must
    /// understand it (RFC 6143 section 7.5.2).
    #[must_use]
    pub fn preferred(&self) -> PixelEncoding {
        let known = |e: &i32| match *e {
            TIGHT => Some(PixelEncoding::Tight),
            ZRLE => Some(PixelEncoding::Zrle),
            HEXTILE => Some(PixelEncoding::Hextile),
            ZLIB => Some(PixelEncoding::Zlib),
            RAW => Some(PixelEncoding::Raw),
            _ => None,
        };
        self.list.iter().find_map(known).unwrap_or(PixelEncoding::Raw)
    }

    fn level(&self, zero: i32, top: i32) -> Option<u8> {
        let found = self.list.iter().find(|&&e| (zero..=zero + top).contains(&e))?;
        u8::try_from(found - zero).ok()
    }

    /// JPEG quality level, 0 to 9; without one JPEG must not be sent (fine quality alone does not allow it either).
    #[must_use]
    pub fn quality(&self) -> Option<u8> {
        self.level(QUALITY_0, 9)
    }

    /// Fine JPEG quality, 0 to 100, in libjpeg's scale.
    #[must_use]
    pub fn fine_quality(&self) -> Option<u8> {
        self.level(FINE_QUALITY_0, 100)
    }

    /// Compression level, 0 to 9.
    #[must_use]
    pub fn compression(&self) -> Option<u8> {
        self.level(COMPRESSION_0, 9)
    }

    /// JPEG chroma subsampling.
    #[must_use]
    pub fn subsampling(&self) -> Option<Subsampling> {
        Some(match self.level(SUBSAMPLING_1X, 5)? {
            0 => Subsampling::Full,
            2 => Subsampling::Half,
            3 => Subsampling::Grey,
            _ => Subsampling::Quarter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_client_gets_raw_and_nothing_else() {
        let e = ClientEncodings::default();
        assert_eq!((e.preferred(), e.quality(), e.compression()), (PixelEncoding::Raw, None, None));
        assert!(!e.supports(COPY_RECT) && !e.supports(LAST_RECT));
    }

    #[test]
    fn the_first_known_encoding_wins() {
        assert_eq!(ClientEncodings::new(vec![COPY_RECT, 50, ZRLE, TIGHT]).preferred(), PixelEncoding::Zrle);
        assert_eq!(ClientEncodings::new(vec![HEXTILE, TIGHT, ZRLE]).preferred(), PixelEncoding::Hextile);
        assert_eq!(ClientEncodings::new(vec![21, ZLIB]).preferred(), PixelEncoding::Zlib);
        assert_eq!(ClientEncodings::new(vec![21]).preferred(), PixelEncoding::Raw);
    }

    #[test]
    fn levels_are_read_at_both_ends_of_their_ranges() {
        let of = |n| ClientEncodings::new(vec![n]);
        assert_eq!((of(-32).quality(), of(-23).quality(), of(-22).quality()), (Some(0), Some(9), None));
        assert_eq!((of(-256).compression(), of(-247).compression()), (Some(0), Some(9)));
        assert_eq!((of(-512).fine_quality(), of(-412).fine_quality()), (Some(0), Some(100)));
        assert_eq!(
            (of(-768).subsampling(), of(-763).subsampling()),
            (Some(Subsampling::Full), Some(Subsampling::Quarter))
        );
        assert_eq!(EXTENDED_CLIPBOARD, -1_063_131_698);
    }
}
