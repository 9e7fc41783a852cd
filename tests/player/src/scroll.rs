//! Workload `scroll`: a terminal that fills the screen and goes up by a line with each frame.

use crate::barcode;
use crate::canvas::{Area, CELL, Canvas};
use crate::scene::Workload;
use crate::text::{self, Paper};

/// The terminal.
#[derive(Debug)]
pub(crate) struct Scroll {
    area: Area,
    next: u32,
}

impl Scroll {
    pub(crate) fn new(canvas: &mut Canvas) -> Self {
        canvas.fill(canvas.area(), Paper::Black.colour());
        let top = 16;
        let lines = (barcode::areas(Workload::Scroll, canvas.height())[1].y - top) / CELL.1;
        let columns = (canvas.width() - 24) / CELL.0;
        let area = Area::new(8, top, columns * CELL.0, lines * CELL.1);
        for line in 0..lines {
            let at = (area.x, area.y + line * CELL.1);
            text::draw_line(canvas, at, line.into(), columns, Paper::Black);
        }
        Self { area, next: lines.into() }
    }

    pub(crate) fn step(&mut self, canvas: &mut Canvas) -> Vec<Area> {
        canvas.scroll_up(self.area, CELL.1);
        let at = (self.area.x, self.area.y + self.area.h - CELL.1);
        text::draw_line(canvas, at, self.next, self.area.w / CELL.0, Paper::Black);
        self.next += 1;
        vec![self.area]
    }
}
