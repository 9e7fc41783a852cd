//! What the display benchmark shows: frames that are the same, pixel by pixel, wherever they are drawn.
//!
//! ```text
//! Workload ──► Scene ── step ──► the next frame's changed areas, in a Canvas that bears the frame's number as a barcode
//!                ├─► in a guest or an X server: window::run puts them on the screen
//!                └─► in the benchmark: what a viewer should see
//! ```
//!
//! The number of the frame is in the picture, so that a viewer's picture tells which frame it is of. Knows nothing of
//! VNC, of servers, or of what is measured.
#![forbid(unsafe_code)]

pub mod barcode;
pub mod canvas;
pub mod clapper;
mod drag;
mod photo;
pub mod scene;
mod scroll;
mod text;
mod typing;
mod video;
pub mod window;

pub use canvas::{Area, Canvas};
pub use scene::{Scene, Workload};
