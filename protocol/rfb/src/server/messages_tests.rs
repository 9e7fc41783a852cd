//! The parser of a client's messages against literal bytes, limits, and arbitrary chunking.

use super::*;
use crate::audio::{AudioFormat, MAX_FREQUENCY, Sample};
use crate::client::write;
use proptest::prelude::*;

fn parse_chunks<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<ClientMessage>, Option<MessageError>) {
    let (mut parser, mut messages) = (ClientMessages::new(), Vec::new());
    for chunk in chunks {
        if let Err(e) = parser.feed(chunk) {
            return (messages, Some(e));
        }
        loop {
            match parser.next_message() {
                Ok(Some(m)) => messages.push(m),
                Ok(None) => break,
                Err(e) => return (messages, Some(e)),
            }
        }
    }
    (messages, None)
}

fn one(bytes: &[u8]) -> ClientMessage {
    let (mut messages, error) = parse_chunks([bytes]);
    assert_eq!((messages.len(), error), (1, None));
    messages.remove(0)
}

fn error(bytes: &[u8]) -> MessageError {
    parse_chunks([bytes]).1.expect("an error")
}

#[test]
fn known_bytes_are_known_messages() {
    assert_eq!(
        one(&[3, 1, 0, 1, 0, 2, 0, 3, 0, 4]),
        ClientMessage::FramebufferUpdateRequest { incremental: true, rect: Rect::new(1, 2, 3, 4) }
    );
    assert_eq!(one(&[4, 1, 0, 0, 0, 0, 0xff, 0x0d]), ClientMessage::KeyEvent { down: true, keysym: 0xff0d });
    assert_eq!(one(b"\x06\0\0\0\0\0\0\x02\xe9a"), ClientMessage::CutText("éa".into()));
    assert_eq!(
        one(&[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e]),
        ClientMessage::ExtendedKeyEvent { down: true, keysym: 0x61, keycode: 0x1e }
    );
    assert_eq!(one(&[250, 0, 1, 2]), ClientMessage::Xvp { version: 1, code: 2 });
}

#[test]
fn the_back_and_forward_buttons_have_one_meaning_in_both_forms() {
    let plain = [5, 0x80, 0, 1, 0, 2];
    assert_eq!(one(&plain), ClientMessage::PointerEvent { buttons: 1 << 7, x: 1, y: 2 });
    let negotiate = [2, 0, 0, 1, 0xff, 0xff, 0xfe, 0xc4];
    let extended = [5, 0x81, 0, 1, 0, 2, 0b11];
    let (messages, error) = parse_chunks([&negotiate[..], &extended, &[5, 1, 0, 0, 0, 0]]);
    assert_eq!(error, None);
    assert_eq!(messages[1], ClientMessage::PointerEvent { buttons: 0b1_1000_0001, x: 1, y: 2 });
    assert_eq!(messages[2], ClientMessage::PointerEvent { buttons: 1, x: 0, y: 0 });
}

#[test]
fn text_beyond_the_limit_is_skipped_and_the_stream_goes_on() {
    let length = 5 * MAX_CUT_TEXT;
    let head = [&[6, 0, 0, 0][..], &(length as u32).to_be_bytes()].concat();
    let body = vec![b'x'; 64 * 1024];
    let bell = [4u8, 0, 0, 0, 0, 0, 0, 1];
    let chunks = std::iter::once(&head[..])
        .chain(std::iter::repeat_n(&body[..], length / body.len()))
        .chain([&bell[..]]);
    let expected =
        vec![ClientMessage::CutTextTooLong { length }, ClientMessage::KeyEvent { down: false, keysym: 1 }];
    assert_eq!(parse_chunks(chunks), (expected, None));
}

#[test]
fn compressed_text_beyond_the_limit_is_skipped_and_the_stream_goes_on() {
    let mut bytes = Vec::new();
    write::clipboard(&Clipboard::Provide("x".repeat(MAX_CUT_TEXT + 1)), &mut bytes);
    bytes.extend([4u8, 0, 0, 0, 0, 0, 0, 1]);
    let (messages, error) = parse_chunks([&bytes[..]]);
    assert_eq!(error, None);
    assert_eq!(messages[0], ClientMessage::CutTextTooLong { length: MAX_CUT_TEXT });
    assert_eq!(messages[1], ClientMessage::KeyEvent { down: false, keysym: 1 });
}

#[test]
fn what_breaks_the_bounds_is_an_error() {
    assert_eq!(error(&[7]), MessageError::Unknown(7));
    assert_eq!(error(&[255, 2]), MessageError::UnknownQemu(2));
    assert_eq!(error(&[255, 1, 0, 9]), MessageError::Audio(AudioError::Operation(9)));
    assert_eq!(error(&[2, 0, 0x04, 0x01]), MessageError::TooManyEncodings(1025));
    assert_eq!(error(&[248, 0, 0, 0, 0, 0, 0, 0, 65]), MessageError::FenceTooLong(65));
    let colour_map = [&[0, 0, 0, 0][..], &[8, 8, 0, 0], &[0; 12]].concat();
    assert_eq!(error(&colour_map), MessageError::PixelFormat(PixelFormatError::ColourMap));
    let mut parser = ClientMessages::new();
    assert_eq!(parser.feed(&vec![4; MAX_PENDING + 1]), Err(MessageError::Backlog));
    assert_eq!(parser.next_message(), Ok(None), "a failed parser stays silent");
}

fn any_rect() -> impl Strategy<Value = Rect> {
    any::<[u16; 4]>().prop_map(|[x, y, w, h]| Rect { x, y, w, h })
}

fn any_audio_request() -> impl Strategy<Value = AudioRequest> {
    let format = (prop::sample::select(&Sample::ALL[..]), 1..=2u8, 1..=MAX_FREQUENCY);
    prop_oneof![
        Just(AudioRequest::Enable),
        Just(AudioRequest::Disable),
        Just(AudioRequest::Opus),
        format.prop_map(|(sample, channels, frequency)| {
            AudioRequest::Format(AudioFormat { sample, channels, frequency })
        }),
    ]
}

fn any_message() -> impl Strategy<Value = ClientMessage> {
    let screen =
        (any::<u32>(), any_rect(), any::<u32>()).prop_map(|(id, rect, flags)| Screen { id, rect, flags });
    prop_oneof![
        Just(ClientMessage::SetPixelFormat(PixelFormat::RGB565)),
        // Without extended mouse buttons, whose negotiation changes what pointer events mean.
        prop::collection::vec(-300..300i32, 0..20).prop_map(ClientMessage::SetEncodings),
        (any::<bool>(), any_rect())
            .prop_map(|(incremental, rect)| ClientMessage::FramebufferUpdateRequest { incremental, rect }),
        (any::<bool>(), any::<u32>()).prop_map(|(down, keysym)| ClientMessage::KeyEvent { down, keysym }),
        (0..256u16, any::<u16>(), any::<u16>()).prop_map(|(buttons, x, y)| ClientMessage::PointerEvent {
            buttons,
            x,
            y
        }),
        "[a-zé\n]{0,50}".prop_map(ClientMessage::CutText),
        "[a-z€\n]{0,50}".prop_map(|t| ClientMessage::Clipboard(Clipboard::Provide(t))),
        (any::<bool>(), any_rect())
            .prop_map(|(enable, rect)| ClientMessage::EnableContinuousUpdates { enable, rect }),
        (any::<u32>(), prop::collection::vec(any::<u8>(), 0..=64))
            .prop_map(|(flags, payload)| ClientMessage::Fence { flags, payload }),
        (any::<u8>(), any::<u8>()).prop_map(|(version, code)| ClientMessage::Xvp { version, code }),
        (any::<u16>(), any::<u16>(), prop::collection::vec(screen, 0..4))
            .prop_map(|(width, height, screens)| ClientMessage::SetDesktopSize { width, height, screens }),
        (any::<bool>(), any::<u32>(), any::<u32>())
            .prop_map(|(down, keysym, keycode)| ClientMessage::ExtendedKeyEvent { down, keysym, keycode }),
        any_audio_request().prop_map(ClientMessage::Audio),
    ]
}

proptest! {
    #[test]
    fn what_a_client_writes_is_what_the_server_reads(
        messages in prop::collection::vec(any_message(), 0..12),
        size in 1usize..50,
    ) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|m| write::message(m, &mut bytes));
        prop_assert_eq!(parse_chunks([&bytes[..]]), (messages.clone(), None));
        prop_assert_eq!(parse_chunks(bytes.chunks(size)), (messages, None));
    }

    #[test]
    fn a_message_that_is_cut_short_waits_for_the_rest(message in any_message()) {
        let mut bytes = Vec::new();
        write::message(&message, &mut bytes);
        for length in 0..bytes.len() {
            prop_assert_eq!(parse_chunks([&bytes[..length]]), (vec![], None), "{} of {} bytes", length, bytes.len());
        }
    }

    #[test]
    fn fifteen_buttons_come_through_once_they_are_negotiated(
        events in prop::collection::vec((0..1u16 << 15, any::<u16>(), any::<u16>()), 1..9),
        size in 1usize..20,
    ) {
        let mut bytes = Vec::new();
        write::set_encodings(&[EXTENDED_MOUSE_BUTTONS], &mut bytes);
        for (buttons, x, y) in &events {
            // A client may use the short form as long as only the first seven are pressed.
            if buttons >> 7 == 0 {
                write::pointer_event(*buttons as u8, *x, *y, &mut bytes);
            }
            write::extended_pointer_event(*buttons, *x, *y, &mut bytes);
        }
        let (messages, error) = parse_chunks(bytes.chunks(size));
        let seen: Vec<_> = messages[1..].iter().map(|m| match m {
            ClientMessage::PointerEvent { buttons, x, y } => (*buttons, *x, *y),
            other => panic!("{other:?}"),
        }).collect();
        let twice = |e: &(u16, u16, u16)| vec![*e; if e.0 >> 7 == 0 { 2 } else { 1 }];
        prop_assert_eq!((seen, error), (events.iter().flat_map(twice).collect(), None));
    }

    #[test]
    fn byte_soup_gives_the_same_in_any_chunking(
        bytes in prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..400),
        size in 1usize..50,
    ) {
        prop_assert_eq!(parse_chunks(bytes.chunks(size)), parse_chunks([&bytes[..]]));
    }
}
