//! Frames on an X server: a window over the whole screen, told what to draw by keys.
//!
//! | key | meaning |
//! | --- | --- |
//! | `1` to `9` | the workload of that number, from its frame 0 |
//! | `n` | the next frame |
//! | `p` | frames at 60 Hz until the next key |
//! | `c` | a clapper, for some seconds ([`crate::clapper`]) |
//! | `q` | the end |
//!
//! Pixels reach the server through shared memory, and each frame ends with an answer of the server's, so that a frame
//! counts as drawn only when it is.

use crate::canvas::{Area, Canvas};
use crate::clapper;
use crate::scene::{Scene, Workload};
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::shm::ConnectionExt as _;
use x11rb::protocol::xproto::{
    ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, GrabMode, ImageFormat, InputFocus,
    WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::{CURRENT_TIME, NONE};

/// Time between two frames that play by themselves.
const PERIOD: Duration = Duration::from_micros(16_667);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Start(Workload),
    Next,
    Play,
    Clap,
    End,
}

impl Wish {
    fn of(keysym: u32) -> Option<Self> {
        match char::from_u32(keysym)? {
            'n' => Some(Self::Next),
            'p' => Some(Self::Play),
            'c' => Some(Self::Clap),
            'q' => Some(Self::End),
            digit => Workload::from_number(digit.to_digit(10)?.try_into().ok()?).map(Self::Start),
        }
    }
}

/// Draws until `q`.
///
/// # Errors
/// The X server is not there, too small, not of 24 bits, or without shared memory.
pub fn run() -> Result<()> {
    let mut window = Window::open()?;
    let mut scene = Scene::new(Workload::Typing, window.size.0, window.size.1);
    window.show(scene.canvas(), &[scene.canvas().area()])?;
    println!("ready {}x{}", window.size.0, window.size.1);
    let mut playing: Option<Instant> = None;
    loop {
        match window.wish(playing)? {
            Some(Wish::End) => return Ok(()),
            Some(Wish::Start(workload)) => {
                playing = None;
                scene = Scene::new(workload, window.size.0, window.size.1);
                window.show(scene.canvas(), &[scene.canvas().area()])?;
            }
            Some(Wish::Next) => {
                playing = None;
                let areas = scene.step();
                window.show(scene.canvas(), &areas)?;
            }
            Some(Wish::Play) => playing = Some(Instant::now()),
            Some(Wish::Clap) => {
                playing = None;
                let mut canvas = Canvas::new(window.size.0, window.size.1);
                window.show(&canvas, &[canvas.area()])?;
                clapper::run(|colour| {
                    canvas.fill(clapper::SQUARE, colour);
                    window.show(&canvas, &[clapper::SQUARE])
                })?;
            }
            None => {
                let areas = scene.step();
                window.show(scene.canvas(), &areas)?;
                // Who cannot keep up draws as fast as it can, and does not catch up in a burst.
                playing = playing.map(|due| (due + PERIOD).max(Instant::now()));
            }
        }
    }
}

struct Window {
    x: RustConnection,
    window: u32,
    gc: u32,
    segment: u32,
    /// The shared memory: the screen's pixels, row by row.
    memory: File,
    size: (u16, u16),
    depth: u8,
    /// Keysyms by keycode, `per` for each from `first` on.
    keymap: Vec<u32>,
    first: u8,
    per: u8,
}

impl Window {
    fn open() -> Result<Self> {
        let (x, number) = x11rb::connect(None).context("the X server in DISPLAY cannot be reached")?;
        let setup = x.setup();
        let screen = &setup.roots[number];
        let (root, depth, visual) = (screen.root, screen.root_depth, screen.root_visual);
        let size = (screen.width_in_pixels, screen.height_in_pixels);
        ensure!(depth == 24, "the X server shows {depth} bits a pixel, and 24 are needed");
        let (first, last) = (setup.min_keycode, setup.max_keycode);
        let [window, gc, segment] = [x.generate_id()?, x.generate_id()?, x.generate_id()?];
        let mapping = x.get_keyboard_mapping(first, last - first + 1)?.reply()?;
        // Above everything else, and nothing that a window manager has to do with.
        let look = CreateWindowAux::new()
            .override_redirect(1)
            .background_pixel(screen.black_pixel)
            .event_mask(EventMask::KEY_PRESS | EventMask::EXPOSURE);
        x.create_window(
            depth,
            window,
            root,
            0,
            0,
            size.0,
            size.1,
            0,
            WindowClass::INPUT_OUTPUT,
            visual,
            &look,
        )?;
        x.create_gc(gc, window, &CreateGCAux::new().graphics_exposures(0))?;
        x.map_window(window)?;
        let memory = File::from(rustix::fs::memfd_create("frames", rustix::fs::MemfdFlags::CLOEXEC)?);
        memory.set_len(u64::from(size.0) * u64::from(size.1) * 4)?;
        x.shm_attach_fd(segment, memory.try_clone()?, false)?
            .check()
            .context("the X server takes no shared memory")?;
        let keymap = mapping.keysyms;
        let per = mapping.keysyms_per_keycode;
        let window = Self { x, window, gc, segment, memory, size, depth, keymap, first, per };
        window.take_keyboard()?;
        Ok(window)
    }

    /// Gets the keyboard, once whoever has it lets go.
    fn take_keyboard(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let grab =
                self.x.grab_keyboard(true, self.window, CURRENT_TIME, GrabMode::ASYNC, GrabMode::ASYNC)?;
            if grab.reply()?.status == x11rb::protocol::xproto::GrabStatus::SUCCESS {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(20), "another program has the keyboard");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.x.set_input_focus(InputFocus::POINTER_ROOT, self.window, CURRENT_TIME)?.check()?;
        self.x.warp_pointer(NONE, self.window, 0, 0, 0, 0, self.size.0 as i16 - 2, self.size.1 as i16 - 2)?;
        Ok(())
    }

    /// Puts areas of the picture on the screen and waits until they are there.
    fn show(&mut self, canvas: &Canvas, areas: &[Area]) -> Result<()> {
        for area in areas {
            let mut bytes = Vec::with_capacity(usize::from(area.w) * 4);
            for y in 0..area.h {
                bytes.clear();
                bytes.extend(canvas.row(*area, y).iter().flat_map(|p| p.to_le_bytes()));
                let at = u64::from(area.y + y) * u64::from(self.size.0) + u64::from(area.x);
                self.memory.write_all_at(&bytes, at * 4)?;
            }
            self.x.shm_put_image(
                self.window,
                self.gc,
                self.size.0,
                self.size.1,
                area.x,
                area.y,
                area.w,
                area.h,
                area.x as i16,
                area.y as i16,
                self.depth,
                ImageFormat::Z_PIXMAP.into(),
                false,
                self.segment,
                0,
            )?;
        }
        self.x.get_input_focus()?.reply()?;
        Ok(())
    }

    /// The next wish; with a time at which the next frame is due, none from then on.
    fn wish(&self, due: Option<Instant>) -> Result<Option<Wish>> {
        loop {
            while let Some(event) = self.x.poll_for_event()? {
                if let Event::KeyPress(key) = event
                    && let Some(wish) = self.keysym(key.detail).and_then(Wish::of)
                {
                    return Ok(Some(wish));
                }
            }
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let left = left.map(|l| Timespec { tv_sec: 0, tv_nsec: l.subsec_nanos().into() });
            self.x.flush()?;
            let mut fds = [PollFd::new(self.x.stream(), PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).with_context(|| format!("fd {}", self.x.stream().as_raw_fd())),
            }
        }
    }

    /// The keysym of a key without modifiers.
    fn keysym(&self, keycode: u8) -> Option<u32> {
        self.keymap.get(usize::from(keycode.checked_sub(self.first)?) * usize::from(self.per)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_to_draw_and_others_nothing() {
        assert_eq!(Wish::of(u32::from('n')), Some(Wish::Next));
        assert_eq!(Wish::of(u32::from('2')), Some(Wish::Start(Workload::Scroll)));
        assert_eq!(Wish::of(u32::from('9')), None);
        assert_eq!(Wish::of(u32::from('0')), None);
        assert_eq!(Wish::of(0xffe1), None);
    }
}
