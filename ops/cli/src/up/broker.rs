//! The broker's process.

use crate::args::{Broker as Args, VncSecurity};
use crate::client::admin_socket;
use crate::commands::optional_address;
use anyhow::{Context, Result};
use lucarne_broker::{Broker, Config, RsaAes, Subtype, VncSecurity as Security};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the broker tells the process that started it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// Where browsers go.
    pub address: SocketAddr,
    /// Where VNC viewers go.
    pub vnc_address: Option<SocketAddr>,
    /// Where hosts come in by the network.
    #[serde(default)]
    pub agent_address: Option<SocketAddr>,
    /// Where metrics are served.
    #[serde(default)]
    pub metrics_address: Option<SocketAddr>,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// Fingerprint of the RSA key, as VNC viewers show it.
    pub vnc_fingerprint: Option<String>,
    /// Name and generated password, while it has not been changed.
    pub initial_admin: Option<(String, String)>,
}

fn security(named: VncSecurity) -> Security {
    match named {
        VncSecurity::X509plain => Security::VeNCrypt(Subtype::X509Plain),
        VncSecurity::Tlsplain => Security::VeNCrypt(Subtype::TlsPlain),
        VncSecurity::Ra2w256 => Security::RsaAes(RsaAes::Ra2_256),
        VncSecurity::Ra2 => Security::RsaAes(RsaAes::Ra2),
        VncSecurity::Ra2ne256 => Security::RsaAes(RsaAes::Ra2ne_256),
        VncSecurity::Ra2ne => Security::RsaAes(RsaAes::Ra2ne),
        VncSecurity::Vncauth => Security::VncAuth,
    }
}

/// Runs the broker until SIGTERM or Ctrl-C.
pub async fn run(args: Args) -> Result<()> {
    let data_dir = std::path::absolute(&args.data.data_dir)?;
    super::create_folders(&data_dir)?;
    let broker = Broker::start(Config {
        data_dir: data_dir.join("broker"),
        listen: args.doors.listen,
        vnc_listen: optional_address(&args.doors.vnc_listen)?,
        vnc_security: args.doors.vnc_security.into_iter().map(security).collect(),
        agent_listen: args.doors.agent_listen,
        metrics_listen: args.doors.metrics_listen,
        agent_socket: super::agent_socket(&data_dir),
        admin_socket: admin_socket(&data_dir),
        default_pool: args.default_pool,
        database: args.database,
    })
    .await?;
    if args.announce {
        let announcement = Announcement {
            address: broker.address(),
            vnc_address: broker.vnc_address(),
            agent_address: broker.agent_address(),
            metrics_address: broker.metrics_address(),
            fingerprint: broker.fingerprint().to_owned(),
            vnc_fingerprint: broker.vnc_fingerprint(),
            initial_admin: broker.initial_admin().map(|a| (a.name.clone(), a.password.clone())),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&announcement)?)
            .context("nobody reads the announcement")?;
        out.flush()?;
    }
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.cancel();
    });
    Ok(broker.run(shutdown).await?)
}
