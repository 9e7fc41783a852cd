//! One block: its head, its payload, and its hash in the chain.

use sha2::{Digest, Sha256};

/// The first bytes of every file.
pub const MAGIC: &[u8; 8] = b"LUCREC\x01\n";

/// The longest payload, bytes. A screen of 16 million pixels takes no more even if nothing on it can be compressed.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// Length of a block's head.
pub(crate) const HEAD: usize = 16;

/// Length of a hash.
pub(crate) const HASH: usize = 32;

/// A hash of the chain.
pub(crate) type Hash = [u8; HASH];

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The first.
    Header = 1,
    /// A whole screen.
    Key = 2,
    /// What changed.
    Update = 3,
    /// Something to be known.
    Note = 4,
    /// Where the key blocks are.
    Index = 5,
    /// The last.
    End = 6,
}

/// A block's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    /// A [`Kind`], or one that is not known.
    pub(crate) kind: u8,
    pub(crate) micros: u64,
}

impl Head {
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as u8
    }

    /// Bytes of the whole block.
    pub(crate) fn block(&self) -> u64 {
        (HEAD + self.length + HASH) as u64
    }

    pub(crate) fn write(self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..4].copy_from_slice(&(self.length as u32).to_be_bytes());
        out[4] = self.kind;
        out[8..].copy_from_slice(&self.micros.to_be_bytes());
        out
    }

    /// `None` when no writer wrote it.
    pub(crate) fn read(bytes: &[u8; HEAD]) -> Option<Self> {
        let [l0, l1, l2, l3, kind, 0, 0, 0, t0, t1, t2, t3, t4, t5, t6, t7] = *bytes else { return None };
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let micros = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        (length <= MAX_PAYLOAD).then_some(Self { length, kind, micros })
    }
}

/// The hash before the first block.
pub(crate) fn first() -> Hash {
    Sha256::digest(MAGIC).into()
}

/// The hash of a block.
pub(crate) fn next(before: &Hash, head: &[u8; HEAD], payload: &[u8]) -> Hash {
    Sha256::new().chain_update(before).chain_update(head).chain_update(payload).finalize().into()
}
