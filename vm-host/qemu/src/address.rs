//! Connecting to QEMU's Unix sockets by paths of any length.
//!
//! `sockaddr_un` holds 107 bytes of path (unix(7)); a data directory may be deeper. Going through
//! `/proc/self/fd/<directory>` keeps the address short.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use tokio::net::UnixStream;

/// Longest path that fits `sun_path` with its terminating zero.
const SUN_PATH_MAX: usize = 107;

/// Connects to the socket at `path`.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= SUN_PATH_MAX {
        return UnixStream::connect(path).await;
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket's path needs a folder and a name"));
    };
    let dir = std::fs::File::open(dir)?;
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)).await
}

/// As [`connect`], for a socket whose owner has just bound it and is about to listen.
pub(crate) async fn connect_when_listening(path: &Path) -> io::Result<UnixStream> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match connect(path).await {
            Err(e)
                if e.kind() == io::ErrorKind::ConnectionRefused && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            other => return other,
        }
    }
}
