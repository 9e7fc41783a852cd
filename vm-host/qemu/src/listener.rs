//! The receiving end of QEMU's display: `org.qemu.Display1.Listener` and `.Listener.Unix.Map`
//! (QEMU's `ui/dbus-display1.xml`).
//!
//! The messages are taken from the stream one by one, in order, and answered at once, because QEMU may wait for the
//! answer before it lets the guest draw on. What QEMU says is not trusted: every size is bounded, every rectangle
//! clipped, and the shared framebuffer is mapped read-only and copied out as it is looked at.

use lucarne_driver::{CursorImage, Damage, DisplaySink, Frame, Pixels};
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use zbus::{Connection, Message, MessageStream, OwnedFd as BusFd, Variant};

/// Where QEMU expects the listener.
const MAP_INTERFACE: &str = "org.qemu.Display1.Listener.Unix.Map";
const LISTENER_INTERFACE: &str = "org.qemu.Display1.Listener";

/// The largest side of a display, pixels: RFB counts in 16 bits, and no display is larger.
const MAX_SIDE: u32 = 16_384;

/// The most bytes of a display: 8K UHD twice over. What QEMU does not share is held in a private copy.
const MAX_BYTES: u64 = 256 << 20;

/// The largest cursor side, pixels. virtio-gpu's is 64; the rest is room.
const MAX_CURSOR: i32 = 512;

/// pixman's x8r8g8b8 and a8r8g8b8: 32-bit pixels with blue in the lowest byte (pixman.h, `PIXMAN_FORMAT`).
const PIXMAN_X8R8G8B8: u32 = 0x2002_0888;
const PIXMAN_A8R8G8B8: u32 = 0x2002_8888;

/// A read-only map of the hypervisor's framebuffer.
struct FrameMap {
    base: *mut core::ffi::c_void,
    length: usize,
}

// SAFETY: the map is plain memory owned by this value; it is only read, by raw copies.
unsafe impl Send for FrameMap {}
// SAFETY: as above; several may read at once.
unsafe impl Sync for FrameMap {}

impl FrameMap {
    fn new(fd: &OwnedFd, length: usize) -> rustix::io::Result<Self> {
        // A map longer than its file would fault on access.
        let size = rustix::fs::fstat(fd)?.st_size;
        if u64::try_from(size).unwrap_or(0) < length as u64 {
            return Err(rustix::io::Errno::OVERFLOW);
        }
        // SAFETY: a fresh map at an address of the kernel's choice; nothing else refers to it.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, fd.as_fd(), 0)?
        };
        Ok(Self { base, length })
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
enum Memory {
    /// In the hypervisor's framebuffer, from an offset on.
    Shared(FrameMap, usize),
    /// Here, as the calls brought them.
    Own(Vec<u8>),
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
struct Picture {
    width: u32,
    height: u32,
    stride: usize,
    memory: Memory,
}

impl Picture {
    fn none() -> Self {
        Self { width: 0, height: 0, stride: 0, memory: Memory::Own(Vec::new()) }
    }

    fn frame(&self) -> Frame<'_> {
        Frame { width: self.width, height: self.height, stride: self.stride, pixels: &self.memory }
    }
}

/// Says what is wrong with a scanout; nothing is if it returns `None`.
fn bad_scanout(width: u32, height: u32, stride: u32, format: u32) -> Option<String> {
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Some(format!("size {width}x{height} is outside 1 to {MAX_SIDE}"));
    }
    if stride < width * 4 || stride > MAX_SIDE * 8 {
        return Some(format!("stride {stride} does not fit {width} pixels"));
    }
    if u64::from(stride) * u64::from(height) > MAX_BYTES {
        return Some(format!("{height} rows of {stride} bytes are more than {} MiB", MAX_BYTES >> 20));
    }
    if format != PIXMAN_X8R8G8B8 && format != PIXMAN_A8R8G8B8 {
        return Some(format!("pixel format {format:#x} is not x8r8g8b8"));
    }
    None
}

/// Serves one listener until QEMU closes it.
pub(crate) struct Listener {
    sink: Arc<dyn DisplaySink>,
    picture: Picture,
    cursor: Option<CursorImage>,
    shared: bool,
}

impl Listener {
    /// `shared` offers the shared-memory map; without it QEMU sends pixels in the calls.
    pub(crate) fn new(sink: Arc<dyn DisplaySink>, shared: bool) -> Self {
        Self { sink, picture: Picture::none(), cursor: None, shared }
    }

    /// Takes messages until the stream ends.
    pub(crate) async fn serve(mut self, mut stream: MessageStream) {
        use futures_util::StreamExt;
        let connection = Connection::from(&stream);
        while let Some(Ok(message)) = stream.next().await {
            if message.message_type() != zbus::message::Type::MethodCall {
                continue;
            }
            if let Err(error) = self.handle(&connection, &message).await {
                tracing::warn!(%error, "a display message from the hypervisor was refused");
                let header = message.header();
                let _ = connection
                    .reply_error(&header, "org.freedesktop.DBus.Error.InvalidArgs", &error.to_string())
                    .await;
            }
        }
    }

    async fn handle(&mut self, connection: &Connection, message: &Message) -> Result<(), ListenerError> {
        let header = message.header();
        let interface = header.interface().map_or("", |i| i.as_str());
        let member = header.member().map_or("", |m| m.as_str());
        let body = message.body();
        match (interface, member) {
            (MAP_INTERFACE, "ScanoutMap") => {
                let (fd, offset, width, height, stride, format): (BusFd, u32, u32, u32, u32, u32) =
                    body.deserialize()?;
                self.scanout_map(&fd.into(), offset, width, height, stride, format)?;
            }
            (MAP_INTERFACE, "UpdateMap") => {
                let (x, y, width, height): (i32, i32, i32, i32) = body.deserialize()?;
                self.update_map(x, y, width, height);
            }
            (LISTENER_INTERFACE, "Scanout") => {
                let (width, height, stride, format, data): (u32, u32, u32, u32, Vec<u8>) =
                    body.deserialize()?;
                self.scanout_data(width, height, stride, format, data)?;
            }
            (LISTENER_INTERFACE, "Update") => {
                let (x, y, w, h, stride, format, data): (i32, i32, i32, i32, u32, u32, Vec<u8>) =
                    body.deserialize()?;
                self.update_data((x, y, w, h), stride, format, &data)?;
            }
            (LISTENER_INTERFACE, "Disable") => self.sink.blank(),
            (LISTENER_INTERFACE, "MouseSet") => {
                let (_x, _y, on): (i32, i32, i32) = body.deserialize()?;
                self.sink.cursor(if on == 0 { None } else { self.cursor.clone() });
            }
            (LISTENER_INTERFACE, "CursorDefine") => {
                let (width, height, hot_x, hot_y, argb): (i32, i32, i32, i32, Vec<u8>) =
                    body.deserialize()?;
                self.cursor_define(width, height, hot_x, hot_y, argb)?;
            }
            ("org.freedesktop.DBus.Properties", "Get" | "GetAll") => {
                let interfaces = Variant::from(if self.shared { vec![MAP_INTERFACE] } else { vec![] });
                if member == "Get" {
                    connection.reply(&header, &interfaces).await?;
                } else {
                    connection
                        .reply(&header, &std::collections::HashMap::from([("Interfaces", interfaces)]))
                        .await?;
                }
                return Ok(());
            }
            _ => return Err(ListenerError::Unknown(format!("{interface}.{member}"))),
        }
        if !message.primary_header().flags().contains(zbus::message::Flags::NO_REPLY_EXPECTED) {
            connection.reply(&header, &()).await?;
        }
        Ok(())
    }

    pub(crate) fn scanout_map(
        &mut self,
        fd: &OwnedFd,
        offset: u32,
        width: u32,
        height: u32,
        stride: u32,
        format: u32,
    ) -> Result<(), ListenerError> {
        if let Some(why) = bad_scanout(width, height, stride, format) {
            return Err(ListenerError::Bad(why));
        }
        let bytes = stride as usize * height as usize;
        let map = FrameMap::new(fd, offset as usize + bytes)
            .map_err(|e| ListenerError::Bad(format!("the framebuffer cannot be mapped: {e}")))?;
        let memory = Memory::Shared(map, offset as usize);
        self.picture = Picture { width, height, stride: stride as usize, memory };
        self.sink.scanout(self.picture.frame());
        Ok(())
    }

    pub(crate) fn update_map(&mut self, x: i32, y: i32, width: i32, height: i32) {
        let picture = &self.picture;
        if !matches!(picture.memory, Memory::Shared(..)) {
            return;
        }
        let Some(damage) =
            Damage::clip(x.into(), y.into(), width.into(), height.into(), picture.width, picture.height)
        else {
            return;
        };
        self.sink.update(self.picture.frame(), damage);
    }

    pub(crate) fn scanout_data(
        &mut self,
        width: u32,
        height: u32,
        stride: u32,
        format: u32,
        data: Vec<u8>,
    ) -> Result<(), ListenerError> {
        if let Some(why) = bad_scanout(width, height, stride, format) {
            return Err(ListenerError::Bad(why));
        }
        let mut data = data;
        if data.len() < stride as usize * (height as usize - 1) + width as usize * 4 {
            return Err(ListenerError::Bad(format!("{} bytes are too few for {width}x{height}", data.len())));
        }
        data.resize(stride as usize * height as usize, 0);
        self.picture = Picture { width, height, stride: stride as usize, memory: Memory::Own(data) };
        self.sink.scanout(self.picture.frame());
        Ok(())
    }

    pub(crate) fn update_data(
        &mut self,
        (x, y, width, height): (i32, i32, i32, i32),
        stride: u32,
        format: u32,
        data: &[u8],
    ) -> Result<(), ListenerError> {
        let picture = &mut self.picture;
        let Some(damage) =
            Damage::clip(x.into(), y.into(), width.into(), height.into(), picture.width, picture.height)
        else {
            return Ok(());
        };
        if i64::from(x) != i64::from(damage.x) || i64::from(y) != i64::from(damage.y) {
            return Err(ListenerError::Bad(format!("an update at {x},{y} is outside the display")));
        }
        if let Some(why) = bad_scanout(damage.width, damage.height, stride, format) {
            return Err(ListenerError::Bad(why));
        }
        let row_bytes = damage.width as usize * 4;
        if data.len() < stride as usize * (damage.height as usize - 1) + row_bytes {
            return Err(ListenerError::Bad(format!("{} bytes are too few for an update", data.len())));
        }
        let Memory::Own(pixels) = &mut picture.memory else {
            return Err(ListenerError::Bad("pixels came for a display that is shared memory".into()));
        };
        for row in 0..damage.height as usize {
            let to = (damage.y as usize + row) * picture.stride + damage.x as usize * 4;
            let from = row * stride as usize;
            pixels[to..to + row_bytes].copy_from_slice(&data[from..from + row_bytes]);
        }
        self.sink.update(self.picture.frame(), damage);
        Ok(())
    }

    pub(crate) fn cursor_define(
        &mut self,
        width: i32,
        height: i32,
        hot_x: i32,
        hot_y: i32,
        argb: Vec<u8>,
    ) -> Result<(), ListenerError> {
        if !(1..=MAX_CURSOR).contains(&width) || !(1..=MAX_CURSOR).contains(&height) {
            return Err(ListenerError::Bad(format!("a cursor of {width}x{height}")));
        }
        let (width, height) = (width.unsigned_abs(), height.unsigned_abs());
        if argb.len() != (width * height * 4) as usize {
            return Err(ListenerError::Bad(format!("{} bytes for a cursor of {width}x{height}", argb.len())));
        }
        let hot_x = u32::try_from(hot_x).unwrap_or(0).min(width - 1);
        let hot_y = u32::try_from(hot_y).unwrap_or(0).min(height - 1);
        self.cursor = Some(CursorImage { width, height, hot_x, hot_y, argb });
        self.sink.cursor(self.cursor.clone());
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenerError {
    #[error("{0}")]
    Bus(#[from] zbus::Error),
    #[error("{0}")]
    Bad(String),
    #[error("there is no method {0}")]
    Unknown(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Record(Mutex<Vec<String>>);
    impl DisplaySink for Record {
        fn scanout(&self, f: Frame<'_>) {
            self.0.lock().unwrap().push(format!("scanout {}x{}", f.width, f.height));
        }
        fn update(&self, f: Frame<'_>, d: Damage) {
            let mut first = [0];
            f.pixels.read(d.y as usize * f.stride + d.x as usize * 4, &mut first);
            self.0.lock().unwrap().push(format!("update {d:?} first byte {}", first[0]));
        }
        fn blank(&self) {
            self.0.lock().unwrap().push("blank".into());
        }
        fn cursor(&self, c: Option<CursorImage>) {
            self.0.lock().unwrap().push(format!("cursor {:?}", c.map(|c| (c.width, c.hot_x))));
        }
    }

    fn listener() -> (Arc<Record>, Listener) {
        let record = Arc::new(Record::default());
        let listener = Listener::new(record.clone(), true);
        (record, listener)
    }

    fn memfd(bytes: &[u8]) -> OwnedFd {
        let fd = rustix::fs::memfd_create("frame", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&fd, bytes).unwrap();
        fd
    }

    #[test]
    fn an_update_outside_the_display_is_clipped_and_inside_it_copied_from_the_shared_map() {
        let (record, mut listener) = listener();
        let mut bytes = vec![0u8; 8 * 4 * 4];
        let fd = memfd(&bytes);
        listener.scanout_map(&fd, 0, 8, 4, 32, PIXMAN_X8R8G8B8).unwrap();
        bytes[3 * 32 + 6 * 4] = 77;
        rustix::io::pwrite(&fd, &bytes, 0).unwrap();
        listener.update_map(6, 3, 100, i32::MAX);
        listener.update_map(-50, -50, 10, 10);
        assert_eq!(
            *record.0.lock().unwrap(),
            ["scanout 8x4", "update Damage { x: 6, y: 3, width: 2, height: 1 } first byte 77"]
        );
    }

    #[test]
    fn a_map_shorter_than_its_display_is_refused() {
        let (record, mut listener) = listener();
        let fd = memfd(&[0; 100]);
        assert!(listener.scanout_map(&fd, 0, 8, 4, 32, PIXMAN_X8R8G8B8).is_err());
        assert!(listener.scanout_map(&fd, u32::MAX, 8, 1, 32, PIXMAN_X8R8G8B8).is_err());
        assert!(record.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_display_of_more_memory_than_any_has_is_refused_although_it_could_be_mapped() {
        let (record, mut listener) = listener();
        let fd = memfd(&[]);
        rustix::fs::ftruncate(&fd, 2 * MAX_BYTES).unwrap();
        let stride = (MAX_BYTES / 16_384) as u32 + 4;
        assert!(listener.scanout_map(&fd, 0, 8, 16_384, stride, PIXMAN_X8R8G8B8).is_err());
        assert!(record.0.lock().unwrap().is_empty());
    }

    #[test]
    fn absurd_sizes_strides_and_formats_are_refused() {
        let (_, mut listener) = listener();
        for (w, h, s, f) in [
            (0, 1, 4, PIXMAN_X8R8G8B8),
            (65_536, 65_536, 262_144, PIXMAN_X8R8G8B8),
            (8, 4, 31, PIXMAN_X8R8G8B8),
            (8, 4, 32, 0x1002_0565),
        ] {
            assert!(listener.scanout_data(w, h, s, f, vec![0; 1024]).is_err(), "{w}x{h} stride {s} {f:#x}");
        }
        assert!(listener.cursor_define(-1, 5, 0, 0, vec![]).is_err());
        assert!(listener.cursor_define(64, 64, 0, 0, vec![0; 3]).is_err());
    }

    #[test]
    fn pixels_sent_in_the_call_are_the_fallback() {
        let (record, mut listener) = listener();
        listener.scanout_data(4, 2, 16, PIXMAN_X8R8G8B8, vec![1; 32]).unwrap();
        listener.update_data((1, 1, 2, 1), 8, PIXMAN_X8R8G8B8, &[9; 8]).unwrap();
        assert!(listener.update_data((-1, 1, 2, 1), 8, PIXMAN_X8R8G8B8, &[9; 8]).is_err());
        assert!(listener.update_data((0, 0, 4, 2), 16, PIXMAN_X8R8G8B8, &[9; 8]).is_err());
        assert_eq!(
            *record.0.lock().unwrap(),
            ["scanout 4x2", "update Damage { x: 1, y: 1, width: 2, height: 1 } first byte 9"]
        );
    }
}
