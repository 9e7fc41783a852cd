//! Small disks of each format that is imported, made by its specification: empty ones of 1 MiB, and what is wrong with others.

use super::Seeds;
use lucarne_fuzz::images::part;

pub(super) fn seeds() -> Seeds {
    vec![("image_qcow2", qcow2()), ("image_vmdk", vmdk()), ("image_vhdx", vhdx())]
}

/// A file of so many bytes with these parts.
fn file(length: u32, parts: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = length.to_be_bytes().to_vec();
    parts.iter().for_each(|(at, bytes)| out.extend(part(*at, bytes)));
    out
}

const MIB: u64 = 1 << 20;

/// QEMU, docs/interop/qcow2: header, an L1 table of one entry, an L2 table, a cluster.
fn qcow2() -> Vec<Vec<u8>> {
    let header = |version: u32, backing: u64, bits: u32, size: u64, incompatible: u64| {
        let mut out = b"QFI\xfb".to_vec();
        out.extend(version.to_be_bytes());
        out.extend(backing.to_be_bytes());
        out.extend(0u32.to_be_bytes());
        out.extend(bits.to_be_bytes());
        out.extend(size.to_be_bytes());
        out.extend([0u32, 1].map(u32::to_be_bytes).as_flattened());
        // Where the L1 table and the reference counts are.
        out.extend([0x3_0000u64, 0x1_0000].map(u64::to_be_bytes).as_flattened());
        out.extend([1u32, 0].map(u32::to_be_bytes).as_flattened());
        out.extend([0, incompatible, 0, 0].map(u64::to_be_bytes).as_flattened());
        out.extend([4u32, 104].map(u32::to_be_bytes).as_flattened());
        out
    };
    let tables = [
        (0x3_0000, (0x8000_0000_0004_0000u64).to_be_bytes().to_vec()),
        (0x4_0000, (0x8000_0000_0005_0000u64).to_be_bytes().to_vec()),
    ];
    let disk = |header: Vec<u8>| file(0x6_0000, &[&[(0, header)][..], &tables].concat());
    let extension = |kind: u32, length: u32| [kind.to_be_bytes(), length.to_be_bytes()].concat();
    let good = header(3, 0, 16, MIB, 0);
    let mut all = vec![
        disk(good.clone()),
        disk(header(2, 0, 16, MIB, 0)),
        disk(header(3, 0x100, 16, MIB, 0)),
        disk(header(3, 0, 16, 2 << 40, 0)),
        disk(header(3, 0, 9, 2 << 40, 0)),
        disk(header(3, 0, 21, MIB, 0)),
        disk(header(3, 0, 16, MIB, 0b1_0000)),
        disk(header(3, 0, 16, MIB, 0b100)),
        file(0x3_0004, &[(0, good.clone())]),
        file(0x6_0000, &[(0, good.clone()), (0x3_0000, vec![0xff; 8])]),
    ];
    for (kind, length) in
        [(0x6803_f857, 48), (0xe279_2aca, 5), (0x4441_5441, 4), (1, u32::MAX), (0x0537_be77, 16)]
    {
        all.push(disk([good.clone(), extension(kind, length)].concat()));
    }
    all
}

/// VMware Virtual Disk Format 5.0: header, descriptor, a directory of one table, a grain.
fn vmdk() -> Vec<Vec<u8>> {
    let header = |sectors: u64, descriptor: u64, directory: u64| {
        let mut out = b"KDMV".to_vec();
        out.extend([1u32, 3].map(u32::to_le_bytes).as_flattened());
        out.extend([sectors, 128, descriptor, 1].map(u64::to_le_bytes).as_flattened());
        out.extend(512u32.to_le_bytes());
        out.extend([0, directory, 128].map(u64::to_le_bytes).as_flattened());
        out.extend(b"\0\n \r\n");
        out
    };
    let text = |kind: &str, parent: &str, extent: &str| {
        format!("# Disk DescriptorFile\nversion=1\nparentCID={parent}\ncreateType=\"{kind}\"\nRW 2048 {extent} \"x\"\n")
            .into_bytes()
    };
    let directory = (2u32 * 512, 3u32.to_le_bytes().to_vec());
    let table = (3u32 * 512, 8u32.to_le_bytes().to_vec());
    let disk = |header: Vec<u8>, text: Vec<u8>| {
        file(0x2_0000, &[(0, header), (512, text), directory.clone(), table.clone()])
    };
    let good = || text("monolithicSparse", "ffffffff", "SPARSE");
    let footer = (0x2_0000 - 1024, header(2048, 1, 2));
    vec![
        disk(header(2048, 1, 2), good()),
        disk(header(u64::MAX, 1, 2), good()),
        disk(header(2048, u64::MAX, 2), good()),
        disk(header(4 << 30, 1, 2), good()),
        disk(header(2048, 1, 0x7fff_ffff_ffff_ffff), good()),
        disk(header(2048, 1, 2), text("monolithicSparse", "00000001", "SPARSE")),
        disk(header(2048, 1, 2), text("monolithicFlat", "ffffffff", "FLAT")),
        file(
            0x2_0000,
            &[
                (0, header(2048, 1, u64::MAX)),
                (512, text("streamOptimized", "ffffffff", "SPARSE")),
                directory.clone(),
                table.clone(),
                footer,
            ],
        ),
        file(600, &[(0, b"# Disk DescriptorFile\n".to_vec())]),
    ]
}

/// MS-VHDX: identifier, a header, a region table, metadata, a block table of one entry.
fn vhdx() -> Vec<Vec<u8>> {
    const BAT: [u8; 16] =
        [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08];
    const METADATA: [u8; 16] =
        [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
    const PARAMETERS: [u8; 16] =
        [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
    const SIZE: [u8; 16] =
        [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
    const PARENT: [u8; 16] =
        [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
    let header = |log: u8| {
        let mut out = b"head\0\0\0\0".to_vec();
        out.extend(1u64.to_le_bytes());
        out.extend([0; 32]);
        out.extend([log; 16]);
        out
    };
    let region = |guid: [u8; 16], at: u64, length: u32, required: u32| {
        [&guid[..], &at.to_le_bytes(), &length.to_le_bytes(), &required.to_le_bytes()].concat()
    };
    let regions = |bat_at: u64, bat_length: u32| {
        let mut out = b"regi\0\0\0\0".to_vec();
        out.extend([2u32, 0].map(u32::to_le_bytes).as_flattened());
        out.extend(region(BAT, bat_at, bat_length, 1));
        out.extend(region(METADATA, 0x20_0000, 0x1_0000, 1));
        out
    };
    let item =
        |guid: [u8; 16], at: u32| [&guid[..], &at.to_le_bytes(), &8u32.to_le_bytes(), &[0; 8]].concat();
    let metadata = |items: &[Vec<u8>]| {
        let mut out = b"metadata\0\0".to_vec();
        out.extend((items.len() as u16).to_le_bytes());
        out.resize(32, 0);
        out.extend(items.concat());
        out
    };
    let usual = metadata(&[item(PARAMETERS, 0x1000), item(SIZE, 0x1008)]);
    let values = |block: u32, flags: u32, size: u64| {
        [&block.to_le_bytes()[..], &flags.to_le_bytes(), &size.to_le_bytes()].concat()
    };
    let disk = |header: Vec<u8>, regions: Vec<u8>, metadata: Vec<u8>, values: Vec<u8>, entry: u64| {
        file(
            0x50_0000,
            &[
                (0, b"vhdxfile".to_vec()),
                (0x1_0000, header),
                (0x3_0000, regions),
                (0x20_0000, metadata),
                (0x20_1000, values),
                (0x30_0000, entry.to_le_bytes().to_vec()),
            ],
        )
    };
    let good = || values(1 << 20, 0, MIB);
    let place = || regions(0x30_0000, 8);
    vec![
        disk(header(0), place(), usual.clone(), good(), 4 << 20 | 6),
        disk(header(1), place(), usual.clone(), good(), 0),
        disk(header(0), place(), usual.clone(), good(), u64::MAX),
        disk(header(0), place(), usual.clone(), values(1 << 20, 2, MIB), 0),
        disk(header(0), place(), usual.clone(), values(3, 0, MIB), 0),
        disk(header(0), place(), usual.clone(), values(1 << 28, 0, 2 << 40), 0),
        disk(header(0), regions(u64::MAX, 8), usual.clone(), good(), 0),
        disk(header(0), regions(0x30_0000, u32::MAX), usual.clone(), good(), 0),
        disk(header(0), place(), metadata(&[item(PARENT, 0)]), good(), 0),
        disk(header(0), place(), metadata(&[item(SIZE, u32::MAX)]), good(), 0),
        disk(header(0), place(), metadata(&[]), good(), 0),
    ]
}
