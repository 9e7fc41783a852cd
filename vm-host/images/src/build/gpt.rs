//! Writes a GUID partition table (UEFI specification 2.10, section 5.3) into a disk file.

use sha2::{Digest, Sha256};
use std::{fs::File, io, os::unix::fs::FileExt};

const SECTOR: u64 = 512;
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
/// Sectors of the array of entries.
const ARRAY_SECTORS: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;
const HEADER_LENGTH: usize = 92;

/// Partition types, as they are stored: the first three groups little-endian.
/// 21686148-6449-6E6F-744E-656564454649, GRUB's BIOS boot partition.
pub(super) const BIOS_BOOT: [u8; 16] = *b"Hah!IdontNeedEFI";
/// 0FC63DAF-8483-4772-8E79-3D69D8477DE4, a Linux file system.
pub(super) const LINUX: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// One partition; sectors are of 512 bytes.
pub(super) struct Partition {
    pub(super) kind: [u8; 16],
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) name: &'static str,
}

/// Writes the protective MBR and both copies of the table. `seed` makes the identifiers, the same for the same seed.
pub(super) fn write(file: &File, size: u64, seed: &str, partitions: &[Partition]) -> io::Result<()> {
    let sectors = size / SECTOR;
    let mut array = vec![0; ENTRIES * ENTRY];
    for (index, (slot, partition)) in array.chunks_exact_mut(ENTRY).zip(partitions).enumerate() {
        slot[..16].copy_from_slice(&partition.kind);
        slot[16..32].copy_from_slice(&identifier(seed, index + 1));
        slot[32..40].copy_from_slice(&partition.first.to_le_bytes());
        slot[40..48].copy_from_slice(&(partition.first + partition.count - 1).to_le_bytes());
        for (place, unit) in slot[56..].chunks_exact_mut(2).zip(partition.name.encode_utf16()) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
    let last = sectors - 1;
    file.write_all_at(&protective_mbr(sectors), 440)?;
    file.write_all_at(&header(1, last, 2, sectors, seed, &array), SECTOR)?;
    file.write_all_at(&array, 2 * SECTOR)?;
    file.write_all_at(&array, (last - ARRAY_SECTORS) * SECTOR)?;
    file.write_all_at(&header(last, 1, last - ARRAY_SECTORS, sectors, seed, &array), last * SECTOR)
}

/// The first sector from byte 440 on: one partition of type 0xee over the whole disk, and the signature.
fn protective_mbr(sectors: u64) -> [u8; 72] {
    let mut mbr = [0; 72];
    let entry = &mut mbr[6..22];
    // Not bootable; first sector by cylinder, head, sector: 0, 0, 2; last: as far as those numbers go.
    entry[..8].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1u32.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr[70..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

fn header(this: u64, other: u64, array_at: u64, sectors: u64, seed: &str, array: &[u8]) -> Vec<u8> {
    let mut header = vec![0; SECTOR as usize];
    let first_usable = 2 + ARRAY_SECTORS;
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER_LENGTH as u32).to_le_bytes());
    header[24..32].copy_from_slice(&this.to_le_bytes());
    header[32..40].copy_from_slice(&other.to_le_bytes());
    header[40..48].copy_from_slice(&first_usable.to_le_bytes());
    header[48..56].copy_from_slice(&(sectors - first_usable).to_le_bytes());
    header[56..72].copy_from_slice(&identifier(seed, 0));
    header[72..80].copy_from_slice(&array_at.to_le_bytes());
    header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
    header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
    header[88..92].copy_from_slice(&crc32(array).to_le_bytes());
    let sum = crc32(&header[..HEADER_LENGTH]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

/// A UUID of version 8 (RFC 9562, section 5.8), stored as a GUID.
fn identifier(seed: &str, index: usize) -> [u8; 16] {
    let hash = Sha256::digest(format!("{seed} {index}"));
    let mut guid = [0; 16];
    guid.copy_from_slice(&hash[..16]);
    // The third group is little-endian, so its version stands in byte 7.
    guid[7] = (guid[7] & 0x0f) | 0x80;
    guid[8] = (guid[8] & 0x3f) | 0x80;
    guid
}

/// CRC-32 of ISO-HDLC, reflected, as the specification asks for; 16 KiB of input need no table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn both_copies_name_each_other_and_carry_valid_checksums() {
        let file = tempfile::tempfile().unwrap();
        let size = 64 << 20;
        file.set_len(size).unwrap();
        let parts = [
            Partition { kind: BIOS_BOOT, first: 2048, count: 2048, name: "boot" },
            Partition { kind: LINUX, first: 4096, count: 120_000, name: "root" },
        ];
        write(&file, size, "seed", &parts).unwrap();
        let last = size / SECTOR - 1;
        for (at, other) in [(1, last), (last, 1)] {
            let mut header = vec![0; 512];
            file.read_exact_at(&mut header, at * SECTOR).unwrap();
            assert_eq!(&header[..8], b"EFI PART");
            assert_eq!(header[32..40], other.to_le_bytes());
            let sum: [u8; 4] = header[16..20].try_into().unwrap();
            header[16..20].fill(0);
            assert_eq!(u32::from_le_bytes(sum), crc32(&header[..HEADER_LENGTH]));

            let array_at = u64::from_le_bytes(header[72..80].try_into().unwrap());
            let mut array = vec![0; ENTRIES * ENTRY];
            file.read_exact_at(&mut array, array_at * SECTOR).unwrap();
            assert_eq!(header[88..92], crc32(&array).to_le_bytes());
            assert_eq!(array[128 + 32..128 + 40], 4096u64.to_le_bytes());
            assert_eq!(array[128 + 40..128 + 48], 124_095u64.to_le_bytes());
        }
    }
}
