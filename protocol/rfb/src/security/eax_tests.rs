//! The encrypted messages against published vectors, another implementation's output, and every way to spoil them.

use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn keys() -> [Key; 2] {
    [Key::Aes128(std::array::from_fn(|i| i as u8)), Key::Aes256(std::array::from_fn(|i| i as u8))]
}

fn opened(opener: &mut Opener) -> Result<Vec<u8>, OpenError> {
    let mut text = Vec::new();
    while opener.open(&mut text)? {}
    Ok(text)
}

/// Two of the vectors that the designers of EAX published with it.
#[test]
fn eax_gives_its_designers_vectors() {
    let vectors = [
        (
            "91945d3f4dcbee0bf45ef52255f095a4",
            "becaf043b0a23d843194ba972c66debd",
            "fa3bfd4806eb53fa",
            "f7fb",
            "19dd5c4c9331049d0bdab0277408f67967e5",
        ),
        (
            "01f74ad64077f2e704c0f60ada3dd523",
            "70c3db4f0d26368400a10ed05d2bff5e",
            "234a3463c1264ac6",
            "1a47cb4933",
            "d851d5bae03a59f238a23e39199dc9266626c40f80",
        ),
    ];
    for (key, nonce, header, text, sealed) in vectors {
        let cipher = Key::Aes128(bytes(key).try_into().unwrap()).cipher();
        let number = u128::from_le_bytes(bytes(nonce).try_into().unwrap());
        let mut text = bytes(text);
        let mac = cipher.seal(number, &bytes(header), &mut text);
        assert_eq!([&text[..], &mac].concat(), bytes(sealed));
    }
}

/// As PyCryptodome makes them: an implementation that shares nothing with ours.
#[test]
fn messages_are_those_of_another_implementation() {
    let texts: [&[u8]; 3] = [b"RFB", b"", b"a second message of more than one block"];
    let sealed = [
        [
            "00032ada04ba01a273ae0f0cf7a56cda1e11e015d2",
            "00003c5e3dfc7e7dc27f2b2ae1020c7b6cb2",
            "0027ce417c513c6ea1528964e2aad3239769934f5ac211835653e2164d07fd70e9b96bd8de6ac9ba21a0174af61a4ae10fff4d2dd45678b808",
        ],
        [
            "0003871ba7af1647b1ba4f637271e9c1676ee0016b",
            "000014b2dc78181bfad5ad47586db08bcb37",
            "00276acd8b76f1f20095fe367047987341e358cbfaf7c57743bfba0a97a7de80e52495b5c2adc252e0129eeaf42ab64bd12a76a7c4f27de371",
        ],
    ];
    for (key, sealed) in keys().iter().zip(sealed) {
        let mut opener = Opener::new(key, MAX_MESSAGE);
        opener.feed(&sealed.map(bytes).concat());
        assert_eq!(opened(&mut opener).unwrap(), texts.concat());
        let mut sealer = Sealer::new(key);
        let mut out = Vec::new();
        sealer.seal(texts[0], &mut out);
        assert_eq!(out, bytes(sealed[0]));
        // We send no empty messages, so the number is set.
        sealer.number = 2;
        out.clear();
        sealer.seal(texts[2], &mut out);
        assert_eq!(out, bytes(sealed[2]));
    }
}

/// PyCryptodome's message number 256: the number is little-endian, and it carries.
#[test]
fn the_number_is_little_endian() {
    let mut sealer = Sealer::new(&keys()[0]);
    let mut out = Vec::new();
    sealer.seal(&[0; 256 * MAX_SEALED], &mut out);
    out.clear();
    sealer.seal(b"x", &mut out);
    assert_eq!(out, bytes("00010427d2dbed811efedfea1107fb718e87ac"));
}

#[test]
fn a_spoiled_message_is_not_opened_nor_any_after_it() {
    let [key, _] = keys();
    let mut out = Vec::new();
    Sealer::new(&key).seal(b"genuine", &mut out);
    for at in 2..out.len() {
        let mut spoiled = out.clone();
        spoiled[at] ^= 1;
        let mut opener = Opener::new(&key, MAX_MESSAGE);
        opener.feed(&spoiled);
        let mut text = b"before".to_vec();
        assert_eq!(opener.open(&mut text), Err(OpenError::NotGenuine(0)), "byte {at}");
        assert_eq!(text, b"before", "nothing of it is given out");
        opener.feed(&out);
        assert_eq!(opener.open(&mut text), Err(OpenError::NotGenuine(0)));
    }
}

#[test]
fn a_spoiled_length_is_not_genuine_either() {
    let [key, _] = keys();
    let mut out = Vec::new();
    Sealer::new(&key).seal(b"genuine", &mut out);
    out[1] -= 1;
    let mut opener = Opener::new(&key, MAX_MESSAGE);
    opener.feed(&out);
    assert_eq!(opened(&mut opener), Err(OpenError::NotGenuine(0)));
}

#[test]
fn messages_can_be_neither_left_out_nor_repeated_nor_turned_back() {
    let [key, other] = keys();
    let mut sealer = Sealer::new(&key);
    let [mut first, mut second] = [Vec::new(), Vec::new()];
    sealer.seal(b"first", &mut first);
    sealer.seal(b"second", &mut second);
    for (name, messages, number) in [
        ("left out", vec![&second], 0),
        ("repeated", vec![&first, &first], 1),
        ("swapped", vec![&second, &first], 0),
    ] {
        let mut opener = Opener::new(&key, MAX_MESSAGE);
        messages.iter().for_each(|m| opener.feed(m));
        assert_eq!(opened(&mut opener), Err(OpenError::NotGenuine(number)), "{name}");
    }
    let mut opener = Opener::new(&other, MAX_MESSAGE);
    opener.feed(&first);
    assert_eq!(opened(&mut opener), Err(OpenError::NotGenuine(0)), "the other direction's key");
}

#[test]
fn a_message_beyond_the_limit_is_refused_at_its_length() {
    let mut opener = Opener::new(&keys()[0], 20);
    opener.feed(&[0, 21]);
    assert_eq!(opened(&mut opener), Err(OpenError::TooLong { length: 21, limit: 20 }));
}

#[test]
fn a_key_does_not_show_in_debug() {
    let key = Key::Aes128([0x77; 16]);
    let channel = Channel { sealer: Sealer::new(&key), opener: Opener::new(&key, 1) };
    assert_eq!(format!("{key:?} {channel:?}").matches("119").count(), 0);
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_in_any_chunking(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 1..4),
        size in 1usize..9000,
        long in any::<bool>(),
    ) {
        let key = &keys()[usize::from(long)];
        let (mut sealer, mut opener) = (Sealer::new(key), Opener::new(key, MAX_SEALED));
        let (mut out, mut text) = (Vec::new(), Vec::new());
        texts.iter().for_each(|t| sealer.seal(t, &mut out));
        for chunk in out.chunks(size) {
            opener.feed(chunk);
            while opener.open(&mut text).unwrap() {}
            prop_assert!(opener.pending() < MAX_SEALED + OVERHEAD);
        }
        prop_assert_eq!(text, texts.concat());
        prop_assert_eq!(opener.pending(), 0);
    }

    #[test]
    fn byte_soup_never_panics(soup in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..9) {
        let mut opener = Opener::new(&keys()[1], MAX_MESSAGE);
        for chunk in soup.chunks(size) {
            opener.feed(chunk);
            let _ = opened(&mut opener);
        }
    }
}
