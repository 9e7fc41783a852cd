//! Taking an input apart: small numbers first, and the rest whole or in pieces.

/// What is left of an input. Numbers that are not there are 0.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next `n` bytes, or as many as there are.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number<const N: usize>(&mut self) -> [u8; N] {
        let mut number = [0; N];
        let taken = self.bytes(N);
        number[..taken.len()].copy_from_slice(taken);
        number
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.number())
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.number())
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.number())
    }

    /// Four bytes, big-endian.
    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.number())
    }

    /// One of a list, which is not empty.
    pub fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[usize::from(self.u8()) % list.len()].clone()
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes in pieces whose lengths a number decides: all of one length, or growing.
pub fn pieces(bytes: &[u8], number: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, grows) = (bytes, number & 0x80 != 0);
    let mut length = usize::from(number & 0x7f).max(1);
    std::iter::from_fn(move || {
        let (piece, left) = rest.split_at(length.min(rest.len()));
        rest = left;
        length += usize::from(grows);
        (!piece.is_empty()).then_some(piece)
    })
}
