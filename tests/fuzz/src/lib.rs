//! Fuzz targets: each parser of Lucarne is given bytes that nobody vouches for, as they come from a guest, a viewer, a
//! network peer or an image. `ops/fuzz` runs one for as long as you like, `ops/test` each for a moment.
//!
//! A target is a function from bytes to nothing that must not panic, and must not hold more memory than its bound, which
//! [`target!`] names. Where a parser takes a stream, a target also shows that the pieces in which it comes make no
//! difference; where there is a writer, that what it writes is read as the same.
//!
//! | module | parsers |
//! | --- | --- |
//! | [`handshake`] | RFB's handshake, both sides |
//! | [`messages`] | RFB's messages, both sides, clipboard and pixel formats |
//! | [`rects`] | rectangles of each encoding |
//! | [`encode`] | what the display path writes, judged by the decoder |
//! | [`guest`] | the clipboard's agent, the guest agent, QEMU's display calls and device state |
//! | [`control`] | messages between broker, agents and desktops |
//! | [`images`] | headers of disk files, recipes |
//! | [`recordings`] | recordings |

pub mod allocation;
pub mod control;
pub mod encode;
pub mod guest;
pub mod handshake;
pub mod images;
pub mod input;
pub mod messages;
pub mod recordings;
pub mod rects;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

/// Makes a program of a function that takes bytes; beyond so many KiB of memory for one input it ends as a finding.
#[macro_export]
macro_rules! target {
    ($function:path, $kib:expr) => {
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::allocation::limited($kib << 10, || $function(
            data
        )));
    };
}
