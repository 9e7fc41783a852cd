//! One film as H.264 (ITU-T H.264), by openh264: Constrained Baseline, no frame waits for another, one slice a frame.
//!
//! That profile because decoders that know that no frame comes out of order show each at once; CABAC would save a seventh
//! of the bytes and needs another one. One slice, because noVNC takes each for a frame. The quantiser is fixed, not the
//! rate: what does not fit through the link is left out before it is coded, by whoever sends.

#![allow(unsafe_code)]

use super::colour::Planes;
use crate::screen::Screen;
use lucarne_rfb::Rect;
use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, IntraFramePeriod, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;
use openh264_sys2::{ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, SEncParamExt};

/// The quantiser that openh264 starts with where no rate is given (its SVC_QUALITY_BASE_QP).
const FIRST_QUANTISER: u8 = 26;

/// The coarsest there is.
const MAX_QUANTISER: u8 = 51;

/// Frames between two that need no other. A viewer whose decoder was lost has a picture again after so many; more often
/// would cost more than the fiftieth of the bytes that it does.
const INTRA_PERIOD: u32 = 300;

/// What the stream is said to be, because decoders ask for its level: it follows from these two and the size.
const FRAMES_A_SECOND: f32 = 60.0;
const BITS_A_SECOND: u32 = 20_000_000;

/// The encoder of one film for one viewer.
pub(crate) struct H264Encoder {
    encoder: Encoder,
    planes: Planes,
    /// Asked for.
    quantiser: u8,
    /// The finest that its frames have room for.
    finest: u8,
    /// What the next frame is coded with.
    set: u8,
    begun: bool,
}

/// What a frame is coded coarser by that openh264 has no room for, as it has for none of noise at the finest.
const COARSER: u8 = 6;

impl H264Encoder {
    /// An encoder for a rectangle of even edges; `None` when openh264 cannot be had.
    pub(crate) fn new(rect: Rect, quantiser: u8) -> Option<Self> {
        let (encoder, quantiser) = (Self::begin()?, quantiser.min(MAX_QUANTISER));
        let (planes, set) = (Planes::new(rect), FIRST_QUANTISER);
        Some(Self { encoder, planes, quantiser, finest: 0, set, begun: false })
    }

    fn begin() -> Option<Encoder> {
        let config = EncoderConfig::new()
            .rate_control_mode(RateControlMode::Off)
            .bitrate(BitRate::from_bps(BITS_A_SECOND))
            .max_frame_rate(FrameRate::from_hz(FRAMES_A_SECOND))
            .intra_frame_period(IntraFramePeriod::from_num_frames(INTRA_PERIOD))
            .complexity(Complexity::Low)
            .num_threads(1)
            .skip_frames(false)
            // These choose where to spend a rate that is short, or spend time on finding what the next frame tells anyway.
            .adaptive_quantization(false)
            .background_detection(false)
            .scene_change_detect(false)
            .vui(VuiConfig::srgb());
        Encoder::with_api_config(OpenH264API::from_source(), config).ok()
    }

    /// From the next frame on: 0, without visible loss, to 51, the coarsest. Frames before are built upon all the same.
    pub(crate) fn set_quantiser(&mut self, quantiser: u8) {
        self.quantiser = quantiser.min(MAX_QUANTISER);
    }

    /// Appends the screen's present picture as a byte stream (Annex B); `alone`: so that it needs none before. The first is
    /// so in any case. When it fails it appends nothing, and is of no use any more.
    pub(crate) fn encode(&mut self, screen: &Screen, alone: bool, out: &mut Vec<u8>) -> bool {
        self.planes.fill(screen);
        loop {
            let quantiser = self.quantiser.max(self.finest);
            if self.encode_with(quantiser, alone, out) {
                return true;
            }
            // An encoder that has failed is of no more use; a new one begins with a frame that needs none before.
            let Some(encoder) = Self::begin().filter(|_| quantiser < MAX_QUANTISER) else { return false };
            self.finest = (quantiser + COARSER).min(MAX_QUANTISER);
            (self.encoder, self.set, self.begun) = (encoder, FIRST_QUANTISER, false);
        }
    }

    fn encode_with(&mut self, quantiser: u8, alone: bool, out: &mut Vec<u8>) -> bool {
        let (width, height) = self.planes.size();
        let picture = YUVSlices::new(self.planes.planes(), (width, height), (width, width / 2, width / 2));
        // Before its first frame openh264 is not set up, and that one is coded with the quantiser that it comes with. Nobody gets
        // it: a film is looked at from its first frame on, and what it lacks is not made up for until much has moved.
        let again = !self.begun && self.set != quantiser;
        if again && self.encoder.encode(&picture).is_err() {
            return false;
        }
        if self.set != quantiser {
            if !apply_quantiser(&mut self.encoder, quantiser) {
                return false;
            }
            self.set = quantiser;
        }
        if again || self.begun && alone {
            self.encoder.force_intra_frame();
        }
        let before = out.len();
        if let Ok(frame) = self.encoder.encode(&picture) {
            frame.write_vec(out);
        }
        self.begun = true;
        out.len() > before
    }
}

/// Codes what follows with this quantiser, if it can; the encoder must have coded a frame.
fn apply_quantiser(encoder: &mut Encoder, quantiser: u8) -> bool {
    let mut parameters = SEncParamExt::default();
    // SAFETY: the encoder has coded a frame, so it is set up; each call copies one `SEncParamExt` from or to `parameters` and
    // keeps no pointer to it.
    unsafe {
        let api = encoder.raw_api();
        let got = api.get_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut parameters).cast()) == 0;
        parameters.sSpatialLayers[0].iDLayerQp = quantiser.into();
        got && api.set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut parameters).cast()) == 0
    }
}

impl std::fmt::Debug for H264Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H264Encoder").field("size", &self.planes.size()).field("set", &self.set).finish()
    }
}

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
