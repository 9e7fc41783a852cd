//! The client's side of RFB: the handshake, the client's messages, and a viewer that decodes into a framebuffer.
//!
//! The gateway uses the handshake only; tests and benchmarks use all of it as an independent judge of the encoders.

mod codecs;
mod cursor;
mod decode;
mod framebuffer;
mod h264;
mod handshake;
mod hextile;
mod inflate;
mod jpeg;
mod tight;
mod viewer;
pub mod write;
mod zrle;

pub use codecs::{Codecs, H264Decoder, H264Frames, JpegDecoder, PngDecoder};
pub use cursor::Cursor;
pub use decode::DecodeError;
pub use framebuffer::{Framebuffer, MAX_PIXELS};
pub use handshake::{Handshake, HandshakeError, HandshakeEvent, Want};
pub use viewer::{ServerEvent, ServerInit, Viewer, ViewerError};
