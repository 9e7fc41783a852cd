//! The client's side of RFB: the handshake, the client's messages, and a viewer that decodes into a framebuffer.
//!
//! The gateway uses the handshake only; tests and benchmarks use all of it as an independent judge of the encoders.

mod handshake;

pub mod write;

pub use handshake::{Handshake, HandshakeError, HandshakeEvent, Want};
