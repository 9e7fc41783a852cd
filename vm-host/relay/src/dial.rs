//! Connections to brokers.

use lucarne_trust::Role;
use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The longest wait for a broker to answer. Shorter: slow networks are taken for none. Longer: the next broker is tried later.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was sent and not received for this long, and a partner that is silent for as long, end a connection. Shorter: a short cut
/// ends streams. Longer: after a long one they come back later.
pub const CUT: Duration = Duration::from_secs(30);

/// Has the kernel notice when the other side is gone.
///
/// # Errors
/// The kernel's.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(CUT / 3).with_interval(CUT / 6);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(CUT))
}

/// What we say ourselves of a certificate, without what TLS puts before it.
fn plainly(e: io::Error) -> io::Error {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::General(words)) => io::Error::new(e.kind(), words.clone()),
        _ => e,
    }
}

/// Connects to a broker's door for hosts, `NAME:PORT`, and checks that it is one of the deployment.
///
/// # Errors
/// What was tried, and why it failed.
pub async fn broker(address: &str, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let dial = async {
        let stream = TcpStream::connect(address).await?;
        prepare(&stream)?;
        let name = Role::Broker.server_name().map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await.map_err(plainly)
    };
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, dial).await.map_err(|_| late())?
}
