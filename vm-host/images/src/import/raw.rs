//! Checks a raw disk: whole sectors, a boot sector, and none of the other formats by mistake.

use super::source::{HeaderError, Source, check_size};

/// What other formats begin with. A raw disk is not judged by them, its boot sector could hold anything; a file with
/// such a beginning *and* no boot sector was given with the wrong format, and is told so.
const OTHERS: [(&[u8], &str); 4] =
    [(b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"# Disk Desc", "vmdk"), (b"vhdxfile", "vhdx")];

/// Size of the disk, bytes.
pub(super) fn check(source: &impl Source) -> Result<u64, HeaderError> {
    let sector = source.bytes("boot sector", 0, 512)?;
    // The signature at the end of every boot sector, the protective one of a GPT too (UEFI specification, 5.2.1).
    if sector[510..] != [0x55, 0xaa] {
        return Err(match OTHERS.iter().find(|(magic, _)| sector.starts_with(magic)) {
            Some((_, name)) => {
                HeaderError::Damaged(format!("there is no boot sector; the file looks like {name}"))
            }
            None => HeaderError::Damaged("there is no boot sector, so nothing could boot from it".into()),
        });
    }
    check_size(source.len())
}
