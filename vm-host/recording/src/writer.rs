//! Writing a file, block by block. Each block is one write, so that what is there after a crash is whole blocks and at most
//! one broken one.

use crate::Header;
use crate::block::{self, HASH, Hash, Head, Kind, MAGIC, MAX_PAYLOAD};
use std::io::{self, Write};
use std::time::Duration;

/// Writes one file.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    chain: Hash,
    bytes: u64,
    micros: u64,
    keys: Vec<(u64, u64)>,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a file with its header.
    ///
    /// # Errors
    /// It cannot be written. A writer that failed is of no more use: its file may end within a block.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        let (chain, bytes) = (block::first(), MAGIC.len() as u64);
        let mut writer = Self { out, chain, bytes, micros: 0, keys: Vec::new(), buffer: Vec::new() };
        writer.block(Kind::Header, Duration::ZERO, &serde_json::to_vec(header)?)?;
        Ok(writer)
    }

    /// A whole screen: ServerInit and updates.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn key(&mut self, at: Duration, rfb: &[u8]) -> io::Result<()> {
        let offset = self.bytes;
        self.block(Kind::Key, at, rfb)?;
        self.keys.push((self.micros, offset));
        Ok(())
    }

    /// What changed since.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn update(&mut self, at: Duration, rfb: &[u8]) -> io::Result<()> {
        self.block(Kind::Update, at, rfb)
    }

    /// Something to be known, as JSON.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn note(&mut self, at: Duration, json: &str) -> io::Result<()> {
        self.block(Kind::Note, at, json.as_bytes())
    }

    /// Ends the file with its index, and gives what it was written to and the last hash of the chain.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn finish(mut self, at: Duration) -> io::Result<(W, [u8; HASH])> {
        let offset = self.bytes;
        let entry = |(time, offset): &(u64, u64)| [time.to_be_bytes(), offset.to_be_bytes()].concat();
        let index: Vec<u8> = self.keys.iter().flat_map(entry).collect();
        self.block(Kind::Index, at, &index)?;
        self.block(Kind::End, at, &offset.to_be_bytes())?;
        Ok((self.out, self.chain))
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn block(&mut self, kind: Kind, at: Duration, payload: &[u8]) -> io::Result<()> {
        if payload.len() > MAX_PAYLOAD {
            let why =
                format!("a block of a recording has at most {MAX_PAYLOAD} bytes, not {}", payload.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.micros = self.micros.max(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        let head = Head { length: payload.len(), kind: kind as u8, micros: self.micros }.write();
        self.chain = block::next(&self.chain, &head, payload);
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(payload);
        self.buffer.extend_from_slice(&self.chain);
        self.out.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        // The first screen should not stay allocated for a desktop that idles.
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }
}
