//! Counting the colours of an area, up to 256, and finding a colour's index again.

/// Slots of the hash table: four times the colours, so that probes are short.
const SLOTS: usize = 1024;

/// The most colours that are counted.
pub(crate) const MAX_COLOURS: usize = 256;

/// Up to 256 colours in the order in which they were met.
#[derive(Clone)]
pub(crate) struct Palette {
    colours: Vec<u32>,
    /// Index plus one of the colour in each slot; 0 is free.
    slots: [u16; SLOTS],
}

impl Palette {
    pub(crate) fn new() -> Self {
        Self { colours: Vec::with_capacity(MAX_COLOURS), slots: [0; SLOTS] }
    }

    pub(crate) fn clear(&mut self) {
        self.colours.clear();
        self.slots.fill(0);
    }

    pub(crate) fn colours(&self) -> &[u32] {
        &self.colours
    }

    /// The slot that holds the colour, or the free one where it belongs.
    fn slot(&self, colour: u32) -> usize {
        let mut slot = (colour.wrapping_mul(0x9e37_79b1) >> 22) as usize;
        loop {
            match self.slots[slot] {
                0 => return slot,
                i if self.colours[usize::from(i) - 1] == colour => return slot,
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }

    /// Adds a colour; `false` when there is no room for it.
    pub(crate) fn add(&mut self, colour: u32) -> bool {
        let slot = self.slot(colour);
        if self.slots[slot] == 0 {
            if self.colours.len() == MAX_COLOURS {
                return false;
            }
            self.colours.push(colour);
            self.slots[slot] = self.colours.len() as u16;
        }
        true
    }

    /// Adds all of another's colours, or none when there is no room for them.
    pub(crate) fn merge(&mut self, colours: &[u32]) -> bool {
        let before = self.colours.len();
        let fits = colours.iter().all(|&c| self.add(c));
        if !fits {
            let kept: Vec<u32> = self.colours[..before].to_vec();
            self.clear();
            kept.into_iter().for_each(|c| {
                self.add(c);
            });
        }
        fits
    }

    /// The index of a colour that was added.
    pub(crate) fn index(&self, colour: u32) -> u8 {
        self.slots[self.slot(colour)].wrapping_sub(1) as u8
    }

    /// Appends the index of every pixel.
    pub(crate) fn put_indices(&self, row: &[u32], out: &mut Vec<u8>) {
        let mut last = (0u32, None);
        out.extend(row.iter().map(|&p| match last {
            (colour, Some(i)) if colour == p => i,
            _ => {
                let i = self.index(p);
                last = (p, Some(i));
                i
            }
        }));
    }
}

/// What a look at an area told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// There are more than 256 colours; the look ended there.
    pub(crate) overflow: bool,
    /// Pixels that were looked at.
    pub(crate) pixels: u32,
    /// Of these, those that differ from the one before in the row.
    pub(crate) edges: u32,
}

impl Scan {
    /// Most pixels differ from their neighbour: photographs and dithered gradients, not text or drawings.
    pub(crate) fn is_busy(&self) -> bool {
        self.edges * 2 > self.pixels
    }
}

/// Pixels that differ from the one before in the row.
pub(crate) fn changes(row: &[u32]) -> u32 {
    row.iter().zip(row.iter().skip(1)).map(|(a, b)| u32::from(a != b)).sum()
}

/// Counts colours of rows into `palette`, which should be empty.
pub(crate) fn scan<'a>(rows: impl Iterator<Item = &'a [u32]>, palette: &mut Palette) -> Scan {
    let mut result = Scan::default();
    for row in rows {
        let Some(&first) = row.first() else { continue };
        let mut rest = row.iter();
        let mut last = first;
        let mut fits = palette.add(first);
        while let (true, Some(&p)) = (fits, rest.next()) {
            if p != last {
                last = p;
                result.edges += 1;
                fits = palette.add(p);
            }
        }
        result.pixels += (row.len() - rest.as_slice().len()) as u32;
        if !fits {
            result.overflow = true;
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_found_again_at_its_index() {
        let mut p = Palette::new();
        let colours: Vec<u32> = (0..256).map(|i| i * 0x01_01_01).collect();
        assert!(colours.iter().all(|&c| p.add(c)) && colours.iter().all(|&c| p.add(c)));
        assert!(!p.add(0x00ab_cdef));
        for (i, &c) in colours.iter().enumerate() {
            assert_eq!(usize::from(p.index(c)), i);
        }
    }

    #[test]
    fn a_merge_that_does_not_fit_changes_nothing() {
        let mut p = Palette::new();
        assert!(p.merge(&(0..200).collect::<Vec<_>>()));
        assert!(!p.merge(&(150..300).collect::<Vec<_>>()));
        assert_eq!(p.colours(), (0..200).collect::<Vec<_>>());
        assert!(p.merge(&(150..256).collect::<Vec<_>>()));
        assert_eq!(p.index(255), 255);
    }

    #[test]
    fn text_is_calm_and_noise_is_busy() {
        let text: Vec<u32> = (0..4096).map(|i| u32::from(i % 8 == 0)).collect();
        let noise: Vec<u32> = (0..4096u32).map(|i| i.wrapping_mul(2_654_435_761) >> 8).collect();
        let look = |pixels: &[u32]| scan(pixels.chunks(64), &mut Palette::new());
        let (text, noise) = (look(&text), look(&noise));
        assert!(!text.is_busy() && !text.overflow);
        assert!(noise.is_busy() && noise.overflow && noise.pixels < 400);
    }
}
