//! Text like a program's source: words, indents and colours, the same for the same line number.

use crate::canvas::{CELL, Canvas};
use crate::photo::hash;

const WORDS: [&str; 32] = [
    "let", "frame", "fn", "width", "if", "damage", "else", "for", "in", "rows", "return", "pixel", "match",
    "cursor", "struct", "viewer", "impl", "screen", "pub", "update", "use", "region", "mut", "offset",
    "self", "stride", "while", "encode", "const", "tile", "Some", "count",
];
const SIGNS: [&str; 8] = [" ", " = ", "(", ") ", ", ", " + ", "; ", "::"];

/// Colours of the words, on white paper and on black.
const ON_WHITE: [u32; 5] = [0x001c_1c1c, 0x0000_5cc5, 0x00d7_3a49, 0x0022_863a, 0x006f_42c1];
const ON_BLACK: [u32; 5] = [0x00d0_d0d0, 0x0079_b8ff, 0x00f9_7583, 0x0085_e89d, 0x00b3_92f0];

/// Paper and ink of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paper {
    White,
    Black,
}

impl Paper {
    pub(crate) fn colour(self) -> u32 {
        match self {
            Self::White => 0x00ff_ffff,
            Self::Black => 0x0010_1418,
        }
    }

    pub(crate) fn ink(self, kind: u32) -> u32 {
        let inks = match self {
            Self::White => ON_WHITE,
            Self::Black => ON_BLACK,
        };
        inks[kind as usize % inks.len()]
    }
}

/// The words of a line of at most `columns` letters, each with its kind.
fn words(number: u32, columns: usize) -> Vec<(String, u32)> {
    let random = |i: u32| hash(i, number, 0x7e57);
    let indent = (random(0) % 6) as usize * 4;
    let mut line = vec![(" ".repeat(indent), 0)];
    let mut length = indent;
    // Every seventh line is blank, as in real text.
    let count = if random(1) % 7 == 0 { 0 } else { 3 + random(2) % 12 };
    for i in 0..count {
        let word = random(10 + i * 2) as usize % WORDS.len();
        let text = format!("{}{}", WORDS[word], SIGNS[random(11 + i * 2) as usize % SIGNS.len()]);
        length += text.len();
        if length > columns {
            break;
        }
        line.push((text, word as u32));
    }
    line
}

/// The letters of a line.
pub(crate) fn line(number: u32, columns: usize) -> String {
    words(number, columns).into_iter().map(|(word, _)| word).collect()
}

/// Draws a line within `columns` letters from `at`.
pub(crate) fn draw_line(canvas: &mut Canvas, at: (u16, u16), number: u32, columns: u16, paper: Paper) {
    let area = crate::canvas::Area::new(at.0, at.1, columns * CELL.0, CELL.1);
    canvas.fill(area, paper.colour());
    let mut x = at.0;
    for (word, kind) in words(number, columns.into()) {
        x += canvas.text((x, at.1), &word, paper.ink(kind), paper.colour()).w;
    }
}
