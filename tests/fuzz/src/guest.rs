//! What comes out of a guest or its hypervisor: the clipboard's agent, the guest agent, QEMU's display calls and device state.

use crate::input::{Input, pieces};
use lucarne_driver::{CursorImage, Damage, DisplaySink, Frame};
use lucarne_qemu::fuzz;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// spice-vdagent's stream: `[framing, pieces]`, then the stream, or with an odd first number messages to be framed here: a
/// type, the length of the data in two bytes, and the data.
pub fn vdagent(data: &[u8]) {
    let mut input = Input(data);
    let (mode, cut) = (input.u8(), input.u8());
    let offered = (mode & 2 != 0).then_some("a viewer's text");
    let stream = if mode & 1 == 0 { input.0.to_vec() } else { framed(input) };
    let whole = fuzz::vdagent(offered, [&stream[..]]);
    assert_eq!(whole, fuzz::vdagent(offered, pieces(&stream, cut)));
}

fn framed(mut input: Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while !input.is_empty() {
        let kind = u32::from(input.u8());
        let length = input.u16();
        let data = input.bytes(length.into());
        out.extend(
            [1, (20 + data.len()) as u32, 1, kind, 0, 0, data.len() as u32]
                .map(u32::to_le_bytes)
                .as_flattened(),
        );
        out.extend_from_slice(data);
    }
    out
}

/// The guest agent's answers: `[pieces]`, then what it says.
pub fn guest_agent(data: &[u8]) {
    let mut input = Input(data);
    let cut = input.u8();
    assert_eq!(fuzz::guest_agent([input.0]), fuzz::guest_agent(pieces(input.0, cut)));
}

/// QEMU's device state, which holds what a guest put into its devices.
pub fn device_state(data: &[u8]) {
    let mut state = data.to_vec();
    match fuzz::device_state(&mut state) {
        Ok(true) => assert_eq!(state.len(), data.len() + 24),
        Ok(false) | Err(_) => assert_eq!(state, data),
    }
}

/// What QEMU writes of a guest with four pages of memory: what is kept of it is a state as well, of which all is kept.
pub fn guest_state(data: &[u8]) {
    if let Ok(kept) = fuzz::guest_state(data, 4 * 4096) {
        assert!(kept.len() <= data.len() + 24 + 64, "a page is named anew, and an output's record is mended");
        assert_eq!(fuzz::guest_state(&kept, 4 * 4096), Ok(kept));
    }
}

/// The largest framebuffer of [`display`], bytes.
const LARGEST: u32 = 1 << 18;

/// QEMU's display calls with arguments of any value: a number for the call, then its arguments of four bytes each; where
/// data belongs to it, its length in two bytes and one byte that fills it.
pub fn display(data: &[u8]) {
    let mut input = Input(data);
    let mut display = fuzz::Display::new(Arc::new(Judge));
    let mut framebuffer: Option<OwnedFd> = None;
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        match input.u8() % 6 {
            0 => {
                let length = input.u32() % LARGEST;
                framebuffer = Some(memory(length.into()));
            }
            1 => {
                let arguments = std::array::from_fn(|_| input.u32());
                if let Some(fd) = &framebuffer {
                    display.scanout_map(fd, arguments);
                }
            }
            2 => display.update_map(std::array::from_fn(|_| input.i32())),
            3 => {
                let arguments = std::array::from_fn(|_| input.u32());
                display.scanout(arguments, filled(&mut input));
            }
            4 => {
                let (place, layout) =
                    (std::array::from_fn(|_| input.i32()), std::array::from_fn(|_| input.u32()));
                display.update(place, layout, &filled(&mut input));
            }
            _ => {
                let arguments = std::array::from_fn(|_| input.i32());
                display.cursor_define(arguments, filled(&mut input));
            }
        }
    }
}

fn filled(input: &mut Input<'_>) -> Vec<u8> {
    let length = input.u16();
    vec![input.u8(); length.into()]
}

/// A file in memory, of so many zeros.
pub(crate) fn memory(length: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).expect("a file in memory");
    rustix::fs::ftruncate(&fd, length).expect("any length");
    fd
}

/// Looks whether what the listener promises is so.
struct Judge;

impl Judge {
    fn frame(frame: Frame<'_>) {
        assert!(frame.width > 0 && frame.height > 0 && frame.stride >= frame.width as usize * 4);
        let needed = frame.stride * (frame.height as usize - 1) + frame.width as usize * 4;
        assert!(frame.pixels.length() >= needed, "{} bytes of {needed}", frame.pixels.length());
    }
}

impl DisplaySink for Judge {
    fn scanout(&self, frame: Frame<'_>) {
        Self::frame(frame);
    }

    fn update(&self, frame: Frame<'_>, damage: Damage) {
        Self::frame(frame);
        assert!(damage.width > 0 && damage.x + damage.width <= frame.width);
        assert!(damage.height > 0 && damage.y + damage.height <= frame.height);
    }

    fn blank(&self, _display: usize) {}

    fn cursor(&self, cursor: Option<CursorImage>) {
        if let Some(c) = cursor {
            assert_eq!(c.argb.len(), (c.width * c.height * 4) as usize);
            assert!(c.hot_x < c.width && c.hot_y < c.height && c.width <= 512 && c.height <= 512);
        }
    }
}
