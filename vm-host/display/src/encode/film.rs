//! The films that run, for one viewer: as Open H.264 (rfbproto, "Open H.264 Encoding"), one stream for each film's rectangle,
//! or as pictures, of what changed. Either way a frame is sent whole: one that is cut into parts would be overtaken by the next
//! wherever the link is slower than the film, and its lower half never sent.
//!
//! ```text
//! none ── the film is told ──► fresh ── its first frame (reset, stands alone) ──► running ── the film is over ──► none
//! ```
//!
//! The viewer keeps a decoder for each rectangle until it is told otherwise, and need not keep more than 64 (TigerVNC then
//! drops the one that was made first, though it may be in use). So all are reset before they are many, and when no film runs.

use crate::screen::Screen;
use crate::video::H264Encoder;
use lucarne_rfb::Rect;
use lucarne_rfb::server::Update;
use lucarne_rfb::server::write::H264Reset;

/// Decoders that a viewer is made to hold at most. Each takes megabytes; with few, films that run begin anew more often.
const MAX_CONTEXTS: usize = 16;

/// Quantisers for libjpeg's qualities, where both look alike in motion. Grain, which no film is watched for, is lost earlier
/// than in a picture that stands still.
const QUANTISERS: [(u8, u8); 6] = [(1, 42), (12, 37), (54, 28), (78, 23), (91, 19), (100, 15)];

/// What changed of a film is all of it from this share on.
const MOST: (u64, u64) = (3, 4);

/// One film.
#[derive(Debug)]
struct Stream {
    rect: Rect,
    /// `None` where the viewer takes no video, and after it failed: the film is sent as pictures.
    encoder: Option<H264Encoder>,
    /// The viewer has nothing of it yet.
    fresh: bool,
    /// Its last frame found no room.
    late: bool,
}

/// What a film's pictures may take of what is usual, for all that they can have been: one odd picture is not the film.
const WEIGHTS: (f64, f64) = (0.2, 5.0);

/// The streams of one viewer.
#[derive(Debug, Default)]
pub(super) struct Films {
    streams: Vec<Stream>,
    /// How many times as many bytes as is usual the last pictures took.
    weight: Option<f64>,
    /// Decoders that the viewer may hold.
    contexts: usize,
}

/// A frame that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The film's rectangle.
    pub(super) film: Rect,
    /// What of it is new, if it is sent as pictures.
    pub(super) parts: Vec<Rect>,
}

/// Frames that are due.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Of films that had to wait before.
    pub(super) late: Vec<Frame>,
    /// Of the others.
    pub(super) now: Vec<Frame>,
}

impl Due {
    /// Pixels that are to be sent as pictures.
    pub(super) fn pixels(&self) -> u64 {
        self.late.iter().chain(&self.now).flat_map(|frame| &frame.parts).map(Rect::area).sum()
    }
}

impl Films {
    /// These films run, as video with that quantiser, or as pictures: streams of others end. Rectangles have even edges and lie
    /// on the screen.
    pub(super) fn run(&mut self, films: &[Rect], quantiser: Option<u8>) {
        self.streams.retain(|stream| films.contains(&stream.rect));
        if films.is_empty() {
            self.weight = None;
        }
        for &rect in films {
            match self.streams.iter_mut().find(|stream| stream.rect == rect) {
                Some(Stream { encoder: Some(encoder), .. }) => {
                    quantiser.into_iter().for_each(|quantiser| encoder.set_quantiser(quantiser));
                }
                Some(_) => {}
                None => {
                    let encoder = quantiser.and_then(|quantiser| H264Encoder::new(rect, quantiser));
                    self.streams.push(Stream { rect, encoder, fresh: true, late: false });
                }
            }
        }
    }

    /// Takes the films in which something is new out of the lists of rectangles that are to be sent.
    pub(super) fn take<const N: usize>(&mut self, mut lists: [&mut Vec<Rect>; N]) -> Due {
        let mut due = Due::default();
        for stream in &mut self.streams {
            let film = stream.rect;
            let mut parts = Vec::new();
            for list in &mut lists {
                let inside: Vec<Rect> = list.iter().filter_map(|rect| rect.intersection(&film)).collect();
                if !inside.is_empty() {
                    parts.extend(inside);
                    **list = list.iter().flat_map(|rect| rect.without(&film)).collect();
                }
            }
            if parts.is_empty() {
                continue;
            }
            let parts = if stream.encoder.is_some() { Vec::new() } else { simpler(parts) };
            let late = std::mem::take(&mut stream.late);
            if late { &mut due.late } else { &mut due.now }.push(Frame { film, parts });
        }
        due
    }

    /// The frame of this film found no room; it goes first the next time.
    pub(super) fn delay(&mut self, rect: Rect) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.rect == rect) {
            stream.late = true;
        }
    }

    /// Writes a film's present frame; `false` and nothing when it cannot be coded, so that the caller sends a picture.
    pub(super) fn write(&mut self, screen: &Screen, rect: Rect, update: &mut Update<'_>) -> bool {
        let Some(at) = self.streams.iter().position(|stream| stream.rect == rect) else { return false };
        if self.streams[at].encoder.is_none() {
            return false;
        }
        let reset = if !self.streams[at].fresh {
            H264Reset::None
        } else if self.contexts == MAX_CONTEXTS || self.streams.iter().all(|stream| stream.fresh) {
            H264Reset::All
        } else {
            H264Reset::Context
        };
        let Stream { encoder, .. } = &mut self.streams[at];
        let mut frame = Vec::new();
        if !encoder.as_mut().is_some_and(|e| e.encode(screen, reset != H264Reset::None, &mut frame)) {
            *encoder = None;
            return false;
        }
        match reset {
            H264Reset::None => {}
            H264Reset::Context => self.contexts += 1,
            H264Reset::All => {
                self.contexts = 1;
                self.streams.iter_mut().for_each(|stream| stream.fresh = true);
            }
        }
        self.streams[at].fresh = false;
        update.h264(rect, reset, &frame);
        true
    }

    /// How many times as many bytes as is usual its pictures take.
    pub(super) fn weight(&self) -> f64 {
        self.weight.unwrap_or(1.0)
    }

    /// Pictures of films took so many bytes where so many are usual.
    pub(super) fn weigh(&mut self, bytes: usize, usual: f64) {
        let now = (bytes as f64 / usual.max(1.0)).clamp(WEIGHTS.0, WEIGHTS.1);
        self.weight = Some(self.weight.map_or(now, |before| (before + now) / 2.0));
    }

    /// Adds to an update that is sent anyway that the viewer needs no decoder any more, if that is so; `visible` is all that
    /// it shows.
    pub(super) fn release(&mut self, visible: Rect, update: &mut Update<'_>) {
        if self.contexts > 0 && self.streams.is_empty() && update.rects() > 0 {
            update.h264(visible, H264Reset::All, &[]);
            self.contexts = 0;
        }
    }

    /// Begins all streams anew; the viewer may have forgotten them.
    pub(super) fn restart(&mut self) {
        self.streams.clear();
    }

    /// Where films run.
    pub(super) fn rects(&self) -> impl Iterator<Item = Rect> + '_ {
        self.streams.iter().map(|stream| stream.rect)
    }
}

/// One rectangle where that is not much more: each has headers, and of a JPEG also tables.
fn simpler(parts: Vec<Rect>) -> Vec<Rect> {
    let whole = parts.iter().fold(Rect::default(), |all, part| all.bounding(part));
    let area: u64 = parts.iter().map(Rect::area).sum();
    if area * MOST.1 >= whole.area() * MOST.0 { vec![whole] } else { parts }
}

/// The quantiser for a quality of libjpeg's scale, 1 to 100.
pub(super) fn quantiser(quality: u8) -> u8 {
    let mut below = QUANTISERS[0];
    for above in QUANTISERS {
        if quality <= above.0 {
            let (span, part) = (above.0 - below.0, quality.saturating_sub(below.0));
            let fall = u32::from(below.1 - above.1) * u32::from(part);
            return below.1 - fall.checked_div(span.into()).unwrap_or(0) as u8;
        }
        below = above;
    }
    below.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_pictures_are_quantised_finer_at_every_level() {
        assert_eq!([1, 12, 54, 78, 91, 100, 255].map(quantiser), [42, 37, 28, 23, 19, 15, 15]);
        assert!((1..100).all(|quality| quantiser(quality) >= quantiser(quality + 1)));
        assert_eq!(quantiser(0), 42);
    }
}
