//! Checks a VMDK file (VMware Virtual Disk Format 5.0): that it is one sparse extent with its descriptor inside,
//! `monolithicSparse` or `streamOptimized`, and depends on no other file.

use super::source::{Fields, HeaderError, Source, check_size};

const SECTOR: u64 = 512;
const MAGIC: u32 = 0x564d_444b;
/// The descriptor in a separate text file, which lists other files.
const TEXT: &[u8] = b"# Disk Desc";
/// `gdOffset` of a stream: the grain directory is named by a footer.
const AT_END: u64 = u64::MAX;
/// Longest descriptor, bytes; real ones have about 500. QEMU looks for a parent in at most 20 sectors.
const LONGEST_DESCRIPTOR: u64 = 64 << 10;
const QEMU_DESCRIPTOR: u64 = 20 * SECTOR;

/// Size of the disk, bytes.
pub(super) fn check(source: &impl Source) -> Result<u64, HeaderError> {
    let start = source.bytes("header", 0, TEXT.len()).map_err(|_| HeaderError::Magic("vmdk"))?;
    if start == TEXT {
        return Err(HeaderError::External("a descriptor file with separate extents"));
    }
    if Fields(&start).le32(0) != MAGIC {
        return Err(HeaderError::Magic("vmdk"));
    }
    let header = source.bytes("header", 0, SECTOR as usize)?;
    let fields = Fields(&header);
    let version = fields.le32(4);
    if !(1..=3).contains(&version) {
        return Err(HeaderError::Unsupported(format!("VMDK version {version}")));
    }
    // A capacity of zero makes QEMU follow the descriptor to other files.
    let size = check_size(fields.le64(12).saturating_mul(SECTOR))?;
    // Catches a transfer in text mode, for which the format has these four bytes.
    if header[73..77] != *b"\n \r\n" {
        return Err(HeaderError::Damaged(
            "its line-end marks are changed, as by a transfer in text mode".into(),
        ));
    }
    descriptor(source, fields.le64(28), fields.le64(36))?;

    let mut directory = fields.le64(56);
    let (mut grain, mut per_table) = (fields.le64(20), fields.le32(44));
    if directory == AT_END {
        // The last sector is the end-of-stream marker, before it the footer: a copy of the header.
        let at = source.len().saturating_sub(2 * SECTOR);
        let footer = source.bytes("footer", at, SECTOR as usize)?;
        let fields = Fields(&footer);
        if fields.le32(0) != MAGIC {
            return Err(HeaderError::Truncated { what: "footer", at, have: source.len() });
        }
        if fields.le64(12).saturating_mul(SECTOR) != size {
            return Err(HeaderError::Damaged("header and footer differ".into()));
        }
        (directory, grain, per_table) = (fields.le64(56), fields.le64(20), fields.le32(44));
    }
    tables(source, size, directory, grain, per_table)?;
    Ok(size)
}

fn descriptor(source: &impl Source, sector: u64, sectors: u64) -> Result<(), HeaderError> {
    let at = sector.checked_mul(SECTOR).filter(|at| *at != 0);
    let length = sectors.checked_mul(SECTOR).filter(|length| (1..=LONGEST_DESCRIPTOR).contains(length));
    let (Some(at), Some(length)) = (at, length) else {
        return Err(HeaderError::External("a descriptor outside of the file"));
    };
    source.bytes("descriptor", at, length as usize)?;
    let seen = length.max(QEMU_DESCRIPTOR).min(source.len() - at);
    let bytes = source.bytes("descriptor", at, seen as usize)?;
    if bytes.windows(18).any(|part| part == b"parentFileNameHint") {
        return Err(HeaderError::External("a parent disk"));
    }
    let text = String::from_utf8_lossy(&bytes[..length as usize]);
    let (mut kind, mut extents) = (None, 0);
    for line in text.lines().map(|line| line.trim_matches(['\0', ' ', '\t', '\r'])) {
        if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "createType" => kind = Some(value.to_owned()),
                "parentCID" if !value.eq_ignore_ascii_case("ffffffff") => {
                    return Err(HeaderError::External("a parent disk"));
                }
                "encryption.keySafe" => return Err(HeaderError::Encrypted),
                _ => {}
            }
        } else if let Some(first) = line.split_whitespace().next()
            && matches!(first, "RW" | "RDONLY" | "NOACCESS")
        {
            extents += 1;
            if line.split_whitespace().nth(2) != Some("SPARSE") {
                return Err(HeaderError::External("an extent in another file"));
            }
        }
    }
    match kind.as_deref() {
        Some("monolithicSparse" | "streamOptimized") if extents == 1 => Ok(()),
        Some("monolithicSparse" | "streamOptimized") => Err(HeaderError::External("several extents")),
        Some(other) => Err(HeaderError::Unsupported(format!("VMDK of the kind {other:?}"))),
        None => Err(HeaderError::Damaged("the descriptor has no createType".into())),
    }
}

fn tables(
    source: &impl Source,
    size: u64,
    directory: u64,
    grain: u64,
    per_table: u32,
) -> Result<(), HeaderError> {
    // QEMU's own bounds: grains of 4 KiB to 64 MiB, at most 512 entries a table.
    if !grain.is_power_of_two() || !(8..=131_072).contains(&grain) || !(1..=512).contains(&per_table) {
        return Err(HeaderError::Damaged(format!("grains of {grain} sectors, {per_table} to a table")));
    }
    let count = (size / SECTOR).div_ceil(grain * u64::from(per_table));
    if count > (64 << 20) / 4 {
        return Err(HeaderError::Damaged(format!("a grain directory of {count} entries")));
    }
    let at = directory.saturating_mul(SECTOR);
    let entries = source.bytes("grain directory", at, count as usize * 4)?;
    for entry in entries.chunks_exact(4) {
        let table_at = u64::from(Fields(entry).le32(0)) * SECTOR;
        if table_at == 0 {
            continue;
        }
        let table = source.bytes("grain table", table_at, per_table as usize * 4)?;
        for entry in table.chunks_exact(4) {
            let grain_at = u64::from(Fields(entry).le32(0)) * SECTOR;
            if grain_at >= source.len() {
                return Err(HeaderError::Truncated { what: "data", at: grain_at, have: source.len() });
            }
        }
    }
    Ok(())
}
