//! Checks a qcow2 file (QEMU, docs/interop/qcow2): that it is whole and depends on no other file.
//!
//! Beyond the header, both levels of the cluster tables are walked: `qemu-img` reads a cluster behind the end of the
//! file as zeros, so a truncated download would convert without an error.

use super::source::{Fields, HeaderError, Source, check_size};

const MAGIC: u32 = 0x5146_49fb;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
/// Dirty, corrupt, external data file, compression type, extended L2 entries.
const INCOMPATIBLE_KNOWN: u64 = 0b1_1111;
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
/// The offset in an entry of either table: bits 9 to 55.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

/// Size of the disk, bytes.
pub(super) fn check(source: &impl Source) -> Result<u64, HeaderError> {
    if source.len() < 4 || Fields(&source.bytes("magic", 0, 4)?).be32(0) != MAGIC {
        return Err(HeaderError::Magic("qcow2"));
    }
    let first = source.bytes("header", 0, 72)?;
    let fields = Fields(&first);
    let version = fields.be32(4);
    if !matches!(version, 2 | 3) {
        return Err(HeaderError::Unsupported(format!("qcow2 version {version}")));
    }
    if fields.be64(8) != 0 || fields.be32(16) != 0 {
        return Err(HeaderError::External("a backing file"));
    }
    let cluster_bits = fields.be32(20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(HeaderError::Damaged(format!("clusters of 2^{cluster_bits} bytes")));
    }
    let size = check_size(fields.be64(24))?;
    if fields.be32(32) != 0 {
        return Err(HeaderError::Encrypted);
    }
    let (mut incompatible, mut header_length) = (0, 72);
    if version == 3 {
        let rest = source.bytes("header", 0, 104)?;
        incompatible = Fields(&rest).be64(72);
        header_length = Fields(&rest).be32(100);
        if !(104..=4096).contains(&header_length) || header_length % 8 != 0 {
            return Err(HeaderError::Damaged(format!("a header of {header_length} bytes")));
        }
    }
    if incompatible & INCOMPATIBLE_DATA_FILE != 0 {
        return Err(HeaderError::External("an external data file"));
    }
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(HeaderError::Damaged(
            "the file is marked as corrupt; repair it by `qemu-img check -r all`".into(),
        ));
    }
    if incompatible & !INCOMPATIBLE_KNOWN != 0 {
        return Err(HeaderError::Unsupported(format!("qcow2 with the feature bits {incompatible:#x}")));
    }
    let cluster = 1u64 << cluster_bits;
    extensions(source, u64::from(header_length), cluster)?;
    tables(source, size, cluster_bits, fields.be32(36), fields.be64(40), incompatible)?;
    Ok(size)
}

/// Header extensions: type, length, data padded to eight bytes; they end within the first cluster.
fn extensions(source: &impl Source, mut at: u64, cluster: u64) -> Result<(), HeaderError> {
    while at + 8 <= cluster {
        let head = source.bytes("header extension", at, 8)?;
        let (kind, length) = (Fields(&head).be32(0), u64::from(Fields(&head).be32(4)));
        match kind {
            EXTENSION_END => return Ok(()),
            EXTENSION_DATA_FILE => return Err(HeaderError::External("an external data file")),
            EXTENSION_BACKING_FORMAT => return Err(HeaderError::External("a backing file")),
            EXTENSION_ENCRYPTION => return Err(HeaderError::Encrypted),
            _ => at += 8 + length.next_multiple_of(8),
        }
    }
    if at > cluster {
        Err(HeaderError::Damaged("a header extension leaves the first cluster".into()))
    } else {
        Ok(())
    }
}

fn tables(
    source: &impl Source,
    size: u64,
    cluster_bits: u32,
    l1_entries: u32,
    l1_at: u64,
    incompatible: u64,
) -> Result<(), HeaderError> {
    let cluster = 1u64 << cluster_bits;
    let entry_size = if incompatible & INCOMPATIBLE_EXTENDED_L2 != 0 { 16 } else { 8 };
    let per_l2 = cluster / entry_size;
    let needed = size.div_ceil(cluster).div_ceil(per_l2);
    // The size is bounded, so this bounds the table: 2 TiB in 512-byte clusters is the worst, at 512 MiB; QEMU itself
    // stops at 32 MiB, and so do we.
    if needed > (32 << 20) / 8 {
        return Err(HeaderError::Unsupported(format!("a disk of {size} bytes in clusters of {cluster}")));
    }
    if u64::from(l1_entries) < needed || !l1_at.is_multiple_of(cluster) || l1_at == 0 {
        return Err(HeaderError::Damaged("the L1 table does not cover the disk".into()));
    }
    let l1 = source.bytes("L1 table", l1_at, needed as usize * 8)?;
    for index in 0..needed as usize {
        let l2_at = Fields(&l1).be64(index * 8) & OFFSET;
        if l2_at == 0 {
            continue;
        }
        let l2 = source.bytes("L2 table", l2_at, cluster as usize)?;
        for entry in l2.chunks_exact(entry_size as usize) {
            let entry = Fields(entry).be64(0);
            let data_at = if entry & COMPRESSED != 0 {
                // Bits below x are the host offset, x = 62 - (cluster_bits - 8).
                entry & ((1 << (62 - (cluster_bits - 8))) - 1)
            } else {
                entry & OFFSET
            };
            if data_at >= source.len() {
                return Err(HeaderError::Truncated { what: "data", at: data_at, have: source.len() });
            }
        }
    }
    Ok(())
}
