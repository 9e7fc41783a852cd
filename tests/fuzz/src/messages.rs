//! RFB's messages after the handshake, on both sides, with what stands in them: the extended clipboard, pixel formats.

use crate::input::{Input, pieces};
use crate::rects::{Stream, codecs, watch};
use lucarne_rfb::client::{Viewer, write};
use lucarne_rfb::clipboard::Clipboard;
use lucarne_rfb::encodings::EXTENDED_MOUSE_BUTTONS;
use lucarne_rfb::pixel::{PixelReader, PixelWriter};
use lucarne_rfb::server::{self, ClientMessage, ClientMessages};
use lucarne_rfb::{PixelFormat, Rect};

/// What a client sends: `[pieces]`, then its messages.
pub fn server(data: &[u8]) {
    let mut input = Input(data);
    let cut = input.u8();
    let whole = read([input.0]);
    assert_eq!(whole, read(pieces(input.0, cut)));
    for message in &whole.0 {
        let mut bytes = Vec::new();
        match message {
            // Its line ends are made uniform when it is written.
            ClientMessage::Clipboard(Clipboard::Provide(_)) | ClientMessage::CutTextTooLong { .. } => {
                continue;
            }
            ClientMessage::PointerEvent { buttons: 256.., .. } => {
                write::set_encodings(&[EXTENDED_MOUSE_BUTTONS], &mut bytes);
            }
            _ => {}
        }
        write::message(message, &mut bytes);
        assert_eq!(read([&bytes[..]]).0.last(), Some(message));
    }
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<ClientMessage>, Option<String>) {
    let (mut parser, mut messages) = (ClientMessages::new(), Vec::new());
    for piece in pieces {
        if let Err(error) = parser.feed(piece) {
            return (messages, Some(error.to_string()));
        }
        loop {
            match parser.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error.to_string())),
            }
        }
    }
    (messages, None)
}

/// What a server sends after ServerInit: `[format, pieces]`, then its messages.
pub fn viewer(data: &[u8]) {
    let mut input = Input(data);
    let (format, cut) = (input.one_of(&formats()), input.u8());
    let mut bytes = Vec::new();
    server::write::server_init(48, 32, &format, "fuzz", &mut bytes);
    bytes.extend_from_slice(input.0);
    watch(&bytes, cut, || Viewer::with_codecs(codecs()).limited_to(64 * 64));
}

/// What a server sends from its first byte on: `[pieces]`, then ServerInit and messages.
pub fn server_init(data: &[u8]) {
    let mut input = Input(data);
    let cut = input.u8();
    watch(input.0, cut, || Viewer::new(None).limited_to(64 * 64));
}

/// The extended clipboard's payload: `[packing]`, then the payload, whose text is packed here if the number is odd.
pub fn clipboard(data: &[u8]) {
    let mut input = Input(data);
    let packed = input.u8() & 1 != 0;
    let payload =
        if packed { [input.bytes(4), &Stream::new().piece(input.0)[..]].concat() } else { input.0.to_vec() };
    let Ok(message) = Clipboard::parse(&payload) else { return };
    if !matches!(message, Clipboard::Provide(_)) {
        let mut again = Vec::new();
        message.write(&mut again);
        assert_eq!(Clipboard::parse(&again), Ok(message));
    }
}

/// A PIXEL_FORMAT, then pixels.
pub fn pixel_format(data: &[u8]) {
    let mut input = Input(data);
    let Ok(wire) = <[u8; PixelFormat::WIRE_LEN]>::try_from(input.bytes(PixelFormat::WIRE_LEN)) else {
        return;
    };
    let Ok(format) = PixelFormat::parse(&wire) else { return };
    let mut again = Vec::new();
    format.write(&mut again);
    assert_eq!(PixelFormat::parse(&again.try_into().expect("16 bytes")), Ok(format));
    let (writer, reader) = (PixelWriter::new(format), PixelReader::new(format));
    while !input.is_empty() {
        let pixel = input.u32() & 0x00ff_ffff;
        let [mut full, mut tight, mut compressed] = [const { Vec::new() }; 3];
        writer.put_pixels(&[pixel], &mut full);
        writer.put_tpixels(&[pixel], &mut tight);
        writer.put_cpixels(&[pixel], &mut compressed);
        let seen = reader.pixel(&full);
        assert_eq!((reader.tpixel(&tight), reader.cpixel(&compressed)), (seen, seen), "{format:?}");
    }
}

/// Formats of every size, common and odd.
#[must_use]
pub fn formats() -> Vec<PixelFormat> {
    let format = |bits_per_pixel, depth, max, shift| PixelFormat {
        bits_per_pixel,
        depth,
        big_endian: false,
        max,
        shift,
    };
    vec![
        PixelFormat::BGRX,
        PixelFormat::RGB565,
        PixelFormat::BGR233,
        PixelFormat::BGRX.with_big_endian(true),
        PixelFormat::RGB565.with_big_endian(true),
        format(32, 32, [255, 255, 255], [0, 8, 16]),
        format(32, 24, [255, 255, 255], [24, 16, 8]),
        format(32, 24, [255, 255, 255], [4, 20, 12]),
        format(32, 30, [1023, 1023, 1023], [20, 10, 0]).with_big_endian(true),
        format(16, 12, [15, 15, 15], [12, 1, 6]),
        format(8, 3, [1, 1, 1], [6, 0, 3]),
    ]
}

/// A rectangle from four bytes; the highest stand for the highest numbers, so that edges pass what 16 bits hold.
pub(crate) fn small_rect(input: &mut Input<'_>) -> Rect {
    let mut number = || match input.u8() {
        high @ 240.. => u16::MAX - u16::from(u8::MAX - high),
        low => u16::from(low),
    };
    Rect::new(number(), number(), number(), number())
}
