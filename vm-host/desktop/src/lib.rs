//! The per-VM process: it owns one virtual machine and its display, and serves viewers.
//!
//! ```text
//!  host agent ── control.sock ──► agents ─┐                     ┌─► gate, clipboard ─► Vm   (held until the identity)
//!                                         ├── Desktop ── life ──┤
//!  gateway ──── display.sock ──► door ────┤                     └─► launch ─► QEMU  (fork, adopt)
//!                                  └► viewer (RFB) ◄── picture ◄── the driver's frames
//! ```
//!
//! Everything but [`launch`]'s QEMU part works on any `lucarne_driver::Vm`. This crate knows nothing of the broker, of
//! users, of TLS, and of how pixels are encoded.

mod activity;
mod agents;
mod audio;
mod clipboard;
pub mod config;
pub mod control;
mod desktop;
mod displays;
mod door;
mod error;
mod gate;
mod keyboard;
pub mod launch;
mod life;
mod picture;
mod pointer;
mod record;
mod recorder;
mod run;
mod snapshots;
mod sources;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod viewer;

pub use error::DesktopError;
pub use record::{is_made, of_clone, read_plain, went_back};
pub use run::{Sockets, run, run_in, serve};
pub use snapshots::{at_rest, is_going_back};
