//! What spice-vdagent, qemu-guest-agent and QEMU's display say.

use super::{Seeds, with};

pub(super) fn seeds() -> Seeds {
    vec![
        ("vdagent", agents()),
        ("guest_agent", answers()),
        ("display_calls", calls()),
        ("device_state", states()),
        ("guest_state", guests()),
    ]
}

const TEXT: &[u8] = &[0, 0, 0, 0, 1, 0, 0, 0];

/// A message that the target frames.
fn message(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind][..], &(data.len() as u16).to_be_bytes(), data].concat()
}

fn agents() -> Vec<Vec<u8>> {
    let capabilities = |request: u8| message(6, &[request, 0, 0, 0, 0xe7, 0x8d, 0x03, 0]);
    let text = |text: &[u8]| message(4, &[TEXT, text].concat());
    let mut all: Vec<Vec<u8>> = [
        [capabilities(0), message(7, TEXT), text("Grüße\r\n".as_bytes()), message(9, &[0; 4])].concat(),
        [capabilities(1), message(8, TEXT), message(8, &[0, 0, 0, 0, 2, 0, 0, 0])].concat(),
        [capabilities(0), message(7, TEXT), message(7, TEXT), message(4, &[0; 8]), text(b"x\0\0")].concat(),
        [capabilities(0), message(7, TEXT), text(b"\xff\xfe")].concat(),
        [message(7, &TEXT[4..]), message(4, &[&TEXT[4..], b"plain"].concat()), message(8, &TEXT[4..])]
            .concat(),
        message(6, &[]),
    ]
    .into_iter()
    .flat_map(|said| [with(&[1, 5], &said), with(&[3, 0x83], &said)])
    .collect();
    let number = |n: u32| n.to_le_bytes();
    for (port, chunk, protocol, length) in
        [(1, 20, 1, u32::MAX), (1, u32::MAX, 1, 5), (2, 9, 1, 0), (3, 0, 1, 0), (1, 28, 2, 8), (1, 0, 0, 0)]
    {
        let head = [number(port), number(chunk), number(protocol), number(4), [0; 4], [0; 4], number(length)];
        all.push(with(&[0, 7], &[head.as_flattened(), b"some text that goes on for a while"].concat()));
    }
    all
}

fn answers() -> Vec<Vec<u8>> {
    [
        &b"\xff{\"return\": 4242}\n"[..],
        b"{\"return\": {\"pid\": 7}}\n{\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"YQ==\"}}\n",
        b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n",
        b"rubbish\n{\"half\": \xff[1, 2.5e300, \"\\ud83d\\ude00\"]\n\n",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
    ]
    .into_iter()
    .flat_map(|said| [with(&[5], said), with(&[0x81], said)])
    .collect()
}

fn guests() -> Vec<Vec<u8>> {
    let word = u64::to_be_bytes;
    let named = |name: &[u8]| [&[name.len() as u8][..], name].concat();
    let end = [&word(0x10)[..], &[0x7e, 0, 0, 0, 2]].concat();
    let mut begin = b"QEVM\0\0\0\x03\x07\0\0\0\x03q35\x01\0\0\0\x02".to_vec();
    begin.extend(named(b"ram"));
    begin.extend([0, 0, 0, 0, 0, 0, 0, 4]);
    begin.extend(word((5 << 12) | 4));
    for (name, length) in [(&b"mem"[..], 4 << 12), (b"rom", 1 << 12)] {
        begin.extend(named(name));
        begin.extend(word(length));
    }
    let filled =
        |n: u64, name: &[u8], fill: u8| [&word((n << 12) | 8)[..], &named(name), &[fill; 4096]].concat();
    let zero = |n: u64, name: &[u8]| [&word((n << 12) | 2)[..], &named(name), &[0]].concat();
    let again = |n: u64| [&word((n << 12) | 0x22)[..], &[0]].concat();
    let part = |kind: u8, pages: &[u8]| [&[kind, 0, 0, 0, 2], pages, &end].concat();
    let pages = [filled(1, b"mem", 7), again(2), zero(0, b"rom"), again(0), zero(1, b"mem")].concat();
    let (more, devices) = (part(2, &pages), &b"\x04devices"[..]);
    let first = [&begin[..], &end].concat();
    vec![
        [&first[..], &part(3, &[]), devices].concat(),
        [&first[..], &more, &[8, 0, 0x0b, 0, 0], &part(3, &again(3)), devices].concat(),
        [&first[..], &more, &part(3, &filled(3, b"mem", 0)), devices].concat(),
        [&first[..], &part(3, &zero(9, b"mem"))].concat(),
        [&first[..], &part(3, &zero(0, b"bios"))].concat(),
        first,
    ]
}

fn calls() -> Vec<Vec<u8>> {
    const FORMAT: u32 = 0x2002_0888;
    let call = |number: u8, arguments: &[u32], data: &[u8]| {
        let arguments: Vec<u8> = arguments.iter().flat_map(|n| n.to_be_bytes()).collect();
        [&[number][..], &arguments, data].concat()
    };
    let minus = |n: i32| n.cast_unsigned();
    // A length in two bytes, and what to fill with.
    let data = |length: u16| [&length.to_be_bytes()[..], &[9]].concat();
    vec![
        [
            call(0, &[4096], &[]),
            call(1, &[0, 8, 4, 32, FORMAT], &[]),
            call(2, &[6, 3, 100, i32::MAX as u32], &[]),
            call(2, &[minus(-5), minus(-5), 9, 9], &[]),
        ]
        .concat(),
        [call(0, &[64], &[]), call(1, &[u32::MAX, 8, 4, 32, FORMAT], &[]), call(2, &[0, 0, 1, 1], &[])]
            .concat(),
        [call(0, &[0], &[]), call(1, &[0, 16_384, 16_384, 131_072, FORMAT], &[])].concat(),
        [
            call(3, &[4, 2, 16, FORMAT], &data(32)),
            call(4, &[1, 1, 2, 1, 8, FORMAT], &data(8)),
            call(4, &[minus(-1), 1, 2, 1, 8, FORMAT], &data(8)),
            call(4, &[3, 1, 200, 200, 800, FORMAT], &data(8)),
        ]
        .concat(),
        call(3, &[u32::MAX, u32::MAX, u32::MAX, FORMAT], &data(1)),
        [call(5, &[2, 2, 1, minus(-1)], &data(16)), call(5, &[minus(-1), 5, 0, 0], &data(0))].concat(),
    ]
}

/// A device state with one resource of 4×2 pixels and three outputs' records of these lengths.
fn state(records: [usize; 3]) -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_be_bytes()).collect() };
    let section = |number: u32, name: &str, content: &[u8]| {
        let name = [&[name.len() as u8][..], name.as_bytes()].concat();
        let head = [&[4][..], &words(&[number]), &name, &words(&[0, 1])].concat();
        [&head[..], content, &[0x7e], &words(&[number])].concat()
    };
    let mut own = [words(&[7, 4, 2, 1, 1]), vec![0xaa; 12 + 32], words(&[0, 1, 3])].concat();
    let first = own.len();
    records.iter().for_each(|length| own.resize(own.len() + length, 0));
    own[first + 3] = 7;
    let text = format!(
        r#"{{"devices":[{{"name":"gpu","vmsd_name":"virtio-gpu","fields":[{{"name":"virtio","size":9}},{{"name":"virtio-gpu","size":{}}}]}}]}}"#,
        own.len()
    );
    let content = [vec![3; 9], own].concat();
    let sections = [section(1, "timer", &[9; 5]), section(2, "gpu", &content)].concat();
    [b"QEVM\0\0\0\x03", &sections[..], &[0, 6], &words(&[text.len() as u32]), text.as_bytes()].concat()
}

fn states() -> Vec<Vec<u8>> {
    [[64, 40, 40], [64, 64, 40], [40, 40, 40]].map(state).to_vec()
}
