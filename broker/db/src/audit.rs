//! The audit log's chain: each row has the hash of the one before it, so none can be changed, moved or taken out unseen.
//!
//! One chain for everybody would make every change wait for the one before it. So there are strands: each connection that
//! writes continues its own, and begins it with the heads of those that it found. What a later strand names cannot be cut
//! off any more.

use crate::tables::Audit;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Where a strand is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strand {
    /// Its id.
    pub id: Uuid,
    /// The number of its last row; 0 before the first.
    pub number: u64,
    /// The hash of its last row.
    pub hash: Vec<u8>,
}

impl Strand {
    /// A new one.
    pub fn new() -> Self {
        Self { id: Uuid::now_v7(), number: 0, hash: vec![0; 32] }
    }
}

/// The sha256 of all that a row says, with the hash of the row before it. Each text goes with its length before it, so that
/// nothing can move from one to the next.
#[must_use]
pub fn hash(row: &Audit) -> Vec<u8> {
    let mut sha = Sha256::new();
    sha.update(row.id.as_bytes());
    sha.update(row.strand.as_bytes());
    sha.update(row.number.to_be_bytes());
    sha.update(row.at.to_be_bytes());
    for text in [&row.actor, &row.action, &row.subject, &row.detail] {
        sha.update((text.len() as u64).to_be_bytes());
        sha.update(text);
    }
    sha.update(&row.previous);
    sha.finalize().to_vec()
}
