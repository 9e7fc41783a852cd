//! Films for viewers that take video: what they see, and when streams begin anew.

use super::*;
use crate::video::testing::{film as film_pixel, psnr};
use std::collections::BTreeSet;

const SIZE: (u16, u16) = (480, 320);
const FILM: Rect = Rect::new(70, 50, 260, 180);
const OTHER: Rect = Rect::new(340, 40, 128, 128);
const VIDEO: [i32; 5] = [enc::TIGHT, enc::COPY_RECT, enc::QUALITY_0 + 8, enc::OPEN_H264, enc::DESKTOP_SIZE];

/// A viewer before a page with a film.
struct Cinema {
    pair: Pair,
    picture: Vec<u32>,
    frame: u32,
}

impl Cinema {
    fn new(encodings: &[i32]) -> Self {
        Self::in_format(encodings, PixelFormat::BGRX)
    }

    fn in_format(encodings: &[i32], format: PixelFormat) -> Self {
        let mut picture = vec![0; usize::from(SIZE.0) * usize::from(SIZE.1)];
        paint(&mut picture, SIZE.0.into(), Rect::new(0, 0, SIZE.0, SIZE.1), Content::Text);
        let mut cinema = Self { pair: Pair::new(SIZE.0, SIZE.1, format, encodings), picture, frame: 0 };
        cinema.pair.show(&cinema.picture);
        cinema.pair.films = vec![FILM];
        cinema
    }

    /// The next frame in each of the rectangles.
    fn draw(&mut self, rects: &[Rect]) {
        self.frame += 1;
        for rect in rects {
            for (y, row) in self.picture.chunks_mut(self.pair.screen.width().into()).enumerate() {
                let inside = (u32::from(rect.y)..rect.bottom()).contains(&(y as u32));
                for x in (usize::from(rect.x)..rect.right() as usize).filter(|_| inside) {
                    row[x] = film_pixel(x, y, self.frame);
                }
            }
        }
    }

    /// Frames of the film, each in an update of its own; gives the bytes of the last.
    fn play(&mut self, frames: u32) -> usize {
        let mut bytes = 0;
        for _ in 0..frames {
            self.draw(&[FILM]);
            bytes = self.pair.show(&self.picture);
        }
        bytes
    }

    fn part(&self, rect: Rect) -> (Vec<u32>, Vec<u32>) {
        let seen = |x, y| self.pair.viewer.framebuffer().pixel(x, y).unwrap();
        let at = (rect.y..rect.y + rect.h).flat_map(|y| (rect.x..rect.x + rect.w).map(move |x| (x, y)));
        let width = usize::from(self.pair.screen.width());
        let wanted = |(x, y)| self.pair.screen.pixels()[usize::from(y) * width + usize::from(x)];
        (at.clone().map(|(x, y)| seen(x, y)).collect(), at.map(wanted).collect())
    }

    /// How like its source the film is, decibels.
    fn quality(&self, rect: Rect) -> f64 {
        let (seen, wanted) = self.part(rect);
        psnr(&seen, &wanted)
    }

    fn is_exact_outside(&self, rects: &[Rect]) -> bool {
        let mut around = vec![self.pair.screen.rect()];
        for rect in rects {
            around = around.iter().flat_map(|part| part.without(rect)).collect();
        }
        around.into_iter().all(|part| {
            let (seen, wanted) = self.part(part);
            seen == wanted
        })
    }

    /// Repairs until nothing is left to do; gives what was sent.
    fn repair(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        for _ in 0..100 {
            let mut out = Vec::new();
            let Pair { encoder, screen, films, .. } = &mut self.pair;
            if encoder.repair(screen, films, 40_000, &mut out).unwrap() == 0 {
                return sent;
            }
            self.pair.receive(&out);
            sent.extend(out);
        }
        panic!("the repair does not end");
    }

    /// The flags of the film's frame, if the last update began with one.
    fn flags(&self) -> Option<u32> {
        let word =
            |at: usize| self.pair.sent.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().unwrap()));
        (word(12) == Some(50)).then(|| word(20)).flatten()
    }

    fn frames(&self) -> usize {
        self.pair.drawn(enc::OPEN_H264)
    }
}

/// A rectangle without frames that resets all streams.
const RELEASE: [u8; 12] = [0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 2];

#[test]
fn a_film_is_one_rectangle_of_each_update_and_the_page_around_it_stays_exact() {
    let mut cinema = Cinema::new(&VIDEO);
    for n in 0..20 {
        cinema.pair.events.clear();
        cinema.play(1);
        let drawn = ServerEvent::Drawn { rect: FILM, encoding: enc::OPEN_H264 };
        assert_eq!(cinema.pair.events, [drawn, ServerEvent::Updated { rects: 1 }]);
        assert!(cinema.quality(FILM) > 33.0, "{:.1} dB in frame {n}", cinema.quality(FILM));
        assert!(cinema.is_exact_outside(&[FILM]));
    }
}

#[test]
fn it_is_told_whether_anything_but_films_was_sent() {
    let mut cinema = Cinema::new(&VIDEO);
    let mut told = Vec::new();
    for beside in [false, true, false] {
        if beside {
            paint(&mut cinema.picture, SIZE.0.into(), Rect::new(5, 5, 9, 9), Content::Solid(0x0012_3456));
        }
        cinema.play(1);
        told.push(cinema.pair.only_films);
    }
    cinema.pair.films.clear();
    cinema.play(1);
    told.push(cinema.pair.only_films);
    assert_eq!(told, [true, false, true, false]);
}

#[test]
fn a_film_costs_a_fraction_of_what_pictures_cost() {
    let mut pictures = Cinema::new(&VIDEO[..3]);
    let (_, jpeg) = (pictures.play(5), pictures.play(1));
    let mut video = Cinema::new(&VIDEO);
    let (_, h264) = (video.play(5), video.play(1));
    assert!(h264 * 2 < jpeg, "{h264} bytes of video, {jpeg} of pictures");
    assert!(video.quality(FILM) > pictures.quality(FILM) - 3.0);
}

#[test]
fn viewers_that_did_not_ask_for_video_or_for_loss_get_none() {
    let argb = PixelFormat::BGRX;
    for (list, format) in [
        (&VIDEO[..3], argb),
        (&[enc::TIGHT, enc::OPEN_H264], argb),
        (&VIDEO, PixelFormat::RGB565),
        (&VIDEO, PixelFormat::BGR233),
    ] {
        let mut cinema = Cinema::in_format(list, format);
        cinema.play(3);
        assert_eq!(cinema.frames(), 0, "{list:?}, {format:?}");
        cinema.pair.films.clear();
        cinema.repair();
        assert_eq!(cinema.pair.error(), 0, "{list:?}, {format:?}");
    }
}

#[test]
fn while_a_film_runs_it_is_not_repaired_and_when_it_is_over_it_becomes_exact() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.play(5);
    assert!(cinema.pair.error() > 0 && cinema.repair().is_empty());
    cinema.pair.films.clear();
    let sent = cinema.repair();
    assert_eq!(cinema.pair.error(), 0);
    assert!(cinema.pair.encoder.lossy_region().is_empty());
    assert_eq!(sent.windows(12).filter(|w| *w == RELEASE).count(), 1, "the viewer keeps its decoder");
}

#[test]
fn what_opens_over_a_film_is_a_part_of_it() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.play(5);
    let menu = Rect::new(200, 120, 200, 150);
    paint(&mut cinema.picture, SIZE.0.into(), menu, Content::Text);
    cinema.pair.show(&cinema.picture);
    assert!(cinema.is_exact_outside(&[FILM]));
    assert!(cinema.quality(FILM) > 20.0, "{:.1} dB", cinema.quality(FILM));
    cinema.pair.films.clear();
    cinema.repair();
    assert_eq!(cinema.pair.error(), 0);
}

#[test]
fn two_films_have_streams_of_their_own() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.pair.films = vec![FILM, OTHER];
    for _ in 0..10 {
        cinema.draw(&[FILM]);
        cinema.pair.show(&cinema.picture);
        cinema.draw(&[FILM, OTHER]);
        cinema.pair.show(&cinema.picture);
    }
    assert_eq!(cinema.frames(), 30);
    assert!(cinema.quality(FILM) > 33.0 && cinema.quality(OTHER) > 33.0);
    assert!(cinema.is_exact_outside(&[FILM, OTHER]));
}

#[test]
fn a_stream_begins_anew_when_the_viewer_asked_for_something_else_meanwhile() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.play(5);
    assert_eq!(cinema.flags(), Some(0));
    cinema.pair.encoder.set_encodings(ClientEncodings::new(vec![enc::TIGHT]));
    cinema.play(2);
    assert_eq!((cinema.frames(), cinema.flags()), (5, None));
    cinema.pair.encoder.set_encodings(ClientEncodings::new(VIDEO.to_vec()));
    cinema.play(1);
    assert_eq!(cinema.flags(), Some(2), "all streams are reset");
    cinema.play(5);
    assert_eq!((cinema.frames(), cinema.flags()), (11, Some(0)));
    assert!(cinema.quality(FILM) > 33.0);
}

#[test]
fn another_quality_goes_on_with_the_same_stream() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.play(10);
    let fine = cinema.quality(FILM);
    let coarse = [&[enc::QUALITY_0][..], &VIDEO].concat();
    cinema.pair.encoder.set_encodings(ClientEncodings::new(coarse));
    let after = cinema.play(1);
    cinema.play(20);
    assert!(cinema.quality(FILM) < fine - 3.0, "{:.1} after {fine:.1} dB", cinema.quality(FILM));
    assert!(after < 3000, "{after} bytes look like a beginning");
}

#[test]
fn a_resize_begins_all_streams_anew() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.play(3);
    let (w, h) = (400u16, 300u16);
    cinema.pair.screen.resize(w.into(), h.into()).unwrap();
    cinema.pair.damage.reset(&cinema.pair.screen);
    cinema.picture = vec![0x0012_3456; usize::from(w) * usize::from(h)];
    cinema.play(3);
    assert_eq!(cinema.pair.viewer.framebuffer().rect(), Rect::new(0, 0, w, h));
    assert_eq!(cinema.frames(), 6);
    assert!(cinema.quality(FILM) > 30.0 && cinema.is_exact_outside(&[FILM]));
}

#[test]
fn a_film_that_is_not_on_the_screen_or_cannot_be_coded_is_sent_as_pictures() {
    for film in [Rect::new(400, 200, 128, 128), Rect::new(70, 50, 261, 180), Rect::new(70, 50, 0, 180)] {
        let mut cinema = Cinema::new(&VIDEO);
        cinema.pair.films = vec![film];
        cinema.play(2);
        assert_eq!(cinema.frames(), 0, "{film:?}");
        cinema.repair();
        assert_eq!(cinema.pair.error(), 0);
    }
}

#[test]
fn a_viewer_with_a_smaller_picture_than_the_screen_gets_no_video() {
    let mut cinema = Cinema::new(&VIDEO[..4]);
    cinema.pair.screen.resize(500, 330).unwrap();
    cinema.pair.damage.reset(&cinema.pair.screen);
    cinema.picture = vec![0x0012_3456; 500 * 330];
    cinema.play(2);
    assert_eq!(cinema.frames(), 0);
}

#[test]
fn of_many_films_after_each_other_viewers_hold_few_decoders_and_those_that_run_go_on() {
    let mut cinema = Cinema::new(&VIDEO);
    for n in 0..40 {
        let next = Rect::new(340 + n % 8 * 2, 30 + n / 8 * 2, 120, 130);
        cinema.pair.films = vec![FILM, next];
        for _ in 0..2 {
            cinema.draw(&[FILM, next]);
            cinema.pair.show(&cinema.picture);
        }
        assert!(cinema.quality(FILM) > 30.0 && cinema.quality(next) > 30.0, "film {n}");
    }
    let all = |e: &ServerEvent| match e {
        ServerEvent::Drawn { rect, encoding: enc::OPEN_H264 } => Some((rect.x, rect.y)),
        _ => None,
    };
    let places: BTreeSet<_> = cinema.pair.events.iter().filter_map(all).collect();
    assert_eq!((places.len(), cinema.frames()), (41, 160));
}

#[test]
fn a_frame_that_finds_no_room_goes_first_the_next_time() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.play(1);
    cinema.pair.budget = 200;
    let mut came = Vec::new();
    for n in 0..4 {
        let width = usize::from(SIZE.0);
        for (i, p) in cinema.picture[..width * 40].iter_mut().enumerate() {
            *p = pixel(Content::Noise, i + n, i / width);
        }
        let before = cinema.frames();
        cinema.play(1);
        came.push(cinema.frames() > before);
    }
    assert_eq!(came, [false, true, false, true]);
    for _ in 0..100 {
        cinema.pair.send(&Extras::default());
    }
    assert!(cinema.pair.damage.is_empty(), "the backlog does not end");
    cinema.pair.films.clear();
    cinema.repair();
    assert_eq!(cinema.pair.error(), 0);
}

#[test]
fn without_video_a_film_comes_in_whole_pictures_and_is_not_repaired_while_it_runs() {
    let mut cinema = Cinema::new(&VIDEO[..3]);
    cinema.play(1);
    cinema.pair.budget = 200;
    for n in 0..6 {
        cinema.play(1);
        assert!(cinema.quality(FILM) > 30.0, "{:.1} dB in frame {n}", cinema.quality(FILM));
    }
    assert!(cinema.repair().is_empty());
    cinema.pair.films.clear();
    cinema.repair();
    assert_eq!(cinema.pair.error(), 0);
}

#[test]
fn a_film_in_pictures_leaves_room_for_what_waits_beside_it() {
    let mut cinema = Cinema::new(&VIDEO[..3]);
    cinema.play(1);
    cinema.pair.budget = 200;
    let page = Rect::new(0, 256, SIZE.0, 64);
    paint(&mut cinema.picture, SIZE.0.into(), page, Content::Photo);
    for _ in 0..60 {
        cinema.play(1);
    }
    // Exact or not, nothing of the page is what it was before.
    let (seen, wanted) = cinema.part(page);
    assert!(psnr(&seen, &wanted) > 30.0, "{:.1} dB", psnr(&seen, &wanted));
    assert!(cinema.quality(FILM) > 30.0, "{:.1} dB", cinema.quality(FILM));
}

#[test]
fn a_film_in_pictures_of_which_a_part_moves_is_that_part() {
    let mut cinema = Cinema::new(&VIDEO[..3]);
    let all = cinema.play(5);
    cinema.draw(&[Rect::new(80, 60, 64, 64)]);
    let part = cinema.pair.show(&cinema.picture);
    assert!(part * 4 < all, "{part} bytes of {all}");
}

#[test]
fn a_film_over_a_slow_link_is_sent_coarser_in_frames_of_less_than_a_sixteenth_second() {
    let mut cinema = Cinema::new(&VIDEO[..3]);
    let fine = cinema.play(5);
    let rate = 16.0 * 0.7 * fine as f64;
    cinema.pair.encoder.set_rate(Some(rate));
    let coarse = cinema.play(5);
    assert!((coarse as f64) < rate / 16.0 * 1.1, "{coarse} bytes of {fine}");
}

#[test]
fn copies_out_of_and_into_a_film_leave_its_stream_right_and_are_repaired() {
    let mut cinema = Cinema::new(&VIDEO);
    cinema.play(5);
    // A copy from the film to its side, and one from the page into it.
    for (src, to) in [(Rect::new(80, 60, 100, 100), (350, 180)), (Rect::new(0, 240, 120, 70), (100, 90))] {
        let copy = Copy { src, dst_x: to.0, dst_y: to.1 };
        let width = usize::from(SIZE.0);
        let before = cinema.picture.clone();
        for y in 0..usize::from(src.h) {
            let from = (usize::from(src.y) + y) * width + usize::from(src.x);
            let dst = (usize::from(to.1) + y) * width + usize::from(to.0);
            cinema.picture[dst..dst + usize::from(src.w)]
                .copy_from_slice(&before[from..from + usize::from(src.w)]);
        }
        let bytes: Vec<u8> = cinema.picture.iter().flat_map(|p| p.to_le_bytes()).collect();
        let all = cinema.pair.screen.rect();
        cinema.pair.screen.update(&bytes, width * 4, all).unwrap();
        let region = Region::new(SIZE.0, SIZE.1);
        cinema.pair.damage.apply(&crate::screen::Change { copy: Some(copy), region });
        cinema.pair.send(&Extras::default());
        cinema.play(2);
        assert!(cinema.quality(FILM) > 30.0);
    }
    assert_eq!(cinema.pair.drawn(enc::COPY_RECT), 2);
    cinema.pair.films.clear();
    cinema.repair();
    assert_eq!(cinema.pair.error(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_a_client_lists_and_however_often_it_sees_the_screen(
        lists in prop::collection::vec(prop::collection::vec(prop_oneof![
            3 => prop::sample::select(VIDEO.to_vec()),
            1 => prop::sample::select(vec![enc::ZRLE, enc::HEXTILE, enc::RAW, enc::ZLIB, enc::QUALITY_0, enc::FINE_QUALITY_0]),
            1 => any::<i32>(),
        ], 0..12), 1..5),
    ) {
        let mut cinema = Cinema::new(&VIDEO);
        for list in lists {
            cinema.play(1);
            cinema.pair.encoder.set_encodings(ClientEncodings::new(list));
            cinema.play(2);
        }
        cinema.pair.films.clear();
        cinema.repair();
        prop_assert_eq!(cinema.pair.error(), 0);
    }
}
