//! Workload `drag`: a window with text is moved over a photograph.

use crate::barcode;
use crate::canvas::{Area, CELL, Canvas};
use crate::photo::photo;
use crate::scene::Workload;
use crate::text::{self, Paper};

/// The window's size, pixels.
const WINDOW: (u16, u16) = (488, 320);

/// The desktop.
#[derive(Debug)]
pub(crate) struct Drag {
    background: Canvas,
    window: Canvas,
    at: Area,
    /// Pixels that the next frame moves it by.
    speed: (i32, i32),
}

impl Drag {
    pub(crate) fn new(canvas: &mut Canvas) -> Self {
        let background = photo(canvas.width(), canvas.height(), 1);
        let mut window = Canvas::new(WINDOW.0, WINDOW.1);
        window.fill(window.area(), 0x003b_4252);
        window.text((8, 4), "notes.rs - Editor", 0x00ec_eff4, 0x003b_4252);
        window.fill(Area::new(1, 26, WINDOW.0 - 2, WINDOW.1 - 27), Paper::White.colour());
        for line in 0..(WINDOW.1 - 32) / CELL.1 {
            let at = (8, 30 + line * CELL.1);
            text::draw_line(&mut window, at, 50 + u32::from(line), (WINDOW.0 - 16) / CELL.0, Paper::White);
        }
        canvas.copy(&background, (0, 0), canvas.area());
        let at = Area::new(40, 48, WINDOW.0, WINDOW.1);
        canvas.copy(&window, (0, 0), at);
        Self { background, window, at, speed: (11, 7) }
    }

    pub(crate) fn step(&mut self, canvas: &mut Canvas) -> Vec<Area> {
        let before = self.at;
        canvas.copy(&self.background, (before.x, before.y), before);
        let floor = barcode::areas(Workload::Drag, canvas.height())[1].y;
        let limit = (i32::from(canvas.width() - before.w), i32::from(floor - before.h));
        // It turns round at the edges, between the barcodes.
        let turn = |at: u16, speed: &mut i32, low: i32, high: i32| {
            let next = i32::from(at) + *speed;
            if next < low || next > high {
                *speed = -*speed;
            }
            (i32::from(at) + *speed).clamp(low, high) as u16
        };
        self.at.x = turn(before.x, &mut self.speed.0, 0, limit.0);
        self.at.y = turn(before.y, &mut self.speed.1, 16, limit.1);
        canvas.copy(&self.window, (0, 0), self.at);
        vec![before.bounding(self.at)]
    }
}
