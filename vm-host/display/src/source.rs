//! Where a frame's pixels are read from.
//!
//! A driver's framebuffer is memory that a hypervisor goes on writing to, so nobody can have a reference to it: rows are
//! copied out, piece by piece, as they are needed. What is read twice may differ; a driver tells of a change after it was
//! made, so whatever was read too early is read again.

/// A frame of the screen's size.
pub trait Source {
    /// Copies pixels of row `y` from column `x` on, 4 bytes each: B, G, R and one that is ignored. The caller asks only for
    /// what lies on the screen.
    fn read(&self, x: u16, y: u16, into: &mut [u8]);
}

/// A frame in memory that does not change: `stride` bytes per row. The last row may end with its last pixel.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// The frame's first pixel and what follows.
    pub bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

impl Source for Bytes<'_> {
    fn read(&self, x: u16, y: u16, into: &mut [u8]) {
        let start = usize::from(y) * self.stride + usize::from(x) * 4;
        // Too short a frame was refused before; should it not have been, what is missing stays as it was.
        if let Some(row) = self.bytes.get(start..start + into.len()) {
            into.copy_from_slice(row);
        }
    }
}
