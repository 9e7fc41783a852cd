//! The memory that a console's picture is in: QEMU's, mapped read-only, or a copy of our own.

use lucarne_driver::{Frame, Origin, Pixels};
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

/// A read-only map of the hypervisor's framebuffer.
pub(crate) struct FrameMap {
    base: *mut core::ffi::c_void,
    length: usize,
    /// Which file it is: displays that are parts of one framebuffer share one.
    file: u64,
    /// It is a surface that QEMU made, not a resource of the guest's.
    surface: bool,
}

// SAFETY: the map is plain memory owned by this value; it is only read, by raw copies.
unsafe impl Send for FrameMap {}
// SAFETY: as above; several may read at once.
unsafe impl Sync for FrameMap {}

impl FrameMap {
    /// Of its first `length` bytes.
    pub(crate) fn new(fd: &OwnedFd, length: usize) -> rustix::io::Result<Self> {
        // A map longer than its file would fault on access.
        let stat = rustix::fs::fstat(fd)?;
        if u64::try_from(stat.st_size).unwrap_or(0) < length as u64 {
            return Err(rustix::io::Errno::OVERFLOW);
        }
        // SAFETY: a fresh map at an address of the kernel's choice; nothing else refers to it.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, fd.as_fd(), 0)?
        };
        // Its name is all that tells them apart (QEMU's `ui/console.c` and `hw/display/virtio-gpu.c`).
        let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
        let surface = name.to_string_lossy().starts_with("/memfd:displaysurface");
        Ok(Self { base, length, file: stat.st_ino, surface })
    }

    /// Copies `into.len()` bytes from `offset`.
    fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset.checked_add(into.len()).is_some_and(|end| end <= self.length), "read outside the map");
        // SAFETY: the range lies within the map (asserted) and `into` is ours alone. The other side may write at the
        // same time: what is copied may be torn, and is only ever treated as pixels.
        unsafe { ptr::copy_nonoverlapping(self.base.cast::<u8>().add(offset), into.as_mut_ptr(), into.len()) }
    }
}

impl Drop for FrameMap {
    fn drop(&mut self) {
        // SAFETY: the map is ours and nothing refers to it any more. An error would leave it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.base, self.length) };
    }
}

/// Where the picture's pixels are.
pub(crate) enum Memory {
    /// In the hypervisor's framebuffer, from an offset on.
    Shared(FrameMap, usize),
    /// Here, as the calls brought them.
    Own(Vec<u8>),
}

impl Memory {
    /// The guest made it. What QEMU made itself is its BIOS's screen on the first console, and else the remark that an output
    /// is not in use.
    pub(crate) fn is_of_guest(&self) -> bool {
        matches!(self, Self::Shared(map, _) if !map.surface)
    }
}

impl Pixels for Memory {
    fn length(&self) -> usize {
        match self {
            Self::Shared(map, offset) => map.length - offset,
            Self::Own(bytes) => bytes.len(),
        }
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        match self {
            Self::Shared(map, start) => map.read(start + offset, into),
            Self::Own(bytes) => bytes.read(offset, into),
        }
    }
}

/// The picture as last announced.
pub(crate) struct Picture {
    /// Pixels.
    pub(crate) width: u32,
    /// Rows.
    pub(crate) height: u32,
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    pub(crate) memory: Memory,
}

impl Picture {
    /// Nothing was announced.
    pub(crate) fn none() -> Self {
        Self { width: 0, height: 0, stride: 0, memory: Memory::Own(Vec::new()) }
    }

    /// As one of the displays.
    pub(crate) fn frame(&self, display: usize) -> Frame<'_> {
        let origin = match &self.memory {
            Memory::Shared(map, offset) => Some(Origin {
                buffer: map.file,
                x: (offset % self.stride / 4) as u32,
                y: (offset / self.stride) as u32,
            }),
            Memory::Own(_) => None,
        };
        let Self { width, height, stride, memory } = self;
        Frame { display, origin, width: *width, height: *height, stride: *stride, pixels: memory }
    }
}
