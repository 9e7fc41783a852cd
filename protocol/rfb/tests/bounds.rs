//! Lengths beyond a bound are refused as soon as they are read: before their bytes have come, and before there is memory for
//! them. More than 64 KiB at any time ends these tests.

// The fuzz targets hold every parser to its bound in the same way.
#[path = "../../../tests/fuzz/src/allocation.rs"]
mod allocation;

use allocation::limited;
use lucarne_rfb::audio::AudioError;
use lucarne_rfb::client::{DecodeError, ServerEvent, Viewer, ViewerError};
use lucarne_rfb::clipboard::{Clipboard, ClipboardError};
use lucarne_rfb::server::{ClientMessage, ClientMessages, MessageError, write};
use lucarne_rfb::wire::Put;
use lucarne_rfb::{PixelFormat, Rect, encodings as enc};

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

const MOST: usize = 64 << 10;

fn from_client(bytes: &[u8]) -> Result<Option<ClientMessage>, MessageError> {
    limited(MOST, || {
        let mut messages = ClientMessages::new();
        messages.feed(bytes)?;
        messages.next_message()
    })
}

#[test]
fn a_clients_lengths_are_bounded_before_their_bytes_come() {
    assert_eq!(from_client(&[2, 0, 0xff, 0xff]), Err(MessageError::TooManyEncodings(65_535)));
    assert_eq!(from_client(&[248, 0, 0, 0, 0, 0, 0, 0, 255]), Err(MessageError::FenceTooLong(255)));
    for length in [(1u32 << 20) + 1, 0x7fff_ffff, 0x8000_0000, 0x8000_0001] {
        let message = [&[6, 0, 0, 0][..], &length.to_be_bytes()].concat();
        let length = length.cast_signed().unsigned_abs() as usize;
        assert_eq!(from_client(&message), Ok(Some(ClientMessage::CutTextTooLong { length })));
    }
    // The most screens that there can be: too few bytes, so it waits.
    assert_eq!(from_client(&[251, 0, 0, 9, 0, 9, 255, 0]), Ok(None));
}

/// What a viewer with a framebuffer of 4×4 pixels says to a message of the server.
fn from_server(bytes: &[u8]) -> Result<Option<ServerEvent>, ViewerError> {
    let mut hello = Vec::new();
    write::server_init(4, 4, &PixelFormat::BGRX, "", &mut hello);
    hello.extend_from_slice(bytes);
    limited(MOST, || {
        let mut viewer = Viewer::new(None);
        viewer.feed(&hello)?;
        assert!(matches!(viewer.next_event(), Ok(Some(ServerEvent::Init(_)))));
        viewer.next_event()
    })
}

/// A rectangle's head, and the first bytes of its data.
fn rectangle(rect: Rect, encoding: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 1];
    bytes.put_rect(rect);
    bytes.put_i32(encoding);
    bytes.put_bytes(data);
    bytes
}

const LONG: u32 = (64 << 20) + 1;

#[test]
fn a_servers_lengths_are_bounded_before_their_bytes_come() {
    for length in [(1u32 << 20) + 1, 0x7fff_ffff, 0x8000_0000] {
        let error = ViewerError::TextTooLong(length.cast_signed().unsigned_abs() as usize);
        assert_eq!(from_server(&[&[3, 0, 0, 0][..], &length.to_be_bytes()].concat()), Err(error));
    }
    for length in [(1u32 << 20) + 1, u32::MAX] {
        let error = ViewerError::Audio(AudioError::TooLong(length as usize));
        assert_eq!(from_server(&[&[255, 1, 0, 2][..], &length.to_be_bytes()].concat()), Err(error));
    }
    for length in [4097, u32::MAX] {
        let name = rectangle(Rect::default(), enc::DESKTOP_NAME, &length.to_be_bytes());
        assert_eq!(from_server(&name), Err(ViewerError::TextTooLong(length as usize)));
    }
}

#[test]
fn a_rectangles_lengths_and_sizes_are_bounded_before_its_data_comes() {
    let inside = Rect::new(0, 0, 4, 4);
    for encoding in [enc::ZLIB, enc::ZRLE, enc::OPEN_H264] {
        for length in [LONG, u32::MAX] {
            let data = [length.to_be_bytes(), [0; 4]].concat();
            let answer = from_server(&rectangle(inside, encoding, &data));
            assert!(matches!(answer, Err(ViewerError::Decode(DecodeError::Rules(_)))), "{answer:?}");
        }
    }
    for (w, h) in [(65_535, 65_535), (5, 4)] {
        let rect = Rect::new(0, 0, w, h);
        for encoding in [enc::RAW, enc::TIGHT, enc::TIGHT_PNG, enc::HEXTILE, enc::JPEG, enc::ZRLE] {
            let answer = from_server(&rectangle(rect, encoding, &[0x80, 1, 2, 3]));
            assert!(matches!(answer, Err(ViewerError::Decode(DecodeError::Outside { .. }))), "{answer:?}");
        }
    }
    let huge = Rect::new(0, 0, 65_535, 65_535);
    for encoding in enc::CURSORS {
        let answer = from_server(&rectangle(huge, encoding, &[]));
        assert!(matches!(answer, Err(ViewerError::Decode(DecodeError::Rules(_)))), "{answer:?}");
    }
    let size = DecodeError::Size { width: 65_535, height: 65_535 };
    assert_eq!(from_server(&rectangle(huge, enc::DESKTOP_SIZE, &[])), Err(ViewerError::Decode(size)));
}

/// The longest data that the compact length can announce is no more than 4 MiB, and is waited for.
#[test]
fn an_announced_length_takes_no_memory_by_itself() {
    for data in [&[0x90, 0xff, 0xff, 0xff][..], &[0x00, 0xff, 0xff, 0xff]] {
        assert_eq!(from_server(&rectangle(Rect::new(0, 0, 4, 4), enc::TIGHT, data)), Ok(None));
    }
}

#[test]
fn a_packed_text_is_bounded_by_what_it_claims_before_it_is_unpacked() {
    // zlib in stored blocks: first the length that the text claims, then a text that is shorter.
    let claim = |length: u32| {
        let mut payload = vec![0x10, 0, 0, 1, 0x78, 0x01, 0, 8, 0, 0xf7, 0xff];
        payload.put_u32(length);
        payload.put_bytes(b"text");
        payload
    };
    let parse = |length| limited(MOST, || Clipboard::parse(&claim(length)));
    assert_eq!(parse(4), Ok(Clipboard::Provide("text".into())));
    assert_eq!(parse(1 << 20), Err(ClipboardError::Short));
    for length in [(1 << 20) + 1, u32::MAX] {
        assert_eq!(parse(length), Err(ClipboardError::TooLong));
    }
}
