//! The viewer against our own writers, literal rectangles, arbitrary chunking and soup.

use super::*;
use crate::server::write::{self as server, H264Reset, ResizeReason, ResizeStatus, Update};
use crate::wire::Put;
use proptest::prelude::*;

type Outcome = (Vec<ServerEvent>, Option<ViewerError>, Framebuffer);

fn play<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut viewer, mut events) = (Viewer::with_codecs(codecs()), Vec::new());
    for chunk in chunks {
        viewer.feed(chunk).unwrap();
        loop {
            match viewer.next_event() {
                Ok(Some(e)) => events.push(e),
                Ok(None) => break,
                Err(e) => return (events, Some(e), viewer.framebuffer),
            }
        }
    }
    (events, None, viewer.framebuffer)
}

/// A picture of these tests is one grey value for all pixels, which is its last byte; without bytes it is broken.
fn codecs() -> Codecs {
    let grey = |data: &[u8], w: u16, h: u16| {
        let grey = u32::from(*data.last()?) * 0x01_01_01;
        Some(vec![grey; usize::from(w) * usize::from(h)])
    };
    Codecs {
        jpeg: Some(Box::new(grey)),
        png: Some(Box::new(grey)),
        h264: Some(Box::new(move |f| grey(f.data, f.rect.w, f.rect.h))),
    }
}

fn hello(format: &PixelFormat) -> Vec<u8> {
    let mut out = Vec::new();
    server::server_init(20, 10, format, "désk", &mut out);
    out
}

/// One of everything that a server may send.
fn everything() -> Vec<u8> {
    let mut out = hello(&PixelFormat::BGRX);
    server::bell(&mut out);
    server::cut_text("né", &mut out);
    server::clipboard(&Clipboard::Notify { text: true }, &mut out);
    server::fence(3, b"ping", &mut out);
    server::end_of_continuous_updates(&mut out);
    server::xvp(1, &mut out);
    [Audio::Begin, Audio::Data(vec![1, 2, 3, 4]), Audio::End].iter().for_each(|a| server::audio(a, &mut out));
    let mut update = Update::new(&mut out);
    let raw = update.rect(Rect::new(0, 0, 2, 2), enc::RAW);
    [1u32, 2, 3, 4].iter().for_each(|p| raw.put_bytes(&p.to_le_bytes()));
    update.copy_rect(Rect::new(1, 0, 2, 2), 0, 0);
    update.rect(Rect::new(0, 5, 20, 5), enc::TIGHT).put_bytes(&[0x80, 1, 2, 3]);
    update.rect(Rect::new(4, 0, 3, 3), enc::TIGHT).put_bytes(&[0x90, 1, 7]);
    update.rect(Rect::new(10, 0, 3, 1), enc::TIGHT).put_bytes(&[0x40, 1, 1, 9, 9, 9, 8, 8, 8, 0b0100_0000]);
    update.jpeg(Rect::new(0, 9, 1, 1), &[0xff, 0xd8, 0xff, 0xda, 0, 2, 0x55, 0xff, 0xd9]);
    assert!(update.tight_png(Rect::new(1, 9, 1, 1), &[0x66; 200]));
    update.h264(Rect::new(2, 9, 1, 1), H264Reset::Context, &[0, 0, 1, 0x77]);
    update.h264(Rect::new(3, 9, 1, 1), H264Reset::All, &[]);
    update.vmware_cursor(Rect::new(0, 0, 1, 1), &[0xff44_5566]);
    update.led_state(2);
    update.pointer_motion(true);
    update.acknowledge(enc::QEMU_EXTENDED_KEY);
    update.acknowledge(enc::QEMU_AUDIO);
    update.desktop_name("new");
    update.cursor_with_alpha(Rect::new(0, 0, 1, 1), &[0x8011_2233]);
    let screen = Screen { id: 7, rect: Rect::new(0, 0, 20, 10), flags: 1 };
    update.extended_desktop_size(ResizeReason::ThisClient, ResizeStatus::Ok, 20, 10, &[screen]);
    update.finish();
    out
}

#[test]
fn everything_that_a_server_writes_is_understood() {
    let (events, error, fb) = play([&everything()[..]]);
    assert_eq!(error, None);
    let init = ServerInit { width: 20, height: 10, format: PixelFormat::BGRX, name: "désk".into() };
    assert_eq!(events[0], ServerEvent::Init(init));
    assert_eq!(
        events[1..4],
        [
            ServerEvent::Bell,
            ServerEvent::CutText("né".into()),
            ServerEvent::Clipboard(Clipboard::Notify { text: true }),
        ]
    );
    assert_eq!(events.last(), Some(&ServerEvent::Updated { rects: 17 }));
    assert!(
        events.contains(&ServerEvent::Cursor(Cursor {
            rect: Rect::new(0, 0, 1, 1),
            pixels: vec![0x8011_2233]
        }))
    );
    assert!(
        events.contains(&ServerEvent::Cursor(Cursor {
            rect: Rect::new(0, 0, 1, 1),
            pixels: vec![0xff44_5566]
        }))
    );
    assert_eq!(fb.pixels()[..4], [1, 1, 2, 0]);
    assert_eq!(fb.pixels()[180..184], [0xd9_d9_d9, 0x66_66_66, 0x77_77_77, 0x01_02_03]);
    assert_eq!((fb.pixel(19, 9), fb.pixel(4, 0)), (Some(0x01_02_03), Some(0x07_07_07)));
    assert_eq!(fb.pixels()[10..13], [0x09_09_09, 0x08_08_08, 0x09_09_09]);
}

#[test]
fn whatever_is_cut_short_waits_for_the_rest() {
    let bytes = everything();
    let (whole, _, _) = play([&bytes[..]]);
    for length in 0..bytes.len() {
        let (events, error, _) = play([&bytes[..length]]);
        assert_eq!(error, None, "{length} of {} bytes", bytes.len());
        assert_eq!(events, whole[..events.len()]);
        assert!(events.len() < whole.len());
    }
}

#[test]
fn an_update_of_unknown_count_ends_at_last_rect() {
    let mut bytes = hello(&PixelFormat::BGRX);
    bytes.extend([0, 0, 0xff, 0xff]);
    let mut rects = Vec::new();
    let mut update = Update::new(&mut rects);
    update.copy_rect(Rect::new(0, 0, 1, 1), 2, 2);
    update.last_rect();
    update.finish();
    bytes.extend(&rects[4..]);
    server::bell(&mut bytes);
    let (events, error, _) = play([&bytes[..]]);
    assert_eq!(error, None);
    assert_eq!(events[2..], [ServerEvent::Updated { rects: 1 }, ServerEvent::Bell]);
}

#[test]
fn rectangles_outside_and_data_against_the_rules_are_errors() {
    let with = |rect: Rect, encoding, data: &[u8]| {
        let mut bytes = hello(&PixelFormat::BGRX);
        let mut update = Update::new(&mut bytes);
        update.rect(rect, encoding).put_bytes(data);
        update.finish();
        play([&bytes[..]]).1
    };
    let decode = |e| Some(ViewerError::Decode(e));
    let outside = Rect::new(19, 0, 2, 1);
    for encoding in [
        enc::RAW,
        enc::COPY_RECT,
        enc::HEXTILE,
        enc::ZLIB,
        enc::TIGHT,
        enc::TIGHT_PNG,
        enc::ZRLE,
        enc::JPEG,
        enc::OPEN_H264,
    ] {
        let data = [0; 40];
        assert_eq!(
            with(outside, encoding, &data),
            decode(DecodeError::Outside { rect: outside, width: 20, height: 10 }),
            "{encoding}"
        );
    }
    let ok = Rect::new(0, 0, 2, 1);
    assert_eq!(with(outside, 99, &[]), decode(DecodeError::Encoding(99)));
    assert!(matches!(with(ok, enc::TIGHT, &[0xb0]), Some(ViewerError::Decode(DecodeError::Rules(_)))));
    assert!(matches!(with(ok, enc::TIGHT, &[0xa0]), Some(ViewerError::Decode(DecodeError::Rules(_)))));
    assert!(matches!(with(ok, enc::TIGHT_PNG, &[0]), Some(ViewerError::Decode(DecodeError::Rules(_)))));
    assert_eq!(with(ok, enc::TIGHT_PNG, &[0xa0, 0]), decode(DecodeError::Png));
    let short = with(ok, enc::ZRLE, &[0, 0, 0, 1, 0x78]);
    assert!(matches!(short, Some(ViewerError::Decode(DecodeError::Rules(_)))), "{short:?}");
    assert!(matches!(with(ok, enc::ZRLE, &[0, 0, 0, 2, 9, 9]), Some(ViewerError::Decode(DecodeError::Zlib))));
    let huge = with(Rect::new(0, 0, 65_535, 65_535), enc::DESKTOP_SIZE, &[]);
    assert_eq!(huge, decode(DecodeError::Size { width: 65_535, height: 65_535 }));
}

#[test]
fn pictures_that_nobody_decodes_and_jpegs_of_few_colours_are_errors() {
    let bytes = |format: &PixelFormat, encoding, data: &[u8]| {
        let mut bytes = hello(format);
        let mut update = Update::new(&mut bytes);
        update.rect(Rect::new(0, 0, 1, 1), encoding).put_bytes(data);
        update.finish();
        bytes
    };
    for (encoding, data, error) in [
        (enc::TIGHT, &[0x90, 1, 5][..], DecodeError::Jpeg),
        (enc::TIGHT_PNG, &[0xa0, 1, 5], DecodeError::Png),
        (enc::JPEG, &[0xff, 0xd8, 0xff, 0xd9], DecodeError::Jpeg),
        (enc::OPEN_H264, &[0, 0, 0, 1, 0, 0, 0, 0, 5], DecodeError::H264),
    ] {
        let mut viewer = Viewer::new(None);
        viewer.feed(&bytes(&PixelFormat::BGRX, encoding, data)).unwrap();
        assert!(matches!(viewer.next_event(), Ok(Some(ServerEvent::Init(_)))));
        assert_eq!(viewer.next_event(), Err(ViewerError::Decode(error)), "{encoding}");
    }
    for encoding in [enc::TIGHT, enc::TIGHT_PNG] {
        let error = play([&bytes(&PixelFormat::BGR233, encoding, &[0x90, 1, 5])[..]]).1;
        assert_eq!(error, Some(ViewerError::Decode(DecodeError::Rules("a JPEG with 8 bits per pixel"))));
    }
}

#[test]
fn a_framebuffer_beyond_the_callers_limit_is_refused() {
    let mut bytes = hello(&PixelFormat::BGRX);
    let mut update = Update::new(&mut bytes);
    update.desktop_size(10, 20);
    update.desktop_size(201, 1);
    update.finish();
    let mut viewer = Viewer::new(None).limited_to(200);
    viewer.feed(&bytes).unwrap();
    assert!(matches!(viewer.next_event(), Ok(Some(ServerEvent::Init(_)))));
    assert!(matches!(viewer.next_event(), Ok(Some(ServerEvent::Resized { width: 10, height: 20, .. }))));
    let too_large = DecodeError::Size { width: 201, height: 1 };
    assert_eq!(viewer.next_event(), Err(ViewerError::Decode(too_large)));
}

#[test]
fn an_empty_rectangle_far_outside_is_nothing_in_any_encoding() {
    for encoding in [enc::RAW, enc::COPY_RECT, enc::HEXTILE] {
        for rect in [Rect::new(0, 65_535, 0, 65_535), Rect::new(65_535, 65_535, 65_535, 0)] {
            let mut bytes = hello(&PixelFormat::BGRX);
            let mut update = Update::new(&mut bytes);
            let out = update.rect(rect, encoding);
            if encoding == enc::COPY_RECT {
                out.put_u32(0);
            }
            update.finish();
            let (events, error, _) = play([&bytes[..]]);
            assert_eq!(error, None, "{encoding} {rect:?}");
            assert_eq!(events.last(), Some(&ServerEvent::Updated { rects: 1 }));
        }
    }
}

/// Anything that a server may say between updates, and how it is understood.
fn any_server_message() -> impl Strategy<Value = (Vec<u8>, ServerEvent)> {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let extended = move |message: Clipboard| {
        (written(&|out| server::clipboard(&message, out)), ServerEvent::Clipboard(message))
    };
    let sound =
        move |message: Audio| (written(&|out| server::audio(&message, out)), ServerEvent::Audio(message));
    prop_oneof![
        Just((written(&|out| server::bell(out)), ServerEvent::Bell)),
        Just((written(&|out| server::end_of_continuous_updates(out)), ServerEvent::EndOfContinuousUpdates)),
        "[a-zé\n]{0,50}"
            .prop_map(move |t| (written(&|out| server::cut_text(&t, out)), ServerEvent::CutText(t))),
        "[a-z€\n]{0,50}".prop_map(move |t| extended(Clipboard::Provide(t))),
        any::<Option<u32>>().prop_map(move |text| extended(Clipboard::Caps { text })),
        (any::<u32>(), prop::collection::vec(any::<u8>(), 0..=64)).prop_map(move |(flags, payload)| {
            (written(&|out| server::fence(flags, &payload, out)), ServerEvent::Fence { flags, payload })
        }),
        any::<u8>().prop_map(move |code| {
            (written(&|out| server::xvp(code, out)), ServerEvent::Xvp { version: 1, code })
        }),
        prop::sample::select(vec![Audio::Begin, Audio::End]).prop_map(sound),
        prop::collection::vec(any::<u8>(), 1..100).prop_map(move |data| sound(Audio::Data(data))),
    ]
}

proptest! {
    #[test]
    fn what_a_server_says_is_what_the_client_understands(
        messages in prop::collection::vec(any_server_message(), 0..9),
        size in 1usize..50,
    ) {
        let bytes = [hello(&PixelFormat::BGRX)].into_iter().chain(messages.iter().map(|m| m.0.clone()));
        let bytes: Vec<u8> = bytes.flatten().collect();
        let expected: Vec<_> = messages.into_iter().map(|m| m.1).collect();
        for chunks in [bytes.chunks(bytes.len()), bytes.chunks(size)] {
            let (events, error, _) = play(chunks);
            prop_assert_eq!((&events[1..], error), (&expected[..], None));
        }
    }

    #[test]
    fn chunking_changes_nothing(size in 1usize..60) {
        let bytes = everything();
        prop_assert!(play(bytes.chunks(size)) == play([&bytes[..]]));
    }

    #[test]
    fn byte_soup_gives_the_same_in_any_chunking(
        encoding in prop::sample::select(vec![
            enc::RAW, enc::TIGHT, enc::TIGHT_PNG, enc::ZRLE, enc::HEXTILE, enc::ZLIB, enc::JPEG, enc::OPEN_H264,
            enc::CURSOR, enc::CURSOR_WITH_ALPHA, enc::VMWARE_CURSOR, enc::EXTENDED_DESKTOP_SIZE, enc::COPY_RECT,
        ]),
        soup in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..300),
        format in prop::sample::select(vec![PixelFormat::BGRX, PixelFormat::RGB565, PixelFormat::BGR233]),
        (w, h) in (0u16..20, 0u16..10),
        size in 1usize..40,
    ) {
        let mut bytes = hello(&format);
        bytes.extend([0, 0, 0, 9]);
        bytes.put_rect(Rect::new(0, 0, w, h));
        bytes.put_i32(encoding);
        bytes.extend(soup);
        let (whole, cut) = (play([&bytes[..]]), play(bytes.chunks(size)));
        prop_assert_eq!((whole.0, whole.1), (cut.0, cut.1));
    }

    #[test]
    fn messages_of_soup_never_panic(soup in prop::collection::vec(any::<u8>(), 0..300)) {
        play([&[&hello(&PixelFormat::BGRX)[..], &soup].concat()[..]]);
    }
}
