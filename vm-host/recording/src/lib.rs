//! The file of a recorded session, `.lrec`: what was on a desktop's screen, and when.
//!
//! ```text
//! file  = MAGIC, header, key, { update | key | note | others }, [ index, end ]
//! block = length u32 ‖ kind u8 ‖ 0 u8 ×3 ‖ time u64 ‖ payload ‖ hash [32]          numbers are big-endian
//! hash  = SHA-256(hash of the block before, or of MAGIC ‖ the block's first 16 bytes ‖ payload)
//! ```
//!
//! | kind | payload |
//! | --- | --- |
//! | 1 header | JSON: [`Header`] |
//! | 2 key | RFB: ServerInit (BGRX), then FramebufferUpdates that draw the whole screen and set the pointer's shape |
//! | 3 update | RFB: FramebufferUpdates, to be read in the same stream as the key before |
//! | 4 note | JSON: something that is to be known |
//! | 5 index | the key blocks: time u64 ‖ offset u64, each |
//! | 6 end | offset of the index, u64 |
//!
//! Times are microseconds since the header's, and never fall. From each key on, the payloads are what an RFB server sends
//! after the handshake, and any RFB client plays them. Readers pass over kinds that they do not know; sound will be one.
//!
//! A file that was cut off anywhere is read up to its last whole block, and its index is found by reading the blocks' heads.
//! The hashes are a chain: no block can be changed, left out or put in without another hash at the end. Whoever can write the
//! file can make a whole new chain, so the last hash has to be kept elsewhere to prove anything to others.
//!
//! This crate knows nothing of desktops, of how pixels are encoded, and of where a file lies.

#![forbid(unsafe_code)]

mod block;
mod reader;
mod writer;

pub use block::{Kind, MAGIC, MAX_PAYLOAD};
pub use reader::{Checked, Frame, KeyFrame, ReadError, Recording};
pub use writer::Writer;

use serde::{Deserialize, Serialize};

/// The version of the format that this crate writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// What a file says of itself in its first block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The desktop's id.
    pub desktop: String,
    /// The desktop's name.
    pub name: String,
    /// The session's id; the broker knows whose it was.
    #[serde(default)]
    pub session: Option<String>,
    /// The pool's id, by which recordings are counted and removed.
    #[serde(default)]
    pub pool: Option<String>,
    /// When it begins, milliseconds since the epoch, by the host's clock.
    pub started_at_ms: u64,
    /// Days to keep it for.
    #[serde(default)]
    pub keep_days: Option<u32>,
    /// MiB that all recordings of its pool may take on one host.
    #[serde(default)]
    pub keep_mib: Option<u64>,
}
