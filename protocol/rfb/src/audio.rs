//! QEMU's audio messages, both ways: sub-type 1 of message 255 (rfbproto, "QEMU Audio Client Message" and "QEMU Audio
//! Server Message").
//!
//! ```text
//! client                        server
//!   │ ◄── empty rectangle -259 ──  │   there is sound to be had
//!   │ ── Format, Enable ─────────► │
//!   │ ◄── Begin, Data …, End ────  │   as the guest plays
//!   │ ── Disable ────────────────► │   what is under way may still come
//! ```
//!
//! A server that puts the empty rectangle [`OPUS_AUDIO`] beside that one, for a client that lists it, takes another sample
//! format too: Opus. Each Data message then is one packet. This extension is Lucarne's own (`docs/decisions/0008-audio.md`).
//!
//! Knows nothing of what makes the sound or plays it.
//!
//! [`OPUS_AUDIO`]: crate::encodings::OPUS_AUDIO

use crate::wire::{Put, Reader};

/// Message type and sub-type.
const HEADER: [u8; 2] = [255, 1];

/// The longest piece of sound in one message, bytes: seconds of any format. Longer ones are written as several.
pub const MAX_DATA: usize = 1 << 20;

/// The most samples a second that a client may ask for. The protocol names no bound; this is QEMU's own.
pub const MAX_FREQUENCY: u32 = 48_000;

/// The number that stands for Opus among the sample formats, far from those that others may add.
const OPUS: u8 = 128;

/// The only format of Opus: stereo, whose packets any decoder gives at 48 kHz (RFC 6716 section 2).
const OPUS_FORMAT: (u8, u32) = (2, 48_000);

/// How a sample is stored. The protocol says nothing of byte order; QEMU sends little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Sample {
    /// 8 bits, unsigned.
    U8 = 0,
    /// 8 bits, signed.
    S8 = 1,
    /// 16 bits, unsigned.
    U16 = 2,
    /// 16 bits, signed.
    S16 = 3,
    /// 32 bits, unsigned.
    U32 = 4,
    /// 32 bits, signed.
    S32 = 5,
}

impl Sample {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::U8, Self::S8, Self::U16, Self::S16, Self::U32, Self::S32];

    /// Bytes of one.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::S8 => 1,
            Self::U16 | Self::S16 => 2,
            Self::U32 | Self::S32 => 4,
        }
    }
}

/// What a client wants its sound to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AudioFormat {
    /// How a sample is stored.
    pub sample: Sample,
    /// 1 or 2; samples of two alternate, left first.
    pub channels: u8,
    /// Samples a second of each channel, 1 to [`MAX_FREQUENCY`].
    pub frequency: u32,
}

/// From a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioRequest {
    /// Send sound when there is any.
    Enable,
    /// Send none.
    Disable,
    /// What sound is to be like, before it is enabled.
    Format(AudioFormat),
    /// Sound is to be packets of Opus (RFC 6716), stereo at 48 kHz, before it is enabled. Only for clients that were told
    /// of it.
    Opus,
}

/// From a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    /// Sound begins.
    Begin,
    /// Sound ends.
    End,
    /// Whole samples of all channels, at least one; or one packet of Opus.
    Data(Vec<u8>),
}

/// Why an audio message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudioError {
    /// An operation that is not known.
    #[error("the audio operation {0} does not exist")]
    Operation(u16),
    /// A sample format that is not known.
    #[error("the audio sample format {0} does not exist")]
    Sample(u8),
    /// Opus in another form than the one that there is.
    #[error("Opus with {0} channels at {1} samples a second is not possible; it is stereo at 48000")]
    Opus(u8, u32),
    /// Neither mono nor stereo.
    #[error("{0} audio channels are not possible; there may be one or two")]
    Channels(u8),
    /// Too many samples a second, or none.
    #[error("{0} audio samples a second are not possible; there may be 1 to {MAX_FREQUENCY}")]
    Frequency(u32),
    /// Too much at once.
    #[error("{0} bytes of sound in one message are too many; at most {MAX_DATA} are taken")]
    TooLong(usize),
}

impl AudioRequest {
    /// Reads what follows message type and sub-type; `None` when it has not all arrived.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn parse(r: &mut Reader<'_>) -> Result<Option<Self>, AudioError> {
        Ok(match r.u16() {
            None => None,
            Some(0) => Some(Self::Enable),
            Some(1) => Some(Self::Disable),
            Some(2) => {
                let (Some(sample), Some(channels), Some(frequency)) = (r.u8(), r.u8(), r.u32()) else {
                    return Ok(None);
                };
                if sample == OPUS {
                    let fits = (channels, frequency) == OPUS_FORMAT;
                    return if fits {
                        Ok(Some(Self::Opus))
                    } else {
                        Err(AudioError::Opus(channels, frequency))
                    };
                }
                let known = Sample::ALL.into_iter().find(|s| *s as u8 == sample);
                let sample = known.ok_or(AudioError::Sample(sample))?;
                if !(1..=2).contains(&channels) {
                    return Err(AudioError::Channels(channels));
                }
                if !(1..=MAX_FREQUENCY).contains(&frequency) {
                    return Err(AudioError::Frequency(frequency));
                }
                Some(Self::Format(AudioFormat { sample, channels, frequency }))
            }
            Some(other) => return Err(AudioError::Operation(other)),
        })
    }

    /// Appends the whole message.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_bytes(&HEADER);
        match self {
            Self::Enable => out.put_u16(0),
            Self::Disable => out.put_u16(1),
            Self::Format(AudioFormat { sample, channels, frequency }) => {
                out.put_u16(2);
                out.put_bytes(&[*sample as u8, *channels]);
                out.put_u32(*frequency);
            }
            Self::Opus => {
                out.put_u16(2);
                out.put_bytes(&[OPUS, OPUS_FORMAT.0]);
                out.put_u32(OPUS_FORMAT.1);
            }
        }
    }
}

impl Audio {
    /// Reads what follows message type and sub-type; `None` when it has not all arrived.
    ///
    /// # Errors
    /// It makes no sense, or is more than [`MAX_DATA`].
    pub fn parse(r: &mut Reader<'_>) -> Result<Option<Self>, AudioError> {
        Ok(match r.u16() {
            None => None,
            Some(0) => Some(Self::End),
            Some(1) => Some(Self::Begin),
            Some(2) => {
                let Some(length) = r.u32().map(|n| n as usize) else { return Ok(None) };
                if length > MAX_DATA {
                    return Err(AudioError::TooLong(length));
                }
                r.bytes(length).map(|data| Self::Data(data.to_vec()))
            }
            Some(other) => return Err(AudioError::Operation(other)),
        })
    }

    /// Appends the whole message; sound of more than [`MAX_DATA`] becomes several, and none no message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::End => out.put_bytes(&[&HEADER[..], &[0, 0]].concat()),
            Self::Begin => out.put_bytes(&[&HEADER[..], &[0, 1]].concat()),
            // A whole number of samples, whatever they are.
            Self::Data(data) => data.chunks(MAX_DATA).for_each(|part| {
                out.put_bytes(&HEADER);
                out.put_u16(2);
                out.put_u32(part.len() as u32);
                out.put_bytes(part);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_bytes_of_the_specification() {
        let format = AudioFormat { sample: Sample::S16, channels: 2, frequency: 44_100 };
        for (request, bytes) in [
            (AudioRequest::Enable, &[255, 1, 0, 0][..]),
            (AudioRequest::Disable, &[255, 1, 0, 1]),
            (AudioRequest::Format(format), &[255, 1, 0, 2, 3, 2, 0, 0, 0xac, 0x44]),
            (AudioRequest::Opus, &[255, 1, 0, 2, 128, 2, 0, 0, 0xbb, 0x80]),
        ] {
            let mut out = Vec::new();
            request.write(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(AudioRequest::parse(&mut Reader::new(&bytes[2..])), Ok(Some(request)));
        }
    }

    #[test]
    fn sound_has_the_bytes_of_the_specification() {
        for (audio, bytes) in [
            (Audio::End, &[255, 1, 0, 0][..]),
            (Audio::Begin, &[255, 1, 0, 1]),
            (Audio::Data(vec![7, 8]), &[255, 1, 0, 2, 0, 0, 0, 2, 7, 8]),
        ] {
            let mut out = Vec::new();
            audio.write(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(Audio::parse(&mut Reader::new(&bytes[2..])), Ok(Some(audio)));
        }
    }

    #[test]
    fn much_sound_is_written_as_messages_that_are_taken() {
        let mut out = Vec::new();
        Audio::Data(vec![5; MAX_DATA + 8]).write(&mut out);
        let second = 8 + MAX_DATA;
        assert_eq!(out[second..second + 8], [255, 1, 0, 2, 0, 0, 0, 8]);
        assert_eq!(Audio::parse(&mut Reader::new(&out[2..])), Ok(Some(Audio::Data(vec![5; MAX_DATA]))));
    }

    #[test]
    fn formats_that_cannot_be_are_refused_with_the_reason() {
        let parse = |bytes: &[u8]| AudioRequest::parse(&mut Reader::new(bytes));
        assert_eq!(parse(&[0, 3]), Err(AudioError::Operation(3)));
        assert_eq!(parse(&[0, 2, 6, 1, 0, 0, 0, 1]), Err(AudioError::Sample(6)));
        assert_eq!(parse(&[0, 2, 128, 1, 0, 0, 0xbb, 0x80]), Err(AudioError::Opus(1, 48_000)));
        assert_eq!(parse(&[0, 2, 128, 2, 0, 0, 0xac, 0x44]), Err(AudioError::Opus(2, 44_100)));
        assert_eq!(parse(&[0, 2, 0, 3, 0, 0, 0, 1]), Err(AudioError::Channels(3)));
        assert_eq!(parse(&[0, 2, 0, 1, 0, 0, 0, 0]), Err(AudioError::Frequency(0)));
        assert_eq!(parse(&[0, 2, 0, 1, 0, 0, 0xbb, 0x81]), Err(AudioError::Frequency(48_001)));
        let long = (MAX_DATA as u32 + 1).to_be_bytes();
        let data = [&[0, 2][..], &long].concat();
        assert_eq!(Audio::parse(&mut Reader::new(&data)), Err(AudioError::TooLong(MAX_DATA + 1)));
    }
}
