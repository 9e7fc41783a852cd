//! The display path: frames and damage in, RFB bytes out.
//!
//! ```text
//! frame ──► Screen::update ──► Change ──► ViewerDamage (one per viewer) ──► Changes ──► Encoder ──► FramebufferUpdate
//! ```
//!
//! This crate knows neither QEMU nor KVM, neither sockets nor clocks: a caller brings frames, and sends the bytes that
//! come out. Everything is deterministic in its input.
#![deny(unsafe_code)]

pub mod cursor;
pub mod encode;
mod motion;
pub mod region;
pub mod screen;
pub mod source;
pub mod thumbnail;
pub mod video;
pub mod viewer;
mod wide;

pub use cursor::CursorShape;
pub use encode::{EncodeError, Encoded, Encoder, Extras, Resize, Share, UNLIMITED};
pub use lucarne_rfb::Rect;
pub use region::Region;
pub use screen::{Change, Copy, MAX_PIXELS, Screen, ScreenError};
pub use source::{Bytes, Source};
pub use thumbnail::thumbnail;
pub use video::FilmDetector;
pub use viewer::{Changes, ViewerDamage};
