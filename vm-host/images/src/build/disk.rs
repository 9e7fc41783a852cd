//! A bootable disk from a folder, without loop devices or mounts.
//!
//! ```text
//! sector 0      GRUB's boot.img, and the protective MBR
//! 1 .. 33       GPT
//! 2048 .. 4095  BIOS boot partition: GRUB's core.img
//! 4096 ..       root, ext4, made by `mke2fs -d`
//! last 33       GPT, second copy
//! ```
//!
//! The boot loader is embedded as grub-setup would do it (GRUB 2, `util/setup.c`): the first sector learns where the
//! core image begins, and the core image's own first sector learns where the rest of it lies.

use super::{
    BuildError,
    gpt::{self, Partition},
    strip::{BootLoader, ROOT_LABEL},
};
use crate::command::{Cancel, Run};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

const SECTOR: u64 = 512;
const CORE_SECTOR: u64 = 2048;
const CORE_SECTORS: u64 = 2048;
const ROOT_SECTOR: u64 = 4096;
/// Left free at the end for the second copy of the GPT, rounded to the alignment of partitions.
const TAIL_SECTORS: u64 = 2048;

/// `GRUB_BOOT_MACHINE_KERNEL_SECTOR`: where boot.img keeps the first sector of the core image, a 64-bit number.
const BOOT_KERNEL_SECTOR: usize = 0x5c;
/// The part of the first sector that is code; behind it lie the disk signature and the partition table.
const BOOT_CODE: usize = 440;
/// The first, and only, block list entry at the end of diskboot.img: start (64 bits), length, segment (16 bits each).
const CORE_BLOCK_LIST: usize = 512 - 12;

/// Writes the disk; `size` is in bytes, `seed` determines the identifiers in its partition table.
pub(super) fn write(
    path: &Path,
    size: u64,
    seed: &str,
    root: &Path,
    boot: &BootLoader,
    cancel: &Cancel,
) -> Result<(), BuildError> {
    let used = usage(root).map_err(|source| BuildError::Io { what: "measure", path: root.into(), source })?;
    // ext4's own tables and journal take a few percent.
    if used + used / 10 + (256 << 20) > size {
        return Err(BuildError::DiskTooSmall { used, disk: size });
    }
    let failed = |source| BuildError::Io { what: "write", path: path.into(), source };
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(failed)?;
    file.set_len(size).map_err(failed)?;
    partition(&file, size, seed).map_err(failed)?;
    let sectors = size / SECTOR - ROOT_SECTOR - TAIL_SECTORS;
    Run::new("mke2fs", "e2fsprogs", cancel)
        .args(["-q", "-F", "-t", "ext4", "-L", ROOT_LABEL, "-m", "1", "-J", "size=32"])
        // Features that GRUB 2.06 cannot read are off; lazily made tables would be written by every clone again.
        .args(["-O", "^metadata_csum_seed,^orphan_file"])
        .args([
            "-E",
            &format!("offset={},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", ROOT_SECTOR * SECTOR),
        ])
        .arg("-d")
        .arg(root)
        .arg(path)
        .arg(format!("{}k", sectors / 2))
        .run()?;
    embed(&file, boot).map_err(failed)
}

/// Converts to qcow2, leaving out what is zero.
pub(super) fn convert(raw: &Path, qcow2: &Path, cancel: &Cancel) -> Result<(), BuildError> {
    Run::new("qemu-img", "qemu-utils", cancel)
        .args(["convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"])
        .arg(raw)
        .arg(qcow2)
        .run()?;
    Ok(())
}

fn partition(file: &File, size: u64, seed: &str) -> io::Result<()> {
    let count = size / SECTOR - ROOT_SECTOR - TAIL_SECTORS;
    let boot = Partition { kind: gpt::BIOS_BOOT, first: CORE_SECTOR, count: CORE_SECTORS, name: "boot" };
    let root = Partition { kind: gpt::LINUX, first: ROOT_SECTOR, count, name: "root" };
    gpt::write(file, size, seed, &[boot, root])
}

fn embed(file: &File, boot: &BootLoader) -> io::Result<()> {
    let bad = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    if boot.boot.len() != SECTOR as usize {
        return Err(bad("GRUB's boot.img is not one sector"));
    }
    if boot.core.len() <= SECTOR as usize || boot.core.len() as u64 > CORE_SECTORS * SECTOR {
        return Err(bad("GRUB's core.img does not fit the BIOS boot partition"));
    }
    let mut first = boot.boot[..BOOT_CODE].to_vec();
    first[BOOT_KERNEL_SECTOR..BOOT_KERNEL_SECTOR + 8].copy_from_slice(&CORE_SECTOR.to_le_bytes());
    file.write_all_at(&first, 0)?;

    let mut core = boot.core.clone();
    let length = u16::from_le_bytes([core[CORE_BLOCK_LIST + 8], core[CORE_BLOCK_LIST + 9]]);
    if u64::from(length) < (core.len() as u64).div_ceil(SECTOR) - 1 {
        return Err(bad("GRUB's core.img has no block list that covers it"));
    }
    core[CORE_BLOCK_LIST..CORE_BLOCK_LIST + 8].copy_from_slice(&(CORE_SECTOR + 1).to_le_bytes());
    file.write_all_at(&core, CORE_SECTOR * SECTOR)
}

/// Bytes that a folder's files take.
fn usage(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        total += about.blocks() * SECTOR;
        if about.is_dir() {
            total += usage(&entry.path())?;
        }
    }
    Ok(total)
}
