//! Workload `video`: a film of 640×360 pixels in a page of text: a camera that moves and zooms, with grain.

use crate::canvas::{Area, CELL, Canvas};
use crate::photo::{grain, photo};
use crate::text::{self, Paper};

/// The film's size, pixels.
const FILM: (u16, u16) = (640, 360);

/// Frames that are drawn beforehand, played to the end and back.
const FRAMES: u32 = 24;

/// The page with the film.
#[derive(Debug)]
pub(crate) struct Video {
    frames: Vec<Canvas>,
    area: Area,
    next: u32,
}

impl Video {
    pub(crate) fn new(canvas: &mut Canvas) -> Self {
        canvas.fill(canvas.area(), Paper::White.colour());
        let columns = (canvas.width() - 32) / CELL.0;
        for line in 0..(canvas.height() - 48) / CELL.1 {
            text::draw_line(canvas, (16, 16 + line * CELL.1), 300 + u32::from(line), columns, Paper::White);
        }
        // Not on the grid of tiles, as films in pages are not.
        let area = Area::new((canvas.width() - FILM.0) / 2 + 5, 75, FILM.0, FILM.1);
        let scene = photo(1024, 640, 2);
        let frames: Vec<_> = (0..FRAMES).map(|n| frame(&scene, n)).collect();
        canvas.copy(&frames[0], (0, 0), area);
        Self { frames, area, next: 1 }
    }

    pub(crate) fn step(&mut self, canvas: &mut Canvas) -> Vec<Area> {
        let at = self.next % (2 * FRAMES - 2);
        let at = if at < FRAMES { at } else { 2 * FRAMES - 2 - at };
        self.next += 1;
        canvas.copy(&self.frames[at as usize], (0, 0), self.area);
        vec![self.area]
    }
}

fn frame(scene: &Canvas, number: u32) -> Canvas {
    let mut film = Canvas::new(FILM.0, FILM.1);
    let n = number as usize;
    // 256ths of a pixel of the scene for a pixel of the film; both shrink as the camera comes nearer.
    let step = 320 - n * 3;
    let (left, top) = (n * 5 * 256 + 2560, n * 3 * 256 + 1280);
    for y in 0..FILM.1 {
        let line = scene.row(scene.area(), ((top + usize::from(y) * step) >> 8) as u16);
        let row: Vec<u32> = (0..usize::from(FILM.0))
            .map(|x| {
                let pixel = line[(left + x * step) >> 8];
                let noise = grain(x, y.into(), 100 + number);
                let channel = |shift: u32| ((pixel >> shift & 0xff) as i32 + noise).clamp(0, 255) as u32;
                channel(16) << 16 | channel(8) << 8 | channel(0)
            })
            .collect();
        film.set_row(y, &row);
    }
    film
}
