//! The displays of a guest, and where each lies in the picture of all of them.
//!
//! A guest's desktop is one, its displays are windows onto it. Where they lie the guest decides: hypervisors that show parts
//! of one framebuffer tell which part. With others the displays lie as they were asked for, or else side by side. It holds no
//! pixels.

use lucarne_display::{MAX_PIXELS, Rect};
use lucarne_driver::{Frame, MAX_DISPLAYS, Origin};
use lucarne_rfb::server::Screen;

/// The largest side of the picture, pixels, so that sums of two stay within 16 bits.
const MAX_SIDE: u32 = 32_767;

/// What each display shows, and what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Displays {
    shown: [Option<Shown>; MAX_DISPLAYS],
    /// As a viewer asked for: the first is of the first display.
    wanted: Vec<Screen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    width: u32,
    height: u32,
    origin: Option<Origin>,
}

/// Where the displays lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of the whole picture, pixels.
    pub(crate) size: (u32, u32),
    /// The displays that are on, each with its place; never none.
    pub(crate) places: Vec<(usize, Rect)>,
    /// The same for viewers.
    pub(crate) screens: Vec<Screen>,
}

impl Layout {
    /// One display that is all of it, pixels.
    pub(crate) fn single(width: u16, height: u16) -> Self {
        let rect = Rect::new(0, 0, width, height);
        Self {
            size: (width.into(), height.into()),
            places: vec![(0, rect)],
            screens: vec![Screen { id: 0, rect, flags: 0 }],
        }
    }

    /// Where a display lies, if it is on and there is room for it.
    pub(crate) fn place(&self, display: usize) -> Option<Rect> {
        self.places.iter().find(|(number, _)| *number == display).map(|(_, rect)| *rect)
    }
}

impl Displays {
    /// A display shows this frame; says whether that may change the layout.
    pub(crate) fn show(&mut self, frame: &Frame<'_>) -> bool {
        let shown = Shown { width: frame.width, height: frame.height, origin: frame.origin };
        self.shown.get_mut(frame.display).is_some_and(|of| of.replace(shown) != Some(shown))
    }

    /// A display is off; says whether another is on, so that it is no part of the picture any more.
    pub(crate) fn hide(&mut self, display: usize) -> bool {
        let others = self.shown.iter().enumerate().any(|(n, shown)| n != display && shown.is_some());
        if let Some(shown) = self.shown.get_mut(display).filter(|_| others) {
            *shown = None;
        }
        others
    }

    /// A viewer has asked for these.
    pub(crate) fn want(&mut self, screens: Vec<Screen>) {
        self.wanted = screens;
    }

    /// Where the displays lie now; `None` as long as no display is on, or none of a possible size.
    pub(crate) fn layout(&self) -> Option<Layout> {
        let shown: Vec<(usize, Shown)> =
            self.shown.iter().enumerate().filter_map(|(n, shown)| Some((n, (*shown)?))).collect();
        let places = match shown[..] {
            [_] => None,
            _ => by_framebuffer(&shown).or_else(|| self.as_wanted(&shown)),
        };
        let places = places.unwrap_or_else(|| side_by_side(&shown));
        let size = extent(&places)?;
        let mut screens: Vec<Screen> = Vec::with_capacity(places.len());
        for (display, rect) in &places {
            let asked = self.wanted.get(*display).map(|screen| (screen.id, screen.flags));
            let (mut id, flags) = asked.unwrap_or((*display as u32, 0));
            // Viewers tell screens apart by their ids.
            while screens.iter().any(|other| other.id == id) {
                id = id.wrapping_add(1);
            }
            screens.push(Screen { id, rect: *rect, flags });
        }
        Some(Layout { size, places, screens })
    }

    fn as_wanted(&self, shown: &[(usize, Shown)]) -> Option<Vec<(usize, Rect)>> {
        let at = |(display, shown): &(usize, Shown)| {
            let asked = self.wanted.get(*display)?.rect;
            Some((*display, rect((asked.x.into(), asked.y.into()), *shown)?))
        };
        shown.iter().map(at).collect::<Option<Vec<_>>>().filter(|places| possible(places))
    }
}

/// Parts of one framebuffer lie as they lie in it.
fn by_framebuffer(shown: &[(usize, Shown)]) -> Option<Vec<(usize, Rect)>> {
    let buffer = shown.first()?.1.origin?.buffer;
    let at = |(display, shown): &(usize, Shown)| {
        let origin = shown.origin.filter(|origin| origin.buffer == buffer)?;
        Some((*display, rect((origin.x, origin.y), *shown)?))
    };
    shown.iter().map(at).collect::<Option<Vec<_>>>().filter(|places| possible(places))
}

/// From left to right, as many as there is room for.
fn side_by_side(shown: &[(usize, Shown)]) -> Vec<(usize, Rect)> {
    let mut places = Vec::with_capacity(shown.len());
    let mut left = 0;
    for (display, shown) in shown {
        let Some(rect) = rect((left, 0), *shown) else { continue };
        places.push((*display, rect));
        if possible(&places) {
            left += shown.width;
        } else {
            places.pop();
        }
    }
    places
}

fn rect((x, y): (u32, u32), shown: Shown) -> Option<Rect> {
    let (right, bottom) = (x.checked_add(shown.width)?, y.checked_add(shown.height)?);
    let fits = shown.width > 0 && shown.height > 0 && right <= MAX_SIDE && bottom <= MAX_SIDE;
    fits.then(|| Rect::from_edges(x, y, right, bottom))
}

/// The width and height that hold all of these.
fn extent(places: &[(usize, Rect)]) -> Option<(u32, u32)> {
    let right = places.iter().map(|(_, rect)| rect.right()).max()?;
    let bottom = places.iter().map(|(_, rect)| rect.bottom()).max()?;
    Some((right, bottom))
}

fn possible(places: &[(usize, Rect)]) -> bool {
    extent(places).is_some_and(|(w, h)| u64::from(w) * u64::from(h) <= MAX_PIXELS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame without pixels: only its place matters here.
    fn frame(display: usize, width: u32, height: u32, origin: Option<Origin>) -> Frame<'static> {
        static NOTHING: Vec<u8> = Vec::new();
        Frame { display, origin, width, height, stride: 0, pixels: &NOTHING }
    }

    fn part(buffer: u64, x: u32, y: u32) -> Option<Origin> {
        Some(Origin { buffer, x, y })
    }

    fn places(displays: &Displays) -> Vec<(usize, Rect)> {
        displays.layout().unwrap().places
    }

    fn screen(id: u32, x: u16, y: u16) -> Screen {
        Screen { id, rect: Rect::new(x, y, 640, 480), flags: 0 }
    }

    #[test]
    fn a_single_display_is_all_of_the_picture_wherever_its_framebuffer_has_it() {
        let mut displays = Displays::default();
        assert_eq!(displays.layout(), None);
        assert!(displays.show(&frame(0, 800, 600, part(1, 100, 50))));
        assert!(!displays.show(&frame(0, 800, 600, part(1, 100, 50))));
        assert_eq!(displays.layout(), Some(Layout::single(800, 600)));
    }

    #[test]
    fn parts_of_one_framebuffer_lie_as_they_lie_in_it() {
        let mut displays = Displays::default();
        displays.want(vec![screen(7, 0, 0), screen(9, 640, 0)]);
        displays.show(&frame(0, 640, 480, part(1, 800, 0)));
        displays.show(&frame(1, 800, 600, part(1, 0, 0)));
        let layout = displays.layout().unwrap();
        assert_eq!(layout.places, [(0, Rect::new(800, 0, 640, 480)), (1, Rect::new(0, 0, 800, 600))]);
        assert_eq!(layout.size, (1440, 600));
        assert_eq!(layout.screens.iter().map(|s| s.id).collect::<Vec<_>>(), [7, 9]);
    }

    #[test]
    fn displays_with_framebuffers_of_their_own_lie_as_they_were_asked_for_or_else_side_by_side() {
        let mut displays = Displays::default();
        displays.show(&frame(0, 640, 480, part(1, 0, 0)));
        displays.show(&frame(1, 640, 480, part(2, 0, 0)));
        assert_eq!(places(&displays)[1], (1, Rect::new(640, 0, 640, 480)));
        displays.want(vec![screen(0, 0, 0), screen(1, 0, 480)]);
        assert_eq!(places(&displays)[1], (1, Rect::new(0, 480, 640, 480)));
        // More than was asked for.
        displays.show(&frame(2, 640, 480, None));
        assert_eq!(places(&displays)[2], (2, Rect::new(1280, 0, 640, 480)));
    }

    #[test]
    fn a_display_that_goes_off_leaves_the_picture_unless_it_is_the_last() {
        let mut displays = Displays::default();
        displays.show(&frame(0, 640, 480, None));
        displays.show(&frame(1, 640, 480, None));
        assert!(displays.hide(0));
        assert_eq!(places(&displays), [(1, Rect::new(0, 0, 640, 480))]);
        assert!(!displays.hide(1));
        assert_eq!(places(&displays).len(), 1);
    }

    #[test]
    fn what_a_guest_claims_beyond_any_picture_does_not_count() {
        let mut displays = Displays::default();
        displays.show(&frame(0, 8192, 8192, part(1, u32::MAX, 0)));
        displays.show(&frame(1, 8192, 8192, part(1, 0, 32_000)));
        displays.show(&frame(9, 10, 10, None));
        // Both together would be more pixels than a screen may have.
        assert_eq!(places(&displays), [(0, Rect::new(0, 0, 8192, 8192))]);
        displays.show(&frame(0, 40_000, 10, None));
        assert_eq!(places(&displays), [(1, Rect::new(0, 0, 8192, 8192))]);
        displays.hide(1);
        assert_eq!(displays.layout(), None);
    }

    #[test]
    fn screens_have_ids_of_their_own() {
        let mut displays = Displays::default();
        displays.want(vec![screen(1, 0, 0)]);
        displays.show(&frame(0, 640, 480, None));
        displays.show(&frame(1, 640, 480, None));
        let ids: Vec<u32> = displays.layout().unwrap().screens.iter().map(|s| s.id).collect();
        assert_eq!(ids, [1, 2]);
    }
}
