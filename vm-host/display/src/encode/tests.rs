//! Encoders judged by the protocol crate's own decoder: what a viewer sees is what the screen shows, in its format.

#[path = "formats_tests.rs"]
mod formats;

use super::*;
use crate::viewer::ViewerDamage;
use formats::formats;
use lucarne_rfb::client::{Codecs, JpegDecoder, ServerEvent, Viewer};
use lucarne_rfb::pixel::PixelReader;
use proptest::prelude::*;
use std::sync::Arc;

/// A screen, and one viewer at the other end of a wire.
struct Pair {
    screen: Screen,
    damage: ViewerDamage,
    encoder: Encoder,
    viewer: Viewer,
    format: PixelFormat,
    events: Vec<ServerEvent>,
    budget: usize,
    films: Vec<Rect>,
    /// What was sent last, and whether it was films alone.
    sent: Vec<u8>,
    only_films: bool,
}

fn jpeg_decoder() -> JpegDecoder {
    Box::new(|data, w, h| {
        let image = turbojpeg::decompress(data, turbojpeg::PixelFormat::BGRX).ok()?;
        ((image.width, image.height) == (w.into(), h.into())).then_some(())?;
        let pixel = |p: &[u8]| u32::from_le_bytes([p[0], p[1], p[2], 0]);
        Some(image.pixels.chunks(image.pitch).flat_map(|row| row.chunks_exact(4).map(pixel)).collect())
    })
}

fn codecs() -> Codecs {
    Codecs {
        jpeg: Some(jpeg_decoder()),
        #[cfg(feature = "h264")]
        h264: Some(crate::video::testing::h264_decoder()),
        ..Codecs::default()
    }
}

impl Pair {
    fn new(width: u16, height: u16, format: PixelFormat, encodings: &[i32]) -> Self {
        let screen = Screen::new(width.into(), height.into()).unwrap();
        let mut viewer = Viewer::with_codecs(codecs());
        let mut out = Vec::new();
        server::write::server_init(width, height, &PixelFormat::BGRX, "test", &mut out);
        viewer.feed(&out).unwrap();
        assert!(matches!(viewer.next_event(), Ok(Some(ServerEvent::Init(_)))));
        viewer.set_format(format);
        let encodings = ClientEncodings::new(encodings.to_vec());
        Self {
            damage: ViewerDamage::new(&screen),
            encoder: Encoder::new(format, encodings, width, height),
            screen,
            viewer,
            format,
            events: Vec::new(),
            budget: UNLIMITED,
            films: Vec::new(),
            sent: Vec::new(),
            only_films: false,
        }
    }

    /// The guest draws.
    fn draw(&mut self, picture: &[u32]) {
        let bytes: Vec<u8> = picture.iter().flat_map(|p| p.to_le_bytes()).collect();
        let (all, stride) = (self.screen.rect(), usize::from(self.screen.width()) * 4);
        let change = self.screen.update(&bytes, stride, all).unwrap();
        self.damage.apply(&change);
    }

    fn receive(&mut self, out: &[u8]) {
        self.viewer.feed(out).unwrap();
        while let Some(event) = self.viewer.next_event().unwrap() {
            self.events.push(event);
        }
    }

    /// What is new goes to the viewer; gives the bytes it took.
    fn send(&mut self, extras: &Extras<'_>) -> usize {
        let mut out = Vec::new();
        let changes = self.damage.take().with_films(self.films.clone());
        let done = self.encoder.encode_update(&self.screen, changes, extras, self.budget, &mut out).unwrap();
        assert_eq!(done.rects == 0, out.is_empty());
        assert!(self.budget < UNLIMITED || done.rest.is_empty());
        self.damage.put_back(done.rest);
        self.only_films = done.only_films;
        self.receive(&out);
        self.sent = out;
        self.sent.len()
    }

    fn show(&mut self, picture: &[u32]) -> usize {
        self.draw(picture);
        self.send(&Extras::default())
    }

    /// The largest difference of a channel between what is seen and what should be.
    fn error(&self) -> u32 {
        let (to, from) = (PixelWriter::new(self.format), PixelReader::new(self.format));
        assert_eq!(self.viewer.framebuffer().rect(), self.screen.rect());
        let pairs = self.viewer.framebuffer().pixels().iter().zip(self.screen.pixels());
        let differ = |(seen, &want): (&u32, &u32)| {
            let want = from.rgb(to.value(want)).to_be_bytes();
            let channels = seen.to_be_bytes().into_iter().zip(want);
            channels.map(|(a, b)| u32::from(a.abs_diff(b))).max().unwrap_or(0)
        };
        pairs.map(differ).max().unwrap_or(0)
    }

    fn drawn(&self, encoding: i32) -> usize {
        let is =
            |e: &&ServerEvent| matches!(e, ServerEvent::Drawn { encoding: used, .. } if *used == encoding);
        self.events.iter().filter(is).count()
    }
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Solid(u32),
    Text,
    Icons,
    Gradient,
    Photo,
    Noise,
}

fn pixel(content: Content, x: usize, y: usize) -> u32 {
    let byte = |v: usize| (v & 0xff) as u32;
    match content {
        Content::Solid(c) => c & 0x00ff_ffff,
        Content::Text => {
            let ink = pixel(Content::Noise, x / 2, y / 3).is_multiple_of(6);
            if ink { 0x0010_1010 } else { 0x00ff_ffff }
        }
        Content::Icons => byte(x / 9 * 37) << 16 | byte(y / 7 * 11) << 8 | byte(x / 5),
        Content::Gradient => byte(y * 2) << 8 | byte(255 - y),
        // Smooth, with a change from pixel to pixel in some channel, as a camera's picture has it.
        Content::Photo => byte(x * 2 + y % 3) << 16 | byte(y * 2 + x % 2) << 8 | byte(x + y),
        Content::Noise => (x as u32 ^ (y as u32) << 12).wrapping_mul(2_654_435_761) >> 8,
    }
}

fn paint(picture: &mut [u32], width: usize, rect: Rect, content: Content) {
    for (y, row) in picture.chunks_mut(width).enumerate().skip(rect.y.into()).take(rect.h.into()) {
        for (x, p) in row.iter_mut().enumerate().skip(rect.x.into()).take(rect.w.into()) {
            *p = pixel(content, x, y);
        }
    }
}

fn scroll_up(picture: &mut [u32], width: usize, by: usize) {
    picture.copy_within(by * width.., 0);
    let rows = picture.len() / width;
    for (i, p) in picture[(rows - by) * width..].iter_mut().enumerate() {
        *p = pixel(Content::Text, i % width + 5, i / width + rows);
    }
}

const W: u16 = 210;
const H: u16 = 170;

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        any::<u32>().prop_map(Content::Solid),
        prop::sample::select(vec![
            Content::Text,
            Content::Icons,
            Content::Gradient,
            Content::Photo,
            Content::Noise,
        ]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Paint(Rect, Content),
    Scroll(usize),
    Send,
    Compression(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let rect = (0..W, 0..H, 1..W, 1..H).prop_map(|(x, y, w, h)| Rect { x, y, w, h });
    prop_oneof![
        4 => (rect, content()).prop_map(|(r, c)| Step::Paint(r, c)),
        2 => (1usize..60).prop_map(Step::Scroll),
        2 => Just(Step::Send),
        1 => (-256..-246i32).prop_map(Step::Compression),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn without_jpeg_a_viewer_sees_exactly_the_screen(
        budget in prop_oneof![3 => Just(UNLIMITED), 1 => 500usize..5000],
        format in prop::sample::select(formats()),
        encoding in prop::sample::select(vec![enc::TIGHT, enc::ZRLE, enc::HEXTILE, enc::ZLIB, enc::RAW]),
        copies in any::<bool>(),
        steps in prop::collection::vec(step(), 1..9),
    ) {
        let mut list = vec![encoding];
        list.extend(copies.then_some(enc::COPY_RECT));
        let mut pair = Pair::new(W, H, format, &list);
        pair.budget = budget;
        let mut picture = vec![0u32; usize::from(W) * usize::from(H)];
        for step in steps.into_iter().chain([Step::Send]) {
            match step {
                Step::Paint(rect, content) => paint(&mut picture, W.into(), rect, content),
                Step::Scroll(by) => scroll_up(&mut picture, W.into(), by),
                Step::Compression(level) => {
                    let list = [&list[..], &[level]].concat();
                    pair.encoder.set_encodings(ClientEncodings::new(list));
                }
                Step::Send => {
                    pair.show(&picture);
                    while !pair.damage.is_empty() {
                        pair.send(&Extras::default());
                    }
                    prop_assert_eq!(pair.error(), 0);
                    prop_assert!(pair.encoder.lossy_region().is_empty());
                }
            }
            pair.draw(&picture);
        }
    }

    #[test]
    fn with_jpeg_a_repair_makes_it_exact(
        format in prop::sample::select(vec![PixelFormat::BGRX, PixelFormat::RGB565, PixelFormat::BGRX.with_big_endian(true)]),
        steps in prop::collection::vec(step(), 1..6),
    ) {
        let mut pair = Pair::new(W, H, format, &[enc::TIGHT, enc::COPY_RECT, enc::QUALITY_0 + 9]);
        let mut picture = vec![0u32; usize::from(W) * usize::from(H)];
        paint(&mut picture, W.into(), Rect::new(30, 30, 150, 120), Content::Photo);
        for step in steps {
            match step {
                Step::Paint(rect, content) => paint(&mut picture, W.into(), rect, content),
                Step::Scroll(by) => scroll_up(&mut picture, W.into(), by),
                Step::Send | Step::Compression(_) => {}
            }
            pair.show(&picture);
        }
        let mut rounds = 0;
        while !pair.encoder.lossy_region().is_empty() {
            let mut out = Vec::new();
            prop_assert!(pair.encoder.repair(&pair.screen, &[], 4000, &mut out).unwrap() > 0);
            pair.receive(&out);
            rounds += 1;
            prop_assert!(rounds < 100, "the repair does not end");
        }
        prop_assert_eq!(pair.error(), 0);
    }
}

fn photo() -> Vec<u32> {
    let mut picture = vec![0; usize::from(W) * usize::from(H)];
    paint(&mut picture, W.into(), Rect::new(0, 0, W, H), Content::Photo);
    picture
}

#[test]
fn a_photograph_is_a_jpeg_where_the_viewer_allows_it_and_close_to_the_screen() {
    let mut lossless = Pair::new(W, H, PixelFormat::BGRX, &[enc::TIGHT]);
    let exact = lossless.show(&photo());
    assert_eq!(lossless.error(), 0);
    let mut lossy = Pair::new(W, H, PixelFormat::BGRX, &[enc::TIGHT, enc::QUALITY_0 + 8]);
    let small = lossy.show(&photo());
    assert!(lossy.error() > 0, "it was sent without loss");
    // Sharp edges in this picture ring; on average it must be close.
    let (seen, want) = (lossy.viewer.framebuffer().pixels(), lossy.screen.pixels());
    let off = |(a, b): (&u32, &u32)| -> u64 {
        a.to_be_bytes().iter().zip(b.to_be_bytes()).map(|(a, b)| u64::from(a.abs_diff(b))).sum()
    };
    let mean = seen.iter().zip(want).map(off).sum::<u64>() as f64 / (seen.len() * 3) as f64;
    assert!(mean < 6.0, "off by {mean} on average");
    assert!(small < exact, "{small} bytes against {exact}");
    assert!(!lossy.encoder.lossy_region().is_empty());
}

#[test]
fn text_is_never_a_jpeg() {
    let mut pair = Pair::new(W, H, PixelFormat::BGRX, &[enc::TIGHT, enc::QUALITY_0]);
    let mut picture = vec![0; usize::from(W) * usize::from(H)];
    paint(&mut picture, W.into(), Rect::new(0, 0, W, H), Content::Text);
    pair.show(&picture);
    assert_eq!(pair.error(), 0);
    assert!(pair.encoder.lossy_region().is_empty());
}

#[test]
fn eight_bits_per_pixel_get_no_jpeg() {
    let mut pair = Pair::new(W, H, PixelFormat::BGR233, &[enc::TIGHT, enc::QUALITY_0 + 5]);
    pair.show(&photo());
    assert_eq!(pair.error(), 0);
}

#[test]
fn a_scroll_costs_a_copy_and_the_new_rows() {
    let mut picture = vec![0; usize::from(W) * usize::from(H)];
    paint(&mut picture, W.into(), Rect::new(0, 0, W, H), Content::Icons);
    paint(&mut picture, W.into(), Rect::new(10, 10, 150, 150), Content::Text);
    let mut pair = Pair::new(W, H, PixelFormat::BGRX, &[enc::TIGHT, enc::COPY_RECT]);
    let first = pair.show(&picture);
    scroll_up(&mut picture, W.into(), 16);
    let second = pair.show(&picture);
    assert_eq!((pair.drawn(enc::COPY_RECT), pair.error()), (1, 0));
    assert!(second * 2 < first, "{second} bytes after {first}");
}

#[test]
fn nothing_new_is_not_sent() {
    let mut pair = Pair::new(W, H, PixelFormat::BGRX, &[enc::TIGHT]);
    let picture = photo();
    assert!(pair.show(&picture) > 0);
    assert_eq!(pair.show(&picture), 0);
}

#[test]
fn a_screen_wider_than_a_tight_rectangle_is_sent_in_parts() {
    for encoding in [enc::TIGHT, enc::ZRLE] {
        let (w, h) = (4500u16, 70u16);
        let mut pair = Pair::new(w, h, PixelFormat::BGRX, &[encoding, enc::QUALITY_0 + 9]);
        let mut picture = vec![0x0033_6699; usize::from(w) * usize::from(h)];
        paint(&mut picture, w.into(), Rect::new(100, 3, 2600, 60), Content::Text);
        pair.show(&picture);
        assert_eq!(pair.error(), 0);
    }
}

fn resized_pair(encodings: &[i32]) -> Pair {
    let mut pair = Pair::new(W, H, PixelFormat::BGRX, encodings);
    pair.show(&photo());
    pair.events.clear();
    pair.screen.resize(100, 240).unwrap();
    pair.damage.reset(&pair.screen);
    pair.draw(&vec![0x0012_3456; 24_000]);
    pair
}

#[test]
fn a_new_size_is_told_before_its_pixels() {
    for told in [enc::DESKTOP_SIZE, enc::EXTENDED_DESKTOP_SIZE] {
        let mut pair = resized_pair(&[enc::TIGHT, told]);
        pair.send(&Extras::default());
        assert_eq!(pair.error(), 0);
        assert!(matches!(pair.events[0], ServerEvent::Resized { width: 100, height: 240, .. }));
        assert_eq!(pair.events[1], ServerEvent::Updated { rects: 1 });
    }
}

#[test]
fn a_viewer_that_cannot_resize_gets_what_fits() {
    let mut pair = resized_pair(&[enc::TIGHT, enc::COPY_RECT]);
    pair.send(&Extras::default());
    let framebuffer = pair.viewer.framebuffer();
    assert_eq!(framebuffer.rect(), Rect::new(0, 0, W, H));
    assert_eq!(
        (framebuffer.pixel(99, H - 1), framebuffer.pixel(0, 0)),
        (Some(0x0012_3456), Some(0x0012_3456))
    );
}

#[test]
fn an_answer_to_set_desktop_size_keeps_its_reason_and_layout() {
    let mut pair = Pair::new(W, H, PixelFormat::BGRX, &[enc::TIGHT, enc::EXTENDED_DESKTOP_SIZE]);
    let layout = vec![server::Screen { id: 9, rect: Rect::new(0, 0, W, H), flags: 3 }];
    let resize = Resize { reason: ResizeReason::ThisClient, status: ResizeStatus::Prohibited };
    pair.send(&Extras { resize: Some(resize), screens: &layout, ..Extras::default() });
    let told = ServerEvent::Resized { width: W, height: H, reason: 1, status: 1, screens: layout };
    assert_eq!(pair.events[0], told);
}

#[test]
fn extras_reach_only_viewers_that_understand_them() {
    let shape = CursorShape::from_bgra(2, 1, 1, 0, &[1, 2, 3, 255, 4, 5, 6, 0]).unwrap();
    let extras = Extras {
        cursor: Some(&shape),
        name: Some("desk"),
        leds: Some(4),
        absolute_pointer: Some(true),
        acknowledge_input: true,
        acknowledge_audio: true,
        resize: None,
        screens: &[],
    };
    let events_of = |list: &[i32]| {
        let mut pair = Pair::new(8, 8, PixelFormat::BGRX, list);
        pair.show(&[5; 64]);
        pair.events.clear();
        pair.send(&extras);
        pair.events
    };
    assert_eq!(events_of(&[enc::TIGHT]), []);
    let all = events_of(&[
        enc::TIGHT,
        enc::CURSOR,
        enc::CURSOR_WITH_ALPHA,
        enc::DESKTOP_NAME,
        enc::QEMU_LED_STATE,
        enc::QEMU_POINTER_MOTION,
        enc::QEMU_EXTENDED_KEY,
        enc::EXTENDED_MOUSE_BUTTONS,
    ]);
    for expected in [
        ServerEvent::Name("desk".into()),
        ServerEvent::Leds(4),
        ServerEvent::PointerMotion { absolute: true },
        ServerEvent::Acknowledged(enc::QEMU_EXTENDED_KEY),
        ServerEvent::Acknowledged(enc::EXTENDED_MOUSE_BUTTONS),
        ServerEvent::Updated { rects: 6 },
    ] {
        assert!(all.contains(&expected), "{expected:?} is not in {all:?}");
    }
    let cursor = |events: &[ServerEvent]| {
        events.iter().find_map(|e| match e {
            ServerEvent::Cursor(c) => Some(c.clone()),
            _ => None,
        })
    };
    let alpha = cursor(&all).expect("a pointer");
    assert_eq!((alpha.rect, alpha.pixels), (Rect::new(1, 0, 2, 1), vec![0xff03_0201, 0x0006_0504]));
    let vmware = cursor(&events_of(&[enc::TIGHT, enc::CURSOR, enc::VMWARE_CURSOR])).expect("a pointer");
    assert_eq!(vmware.pixels, [0xff03_0201, 0]);
    let mask = cursor(&events_of(&[enc::TIGHT, enc::CURSOR])).expect("a pointer");
    assert_eq!(mask.pixels, [0xff03_0201, 0]);
}

#[test]
fn a_half_transparent_pointer_looks_the_same_in_both_encodings_with_alpha() {
    let shape =
        CursorShape::from_bgra(2, 1, 0, 0, &[0x00, 0x20, 0x40, 0x80, 0x07, 0x07, 0x07, 0x07]).unwrap();
    for encoding in [enc::CURSOR_WITH_ALPHA, enc::VMWARE_CURSOR] {
        let mut pair = Pair::new(8, 8, PixelFormat::BGRX, &[encoding]);
        pair.send(&Extras { cursor: Some(&shape), ..Extras::default() });
        let seen = pair.events.iter().find_map(|e| match e {
            ServerEvent::Cursor(c) => Some(c.pixels.clone()),
            _ => None,
        });
        assert_eq!(seen, Some(vec![0x8040_2000, 0x0707_0707]), "{encoding}");
    }
}

#[test]
fn a_mixed_up_change_of_another_screen_is_sent_in_full() {
    let mut pair = Pair::new(W, H, PixelFormat::BGRX, &[enc::TIGHT, enc::DESKTOP_SIZE]);
    pair.draw(&photo());
    let foreign = ViewerDamage::new(&Screen::new(10, 10).unwrap()).take();
    let mut out = Vec::new();
    pair.encoder.encode_update(&pair.screen, foreign, &Extras::default(), UNLIMITED, &mut out).unwrap();
    pair.receive(&out);
    assert_eq!(pair.error(), 0);
}

#[test]
fn a_budget_is_kept_and_what_is_new_goes_before_what_waits() {
    let mut pair = Pair::new(W, H, PixelFormat::BGRX, &[enc::RAW]);
    let mut picture = vec![0u32; usize::from(W) * usize::from(H)];
    paint(&mut picture, W.into(), Rect::new(0, 0, W, H), Content::Noise);
    pair.budget = 1000;
    let piece = 64 * 64 * 4;
    let first = pair.show(&picture);
    assert!(first > piece && first < piece + 100, "{first} bytes");
    let spot = Rect::new(100, 160, 5, 5);
    paint(&mut picture, W.into(), spot, Content::Solid(0x00ab_cdef));
    let second = pair.show(&picture);
    assert!(second < 1000 + piece, "{second} bytes");
    assert_eq!(pair.viewer.framebuffer().pixel(102, 162), Some(0x00ab_cdef), "the spot came first");
    assert!(pair.error() > 0, "more than the budget was sent");
    let mut rounds = 0;
    while !pair.damage.is_empty() {
        pair.send(&Extras::default());
        rounds += 1;
        assert!(rounds < 20, "the backlog does not end");
    }
    assert_eq!(pair.error(), 0);
}

#[test]
fn a_viewer_that_shares_by_turns_sees_every_picture() {
    let share = Arc::new(Share::default());
    let mut show = Pair::new(200, 150, PixelFormat::BGRX, &[enc::TIGHT, enc::COPY_RECT]);
    for turn in 0..12u32 {
        show.encoder.set_share((turn % 3 != 0).then(|| share.clone()));
        let contents = [Content::Text, Content::Noise, Content::Icons, Content::Gradient];
        let mut picture = vec![turn; 200 * 150];
        let at = Rect::new(turn as u16 * 7, turn as u16 * 5, 100, 60);
        paint(&mut picture, 200, at, contents[turn as usize % contents.len()]);
        show.show(&picture);
        assert_eq!(show.error(), 0, "turn {turn}");
    }
}

#[test]
fn what_several_viewers_want_alike_is_encoded_once() {
    let share = Arc::new(Share::default());
    let lists = [&[enc::TIGHT][..], &[enc::TIGHT], &[enc::TIGHT, enc::COMPRESSION_0 + 9]];
    let mut shows = lists.map(|list| {
        let mut show = Pair::new(200, 150, PixelFormat::BGRX, list);
        show.encoder.set_share(Some(share.clone()));
        show
    });
    let mut picture = vec![0; 200 * 150];
    paint(&mut picture, 200, Rect::new(10, 10, 150, 100), Content::Text);
    let bytes = shows.each_mut().map(|show| show.show(&picture));
    assert!(shows.iter().all(|show| show.error() == 0));
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(share.kept(), 2, "one for each level");
}

#[cfg(feature = "h264")]
#[path = "film_tests.rs"]
mod film;
