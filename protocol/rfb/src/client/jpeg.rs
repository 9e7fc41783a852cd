//! JPEG as an encoding of its own (rfbproto, "JPEG Encoding"): a picture without a length before it. Its markers tell where
//! it ends (ITU-T T.81, annex B), and tables that it leaves out are those of the pictures before.

use super::codecs::Codecs;
use super::decode::{DecodeError, MAX_RECT_BYTES};
use super::framebuffer::Framebuffer;
use crate::rect::Rect;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DHT: u8 = 0xc4;

/// The decoder's memory: where the present picture was looked at up to, and tables.
#[derive(Debug, Default)]
pub(super) struct Jpeg {
    scan: Scan,
    known: Tables,
}

impl Jpeg {
    /// Draws the picture that `bytes` begin with and gives its length; `None` until it is whole.
    pub(super) fn rect(
        &mut self,
        rect: Rect,
        bytes: &[u8],
        codecs: &mut Codecs,
        fb: &mut Framebuffer,
    ) -> Result<Option<usize>, DecodeError> {
        if !self.scan.advance(bytes)? {
            if bytes.len() > MAX_RECT_BYTES {
                return Err(DecodeError::Rules("a JPEG of more than 64 MiB"));
            }
            return Ok(None);
        }
        let Scan { at: end, tables, .. } = std::mem::take(&mut self.scan);
        let picture = self.known.complete(&bytes[..end], &tables);
        self.known.learn(tables);
        let decoder = codecs.jpeg.as_mut().ok_or(DecodeError::Jpeg)?;
        let pixels = decoder(&picture, rect.w, rect.h).ok_or(DecodeError::Jpeg)?;
        if pixels.len() as u64 != rect.area() {
            return Err(DecodeError::Jpeg);
        }
        fb.put(rect, pixels.into_iter().map(|p| p & 0x00ff_ffff));
        Ok(Some(end))
    }
}

/// Looks for the end of a picture, at each byte once however they come.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes before this one are done with.
    at: usize,
    /// Within the data behind a start of scan, which ends at the next marker.
    in_data: bool,
    /// The tables that came in this picture.
    tables: Tables,
}

impl Scan {
    /// Goes on as far as the bytes reach; says whether the end was found, which is then at `at`.
    fn advance(&mut self, bytes: &[u8]) -> Result<bool, DecodeError> {
        loop {
            if self.in_data && !self.skip_data(bytes) {
                return Ok(false);
            }
            let &[first, marker, ref rest @ ..] = &bytes[self.at..] else { return Ok(false) };
            if first != 0xff || (self.at == 0) != (marker == SOI) {
                return Err(DecodeError::Rules("a JPEG with something else where a marker should be"));
            }
            match marker {
                // Any number of these may be before a marker.
                0xff => self.at += 1,
                EOI => {
                    self.at += 2;
                    return Ok(true);
                }
                SOI | 0x01 | 0xd0..=0xd7 => self.at += 2,
                0x00 => {
                    return Err(DecodeError::Rules("a JPEG with something else where a marker should be"));
                }
                _ => {
                    let Some(length) = rest.first_chunk().map(|b| usize::from(u16::from_be_bytes(*b))) else {
                        return Ok(false);
                    };
                    if length < 2 {
                        return Err(DecodeError::Rules("a JPEG segment that is shorter than its length"));
                    }
                    let Some(segment) = rest.get(2..length) else { return Ok(false) };
                    match marker {
                        DQT => self.tables.quantization(segment)?,
                        DHT => self.tables.huffman(segment)?,
                        _ => {}
                    }
                    self.at += 2 + length;
                    self.in_data = marker == SOS;
                }
            }
        }
    }

    /// Moves to the marker behind entropy-coded data, in which 0xff is followed by zero, a restart marker or itself.
    fn skip_data(&mut self, bytes: &[u8]) -> bool {
        while let Some(found) = bytes[self.at..].iter().position(|b| *b == 0xff) {
            self.at += found;
            match bytes.get(self.at + 1) {
                None => return false,
                Some(0x00 | 0xd0..=0xd7) => self.at += 2,
                Some(0xff) => self.at += 1,
                Some(_) => {
                    self.in_data = false;
                    return true;
                }
            }
        }
        self.at = bytes.len();
        false
    }
}

/// Tables by their numbers, as in their segments: each with its first byte, which has the number.
#[derive(Debug, Default)]
struct Tables {
    quantization: [Option<Vec<u8>>; 4],
    /// Four for DC, four for AC.
    huffman: [Option<Vec<u8>>; 8],
}

const BROKEN: DecodeError = DecodeError::Rules("a JPEG with a broken table");

impl Tables {
    fn quantization(&mut self, mut segment: &[u8]) -> Result<(), DecodeError> {
        while let Some(head) = segment.first() {
            let (wide, number) = (head >> 4, usize::from(head & 15));
            let length = match wide {
                0 => 1 + 64,
                1 => 1 + 128,
                _ => return Err(BROKEN),
            };
            let (table, rest) = segment.split_at_checked(length).ok_or(BROKEN)?;
            *self.quantization.get_mut(number).ok_or(BROKEN)? = Some(table.to_vec());
            segment = rest;
        }
        Ok(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Result<(), DecodeError> {
        while let Some(head) = segment.first() {
            let (class, number) = (head >> 4, usize::from(head & 15));
            if class > 1 || number > 3 {
                return Err(BROKEN);
            }
            let lengths = segment.get(1..17).ok_or(BROKEN)?;
            let codes: usize = lengths.iter().map(|n| usize::from(*n)).sum();
            if codes > 256 {
                return Err(BROKEN);
            }
            let (table, rest) = segment.split_at_checked(17 + codes).ok_or(BROKEN)?;
            self.huffman[usize::from(class) * 4 + number] = Some(table.to_vec());
            segment = rest;
        }
        Ok(())
    }

    /// The picture with the tables from here that are not its `own`, right after its start.
    fn complete<'a>(&self, picture: &'a [u8], own: &Self) -> std::borrow::Cow<'a, [u8]> {
        let missing = |known: &[Option<Vec<u8>>], own: &[Option<Vec<u8>>]| {
            let pairs = known.iter().zip(own).filter(|(_, own)| own.is_none());
            pairs.filter_map(|(known, _)| known.as_deref()).collect::<Vec<_>>().concat()
        };
        let mut added = Vec::new();
        for (marker, tables) in [
            (DQT, missing(&self.quantization, &own.quantization)),
            (DHT, missing(&self.huffman, &own.huffman)),
        ] {
            if !tables.is_empty() {
                added.extend([0xff, marker]);
                // Four of 129 bytes, or eight of 273, at most.
                added.extend((2 + tables.len() as u16).to_be_bytes());
                added.extend(tables);
            }
        }
        if added.is_empty() {
            return picture.into();
        }
        let (start, rest) = picture.split_at(2);
        [start, &added, rest].concat().into()
    }

    fn learn(&mut self, newer: Self) {
        let put = |known: &mut [Option<Vec<u8>>], newer: Vec<Option<Vec<u8>>>| {
            known.iter_mut().zip(newer).filter(|(_, n)| n.is_some()).for_each(|(k, n)| *k = n);
        };
        put(&mut self.quantization, newer.quantization.into());
        put(&mut self.huffman, newer.huffman.into());
    }
}

#[cfg(test)]
#[path = "jpeg_tests.rs"]
mod tests;
