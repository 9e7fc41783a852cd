//! What is a film and what is none, on frames drawn as desktops draw them, at times that are given.

use super::*;

const W: u16 = 800;
const H: u16 = 600;

/// A screen whose frames come at given times.
struct Desk {
    screen: Screen,
    picture: Vec<u32>,
    detector: FilmDetector,
    now: Duration,
    frame: u32,
    /// Moves are not found.
    blind: bool,
}

fn noise(x: u16, y: u16, frame: u32) -> u32 {
    let mut value = u32::from(x) ^ u32::from(y) << 10 ^ frame << 20;
    for _ in 0..3 {
        value = (value ^ value >> 15).wrapping_mul(0x2c1b_3c6d);
    }
    value & 0x00ff_ffff
}

impl Desk {
    fn new() -> Self {
        let (w, h) = (usize::from(W), usize::from(H));
        // White with marks that tell every place from every other, as a page has them.
        let page = |at: usize| {
            if noise(0, (at / w) as u16, (at % w / 7) as u32).is_multiple_of(9) { 0 } else { 0x00ff_ffff }
        };
        let mut desk = Self {
            screen: Screen::new(W.into(), H.into()).unwrap(),
            picture: (0..w * h).map(page).collect(),
            detector: FilmDetector::new(W, H),
            now: Duration::from_secs(1000),
            frame: 0,
            blind: false,
        };
        desk.show();
        desk
    }

    fn fill(&mut self, rect: Rect, colour: impl Fn(u16, u16) -> u32) {
        for y in rect.y..rect.y + rect.h {
            for x in rect.x..rect.x + rect.w {
                self.picture[usize::from(y) * usize::from(W) + usize::from(x)] = colour(x, y);
            }
        }
    }

    /// The next picture of a film.
    fn film(&mut self, rect: Rect) {
        self.frame += 1;
        let frame = self.frame;
        self.fill(rect, |x, y| noise(x, y, frame));
    }

    fn scroll_up(&mut self, rect: Rect, by: u16) {
        let width = usize::from(W);
        for y in rect.y..rect.y + rect.h - by {
            let from = usize::from(y + by) * width + usize::from(rect.x);
            let to = usize::from(y) * width + usize::from(rect.x);
            self.picture.copy_within(from..from + usize::from(rect.w), to);
        }
        self.frame += 1;
        let frame = self.frame;
        let line =
            |x: u16, y: u16| if noise(x / 2, y, frame).is_multiple_of(5) { 0x0010_2030 } else { 0x00ff_ffff };
        self.fill(Rect { y: rect.y + rect.h - by, h: by, ..rect }, line);
    }

    /// The guest shows what it drew; gives whether it was found to be a move.
    fn show(&mut self) -> bool {
        let bytes: Vec<u8> = self.picture.iter().flat_map(|p| p.to_le_bytes()).collect();
        let all = self.screen.rect();
        let mut change = self.screen.update(&bytes, usize::from(W) * 4, all).unwrap();
        if let Some(copy) = change.copy.filter(|_| self.blind) {
            change.region.add(copy.dst());
            change.copy = None;
        }
        if !change.is_empty() {
            self.detector.note(&change, &self.screen, self.now);
        }
        change.copy.is_some()
    }

    /// Frames for a time, at a rate, each drawn by `draw`; gives the films after each.
    fn run(&mut self, time: Duration, rate: u32, mut draw: impl FnMut(&mut Self, u32)) -> Vec<Vec<Rect>> {
        let step = Duration::from_secs(1) / rate;
        let frames = (time.as_nanos() / step.as_nanos()) as u32;
        let mut seen = Vec::new();
        for frame in 0..frames {
            self.now += step;
            draw(self, frame);
            self.show();
            seen.push(self.films());
        }
        seen
    }

    fn films(&self) -> Vec<Rect> {
        self.detector.films(self.now)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

/// Off the grid of tiles, with odd edges.
const FILM: Rect = Rect::new(101, 77, 321, 181);
const FILM_EVEN: Rect = Rect::new(100, 76, 322, 182);

const SECOND: Duration = Duration::from_secs(1);

fn playing(rate: u32) -> Desk {
    let mut desk = Desk::new();
    desk.run(SECOND * 2, rate, |desk, _| desk.film(FILM));
    assert_eq!(desk.films(), [FILM_EVEN], "at {rate} Hz");
    desk
}

#[test]
fn a_film_is_found_within_one_and_a_half_seconds_and_keeps_its_rectangle() {
    for rate in [15, 24, 30, 60] {
        let mut desk = Desk::new();
        let seen = desk.run(SECOND * 8, rate, |desk, _| desk.film(FILM));
        let first = seen.iter().position(|films| !films.is_empty()).expect("a film");
        let after = first as u32 * 1000 / rate;
        assert!((700..1600).contains(&after), "after {after} ms at {rate} Hz");
        assert!(seen[first..].iter().all(|films| films == &[FILM_EVEN]), "at {rate} Hz");
    }
}

#[test]
fn what_changes_ten_times_a_second_is_no_film() {
    let mut desk = Desk::new();
    let seen = desk.run(SECOND * 6, 10, |desk, _| desk.film(FILM));
    assert!(seen.iter().all(Vec::is_empty));
}

#[test]
fn typed_text_is_no_film_however_fast() {
    for rate in [10, 30] {
        let mut desk = Desk::new();
        let seen = desk.run(SECOND * 10, rate, |desk, n| {
            let at = Rect::new(40 + (n % 80 * 8) as u16, 100 + (n / 80 * 16) as u16, 8, 16);
            desk.fill(at, |x, y| if noise(x, y, n).is_multiple_of(3) { 0 } else { 0x00ff_ffff });
        });
        assert!(seen.iter().all(Vec::is_empty), "{rate} keys a second");
    }
}

#[test]
fn text_that_is_redrawn_all_the_time_is_no_film() {
    let mut desk = Desk::new();
    let table = Rect::new(64, 64, 400, 300);
    let seen = desk.run(SECOND * 4, 30, |desk, n| {
        desk.fill(table, |x, y| if noise(x / 2, y / 3, n).is_multiple_of(4) { 0x0000_ff00 } else { 0 });
    });
    assert!(seen.iter().all(Vec::is_empty));
}

#[test]
fn a_scrolling_terminal_is_no_film() {
    let mut desk = Desk::new();
    let terminal = Rect::new(50, 60, 640, 480);
    let mut moves = 0;
    let seen = desk.run(SECOND * 4, 30, |desk, _| {
        desk.scroll_up(terminal, 16);
        moves += u32::from(desk.show());
    });
    assert!(moves > 100, "only {moves} of the scrolls came as copies");
    assert!(seen.iter().all(Vec::is_empty));
    desk.blind = true;
    let seen = desk.run(SECOND * 4, 30, |desk, _| desk.scroll_up(terminal, 16));
    assert!(seen.iter().all(Vec::is_empty), "when the moves are not found");
}

#[test]
fn a_photograph_that_is_dragged_is_no_film_even_where_the_move_is_not_found() {
    for (step, rate, blind) in [(3, 30, false), (3, 30, true), (7, 30, true), (5, 60, true)] {
        let mut desk = Desk { blind, ..Desk::new() };
        let mut last = Rect::new(20, 20, 300, 240);
        let seen = desk.run(SECOND * 3, rate, |desk, n| {
            let at = (n * step % 400) as u16;
            let next = Rect { x: 20 + at, y: 20 + at / 3, ..last };
            desk.fill(last, |x, y| noise(x, y, 3));
            desk.fill(next, |x, y| noise(x - next.x, y - next.y, 7));
            last = next;
        });
        assert!(seen.iter().all(Vec::is_empty), "by {step} at {rate} Hz, blind: {blind}; {:?}", seen.last());
    }
}

#[test]
fn a_pointer_that_crosses_a_film_does_not_change_its_rectangle() {
    let mut desk = playing(30);
    let mut under = Vec::new();
    let seen = desk.run(SECOND * 4, 30, |desk, n| {
        for (at, colour) in std::mem::take(&mut under) {
            desk.picture[at] = colour;
        }
        desk.film(FILM);
        let (left, top) = (20 + (n * 5) as usize, 40 + (n * 2) as usize);
        for at in (top..top + 20).flat_map(|y| (left..left + 12).map(move |x| y * usize::from(W) + x)) {
            under.push((at, desk.picture[at]));
            desk.picture[at] = 0;
        }
    });
    assert!(seen.iter().all(|films| films == &[FILM_EVEN]), "{seen:?}");
}

#[test]
fn what_is_typed_beside_a_film_stays_outside() {
    let mut desk = playing(30);
    let seen = desk.run(SECOND * 4, 30, |desk, n| {
        desk.film(FILM);
        if n.is_multiple_of(3) {
            let at = Rect::new(424 + (n / 3 % 30 * 8) as u16, 100, 8, 16);
            desk.fill(at, |x, y| if noise(x, y, n).is_multiple_of(3) { 0 } else { 0x00ff_ffff });
        }
    });
    assert!(seen.iter().all(|films| films == &[FILM_EVEN]));
}

#[test]
fn single_frames_without_change_and_short_hangs_do_not_end_a_film() {
    let mut desk = playing(30);
    let seen = desk.run(SECOND * 3, 30, |desk, n| {
        // A third of the frames are missing, and once a third of a second.
        if !n.is_multiple_of(3) && !(40..50).contains(&n) {
            desk.film(FILM);
        }
    });
    assert!(seen.iter().all(|films| films == &[FILM_EVEN]));
}

#[test]
fn a_film_ends_half_a_second_after_its_last_change_and_is_found_again_when_it_resumes() {
    let mut desk = playing(30);
    desk.wait(Duration::from_millis(499));
    assert_eq!(desk.films(), [FILM_EVEN]);
    desk.wait(Duration::from_millis(1));
    assert_eq!(desk.films(), []);
    desk.wait(SECOND * 5);
    let seen = desk.run(SECOND * 2, 30, |desk, _| desk.film(FILM));
    assert!(seen[..20].iter().all(Vec::is_empty), "nothing is known of what was before");
    assert_eq!(desk.films(), [FILM_EVEN]);
}

#[test]
fn films_that_are_apart_have_rectangles_of_their_own() {
    let mut desk = Desk::new();
    let places = [
        Rect::new(20, 20, 200, 150),
        Rect::new(400, 20, 240, 160),
        Rect::new(20, 350, 250, 170),
        Rect::new(400, 350, 300, 200),
    ];
    // The second begins later, and the third has another rate.
    desk.run(SECOND * 5, 30, |desk, n| {
        for (i, rect) in places.into_iter().enumerate() {
            if (i != 1 || n > 60) && (i != 2 || n.is_multiple_of(2)) {
                desk.film(rect);
            }
        }
    });
    let mut films = desk.films();
    films.sort_by_key(|r| (r.y, r.x));
    assert_eq!(films, places);
}

#[test]
fn there_are_never_more_films_than_the_limit() {
    let mut desk = Desk::new();
    let places: Vec<Rect> = (0..6).map(|i| Rect::new(10 + i % 3 * 270, 10 + i / 3 * 280, 170, 140)).collect();
    let seen = desk.run(SECOND * 3, 30, |desk, _| places.iter().for_each(|r| desk.film(*r)));
    assert_eq!(seen.iter().map(Vec::len).max(), Some(MAX_FILMS));
}

#[test]
fn a_film_that_gets_larger_has_a_new_rectangle_and_one_that_gets_smaller_too() {
    let mut desk = playing(30);
    let large = Rect::new(100, 76, 480, 270);
    desk.run(SECOND * 3, 30, |desk, _| desk.film(large));
    assert_eq!(desk.films(), [large]);
    let small = Rect::new(300, 200, 200, 140);
    desk.run(SECOND * 7, 30, |desk, _| desk.film(small));
    assert_eq!(desk.films(), [small]);
}

#[test]
fn a_film_that_is_scrolled_away_ends_at_once() {
    let mut desk = playing(30);
    desk.now += SECOND / 30;
    // While a film plays, moves are not searched for in every frame.
    let found = (0..10).any(|_| {
        desk.scroll_up(Rect::new(0, 0, W, H), 20);
        desk.show()
    });
    assert!(found, "the scroll was not found");
    assert_eq!(desk.films(), []);
}

#[test]
fn a_copy_elsewhere_leaves_a_film_alone() {
    let mut desk = playing(30);
    let terminal = Rect::new(450, 300, 300, 280);
    let seen = desk.run(SECOND * 2, 30, |desk, _| {
        desk.film(FILM);
        desk.show();
        desk.scroll_up(terminal, 16);
    });
    assert!(seen.iter().all(|films| films == &[FILM_EVEN]));
}

#[test]
fn another_size_of_the_screen_ends_all_films() {
    let mut desk = playing(30);
    let screen = Screen::new(320, 200).unwrap();
    let change = Change { copy: None, region: Region::full(320, 200) };
    desk.detector.note(&change, &screen, desk.now);
    assert_eq!(desk.films(), []);
}

#[test]
fn what_is_too_small_or_too_large_or_mostly_at_rest_is_no_film() {
    for rect in [Rect::new(100, 100, 60, 400), Rect::new(100, 100, 100, 100)] {
        let mut desk = Desk::new();
        desk.run(SECOND * 3, 30, |desk, _| desk.film(rect));
        assert_eq!(desk.films(), [], "{rect:?}");
    }
    let mut desk = Desk::new();
    desk.run(SECOND * 3, 30, |desk, _| {
        // A frame around a page.
        desk.film(Rect::new(0, 0, 700, 40));
        desk.film(Rect::new(0, 0, 40, 500));
    });
    assert_eq!(desk.films(), []);
}

#[test]
fn a_clock_that_goes_back_or_far_forward_does_no_harm() {
    let mut desk = playing(30);
    desk.now = Duration::ZERO;
    desk.run(SECOND, 30, |desk, _| desk.film(FILM));
    desk.now = Duration::MAX - SECOND * 20;
    desk.run(SECOND * 2, 30, |desk, _| desk.film(FILM));
    assert_eq!(desk.films(), [FILM_EVEN]);
}

#[test]
fn an_odd_screen_keeps_its_last_column_and_row_outside() {
    assert_eq!(even(Rect::new(1, 3, 100, 98), Rect::new(0, 0, 101, 101)), Rect::new(0, 2, 100, 98));
    assert_eq!(even(Rect::new(2, 4, 99, 97), Rect::new(0, 0, 101, 101)), Rect::new(2, 4, 98, 96));
}
