//! The receiving end of one console of QEMU's display: `org.qemu.Display1.Listener` and `.Listener.Unix.Map`
//! (QEMU's `ui/dbus-display1.xml`).
//!
//! The messages are taken from the stream one by one, in order, and answered at once, because QEMU may wait for the
//! answer before it lets the guest draw on. What QEMU says is not trusted: every size is bounded, every rectangle
//! clipped, and the shared framebuffer is mapped read-only and copied out as it is looked at.

use crate::consoles::Consoles;
use crate::framebuffer::{FrameMap, Memory, Picture};
use lucarne_driver::{CursorImage, Damage, DisplaySink};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
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

/// How long the last picture stays where an output is off: guests switch it off and on again when they change its mode, and
/// nobody wants to read QEMU's remark meanwhile.
const HOLD: Duration = Duration::from_millis(500);

/// pixman's x8r8g8b8 and a8r8g8b8: 32-bit pixels with blue in the lowest byte (pixman.h, `PIXMAN_FORMAT`).
const PIXMAN_X8R8G8B8: u32 = 0x2002_0888;
const PIXMAN_A8R8G8B8: u32 = 0x2002_8888;

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
    /// The console's number, which is the display's.
    display: usize,
    consoles: Arc<Consoles>,
    picture: Picture,
    /// The picture is not shown before then.
    held: Option<Instant>,
    shared: bool,
}

impl Listener {
    /// `shared` offers the shared-memory map; without it QEMU sends pixels in the calls.
    pub(crate) fn new(
        sink: Arc<dyn DisplaySink>,
        (display, consoles): (usize, Arc<Consoles>),
        shared: bool,
    ) -> Self {
        Self { sink, display, consoles, picture: Picture::none(), held: None, shared }
    }

    /// Takes messages until the stream ends.
    pub(crate) async fn serve(mut self, mut stream: MessageStream) {
        use futures_util::StreamExt;
        let connection = Connection::from(&stream);
        loop {
            let next = match self.held {
                None => stream.next().await,
                Some(until) => match tokio::time::timeout_at(until, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.show();
                        continue;
                    }
                },
            };
            let Some(Ok(message)) = next else { return };
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
            (LISTENER_INTERFACE, "Disable") => self.off(),
            (LISTENER_INTERFACE, "MouseSet") => {
                let (_x, _y, on): (i32, i32, i32) = body.deserialize()?;
                if on == 0 {
                    self.consoles.leave(self.display, &self.sink);
                } else {
                    self.consoles.point(self.display, None, &self.sink);
                }
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

    /// The guest shows nothing here.
    fn off(&mut self) {
        self.picture = Picture::none();
        self.held = None;
        self.consoles.set_on(self.display, false);
        self.sink.blank(self.display);
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
        // To the last pixel, behind which a part of a framebuffer has no whole row.
        let bytes = stride as usize * (height as usize - 1) + width as usize * 4;
        let map = FrameMap::new(fd, offset as usize + bytes)
            .map_err(|e| ListenerError::Bad(format!("the framebuffer cannot be mapped: {e}")))?;
        let memory = Memory::Shared(map, offset as usize);
        self.take(Picture { width, height, stride: stride as usize, memory });
        Ok(())
    }

    /// The picture is another, or is shown at last.
    fn show(&mut self) {
        self.held = None;
        self.consoles.set_on(self.display, true);
        self.sink.scanout(self.picture.frame(self.display));
    }

    /// There is a picture of this memory now.
    fn take(&mut self, picture: Picture) {
        let was = self.picture.memory.is_of_guest();
        let is = picture.memory.is_of_guest();
        if !is && (self.display > 0 || self.consoles.others_on(self.display)) {
            return self.off();
        }
        self.picture = picture;
        if is || !was && self.held.is_none() {
            self.show();
        } else {
            self.held.get_or_insert_with(|| Instant::now() + HOLD);
        }
    }

    /// A part of the picture was drawn on.
    fn drawn(&self, damage: Damage) {
        if self.held.is_none() {
            self.sink.update(self.picture.frame(self.display), damage);
        }
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
        self.drawn(damage);
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
        let memory = Memory::Own(data);
        self.take(Picture { width, height, stride: stride as usize, memory });
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
        self.drawn(damage);
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
        let shape = CursorImage { width, height, hot_x, hot_y, argb };
        self.consoles.point(self.display, Some(shape), &self.sink);
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
    use lucarne_driver::Frame;
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
        fn blank(&self, display: usize) {
            self.0.lock().unwrap().push(format!("blank {display}"));
        }
        fn cursor(&self, c: Option<CursorImage>) {
            self.0.lock().unwrap().push(format!("cursor {:?}", c.map(|c| (c.width, c.hot_x))));
        }
    }

    fn listener() -> (Arc<Record>, Listener) {
        let record = Arc::new(Record::default());
        let listener = Listener::new(record.clone(), (0, Arc::default()), true);
        (record, listener)
    }

    #[test]
    fn an_output_that_is_not_in_use_is_off_although_qemu_writes_on_it() {
        let (record, consoles) = (Arc::new(Record::default()), Arc::<Consoles>::default());
        let [mut first, mut second] =
            [0, 1].map(|n| Listener::new(record.clone(), (n, consoles.clone()), true));
        let (guests, qemus) = (memfd(&[0; 128]), named(c"displaysurface", &[0; 128]));
        let scanout = |listener: &mut Listener, fd| {
            listener.scanout_map(fd, 0, 4, 4, 32, PIXMAN_X8R8G8B8).unwrap();
        };
        scanout(&mut first, &qemus);
        scanout(&mut second, &qemus);
        scanout(&mut second, &guests);
        scanout(&mut first, &qemus);
        second.update_map(0, 0, 1, 1);
        second.scanout_data(4, 2, 16, PIXMAN_X8R8G8B8, vec![1; 32]).unwrap();
        second.update_data((0, 0, 1, 1), 4, PIXMAN_X8R8G8B8, &[9; 4]).unwrap();
        assert_eq!(
            *record.0.lock().unwrap(),
            [
                "scanout 4x4",
                "blank 1",
                "scanout 4x4",
                "blank 0",
                "update Damage { x: 0, y: 0, width: 1, height: 1 } first byte 0",
                "blank 1"
            ]
        );
    }

    #[test]
    fn the_last_picture_stays_while_a_guest_changes_its_mode() {
        let (record, mut listener) = listener();
        let (guests, qemus) = (memfd(&[0; 128]), named(c"displaysurface", &[0; 128]));
        for fd in [&guests, &qemus] {
            listener.scanout_map(fd, 0, 4, 4, 32, PIXMAN_X8R8G8B8).unwrap();
            listener.update_map(0, 0, 4, 4);
        }
        assert!(listener.held.is_some());
        listener.scanout_map(&guests, 0, 8, 4, 32, PIXMAN_X8R8G8B8).unwrap();
        assert!(listener.held.is_none());
        let told = record.0.lock().unwrap().clone();
        assert_eq!((told.len(), told.last().map(String::as_str)), (3, Some("scanout 8x4")), "{told:?}");
    }

    #[test]
    fn a_display_that_is_a_part_of_a_framebuffer_says_which() {
        let (_, mut listener) = listener();
        let fd = memfd(&[0; 32 * 4]);
        listener.scanout_map(&fd, 32 + 16, 4, 2, 32, PIXMAN_X8R8G8B8).unwrap();
        let origin = listener.picture.frame(0).origin.unwrap();
        assert_eq!((origin.x, origin.y), (4, 1));
    }

    fn memfd(bytes: &[u8]) -> OwnedFd {
        named(c"virtio-gpu res", bytes)
    }

    fn named(name: &std::ffi::CStr, bytes: &[u8]) -> OwnedFd {
        let fd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
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
