//! One zlib stream of a connection: every piece is flushed, so that it can be decoded when it arrives. And the encoding of
//! that name (rfbproto, "Zlib Encoding"), which is raw pixels in such a stream.

use super::EncodeError;
use crate::screen::Screen;
use flate2::{Compress, Compression, FlushCompress, Status};
use lucarne_rfb::Rect;
use lucarne_rfb::encodings::ZLIB;
use lucarne_rfb::pixel::PixelWriter;
use lucarne_rfb::server::Update;

/// The compressing end of a zlib stream that lives as long as the viewer's.
pub(crate) struct ZlibStream {
    zlib: Compress,
    level: u32,
}

impl ZlibStream {
    pub(crate) fn new(level: u32) -> Self {
        Self { zlib: Compress::new(Compression::new(level), true), level }
    }

    /// Begins a new stream.
    pub(crate) fn reset(&mut self) {
        self.zlib.reset();
    }

    pub(crate) fn level(&self) -> u32 {
        self.level
    }

    /// Compresses `data` as the stream's next piece to the end of `out`, with so much behind it that all of it can be decoded
    /// (zlib's partial flush: ten bits instead of the 35 and more of a sync flush, which are a quarter of a letter's bytes).
    pub(crate) fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = self.zlib.total_in();
        // Even incompressible data grows by less than this, so one round is the rule.
        out.reserve(data.len() + data.len() / 1000 + 64);
        loop {
            let done = (self.zlib.total_in() - start) as usize;
            let status = self.zlib.compress_vec(&data[done..], out, FlushCompress::Partial);
            let all_in = (self.zlib.total_in() - start) as usize == data.len();
            match status {
                // Room left over means that the flush is complete.
                Ok(Status::Ok | Status::BufError) if all_in && out.len() < out.capacity() => return Ok(()),
                Ok(Status::Ok | Status::BufError) => out.reserve(out.capacity().max(256)),
                Ok(Status::StreamEnd) | Err(_) => return Err(EncodeError::Zlib),
            }
        }
    }
}

impl ZlibStream {
    /// The same, behind the piece's length in 32 bits, as rectangles have it.
    pub(super) fn put(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len() + 4;
        out.extend_from_slice(&[0; 4]);
        self.compress(data, out)?;
        let length = (out.len() - start) as u32;
        out[start - 4..start].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

/// The zlib encoder of one viewer.
#[derive(Debug, Default)]
pub(super) struct Zlib {
    stream: Option<ZlibStream>,
    plain: Vec<u8>,
}

impl Zlib {
    /// Writes `rect`, which lies on the screen. The stream cannot be reset, so `level` counts only for the first.
    pub(super) fn write(
        &mut self,
        screen: &Screen,
        writer: &PixelWriter,
        level: u32,
        rect: Rect,
        update: &mut Update<'_>,
    ) -> Result<(), EncodeError> {
        self.plain.clear();
        for y in rect.y..rect.y + rect.h {
            writer.put_pixels(screen.row(rect, y), &mut self.plain);
        }
        let stream = self.stream.get_or_insert_with(|| ZlibStream::new(level));
        stream.put(&self.plain, update.rect(rect, ZLIB))
    }
}

impl std::fmt::Debug for ZlibStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZlibStream(level {})", self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress};

    #[test]
    fn each_piece_can_be_decoded_when_it_arrives() {
        let (mut stream, mut inflate) = (ZlibStream::new(1), Decompress::new(true));
        let mut noise = 1u32;
        for size in [0, 1, 12, 100, 5_000, 200_000, 3, 0, 7] {
            let data: Vec<u8> = (0..size)
                .map(|i| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if i % 3 == 0 { 7 } else { (noise >> 24) as u8 }
                })
                .collect();
            let mut packed = Vec::new();
            stream.compress(&data, &mut packed).unwrap();
            let mut plain = Vec::with_capacity(size + 1);
            inflate.decompress_vec(&packed, &mut plain, FlushDecompress::Sync).unwrap();
            assert_eq!(plain, data, "a piece of {size} bytes");
        }
    }
}
