//! What the broker counts, and what it measures when monitoring asks: [`lucarne_metrics`] serves it.
//!
//! Labels are names of pools and hosts, routes, and words of ours; never what a stranger sent, and no user's name.

use crate::app::App;
use async_trait::async_trait;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use lucarne_control::desktop::{Launch, LaunchStep};
use lucarne_core::store::Figures;
use lucarne_metrics::prometheus::core::Collector;
use lucarne_metrics::prometheus::proto::MetricFamily;
use lucarne_metrics::prometheus::{
    self, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use lucarne_metrics::{Check, SECONDS, Watched};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::Instrument;

/// How old figures of the record may be: who asks more often gets the same again.
const FRESH: Duration = Duration::from_secs(5);

/// The longest wait for the database, when it is asked whether it is there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a request's id is told (no standard, but what proxies and other servers use).
const REQUEST_ID: &str = "x-request-id";

/// The broker's counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    connects: IntCounterVec,
    connect_seconds: HistogramVec,
    launch_seconds: HistogramVec,
    sign_ins: IntCounterVec,
    streams: IntGaugeVec,
    streams_ended: IntCounterVec,
    links: IntGauge,
    watchers: IntGauge,
    database: Gauge,
    kept: Mutex<Option<(Instant, Arc<Figures>)>>,
}

fn counter(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn histogram(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)
}

impl Metrics {
    /// All at 0.
    ///
    /// # Errors
    /// Never with these names.
    pub fn new() -> prometheus::Result<Self> {
        let registry = lucarne_metrics::registry(env!("CARGO_PKG_VERSION"))?;
        let metrics = Self {
            requests: counter(
                "lucarne_http_requests_total",
                "Requests that were answered, by the API's route.",
                &["method", "route", "status"],
            )?,
            request_seconds: histogram(
                "lucarne_http_request_duration_seconds",
                "Time from a request to its answer's first byte, in seconds; streams of viewers are not in it, nor is what follows an event stream's beginning.",
                &["route"],
            )?,
            connects: counter(
                "lucarne_connects_total",
                "Connects to a pool, by what came of them: fresh, existing, waiting, failed, or refused (of no pool).",
                &["pool", "outcome"],
            )?,
            connect_seconds: histogram(
                "lucarne_connect_duration_seconds",
                "Time from a connect to its answer, in seconds.",
                &["pool", "outcome"],
            )?,
            launch_seconds: histogram(
                "lucarne_launch_step_duration_seconds",
                "What the broker's steps of a connect that made a desktop took, in seconds.",
                &["pool", "step"],
            )?,
            sign_ins: counter(
                "lucarne_sign_ins_total",
                "Names and passwords that were shown.",
                &["outcome"],
            )?,
            streams: IntGaugeVec::new(
                Opts::new("lucarne_streams", "Viewers whose streams go through this broker now."),
                &["kind"],
            )?,
            streams_ended: counter(
                "lucarne_streams_ended_total",
                "Viewers' streams that ended, by why.",
                &["kind", "reason"],
            )?,
            links: IntGauge::new("lucarne_host_links", "Hosts that are linked to this broker now.")?,
            watchers: IntGauge::new(
                "lucarne_event_streams",
                "Streams of events (GET /api/v1/events) that go through this broker now.",
            )?,
            database: Gauge::new(
                "lucarne_database_answer_seconds",
                "Time that the database took for the smallest question, when last asked, in seconds; -1 without an answer.",
            )?,
            kept: Mutex::default(),
            registry,
        };
        let all: [Box<dyn Collector>; 11] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.request_seconds.clone()),
            Box::new(metrics.connects.clone()),
            Box::new(metrics.connect_seconds.clone()),
            Box::new(metrics.launch_seconds.clone()),
            Box::new(metrics.sign_ins.clone()),
            Box::new(metrics.streams.clone()),
            Box::new(metrics.streams_ended.clone()),
            Box::new(metrics.links.clone()),
            Box::new(metrics.watchers.clone()),
            Box::new(metrics.database.clone()),
        ];
        for collector in all {
            metrics.registry.register(collector)?;
        }
        // What has not happened yet is 0, and not unknown: an alert on a rate needs the first of them.
        for kind in ["browser", "vnc"] {
            metrics.streams.with_label_values(&[kind]).set(0);
        }
        for outcome in ["accepted", "refused", "too_many"] {
            metrics.sign_ins.with_label_values(&[outcome]).reset();
        }
        Ok(metrics)
    }

    /// A connect to a pool was answered; `pool` is empty where it was refused, since anybody may ask for any name.
    pub fn connected(&self, pool: &str, outcome: &str, took: Duration) {
        self.connects.with_label_values(&[pool, outcome]).inc();
        self.connect_seconds.with_label_values(&[pool, outcome]).observe(took.as_secs_f64());
    }

    /// A connect made a desktop.
    pub fn launched(&self, pool: &str, launch: &Launch) {
        let steps = [
            (LaunchStep::Queue, Some(launch.queue_ms)),
            (LaunchStep::Placement, Some(launch.placement_ms)),
            (LaunchStep::Picture, launch.picture_ms),
        ];
        for (step, ms) in steps {
            if let Some(ms) = ms {
                self.launch_seconds.with_label_values(&[pool, step.as_str()]).observe(ms / 1000.0);
            }
        }
    }

    /// Somebody showed a name and a password.
    pub fn signed_in(&self, outcome: &str) {
        self.sign_ins.with_label_values(&[outcome]).inc();
    }

    /// A viewer's stream goes through here, until this is dropped.
    pub fn stream(&self, kind: &'static str) -> Streaming<'_> {
        self.streams.with_label_values(&[kind]).inc();
        Streaming { metrics: self, kind, reason: "broken" }
    }
}

/// A viewer's stream.
pub struct Streaming<'a> {
    metrics: &'a Metrics,
    kind: &'static str,
    /// Why it ended, once it did.
    pub reason: &'static str,
}

impl Drop for Streaming<'_> {
    fn drop(&mut self) {
        self.metrics.streams.with_label_values(&[self.kind]).dec();
        self.metrics.streams_ended.with_label_values(&[self.kind, self.reason]).inc();
    }
}

/// The middleware: each request has an id, in its answer and in every line that is logged for it, and is counted by its route.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    // Other methods are whatever a stranger makes of them.
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let id = uuid::Uuid::now_v7().simple().to_string();
    let span = tracing::info_span!("request", id, method, route);
    let began = Instant::now();
    let mut response = next.run(request).instrument(span).await;
    let metrics = &app.metrics;
    metrics.requests.with_label_values(&[&method, &route, response.status().as_str()]).inc();
    metrics.request_seconds.with_label_values(&[&route]).observe(began.elapsed().as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The broker as monitoring sees it.
pub struct Monitored(pub Arc<App>);

impl Monitored {
    /// The record's figures, not older than [`FRESH`].
    async fn figures(&self) -> Option<Arc<Figures>> {
        let mut kept = self.0.metrics.kept.lock().await;
        if let Some((at, figures)) = &*kept
            && at.elapsed() < FRESH
        {
            return Some(Arc::clone(figures));
        }
        let figures = timeout(PATIENCE, self.0.store.figures()).await;
        let figures =
            figures.ok()?.inspect_err(|e| tracing::warn!(error = %e, "no figures for monitoring")).ok();
        let figures = Arc::new(figures?);
        *kept = Some((Instant::now(), Arc::clone(&figures)));
        Some(figures)
    }

    /// How long the database took to answer; the error is for people.
    async fn database(&self) -> Result<Duration, String> {
        let began = Instant::now();
        match timeout(PATIENCE, self.0.store.answers()).await {
            Ok(Ok(())) => Ok(began.elapsed()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("it did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

#[async_trait]
impl Watched for Monitored {
    async fn metrics(&self) -> Vec<MetricFamily> {
        let metrics = &self.0.metrics;
        metrics.links.set(i64::try_from(self.0.control.links.told().len()).unwrap_or(i64::MAX));
        metrics.watchers.set(i64::try_from(self.0.events.count()).unwrap_or(i64::MAX));
        metrics.database.set(self.database().await.map_or(-1.0, |took| took.as_secs_f64()));
        let mut families = metrics.registry.gather();
        // Old figures would look like new ones: without the record there are none.
        if let Some(figures) = self.figures().await {
            match of_record(&figures) {
                Ok(more) => families.extend(more),
                Err(e) => tracing::error!(error = %e, "the record's figures cannot be told"),
            }
        }
        families
    }

    async fn checks(&self) -> Vec<Check> {
        let database = self.database().await;
        let ends = self.0.shutdown.is_cancelled();
        let serving = if ends { "the broker is ending" } else { "the broker serves" };
        let took = |took: Duration| format!("answered in {:.1} ms", took.as_secs_f64() * 1000.0);
        vec![
            Check { what: "serving", passed: !ends, says: serving.to_owned() },
            Check { what: "database", passed: database.is_ok(), says: database.map_or_else(|why| why, took) },
        ]
    }
}

/// Pools and hosts, which every broker tells alike: take one's, or the largest of all.
fn of_record(figures: &Figures) -> prometheus::Result<Vec<MetricFamily>> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, label: &str| {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        registry.register(Box::new(gauge.clone()))?;
        prometheus::Result::Ok(gauge)
    };
    let desktops = gauge("lucarne_pool_desktops", "Live desktops of the pool.", "pool")?;
    let waiting =
        gauge("lucarne_pool_waiting_desktops", "Desktops of the pool that wait for users.", "pool")?;
    let most = gauge("lucarne_pool_max_desktops", "Desktops that the pool may have.", "pool")?;
    for pool in &figures.pools {
        desktops.with_label_values(&[&pool.name]).set(pool.desktops.into());
        most.with_label_values(&[&pool.name]).set(pool.max_desktops.into());
        waiting.with_label_values(&[&pool.name]).set(pool.waiting.into());
    }
    let online = gauge("lucarne_host_online", "1 while the host is linked to a broker.", "host")?;
    let drained = gauge("lucarne_host_drained", "1 while no new desktops go to the host.", "host")?;
    let denied = gauge("lucarne_host_denied", "1 while the host may not connect.", "host")?;
    let placed = gauge("lucarne_host_desktops", "Desktops that are placed on the host.", "host")?;
    let promised = gauge(
        "lucarne_host_memory_promised_bytes",
        "Memory that the host's desktops were promised, in bytes.",
        "host",
    )?;
    let memory = gauge("lucarne_host_memory_bytes", "Memory that the host has, in bytes.", "host")?;
    let available = gauge(
        "lucarne_host_memory_available_bytes",
        "Memory that the host's programs could still get, as it last said, in bytes.",
        "host",
    )?;
    let disk =
        gauge("lucarne_host_disk_free_bytes", "Bytes free on the host's disk, as it last said.", "host")?;
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for host in &figures.hosts {
        let name = &[&host.name];
        online.with_label_values(name).set(host.online.into());
        drained.with_label_values(name).set(host.drained.into());
        denied.with_label_values(name).set(host.denied.into());
        placed.with_label_values(name).set(host.desktops.into());
        promised.with_label_values(name).set(bytes(host.promised_mib << 20));
        memory.with_label_values(name).set(bytes(host.memory_mib << 20));
        available.with_label_values(name).set(bytes(host.memory_available));
        disk.with_label_values(name).set(bytes(host.disk_free));
    }
    Ok(registry.gather())
}
