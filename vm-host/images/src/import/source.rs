//! Bounded reading of a disk file's headers; every parser in this folder sits on it.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Why a disk file was refused, before any other program saw it.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The file does not begin as its format does.
    #[error("this is not a {0} file; give the format that it really has")]
    Magic(&'static str),
    /// The file ends before something that it points to.
    #[error("the file is truncated: it has {have} bytes, but its {what} lies at {at}")]
    Truncated {
        /// What is missing.
        what: &'static str,
        /// Byte offset.
        at: u64,
        /// The file's length, bytes.
        have: u64,
    },
    /// A field has a value that the format does not allow, or that no sensible disk has.
    #[error("the header is damaged: {0}")]
    Damaged(String),
    /// The disk's contents are partly in another file.
    #[error(
        "the file points to another one ({0}); merge them first, such as by `qemu-img convert`, and import the result"
    )]
    External(&'static str),
    /// The disk is encrypted.
    #[error("the disk is encrypted; an image must be readable without a password")]
    Encrypted,
    /// A variant that is not imported.
    #[error("{0} is not supported; convert the file to qcow2 first")]
    Unsupported(String),
    /// The file could not be read.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

/// Smallest and largest disk, bytes. Below, nothing boots; above, tables would take more memory to check than a host
/// should spend on a file that it does not trust.
pub(super) const DISK_SIZES: std::ops::RangeInclusive<u64> = (1 << 20)..=(2 << 40);

/// The bytes of a disk file.
pub(super) trait Source {
    /// Length in bytes.
    fn len(&self) -> u64;
    /// Fills the buffer from an offset; the caller has checked the range.
    fn fill(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// `count` bytes, which must be in the file. The caller bounds the count.
    fn bytes(&self, what: &'static str, offset: u64, count: usize) -> Result<Vec<u8>, HeaderError> {
        let truncated = HeaderError::Truncated { what, at: offset, have: self.len() };
        if offset.checked_add(count as u64).is_none_or(|end| end > self.len()) {
            return Err(truncated);
        }
        let mut buffer = vec![0; count];
        self.fill(offset, &mut buffer)?;
        Ok(buffer)
    }
}

/// An open file, whose length is taken once.
pub(super) struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }
    fn fill(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

#[cfg(test)]
impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
    fn fill(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        buffer.copy_from_slice(&self[at..at + buffer.len()]);
        Ok(())
    }
}

/// Numbers in a header, by byte offset. The header was read with the length that its format gives it, so an offset
/// beyond it is a mistake of ours; it reads as zeros.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }
    pub(super) fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }
    pub(super) fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }
    pub(super) fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }
    pub(super) fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }
    pub(super) fn le64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
}

/// Refuses a disk whose size nobody means.
pub(super) fn check_size(size: u64) -> Result<u64, HeaderError> {
    if DISK_SIZES.contains(&size) && size.is_multiple_of(512) {
        return Ok(size);
    }
    Err(HeaderError::Damaged(format!(
        "a disk of {size} bytes; from 1 MiB to 2 TiB in whole sectors of 512 bytes is allowed"
    )))
}
