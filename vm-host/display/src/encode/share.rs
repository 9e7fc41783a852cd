//! Rectangles that are encoded once for all viewers of a screen who want them alike.
//!
//! ```text
//! viewers ── the same rectangle of the same picture, in the same format and quality ──► first: encode
//!                                                                            others: wait for it, and copy
//! ```
//!
//! Such a rectangle stands for itself: each of its zlib streams begins anew (rfbproto, "Tight Encoding": the bits that reset
//! streams). That costs some bytes, so it is for screens that several look at.

use super::EncodeError;
use super::jpeg::JpegSettings;
use super::tight::{Job, Tight};
use crate::region::Region;
use crate::screen::Screen;
use lucarne_rfb::pixel::PixelWriter;
use lucarne_rfb::server::Update;
use lucarne_rfb::{PixelFormat, Rect};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Rectangles that are kept. More would only be of pictures that all viewers have gone past.
const KEPT: usize = 128;

/// Bytes that are kept beyond the last rectangle.
const KEPT_BYTES: usize = 4 << 20;

/// What a rectangle is of and how it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The screen's, which rises with every change.
    pub(super) generation: u64,
    pub(super) rect: Rect,
    pub(super) format: PixelFormat,
    /// zlib's.
    pub(super) level: u32,
    pub(super) jpeg: Option<JpegSettings>,
}

/// A rectangle as sent: one or more RFB rectangles with their headers.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) bytes: Vec<u8>,
    pub(super) rects: u16,
    /// Where it is only approximate.
    pub(super) lossy: Vec<Rect>,
}

type Slot = Arc<OnceLock<Option<Done>>>;

/// What viewers of one screen share.
#[derive(Debug, Default)]
pub struct Share {
    slots: Mutex<VecDeque<(Wanted, Slot)>>,
    /// Encoders that are not at work.
    idle: Mutex<Vec<Tight>>,
}

impl Share {
    /// The rectangle, encoded by whoever asks first. Blocks those who ask meanwhile.
    pub(super) fn rect(
        &self,
        screen: &Screen,
        wanted: Wanted,
    ) -> Result<Arc<OnceLock<Option<Done>>>, EncodeError> {
        let slot = self.slot(wanted);
        let done = slot.get_or_init(|| {
            let mut tight = lock(&self.idle).pop().unwrap_or_else(Tight::new);
            let done = encode(&mut tight, screen, wanted).ok();
            lock(&self.idle).push(tight);
            done
        });
        if done.is_some() { Ok(slot) } else { Err(EncodeError::Zlib) }
    }

    /// Rectangles that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        lock(&self.slots).len()
    }

    fn slot(&self, wanted: Wanted) -> Slot {
        let mut slots = lock(&self.slots);
        if let Some((_, slot)) = slots.iter().rev().find(|(kept, _)| *kept == wanted) {
            return slot.clone();
        }
        let slot = Slot::default();
        slots.push_back((wanted, slot.clone()));
        let size = |slot: &Slot| slot.get().and_then(Option::as_ref).map_or(0, |done| done.bytes.len());
        let mut bytes: usize = slots.iter().map(|(_, slot)| size(slot)).sum();
        while slots.len() > KEPT || bytes > KEPT_BYTES && slots.len() > 1 {
            bytes -= slots.pop_front().map_or(0, |(_, slot)| size(&slot));
        }
        slot
    }
}

fn encode(tight: &mut Tight, screen: &Screen, wanted: Wanted) -> Result<Done, EncodeError> {
    let writer = PixelWriter::new(wanted.format);
    let job = Job { screen, writer: &writer, level: wanted.level, jpeg: wanted.jpeg };
    let (mut out, mut lossy) = (Vec::new(), Region::new(screen.width(), screen.height()));
    tight.begin_anew();
    let mut update = Update::new(&mut out);
    tight.write(&job, wanted.rect, &mut update, &mut lossy, None)?;
    let rects = update.finish();
    // Without the message's header. A rectangle is never in more than one message: it would have 65,535 parts.
    let bytes = out.split_off(4.min(out.len()));
    Ok(Done { bytes, rects: u16::try_from(rects).unwrap_or(u16::MAX), lossy: lossy.rects() })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left whole entries.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
