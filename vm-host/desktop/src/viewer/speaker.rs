//! One viewer's side of the desktop's sound: what it asked for, and the messages that it gets (rfbproto, "QEMU Audio Client
//! Message"; `docs/decisions/0008-audio.md` for Opus).

use crate::audio::{Audio, Coding, Converter, Frame, Listener};
use lucarne_rfb::audio::{Audio as Message, AudioFormat, AudioRequest, Sample};
use lucarne_rfb::server::write;
use std::sync::Arc;
use tokio::sync::Notify;

/// What a viewer gets that enables sound and names no format, as from QEMU.
const UNNAMED: AudioFormat = AudioFormat { sample: Sample::S16, channels: 2, frequency: 44_100 };

/// How a viewer wants its sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Samples(AudioFormat),
    Opus,
}

/// The writing half's part of the sound.
pub(super) struct Speaker {
    audio: Arc<Audio>,
    wake: Arc<Notify>,
    wish: Wish,
    listener: Option<Listener>,
    /// Made with the first frame after each beginning.
    converter: Option<Converter>,
    /// The viewer has been told that sound begins, and not that it ends.
    began: bool,
}

impl Speaker {
    /// Of a viewer that has asked for nothing yet.
    pub(super) fn new(audio: Arc<Audio>, wake: Arc<Notify>) -> Self {
        Self { audio, wake, wish: Wish::Samples(UNNAMED), listener: None, converter: None, began: false }
    }

    /// The viewer wants something else.
    pub(super) fn hear(&mut self, request: AudioRequest, out: &mut Vec<u8>) {
        match request {
            AudioRequest::Enable if self.listener.is_none() => self.listen(),
            AudioRequest::Enable => {}
            AudioRequest::Disable => {
                self.listener = None;
                self.end(out);
            }
            AudioRequest::Format(format) => self.change(Wish::Samples(format), out),
            AudioRequest::Opus => self.change(Wish::Opus, out),
        }
    }

    /// What it gets from now on is of another format, and so another stream.
    fn change(&mut self, wish: Wish, out: &mut Vec<u8>) {
        if wish == self.wish {
            return;
        }
        self.wish = wish;
        self.end(out);
        if self.listener.is_some() {
            self.listen();
        }
    }

    fn listen(&mut self) {
        let coding = if self.wish == Wish::Opus { Coding::Opus } else { Coding::Pcm };
        self.listener = Some(self.audio.listen(coding, self.wake.clone()));
    }

    /// Sound is under way.
    pub(super) fn is_playing(&self) -> bool {
        self.began
    }

    /// Appends what there is to be heard.
    pub(super) fn say(&mut self, out: &mut Vec<u8>) {
        let Some(waiting) = self.listener.as_ref().map(Listener::take) else { return };
        for frame in waiting.frames {
            if !std::mem::replace(&mut self.began, true) {
                write::audio(&Message::Begin, out);
            }
            if let Some(data) = self.data(&frame) {
                write::audio(&Message::Data(data), out);
            }
        }
        if !waiting.playing {
            self.end(out);
        }
    }

    fn data(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        let Wish::Samples(format) = self.wish else { return frame.packet.clone() };
        let mut data = Vec::new();
        let converted = match &mut self.converter {
            Some(converter) => converter.convert(&frame.samples, &mut data),
            none => Converter::new(format, frame.samples.len())
                .and_then(|converter| none.insert(converter).convert(&frame.samples, &mut data)),
        };
        converted
            .inspect_err(|error| tracing::warn!(%error, ?format, "a viewer gets no sound"))
            .ok()
            .map(|()| data)
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.converter = None;
        if std::mem::take(&mut self.began) {
            write::audio(&Message::End, out);
        }
    }
}
