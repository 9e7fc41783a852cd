//! RFB's handshake and messages: both sides' own writers, and lengths at the ends of their ranges.

use super::{Seeds, with};
use flate2::{Compress, Compression, FlushCompress};
use lucarne_rfb::audio::{Audio, AudioFormat, AudioRequest, Sample};
use lucarne_rfb::client::write as client;
use lucarne_rfb::clipboard::Clipboard;
use lucarne_rfb::server::write::{self as server, ResizeReason, ResizeStatus, Update};
use lucarne_rfb::server::{ClientMessage, Screen};
use lucarne_rfb::wire::Put;
use lucarne_rfb::{PixelFormat, Rect, encodings as enc};

/// Lengths that have gone wrong elsewhere.
const LENGTHS: [u32; 6] = [0, 1 << 20, (1 << 20) + 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

pub(super) fn seeds() -> Seeds {
    vec![
        ("server_handshake", client_halves()),
        ("client_handshake", server_halves()),
        ("server_messages", client_messages()),
        ("viewer", server_messages()),
        ("server_init", server_inits()),
        ("clipboard", clipboards()),
        ("pixel_format", pixel_formats()),
    ]
}

const VERSIONS: [&[u8]; 4] = [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n", b"RFB 004.001\n"];

fn client_halves() -> Vec<Vec<u8>> {
    let mut bell = Vec::new();
    client::key_event(true, 0x61, &mut bell);
    let mut all = vec![with(&[0, 1, 0], b"GET / HTTP/1.1\r\n\r\n")];
    for version in VERSIONS {
        all.push(with(&[0, 5, 0], &[version, &[1, 1], &bell].concat()));
        for (subtype, name, password) in
            [(262u32, 3u32, 6u32), (260, 0, 0), (259, 256, 1025), (262, u32::MAX, 1)]
        {
            let mut half = [version, &[19, 0, 2]].concat();
            half.put_u32(subtype);
            half.put_u32(name);
            half.put_u32(password);
            half.put_bytes(b"adasecret\x01");
            all.extend([with(&[1, 3, 0], &half), with(&[2, 0x81, 1], &half)]);
        }
    }
    all
}

fn server_halves() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for version in VERSIONS {
        all.push(with(&[0, 2], &[version, &[1, 1, 0, 0, 0, 0]].concat()));
        all.push(with(&[0, 2], &[version, &[0, 0, 0, 1]].concat()));
        for length in LENGTHS {
            all.push(with(&[0, 7], &[version, &[0], &length.to_be_bytes()[..], b"full"].concat()));
        }
        let subtypes: &[u8] = &[2, 0, 0, 1, 4, 0, 0, 1, 6];
        all.push(with(&[1, 3], &[version, &[2, 1, 19, 0, 2, 0], subtypes, &[1, 0, 0, 0, 0]].concat()));
        all.push(with(
            &[1, 9],
            &[version, &[1, 19, 0, 2, 0], subtypes, &[1, 0, 0, 0, 1, 0, 0, 0, 2], b"no"].concat(),
        ));
    }
    all
}

/// The payload of a text of 3 MiB, packed as well as it can be.
fn much_text() -> Vec<u8> {
    const LENGTH: usize = 3 << 20;
    let mut plain = Vec::new();
    plain.put_u32(LENGTH as u32);
    plain.resize(4 + LENGTH, b'a');
    let mut packed = Vec::with_capacity(plain.len());
    let done =
        Compress::new(Compression::best(), true).compress_vec(&plain, &mut packed, FlushCompress::Finish);
    done.expect("memory to memory");
    with(&[0x10, 0, 0, 1], &packed)
}

fn client_messages() -> Vec<Vec<u8>> {
    let screen = Screen { id: 7, rect: Rect::new(0, 0, 800, 600), flags: 1 };
    let format = AudioFormat { sample: Sample::S16, channels: 2, frequency: 44_100 };
    let messages = [
        ClientMessage::SetPixelFormat(PixelFormat::RGB565),
        ClientMessage::SetEncodings(vec![
            enc::TIGHT,
            enc::COPY_RECT,
            enc::QUALITY_0 + 6,
            enc::EXTENDED_MOUSE_BUTTONS,
        ]),
        ClientMessage::FramebufferUpdateRequest { incremental: true, rect: Rect::new(0, 0, 800, 600) },
        ClientMessage::KeyEvent { down: true, keysym: 0xff0d },
        ClientMessage::PointerEvent { buttons: 1, x: 3, y: 4 },
        ClientMessage::PointerEvent { buttons: 0x101, x: 3, y: 4 },
        ClientMessage::CutText("né".into()),
        ClientMessage::Clipboard(Clipboard::Provide("text\n€".into())),
        ClientMessage::Clipboard(Clipboard::Caps { text: Some(1 << 20) }),
        ClientMessage::EnableContinuousUpdates { enable: true, rect: Rect::new(0, 0, 800, 600) },
        ClientMessage::Fence { flags: 0x8000_0003, payload: vec![5; 64] },
        ClientMessage::Xvp { version: 1, code: 2 },
        ClientMessage::SetDesktopSize { width: 800, height: 600, screens: vec![screen] },
        ClientMessage::ExtendedKeyEvent { down: true, keysym: 0x61, keycode: 0x1e },
        ClientMessage::Audio(AudioRequest::Enable),
        ClientMessage::Audio(AudioRequest::Format(format)),
    ];
    let mut all: Vec<Vec<u8>> = vec![Vec::new()];
    for message in &messages {
        let mut out = Vec::new();
        client::message(message, &mut out);
        all[0].extend_from_slice(&out);
        all.push(out);
    }
    all.extend(LENGTHS.map(|n| [&[6, 0, 0, 0][..], &n.to_be_bytes(), b"text"].concat()));
    all.extend([
        vec![2, 0, 0xff, 0xff],
        vec![248, 0, 0, 0, 0, 0, 0, 0, 255],
        vec![251, 0, 0, 9, 0, 9, 255, 0],
    ]);
    all.into_iter().map(|m| with(&[3], &m)).collect()
}

/// Appends a message.
type Writer<'a> = &'a dyn Fn(&mut Vec<u8>);

fn server_messages() -> Vec<Vec<u8>> {
    let writers: [Writer<'_>; 12] = [
        &server::bell,
        &|out| server::cut_text("né", out),
        &|out| server::clipboard(&Clipboard::Provide("text\n€".into()), out),
        &|out| server::clipboard(&Clipboard::Notify { text: true }, out),
        &|out| server::fence(3, b"ping", out),
        &server::end_of_continuous_updates,
        &|out| server::xvp(1, out),
        &|out| server::audio(&Audio::Begin, out),
        &|out| server::audio(&Audio::Data(vec![1; 40]), out),
        &|out| server::audio(&Audio::End, out),
        &updates,
        &|out| out.extend_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x20]),
    ];
    let mut all: Vec<Vec<u8>> = vec![Vec::new()];
    for write in writers {
        let mut out = Vec::new();
        write(&mut out);
        all[0].extend_from_slice(&out);
        all.push(out);
    }
    for n in LENGTHS.map(u32::to_be_bytes) {
        all.push([&[3, 0, 0, 0][..], &n].concat());
        all.push([&[255, 1, 0, 2][..], &n].concat());
        for encoding in [enc::DESKTOP_NAME, enc::ZRLE, enc::ZLIB, enc::OPEN_H264] {
            all.push([&[0, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 9][..], &encoding.to_be_bytes(), &n, &n].concat());
        }
    }
    for (w, h) in [(65_535u16, 65_535u16), (65_535, 1), (0, 65_535), (65, 65)] {
        for encoding in [enc::DESKTOP_SIZE, enc::RAW, enc::TIGHT, enc::CURSOR, enc::VMWARE_CURSOR] {
            let mut out = vec![0, 0, 0, 1];
            out.put_rect(Rect::new(0, 0, w, h));
            out.put_i32(encoding);
            out.put_bytes(&[0x80, 1, 2, 3, 4]);
            all.push(out);
        }
    }
    all.into_iter().map(|m| with(&[0, 5], &m)).collect()
}

fn updates(out: &mut Vec<u8>) {
    let mut update = Update::new(out);
    update.copy_rect(Rect::new(1, 0, 2, 2), 0, 0);
    update.desktop_name("new");
    update.led_state(2);
    update.pointer_motion(true);
    update.acknowledge(enc::QEMU_AUDIO);
    update.cursor_with_alpha(Rect::new(0, 0, 1, 1), &[0x8011_2233]);
    let screen = Screen { id: 7, rect: Rect::new(0, 0, 20, 10), flags: 1 };
    update.extended_desktop_size(ResizeReason::ThisClient, ResizeStatus::Ok, 20, 10, &[screen]);
    update.desktop_size(48, 32);
    update.finish();
}

fn server_inits() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (width, height) in [(48, 32), (0, 0), (65_535, 65_535)] {
        let mut out = Vec::new();
        server::server_init(width, height, &PixelFormat::BGRX, "désk", &mut out);
        server::bell(&mut out);
        all.push(with(&[3], &out));
    }
    for length in LENGTHS {
        let mut out = Vec::new();
        server::server_init(1, 1, &PixelFormat::RGB565, "", &mut out);
        let at = out.len() - 4;
        out[at..].copy_from_slice(&length.to_be_bytes());
        all.push(with(&[200], &out));
    }
    all
}

fn clipboards() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for message in [
        Clipboard::Caps { text: None },
        Clipboard::Caps { text: Some(u32::MAX) },
        Clipboard::Request,
        Clipboard::Peek,
        Clipboard::Notify { text: false },
        Clipboard::Provide("a\nb €".into()),
        Clipboard::Provide(String::new()),
        Clipboard::Provide("a".repeat(5000)),
    ] {
        let mut out = Vec::new();
        message.write(&mut out);
        all.push(with(&[0], &out));
    }
    all.push(with(&[0], &much_text()));
    let provide = [0x10, 0, 0, 1];
    all.extend(LENGTHS.map(|n| with(&[1], &[&provide[..], &n.to_be_bytes(), b"a\r\n\r\nb\0"].concat())));
    all.push(with(&[1], &[&provide[..], &[0, 0, 0, 4], b"\xff\xfe\r\n"].concat()));
    all.push(with(&[0], &[1, 0, 0xff, 0xff, 0, 0, 0, 1]));
    all
}

fn pixel_formats() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = lucarne_fuzz::messages::formats()
        .iter()
        .map(|format| {
            let mut out = Vec::new();
            format.write(&mut out);
            with(&out, &[0, 0x12, 0x34, 0x56, 0, 0xff, 0xff, 0xff])
        })
        .collect();
    all.push([8, 8, 0, 0].into_iter().chain([0; 12]).collect());
    all
}
