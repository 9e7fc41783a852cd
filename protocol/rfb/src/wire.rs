//! Reading and writing big-endian fields, and the buffer that incoming bytes wait in. Knows no message.

/// A cursor over bytes that may not all have arrived: every read gives `None` when there are too few.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, pos: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.pos
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.data.len() - self.pos
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.pos.checked_add(n)?;
        let slice = self.data.get(self.pos..end)?;
        self.pos = end;
        Some(slice)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// `U8`.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(|[b]| b)
    }

    /// `U16`.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// `U32`.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// `S32`.
    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Tight's compact length (rfbproto, "Tight Encoding"): 7, 7 and 8 bits, lowest first, as far as there are any.
    pub fn compact_length(&mut self) -> Option<usize> {
        let mut length = 0;
        for (shift, mask) in [(0, 0x7f), (7, 0x7f), (14, 0xff)] {
            let byte = usize::from(self.u8()?);
            length |= (byte & mask) << shift;
            if shift < 14 && byte & 0x80 == 0 {
                break;
            }
        }
        Some(length)
    }

    /// x, y, width, height as four `U16`.
    pub fn rect(&mut self) -> Option<crate::Rect> {
        let [x, y, w, h] = [self.u16()?, self.u16()?, self.u16()?, self.u16()?];
        Some(crate::Rect { x, y, w, h })
    }
}

/// The longest data that a compact length can announce, bytes.
pub const MAX_COMPACT_LENGTH: usize = (1 << 22) - 1;

/// Appends big-endian fields.
pub trait Put {
    /// `U8`.
    fn put_u8(&mut self, v: u8);
    /// `U16`.
    fn put_u16(&mut self, v: u16);
    /// `U32`.
    fn put_u32(&mut self, v: u32);
    /// `S32`.
    fn put_i32(&mut self, v: i32);
    /// Zero bytes.
    fn put_padding(&mut self, n: usize);
    /// Bytes as they are.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// Tight's compact length, at most [`MAX_COMPACT_LENGTH`].
    fn put_compact_length(&mut self, n: usize) {
        debug_assert!(n <= MAX_COMPACT_LENGTH);
        let low = |shift: u32| (n >> shift & 0x7f) as u8;
        match n {
            0..0x80 => self.put_u8(low(0)),
            0x80..0x4000 => self.put_bytes(&[low(0) | 0x80, low(7)]),
            _ => self.put_bytes(&[low(0) | 0x80, low(7) | 0x80, (n >> 14) as u8]),
        }
    }
    /// x, y, width, height as four `U16`.
    fn put_rect(&mut self, r: crate::Rect) {
        for v in [r.x, r.y, r.w, r.h] {
            self.put_u16(v);
        }
    }
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, v: u8) {
        self.push(v);
    }
    fn put_u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put_u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put_i32(&mut self, v: i32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn put_padding(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Bytes that arrived and are not parsed yet.
#[derive(Default)]
pub(crate) struct Input {
    buf: Vec<u8>,
    pos: usize,
}

impl Input {
    pub(crate) fn from_bytes(buf: Vec<u8>) -> Self {
        Self { buf, pos: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Moving the rest down only when at least half is spent keeps the cost linear in the bytes fed.
        if self.pos > 0 && self.pos >= self.buf.len() / 2 {
            self.buf.drain(..self.pos);
            self.pos = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    pub(crate) fn pending(&self) -> &[u8] {
        &self.buf[self.pos..]
    }

    pub(crate) fn len(&self) -> usize {
        self.buf.len() - self.pos
    }

    /// Drops the first `n` pending bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.pos = (self.pos + n).min(self.buf.len());
        if self.pos == self.buf.len() {
            self.buf.clear();
            self.pos = 0;
            // One large message should not pin its memory for the life of the connection.
            if self.buf.capacity() > 256 * 1024 {
                self.buf.shrink_to(64 * 1024);
            }
        }
    }

    /// Takes everything that is pending.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let rest = self.pending().to_vec();
        self.buf = Vec::new();
        self.pos = 0;
        rest
    }
}

// Pending bytes may hold a password.
impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({} bytes)", self.len())
    }
}

/// Decodes ISO 8859-1, in which every byte is the code point of the same number.
#[must_use]
pub fn from_latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// Encodes ISO 8859-1; what it has no byte for becomes `?`.
#[must_use]
pub fn to_latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_gives_none_and_consumes_nothing() {
        let mut r = Reader::new(&[1, 2, 3]);
        assert_eq!(r.u16(), Some(0x0102));
        assert_eq!((r.u32(), r.consumed(), r.remaining()), (None, 2, 1));
        assert_eq!(r.u8(), Some(3));
    }

    #[test]
    fn compact_lengths_are_as_the_specification_shows() {
        for (length, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (10_000, &[0x90, 0x4e]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 1]),
            (MAX_COMPACT_LENGTH, &[0xff, 0xff, 0xff]),
        ] {
            let mut out = Vec::new();
            out.put_compact_length(length);
            assert_eq!(out, bytes, "{length}");
            assert_eq!(Reader::new(bytes).compact_length(), Some(length));
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).compact_length(), None);
        }
    }

    #[test]
    fn input_keeps_order_over_pushes_and_consumes() {
        let mut i = Input::default();
        let mut seen = Vec::new();
        for chunk in (0u8..=255).collect::<Vec<_>>().chunks(7) {
            i.push(chunk);
            let n = i.len().min(5);
            seen.extend_from_slice(&i.pending()[..n]);
            i.consume(n);
        }
        seen.extend(i.take());
        assert_eq!(seen, (0u8..=255).collect::<Vec<_>>());
    }

    #[test]
    fn latin1_round_trips_and_replaces_what_it_cannot_hold() {
        assert_eq!(from_latin1(&to_latin1("né")), "né");
        assert_eq!(to_latin1("€"), b"?");
    }
}
