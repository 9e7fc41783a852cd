//! The desktop's sound: what the guest plays, cut into frames for every viewer that listens.
//!
//! ```text
//! driver ── samples ──► frames of 20 ms ──► silent for long? ──► Opus, once for all ──► a queue for each listener
//!                                              └─ nothing is coded or sent
//! ```
//!
//! Sound that is late is worse than none: a listener's queue is short, and what is oldest in it goes first. While nobody
//! listens there is no work. It knows nothing of RFB, and of who may listen.

mod convert;
mod opus;

pub(crate) use convert::Converter;

use lucarne_driver::{AudioSink, CHANNELS, SAMPLE_RATE};
use opus::Opus;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Milliseconds of a frame. Opus has frames of 20 ms at its best; half of that would be twice the messages.
const FRAME_MS: usize = 20;

/// Samples of a frame, both channels together.
const FRAME: usize = SAMPLE_RATE as usize / 1000 * FRAME_MS * CHANNELS;

/// Frames that wait for one listener: 80 ms. More would be heard later than they are seen; fewer and every hiccup of a link
/// could be heard.
const QUEUE: usize = 4;

/// Frames of silence that are sent before it counts as such. Fewer would stop and start at every pause between words, which
/// costs players their buffer.
const HANGOVER: usize = 25;

/// What is not louder than this, of 32,768, is silence: some players never send a plain zero.
const SILENT: u16 = 1;

/// 20 ms of sound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Left and right alternate.
    pub(crate) samples: Vec<i16>,
    /// The same as a packet, if a listener wants that.
    pub(crate) packet: Option<Vec<u8>>,
}

/// How a listener wants its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As samples.
    Pcm,
    /// As packets too.
    Opus,
}

/// The sound of one desktop.
#[derive(Default)]
pub(crate) struct Audio {
    /// Somebody listens. Looked at before the lock is taken.
    heard: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ears: Vec<Arc<Ear>>,
    /// The beginning of the next frame.
    gathered: Vec<i16>,
    /// Frames of silence so far.
    quiet: usize,
    playing: bool,
    /// `None` when it cannot be had.
    opus: Option<Opus>,
}

/// What waits for one listener.
struct Ear {
    coding: Coding,
    wake: Arc<Notify>,
    waiting: Mutex<Waiting>,
}

/// What a listener takes.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// The oldest first.
    pub(crate) frames: VecDeque<Arc<Frame>>,
    /// More is to come: there is no silence after these.
    pub(crate) playing: bool,
}

/// One who listens, until dropped.
pub(crate) struct Listener {
    audio: Arc<Audio>,
    ear: Arc<Ear>,
}

impl Audio {
    /// Begins to listen: `wake` is told whenever there is something to take.
    pub(crate) fn listen(self: &Arc<Self>, coding: Coding, wake: Arc<Notify>) -> Listener {
        let ear = Arc::new(Ear { coding, wake, waiting: Mutex::default() });
        self.state().ears.push(ear.clone());
        self.heard.store(true, Ordering::Relaxed);
        Listener { audio: self.clone(), ear }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole at every point where a panic is possible.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AudioSink for Audio {
    fn samples(&self, samples: &[i16]) {
        if self.heard.load(Ordering::Relaxed) {
            self.state().take(samples);
        }
    }

    fn stopped(&self) {
        if self.heard.load(Ordering::Relaxed) {
            self.state().stop();
        }
    }
}

impl State {
    fn take(&mut self, mut samples: &[i16]) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(FRAME - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            samples = later;
            if self.gathered.len() == FRAME {
                let frame = std::mem::take(&mut self.gathered);
                self.frame(frame);
            }
        }
    }

    /// What was begun is sent with silence after it.
    fn stop(&mut self) {
        if !self.gathered.is_empty() {
            let mut frame = std::mem::take(&mut self.gathered);
            frame.resize(FRAME, 0);
            self.frame(frame);
        }
        self.end();
    }

    fn frame(&mut self, samples: Vec<i16>) {
        let silent = samples.iter().all(|sample| sample.unsigned_abs() <= SILENT);
        self.quiet = if silent { self.quiet + 1 } else { 0 };
        if silent && (!self.playing || self.quiet > HANGOVER) {
            self.end();
            return;
        }
        if !std::mem::replace(&mut self.playing, true) {
            self.opus = None;
        }
        let packet = if self.ears.iter().any(|ear| ear.coding == Coding::Opus) {
            self.encode(&samples)
        } else {
            self.opus = None;
            None
        };
        let frame = Arc::new(Frame { samples, packet });
        for ear in &self.ears {
            ear.push(frame.clone());
        }
    }

    fn encode(&mut self, samples: &[i16]) -> Option<Vec<u8>> {
        let packet = match &mut self.opus {
            Some(opus) => opus.encode(samples),
            none => Opus::new().and_then(|opus| none.insert(opus).encode(samples)),
        };
        packet.inspect_err(|error| tracing::warn!(%error, "sound is lost")).ok()
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.playing) {
            self.ears.iter().for_each(|ear| ear.end());
        }
    }
}

impl Ear {
    fn push(&self, frame: Arc<Frame>) {
        let mut waiting = self.waiting();
        if waiting.frames.len() == QUEUE {
            waiting.frames.pop_front();
        }
        waiting.frames.push_back(frame);
        waiting.playing = true;
        drop(waiting);
        self.wake.notify_one();
    }

    fn end(&self) {
        self.waiting().playing = false;
        self.wake.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Takes what waits.
    pub(crate) fn take(&self) -> Waiting {
        let mut waiting = self.ear.waiting();
        Waiting { frames: std::mem::take(&mut waiting.frames), playing: waiting.playing }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.audio.state();
        state.ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
        if state.ears.is_empty() {
            self.audio.heard.store(false, Ordering::Relaxed);
            *state = State::default();
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
