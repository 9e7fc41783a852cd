//! Films: areas of the screen in which pictures move, found by how they change and coded as video.
//!
//! [`FilmDetector`] finds them, once for all viewers; what becomes of them is each viewer's encoder's business.

mod detect;

pub use detect::{FilmDetector, MAX_FILMS};
