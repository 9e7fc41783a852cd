//! The number of a frame, drawn so that it survives lossy coding: 32 cells, black or white, in a row. It is drawn twice,
//! above what changes and below, because servers that divide a frame send its parts from the top down: who sees the same
//! number twice sees what is between.

use crate::canvas::{Area, Canvas};
use crate::scene::Workload;

/// Edge of a cell, pixels: that of a JPEG block, so that one does not blur another.
const CELL: u16 = 8;

const WHITE: u32 = 0x00ff_ffff;

/// Where it is drawn on a picture of this height: the upper one, then the lower. The upper edges are multiples of 16, as
/// blocks with halved colours are.
///
/// What is typed is only a line, and the barcodes are close to it: guests damage the smallest rectangle that holds all that
/// was drawn.
#[must_use]
pub fn areas(workload: Workload, height: u16) -> [Area; 2] {
    let lower = lower(height);
    let upper = if workload == Workload::Typing { lower - 48 } else { 0 };
    [upper, lower].map(|y| Area::new(0, y, 32 * CELL, CELL))
}

fn lower(height: u16) -> u16 {
    (height / 16).saturating_sub(1) * 16
}

/// Draws a frame's number (below 2²⁰) in one of a workload's areas.
pub fn draw(canvas: &mut Canvas, workload: Workload, frame: u32, area: Area) {
    let code = code(workload.number(), frame);
    for bit in 0..32 {
        let cell = Area::new(bit * CELL, area.y, CELL, CELL);
        canvas.fill(cell, if code >> bit & 1 == 1 { WHITE } else { 0 });
    }
}

/// Reads it from a picture of this height, whose pixels `pixel(x, y)` gives. `None` if there is no barcode, half of one, or
/// not the same in both places.
pub fn read(height: u16, pixel: impl Fn(u16, u16) -> u32) -> Option<(Workload, u32)> {
    let read_at = |top: u16| {
        let bright = |bit: u16| {
            let p = pixel(bit * CELL + CELL / 2, top + CELL / 2);
            (p >> 16 & 0xff) + (p >> 8 & 0xff) + (p & 0xff) > 3 * 128
        };
        let read = (0..32).fold(0u32, |code, bit| code | u32::from(bright(bit)) << bit);
        let (workload, frame) = ((read >> 20 & 0xf) as u8, read & 0xf_ffff);
        (code(workload, frame) == read).then_some((workload, frame))
    };
    let found = read_at(lower(height))?;
    let workload = Workload::from_number(found.0)?;
    let same = areas(workload, height).iter().all(|area| read_at(area.y) == Some(found));
    same.then_some((workload, found.1))
}

/// 20 bits of the frame's number, 4 of the workload's, and 8 that depend on both.
fn code(workload: u8, frame: u32) -> u32 {
    let data = frame & 0xf_ffff | u32::from(workload & 0xf) << 20;
    // A product's upper bits depend on all of the factor's; the constant makes black and white pictures invalid.
    let check = (data ^ 0x00a5_5a3c).wrapping_mul(0x9e37_79b1) >> 24;
    data | check << 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_number_is_read_again_and_half_of_another_is_not() {
        let mut canvas = Canvas::new(300, 100);
        for (workload, frame) in [(Workload::Typing, 0), (Workload::Drag, 1), (Workload::Repaint, 0xf_ffff)] {
            let [upper, lower] = areas(workload, 100);
            draw(&mut canvas, workload, frame ^ 1, upper);
            draw(&mut canvas, workload, frame, lower);
            let pixel = |canvas: &Canvas, x: u16, y: u16| canvas.row(Area::new(x, y, 1, 1), 0)[0];
            assert_eq!(read(100, |x, y| pixel(&canvas, x, y)), None, "two numbers");
            draw(&mut canvas, workload, frame, upper);
            assert_eq!(read(100, |x, y| pixel(&canvas, x, y)), Some((workload, frame)));
            let torn =
                |x: u16, y: u16| if x == 4 { pixel(&canvas, x, y) ^ WHITE } else { pixel(&canvas, x, y) };
            assert_eq!(read(100, torn), None);
        }
        assert_eq!(read(100, |_, _| 0), None);
        assert_eq!(read(100, |_, _| WHITE), None);
    }
}
