//! Divides a damaged rectangle into pieces of one kind of content each.
//!
//! Tiles of the screen's 64×64 grid are looked at one by one; neighbours of a kind are joined along the row, and solid and
//! photographic ones also down the columns, within what a Tight rectangle may hold. Knows nothing of wire formats.

use super::palette::{MAX_COLOURS, Palette, scan};
use crate::region::TILE;
use crate::screen::Screen;
use lucarne_rfb::Rect;

/// The widest Tight rectangle (rfbproto, "Tight Encoding").
pub(crate) const MAX_WIDTH: u16 = 2048;

/// The largest Tight rectangle, pixels: some clients decode into a buffer of this size.
pub(crate) const MAX_AREA: u64 = 65_536;

/// Solid neighbours become a rectangle of their own from this many tiles on. Fewer are cheaper within an indexed
/// rectangle than as a division of it into three.
const MIN_SOLID_TILES: usize = 3;

/// A photograph smaller than this is sent without loss: a JPEG's headers would be larger.
const MIN_PHOTO_AREA: u64 = 1024;

/// Busy tiles with more colours than this count as photographs even where an index would hold them all.
const MAX_BUSY_COLOURS: usize = 96;

/// What a piece shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One colour.
    Solid(u32),
    /// Two to 256 colours, all listed.
    Indexed(Vec<u32>),
    /// More colours, of a drawing or text.
    Full,
    /// A drawing or text of any number of colours, for an encoding that looks at tiles itself.
    Drawing,
    /// A photograph.
    Photo,
}

/// A part of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) rect: Rect,
    pub(crate) kind: Kind,
}

/// Divides `rect`, which lies on the screen, into pieces that cover each of its pixels once. With `drawings`, everything
/// between solid and photographic ones counts as [`Kind::Drawing`].
pub(crate) fn plan(screen: &Screen, rect: Rect, drawings: bool, palette: &mut Palette) -> Vec<Piece> {
    let mut done: Vec<Piece> = Vec::new();
    // Pieces that end at the row of tiles above, and may go on.
    let mut open: Vec<Piece> = Vec::new();
    let mut y = u32::from(rect.y);
    while y < rect.bottom() {
        // A line of text is not cut in two where it happens to cross the grid.
        let next = if rect.h <= TILE { rect.bottom() } else { (y / u32::from(TILE) + 1) * u32::from(TILE) };
        let bottom = next.min(rect.bottom());
        let band = Rect::from_edges(rect.x.into(), y, rect.right(), bottom);
        let mut grown = Vec::new();
        for piece in band_pieces(screen, band, drawings, palette) {
            match open.iter().position(|above| goes_on(above, &piece)) {
                Some(i) => {
                    let mut above = open.swap_remove(i);
                    above.rect.h += piece.rect.h;
                    grown.push(above);
                }
                None => grown.push(piece),
            }
        }
        done.append(&mut open);
        open = grown;
        y = bottom;
    }
    done.append(&mut open);
    for piece in &mut done {
        if piece.kind == Kind::Photo && piece.rect.area() < MIN_PHOTO_AREA {
            piece.kind = if drawings { Kind::Drawing } else { Kind::Full };
        }
    }
    let is_large = |piece: &mut Piece| piece.rect.area() > MAX_AREA && piece.kind == Kind::Photo;
    let large: Vec<Piece> = done.extract_if(.., is_large).collect();
    done.extend(large.iter().flat_map(|piece| bands(piece.rect)));
    done
}

/// A photograph that is too tall, in as few bands as hold it: each has tables of its own.
fn bands(rect: Rect) -> impl Iterator<Item = Piece> {
    let (w, h) = (u64::from(rect.w.max(1)), u64::from(rect.h));
    // With halved colours a block is of 16 rows.
    let most = (MAX_AREA / w / 16 * 16).max(16);
    let height = h.div_ceil(h.div_ceil(most).max(1)).next_multiple_of(16).min(most) as u16;
    (0..rect.h).step_by(height.into()).map(move |y| {
        let rect = Rect { y: rect.y + y, h: height.min(rect.h - y), ..rect };
        Piece { rect, kind: Kind::Photo }
    })
}

fn goes_on(above: &Piece, piece: &Piece) -> bool {
    let same_kind = match (&above.kind, &piece.kind) {
        (Kind::Solid(a), Kind::Solid(b)) => a == b,
        (Kind::Photo, Kind::Photo) => true,
        (Kind::Drawing, Kind::Drawing) => above.rect.area() + piece.rect.area() <= MAX_AREA,
        _ => false,
    };
    same_kind
        && above.rect.x == piece.rect.x
        && above.rect.w == piece.rect.w
        && above.rect.bottom() == u32::from(piece.rect.y)
}

/// Classifies the tiles of one row and joins neighbours.
fn band_pieces(screen: &Screen, band: Rect, drawings: bool, palette: &mut Palette) -> Vec<Piece> {
    let mut tiles = Vec::with_capacity(usize::from(band.w / TILE) + 2);
    let mut x = u32::from(band.x);
    while x < band.right() {
        let right = ((x / u32::from(TILE) + 1) * u32::from(TILE)).min(band.right());
        let rect = Rect::from_edges(x, band.y.into(), right, band.bottom());
        let kind = match classify(screen, rect, palette) {
            Kind::Indexed(_) | Kind::Full if drawings => Kind::Drawing,
            kind => kind,
        };
        tiles.push(Piece { rect, kind });
        x = right;
    }
    let stands_alone = solid_runs(&tiles);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut last_alone = false;
    for (tile, alone) in tiles.into_iter().zip(stands_alone) {
        let joined = match pieces.last_mut() {
            Some(last) if alone == last_alone && fits(last, &tile) => join(last, &tile, palette),
            _ => false,
        };
        if !joined {
            pieces.push(tile);
        }
        last_alone = alone;
    }
    pieces
}

fn fits(last: &Piece, tile: &Piece) -> bool {
    let width = u32::from(last.rect.w) + u32::from(tile.rect.w);
    let solid = matches!((&last.kind, &tile.kind), (Kind::Solid(a), Kind::Solid(b)) if a == b);
    width <= MAX_WIDTH.into() && (solid || last.rect.area() + tile.rect.area() <= MAX_AREA)
}

/// Which tiles belong to solid runs that are long enough to stand alone.
fn solid_runs(tiles: &[Piece]) -> Vec<bool> {
    let mut alone = Vec::with_capacity(tiles.len());
    for run in tiles.chunk_by(|a, b| matches!(a.kind, Kind::Solid(_)) && a.kind == b.kind) {
        // A run that is all there is stands alone however short.
        let long = run.len() >= MIN_SOLID_TILES || run.len() == tiles.len();
        let is_solid = matches!(run[0].kind, Kind::Solid(_));
        alone.extend(std::iter::repeat_n(is_solid && long, run.len()));
    }
    alone
}

/// Joins `tile` to `last` where the result is of one kind; says whether it did.
fn join(last: &mut Piece, tile: &Piece, palette: &mut Palette) -> bool {
    let colours = |kind: &Kind| match kind {
        Kind::Solid(c) => Some(vec![*c]),
        Kind::Indexed(list) => Some(list.clone()),
        Kind::Full | Kind::Photo | Kind::Drawing => None,
    };
    let kind = match (&last.kind, &tile.kind) {
        (a, b) if a == b => a.clone(),
        // Few solid tiles between others are cheaper within them.
        (Kind::Drawing, Kind::Solid(_)) | (Kind::Solid(_), Kind::Drawing) => Kind::Drawing,
        (a, b) => {
            let (Some(a), Some(b)) = (colours(a), colours(b)) else { return false };
            palette.clear();
            if !palette.merge(&a) || !palette.merge(&b) {
                return false;
            }
            Kind::Indexed(palette.colours().to_vec())
        }
    };
    last.rect.w += tile.rect.w;
    last.kind = kind;
    true
}

/// It shows a photograph, or what is as hard to send; `rect` lies on the screen and is no larger than a tile.
pub(crate) fn has_many_colours(screen: &Screen, rect: Rect, palette: &mut Palette) -> bool {
    matches!(classify(screen, rect, palette), Kind::Full | Kind::Photo)
}

fn classify(screen: &Screen, rect: Rect, palette: &mut Palette) -> Kind {
    palette.clear();
    let seen = scan((rect.y..rect.y + rect.h).map(|y| screen.row(rect, y)), palette);
    let colours = palette.colours();
    debug_assert!(colours.len() <= MAX_COLOURS);
    match (seen.overflow, seen.is_busy()) {
        (true, true) => Kind::Photo,
        (true, false) => Kind::Full,
        (false, true) if colours.len() > MAX_BUSY_COLOURS && rect.area() >= MIN_PHOTO_AREA => Kind::Photo,
        (false, _) if colours.len() == 1 => Kind::Solid(colours[0]),
        (false, _) => Kind::Indexed(colours.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn screen_of(w: u16, h: u16, pixel: impl Fn(u16, u16) -> u32) -> Screen {
        let mut screen = Screen::new(w.into(), h.into()).unwrap();
        let bytes: Vec<u8> = (0..h)
            .flat_map(|y| (0..w).map(move |x| (x, y)))
            .flat_map(|(x, y)| pixel(x, y).to_le_bytes())
            .collect();
        let all = screen.rect();
        screen.update(&bytes, usize::from(w) * 4, all).unwrap();
        screen
    }

    fn noise(x: u16, y: u16) -> u32 {
        (u32::from(x) << 16 | u32::from(y)).wrapping_mul(2_654_435_761) >> 8
    }

    fn text(x: u16, y: u16) -> u32 {
        if (x / 3 + y / 5).is_multiple_of(4) { 0x11_11_11 } else { 0xee_ee_ee }
    }

    /// Background, a window of text, a photograph.
    fn desktop(x: u16, y: u16) -> u32 {
        match (x, y) {
            (100..400, 100..300) => text(x, y),
            (512..900, 64..320) => noise(x, y),
            _ => 0x33_66_99,
        }
    }

    #[test]
    fn a_desktop_is_divided_by_content() {
        let screen = screen_of(1024, 512, desktop);
        let pieces = plan(&screen, screen.rect(), false, &mut Palette::new());
        let at = |x: u16, y: u16| {
            let hit = pieces.iter().find(|p| p.rect.contains(&Rect::new(x, y, 1, 1)));
            &hit.expect("covered").kind
        };
        assert_eq!(at(5, 5), &Kind::Solid(0x33_66_99));
        assert_eq!(at(700, 100), &Kind::Photo);
        assert!(matches!(at(200, 200), Kind::Indexed(c) if c.len() <= 3), "{:?}", at(200, 200));
        assert!(pieces.len() < 40, "{} pieces", pieces.len());
    }

    #[test]
    fn a_solid_screen_is_few_pieces_and_a_photograph_keeps_to_the_limits() {
        let solid = screen_of(4096, 200, |_, _| 5);
        assert_eq!(plan(&solid, solid.rect(), false, &mut Palette::new()).len(), 2);
        let photo = screen_of(2560, 300, noise);
        for p in plan(&photo, photo.rect(), false, &mut Palette::new()) {
            assert!(p.rect.w <= MAX_WIDTH && p.rect.area() <= MAX_AREA, "{:?}", p.rect);
            assert_eq!(p.kind, Kind::Photo);
        }
    }

    #[test]
    fn a_small_photograph_is_not_worth_a_jpeg() {
        let screen = screen_of(64, 64, noise);
        let pieces = plan(&screen, Rect::new(0, 0, 30, 30), false, &mut Palette::new());
        assert_eq!(pieces, [Piece { rect: Rect::new(0, 0, 30, 30), kind: Kind::Full }]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn pieces_cover_each_pixel_once_and_tell_the_truth(
            x in 0u16..500, y in 0u16..200, w in 1u16..524, h in 1u16..200,
        ) {
            let screen = screen_of(1024, 400, desktop);
            let rect = Rect { x, y, w, h };
            let mut count = vec![0u8; 1024 * 400];
            for piece in plan(&screen, rect, false, &mut Palette::new()) {
                prop_assert!(rect.contains(&piece.rect));
                for y in piece.rect.y..piece.rect.y + piece.rect.h {
                    let row = screen.row(piece.rect, y);
                    for (x, p) in row.iter().enumerate() {
                        count[usize::from(y) * 1024 + usize::from(piece.rect.x) + x] += 1;
                        match &piece.kind {
                            Kind::Solid(c) => prop_assert_eq!(p, c),
                            Kind::Indexed(list) => prop_assert!(list.contains(p)),
                            Kind::Full | Kind::Photo | Kind::Drawing => {}
                        }
                    }
                }
            }
            let total: u64 = count.iter().map(|&n| u64::from(n)).sum();
            prop_assert!(count.iter().all(|&n| n <= 1) && total == rect.area());
        }
    }
}
