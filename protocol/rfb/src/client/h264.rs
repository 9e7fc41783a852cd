//! Open H.264 (rfbproto, "Open H.264 Encoding"): lengths, flags, and which decoder has a rectangle's past. What is in the
//! video is the caller's to decode.

use super::codecs::{Codecs, H264Frames};
use super::decode::{DecodeError, MAX_RECT_BYTES};
use super::framebuffer::Framebuffer;
use crate::rect::Rect;
use crate::wire::Reader;

/// Decoders that a client must be able to hold at once.
const CONTEXTS: usize = 64;

const RESET_CONTEXT: u32 = 1;
const RESET_ALL_CONTEXTS: u32 = 2;

/// The rectangles whose past is known.
#[derive(Debug)]
pub(super) struct H264 {
    contexts: [Option<Context>; CONTEXTS],
    /// Rectangles so far.
    clock: u64,
}

impl Default for H264 {
    fn default() -> Self {
        Self { contexts: [None; CONTEXTS], clock: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Context {
    rect: Rect,
    /// The clock when it was used last.
    used: u64,
}

impl H264 {
    /// Says whether something was drawn; `None` when there are too few bytes.
    pub(super) fn rect(
        &mut self,
        rect: Rect,
        r: &mut Reader<'_>,
        codecs: &mut Codecs,
        fb: &mut Framebuffer,
    ) -> Result<Option<bool>, DecodeError> {
        let (Some(length), Some(flags)) = (r.u32().map(|n| n as usize), r.u32()) else { return Ok(None) };
        if length > MAX_RECT_BYTES {
            return Err(DecodeError::Rules("more than 64 MiB of video"));
        }
        let Some(data) = r.bytes(length) else { return Ok(None) };
        self.reset(rect, flags);
        if data.is_empty() {
            return Ok(Some(false));
        }
        let decoder = codecs.h264.as_mut().ok_or(DecodeError::H264)?;
        let (context, fresh) = self.context(rect);
        let Some(pixels) = decoder(H264Frames { rect, context, fresh, data }) else { return Ok(Some(false)) };
        if pixels.len() as u64 != rect.area() {
            return Err(DecodeError::H264);
        }
        fb.put(rect, pixels.into_iter().map(|p| p & 0x00ff_ffff));
        Ok(Some(true))
    }

    fn reset(&mut self, rect: Rect, flags: u32) {
        let all = flags & RESET_ALL_CONTEXTS != 0;
        if all || flags & RESET_CONTEXT != 0 {
            let gone = |c: &Context| all || c.rect == rect;
            self.contexts.iter_mut().filter(|c| c.as_ref().is_some_and(gone)).for_each(|c| *c = None);
        }
    }

    /// The rectangle's context, and whether it is new. Where all are taken, the one that was not used for the longest
    /// time gives way.
    fn context(&mut self, rect: Rect) -> (u8, bool) {
        self.clock += 1;
        let known = self.contexts.iter().position(|c| c.is_some_and(|c| c.rect == rect));
        let (number, fresh) = match known {
            Some(number) => (number, false),
            // What is free counts as unused since the beginning.
            None => {
                let used = |i: &usize| self.contexts[*i].map_or(0, |c| c.used);
                ((0..CONTEXTS).min_by_key(used).unwrap_or(0), true)
            }
        };
        self.contexts[number] = Some(Context { rect, used: self.clock });
        (number as u8, fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Put;
    use std::sync::{Arc, Mutex};

    /// What the decoder was given: rectangle's x, context, fresh.
    type Seen = Arc<Mutex<Vec<(u16, u8, bool)>>>;

    fn codecs() -> (Codecs, Seen) {
        let seen = Seen::default();
        let log = seen.clone();
        let h264 = Box::new(move |f: H264Frames<'_>| {
            log.lock().unwrap().push((f.rect.x, f.context, f.fresh));
            (f.data[0] != 0).then(|| vec![u32::from(f.data[0]); f.rect.area() as usize])
        });
        (Codecs { h264: Some(h264), ..Codecs::default() }, seen)
    }

    fn packet(flags: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(data.len() as u32);
        out.put_u32(flags);
        out.put_bytes(data);
        out
    }

    struct Stream {
        h264: H264,
        codecs: Codecs,
        fb: Framebuffer,
    }

    impl Stream {
        fn new(codecs: Codecs) -> Self {
            Self { h264: H264::default(), codecs, fb: Framebuffer::new(100, 1).unwrap() }
        }

        fn show(&mut self, x: u16, flags: u32, data: &[u8]) -> Result<Option<bool>, DecodeError> {
            let packet = packet(flags, data);
            let rect = Rect::new(x, 0, 1, 1);
            self.h264.rect(rect, &mut Reader::new(&packet), &mut self.codecs, &mut self.fb)
        }
    }

    #[test]
    fn each_rectangle_has_a_decoder_of_its_own_until_it_is_reset() {
        let (codecs, seen) = codecs();
        let mut stream = Stream::new(codecs);
        for (x, flags, expected) in [
            (0, 0, (0, 0, true)),
            (1, 0, (1, 1, true)),
            (0, 0, (0, 0, false)),
            (0, RESET_CONTEXT, (0, 0, true)),
            (1, 0, (1, 1, false)),
            (0, RESET_ALL_CONTEXTS | 1 << 31, (0, 0, true)),
            (1, 0, (1, 1, true)),
        ] {
            assert_eq!(stream.show(x, flags, &[9]), Ok(Some(true)));
            assert_eq!(seen.lock().unwrap().pop(), Some(expected));
        }
    }

    #[test]
    fn without_data_only_the_flags_count() {
        let (codecs, seen) = codecs();
        let mut stream = Stream::new(codecs);
        stream.show(0, 0, &[9]).unwrap();
        assert_eq!(stream.show(0, RESET_CONTEXT, &[]), Ok(Some(false)));
        stream.show(0, 0, &[9]).unwrap();
        assert_eq!(*seen.lock().unwrap(), [(0, 0, true), (0, 0, true)]);
    }

    #[test]
    fn the_decoder_that_was_idle_the_longest_gives_way_to_a_65th() {
        let (codecs, seen) = codecs();
        let mut stream = Stream::new(codecs);
        (0..64).for_each(|x| assert_eq!(stream.show(x, 0, &[9]), Ok(Some(true))));
        stream.show(0, 0, &[9]).unwrap();
        seen.lock().unwrap().clear();
        stream.show(64, 0, &[9]).unwrap();
        stream.show(0, 0, &[9]).unwrap();
        stream.show(1, 0, &[9]).unwrap();
        assert_eq!(*seen.lock().unwrap(), [(64, 1, true), (0, 0, false), (1, 2, true)]);
    }

    #[test]
    fn a_frame_without_a_picture_leaves_the_rectangle_as_it_was() {
        let (codecs, _) = codecs();
        let mut stream = Stream::new(codecs);
        stream.show(3, 0, &[7]).unwrap();
        assert_eq!(stream.show(3, 0, &[0]), Ok(Some(false)));
        assert_eq!(stream.fb.pixel(3, 0), Some(7));
    }

    #[test]
    fn video_that_nobody_decodes_and_lengths_beyond_the_limit_are_errors() {
        let mut stream = Stream::new(Codecs::default());
        assert_eq!(stream.show(0, 0, &[9]), Err(DecodeError::H264));
        let mut bytes = packet(0, &[]);
        bytes[..4].copy_from_slice(&(MAX_RECT_BYTES as u32 + 1).to_be_bytes());
        let Stream { h264, codecs, fb } = &mut stream;
        let long = h264.rect(Rect::default(), &mut Reader::new(&bytes), codecs, fb);
        assert_eq!(long, Err(DecodeError::Rules("more than 64 MiB of video")));
    }
}
