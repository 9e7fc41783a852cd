//! The gateway: authenticated viewers on one side, desktops' display sockets on the other, bytes in between.
//!
//! Never decodes a pixel. Dials only addresses that a host's agent gave, never one from a client.

mod aes;
mod anonymous;
pub mod door;
pub mod link;
mod splice;
pub mod tcp;
pub mod vnc;
pub mod ws;
