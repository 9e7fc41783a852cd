//! Pixel formats: the PIXEL_FORMAT structure, and conversion of rows to and from any format a client may ask for.
//!
//! The server's own pixels are `u32` with the value `0x00RRGGBB`, which on the wire in little-endian order is
//! B, G, R, X. Source: RFC 6143 section 7.4; TPIXEL and CPIXEL: rfbproto, "Tight Encoding" and "ZRLE Encoding".
//! Knows nothing of rectangles or compression.

use crate::wire::{Put, Reader};

/// How a pixel is laid out on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PixelFormat {
    /// 8, 16 or 32.
    pub bits_per_pixel: u8,
    /// Useful bits in a pixel value.
    pub depth: u8,
    /// Most significant byte first.
    pub big_endian: bool,
    /// Largest red, green, blue: each a power of two minus one.
    pub max: [u16; 3],
    /// How far red, green, blue are shifted left.
    pub shift: [u8; 3],
}

/// Why a pixel format is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PixelFormatError {
    /// It indexes a colour map.
    #[error("the client asks for a colour map, which is not supported; set it to a true-colour format")]
    ColourMap,
    /// Neither 8, 16 nor 32 bits.
    #[error("{0} bits per pixel is not a size that RFB has; it must be 8, 16 or 32")]
    BitsPerPixel(u8),
    /// The depth is zero or more than the bits of a pixel.
    #[error("a depth of {depth} does not fit {bits_per_pixel} bits per pixel")]
    Depth {
        /// What was asked for.
        depth: u8,
        /// The size of a pixel.
        bits_per_pixel: u8,
    },
    /// A channel's maximum is not 2ⁿ−1, or the channel does not fit into the pixel, or two overlap.
    #[error(
        "the red, green and blue channels (maximum {max:?}, shift {shift:?}) do not lie in the pixel side by side"
    )]
    Channels {
        /// Largest values.
        max: [u16; 3],
        /// Shifts.
        shift: [u8; 3],
    },
}

/// How ZRLE's CPIXEL is made of a PIXEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CPixel {
    /// The whole pixel.
    Full,
    /// Three bytes: the least significant.
    Low3,
    /// Three bytes: the most significant.
    High3,
}

impl PixelFormat {
    /// The length of the structure on the wire, bytes.
    pub const WIRE_LEN: usize = 16;

    /// 32 bits, little-endian, `0x00RRGGBB`: what the server itself uses.
    pub const BGRX: Self =
        Self { bits_per_pixel: 32, depth: 24, big_endian: false, max: [255, 255, 255], shift: [16, 8, 0] };

    /// 16 bits, little-endian, 5-6-5.
    pub const RGB565: Self =
        Self { bits_per_pixel: 16, depth: 16, big_endian: false, max: [31, 63, 31], shift: [11, 5, 0] };

    /// 8 bits, blue in the two high bits, then green, then red.
    pub const BGR233: Self =
        Self { bits_per_pixel: 8, depth: 8, big_endian: false, max: [7, 7, 3], shift: [0, 3, 6] };

    /// The same format with the other byte order.
    #[must_use]
    pub const fn with_big_endian(mut self, big_endian: bool) -> Self {
        self.big_endian = big_endian;
        self
    }

    /// Reads and checks the 16 bytes of PIXEL_FORMAT.
    ///
    /// # Errors
    /// What is wrong with the format; the caller closes the connection.
    pub fn parse(wire: &[u8; Self::WIRE_LEN]) -> Result<Self, PixelFormatError> {
        let mut r = Reader::new(wire);
        let mut byte = || r.u8().unwrap_or(0);
        let (bits_per_pixel, depth, big_endian, true_colour) = (byte(), byte(), byte() != 0, byte() != 0);
        let mut word = || r.u16().unwrap_or(0);
        let max = [word(), word(), word()];
        let mut byte = || r.u8().unwrap_or(0);
        let shift = [byte(), byte(), byte()];
        if !true_colour {
            return Err(PixelFormatError::ColourMap);
        }
        let format = Self { bits_per_pixel, depth, big_endian, max, shift };
        format.check()?;
        Ok(format)
    }

    fn check(&self) -> Result<(), PixelFormatError> {
        let Self { bits_per_pixel, depth, max, shift, .. } = *self;
        if !matches!(bits_per_pixel, 8 | 16 | 32) {
            return Err(PixelFormatError::BitsPerPixel(bits_per_pixel));
        }
        if depth == 0 || depth > bits_per_pixel {
            return Err(PixelFormatError::Depth { depth, bits_per_pixel });
        }
        let mut used = 0u64;
        for (&max, &shift) in max.iter().zip(&shift) {
            let whole = u64::from(max) + 1;
            let fits = max != 0 && whole.is_power_of_two() && shift < bits_per_pixel;
            let mask = if fits { u64::from(max) << shift } else { u64::MAX };
            if mask >> bits_per_pixel != 0 || used & mask != 0 {
                return Err(PixelFormatError::Channels { max: self.max, shift: self.shift });
            }
            used |= mask;
        }
        Ok(())
    }

    /// Appends the 16 bytes of PIXEL_FORMAT.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_bytes(&[self.bits_per_pixel, self.depth, self.big_endian.into(), 1]);
        self.max.iter().for_each(|&m| out.put_u16(m));
        out.put_bytes(&self.shift);
        out.put_padding(3);
    }

    /// Bytes of a PIXEL.
    #[must_use]
    pub const fn bytes_per_pixel(&self) -> usize {
        self.bits_per_pixel as usize / 8
    }

    /// Tight's TPIXEL is three bytes red, green, blue instead of the whole pixel.
    #[must_use]
    pub const fn has_rgb_tpixel(&self) -> bool {
        self.bits_per_pixel == 32
            && self.depth == 24
            && self.max[0] == 255
            && self.max[1] == 255
            && self.max[2] == 255
    }

    /// Bytes of Tight's TPIXEL.
    #[must_use]
    pub const fn bytes_per_tpixel(&self) -> usize {
        if self.has_rgb_tpixel() { 3 } else { self.bytes_per_pixel() }
    }

    /// How ZRLE's CPIXEL is made.
    #[must_use]
    pub fn cpixel(&self) -> CPixel {
        if self.bits_per_pixel != 32 || self.depth > 24 {
            return CPixel::Full;
        }
        let used =
            self.max.iter().zip(&self.shift).fold(0u64, |m, (&max, &shift)| m | u64::from(max) << shift);
        if used & 0xff00_0000 == 0 {
            CPixel::Low3
        } else if used & 0xff == 0 {
            CPixel::High3
        } else {
            CPixel::Full
        }
    }

    /// Bytes of ZRLE's CPIXEL.
    #[must_use]
    pub fn bytes_per_cpixel(&self) -> usize {
        match self.cpixel() {
            CPixel::Full => self.bytes_per_pixel(),
            CPixel::Low3 | CPixel::High3 => 3,
        }
    }
}

/// Converts `0x00RRGGBB` pixels to a client's format. Built once per format: it holds a table per channel.
#[derive(Clone)]
pub struct PixelWriter {
    format: PixelFormat,
    tables: Box<[[u32; 256]; 3]>,
    native: bool,
    cpixel: CPixel,
}

impl std::fmt::Debug for PixelWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PixelWriter").field(&self.format).finish()
    }
}

impl PixelWriter {
    /// Prepares the conversion to `format`.
    #[must_use]
    pub fn new(format: PixelFormat) -> Self {
        let mut tables = Box::new([[0u32; 256]; 3]);
        for (table, (&max, &shift)) in tables.iter_mut().zip(format.max.iter().zip(&format.shift)) {
            for (value, entry) in (0u32..).zip(table.iter_mut()) {
                *entry = ((value * u32::from(max) + 127) / 255) << shift;
            }
        }
        let native = PixelFormat { depth: 24, ..format } == PixelFormat::BGRX;
        Self { format, tables, native, cpixel: format.cpixel() }
    }

    /// The format that it writes.
    #[must_use]
    pub fn format(&self) -> &PixelFormat {
        &self.format
    }

    /// The pixel's value in the client's format, before byte order.
    #[must_use]
    pub fn value(&self, pixel: u32) -> u32 {
        let [_, r, g, b] = pixel.to_be_bytes();
        self.tables[0][usize::from(r)] | self.tables[1][usize::from(g)] | self.tables[2][usize::from(b)]
    }

    /// Appends PIXELs.
    pub fn put_pixels(&self, pixels: &[u32], out: &mut Vec<u8>) {
        if self.native {
            out.extend(pixels.iter().flat_map(|p| (p & 0x00ff_ffff).to_le_bytes()));
            return;
        }
        match (self.format.bits_per_pixel, self.format.big_endian) {
            (8, _) => out.extend(pixels.iter().map(|&p| self.value(p) as u8)),
            (16, true) => out.extend(pixels.iter().flat_map(|&p| (self.value(p) as u16).to_be_bytes())),
            (16, false) => out.extend(pixels.iter().flat_map(|&p| (self.value(p) as u16).to_le_bytes())),
            (_, true) => out.extend(pixels.iter().flat_map(|&p| self.value(p).to_be_bytes())),
            (_, false) => out.extend(pixels.iter().flat_map(|&p| self.value(p).to_le_bytes())),
        }
    }

    /// Appends Tight's TPIXELs.
    pub fn put_tpixels(&self, pixels: &[u32], out: &mut Vec<u8>) {
        if !self.format.has_rgb_tpixel() {
            return self.put_pixels(pixels, out);
        }
        // Writing into space that is already there lets the loop run without a capacity check per pixel.
        let start = out.len();
        out.resize(start + pixels.len() * 3, 0);
        for (bytes, &p) in out[start..].chunks_exact_mut(3).zip(pixels) {
            let [_, r, g, b] = p.to_be_bytes();
            bytes.copy_from_slice(&[r, g, b]);
        }
    }

    /// Appends ZRLE's CPIXELs.
    pub fn put_cpixels(&self, pixels: &[u32], out: &mut Vec<u8>) {
        let drop_low = match self.cpixel {
            CPixel::Full => return self.put_pixels(pixels, out),
            CPixel::Low3 => 0,
            CPixel::High3 => 8,
        };
        let big_endian = self.format.big_endian;
        for &p in pixels {
            let [a, b, c, _] = (self.value(p) >> drop_low).to_le_bytes();
            out.extend_from_slice(&if big_endian { [c, b, a] } else { [a, b, c] });
        }
    }
}

/// Reads pixels of some format back to `0x00RRGGBB`: the client's side.
#[derive(Clone, Debug)]
pub struct PixelReader {
    format: PixelFormat,
    cpixel: CPixel,
}

impl PixelReader {
    /// Prepares reading `format`.
    #[must_use]
    pub fn new(format: PixelFormat) -> Self {
        Self { format, cpixel: format.cpixel() }
    }

    /// The format that it reads.
    #[must_use]
    pub fn format(&self) -> &PixelFormat {
        &self.format
    }

    /// `0x00RRGGBB` of a pixel value.
    #[must_use]
    pub fn rgb(&self, value: u32) -> u32 {
        let channel = |i: usize| {
            let max = u32::from(self.format.max[i]);
            ((value >> self.format.shift[i] & max) * 255 + max / 2) / max.max(1)
        };
        channel(0) << 16 | channel(1) << 8 | channel(2)
    }

    fn value(&self, bytes: &[u8]) -> u32 {
        let push = |v: u32, b: &u8| v << 8 | u32::from(*b);
        if self.format.big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) }
    }

    /// One PIXEL, of exactly `bytes_per_pixel` bytes.
    #[must_use]
    pub fn pixel(&self, bytes: &[u8]) -> u32 {
        self.rgb(self.value(bytes))
    }

    /// One TPIXEL, of exactly `bytes_per_tpixel` bytes.
    #[must_use]
    pub fn tpixel(&self, bytes: &[u8]) -> u32 {
        match bytes {
            [r, g, b] if self.format.has_rgb_tpixel() => u32::from_be_bytes([0, *r, *g, *b]),
            _ => self.pixel(bytes),
        }
    }

    /// One CPIXEL, of exactly `bytes_per_cpixel` bytes.
    #[must_use]
    pub fn cpixel(&self, bytes: &[u8]) -> u32 {
        match self.cpixel {
            CPixel::High3 => self.rgb(self.value(bytes) << 8),
            CPixel::Full | CPixel::Low3 => self.pixel(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(f: &PixelFormat) -> [u8; 16] {
        let mut out = Vec::new();
        f.write(&mut out);
        out.try_into().expect("16 bytes")
    }

    /// Formats with three channels of any widths in any order, anywhere in the pixel.
    pub(crate) fn any_format() -> impl Strategy<Value = PixelFormat> {
        (prop::sample::select(vec![8u8, 16, 32]), any::<bool>(), any::<[u8; 4]>(), 0usize..6).prop_map(
            |(bpp, big_endian, seeds, order)| {
                let width = |seed: u8| 1 + seed % (bpp / 3).min(8);
                let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
                let widths = [width(seeds[0]), width(seeds[1]), width(seeds[2])];
                let depth = widths.iter().sum();
                let mut at = seeds[3] % (bpp - depth + 1);
                let (mut max, mut shift) = ([0; 3], [0; 3]);
                for channel in orders[order] {
                    max[channel] = (1u16 << widths[channel]) - 1;
                    shift[channel] = at;
                    at += widths[channel];
                }
                PixelFormat { bits_per_pixel: bpp, depth, big_endian, max, shift }
            },
        )
    }

    proptest! {
        #[test]
        fn a_format_survives_the_wire(format in any_format()) {
            prop_assert_eq!(PixelFormat::parse(&wire(&format)), Ok(format));
        }

        #[test]
        fn sixteen_arbitrary_bytes_never_panic(bytes in any::<[u8; 16]>()) {
            if let Ok(format) = PixelFormat::parse(&bytes) {
                PixelWriter::new(format).put_cpixels(&[0x00ab_cdef], &mut Vec::new());
            }
        }

        #[test]
        fn pixel_tpixel_and_cpixel_carry_the_same_colour(format in any_format(), pixel in 0u32..0x0100_0000) {
            let (writer, reader) = (PixelWriter::new(format), PixelReader::new(format));
            let (mut full, mut tight, mut compressed) = (Vec::new(), Vec::new(), Vec::new());
            writer.put_pixels(&[pixel], &mut full);
            writer.put_tpixels(&[pixel], &mut tight);
            writer.put_cpixels(&[pixel], &mut compressed);
            prop_assert_eq!(full.len(), format.bytes_per_pixel());
            prop_assert_eq!(tight.len(), format.bytes_per_tpixel());
            prop_assert_eq!(compressed.len(), format.bytes_per_cpixel());
            let rgb = reader.pixel(&full);
            prop_assert_eq!(reader.tpixel(&tight), rgb);
            prop_assert_eq!(reader.cpixel(&compressed), rgb);
            for i in 0..3 {
                // Never further off than one step of the channel's scale.
                let step = 255 / i32::from(format.max[i]) + 1;
                let of = |p: u32| i32::from(p.to_be_bytes()[i + 1]);
                prop_assert!((of(rgb) - of(pixel)).abs() <= step, "{:06x} became {:06x}", pixel, rgb);
            }
        }
    }

    #[test]
    fn full_depth_formats_lose_nothing() {
        for format in [
            PixelFormat::BGRX,
            PixelFormat::BGRX.with_big_endian(true),
            PixelFormat { shift: [8, 16, 24], ..PixelFormat::BGRX },
            PixelFormat { depth: 32, shift: [0, 8, 16], ..PixelFormat::BGRX },
        ] {
            let mut out = Vec::new();
            PixelWriter::new(format).put_pixels(&[0x0012_3456], &mut out);
            assert_eq!(PixelReader::new(format).pixel(&out), 0x0012_3456, "{format:?}");
        }
    }

    #[test]
    fn formats_that_cannot_be_are_refused_with_the_reason() {
        let mut colour_map = wire(&PixelFormat::BGR233);
        colour_map[3] = 0;
        assert_eq!(PixelFormat::parse(&colour_map), Err(PixelFormatError::ColourMap));
        let refuse = |f: PixelFormat| PixelFormat::parse(&wire(&f)).expect_err("refused");
        assert_eq!(
            refuse(PixelFormat { bits_per_pixel: 24, ..PixelFormat::BGRX }),
            PixelFormatError::BitsPerPixel(24)
        );
        assert!(matches!(
            refuse(PixelFormat { depth: 17, ..PixelFormat::RGB565 }),
            PixelFormatError::Depth { .. }
        ));
        for (max, shift) in [
            ([255, 255, 255], [16, 8, 4]),
            ([0, 255, 255], [16, 8, 0]),
            ([100, 255, 255], [16, 8, 0]),
            ([255, 255, 255], [32, 8, 0]),
            ([255, 255, 255], [25, 8, 0]),
        ] {
            let bad = PixelFormat { max, shift, ..PixelFormat::BGRX };
            assert!(matches!(refuse(bad), PixelFormatError::Channels { .. }), "{max:?} {shift:?}");
        }
    }

    #[test]
    fn known_pixels_have_known_bytes() {
        let bytes = |f: PixelFormat| {
            let mut out = Vec::new();
            PixelWriter::new(f).put_pixels(&[0x00ff_8000], &mut out);
            out
        };
        assert_eq!(bytes(PixelFormat::BGRX), [0x00, 0x80, 0xff, 0]);
        assert_eq!(bytes(PixelFormat::RGB565), [0x00, 0xfc]);
        assert_eq!(bytes(PixelFormat::RGB565.with_big_endian(true)), [0xfc, 0x00]);
        assert_eq!(bytes(PixelFormat::BGR233), [0b0010_0111]);
    }
}
