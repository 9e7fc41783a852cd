//! Writers of everything a server sends after the handshake (rfbproto, "Server to Client Messages" and
//! "Pseudo-encodings"). Knows nothing of how pixels are encoded: an encoder appends its data after a rectangle's header.

use super::Screen;
use crate::audio::Audio;
use crate::clipboard::Clipboard;
use crate::encodings as enc;
use crate::pixel::{PixelFormat, PixelWriter};
use crate::rect::Rect;
use crate::wire::{MAX_COMPACT_LENGTH, Put, to_latin1};

/// Rectangles that one FramebufferUpdate can announce; 65,535 itself means "until LastRect".
const MAX_RECTS: u16 = 65_534;

/// ServerInit: size, pixel format and name.
pub fn server_init(width: u16, height: u16, format: &PixelFormat, name: &str, out: &mut Vec<u8>) {
    out.put_u16(width);
    out.put_u16(height);
    format.write(out);
    put_string(name, out);
}

fn put_string(s: &str, out: &mut Vec<u8>) {
    out.put_u32(s.len() as u32);
    out.put_bytes(s.as_bytes());
}

/// Bell.
pub fn bell(out: &mut Vec<u8>) {
    out.put_u8(2);
}

/// ServerCutText: text is sent as ISO 8859-1; use [`clipboard`] for clients that know the extended clipboard.
pub fn cut_text(text: &str, out: &mut Vec<u8>) {
    let bytes = to_latin1(text);
    out.put_bytes(&[3, 0, 0, 0]);
    out.put_u32(bytes.len() as u32);
    out.put_bytes(&bytes);
}

/// ServerCutText with the extended clipboard's negative length.
pub fn clipboard(message: &Clipboard, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    message.write(&mut payload);
    out.put_bytes(&[3, 0, 0, 0]);
    out.put_i32(-(payload.len() as i32));
    out.put_bytes(&payload);
}

/// EndOfContinuousUpdates.
pub fn end_of_continuous_updates(out: &mut Vec<u8>) {
    out.put_u8(150);
}

/// ServerFence; of `payload` the first 64 bytes are sent.
pub fn fence(flags: u32, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(64)];
    out.put_bytes(&[248, 0, 0, 0]);
    out.put_u32(flags);
    out.put_u8(payload.len() as u8);
    out.put_bytes(payload);
}

/// xvp: 0 refuses the last request, 1 says that the extension is there.
pub fn xvp(code: u8, out: &mut Vec<u8>) {
    out.put_bytes(&[250, 0, 1, code]);
}

/// QEMU's audio messages, for clients that asked for sound.
pub fn audio(message: &Audio, out: &mut Vec<u8>) {
    message.write(out);
}

/// Who asked for a size of the framebuffer (the x position of ExtendedDesktopSize).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ResizeReason {
    /// The guest or the server.
    Server = 0,
    /// This client.
    ThisClient = 1,
    /// Another client.
    OtherClient = 2,
}

/// The answer to SetDesktopSize (the y position of ExtendedDesktopSize).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ResizeStatus {
    /// Done.
    Ok = 0,
    /// Not allowed.
    Prohibited = 1,
    /// Not enough memory.
    OutOfResources = 2,
    /// The layout makes no sense.
    InvalidLayout = 3,
    /// It was passed on, and may or may not happen.
    Forwarded = 4,
}

/// What a client has to forget before it decodes a rectangle of Open H.264.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum H264Reset {
    /// Nothing.
    None = 0,
    /// What it decoded in this rectangle.
    Context = 1,
    /// What it decoded in all rectangles.
    All = 2,
}

/// A FramebufferUpdate in the making: counts its rectangles and writes the count when it is finished.
///
/// More than 65,534 rectangles become several messages. A message without rectangles is not written at all.
#[derive(Debug)]
pub struct Update<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    rects: u16,
    total: usize,
}

impl<'a> Update<'a> {
    /// Starts a message at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.put_u32(0);
        Self { out, start, rects: 0, total: 0 }
    }

    /// Appends a rectangle's header; the caller appends exactly the data of that encoding.
    pub fn rect(&mut self, rect: Rect, encoding: i32) -> &mut Vec<u8> {
        if self.rects == MAX_RECTS {
            self.close();
            self.start = self.out.len();
            self.out.put_u32(0);
            self.rects = 0;
        }
        self.rects += 1;
        self.total += 1;
        self.out.put_rect(rect);
        self.out.put_i32(encoding);
        self.out
    }

    /// Appends rectangles with their headers that were written for another message.
    pub fn ready(&mut self, bytes: &[u8], rects: u16) {
        if MAX_RECTS - self.rects < rects {
            self.close();
            self.start = self.out.len();
            self.out.put_u32(0);
            self.rects = 0;
        }
        self.rects += rects;
        self.total += usize::from(rects);
        self.out.extend_from_slice(bytes);
    }

    /// Length of the buffer so far, with what was in it before.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Rectangles so far.
    #[must_use]
    pub fn rects(&self) -> usize {
        self.total
    }

    fn close(&mut self) {
        self.out[self.start + 2..self.start + 4].copy_from_slice(&self.rects.to_be_bytes());
    }

    /// Writes the count, and gives the number of rectangles.
    pub fn finish(mut self) -> usize {
        if self.rects == 0 {
            self.out.truncate(self.start);
        } else {
            self.close();
        }
        self.total
    }

    /// CopyRect: `dst` gets what the client has at `src_x`, `src_y`.
    pub fn copy_rect(&mut self, dst: Rect, src_x: u16, src_y: u16) {
        let out = self.rect(dst, enc::COPY_RECT);
        out.put_u16(src_x);
        out.put_u16(src_y);
    }

    /// DesktopSize.
    pub fn desktop_size(&mut self, width: u16, height: u16) {
        self.rect(Rect::new(0, 0, width, height), enc::DESKTOP_SIZE);
    }

    /// ExtendedDesktopSize; at most 255 screens are sent.
    pub fn extended_desktop_size(
        &mut self,
        reason: ResizeReason,
        status: ResizeStatus,
        width: u16,
        height: u16,
        screens: &[Screen],
    ) {
        let rect = Rect::new(reason as u16, status as u16, width, height);
        let out = self.rect(rect, enc::EXTENDED_DESKTOP_SIZE);
        let screens = &screens[..screens.len().min(255)];
        out.put_u8(screens.len() as u8);
        out.put_padding(3);
        for s in screens {
            out.put_u32(s.id);
            out.put_rect(s.rect);
            out.put_u32(s.flags);
        }
    }

    /// DesktopName.
    pub fn desktop_name(&mut self, name: &str) {
        put_string(name, self.rect(Rect::default(), enc::DESKTOP_NAME));
    }

    /// QEMU Pointer Motion Change.
    pub fn pointer_motion(&mut self, absolute: bool) {
        self.rect(Rect::new(absolute.into(), 0, 0, 0), enc::QEMU_POINTER_MOTION);
    }

    /// An empty rectangle that says: the server understands this extension too. For QEMU Extended Key Event, QEMU Audio,
    /// Opus audio and ExtendedMouseButtons.
    pub fn acknowledge(&mut self, pseudo_encoding: i32) {
        self.rect(Rect::default(), pseudo_encoding);
    }

    /// QEMU LED State: bit 0 scroll, 1 num, 2 caps lock.
    pub fn led_state(&mut self, state: u8) {
        self.rect(Rect::default(), enc::QEMU_LED_STATE).put_u8(state);
    }

    /// Cursor: `pixels` are `width` × `height` of `0x00RRGGBB`, and those with `visible` set are drawn.
    pub fn cursor(
        &mut self,
        shape: Rect,
        pixels: &[u32],
        visible: impl Fn(usize) -> bool,
        writer: &PixelWriter,
    ) {
        let out = self.rect(shape, enc::CURSOR);
        writer.put_pixels(pixels, out);
        let width = usize::from(shape.w);
        for row in 0..usize::from(shape.h) {
            for byte in 0..width.div_ceil(8) {
                let bits = (0..8).filter(|bit| {
                    let x = byte * 8 + bit;
                    x < width && visible(row * width + x)
                });
                out.put_u8(bits.fold(0, |mask, bit| mask | 0x80 >> bit));
            }
        }
    }

    /// Cursor With Alpha, in Raw: `pixels` are `width` × `height` of `0xAARRGGBB`, colours premultiplied.
    pub fn cursor_with_alpha(&mut self, shape: Rect, pixels: &[u32]) {
        let out = self.rect(shape, enc::CURSOR_WITH_ALPHA);
        out.put_i32(enc::RAW);
        for p in pixels {
            let [a, r, g, b] = p.to_be_bytes();
            out.put_bytes(&[r, g, b, a]);
        }
    }

    /// VMware Cursor with alpha: `pixels` are `width` × `height` of `0xAARRGGBB`, colours as they are before they are
    /// multiplied by alpha.
    pub fn vmware_cursor(&mut self, shape: Rect, pixels: &[u32]) {
        let out = self.rect(shape, enc::VMWARE_CURSOR);
        out.put_bytes(&[1, 0]);
        for p in pixels {
            let [a, r, g, b] = p.to_be_bytes();
            out.put_bytes(&[r, g, b, a]);
        }
    }

    /// JPEG, for clients that listed it. Tables may be left out where they are those of the picture before.
    pub fn jpeg(&mut self, rect: Rect, picture: &[u8]) {
        self.rect(rect, enc::JPEG).put_bytes(picture);
    }

    /// Tight PNG's PngCompression, at most 2,048 pixels wide; `false` and nothing when the picture has more bytes than
    /// the encoding can carry.
    pub fn tight_png(&mut self, rect: Rect, picture: &[u8]) -> bool {
        if picture.len() > MAX_COMPACT_LENGTH {
            return false;
        }
        let out = self.rect(rect, enc::TIGHT_PNG);
        out.put_u8(0xa0);
        out.put_compact_length(picture.len());
        out.put_bytes(picture);
        true
    }

    /// Open H.264: whole frames as a byte stream, or none where only the flags are to be told.
    pub fn h264(&mut self, rect: Rect, reset: H264Reset, data: &[u8]) {
        let out = self.rect(rect, enc::OPEN_H264);
        out.put_u32(data.len() as u32);
        out.put_u32(reset as u32);
        out.put_bytes(data);
    }

    /// LastRect, for a message whose count was given as unknown; this builder always knows its count, so only relays and
    /// tests need it.
    pub fn last_rect(&mut self) {
        self.rect(Rect::default(), enc::LAST_RECT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_counts_its_rectangles() {
        let mut out = vec![9];
        let mut update = Update::new(&mut out);
        update.copy_rect(Rect::new(1, 2, 3, 4), 5, 6);
        update.desktop_size(7, 8);
        assert_eq!(update.finish(), 2);
        let copy = [0, 1, 0, 2, 0, 3, 0, 4, 0, 0, 0, 1, 0, 5, 0, 6];
        let size = [0, 0, 0, 0, 0, 7, 0, 8, 0xff, 0xff, 0xff, 0x21];
        assert_eq!(out, [&[9, 0, 0, 0, 2][..], &copy, &size].concat());
    }

    #[test]
    fn an_update_without_rectangles_is_not_sent() {
        let mut out = vec![9];
        assert_eq!(Update::new(&mut out).finish(), 0);
        assert_eq!(out, [9]);
    }

    #[test]
    fn more_rectangles_than_a_message_holds_become_two() {
        let mut out = Vec::new();
        let mut update = Update::new(&mut out);
        for _ in 0..65_535 {
            update.acknowledge(enc::QEMU_EXTENDED_KEY);
        }
        assert_eq!(update.finish(), 65_535);
        assert_eq!(out[2..4], 65_534u16.to_be_bytes());
        assert_eq!(out[4 + 65_534 * 12..][..4], [0, 0, 0, 1]);
    }

    #[test]
    fn a_cursor_s_mask_is_padded_per_row() {
        let mut out = Vec::new();
        let mut update = Update::new(&mut out);
        let pixels = [0u32; 18];
        update.cursor(Rect::new(1, 1, 9, 2), &pixels, |i| i % 9 == 8, &PixelWriter::new(PixelFormat::BGR233));
        update.finish();
        assert_eq!(out[4 + 12 + 18..], [0, 0x80, 0, 0x80]);
    }
}
