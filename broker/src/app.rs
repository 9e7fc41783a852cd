//! What all parts of the broker share: one struct, made once, passed as `Arc`.

use crate::auth::viewer_password::ViewerPasswords;
use crate::auth::{Auth, Refused};
use crate::events::Events;
use crate::gateway::tcp::Connections;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::trust::Trust;
use crate::viewers::Viewers;
use lucarne_control::UserId;
use lucarne_core::Control;
use lucarne_core::store::Store;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The broker's parts.
#[derive(Debug)]
pub struct App {
    /// Durable state.
    pub store: Store,
    /// What this broker decides, with the links to its hosts.
    pub control: Control,
    /// The names of the hosts whose agents are linked here.
    pub names: Names,
    /// Their links, so that they can be waited for.
    pub links: TaskTracker,
    /// Who this broker is to hosts on the network.
    pub trust: Arc<Trust>,
    /// Where they come in.
    pub agent_address: Option<SocketAddr>,
    /// Names and passwords.
    pub auth: Auth,
    /// One-time passwords for VNC viewers, where VncAuth is offered.
    pub viewer_passwords: Option<ViewerPasswords>,
    /// The viewers that are connected through this gateway.
    pub viewers: Viewers,
    /// Those who watch what changes.
    pub events: Arc<Events>,
    /// What is counted.
    pub metrics: Metrics,
    /// The TCP connections that carry them.
    pub connections: Connections,
    /// The name of the pool to make when the first image appears.
    pub default_pool: Option<String>,
    /// Where `initial-admin-password` lies.
    pub data_dir: PathBuf,
    /// The user id that the broker runs as: local peers with it are the administrator.
    pub uid: u32,
    /// The streams of viewers and of those who watch, so that they can be waited for.
    pub streams: TaskTracker,
    /// The process is going away.
    pub shutdown: CancellationToken,
}

impl App {
    /// Whose name and password these are, counted.
    ///
    /// # Errors
    /// As [`Auth::verify`].
    pub async fn verify(&self, name: &str, password: &str, from: IpAddr) -> Result<UserId, Refused> {
        let verified = self.auth.verify(name, password, from).await;
        match &verified {
            Ok(_) => self.metrics.signed_in("accepted"),
            Err(Refused::BadCredentials) => self.metrics.signed_in("refused"),
            Err(Refused::TooMany) => self.metrics.signed_in("too_many"),
            Err(Refused::Fault(_)) => {}
        }
        verified
    }
}
