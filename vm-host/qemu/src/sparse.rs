//! Copies of files with holes: what is a hole stays one, and where the file system can share what both have, it does
//! (`copy_file_range`, which the standard library uses).

use rustix::fs::SeekFrom;
use std::fs::File;
use std::io::{self, Read, Seek};

/// Between two looks at whether the copy is still wanted, bytes.
const PIECE: u64 = 32 << 20;

/// Copies a file into an empty one, which is on the disk afterwards. It asks every 32 MiB whether it is to go on, telling how many bytes
/// are behind it and how many there are.
///
/// # Errors
/// One of the files'; [`io::ErrorKind::Interrupted`] where it is not to go on. What was copied by then is the caller's to remove.
pub fn copy(from: &File, to: &File, mut goes_on: impl FnMut(u64, u64) -> bool) -> io::Result<()> {
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut at = 0;
    while let Some((start, end)) = data(from, at, size)? {
        at = start;
        while at < end {
            if !goes_on(at, size) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "it was cancelled"));
            }
            let (mut source, mut target) = (from, to);
            source.seek(io::SeekFrom::Start(at))?;
            target.seek(io::SeekFrom::Start(at))?;
            let copied = io::copy(&mut source.take(PIECE.min(end - at)), &mut target)?;
            if copied == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
            }
            at += copied;
        }
    }
    to.sync_all()
}

/// The next piece that is no hole; where the file system does not know of holes, all that is left.
fn data(file: &File, from: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(rustix::io::Errno::INVAL) => return Ok((from < size).then_some((from, size))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
    Ok((start < end).then_some((start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn what_is_a_hole_stays_one_and_the_rest_is_the_same() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.set_len(100 << 20).unwrap();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(&vec![7; 3 << 20], 40 << 20).unwrap();
        from.write_all_at(b"end", (100 << 20) - 3).unwrap();
        copy(&from, &to, |_, size| size == 100 << 20).unwrap();
        let read = |file: &File| {
            let mut all = vec![0; 100 << 20];
            file.read_exact_at(&mut all, 0).unwrap();
            all
        };
        assert!(read(&from) == read(&to));
        assert!(to.metadata().unwrap().blocks() * 512 < 8 << 20, "the holes take nothing");
    }

    #[test]
    fn one_that_is_not_wanted_any_more_ends_and_an_empty_one_is_copied() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        copy(&from, &to, |_, _| false).unwrap();
        from.write_all_at(b"something", 0).unwrap();
        assert_eq!(copy(&from, &to, |_, _| false).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
