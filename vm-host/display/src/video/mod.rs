//! Films: areas of the screen in which pictures move, found by how they change and coded as video.
//!
//! [`FilmDetector`] finds them, once for all viewers; `h264` codes one of them for one viewer.

#[cfg(feature = "h264")]
mod colour;
mod detect;
#[cfg(feature = "h264")]
mod h264;
#[cfg(all(test, feature = "h264"))]
pub(crate) mod testing;

#[cfg(not(feature = "h264"))]
pub(crate) use absent::H264Encoder;
pub use detect::{FilmDetector, MAX_FILMS};
#[cfg(feature = "h264")]
pub(crate) use h264::H264Encoder;

/// This build codes no video.
#[cfg(not(feature = "h264"))]
mod absent {
    use crate::screen::Screen;
    use lucarne_rfb::Rect;

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum H264Encoder {}

    impl H264Encoder {
        pub(crate) fn new(_: Rect, _: u8) -> Option<Self> {
            None
        }

        pub(crate) fn set_quantiser(&mut self, _: u8) {
            match *self {}
        }

        pub(crate) fn encode(&mut self, _: &Screen, _: bool, _: &mut Vec<u8>) -> bool {
            match *self {}
        }
    }
}
