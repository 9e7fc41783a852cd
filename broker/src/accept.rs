//! Accepting connections from strangers: how many there may be, and how many of them before they have shown who they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest wait at the end for what is being served.
const FAREWELL: Duration = Duration::from_secs(5);

/// The pause after a failure, which is mostly a lack of descriptors that only others can give back.
const PAUSE: Duration = Duration::from_millis(100);

/// How long refused connections are counted before the log tells of them. Shorter: more lines under a flood. Longer: an
/// administrator who looks sees nothing yet.
const TOGETHER: Duration = Duration::from_secs(5);

/// Bytes that the kernel takes of a connection beyond those that are on the network. What waits there is an old picture by
/// the time it goes: at 20 Mbit/s this much goes in 13 ms. Much less costs a wake-up for every few packets.
const UNSENT: u32 = 32 << 10;

/// What one listener serves at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Of them, those that have not finished their handshake. Strangers cannot hold more.
    pub handshaking: usize,
}

/// A connection's place among those that are in their handshake; dropped when it is done.
pub struct Handshaking(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// Accepts `whom` until `shutdown` and serves each connection in a task of its own; then waits a moment for the tasks to
/// end.
///
/// Newcomers beyond the limits are closed at once, so that under a flood those inside go on; the log tells of them in one
/// line for many.
pub async fn accept<F, S>(
    whom: &'static str,
    listener: TcpListener,
    limits: Limits,
    shutdown: CancellationToken,
    serve: F,
) where
    F: Fn(TcpStream, SocketAddr, Handshaking) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.connections));
    let handshaking = Arc::new(Semaphore::new(limits.handshaking));
    let tasks = TaskTracker::new();
    let mut refused = Refused::default();
    loop {
        let (stream, address) = tokio::select! {
            () = shutdown.cancelled() => break,
            () = refused.due() => {
                refused.log(whom, limits);
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    pause(&e).await;
                    continue;
                }
            },
        };
        let (Ok(place), Ok(shaking)) =
            (Arc::clone(&connections).try_acquire_owned(), Arc::clone(&handshaking).try_acquire_owned())
        else {
            refused.add(address);
            continue;
        };
        if let Err(e) = prepare(&stream) {
            // It has gone already.
            tracing::debug!(error = %e, %address, "a connection was not prepared");
            continue;
        }
        let served = serve(stream, address, Handshaking(shaking));
        tasks.spawn(async move {
            let _place = place;
            served.await;
        });
    }
    tasks.close();
    let _ = timeout(FAREWELL, tasks.wait()).await;
}

/// Connections that were closed because there are too many, and that the log has not told of.
#[derive(Default)]
struct Refused {
    count: u64,
    /// The last one's.
    address: Option<SocketAddr>,
    log_at: Option<Instant>,
}

impl Refused {
    fn add(&mut self, address: SocketAddr) {
        self.count += 1;
        self.address = Some(address);
        self.log_at.get_or_insert_with(|| Instant::now() + TOGETHER);
    }

    /// Waits until the log has to tell; for ever when there is nothing to tell.
    async fn due(&self) {
        match self.log_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn log(&mut self, whom: &str, limits: Limits) {
        let Self { count, address, .. } = std::mem::take(self);
        tracing::warn!(
            count,
            last = address.map(tracing::field::display),
            "connections for {whom} were closed at once: at most {} may be in their handshake, and {} in all",
            limits.handshaking,
            limits.connections
        );
    }
}

/// Nothing waits for more to go with it, and little waits at all.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Older kernels do not know it.
    let _ = crate::retransmit::soon(stream);
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)
}

/// After a listener's failure.
pub async fn pause(e: &io::Error) {
    tracing::error!(error = %e, "cannot accept connections; trying again");
    tokio::time::sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn little_waits_in_the_kernel_for_a_slow_network() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let accepting = tokio::spawn(async move {
            let limits = Limits { connections: 1, handshaking: 1 };
            accept("tests", listener, limits, stop, |mut stream, _, _| async move {
                let socket = socket2::SockRef::from(&stream);
                let good = stream.nodelay().unwrap() && socket.tcp_notsent_lowat().unwrap() == UNSENT;
                stream.write_u8(good.into()).await.unwrap();
            })
            .await;
        });
        assert_eq!(TcpStream::connect(address).await.unwrap().read_u8().await.unwrap(), 1);
        shutdown.cancel();
        accepting.await.unwrap();
    }

    #[tokio::test]
    async fn those_beyond_the_limit_are_closed_until_a_handshake_is_done() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let held: Arc<Mutex<Vec<Handshaking>>> = Arc::default();
        let (keep, stop) = (held.clone(), shutdown.clone());
        let limits = Limits { connections: 8, handshaking: 1 };
        let accepting = tokio::spawn(async move {
            accept("tests", listener, limits, stop.clone(), move |mut stream, _, shaking| {
                keep.lock().unwrap().push(shaking);
                let stop = stop.clone();
                async move {
                    let _ = stream.write_all(b"in").await;
                    stop.cancelled().await;
                }
            })
            .await;
        });
        let come = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut said = [0; 2];
            // A closed newcomer reads an end or a reset.
            let inside = stream.read_exact(&mut said).await.is_ok();
            (stream, inside)
        };
        let (_first, inside) = come().await;
        assert!(inside);
        assert!(!come().await.1, "a second is in its handshake");
        held.lock().unwrap().clear();
        let (_third, inside) = come().await;
        assert!(inside);
        shutdown.cancel();
        accepting.await.unwrap();
    }
}
