//! Recordings, which somebody may have had in their hands.

use crate::input::Input;
use lucarne_recording::{Header, MAGIC, Recording, VERSION};
use sha2::{Digest, Sha256};
use std::io::Cursor;
use std::time::Duration;

/// The longest side of a screen that is drawn here.
const SIDE: u16 = 64;

/// With an even first number a file. With an odd one a file is made of blocks with the hashes that they need: each a kind, a time
/// in four bytes, the payload's length in two, and the payload.
pub fn recording(data: &[u8]) {
    let mut input = Input(data);
    let file = if input.u8() & 1 == 0 { input.0.to_vec() } else { made(input) };
    let length = file.len() as u64;
    let Ok(mut recording) = Recording::open(Cursor::new(file)) else { return };
    if let Ok(checked) = recording.check() {
        assert!(checked.bytes <= length && (!checked.ended || checked.bytes == length));
    }
    assert_eq!(recording.length(), length);
    let times: Vec<Duration> = recording.keys().iter().map(|key| key.at).take(3).collect();
    for at in times.into_iter().chain([Duration::ZERO, recording.duration()]) {
        // What a screen may take is bounded by the decoder and shown by its own targets.
        if let Ok(frame) = recording.frame(at) {
            assert!(
                frame.screen.pixels().len()
                    == usize::from(frame.screen.width()) * usize::from(frame.screen.height())
            );
        }
    }
}

/// A file of blocks.
fn made(mut input: Input<'_>) -> Vec<u8> {
    let header = Header {
        version: VERSION,
        desktop: "a desktop".into(),
        name: "desk-1".into(),
        session: None,
        pool: None,
        started_at_ms: 0,
        keep_days: None,
        keep_mib: None,
    };
    let header = serde_json::to_vec(&header).expect("a header");
    let mut file = MAGIC.to_vec();
    let mut chain = Sha256::digest(MAGIC).to_vec();
    block(1, 0, &header, &mut chain, &mut file);
    while !input.is_empty() {
        let (kind, micros, length) = (input.u8() % 8, input.u32(), input.u16());
        let payload = input.bytes(length.into());
        // A first screen that is larger says nothing more here.
        let large = kind == 2
            && payload
                .chunks(2)
                .take(2)
                .any(|side| side.len() == 2 && u16::from_be_bytes([side[0], side[1]]) > SIDE);
        if !large {
            block(kind, micros.into(), payload, &mut chain, &mut file);
        }
    }
    file
}

/// Appends a block as a writer would.
fn block(kind: u8, micros: u64, payload: &[u8], chain: &mut Vec<u8>, file: &mut Vec<u8>) {
    let head = [&(payload.len() as u32).to_be_bytes()[..], &[kind, 0, 0, 0], &micros.to_be_bytes()].concat();
    *chain =
        Sha256::new().chain_update(&*chain).chain_update(&head).chain_update(payload).finalize().to_vec();
    for part in [&head, payload, chain.as_slice()] {
        file.extend_from_slice(part);
    }
}

/// One block of an input.
#[must_use]
pub fn part(kind: u8, micros: u32, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &micros.to_be_bytes(), &(payload.len() as u16).to_be_bytes(), payload].concat()
}
