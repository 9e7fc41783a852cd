//! The decompressing end of a connection's zlib stream. Knows nothing of what the bytes mean.

use super::decode::DecodeError;
use flate2::{Decompress, FlushDecompress, Status};

/// One zlib stream; it is made when it is first used and lives as long as the connection, or until it is reset.
#[derive(Debug, Default)]
pub(super) struct Inflate {
    zlib: Option<Decompress>,
}

impl Inflate {
    pub(super) fn reset(&mut self) {
        self.zlib = None;
    }

    /// Decompresses one piece of the stream whole; an error when it gives more than `limit` bytes.
    pub(super) fn piece(&mut self, packed: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
        let zlib = self.zlib.get_or_insert_with(|| Decompress::new(true));
        // Room grows with what really comes out, so that a small piece cannot claim much memory. One byte more than the
        // limit lets zlib see the end of the piece, and shows when there is more.
        let mut plain = Vec::with_capacity(limit.saturating_add(1).min(64 * 1024));
        let start = zlib.total_in();
        loop {
            let done = (zlib.total_in() - start) as usize;
            let before = (done, plain.len());
            let status = zlib.decompress_vec(&packed[done..], &mut plain, FlushDecompress::Sync);
            if plain.len() > limit {
                return Err(DecodeError::Zlib);
            }
            let done = (zlib.total_in() - start) as usize;
            match status {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) | Err(_) => return Err(DecodeError::Zlib),
            }
            if plain.len() < plain.capacity() {
                if done == packed.len() {
                    return Ok(plain);
                }
                if before == (done, plain.len()) {
                    return Err(DecodeError::Zlib);
                }
            } else {
                plain.reserve(plain.capacity());
            }
        }
    }

    /// The same, where exactly `length` bytes must come out.
    pub(super) fn exactly(&mut self, packed: &[u8], length: usize) -> Result<Vec<u8>, DecodeError> {
        let plain = self.piece(packed, length)?;
        if plain.len() == length { Ok(plain) } else { Err(DecodeError::Zlib) }
    }
}
