//! Sound as Opus (RFC 6716), by libopus.

use lucarne_driver::CHANNELS;
use opusic_c::{Application, Bitrate, Channels, Encoder, ErrorCode, SampleRate};

/// Bits a second: what music needs to be taken for the original (RFC 7587 section 3.1.1 names 64 to 128 kbit/s for stereo
/// music). Twice as much cannot be told from it, half of it can.
const BITRATE: u32 = 112_000;

/// Effort, 0 to 10: at this a frame takes some tenths of a millisecond.
const COMPLEXITY: u8 = 5;

/// The most bytes of a packet (RFC 6716 section 3.4).
const MAX_PACKET: usize = 1275;

/// Why a packet could not be made.
#[derive(Debug, thiserror::Error)]
#[error("libopus refused to encode ({0:?})")]
pub(crate) struct OpusError(ErrorCode);

/// One stream, stereo at 48 kHz.
pub(super) struct Opus {
    encoder: Encoder,
    /// The samples as the binding has them.
    samples: Vec<u16>,
}

impl Opus {
    pub(super) fn new() -> Result<Self, OpusError> {
        // Low delay means that nothing but MDCT is used, which at this bit rate is so anyway.
        let encoder = Encoder::new(Channels::Stereo, SampleRate::Hz48000, Application::LowDelay);
        let mut encoder = encoder.map_err(OpusError)?;
        encoder.set_bitrate(Bitrate::Value(BITRATE)).map_err(OpusError)?;
        encoder.set_complexity(COMPLEXITY).map_err(OpusError)?;
        Ok(Self { encoder, samples: Vec::new() })
    }

    /// Makes a packet of as many samples as a frame of Opus has.
    pub(super) fn encode(&mut self, samples: &[i16]) -> Result<Vec<u8>, OpusError> {
        debug_assert!(samples.len().is_multiple_of(CHANNELS));
        self.samples.clear();
        self.samples.extend(samples.iter().map(|sample| sample.cast_unsigned()));
        let mut packet = vec![0; MAX_PACKET];
        let length = self.encoder.encode_to_slice(&self.samples, &mut packet).map_err(OpusError)?;
        packet.truncate(length);
        Ok(packet)
    }
}
