//! Workload `typing`: a page in an editor, and one more letter with each frame.

use crate::barcode;
use crate::canvas::{Area, CELL, Canvas};
use crate::scene::Workload;
use crate::text::{self, Paper};

/// Lines that are typed are those of this number on.
const TYPED: u32 = 1000;

/// The editor.
#[derive(Debug)]
pub(crate) struct Typing {
    columns: u16,
    /// Upper edge of the line that is typed, between the barcodes.
    top: u16,
    /// Where the next letter goes, in letters.
    at: u16,
    number: u32,
    line: Vec<char>,
}

/// Left top of the page.
const ORIGIN: (u16, u16) = (16, 16);

impl Typing {
    pub(crate) fn new(canvas: &mut Canvas) -> Self {
        canvas.fill(canvas.area(), Paper::White.colour());
        let columns = (canvas.width() - ORIGIN.0 * 2) / CELL.0;
        let [upper, _] = barcode::areas(Workload::Typing, canvas.height());
        for line in 0..(upper.y - ORIGIN.1) / CELL.1 {
            let at = (ORIGIN.0, ORIGIN.1 + line * CELL.1);
            text::draw_line(canvas, at, line.into(), columns, Paper::White);
        }
        let mut typing = Self { columns, top: upper.y + 18, at: 0, number: TYPED, line: Vec::new() };
        typing.begin_line(canvas);
        typing
    }

    pub(crate) fn step(&mut self, canvas: &mut Canvas) -> Vec<Area> {
        let Some(letter) = self.line.get(usize::from(self.at)).copied() else {
            return vec![self.begin_line(canvas)];
        };
        let ink = Paper::White.ink(u32::from(self.at) / 5);
        let drawn = canvas.text((self.left(), self.top), &letter.to_string(), ink, Paper::White.colour());
        self.at += 1;
        vec![drawn.bounding(self.cursor(canvas))]
    }

    fn left(&self) -> u16 {
        ORIGIN.0 + self.at * CELL.0
    }

    /// Clears the line and draws the cursor at its start.
    fn begin_line(&mut self, canvas: &mut Canvas) -> Area {
        // Blank lines would be steps without letters.
        self.line = loop {
            let line = text::line(self.number, self.columns.into()).trim_start().chars().collect::<Vec<_>>();
            self.number += 1;
            if !line.is_empty() {
                break line;
            }
        };
        self.at = 0;
        let area = Area::new(ORIGIN.0, self.top, self.columns * CELL.0, CELL.1);
        canvas.fill(area, Paper::White.colour());
        self.cursor(canvas);
        area
    }

    fn cursor(&self, canvas: &mut Canvas) -> Area {
        let area = Area::new(self.left(), self.top, 2, CELL.1);
        canvas.fill(area, 0);
        area
    }
}
