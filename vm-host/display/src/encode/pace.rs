//! Quality that follows the link: a picture that would take long is sent coarser, and becomes exact when it stands still.

use super::jpeg::JpegSettings;

/// A changed part of the screen should be under way for no longer than this, seconds: what moves is watched for moving.
const PICTURE_TIME: f64 = 0.06;

/// A frame of a film should be under way for no longer than this, seconds.
const FRAME_TIME: f64 = 1.0 / 25.0;

/// The same where films are sent as pictures, which have more bytes: sixteen frames a second still look like motion, and
/// pictures at 25 a second would often look like nothing.
const FILM_PICTURE_TIME: f64 = 1.0 / 16.0;

/// Bytes a pixel at libjpeg's qualities, of a photograph that moves (`lucarne-bench encode --work video`).
const PICTURE: [(u8, f64); 8] =
    [(12, 0.052), (32, 0.066), (54, 0.081), (66, 0.093), (78, 0.117), (85, 0.155), (91, 0.232), (96, 0.414)];

/// The same of a frame of H.264 at the quantiser that belongs to the quality.
const FRAME: [(u8, f64); 6] = [(12, 0.003), (54, 0.006), (66, 0.009), (78, 0.016), (91, 0.055), (96, 0.12)];

/// Below this a picture cannot be recognised well enough to be of use.
const WORST_PICTURE: u8 = 32;

/// The same for films, where motion helps.
const WORST_FILM: u8 = 12;

/// How pictures are sent for a client that asked for `asked`, of which so many pixels have changed, over a link of so many
/// bytes a second. `None`: not known, and so not in the way.
pub(super) fn picture(asked: JpegSettings, pixels: u64, rate: Option<f64>) -> JpegSettings {
    let quality = affordable(&PICTURE, asked.quality, pixels, rate.map(|rate| rate * PICTURE_TIME));
    let quality = quality.max(WORST_PICTURE.min(asked.quality));
    if quality == asked.quality { asked } else { asked.coarser(quality) }
}

/// The same for films of which so many pixels have changed, whose pictures take `weight` times as many bytes as is usual.
pub(super) fn film_picture(asked: JpegSettings, pixels: u64, rate: Option<f64>, weight: f64) -> JpegSettings {
    let room = rate.map(|rate| rate * FILM_PICTURE_TIME / weight);
    let quality = affordable(&PICTURE, asked.quality, pixels, room);
    let quality = quality.max(WORST_FILM.min(asked.quality));
    if quality == asked.quality { asked } else { asked.coarser(quality) }
}

/// The quality of films as video of so many pixels together, likewise.
pub(super) fn film(asked: u8, pixels: u64, rate: Option<f64>) -> u8 {
    affordable(&FRAME, asked, pixels, rate.map(|rate| rate * FRAME_TIME)).max(WORST_FILM.min(asked))
}

/// Bytes that so many pixels usually take at a quality.
pub(super) fn usual_bytes(quality: u8, pixels: u64) -> f64 {
    let (mut below, mut smaller) = PICTURE[0];
    let mut each = smaller;
    for (above, size) in PICTURE {
        if quality <= above {
            let part = f64::from(quality.saturating_sub(below)) / f64::from((above - below).max(1));
            return (smaller + (size - smaller) * part) * pixels as f64;
        }
        (below, smaller, each) = (above, size, size);
    }
    each * pixels as f64
}

/// The best quality up to `asked` at which so many pixels have about `room` bytes.
fn affordable(sizes: &[(u8, f64)], asked: u8, pixels: u64, room: Option<f64>) -> u8 {
    let Some(room) = room else { return asked };
    let each = room / pixels.max(1) as f64;
    let mut best = 1.0;
    let mut before: Option<(u8, f64)> = None;
    for &(quality, size) in sizes {
        let from = before.replace((quality, size));
        if size <= each {
            best = f64::from(quality);
        } else {
            if let Some((below, smaller)) = from {
                best += f64::from(quality - below) * (each - smaller) / (size - smaller);
            }
            return asked.min(best as u8);
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_rfb::encodings::Subsampling;

    const ASKED: JpegSettings = JpegSettings { quality: 91, subsampling: Subsampling::Full };
    const MBIT: f64 = 125_000.0;

    #[test]
    fn a_link_that_is_not_known_or_fast_gets_what_was_asked_for() {
        assert_eq!(picture(ASKED, 2_000_000, None), ASKED);
        assert_eq!(picture(ASKED, 1_024_000, Some(1000.0 * MBIT)), ASKED);
        assert_eq!(film(91, 230_400, Some(20.0 * MBIT)), 91);
    }

    #[test]
    fn what_is_small_is_sent_as_well_over_a_slow_link() {
        assert_eq!(picture(ASKED, 10_000, Some(2.0 * MBIT)), ASKED);
    }

    #[test]
    fn the_slower_the_link_and_the_larger_the_picture_the_coarser_it_is() {
        let at = |mbit: f64, pixels| picture(ASKED, pixels, Some(mbit * MBIT)).quality;
        for mbit in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0] {
            assert!(at(mbit, 230_400) <= at(mbit * 2.0, 230_400), "{mbit} Mbit/s");
            assert!(at(mbit, 230_400) >= at(mbit, 460_800), "{mbit} Mbit/s");
        }
        assert!((33..80).contains(&at(2.5, 230_400)), "{}", at(2.5, 230_400));
        assert_eq!(at(0.1, 230_400), WORST_PICTURE);
        assert_eq!(picture(ASKED, 230_400, Some(MBIT)).subsampling, Subsampling::Quarter);
    }

    #[test]
    fn nobody_gets_better_than_asked_for() {
        let coarse = JpegSettings { quality: 12, subsampling: Subsampling::Quarter };
        assert_eq!(picture(coarse, 100, Some(1000.0 * MBIT)), coarse);
        assert_eq!(picture(coarse, 1_000_000, Some(MBIT)), coarse);
        assert_eq!(film(1, 1_000_000, Some(MBIT)), 1);
    }

    #[test]
    fn a_film_whose_pictures_take_more_than_usual_is_coarser() {
        let at = |weight| film_picture(ASKED, 230_400, Some(4.0 * MBIT), weight).quality;
        assert!(at(1.5) < at(1.0) && at(1.0) < at(0.5) && at(100.0) == WORST_FILM);
        let bytes = usual_bytes(at(1.5), 230_400) * 1.5;
        assert!((29_000.0..=31_300.0).contains(&bytes), "{bytes}");
        assert!((usual_bytes(96, 1000) - 414.0).abs() < 1e-6 && usual_bytes(100, 1000) < 415.0);
    }

    #[test]
    fn a_film_is_coarser_where_its_frames_would_pile_up() {
        let at = |mbit: f64| film(91, 230_400, Some(mbit * MBIT));
        assert!(at(1.0) < 91 && at(0.3) < at(1.0) && at(0.01) == WORST_FILM);
    }
}
