//! What the relay tells monitoring ([`lucarne_metrics`] serves it): streams and bytes, of all desktops together.

use async_trait::async_trait;
use lucarne_metrics::prometheus::core::Collector;
use lucarne_metrics::prometheus::proto::MetricFamily;
use lucarne_metrics::prometheus::{self, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use lucarne_metrics::{Check, Watched};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is a viewer's stream.
    Taken,
    /// Who came is no broker, or asked for a desktop that is not here.
    Refused,
    /// Who came did not say in time what they want.
    Late,
    /// Too many others were about to say so.
    Crowded,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Taken, Self::Refused, Self::Late, Self::Crowded];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Crowded => "crowded",
        }
    }
}

/// The relay as monitoring sees it.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    registry: Registry,
    connections: IntCounterVec,
    streams: IntGauge,
    to_viewers: IntCounter,
    from_viewers: IntCounter,
}

impl Counts {
    /// All at 0.
    ///
    /// # Errors
    /// Never with these names.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = lucarne_metrics::registry(env!("CARGO_PKG_VERSION"))?;
        let connections = Opts::new(
            "lucarne_relay_connections_total",
            "Connections to this host's relay, by what became of them.",
        );
        let connections = IntCounterVec::new(connections, &["outcome"])?;
        for outcome in Outcome::ALL {
            connections.with_label_values(&[outcome.as_str()]);
        }
        let bytes =
            Opts::new("lucarne_relay_bytes_total", "Bytes that this host's relay has copied, by their way.");
        let bytes = IntCounterVec::new(bytes, &["way"])?;
        let streams = IntGauge::new("lucarne_relay_streams", "Viewers' streams through this host's relay.")?;
        let all: [Box<dyn Collector>; 3] =
            [Box::new(connections.clone()), Box::new(bytes.clone()), Box::new(streams.clone())];
        for collector in all {
            registry.register(collector)?;
        }
        let (to_viewers, from_viewers) =
            (bytes.with_label_values(&["to_viewers"]), bytes.with_label_values(&["from_viewers"]));
        Ok(Self { registry, connections, streams, to_viewers, from_viewers })
    }

    pub(crate) fn connection(&self, outcome: Outcome) {
        self.connections.with_label_values(&[outcome.as_str()]).inc();
    }

    /// A desktop's side of a stream, which counts until it is dropped.
    pub(crate) fn stream(&self, desktop: UnixStream) -> Counted {
        self.streams.inc();
        Counted { desktop, counts: self.clone() }
    }
}

#[async_trait]
impl Watched for Counts {
    async fn metrics(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    async fn checks(&self) -> Vec<Check> {
        // It is not served any more once no streams are taken.
        vec![Check { what: "door", passed: true, says: "viewers' streams are taken".to_owned() }]
    }
}

/// A desktop's side of a stream, of which every byte counts.
#[derive(Debug)]
pub(crate) struct Counted {
    desktop: UnixStream,
    counts: Counts,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.streams.dec();
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.desktop).poll_read(cx, into))?;
        self.counts.to_viewers.inc_by((into.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.desktop).poll_write(cx, bytes))?;
        self.counts.from_viewers.inc_by(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.desktop).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.desktop).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_goes_either_way_is_counted_while_it_goes() {
        let counts = Counts::new().unwrap();
        let (ours, mut desktop) = UnixStream::pair().unwrap();
        counts.connection(Outcome::Taken);
        let mut stream = counts.stream(ours);
        stream.write_all(b"keys").await.unwrap();
        desktop.write_all(b"a picture").await.unwrap();
        let mut picture = [0; 9];
        stream.read_exact(&mut picture).await.unwrap();
        let told = || async {
            let text = String::from_utf8(lucarne_metrics::text(&counts.metrics().await)).unwrap();
            move |line: &str| text.lines().any(|told| told == line)
        };
        let has = told().await;
        assert!(
            has("lucarne_relay_streams 1") && has(r#"lucarne_relay_connections_total{outcome="taken"} 1"#)
        );
        assert!(has(r#"lucarne_relay_bytes_total{way="to_viewers"} 9"#));
        assert!(has(r#"lucarne_relay_bytes_total{way="from_viewers"} 4"#));
        assert!(has(r#"lucarne_relay_connections_total{outcome="refused"} 0"#), "told before it happens");
        drop(stream);
        assert!(told().await("lucarne_relay_streams 0"));
    }
}
