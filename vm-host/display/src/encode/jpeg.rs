//! JPEG by libjpeg-turbo, and what a client's levels mean in its terms.

use lucarne_rfb::ClientEncodings;
use lucarne_rfb::encodings::Subsampling;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

/// libjpeg-turbo failed.
#[derive(Debug, thiserror::Error)]
#[error("libjpeg-turbo could not compress a picture of {width}×{height} pixels")]
pub struct JpegError {
    /// Pixels.
    width: usize,
    /// Pixels.
    height: usize,
    /// What it said.
    #[source]
    source: turbojpeg::Error,
}

/// How a client wants its JPEGs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JpegSettings {
    /// libjpeg's scale, 1 to 100.
    pub(crate) quality: u8,
    pub(crate) subsampling: Subsampling,
}

impl JpegSettings {
    /// `None` when the client takes no JPEG: it gave no quality level.
    pub(crate) fn of(encodings: &ClientEncodings) -> Option<Self> {
        // Levels 0 to 9: 6 (the web viewer's default) is where photographs look clean; 9 is nearly lossless.
        const LEVELS: [u8; 10] = [12, 22, 32, 42, 54, 66, 78, 85, 91, 96];
        let level = encodings.quality()?;
        let quality = encodings.fine_quality().unwrap_or(LEVELS[usize::from(level.min(9))]).max(1);
        Some(Self { quality, subsampling: encodings.subsampling().unwrap_or(usual(quality)) })
    }

    /// The same at a lower quality, with no more detail of colour than is usual there.
    pub(crate) fn coarser(self, quality: u8) -> Self {
        let detail = |subsampling| match subsampling {
            Subsampling::Full => 3,
            Subsampling::Half => 2,
            Subsampling::Quarter => 1,
            Subsampling::Grey => 0,
        };
        let usual = usual(quality);
        let subsampling = if detail(usual) < detail(self.subsampling) { usual } else { self.subsampling };
        Self { quality, subsampling }
    }
}

/// Below 85 the loss of colour detail is hidden by the rest.
fn usual(quality: u8) -> Subsampling {
    match quality {
        0..85 => Subsampling::Quarter,
        85..91 => Subsampling::Half,
        _ => Subsampling::Full,
    }
}

/// Compresses `width` × `height` pixels of 4 bytes B, G, R, ignored.
pub(crate) fn compress(
    bgrx: &[u8],
    width: usize,
    height: usize,
    quality: u8,
    subsampling: Subsampling,
) -> Result<Vec<u8>, JpegError> {
    let compressor = Compressor::new().map_err(|source| JpegError { width, height, source })?;
    compress_with(compressor, bgrx, (width, height), JpegSettings { quality, subsampling }).1
}

/// A compressor that is kept: making one costs more than a small picture.
#[derive(Default)]
pub(crate) struct Jpeg {
    compressor: Option<Compressor>,
}

impl Jpeg {
    pub(crate) fn compress(
        &mut self,
        bgrx: &[u8],
        size: (usize, usize),
        settings: JpegSettings,
    ) -> Result<Vec<u8>, JpegError> {
        let compressor = match self.compressor.take() {
            Some(compressor) => compressor,
            None => {
                Compressor::new().map_err(|source| JpegError { width: size.0, height: size.1, source })?
            }
        };
        let (compressor, result) = compress_with(compressor, bgrx, size, settings);
        self.compressor = Some(compressor);
        result
    }
}

impl std::fmt::Debug for Jpeg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jpeg")
    }
}

fn compress_with(
    mut compressor: Compressor,
    bgrx: &[u8],
    (width, height): (usize, usize),
    settings: JpegSettings,
) -> (Compressor, Result<Vec<u8>, JpegError>) {
    compressor.set_quality(settings.quality.clamp(1, 100).into());
    compressor.set_subsamp(match settings.subsampling {
        Subsampling::Full => Subsamp::None,
        Subsampling::Half => Subsamp::Sub2x1,
        Subsampling::Quarter => Subsamp::Sub2x2,
        Subsampling::Grey => Subsamp::Gray,
    });
    let image = Image { pixels: bgrx, width, pitch: width * 4, height, format: PixelFormat::BGRX };
    let result = compressor.compress_to_vec(image).map_err(|source| JpegError { width, height, source });
    (compressor, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_quality_level_means_no_jpeg() {
        assert_eq!(JpegSettings::of(&ClientEncodings::new(vec![7, -412])), None);
        let six = JpegSettings::of(&ClientEncodings::new(vec![7, -26])).expect("JPEG");
        assert_eq!(six, JpegSettings { quality: 78, subsampling: Subsampling::Quarter });
        let fine = JpegSettings::of(&ClientEncodings::new(vec![7, -26, -412, -766])).expect("JPEG");
        assert_eq!(fine, JpegSettings { quality: 100, subsampling: Subsampling::Half });
    }
}
