//! Films as Open H.264 (rfbproto, "Open H.264 Encoding"): one stream for each film's rectangle, for one viewer.
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
const QUANTISERS: [(u8, u8); 6] = [(1, 42), (12, 37), (54, 28), (78, 24), (91, 20), (100, 15)];

/// One film.
#[derive(Debug)]
struct Stream {
    rect: Rect,
    /// `None` after it failed: the film is sent as pictures.
    encoder: Option<H264Encoder>,
    /// The viewer has nothing of it yet.
    fresh: bool,
    /// Its last frame found no room.
    late: bool,
}

/// The streams of one viewer.
#[derive(Debug, Default)]
pub(super) struct Films {
    streams: Vec<Stream>,
    /// Decoders that the viewer may hold.
    contexts: usize,
}

/// Frames that are due.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Of films that had to wait before.
    pub(super) late: Vec<Rect>,
    /// Of the others.
    pub(super) now: Vec<Rect>,
}

impl Films {
    /// These films run: streams of others end. Rectangles have even edges and lie on the screen.
    pub(super) fn run(&mut self, films: &[Rect], quantiser: u8) {
        self.streams.retain(|stream| films.contains(&stream.rect));
        for &rect in films {
            match self.streams.iter_mut().find(|stream| stream.rect == rect) {
                Some(Stream { encoder: Some(encoder), .. }) => encoder.set_quantiser(quantiser),
                Some(_) => {}
                None => {
                    let encoder = H264Encoder::new(rect, quantiser);
                    self.streams.push(Stream { rect, encoder, fresh: true, late: false });
                }
            }
        }
    }

    /// Takes the films in which something is new out of the rectangles that are to be sent.
    pub(super) fn take(&mut self, rects: &mut Vec<Rect>, backlog: &mut Vec<Rect>) -> Due {
        let mut due = Due::default();
        for stream in self.streams.iter_mut().filter(|stream| stream.encoder.is_some()) {
            let film = stream.rect;
            if rects.iter().chain(&*backlog).any(|rect| rect.intersection(&film).is_some()) {
                for list in [&mut *rects, &mut *backlog] {
                    *list = list.iter().flat_map(|rect| rect.without(&film)).collect();
                }
                let late = std::mem::take(&mut stream.late);
                if late { &mut due.late } else { &mut due.now }.push(film);
            }
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

    /// The areas that are sent as video.
    pub(super) fn rects(&self) -> impl Iterator<Item = Rect> + '_ {
        self.streams.iter().filter(|stream| stream.encoder.is_some()).map(|stream| stream.rect)
    }
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
        assert_eq!([1, 12, 54, 78, 91, 100, 255].map(quantiser), [42, 37, 28, 24, 20, 15, 15]);
        assert!((1..100).all(|quality| quantiser(quality) >= quantiser(quality + 1)));
        assert_eq!(quantiser(0), 42);
    }
}
