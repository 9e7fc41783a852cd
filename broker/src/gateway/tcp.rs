//! What the kernel knows of viewers' TCP connections (sock_diag(7), `struct tcp_info` of linux/tcp.h), by their addresses.
//!
//! A viewer's socket is deep inside TLS and HTTP by the time anybody asks, so the kernel is asked by a netlink socket and
//! not by the viewer's own. Knows nothing of what the connections carry.

use lucarne_control::SessionId;
use lucarne_control::trace::TcpFigures;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    local: SocketAddr,
    peer: SocketAddr,
}

impl Ends {
    /// Those of a stream.
    ///
    /// # Errors
    /// It is not connected any more.
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { local: stream.local_addr()?, peer: stream.peer_addr()? })
    }
}

type All = Arc<Mutex<Vec<(SessionId, Ends)>>>;

/// Which session is viewed over which connections.
#[derive(Clone, Debug, Default)]
pub struct Connections(All);

/// Keeps a connection known; dropped when it ends.
#[derive(Debug)]
pub struct Known(All, Option<(SessionId, Ends)>);

fn lock(all: &All) -> MutexGuard<'_, Vec<(SessionId, Ends)>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// A session is viewed over this connection, if it is one of TCP.
    pub fn enter(&self, session: SessionId, ends: Option<Ends>) -> Known {
        let entry = ends.map(|ends| (session, ends));
        lock(&self.0).extend(entry);
        Known(self.0.clone(), entry)
    }

    /// What the kernel says of a session's connections; those that it says nothing of are left out.
    pub fn figures(&self, session: SessionId) -> Vec<TcpFigures> {
        let entries: Vec<Ends> = lock(&self.0).iter().filter(|(of, _)| *of == session).map(|e| e.1).collect();
        let told = entries.into_iter().map(figures);
        told.filter_map(|told| told.inspect_err(|e| tracing::debug!(error = %e, "no TCP figures")).ok())
            .collect()
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let Some((session, ends)) = self.1 else { return };
        let mut all = lock(&self.0);
        if let Some(at) = all.iter().position(|entry| *entry == (session, ends)) {
            all.swap_remove(at);
        }
        drop(all);
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Ok(figures) = figures(ends)
        {
            tracing::debug!(%session, ?figures, "a viewer's connection ends");
        }
    }
}

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` (linux/netlink.h).
const REQUEST: u16 = 1;
/// `INET_DIAG_INFO` (linux/inet_diag.h).
const INFO: u16 = 2;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct inet_diag_msg`, which attributes follow.
const MESSAGE: usize = 72;

/// What the kernel says of a connection.
///
/// # Errors
/// There is no such connection any more, or the kernel does not tell of any.
fn figures(ends: Ends) -> io::Result<TcpFigures> {
    let flags = SocketFlags::CLOEXEC;
    let socket =
        net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    net::send(&socket, &request(ends), SendFlags::empty())?;
    let mut answer = [0; 4096];
    // The kernel has answered when the request was taken.
    let (n, _) = net::recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    let info = info(&answer[..n]).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    parse(info, ends.peer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`: one socket, by its addresses.
fn request(Ends { local, peer }: Ends) -> Vec<u8> {
    let v6 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ([ip.octets(), [0; 4], [0; 4], [0; 4]].concat(), 2),
        IpAddr::V6(ip) => (ip.octets().to_vec(), 10),
    };
    let ((source, family), (destination, _)) = (v6(local.ip()), v6(peer.ip()));
    let mut out = Vec::with_capacity(HEADER + 56);
    out.extend((HEADER as u32 + 56).to_ne_bytes());
    out.extend([BY_FAMILY.to_ne_bytes(), REQUEST.to_ne_bytes()].concat());
    // Sequence and port: there is one request.
    out.extend([0; 8]);
    // Family, protocol (TCP), attributes, padding, all states.
    out.extend([family, 6, 1 << (INFO - 1), 0]);
    out.extend(u32::MAX.to_ne_bytes());
    out.extend([local.port().to_be_bytes(), peer.port().to_be_bytes()].concat());
    out.extend([source, destination].concat());
    // Any interface, and no cookie.
    out.extend([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The attribute `INET_DIAG_INFO` of an answer.
fn info(answer: &[u8]) -> Option<&[u8]> {
    if u16_at(answer, 4)? != BY_FAMILY {
        return None;
    }
    let mut rest = answer.get(HEADER + MESSAGE..)?;
    loop {
        let (length, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let value = rest.get(4..length)?;
        if kind == INFO {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// `struct tcp_info`; kernels have only ever added to its end.
fn parse(info: &[u8], peer: SocketAddr) -> Option<TcpFigures> {
    let ms = |micros: u32| f64::from(micros) / 1000.0;
    Some(TcpFigures {
        peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
        unacknowledged: u32_at(info, 24)?,
        rtt_ms: ms(u32_at(info, 68)?),
        rttvar_ms: ms(u32_at(info, 72)?),
        retransmits: u32_at(info, 100)?,
        unsent: u32_at(info, 144)?,
        delivery_rate: u64::from_ne_bytes(info.get(160..168)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_kernel_tells_of_a_sessions_connections_while_they_are_known() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let port = listener.local_addr().unwrap().port();
            let host = if address.starts_with("[::1]") { "::1" } else { "127.0.0.1" };
            let mut viewer = TcpStream::connect((host, port)).await.unwrap();
            let (mut stream, peer) = listener.accept().await.unwrap();
            stream.write_all(&[7; 5000]).await.unwrap();
            viewer.read_exact(&mut [0; 5000]).await.unwrap();
            let (connections, session) = (Connections::default(), SessionId::generate());
            let known = connections.enter(session, Some(Ends::of(&stream).unwrap()));
            let _other = connections.enter(SessionId::generate(), None);
            let figures = connections.figures(session);
            assert_eq!(figures.len(), 1, "{address}");
            assert!(figures[0].peer.ends_with(&format!(":{}", peer.port())), "{figures:?}");
            assert!(figures[0].rtt_ms > 0.0 && figures[0].delivery_rate > 0, "{figures:?}");
            assert_eq!((figures[0].retransmits, figures[0].unsent), (0, 0));
            drop(known);
            assert_eq!(connections.figures(session), []);
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_has_no_figures() {
        let nobody = "127.0.0.1:9".parse().unwrap();
        assert!(figures(Ends { local: nobody, peer: "127.0.0.1:10".parse().unwrap() }).is_err());
    }

    #[test]
    fn an_answer_that_is_cut_off_is_no_answer() {
        let mut answer = [0; HEADER + MESSAGE];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        for attribute in [&[][..], &[0, 0], &[0, 0, 0, 0], &[200, 0, 2, 0, 1], &[4, 0, 9, 0]] {
            let all = [&answer[..], attribute].concat();
            assert_eq!(info(&all), None);
        }
        assert_eq!(parse(&[0; 167], "[::1]:1".parse().unwrap()), None);
    }
}
