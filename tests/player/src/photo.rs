//! Pictures like photographs: smooth shades of several sizes, colours that change slowly, and grain. Integers only, so
//! that they are the same on every processor.

use crate::canvas::Canvas;

/// Sizes of the shades, pixels, and how strong they are.
const SHADES: [(usize, i32); 6] = [(256, 90), (128, 60), (64, 40), (32, 26), (16, 16), (8, 10)];

/// A photograph.
pub(crate) fn photo(width: u16, height: u16, seed: u32) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    let (w, h) = (usize::from(width), usize::from(height));
    let mut light = vec![0; w];
    let (mut warm, mut cold) = (vec![0; w], vec![0; w]);
    for y in 0..h {
        light.fill(0);
        warm.fill(0);
        cold.fill(0);
        for (size, strength) in SHADES {
            add_shade(&mut light, y, size, strength, seed ^ size as u32);
        }
        add_shade(&mut warm, y, 200, 60, seed ^ 0x1111);
        add_shade(&mut cold, y, 150, 60, seed ^ 0x2222);
        let row: Vec<u32> = (0..w)
            .map(|x| {
                let l = 128 + light[x] + grain(x, y, seed);
                let channel = |v: i32| v.clamp(0, 255) as u32;
                channel(l + warm[x]) << 16 | channel(l - (warm[x] + cold[x]) / 4) << 8 | channel(l + cold[x])
            })
            .collect();
        canvas.set_row(y as u16, &row);
    }
    canvas
}

/// Camera noise of -2 to 2.
pub(crate) fn grain(x: usize, y: usize, seed: u32) -> i32 {
    (hash(x as u32, y as u32, seed) % 5) as i32 - 2
}

/// Adds one row of smooth noise of -strength to strength, whose knots are `size` pixels apart.
fn add_shade(row: &mut [i32], y: usize, size: usize, strength: i32, seed: u32) {
    let (top, down) = (y / size, smooth(y % size, size));
    let knot = |column: usize| {
        let value = |line: usize| (hash(column as u32, line as u32, seed) & 0xff) as i32 - 128;
        value(top) + (value(top + 1) - value(top)) * down / 256
    };
    let mut left = knot(0);
    for (column, part) in row.chunks_mut(size).enumerate() {
        let right = knot(column + 1);
        for (x, v) in part.iter_mut().enumerate() {
            *v += (left + (right - left) * smooth(x, size) / 256) * strength / 128;
        }
        left = right;
    }
}

/// 0 to 256 with flat ends: 3t² - 2t³.
fn smooth(at: usize, size: usize) -> i32 {
    let t = (at * 256 / size) as i32;
    t * t * (768 - 2 * t) / 65_536
}

pub(crate) fn hash(x: u32, y: u32, seed: u32) -> u32 {
    let mut h = x.wrapping_mul(0x8da6_b343) ^ y.wrapping_mul(0xd816_3841) ^ seed.wrapping_mul(0xcb1a_b31f);
    h = (h ^ h >> 15).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ h >> 12).wrapping_mul(0x297a_2d39);
    h ^ h >> 15
}
