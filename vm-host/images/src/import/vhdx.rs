//! Checks a VHDX file (Microsoft, MS-VHDX): that it is whole, was closed cleanly and has no parent.

use super::source::{Fields, HeaderError, Source, check_size};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// MS-VHDX 2.2: fixed places of the two headers and the two region tables.
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const REGION_TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
/// MS-VHDX 2.2.3.1 and 2.6.1: most entries in either table.
const MOST_ENTRIES: u32 = 2047;

// GUIDs as they are stored: the first three groups little-endian.
const BAT_REGION: [u8; 16] = guid(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
const METADATA_REGION: [u8; 16] = guid(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);
const FILE_PARAMETERS: [u8; 16] = guid(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b);
const DISK_SIZE: [u8; 16] = guid(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8);
const PARENT_LOCATOR: [u8; 16] = guid(0xa8d3_5f2d, 0xb30b, 0x454d, 0xabf7_d3d8_4834_ab0c);

const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// Size of the disk, bytes.
pub(super) fn check(source: &impl Source) -> Result<u64, HeaderError> {
    if source.bytes("identifier", 0, 8).ok().as_deref() != Some(b"vhdxfile") {
        return Err(HeaderError::Magic("vhdx"));
    }
    header(source)?;
    let (metadata, bat) = regions(source)?;
    let (size, block) = items(source, metadata)?;
    let (bat_at, bat_length) = bat;
    // Block sizes from 1 to 256 MiB, so 2 TiB has at most 2^21 blocks and few bitmap entries between them.
    let needed = size.div_ceil(block) * 8;
    if u64::from(bat_length) < needed || bat_length > 64 << 20 {
        return Err(HeaderError::Damaged(format!("a block table of {bat_length} bytes")));
    }
    for entry in source.bytes("block table", bat_at, bat_length as usize)?.chunks_exact(8) {
        let entry = Fields(entry).le64(0);
        // MS-VHDX 2.5.1: state in the lowest three bits (6 and 7 have data), offset in MiB above bit 20.
        let at = (entry >> 20).saturating_mul(MIB);
        if matches!(entry & 7, 6 | 7) && at.saturating_add(block) > source.len() {
            return Err(HeaderError::Truncated { what: "data", at, have: source.len() });
        }
    }
    Ok(size)
}

/// The header with the higher sequence number counts (MS-VHDX 2.2.2).
fn header(source: &impl Source) -> Result<(), HeaderError> {
    let mut newest: Option<(u64, [u8; 16])> = None;
    for at in HEADERS {
        let bytes = source.bytes("header", at, 80)?;
        if bytes[..4] != *b"head" {
            continue;
        }
        let sequence = Fields(&bytes).le64(8);
        if newest.is_none_or(|(other, _)| other < sequence) {
            let mut log = [0; 16];
            log.copy_from_slice(&bytes[48..64]);
            newest = Some((sequence, log));
        }
    }
    match newest {
        None => Err(HeaderError::Damaged("neither of the two headers is there".into())),
        Some((_, log)) if log != [0; 16] => Err(HeaderError::Unsupported(
            "a VHDX that was not closed cleanly (it has a log to replay)".into(),
        )),
        Some(_) => Ok(()),
    }
}

type Region = (u64, u32);

/// Where metadata and block table are.
fn regions(source: &impl Source) -> Result<(Region, Region), HeaderError> {
    for at in REGION_TABLES {
        let head = source.bytes("region table", at, 16)?;
        if head[..4] != *b"regi" {
            continue;
        }
        let count = Fields(&head).le32(8);
        if count > MOST_ENTRIES {
            return Err(HeaderError::Damaged(format!("a region table of {count} entries")));
        }
        let (mut metadata, mut bat) = (None, None);
        for entry in source.bytes("region table", at + 16, count as usize * 32)?.chunks_exact(32) {
            let place = (Fields(entry).le64(16), Fields(entry).le32(24));
            if entry[..16] == METADATA_REGION {
                metadata = Some(place);
            } else if entry[..16] == BAT_REGION {
                bat = Some(place);
            } else if Fields(entry).le32(28) & 1 != 0 {
                return Err(HeaderError::Unsupported("a VHDX with an unknown required region".into()));
            }
        }
        return metadata.zip(bat).ok_or_else(|| {
            HeaderError::Damaged("the region table names no metadata or no block table".into())
        });
    }
    Err(HeaderError::Damaged("neither of the two region tables is there".into()))
}

/// Size of the disk and of a block, bytes.
fn items(source: &impl Source, (at, _): Region) -> Result<(u64, u64), HeaderError> {
    let head = source.bytes("metadata", at, 32)?;
    if head[..8] != *b"metadata" {
        return Err(HeaderError::Damaged("the metadata region does not begin as one".into()));
    }
    let count = u32::from(Fields(&head).le16(10));
    if count > MOST_ENTRIES {
        return Err(HeaderError::Damaged(format!("{count} metadata entries")));
    }
    let (mut size, mut block) = (None, None);
    for entry in source.bytes("metadata", at + 32, count as usize * 32)?.chunks_exact(32) {
        let item_at = at.saturating_add(u64::from(Fields(entry).le32(16)));
        if entry[..16] == PARENT_LOCATOR {
            return Err(HeaderError::External("a parent disk"));
        } else if entry[..16] == FILE_PARAMETERS {
            let item = source.bytes("file parameters", item_at, 8)?;
            if Fields(&item).le32(4) & 2 != 0 {
                return Err(HeaderError::External("a parent disk"));
            }
            block = Some(u64::from(Fields(&item).le32(0)));
        } else if entry[..16] == DISK_SIZE {
            size = Some(Fields(&source.bytes("disk size", item_at, 8)?).le64(0));
        }
    }
    let (Some(size), Some(block)) = (size, block) else {
        return Err(HeaderError::Damaged("the metadata lacks the disk's size or the block size".into()));
    };
    if !block.is_power_of_two() || !(MIB..=256 * MIB).contains(&block) {
        return Err(HeaderError::Damaged(format!("blocks of {block} bytes")));
    }
    Ok((check_size(size)?, block))
}
