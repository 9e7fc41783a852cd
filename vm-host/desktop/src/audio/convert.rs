//! Sound in the format that a viewer asks for (rfbproto, "QEMU Audio Client Message").

use lucarne_driver::{CHANNELS, SAMPLE_RATE};
use lucarne_rfb::audio::{AudioFormat, Sample};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, ResampleError, Resampler, ResamplerConstructionError, SincInterpolationParameters,
    WindowFunction,
};

/// Samples that the filter looks at: enough for speech and music, and 1.3 ms of delay.
const FILTER: usize = 128;

/// Why sound cannot be had in a format.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConvertError {
    /// The sample rate.
    #[error("sound cannot be converted to this rate")]
    Rate(#[from] ResamplerConstructionError),
    /// The samples.
    #[error("sound was not converted")]
    Resample(#[from] ResampleError),
}

/// Converts one stream, frame by frame.
pub(crate) struct Converter {
    format: AudioFormat,
    /// For another rate than the guest's.
    resampler: Option<Async<f32>>,
    /// Samples of each channel in a frame.
    frame: usize,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Converter {
    /// For frames of so many samples, all channels together.
    pub(crate) fn new(format: AudioFormat, samples: usize) -> Result<Self, ConvertError> {
        let frame = samples / CHANNELS;
        let resampler = if format.frequency == SAMPLE_RATE {
            None
        } else {
            let ratio = f64::from(format.frequency) / f64::from(SAMPLE_RATE);
            let sinc = SincInterpolationParameters::new(FILTER, WindowFunction::BlackmanHarris2);
            let channels = format.channels.into();
            Some(Async::new_sinc(ratio, 1.0, &sinc, frame, channels, FixedAsync::Input)?)
        };
        Ok(Self { format, resampler, frame, input: Vec::new(), output: Vec::new() })
    }

    /// Appends a frame; little-endian. At low rates one frame may be no sample at all.
    pub(crate) fn convert(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<(), ConvertError> {
        self.input.clear();
        let frames = samples.chunks_exact(CHANNELS).map(|f| [f32::from(f[0]), f32::from(f[1])]);
        match self.format.channels {
            1 => self.input.extend(frames.map(|[left, right]| f32::midpoint(left, right))),
            _ => self.input.extend(frames.flatten()),
        }
        let Some(resampler) = &mut self.resampler else {
            self.input.iter().for_each(|sample| put(*sample, self.format.sample, out));
            return Ok(());
        };
        let channels = usize::from(self.format.channels);
        let room = resampler.output_frames_max();
        self.output.resize(room * channels, 0.0);
        let (Ok(input), Ok(mut output)) = (
            InterleavedSlice::new(&self.input, channels, self.frame),
            InterleavedSlice::new_mut(&mut self.output, channels, room),
        ) else {
            // A frame of another length than was said.
            return Ok(());
        };
        let (_, made) = resampler.process_into_buffer(&input, &mut output, None)?;
        self.output[..made * channels].iter().for_each(|sample| put(*sample, self.format.sample, out));
        Ok(())
    }
}

/// Appends a sample of -32,768 to 32,767; louder ones are cut.
fn put(sample: f32, format: Sample, out: &mut Vec<u8>) {
    // `as` cuts.
    let sample = sample.round() as i16;
    let [high, _] = sample.to_be_bytes();
    match format {
        Sample::U8 => out.push(high ^ 0x80),
        Sample::S8 => out.push(high),
        Sample::U16 => out.extend((sample.cast_unsigned() ^ 0x8000).to_le_bytes()),
        Sample::S16 => out.extend(sample.to_le_bytes()),
        Sample::U32 => out.extend(((i32::from(sample) << 16).cast_unsigned() ^ 0x8000_0000).to_le_bytes()),
        Sample::S32 => out.extend((i32::from(sample) << 16).to_le_bytes()),
    }
}
