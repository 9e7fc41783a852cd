//! How soon the kernel sends again what a network has lost.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What Linux waits at least beyond the round trip (`TCP_RTO_MIN`, 200 ms otherwise) before it sends a packet again of which
/// nothing tells that it is lost. A key's answer is one small packet, behind which nothing comes until the user presses the
/// next: when it is lost, the user waits for this. Shorter than 40 ms is what receivers may wait with their answers (Linux,
/// `TCP_DELACK_MIN`), and would send much twice.
const WAIT: Duration = Duration::from_millis(40);

/// `TCP_RTO_MIN_US` of Linux 6.16 and later (`include/uapi/linux/tcp.h`), which libc does not have yet.
const TCP_RTO_MIN_US: libc::c_int = 45;

/// Makes the kernel of a connection's socket send lost packets again after [`WAIT`].
///
/// # Errors
/// The kernel does not know this option: it goes on as it does for everybody.
pub(crate) fn soon(socket: &impl AsRawFd) -> io::Result<()> {
    let wait = WAIT.as_micros() as libc::c_int;
    // SAFETY: the option's value is a C int, given with its address and size; the socket is open, because it is borrowed.
    #[expect(unsafe_code, reason = "no library has this option")]
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MIN_US,
            (&raw const wait).cast(),
            size_of_val(&wait) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_is_no_connection_of_tcp_is_an_error_and_a_kernel_without_the_option_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Err(error) = soon(&listener) {
            // Linux before 6.16.
            assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT), "{error}");
        }
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(soon(&socket).is_err());
    }
}
