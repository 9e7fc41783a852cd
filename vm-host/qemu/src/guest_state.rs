//! What a guest needs to go on, as QEMU writes it when it migrates, without what a fresh QEMU has already: the pages of memory that
//! are still as their template has them, or that are zero where there is no template.
//!
//! A resumed guest's memory begins as a private map of the same template, so only what its user's work has changed is written, read and
//! kept. What is left is still a stream that QEMU loads.
//!
//! The stream's form: QEMU's docs/devel/migration/main.rst, "Stream structure", and `ram_save_setup`, `ram_load_precopy` in its
//! migration/ram.c. QEMU 10.0 is the version looked at; of another form nothing is kept, and the guest goes on.

use crate::device_state::{self, DeviceStateError};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

/// Bytes of a page of guest memory.
const PAGE: usize = 4096;

/// Bytes of the template's memory that are read at once: pages come in order, mostly.
const AHEAD: usize = 1 << 20;

/// The most that devices may have, bytes: the display's pictures are with them, and its own limit is 256 MiB.
const MAX_DEVICES: u64 = 512 << 20;

/// The most blocks of memory that a machine has: its memory, the display's, and some ROMs.
const MAX_BLOCKS: usize = 64;

/// The block that begins as the template's memory (`memory-backend=mem`).
const MEMORY: &[u8] = b"mem";

const MAGIC: [u8; 8] = *b"QEVM\0\0\0\x03";

/// What begins a part of the stream.
mod part {
    pub const SECTION_START: u8 = 1;
    pub const SECTION_PART: u8 = 2;
    pub const SECTION_END: u8 = 3;
    pub const SECTION_FULL: u8 = 4;
    pub const CONFIGURATION: u8 = 7;
    pub const COMMAND: u8 = 8;
    pub const FOOTER: u8 = 0x7e;
}

/// The lowest bits of a page's address (`RAM_SAVE_FLAG_…`).
mod flag {
    pub const ZERO: u64 = 0x02;
    pub const BLOCKS: u64 = 0x04;
    pub const PAGE: u64 = 0x08;
    pub const END: u64 = 0x10;
    pub const SAME_BLOCK: u64 = 0x20;
    pub const ALL: u64 = 0xfff;
}

/// Why a guest's state was not kept.
#[derive(Debug, thiserror::Error)]
pub enum GuestStateError {
    /// QEMU's end of the stream.
    #[error("what QEMU writes of the guest cannot be read")]
    Read(#[source] io::Error),
    /// Where it goes.
    #[error("the guest's state cannot be written")]
    Write(#[source] io::Error),
    /// The template.
    #[error("the template's memory cannot be read")]
    Template(#[source] io::Error),
    /// Another version of QEMU.
    #[error("the guest's state has {what} at byte {at}: this version of QEMU writes another form")]
    Unknown {
        /// What.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// More than any machine has.
    #[error("the guest's devices have more than {} MiB of state", MAX_DEVICES >> 20)]
    TooMuch,
    /// The display device.
    #[error(transparent)]
    Device(#[from] DeviceStateError),
}

use GuestStateError::Unknown;

/// What was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Pages of the guest's memory that are not as where it began.
    pub pages: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

/// The memory that a guest began with.
pub struct Start<'a> {
    /// Its size, bytes.
    pub size: u64,
    /// Its template's; none began as zero.
    pub template: Option<&'a File>,
}

/// Copies what QEMU writes when a guest migrates, without the pages that are as it began.
///
/// # Errors
/// What was written is of no use then.
pub fn keep(from: impl Read, to: impl Write, start: &Start<'_>) -> Result<Kept, GuestStateError> {
    let mut copy = Copy {
        from,
        at: 0,
        to,
        written: 0,
        blocks: Vec::new(),
        reading: None,
        writing: None,
        began: Began { start, ahead: vec![0; AHEAD], ahead_at: None },
        kept: vec![
            0;
            usize::try_from(start.size / PAGE as u64 / 64 + 1).map_err(|_| GuestStateError::TooMuch)?
        ],
    };
    copy.memory()?;
    copy.devices()?;
    let pages = copy.kept.iter().map(|word| u64::from(word.count_ones())).sum();
    Ok(Kept { pages, bytes: copy.written })
}

/// What the guest's memory began as.
struct Began<'a> {
    start: &'a Start<'a>,
    ahead: Vec<u8>,
    ahead_at: Option<u64>,
}

impl Began<'_> {
    /// Whether this page is as it began.
    fn has(&mut self, at: u64, page: &[u8; PAGE]) -> Result<bool, GuestStateError> {
        let Some(file) = self.start.template else { return Ok(*page == [0; PAGE]) };
        let ahead = at / AHEAD as u64 * AHEAD as u64;
        if self.ahead_at != Some(ahead) {
            self.ahead_at = None;
            let length = (self.start.size - ahead).min(AHEAD as u64) as usize;
            file.read_exact_at(&mut self.ahead[..length], ahead).map_err(GuestStateError::Template)?;
            self.ahead_at = Some(ahead);
        }
        let from = (at - ahead) as usize;
        Ok(self.ahead[from..from + PAGE] == *page)
    }
}

struct Block {
    name: Vec<u8>,
    length: u64,
}

struct Copy<'a, R, W> {
    from: R,
    at: u64,
    to: W,
    written: u64,
    blocks: Vec<Block>,
    /// The block of the last page, in what is read and in what is written.
    reading: Option<usize>,
    writing: Option<usize>,
    began: Began<'a>,
    /// Pages of memory that were written once: what comes later of them counts, whatever it is.
    kept: Vec<u64>,
}

impl<R: Read, W: Write> Copy<'_, R, W> {
    fn unknown(&self, what: &'static str) -> GuestStateError {
        Unknown { what, at: self.at }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GuestStateError> {
        self.from.read_exact(bytes).map_err(GuestStateError::Read)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GuestStateError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), GuestStateError> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes).map_err(GuestStateError::Write)
    }

    /// Copies these many bytes and gives them.
    fn pass<const N: usize>(&mut self) -> Result<[u8; N], GuestStateError> {
        let bytes = self.take()?;
        self.put(&bytes)?;
        Ok(bytes)
    }

    fn pass_long(&mut self, length: usize) -> Result<Vec<u8>, GuestStateError> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        self.put(&bytes)?;
        Ok(bytes)
    }

    /// Copies everything up to the end of the memory's last section.
    fn memory(&mut self) -> Result<(), GuestStateError> {
        if self.pass()? != MAGIC {
            return Err(self.unknown("no mark of a migration"));
        }
        let mut number = None;
        loop {
            let [kind] = self.pass()?;
            match kind {
                part::CONFIGURATION => {
                    // The machine's name; no capability that is saved with it is in use.
                    let length = u32::from_be_bytes(self.pass()?);
                    if length > 255 {
                        return Err(self.unknown("a machine with a long name"));
                    }
                    self.pass_long(length as usize)?;
                }
                part::COMMAND => {
                    let [_, _, high, low] = self.pass()?;
                    self.pass_long(u16::from_be_bytes([high, low]).into())?;
                }
                part::SECTION_START if number.is_none() => {
                    let own: [u8; 4] = self.pass()?;
                    let [length] = self.pass()?;
                    if self.pass_long(length.into())? != b"ram" {
                        return Err(self.unknown("something else than memory"));
                    }
                    if self.pass()? != [0, 0, 0, 0, 0, 0, 0, 4] {
                        return Err(self.unknown("memory of another version"));
                    }
                    number = Some(own);
                    self.pages(own)?;
                }
                part::SECTION_PART | part::SECTION_END => {
                    let own = self.pass()?;
                    if number != Some(own) {
                        return Err(self.unknown("a part of something else than memory"));
                    }
                    self.pages(own)?;
                    if kind == part::SECTION_END {
                        return Ok(());
                    }
                }
                part::SECTION_FULL => return Err(self.unknown("a device before the end of the memory")),
                _ => return Err(self.unknown("a part of an unknown kind")),
            }
        }
    }

    /// Copies the pages of a section of memory up to its end.
    fn pages(&mut self, number: [u8; 4]) -> Result<(), GuestStateError> {
        loop {
            let word = u64::from_be_bytes(self.take()?);
            let (address, flags) = (word & !flag::ALL, word & flag::ALL);
            match flags & !flag::SAME_BLOCK {
                flag::BLOCKS => {
                    self.put(&word.to_be_bytes())?;
                    self.blocks(address)?;
                }
                kind @ (flag::ZERO | flag::PAGE) => {
                    if flags & flag::SAME_BLOCK == 0 {
                        self.reading = Some(self.block()?);
                    }
                    self.page(address, kind)?;
                }
                flag::END => {
                    self.put(&word.to_be_bytes())?;
                    break;
                }
                _ => return Err(self.unknown("a page of an unknown kind")),
            }
        }
        if self.pass()? != [part::FOOTER] || self.pass()? != number {
            return Err(self.unknown("no end of a section"));
        }
        Ok(())
    }

    /// Copies the list of the machine's blocks of memory, which have so many bytes together.
    fn blocks(&mut self, mut total: u64) -> Result<(), GuestStateError> {
        if !self.blocks.is_empty() {
            return Err(self.unknown("a second list of memory"));
        }
        while total > 0 {
            let [length] = self.pass()?;
            let name = self.pass_long(length.into())?;
            let length = u64::from_be_bytes(self.pass()?);
            let fits = length != 0 && length <= total && self.blocks.len() < MAX_BLOCKS;
            if !fits || name == MEMORY && length != self.began.start.size {
                return Err(self.unknown("memory of another size"));
            }
            total -= length;
            self.blocks.push(Block { name, length });
        }
        Ok(())
    }

    /// Which block is named next.
    fn block(&mut self) -> Result<usize, GuestStateError> {
        let [length] = self.take()?;
        let mut name = vec![0; length.into()];
        self.fill(&mut name)?;
        let found = self.blocks.iter().position(|block| block.name == name);
        found.ok_or_else(|| self.unknown("a page of unknown memory"))
    }

    /// Copies a page, unless it is as it began.
    fn page(&mut self, address: u64, kind: u64) -> Result<(), GuestStateError> {
        let Some(n) = self.reading else { return Err(self.unknown("a page of no memory")) };
        if self.blocks[n].length.saturating_sub(address) < PAGE as u64 {
            return Err(self.unknown("a page outside of its memory"));
        }
        let mut page = [0; PAGE];
        if kind == flag::PAGE {
            self.fill(&mut page)?;
        } else if self.take()? != [0] {
            return Err(self.unknown("a page that is filled with something"));
        }
        if self.blocks[n].name == MEMORY {
            let index = address / PAGE as u64;
            let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
            if self.kept[word] & bit == 0 && self.began.has(address, &page)? {
                return Ok(());
            }
            self.kept[word] |= bit;
        }
        if self.writing == Some(n) {
            self.put(&(address | kind | flag::SAME_BLOCK).to_be_bytes())?;
        } else {
            self.put(&(address | kind).to_be_bytes())?;
            let name = self.blocks[n].name.clone();
            // It came as a byte.
            self.put(&[name.len() as u8])?;
            self.put(&name)?;
            self.writing = Some(n);
        }
        if kind == flag::PAGE { self.put(&page) } else { self.put(&[0]) }
    }

    /// Copies the rest, which is the devices, so that it can be loaded.
    fn devices(&mut self) -> Result<(), GuestStateError> {
        let mut state = Vec::new();
        (&mut self.from).take(MAX_DEVICES + 1).read_to_end(&mut state).map_err(GuestStateError::Read)?;
        if state.len() as u64 > MAX_DEVICES {
            return Err(GuestStateError::TooMuch);
        }
        device_state::mend_if_known(&mut state)?;
        self.put(&state)?;
        self.to.flush().map_err(GuestStateError::Write)
    }
}

#[cfg(test)]
#[path = "guest_state_tests.rs"]
mod tests;
