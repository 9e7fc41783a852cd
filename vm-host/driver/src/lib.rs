//! What every VM driver offers to the desktop process: a running guest with a display, input, an identity and an
//! end. It knows nothing of any hypervisor, of RFB, or of sockets.
//!
//! A driver gives frames to a [`DisplaySink`], sound to an [`AudioSink`], and takes [`InputEvent`]s. Nothing outside a driver branches on which
//! driver it is; what differs is told by [`Capabilities`].

mod input;

pub use input::{Button, InputEvent, InputQueue};

use async_trait::async_trait;
use lucarne_control::SnapshotId;
use lucarne_control::desktop::Identity;
use std::sync::Arc;

/// The longest text of a clipboard that is exchanged with a guest, bytes of UTF-8. Lower cuts off those who copy whole
/// logs; higher lets every guest and viewer fill the host's memory.
pub const MAX_CLIPBOARD: usize = 1 << 20;

/// What a driver can do for this guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Frames arrive by shared memory, with damage exact to the pixel, not as copied payloads.
    pub shared_framebuffer: bool,
    /// Displays that the guest can be asked to have, and of what sizes; 0 when it cannot be asked.
    pub displays: usize,
    /// An identity can be given to the guest from outside.
    pub identity: bool,
    /// Text can be exchanged with the guest's clipboard.
    pub clipboard: bool,
    /// What the guest plays can be heard.
    pub audio: bool,
}

/// Memory that holds a picture and that others may write to meanwhile: it is only ever copied out.
pub trait Pixels: Sync {
    /// Bytes that there are.
    fn length(&self) -> usize;
    /// Copies `into.len()` bytes from `offset` on.
    ///
    /// # Panics
    /// They are not all there.
    fn read(&self, offset: usize, into: &mut [u8]);
}

impl Pixels for Vec<u8> {
    fn length(&self) -> usize {
        self.len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self[offset..offset + into.len()]);
    }
}

/// The most displays that any driver gives a guest.
pub const MAX_DISPLAYS: usize = 4;

/// Where a display lies on the guest's desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DisplayArea {
    /// Left edge, pixels.
    pub x: u32,
    /// Top edge, pixels.
    pub y: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Where a display begins in a framebuffer of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Which framebuffer: displays that are parts of the same have the same number here.
    pub buffer: u64,
    /// Pixels from its left edge.
    pub x: u32,
    /// Pixels from its top.
    pub y: u32,
}

/// The picture of one display in memory: rows of 32-bit little-endian `0x00RRGGBB` pixels (byte order B, G, R, X).
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Which, from 0 to [`MAX_DISPLAYS`] - 1.
    pub display: usize,
    /// Which part of the guest's framebuffer it is; `None` when the hypervisor cannot tell.
    pub origin: Option<Origin>,
    /// Pixels.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next, at least `4 * width`.
    pub stride: usize,
    /// At least `stride * (height - 1) + 4 * width` bytes.
    pub pixels: &'a dyn Pixels,
}

/// A rectangle that lies within its frame: the driver has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Left edge, pixels.
    pub x: u32,
    /// Top edge, pixels.
    pub y: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Damage {
    /// The part of a rectangle, given in signed numbers by an untrusted hypervisor, that lies within a frame of
    /// `frame_width` by `frame_height`; `None` if nothing does.
    #[must_use]
    pub fn clip(
        x: i64,
        y: i64,
        width: i64,
        height: i64,
        frame_width: u32,
        frame_height: u32,
    ) -> Option<Self> {
        let left = x.clamp(0, i64::from(frame_width));
        let top = y.clamp(0, i64::from(frame_height));
        let right = x.saturating_add(width).clamp(0, i64::from(frame_width));
        let bottom = y.saturating_add(height).clamp(0, i64::from(frame_height));
        if right <= left || bottom <= top {
            return None;
        }
        // The clamps above bound every value by a u32.
        Some(Self {
            x: left as u32,
            y: top as u32,
            width: (right - left) as u32,
            height: (bottom - top) as u32,
        })
    }
}

/// A cursor image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorImage {
    /// Pixels, at most 512.
    pub width: u32,
    /// Pixels, at most 512.
    pub height: u32,
    /// Column of the pixel that points.
    pub hot_x: u32,
    /// Row of the pixel that points.
    pub hot_y: u32,
    /// `width * height` 32-bit little-endian `0xAARRGGBB` pixels.
    pub argb: Vec<u8>,
}

/// The lights of the keyboard's lock keys, as the guest sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leds {
    /// Scroll lock.
    pub scroll: bool,
    /// Num lock.
    pub num: bool,
    /// Caps lock.
    pub caps: bool,
}

/// Where a driver puts what the guest shows. Calls for one display come in order; they must return soon, because a
/// hypervisor may wait for them. A frame's pixels may change while they are read; the driver tells of that afterwards.
pub trait DisplaySink: Send + Sync {
    /// A new picture, perhaps of another size: all of it is damaged.
    fn scanout(&self, frame: Frame<'_>);
    /// Part of the picture changed.
    fn update(&self, frame: Frame<'_>, damage: Damage);
    /// The guest shows nothing on this display: it is off.
    fn blank(&self, display: usize);
    /// The guest's cursor has this shape; `None` hides it.
    fn cursor(&self, cursor: Option<CursorImage>);
    /// The keyboard's lights are like this; called from any task.
    fn leds(&self, _leds: Leds) {}
}

/// Where a driver tells what programs in the guest copy. Calls come in order and must return soon.
pub trait ClipboardSink: Send + Sync {
    /// The guest's clipboard holds this text, lines ending in `\n`, of at most [`MAX_CLIPBOARD`] bytes; `None` when it
    /// holds none any more. A text that came by [`Vm::offer_clipboard`] is not told.
    fn clipboard(&self, text: Option<Arc<str>>);
}

/// Samples a second, of each channel, that an [`AudioSink`] is given.
pub const SAMPLE_RATE: u32 = 48_000;

/// Channels that an [`AudioSink`] is given: left and right.
pub const CHANNELS: usize = 2;

/// Where a driver puts what the guest plays. Calls come in order, from one task, as fast as the sound is played; they must
/// return soon.
pub trait AudioSink: Send + Sync {
    /// The next samples, of at most a second, at [`SAMPLE_RATE`]: left and right alternate.
    fn samples(&self, samples: &[i16]);
    /// The guest plays nothing more for now.
    fn stopped(&self);
}

/// A snapshot that is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotWanted {
    /// Its id.
    pub snapshot: SnapshotId,
    /// With the guest's memory, if it runs; without, only its disk.
    pub memory: bool,
}

/// Who wants to know how far something is, and may not want it any more.
pub trait Overseer: Send + Sync {
    /// It is so far, in percent.
    fn progress(&self, percent: u8);
    /// It is not wanted any more. It may come too late.
    fn is_cancelled(&self) -> bool;
}

/// Why a driver could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The guest or its hypervisor is gone.
    #[error("the virtual machine has ended: {0}")]
    Gone(String),
    /// The hypervisor refused.
    #[error("the hypervisor refused {what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// What it answered.
        why: String,
    },
    /// The guest did not answer in time, or answered with an error.
    #[error("the guest could not be given {what}: {why}")]
    Guest {
        /// What it was to be given.
        what: String,
        /// What it answered.
        why: String,
    },
}

/// A running guest.
#[async_trait]
pub trait Vm: Send + Sync {
    /// What can be done for this guest.
    fn capabilities(&self) -> Capabilities;
    /// Queues input; never waits. Of a guest that does not keep up, what cannot wait any more is dropped, but no release of
    /// a key or button.
    fn input(&self, event: InputEvent);
    /// Makes a clone its own machine: host name, machine id, clock, entropy, SSH host keys. One that booted from its own disk is
    /// given the same again, once it is up; one whose disk is another's is given what that must not have.
    ///
    /// # Errors
    /// When the guest does not take it; the clone must then not be used, unless it has it on its disk.
    async fn identify(&self, identity: &Identity) -> Result<(), VmError>;
    /// Mounts the user's disk that it was started with as the home directory of the guest's user, and starts their session with
    /// it; nothing where that is done already. With `fresh` the disk may have nothing on it yet.
    ///
    /// # Errors
    /// When the guest does not; nobody must use it then, because what they save would be lost.
    async fn mount_home(&self, fresh: bool) -> Result<(), VmError>;
    /// Plugs in the network's cable.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    async fn connect_network(&self) -> Result<(), VmError>;
    /// Asks the guest for these displays, the first for its first: at least one, and at most as many as
    /// [`Capabilities::displays`] says.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    async fn arrange(&self, displays: &[DisplayArea]) -> Result<(), VmError>;
    /// Begins to exchange texts with the guest's clipboard; never waits. To be called once, when the guest has its identity;
    /// does nothing without [`Capabilities::clipboard`].
    fn connect_clipboard(&self, sink: Arc<dyn ClipboardSink>);
    /// Puts a viewer's text of at most [`MAX_CLIPBOARD`] bytes, lines ending in `\n`, into the guest's clipboard, after
    /// [`Vm::connect_clipboard`]; never waits. The guest has it as soon as it listens, and of several texts the last.
    fn offer_clipboard(&self, text: Arc<str>);
    /// Begins to hand out what the guest plays; never waits. To be called once; does nothing without
    /// [`Capabilities::audio`].
    fn connect_audio(&self, sink: Arc<dyn AudioSink>);
    /// Asks the guest to power off as its user would, and does not wait until it has. It may not heed it, and may be asked again.
    ///
    /// # Errors
    /// When it cannot be asked.
    async fn power_off(&self) -> Result<(), VmError>;
    /// Puts the guest's memory and devices on the disk, from where its launcher takes it up again, and ends it.
    ///
    /// # Errors
    /// The guest goes on, and nothing of it is on the disk.
    async fn suspend(&self) -> Result<(), VmError>;
    /// Takes a snapshot of the guest, which runs on, and stands still only for a moment. One that is there already is not taken again.
    ///
    /// # Errors
    /// There is none, and the guest runs on as before.
    async fn snapshot(&self, wanted: SnapshotWanted, overseer: &dyn Overseer) -> Result<(), VmError>;
    /// Deletes a snapshot of the guest, which runs on; nothing where there is none.
    ///
    /// # Errors
    /// It is still there, or some of its work is left, which the next deletion does.
    async fn delete_snapshot(&self, id: SnapshotId, overseer: &dyn Overseer) -> Result<(), VmError>;
    /// Puts a snapshot of the guest, which runs on, where another desktop can be made of it, under a number that no other attempt
    /// has.
    ///
    /// # Errors
    /// It is not there, and the guest runs on as before.
    async fn export_snapshot(
        &self,
        id: SnapshotId,
        attempt: u64,
        overseer: &dyn Overseer,
    ) -> Result<(), VmError>;
    /// Tells a guest that was suspended that time has passed.
    ///
    /// # Errors
    /// When it does not take that in; it runs none the less.
    async fn wake(&self) -> Result<(), VmError>;
    /// Waits until the guest has ended and says how.
    async fn ended(&self) -> String;
    /// Ends the guest at once, without asking it, and waits until it has ended.
    async fn kill(&self);
}

#[cfg(test)]
mod tests {
    use super::Damage;

    #[test]
    fn damage_outside_the_frame_is_cut_off() {
        assert_eq!(
            Damage::clip(-10, 5, 30, 1000, 100, 50),
            Some(Damage { x: 0, y: 5, width: 20, height: 45 })
        );
        assert_eq!(Damage::clip(100, 0, 5, 5, 100, 50), None);
        assert_eq!(Damage::clip(0, 0, -5, 5, 100, 50), None);
        assert_eq!(Damage::clip(i64::MAX, i64::MIN, i64::MAX, i64::MAX, u32::MAX, u32::MAX), None);
    }
}
