//! RFB (VNC) wire format, both sides, sans-I/O: bytes in, events out; messages are appended to a `Vec<u8>`.
//!
//! This crate knows nothing of sockets, TLS, async runtimes, screens or virtual machines. A caller feeds bytes in any
//! chunking and asks for events until there are none; where TLS or AES starts, an event says so and the caller wraps its
//! stream. RSA and randomness are the caller's too ([`security::rsa_aes::Rsa`]). Every parser is bounded: what a peer can
//! make it hold is stated as a constant beside it.
//!
//! Sources: RFC 6143, and the community's specification (the file `rfbproto.rst` of the rfbproto project), cited by
//! section title in each module.
#![forbid(unsafe_code)]

pub mod audio;
pub mod client;
pub mod clipboard;
pub mod encodings;
pub mod keysym;
pub mod pixel;
pub mod rect;
pub mod security;
pub mod server;
pub mod wire;

pub use encodings::ClientEncodings;
pub use pixel::PixelFormat;
pub use rect::Rect;
pub use security::{RsaAes, SecurityType, Subtype, Version};
