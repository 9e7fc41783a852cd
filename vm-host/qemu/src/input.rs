//! Keyboard and mouse: from a queue to QEMU's D-Bus display, no faster than the guest takes it.
//!
//! Two buffers are on the way, and both drop what they have no room for, releases of keys too; a key whose release is
//! lost repeats until somebody presses it again.
//!
//! ```text
//! push ─► InputQueue ─► pump ─ D-Bus ─► QEMU ─► 64 virtio buffers ─► the guest's driver ─► 64 entries ─► Xorg
//!                        │                        asked for by QMP                         kept by pace
//! ```
//!
//! QEMU drops events while the guest's driver offers no buffers (`virtio_input_send`), as when the guest's processors
//! wait for the host's. QEMU is asked how many there are (virtio 1.2, 2.7 and 5.8.6) whenever those of the last answer may
//! be used up. The guest's kernel drops events when Xorg does not read them in time (Linux, `drivers/input/evdev.c`,
//! `EVDEV_MIN_BUFFER_SIZE`). Nobody can be asked about that, so bursts are drawn out to a pace that people do not reach.

use crate::consoles::Consoles;
use crate::dbus::CONSOLE;
use crate::qmp::{Qmp, QmpError};
use lucarne_driver::{Button, InputEvent, InputQueue};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use zbus::Connection;
use zbus::message::{Flags, Message};

const KEYBOARD: &str = "org.qemu.Display1.Keyboard";
const MOUSE: &str = "org.qemu.Display1.Mouse";

/// Events that wait for a guest that does not keep up: some pages of text, which programs type at once. Too low and text is
/// lost, too high and a stuck guest wakes up to more than anybody remembers.
const WAITING: usize = 16_384;

/// Buffers that stay free: when a guest comes back to life, all that wait reach its kernel's buffer at once.
const SPARE: u16 = 32;

/// Steps of the tablet's axes.
const AXIS: u64 = 0x8000;

/// Pauses between two questions for room: short enough that nobody feels them, long enough not to keep QEMU busy. They
/// double up to the longest while there is none.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Entries that Xorg may be behind, of the kernel's 64, and the pace at which it is taken to read them, per second: 50 keys,
/// or 133 places of the pointer. A guest may then be busy for about a quarter of a second without losing anything.
const BURST: f64 = 24.0;
const PACE: [f64; 2] = [200.0, 400.0];

/// A virtio input device by its QEMU id.
#[derive(Clone, Copy)]
enum Device {
    Keyboard,
    Tablet,
}

impl Device {
    fn of(event: InputEvent) -> Self {
        match event {
            InputEvent::Key { .. } => Self::Keyboard,
            InputEvent::Pointer { .. } | InputEvent::Button { .. } => Self::Tablet,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Keyboard => "/machine/peripheral/keyboard/virtio-backend",
            Self::Tablet => "/machine/peripheral/tablet/virtio-backend",
        }
    }
}

/// Input on its way to one QEMU. Dropped it delivers nothing more.
pub(crate) struct Input {
    shared: Arc<Shared>,
    pump: tokio::task::JoinHandle<()>,
}

struct Shared {
    queue: Mutex<InputQueue>,
    more: Notify,
}

impl Drop for Input {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Input {
    /// Starts delivering.
    pub(crate) fn start(connection: Connection, qmp: Arc<Qmp>, consoles: Arc<Consoles>) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::new(InputQueue::new(WAITING)), more: Notify::new() });
        let lines = [(); 2].map(|()| Line::new(Instant::now()));
        let pump = Pump { connection, qmp, consoles, lines, sees: true };
        Self { pump: tokio::spawn(pump.run(shared.clone())), shared }
    }

    /// Queues input; never waits.
    pub(crate) fn push(&self, event: InputEvent) {
        if !self.shared.queue().push(event) {
            tracing::debug!("input dropped: the guest does not keep up");
        }
        self.shared.more.notify_one();
    }
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, InputQueue> {
        // Every change of the queue is whole at every point where a panic is possible.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> InputEvent {
        loop {
            let next = self.queue().pop();
            match next {
                Some(event) => return event,
                None => self.more.notified().await,
            }
        }
    }
}

struct Pump {
    connection: Connection,
    qmp: Arc<Qmp>,
    consoles: Arc<Consoles>,
    lines: [Line; 2],
    /// QEMU can say how many buffers there are.
    sees: bool,
}

/// The way to one device.
struct Line {
    /// Buffers that are free at least.
    room: u16,
    /// Entries that Xorg may be behind, at `at`.
    behind: f64,
    at: Instant,
}

impl Line {
    fn new(now: Instant) -> Self {
        Self { room: 0, behind: 0.0, at: now }
    }

    /// How long an event of `entries` has to wait for its place in the pace, which it has then.
    fn pace(&mut self, entries: u16, pace: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.behind = (self.behind - passed * pace).max(0.0) + f64::from(entries);
        let wait = Duration::from_secs_f64((self.behind - BURST).max(0.0) / pace);
        self.at = now;
        wait
    }
}

/// What an event takes in either buffer: a key or button and the report's end, or two axes and that.
fn entries(event: InputEvent) -> u16 {
    match event {
        InputEvent::Pointer { .. } => 3,
        InputEvent::Key { .. } | InputEvent::Button { .. } => 2,
    }
}

impl Pump {
    async fn run(mut self, shared: Arc<Shared>) {
        loop {
            let event = shared.next().await;
            let device = Device::of(event);
            let entries = entries(event);
            let wait = self.lines[device as usize].pace(entries, PACE[device as usize], Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            if self.sees
                && let Err(error) = self.wait_room(device, entries).await
            {
                tracing::warn!(%error, "a busy guest may lose keys: how much input it has room for is unknown");
                self.sees = false;
            }
            // At a console D-Bus knows positions on that console only, and the tablet is one for all of them.
            let several = matches!(device, Device::Tablet) && self.consoles.others_on(0);
            let sent = if several { self.send_tablet(event).await } else { self.send(event).await };
            if let Err(error) = sent {
                tracing::warn!(%error, "input could not be given to the hypervisor");
                return;
            }
        }
    }

    /// Waits until the device has room for as many buffers, and takes them.
    async fn wait_room(&mut self, device: Device, entries: u16) -> Result<(), RoomError> {
        let mut pause = PAUSE;
        while self.lines[device as usize].room < entries {
            let room = self.ask_room(device).await?.saturating_sub(SPARE);
            tracing::trace!(device = device.path(), room, "room for input");
            self.lines[device as usize].room = room;
            if room < entries {
                // Only the guest can change that, and nothing tells when it does.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        self.lines[device as usize].room -= entries;
        Ok(())
    }

    /// Buffers that the guest has offered and QEMU has not used.
    async fn ask_room(&self, device: Device) -> Result<u16, RoomError> {
        // What was sent counts only once QEMU has handled it, and this connection's calls are handled in order.
        let interface = Some("org.freedesktop.DBus.Properties");
        self.connection
            .call_method(None::<&str>, CONSOLE, interface, "Get", &(KEYBOARD, "Modifiers"))
            .await?;
        let queue = json!({ "path": device.path(), "queue": 0 });
        let status = self.qmp.execute("x-query-virtio-queue-status", queue.clone()).await?;
        let element = self.qmp.execute("x-query-virtio-queue-element", queue).await?;
        let index = |value: &serde_json::Value| value.as_u64().and_then(|v| u16::try_from(v).ok());
        let used = index(&status["last-avail-idx"]).ok_or(RoomError::Answer("last-avail-idx"))?;
        let offered = index(&element["avail"]["idx"]).ok_or(RoomError::Answer("avail.idx"))?;
        // Both count up and wrap.
        Ok(offered.wrapping_sub(used))
    }

    /// Positions on all displays together, and buttons behind them: waits for answers, because nothing else keeps the order
    /// with what goes by D-Bus.
    async fn send_tablet(&self, event: InputEvent) -> Result<(), SendError> {
        let events = match event {
            InputEvent::Pointer { x, y, of } => {
                let axis = |axis, at, of| json!({ "type": "abs", "data": { "axis": axis, "value": absolute(at, of) } });
                vec![axis("x", x, of.0), axis("y", y, of.1)]
            }
            InputEvent::Button { button, down } => {
                vec![json!({ "type": "btn", "data": { "button": name(button), "down": down } })]
            }
            InputEvent::Key { .. } => return self.send(event).await,
        };
        self.qmp.execute("input-send-event", json!({ "events": events })).await?;
        Ok(())
    }

    async fn send(&self, event: InputEvent) -> Result<(), SendError> {
        let pressed = |down| if down { "Press" } else { "Release" };
        let message = match event {
            InputEvent::Key { qnum, down } => call(KEYBOARD, pressed(down))?.build(&(qnum,)),
            InputEvent::Pointer { x, y, .. } => call(MOUSE, "SetAbsPosition")?.build(&(x, y)),
            InputEvent::Button { button, down } => call(MOUSE, pressed(down))?.build(&(number(button),)),
        };
        // No answer is asked for: waiting for one would add a round trip to every key.
        Ok(self.connection.send(&message?).await?)
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error(transparent)]
    Bus(#[from] zbus::Error),
}

#[derive(Debug, thiserror::Error)]
enum RoomError {
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("QEMU's display did not answer: {0}")]
    Bus(#[from] zbus::Error),
    #[error("QEMU's answer has no {0}")]
    Answer(&'static str),
}

fn call(interface: &'static str, member: &'static str) -> zbus::Result<zbus::message::Builder<'static>> {
    Ok(Message::method_call(CONSOLE, member).interface(interface).with_flags(Flags::NO_REPLY_EXPECTED))
}

/// Button numbers of `org.qemu.Display1.Mouse`.
fn number(button: Button) -> u32 {
    match button {
        Button::Left => 0,
        Button::Middle => 1,
        Button::Right => 2,
        Button::WheelUp => 3,
        Button::WheelDown => 4,
        Button::Side => 5,
        Button::Extra => 6,
    }
}

/// Button names of QMP's `InputButton`.
fn name(button: Button) -> &'static str {
    match button {
        Button::Left => "left",
        Button::Middle => "middle",
        Button::Right => "right",
        Button::WheelUp => "wheel-up",
        Button::WheelDown => "wheel-down",
        Button::Side => "side",
        Button::Extra => "extra",
    }
}

/// The middle of a pixel on the tablet's axis, which has [`AXIS`] steps (QEMU's `INPUT_EVENT_ABS_MAX`).
fn absolute(at: u32, of: u32) -> u64 {
    ((2 * u64::from(at) + 1) * AXIS / (2 * u64::from(of.max(1)))).min(AXIS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: f64 = PACE[Device::Keyboard as usize];

    #[test]
    fn a_quick_typist_never_waits() {
        let start = Instant::now();
        let mut line = Line::new(start);
        // Twenty keys a second, each pressed and released, some of them two at a time.
        for (number, at) in (0..200).map(|n| (n, start + Duration::from_millis(50 * (n / 2)))) {
            assert_eq!(line.pace(2, KEYS, at), Duration::ZERO, "event {number}");
            assert_eq!(line.pace(2, KEYS, at), Duration::ZERO, "event {number}");
        }
    }

    #[test]
    fn a_guest_finds_each_pixel_of_a_wide_desktop_again() {
        for of in [1, 1280, 3840, 8192] {
            // What libinput makes of it (`libinput_event_pointer_get_absolute_x_transformed`).
            assert!((0..of).all(|x| absolute(x, of) * u64::from(of) / AXIS == u64::from(x)), "{of}");
        }
        assert_eq!(absolute(5000, 1280), AXIS - 1);
    }

    #[test]
    fn a_burst_is_drawn_out_to_the_pace() {
        let start = Instant::now();
        let (mut line, mut now) = (Line::new(start), start);
        for _ in 0..100 {
            now += line.pace(2, KEYS, now);
        }
        let took = (now - start).as_secs_f64();
        let expected = (200.0 - BURST) / KEYS;
        assert!((took - expected).abs() < 0.001, "{took} s instead of {expected} s");
    }
}
