//! What a process tells monitoring systems of itself: metrics in Prometheus' text format, version 0.0.4, and whether it is
//! well and ready, as load balancers ask.
//!
//! ```text
//! GET /metrics   what the process counted, with what it measures when it is asked
//! GET /healthz   200 while the process answers: who gets no answer starts it again
//! GET /readyz    200 when it can serve, else 503, with a line for each thing that it needs
//! ```
//!
//! Served as plain HTTP, without a sign-in, on an address of its own: names of pools and hosts are in it, none of users.
//! Knows nothing of what is measured.

mod process;
mod serve;

pub use process::Process;
pub use prometheus;
pub use serve::serve;

use async_trait::async_trait;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};
use std::fmt;

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Upper bounds of buckets for what people wait for, seconds: from what nobody notices to what nobody waits for.
pub const SECONDS: [f64; 13] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Something that a process needs in order to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What, such as `database`.
    pub what: &'static str,
    /// It has it.
    pub passed: bool,
    /// How it is, for people.
    pub says: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", if self.passed { "[+]" } else { "[-]" }, self.what, self.says)
    }
}

/// A process that is watched.
#[async_trait]
pub trait Watched: Send + Sync + 'static {
    /// What it counted, and what is to be measured now.
    async fn metrics(&self) -> Vec<MetricFamily>;
    /// What it needs in order to serve, each with how it is.
    async fn checks(&self) -> Vec<Check>;
}

/// A registry with what every process tells: its version, memory, processor time and open files.
///
/// # Errors
/// Never with these names.
pub fn registry(version: &str) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let build = IntGaugeVec::new(
        Opts::new("lucarne_build_info", "Always 1; the label tells the version."),
        &["version"],
    )?;
    build.with_label_values(&[version]).set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(Process::new()?))?;
    Ok(registry)
}

/// Metrics as text.
#[must_use]
pub fn text(families: &[MetricFamily]) -> Vec<u8> {
    let mut out = Vec::new();
    if let Err(e) = TextEncoder::new().encode(families, &mut out) {
        tracing::error!(error = %e, "metrics cannot be written");
    }
    out
}
