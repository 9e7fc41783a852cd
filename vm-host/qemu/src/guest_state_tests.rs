use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Pages of the test's memory.
const PAGES: u64 = 600;

fn page(fill: u8) -> Vec<u8> {
    vec![fill; PAGE]
}

/// What QEMU writes, part by part.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    last: Option<&'static str>,
}

impl Stream {
    fn begin() -> Self {
        let mut stream = Self::default();
        stream.bytes.extend(MAGIC);
        stream.bytes.push(part::CONFIGURATION);
        stream.bytes.extend(11_u32.to_be_bytes());
        stream.bytes.extend(b"pc-q35-10.0");
        stream.bytes.extend([part::SECTION_START, 0, 0, 0, 2, 3]);
        stream.bytes.extend(b"ram");
        stream.bytes.extend([0, 0, 0, 0, 0, 0, 0, 4]);
        let blocks = [("mem", PAGES * PAGE as u64), ("vga.vram", 2 * PAGE as u64)];
        stream.word(blocks.iter().map(|(_, length)| length).sum::<u64>() | flag::BLOCKS);
        for (name, length) in blocks {
            stream.bytes.push(name.len() as u8);
            stream.bytes.extend(name.as_bytes());
            stream.word(length);
        }
        stream.end();
        stream
    }

    fn word(&mut self, word: u64) {
        self.bytes.extend(word.to_be_bytes());
    }

    fn end(&mut self) {
        self.word(flag::END);
        self.bytes.extend([part::FOOTER, 0, 0, 0, 2]);
    }

    fn part(&mut self, kind: u8, pages: &[(&'static str, u64, u8)]) {
        self.bytes.extend([kind, 0, 0, 0, 2]);
        for (block, n, fill) in pages {
            let kind = if *fill == 0 { flag::ZERO } else { flag::PAGE };
            let same = if self.last == Some(block) { flag::SAME_BLOCK } else { 0 };
            self.word((n * PAGE as u64) | kind | same);
            if same == 0 {
                self.bytes.push(block.len() as u8);
                self.bytes.extend(block.as_bytes());
                self.last = Some(block);
            }
            if *fill == 0 { self.bytes.push(0) } else { self.bytes.extend(page(*fill)) }
        }
        self.end();
    }

    fn devices(mut self) -> Vec<u8> {
        self.bytes.extend(b"\x04devices of some form");
        self.bytes
    }
}

/// Loads pages as QEMU does: each over what is there. What is loaded, and what comes after the memory.
fn load(stream: &[u8], memory: &mut BTreeMap<(Vec<u8>, u64), u8>) -> Vec<u8> {
    let (mut at, mut block) = (MAGIC.len() + 5 + 11 + 5 + 4 + 8, Vec::new());
    let word = |at: usize| u64::from_be_bytes(stream[at..at + 8].try_into().unwrap());
    loop {
        let (address, flags) = (word(at) & !flag::ALL, word(at) & flag::ALL);
        at += 8;
        if flags & flag::BLOCKS != 0 {
            let mut left = address;
            while left > 0 {
                let length = usize::from(stream[at]);
                left -= word(at + 1 + length);
                at += 9 + length;
            }
        } else if flags & flag::END != 0 {
            at += 5;
            if stream[at] == part::COMMAND {
                at += 5;
            }
            if !matches!(stream[at], part::SECTION_PART | part::SECTION_END) {
                return stream[at..].to_vec();
            }
            at += 5;
        } else {
            if flags & flag::SAME_BLOCK == 0 {
                let length = usize::from(stream[at]);
                block = stream[at + 1..=at + length].to_vec();
                at += 1 + length;
            }
            memory.insert((block.clone(), address / PAGE as u64), stream[at]);
            at += if flags & flag::ZERO == 0 { PAGE } else { 1 };
        }
    }
}

fn template() -> (File, Vec<u8>) {
    let fills: Vec<u8> = (0..PAGES).map(|n| (n % 7) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    for fill in &fills {
        file.write_all(&page(*fill)).unwrap();
    }
    (file, fills)
}

fn size() -> u64 {
    PAGES * PAGE as u64
}

fn refused(stream: &[u8]) -> String {
    keep(stream, io::sink(), &Start { size: size(), template: None }).unwrap_err().to_string()
}

#[test]
fn a_guest_that_changed_nothing_leaves_nothing_but_its_devices() {
    let (file, fills) = template();
    let mut stream = Stream::begin();
    let all: Vec<_> = fills.iter().zip(0..).map(|(fill, n)| ("mem", n, *fill)).collect();
    stream.part(part::SECTION_END, &all);
    let mut out = Vec::new();
    let kept = keep(&stream.devices()[..], &mut out, &Start { size: size(), template: Some(&file) }).unwrap();
    assert_eq!((kept.pages, kept.bytes), (0, out.len() as u64));
    let mut loaded = BTreeMap::new();
    assert_eq!(load(&out, &mut loaded), b"\x04devices of some form");
    assert!(loaded.is_empty());
}

#[test]
fn a_stream_of_another_form_is_refused_with_what_is_odd_and_where() {
    assert!(refused(b"QEVM\0\0\0\x02").contains("no mark of a migration at byte 8"));
    let begin = || Stream::begin().bytes;
    let with = |more: &[u8]| [&begin()[..], more].concat();
    assert!(refused(&with(&[part::SECTION_FULL])).contains("a device before the end of the memory"));
    assert!(refused(&with(&[part::SECTION_PART, 0, 0, 0, 3])).contains("a part of something else"));
    assert!(refused(&with(&[9])).contains("an unknown kind"));
    let page = |block: &'static str, n| {
        let mut stream = Stream::begin();
        stream.part(part::SECTION_END, &[(block, n, 1)]);
        refused(&stream.devices())
    };
    assert!(page("mem", PAGES).contains("outside of its memory"));
    assert!(page("pc.bios", 0).contains("unknown memory"));
    assert!(refused(&begin()).contains("cannot be read"), "it ends too early");
    let other = Start { size: size() / 2, template: None };
    let error = keep(&begin()[..], io::sink(), &other).unwrap_err();
    assert!(error.to_string().contains("memory of another size"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever QEMU writes, in whichever order and how often: what is loaded is what the guest had.
    #[test]
    fn what_is_kept_and_loaded_over_the_start_is_the_guests_memory(
        written in prop::collection::vec((0..PAGES, 0u8..9, any::<bool>()), 0..200), cut in 0usize..200, forked in any::<bool>(),
    ) {
        let (file, fills) = template();
        let began = |n: u64| if forked { fills[n as usize] } else { 0 };
        let pages: Vec<_> = written.iter().map(|(n, fill, own)| {
            if *own { ("mem", *n, *fill) } else { ("vga.vram", n % 2, *fill) }
        }).collect();
        let (first, last) = pages.split_at(cut.min(pages.len()));
        let mut stream = Stream::begin();
        stream.part(part::SECTION_PART, first);
        stream.bytes.extend([part::COMMAND, 0, 0x0b, 0, 0]);
        stream.part(part::SECTION_END, last);
        let mut out = Vec::new();
        let start = Start { size: size(), template: forked.then_some(&file) };
        let kept = keep(&stream.devices()[..], &mut out, &start).unwrap();

        let mut guest: BTreeMap<(Vec<u8>, u64), u8> = (0..PAGES).map(|n| ((b"mem".to_vec(), n), began(n))).collect();
        let mut resumed = guest.clone();
        for (block, n, fill) in &pages {
            guest.insert((block.as_bytes().to_vec(), *n), *fill);
        }
        load(&out, &mut resumed);
        prop_assert_eq!(resumed, guest);
        let changed = pages.iter().filter(|(block, n, fill)| *block == "mem" && *fill != began(*n));
        let changed: std::collections::BTreeSet<_> = changed.map(|(_, n, _)| n).collect();
        prop_assert_eq!(kept.pages, changed.len() as u64);
    }

    #[test]
    fn any_bytes_get_an_answer(at in 0usize..5000, with in any::<u8>(), cut in 0usize..5000) {
        let mut stream = Stream::begin();
        stream.part(part::SECTION_END, &[("mem", 3, 4), ("mem", 4, 0), ("vga.vram", 0, 1)]);
        let mut bytes = stream.devices();
        let length = bytes.len();
        bytes[at % length] = with;
        bytes.truncate(length - cut % length);
        let _ = keep(&bytes[..], io::sink(), &Start { size: size(), template: None });
    }
}
