//! What the broker decides, without what carries it: no socket, no HTTP, no clock of its own.
//!
//! ```text
//! what people ask for ──► control ──► store ──► lucarne_db (memory | SQLite | PostgreSQL)
//! what hosts say ───────► hosts ──┬─► fleet       │ plan
//! what hosts are told ◄───────────┘               ▼
//!                                              change ──► other brokers
//! ```
//!
//! Everything here runs the same in the broker and in the simulation, which gives it virtual time and lets everything fail.

#![deny(unsafe_code)]

mod change;
mod control;
mod entry;
pub mod fleet;
pub mod hosts;
pub mod plan;
mod rank;
pub mod schedule;
pub mod store;

pub use change::Change;
pub use control::{Control, Looked};
pub use entry::Entry;
