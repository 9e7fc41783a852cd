//! The layers of a desktop's disk: qcow2 files, each over the one below.
//!
//! A layer says itself what it is over. The form: QEMU's docs/interop/qcow2.txt, "Header".

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const MAGIC: [u8; 4] = *b"QFI\xfb";

/// The longest name of a lower layer, bytes.
const MAX_NAME: u32 = 1023;

/// Why nothing could be done to a layer.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be read or written.
    #[error("{what} {path}")]
    File {
        /// What went wrong.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is not a disk of this program: it is damaged")]
    Damaged(PathBuf),
    /// qemu-img.
    #[error("qemu-img could not {what} {path}: {said}")]
    Tool {
        /// What it was to do.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        said: String,
    },
    /// It is not wanted any more.
    #[error("it was cancelled")]
    Cancelled,
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_path_buf();
    move |source| DiskError::File { what, path, source }
}

/// What a layer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The disk's size, bytes.
    pub(crate) size: u64,
    /// The layer below.
    pub(crate) over: Option<PathBuf>,
}

/// Reads a layer's header. No link is followed: the folder is its user's.
///
/// # Errors
/// It cannot be read, or is something else.
pub(crate) fn header(path: &Path) -> Result<Header, DiskError> {
    let plain = rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits();
    // Their numbers are small.
    let mut layer = File::options()
        .read(true)
        .custom_flags(plain as i32)
        .open(path)
        .map_err(file("cannot open the disk", path))?;
    let mut fixed = [0; 32];
    layer.read_exact(&mut fixed).map_err(file("cannot read the disk", path))?;
    let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    let (offset, length) = (long(8), word(16));
    if fixed[..4] != MAGIC || length > MAX_NAME {
        return Err(DiskError::Damaged(path.into()));
    }
    let mut name = vec![0; length as usize];
    layer.read_exact_at(&mut name, offset).map_err(file("cannot read the disk", path))?;
    let over = (length > 0).then(|| PathBuf::from(OsString::from_vec(name)));
    Ok(Header { size: long(24), over })
}

/// What a layer is over, as it says itself; nothing where it is whole. No link is followed.
///
/// # Errors
/// It cannot be read, or is something else.
pub fn over(path: &Path) -> Result<Option<PathBuf>, DiskError> {
    header(path).map(|header| header.over)
}

/// Makes an empty layer over another, which need not be there yet, and has it on the disk.
///
/// # Errors
/// It is not made.
pub(crate) async fn make(path: &Path, over: &Path, size: u64) -> Result<(), DiskError> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-o", "lazy_refcounts=off", "-u", "-b"]);
    command.arg(over).arg(path).arg(size.to_string());
    run(command, "make", path, || false).await?;
    let made = File::open(path).map_err(file("cannot open the disk", path))?;
    made.sync_all().map_err(file("cannot put on the disk", path))
}

/// Puts a layer over a lower one than it is over, with everything that it would miss.
///
/// # Errors
/// It is over the same as before, and has perhaps more in it than it needs.
pub(crate) async fn put_over(
    path: &Path,
    over: &Path,
    is_cancelled: impl Fn() -> bool,
) -> Result<(), DiskError> {
    let mut command = Command::new("qemu-img");
    command.args(["rebase", "-q", "-f", "qcow2", "-F", "qcow2", "-t", "writeback", "-b"]);
    command.arg(over).arg(path);
    run(command, "merge", path, is_cancelled).await?;
    let done = File::open(path).map_err(file("cannot open the disk", path))?;
    done.sync_all().map_err(file("cannot put on the disk", path))
}

async fn run(
    mut command: Command,
    what: &'static str,
    path: &Path,
    is_cancelled: impl Fn() -> bool,
) -> Result<(), DiskError> {
    let tool = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = tool.spawn().map_err(file("cannot run qemu-img on", path))?;
    let output = child.wait_with_output();
    tokio::pin!(output);
    let output = loop {
        match tokio::time::timeout(Duration::from_millis(100), &mut output).await {
            Ok(output) => break output.map_err(file("cannot run qemu-img on", path))?,
            Err(_) if is_cancelled() => return Err(DiskError::Cancelled),
            Err(_) => {}
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(DiskError::Tool { what, path: path.into(), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_layer_says_what_it_is_over_and_can_be_put_lower() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let root = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(path("root"))
            .arg("4M")
            .status();
        assert!(root.unwrap().success());
        make(&path("middle"), &path("root"), 4 << 20).await.unwrap();
        make(&path("top"), &path("middle"), 4 << 20).await.unwrap();
        assert_eq!(header(&path("root")).unwrap(), Header { size: 4 << 20, over: None });
        assert_eq!(header(&path("top")).unwrap(), Header { size: 4 << 20, over: Some(path("middle")) });
        put_over(&path("top"), &path("root"), || false).await.unwrap();
        assert_eq!(header(&path("top")).unwrap().over, Some(path("root")));
        assert!(matches!(put_over(&path("top"), &path("gone"), || false).await, Err(DiskError::Tool { .. })));
        assert_eq!(header(&path("top")).unwrap().over, Some(path("root")));
    }

    #[test]
    fn what_is_no_disk_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, [7; 64]).unwrap();
        assert!(matches!(header(&path), Err(DiskError::Damaged(_))));
        std::fs::write(&path, [7; 3]).unwrap();
        assert!(matches!(header(&path), Err(DiskError::File { .. })));
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(matches!(header(&dir.path().join("link")), Err(DiskError::File { .. })));
        let mut long = vec![0; 64];
        long[..4].copy_from_slice(&MAGIC);
        long[16..20].copy_from_slice(&2000_u32.to_be_bytes());
        std::fs::write(&path, long).unwrap();
        assert!(matches!(header(&path), Err(DiskError::Damaged(_))));
    }
}
