//! The server's side of RFB: the handshake, the client's messages, and writers for everything a server sends.
//!
//! ```text
//! Handshake ── StartTls, StartAes ──► (the caller wraps its stream) ── Plain, Response ──► accept / reject
//!           ── ClientInit ──► ClientMessages
//! ```

mod handshake;
mod messages;
pub mod write;

pub use handshake::{Handshake, HandshakeError, HandshakeEvent, Method, Offer, Security};
pub use messages::{ClientMessage, ClientMessages, MAX_CUT_TEXT, MAX_ENCODINGS, MessageError, Screen};
pub use write::Update;
