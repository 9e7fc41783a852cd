//! Rectangles of each encoding, several in a row, because decoders remember what was before.
//!
//! An input is `[format, mode, pieces]`, then rectangles: x, y, width, height of a byte each, the length of the data in
//! two, and the data. With an odd mode, what an encoding packs by zlib is packed here, so that more than zlib is met.

use crate::input::{Input, pieces};
use crate::messages::{formats, small_rect};
use lucarne_rfb::client::{Codecs, Framebuffer, ServerEvent, Viewer};
use lucarne_rfb::encodings as enc;
use lucarne_rfb::server::write::{Update, server_init};
use lucarne_rfb::wire::Put;
use lucarne_rfb::{PixelFormat, Rect};

/// Raw and CopyRect.
pub fn raw(data: &[u8]) {
    show(data, &[enc::RAW, enc::COPY_RECT]);
}

/// Hextile.
pub fn hextile(data: &[u8]) {
    show(data, &[enc::HEXTILE]);
}

/// zlib.
pub fn zlib(data: &[u8]) {
    show(data, &[enc::ZLIB]);
}

/// ZRLE.
pub fn zrle(data: &[u8]) {
    show(data, &[enc::ZRLE]);
}

/// Tight and Tight PNG.
pub fn tight(data: &[u8]) {
    show(data, &[enc::TIGHT, enc::TIGHT, enc::TIGHT_PNG]);
}

/// JPEG.
pub fn jpeg(data: &[u8]) {
    show(data, &[enc::JPEG]);
}

/// Open H.264.
pub fn h264(data: &[u8]) {
    show(data, &[enc::OPEN_H264]);
}

/// The pointer's shapes.
pub fn cursor(data: &[u8]) {
    show(data, &enc::CURSORS);
}

/// The framebuffer's size, pixels each way.
pub const SIDE: u16 = 80;

/// Rectangles of these encodings in turn.
fn show(data: &[u8], encodings: &[i32]) {
    let mut input = Input(data);
    let (format, mode, cut) = (input.one_of(&formats()), input.u8(), input.u8());
    let mut bytes = Vec::new();
    server_init(SIDE, SIDE, &format, "", &mut bytes);
    let mut packer = (mode & 1 != 0).then(|| Packer::new(format));
    let mut update = Update::new(&mut bytes);
    for encoding in encodings.iter().cycle() {
        if input.is_empty() {
            break;
        }
        let rect = small_rect(&mut input);
        let length = input.u16();
        let data = input.bytes(length.into());
        let out = update.rect(rect, *encoding);
        match &mut packer {
            Some(packer) => packer.pack(*encoding, rect, data, out),
            None => out.put_bytes(data),
        }
    }
    update.finish();
    watch(&bytes, cut, || Viewer::with_codecs(codecs()).limited_to(u64::from(SIDE) * u64::from(SIDE)));
}

/// One rectangle of an input.
#[must_use]
pub fn record(rect: Rect, data: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = [rect.x, rect.y, rect.w, rect.h].map(|n| n as u8).into();
    out.put_u16(data.len() as u16);
    out.put_bytes(data);
    out
}

/// Packs what an encoding wants packed, as the other end of the viewer's streams would.
struct Packer {
    format: PixelFormat,
    /// Tight's; the first is also the one of the other encodings.
    streams: [Stream; 4],
}

impl Packer {
    fn new(format: PixelFormat) -> Self {
        Self { format, streams: [const { Stream::new() }; 4] }
    }

    fn pack(&mut self, encoding: i32, rect: Rect, data: &[u8], out: &mut Vec<u8>) {
        match encoding {
            enc::ZRLE => self.streams[0].put_behind_length(data, out),
            enc::ZLIB => {
                let size = rect.area() as usize * self.format.bytes_per_pixel();
                self.streams[0].put_behind_length(&repeated(data, size), out);
            }
            enc::TIGHT => self.pack_tight(rect, data, out),
            _ => out.put_bytes(data),
        }
    }

    fn pack_tight(&mut self, rect: Rect, data: &[u8], out: &mut Vec<u8>) {
        let pixel = self.format.bytes_per_tpixel();
        let (control, filter) = (data.first().copied().unwrap_or(0), data.get(1).copied());
        if control >> 4 > 7 {
            return out.put_bytes(data);
        }
        let colours = data.get(2).map_or(0, |n| usize::from(*n) + 1);
        let (head, row) = match (control & 0x40 != 0, filter) {
            (true, Some(1)) if colours == 2 => (3 + 2 * pixel, usize::from(rect.w).div_ceil(8)),
            (true, Some(1)) => (3 + colours * pixel, usize::from(rect.w)),
            (true, _) => (2, usize::from(rect.w) * pixel),
            (false, _) => (1, usize::from(rect.w) * pixel),
        };
        let (head, rest) = data.split_at(head.min(data.len()));
        out.put_bytes(head);
        let plain = repeated(rest, row * usize::from(rect.h));
        if plain.len() < 12 {
            return out.put_bytes(&plain);
        }
        (0..4).filter(|i| control >> i & 1 != 0).for_each(|i| self.streams[i] = Stream::new());
        let piece = self.streams[usize::from(control >> 4 & 3)].piece(&plain);
        out.put_compact_length(piece.len());
        out.put_bytes(&piece);
    }
}

/// A zlib stream (RFC 1950) of stored blocks (RFC 1951, section 3.2.4): quickly made, and as good as any to those who
/// look at what is in it.
#[derive(Clone)]
pub(crate) struct Stream {
    begun: bool,
}

impl Stream {
    pub(crate) const fn new() -> Self {
        Self { begun: false }
    }

    /// The stream's next bytes, up to a whole one.
    pub(crate) fn piece(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = if self.begun { vec![] } else { vec![0x78, 0x01] };
        self.begun = true;
        for block in plain.chunks(usize::from(u16::MAX)) {
            let length = block.len() as u16;
            out.push(0);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&(!length).to_le_bytes());
            out.extend_from_slice(block);
        }
        out
    }

    fn put_behind_length(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let piece = self.piece(plain);
        out.put_u32(piece.len() as u32);
        out.put_bytes(&piece);
    }
}

/// As many bytes as are needed, from the start again when they are used up; no more than the framebuffer needs.
fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    let length = length.min(usize::from(SIDE) * usize::from(SIDE) * 4);
    let bytes = if bytes.is_empty() { &[0] } else { bytes };
    bytes.iter().copied().cycle().take(length).collect()
}

/// Pictures of one colour, which is their length; those that begin with zero are broken.
#[must_use]
pub fn codecs() -> Codecs {
    let picture = |data: &[u8], w: u16, h: u16| {
        let whole = data.first().is_some_and(|b| *b != 0);
        whole.then(|| vec![data.len() as u32; usize::from(w) * usize::from(h)])
    };
    Codecs {
        jpeg: Some(Box::new(picture)),
        png: Some(Box::new(picture)),
        h264: Some(Box::new(move |f| {
            assert!(f.context < 64 && !f.data.is_empty());
            picture(f.data, f.rect.w, f.rect.h)
        })),
    }
}

/// Shows a viewer the bytes whole, and another one in pieces: they must see the same.
pub fn watch(bytes: &[u8], cut: u8, viewer: impl Fn() -> Viewer) {
    let whole = see(viewer(), [bytes]);
    let parts = see(viewer(), pieces(bytes, cut));
    assert!(whole.0 == parts.0 && whole.1 == parts.1, "{:?}\n{:?}", whole.0, parts.0);
    // What an update of Raw or Hextile has drawn when it breaks off depends on nothing else than its bytes.
    assert!(whole.2 == parts.2, "two different pictures");
}

type Seen = (Vec<ServerEvent>, Option<String>, Framebuffer);

fn see<'a>(mut viewer: Viewer, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(error) = viewer.feed(piece) {
            return (events, Some(error.to_string()), viewer.framebuffer().clone());
        }
        loop {
            match viewer.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(format!("{error:?}")), viewer.framebuffer().clone()),
            }
        }
    }
    (events, None, viewer.framebuffer().clone())
}
