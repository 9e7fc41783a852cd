//! A workload and its frames, one after another.

use crate::canvas::{Area, Canvas};
use crate::drag::Drag;
use crate::photo::photo;
use crate::scroll::Scroll;
use crate::text::{self, Paper};
use crate::typing::Typing;
use crate::video::Video;
use crate::{barcode, canvas};

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A page to which a letter is added with each frame.
    Typing,
    /// A terminal of the screen's size that goes up by a line with each frame.
    Scroll,
    /// A window that is moved over a photograph.
    Drag,
    /// A film of 640×360 pixels in a page of text.
    Video,
    /// A page, a photograph and another page over the whole screen in turn.
    Repaint,
}

impl Workload {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Typing, Self::Scroll, Self::Drag, Self::Video, Self::Repaint];

    /// The number in the barcode: 1 to 15.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The workload with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|w| w.number() == number)
    }

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::Scroll => "scroll",
            Self::Drag => "drag",
            Self::Video => "video",
            Self::Repaint => "repaint",
        }
    }
}

#[derive(Debug)]
enum Content {
    Typing(Typing),
    Scroll(Scroll),
    Drag(Drag),
    Video(Video),
    Repaint([Canvas; 3]),
}

/// A workload at one of its frames.
#[derive(Debug)]
pub struct Scene {
    workload: Workload,
    canvas: Canvas,
    content: Content,
    frame: u32,
}

impl Scene {
    /// Frame 0 on a canvas of this size, at least 800×600.
    ///
    /// # Panics
    /// The canvas is smaller.
    #[must_use]
    pub fn new(workload: Workload, width: u16, height: u16) -> Self {
        assert!(width >= 800 && height >= 600, "{width}×{height} pixels are too few");
        let mut canvas = Canvas::new(width, height);
        let content = match workload {
            Workload::Typing => Content::Typing(Typing::new(&mut canvas)),
            Workload::Scroll => Content::Scroll(Scroll::new(&mut canvas)),
            Workload::Drag => Content::Drag(Drag::new(&mut canvas)),
            Workload::Video => Content::Video(Video::new(&mut canvas)),
            Workload::Repaint => {
                let pages = [page(&canvas, 0), photo(width, height, 3), page(&canvas, 500)];
                canvas = pages[0].clone();
                Content::Repaint(pages)
            }
        };
        for area in barcode::areas(workload, height) {
            barcode::draw(&mut canvas, workload, 0, area);
        }
        Self { workload, canvas, content, frame: 0 }
    }

    /// Which workload.
    #[must_use]
    pub fn workload(&self) -> Workload {
        self.workload
    }

    /// The picture.
    #[must_use]
    pub fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    /// The number of the frame that it shows.
    #[must_use]
    pub fn frame(&self) -> u32 {
        self.frame
    }

    /// Draws the next frame and gives what a program would have drawn anew, the barcodes first and last. Not all of it
    /// differs from what was there.
    pub fn step(&mut self) -> Vec<Area> {
        self.frame += 1;
        let canvas = &mut self.canvas;
        let mut areas = match &mut self.content {
            Content::Typing(typing) => typing.step(canvas),
            Content::Scroll(scroll) => scroll.step(canvas),
            Content::Drag(drag) => drag.step(canvas),
            Content::Video(video) => video.step(canvas),
            Content::Repaint(pages) => {
                let page = &pages[self.frame as usize % pages.len()];
                canvas.copy(page, (0, 0), canvas.area());
                vec![canvas.area()]
            }
        };
        let [upper, lower] = barcode::areas(self.workload, canvas.height());
        for area in [upper, lower] {
            barcode::draw(canvas, self.workload, self.frame, area);
        }
        areas.insert(0, upper);
        areas.push(lower);
        areas
    }
}

/// A page of text of the canvas's size, from a line on.
fn page(size: &Canvas, line: u32) -> Canvas {
    let mut page = Canvas::new(size.width(), size.height());
    page.fill(page.area(), Paper::White.colour());
    let columns = (size.width() - 32) / canvas::CELL.0;
    for n in 0..(size.height() - 48) / canvas::CELL.1 {
        text::draw_line(&mut page, (16, 16 + n * canvas::CELL.1), line + u32::from(n), columns, Paper::White);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_scenes_show_the_same_and_nothing_changes_outside_the_areas() {
        for workload in Workload::ALL {
            let mut scenes = [Scene::new(workload, 900, 620), Scene::new(workload, 900, 620)];
            let mut seen = scenes[0].canvas().clone();
            for _ in 0..60 {
                let before = seen.clone();
                let areas = scenes[0].step();
                scenes[1].step();
                for area in areas {
                    seen.copy(scenes[0].canvas(), (area.x, area.y), area);
                }
                assert!(seen.pixels() == scenes[0].canvas().pixels(), "{}", workload.name());
                assert!(scenes[0].canvas().pixels() == scenes[1].canvas().pixels(), "{}", workload.name());
                let body = |c: &Canvas| c.pixels()[900 * 8..900 * 590].to_vec();
                assert!(body(&before) != body(&seen), "{}: a frame without news", workload.name());
            }
        }
    }

    #[test]
    fn a_scroll_moves_the_page_up_by_a_line() {
        let mut scene = Scene::new(Workload::Scroll, 900, 620);
        let before = scene.canvas().clone();
        scene.step();
        let rows = |c: &Canvas, y: u16| c.row(Area::new(8, y, 800, 1), 0).to_vec();
        assert!((16..500).all(|y| rows(scene.canvas(), y) == rows(&before, y + canvas::CELL.1)));
    }

    #[test]
    fn numbers_and_workloads_belong_together() {
        for workload in Workload::ALL {
            assert_eq!(Workload::from_number(workload.number()), Some(workload));
        }
        assert_eq!(Workload::from_number(0), None);
    }
}
