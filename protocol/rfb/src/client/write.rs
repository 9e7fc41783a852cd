//! Writers of everything a client sends after the handshake (rfbproto, "Client to Server Messages").

use crate::audio::AudioRequest;
use crate::clipboard::Clipboard;
use crate::pixel::PixelFormat;
use crate::rect::Rect;
use crate::server::{ClientMessage, Screen};
use crate::wire::{Put, to_latin1};

/// ClientInit.
pub fn client_init(shared: bool, out: &mut Vec<u8>) {
    out.put_u8(shared.into());
}

/// SetPixelFormat.
pub fn set_pixel_format(format: &PixelFormat, out: &mut Vec<u8>) {
    out.put_u32(0);
    format.write(out);
}

/// SetEncodings, most preferred first; at most 65,535 are sent.
pub fn set_encodings(encodings: &[i32], out: &mut Vec<u8>) {
    let encodings = &encodings[..encodings.len().min(usize::from(u16::MAX))];
    out.put_bytes(&[2, 0]);
    out.put_u16(encodings.len() as u16);
    encodings.iter().for_each(|&e| out.put_i32(e));
}

/// FramebufferUpdateRequest.
pub fn framebuffer_update_request(incremental: bool, rect: Rect, out: &mut Vec<u8>) {
    out.put_bytes(&[3, incremental.into()]);
    out.put_rect(rect);
}

/// KeyEvent.
pub fn key_event(down: bool, keysym: u32, out: &mut Vec<u8>) {
    out.put_bytes(&[4, down.into(), 0, 0]);
    out.put_u32(keysym);
}

/// QEMU Extended Key Event.
pub fn extended_key_event(down: bool, keysym: u32, keycode: u32, out: &mut Vec<u8>) {
    out.put_bytes(&[255, 0]);
    out.put_u16(down.into());
    out.put_u32(keysym);
    out.put_u32(keycode);
}

/// PointerEvent, buttons 1 to 8.
pub fn pointer_event(buttons: u8, x: u16, y: u16, out: &mut Vec<u8>) {
    out.put_bytes(&[5, buttons]);
    out.put_u16(x);
    out.put_u16(y);
}

/// PointerEvent, buttons as in [`ClientMessage::PointerEvent`]; only after the server acknowledged ExtendedMouseButtons.
pub fn extended_pointer_event(buttons: u16, x: u16, y: u16, out: &mut Vec<u8>) {
    pointer_event(0x80 | (buttons & 0x7f) as u8, x, y, out);
    out.put_u8((buttons >> 7) as u8);
}

/// ClientCutText in ISO 8859-1.
pub fn cut_text(text: &str, out: &mut Vec<u8>) {
    let bytes = to_latin1(text);
    out.put_bytes(&[6, 0, 0, 0]);
    out.put_u32(bytes.len() as u32);
    out.put_bytes(&bytes);
}

/// ClientCutText of the extended clipboard.
pub fn clipboard(message: &Clipboard, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    message.write(&mut payload);
    out.put_bytes(&[6, 0, 0, 0]);
    out.put_i32(-(payload.len() as i32));
    out.put_bytes(&payload);
}

/// EnableContinuousUpdates.
pub fn enable_continuous_updates(enable: bool, rect: Rect, out: &mut Vec<u8>) {
    out.put_bytes(&[150, enable.into()]);
    out.put_rect(rect);
}

/// ClientFence; of `payload` the first 64 bytes are sent.
pub fn fence(flags: u32, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(64)];
    out.put_bytes(&[248, 0, 0, 0]);
    out.put_u32(flags);
    out.put_u8(payload.len() as u8);
    out.put_bytes(payload);
}

/// SetDesktopSize; at most 255 screens are sent.
pub fn set_desktop_size(width: u16, height: u16, screens: &[Screen], out: &mut Vec<u8>) {
    let screens = &screens[..screens.len().min(255)];
    out.put_bytes(&[251, 0]);
    out.put_u16(width);
    out.put_u16(height);
    out.put_bytes(&[screens.len() as u8, 0]);
    for s in screens {
        out.put_u32(s.id);
        out.put_rect(s.rect);
        out.put_u32(s.flags);
    }
}

/// xvp.
pub fn xvp(version: u8, code: u8, out: &mut Vec<u8>) {
    out.put_bytes(&[250, 0, version, code]);
}

/// QEMU's audio messages; only after the server acknowledged QEMU Audio.
pub fn audio(request: &AudioRequest, out: &mut Vec<u8>) {
    request.write(out);
}

/// Any message, in its plain form. [`ClientMessage::CutTextTooLong`] stands for bytes that were dropped and writes
/// nothing.
pub fn message(message: &ClientMessage, out: &mut Vec<u8>) {
    match message {
        ClientMessage::SetPixelFormat(format) => set_pixel_format(format, out),
        ClientMessage::SetEncodings(list) => set_encodings(list, out),
        ClientMessage::FramebufferUpdateRequest { incremental, rect } => {
            framebuffer_update_request(*incremental, *rect, out);
        }
        ClientMessage::KeyEvent { down, keysym } => key_event(*down, *keysym, out),
        ClientMessage::PointerEvent { buttons, x, y } if *buttons < 256 => {
            pointer_event(*buttons as u8, *x, *y, out);
        }
        ClientMessage::PointerEvent { buttons, x, y } => extended_pointer_event(*buttons, *x, *y, out),
        ClientMessage::CutText(text) => cut_text(text, out),
        ClientMessage::Clipboard(message) => clipboard(message, out),
        ClientMessage::CutTextTooLong { .. } => {}
        ClientMessage::EnableContinuousUpdates { enable, rect } => {
            enable_continuous_updates(*enable, *rect, out);
        }
        ClientMessage::Fence { flags, payload } => fence(*flags, payload, out),
        ClientMessage::Xvp { version, code } => xvp(*version, *code, out),
        ClientMessage::SetDesktopSize { width, height, screens } => {
            set_desktop_size(*width, *height, screens, out);
        }
        ClientMessage::ExtendedKeyEvent { down, keysym, keycode } => {
            extended_key_event(*down, *keysym, *keycode, out);
        }
        ClientMessage::Audio(request) => audio(request, out),
    }
}
