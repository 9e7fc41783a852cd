//! The host agent: receives the complete set of what should be on this host, makes it so, and reports what it sees.
//!
//! It owns the node's image and template store and starts one desktop process per desktop. It is not in the way of any
//! stream: it may end at any time and be started again, and takes over what runs.
//!
//! ```text
//!   broker ──Desired──► link ──► reconcile ──► templates (build one at a time)
//!     ▲                            │
//!     └────Observed──── hub ◄──────┴─────────► desktops  (one task each: spawn, adopt, watch, destroy)
//! ```

mod accel;
mod clones;
pub mod config;
mod desktop_process;
mod desktop_task;
mod desktops;
mod folder;
mod followed;
mod homes;
mod hub;
mod link;
mod machine;
mod metrics;
pub mod network;
mod origins;
mod power;
mod recordings;
mod renewal;
pub mod sim;
mod slots;
mod snapshot_work;
mod snapshots;
mod spawn;
mod streams;
mod templates;

use crate::desktops::Desktops;
use crate::hub::Hub;
use crate::templates::Templates;
pub use accel::{AccelChoice, Chosen, choose};
pub use config::{AgentConfig, Route, check_passable};
use lucarne_control::agent::{HostFacts, StreamDoor};
use lucarne_images::Store;
use lucarne_qemu::Qemu;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whom a template's QEMU runs as when we are root.
#[must_use]
pub fn template_credentials() -> lucarne_qemu::process::Credentials {
    slots::template_credentials()
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No usable QEMU.
    #[error(transparent)]
    Qemu(#[from] lucarne_qemu::binary::QemuMissing),
    /// What was asked for cannot be had.
    #[error(transparent)]
    Accel(#[from] accel::AccelError),
    /// A folder.
    #[error("the host's folder {path} cannot be used")]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The image store.
    #[error("the image store cannot be opened: {0}")]
    Images(String),
    /// A path that is too long for a Unix socket.
    #[error("{0}")]
    PathTooLong(String),
    /// The relay.
    #[error("viewers' streams cannot be taken by the network")]
    Relay(#[source] std::io::Error),
    /// Monitoring cannot be served.
    #[error(
        "cannot listen on {address}: {source}; stop what uses it, or choose another address with --metrics-listen"
    )]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// What is counted cannot be set up.
    #[error("metrics cannot be set up")]
    Metrics(#[from] lucarne_metrics::prometheus::Error),
    /// Something that desktops' users cannot get at.
    #[error("{0}")]
    Closed(String),
}

/// What an ending agent does with the desktops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They run on; the next agent takes them over.
    Leave,
    /// They are destroyed first.
    Destroy,
}

/// Ends an agent, and says how.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled to end; desktops run on.
    pub leave: CancellationToken,
    /// Cancelled to end; desktops are destroyed first.
    pub destroy: CancellationToken,
}

impl Shutdown {
    /// Waits until one of them is cancelled.
    pub async fn requested(&self) -> Ending {
        tokio::select! {
            () = self.destroy.cancelled() => Ending::Destroy,
            () = self.leave.cancelled() => Ending::Leave,
        }
    }
}

/// Takes viewers' streams by the network to the desktops of the host in `dir`, until `stop` and until the last ends.
///
/// # Errors
/// It cannot begin.
pub async fn relay(
    dir: &std::path::Path,
    listen: std::net::SocketAddr,
    metrics_listen: Option<std::net::SocketAddr>,
    stop: CancellationToken,
) -> Result<(), lucarne_relay::relay::Error> {
    let desktops = dir.join("desktops");
    let config = lucarne_relay::relay::Config {
        listen,
        metrics_listen,
        identity: dir.join("identity"),
        lock: dir.join("relay.json"),
        socket: Box::new(move |desktop| {
            desktops.join(desktop.to_string()).join(lucarne_desktop::config::files::DISPLAY_SOCKET)
        }),
    };
    lucarne_relay::relay::run(config, stop).await
}

/// Changes that a slow link may fall behind before it is told everything anew.
const BACKLOG: usize = 1024;

/// Runs the agent until it is told to end.
///
/// # Errors
/// When it cannot start; once it runs it waits for its broker for ever.
pub async fn run(config: AgentConfig, shutdown: Shutdown) -> Result<(), AgentError> {
    config.check()?;
    // Before anything is made.
    let monitors = match config.metrics_listen {
        Some(address) => {
            Some(TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })?)
        }
        None => None,
    };
    let qemu = Qemu::find()?;
    let chosen = accel::choose(config.accel)?;
    for dir in [config.dir.clone(), config.templates(), config.desktops()] {
        config::create_public_dir(&dir).map_err(|source| AgentError::Folder { path: dir, source })?;
    }
    let store = Store::open(config.images()).map_err(|e| AgentError::Images(error_chain(&e)))?;
    let slots = Arc::new(slots::Slots::new());
    let network = confine(&slots);
    let confined_range = network.is_confined().then(|| slots.range());
    let facts = HostFacts {
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_mib: config::memory_total_mib(),
        driver: "qemu".into(),
        driver_version: qemu.version.clone(),
        accel: chosen.accel.as_str().into(),
        accel_reason: chosen.reason.clone(),
        network: network.description(),
    };
    tracing::info!(qemu = %qemu.version, accel = %facts.accel, reason = %facts.accel_reason, network = %facts.network,
        "the host agent starts");

    let kept = followed::Kept::open(&config.dir);
    let (kept, followed) =
        kept.map_err(|source| AgentError::Folder { path: config.dir.join("followed.json"), source })?;
    let hub = Hub::new(followed, BACKLOG);
    let monitoring = CancellationToken::new();
    let _monitoring = monitoring.clone().drop_guard();
    if let Some(listener) = monitors {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "monitoring is served");
        }
        let watched = Arc::new(metrics::Monitored::new(hub.clone(), config.dir.clone())?);
        let follow = Arc::clone(&watched).follow();
        tokio::spawn(lucarne_metrics::serve(listener, watched, monitoring.clone()));
        tokio::spawn(async move { monitoring.run_until_cancelled(follow).await });
    }
    let store = Arc::new(store);
    let templates = Arc::new(Templates::new(
        config.templates(),
        store.clone(),
        qemu.clone(),
        chosen.accel,
        slots.clone(),
        hub.clone(),
    ));
    let desktops = Arc::new(Desktops::new(
        &config,
        qemu,
        chosen.accel,
        slots,
        network.is_confined(),
        templates.clone(),
        hub.clone(),
    ));
    desktops.adopt_all();

    let (streams, kept_up) = match &config.route {
        Route::Here { .. } => (None, None),
        Route::Network { identity, listen, address } => {
            let streams = streams::Streams::new(&config, *listen, identity.about.id.to_string());
            let port = streams.ensure().await.map_err(AgentError::Relay)?;
            let tasks = (tokio::spawn(streams.keep()), tokio::spawn(renewal::keep(identity.clone())));
            (Some(StreamDoor { address: address.clone(), port }), Some(tasks))
        }
    };
    let node = machine::Node {
        dir: config.dir.clone(),
        hub,
        store,
        templates: templates.clone(),
        desktops: desktops.clone(),
        kept: std::sync::Mutex::new(kept),
    };
    let link = link::Link::new(config.route.clone(), streams, facts, Arc::new(node));
    let confinement = tokio::spawn(keep_confined(confined_range));
    let sweeper = tokio::spawn(recordings::keep_swept(config.recordings(), config.desktops()));
    let linked = CancellationToken::new();
    let runner = tokio::spawn(link.run(linked.clone()));
    let ending = shutdown.requested().await;
    templates.stop().await;
    confinement.abort();
    if let Some((relay, renewal)) = kept_up {
        relay.abort();
        renewal.abort();
    }
    sweeper.abort();
    if ending == Ending::Destroy {
        tracing::info!("the host agent ends and destroys its desktops");
        desktops.destroy_all().await;
        streams::end_relay(&config);
        // The table is shared by every server of this machine.
        if !slots::any_process() {
            network::release();
        }
    } else {
        tracing::info!("the host agent ends; its desktops run on");
    }
    // The link goes last, so that the broker hears what became of the desktops.
    linked.cancel();
    let _ = runner.await;
    Ok(())
}

/// Whether desktops may have a network, and what keeps them off the host's own.
enum Network {
    Confined(String),
    Unconfined(String),
}

impl Network {
    fn description(&self) -> String {
        match self {
            Self::Confined(how) => how.clone(),
            Self::Unconfined(why) => format!("desktops have no network: {why}"),
        }
    }

    fn is_confined(&self) -> bool {
        matches!(self, Self::Confined(_))
    }
}

fn confine(slots: &slots::Slots) -> Network {
    if !rustix::process::geteuid().is_root() {
        return Network::Unconfined(
            "the host agent does not run as root, so nothing keeps a guest off this machine's own services"
                .into(),
        );
    }
    match network::confine(slots.range()) {
        Ok(how) => Network::Confined(how),
        Err(error) => Network::Unconfined(error_chain(&error)),
    }
}

/// Time between looks at the packet filter. Whoever reloads the firewall with `flush ruleset` removes our table with
/// everything else; guests could then reach this machine's own services for at most this long.
const CONFINEMENT_LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// Puts the confinement back when someone removed it.
async fn keep_confined(range: Option<std::ops::Range<u32>>) {
    let Some(range) = range else { return };
    loop {
        tokio::time::sleep(CONFINEMENT_LOOK).await;
        let range = range.clone();
        let look = move || {
            let Err(missing) = network::check(range.clone()) else { return };
            tracing::warn!(error = %error_chain(&missing), "desktops are not confined any more; putting it back");
            if let Err(error) = network::confine(range) {
                tracing::error!(error = %error_chain(&error), "desktops cannot be confined");
            }
        };
        if tokio::task::spawn_blocking(look).await.is_err() {
            return;
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}
