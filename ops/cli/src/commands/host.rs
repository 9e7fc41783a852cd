//! `lucarne host`.

use crate::args::{Accel, Host, HostCommand};
use crate::client::{Client, escape};
use crate::output::{self, Row};
use anyhow::{Context, Result};
use lucarne_agent::{AccelChoice, AgentConfig, Shutdown};
use lucarne_control::api;
use tokio::signal::unix::{SignalKind, signal};

impl Row for api::Host {
    const TITLES: &'static [&'static str] =
        &["NAME", "ONLINE", "DESKTOPS", "ACCEL", "DRIVER", "MEMORY FREE", "DISK FREE"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            if self.online { "yes".into() } else { "no".into() },
            self.desktops.to_string(),
            self.facts.accel.clone(),
            format!("{} {}", self.facts.driver, self.facts.driver_version),
            output::size(self.memory_available),
            output::size(self.disk_free),
        ]
    }
}

impl From<Accel> for AccelChoice {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Self::Auto,
            Accel::Kvm => Self::Kvm,
            Accel::Tcg => Self::Tcg,
        }
    }
}

/// Runs the agent, or looks at hosts.
pub async fn run(args: Host) -> Result<()> {
    let HostCommand::Run { name, accel } = args.command else { return look(args).await };
    let data_dir = std::path::absolute(&args.remote.data_dir)?;
    let host = match name {
        Some(name) => name,
        None => rustix::system::uname()
            .nodename()
            .to_str()
            .context("this machine's name is not UTF-8")?
            .to_owned(),
    };
    let config = AgentConfig {
        dir: data_dir.join("host"),
        broker_socket: crate::up::agent_socket(&data_dir),
        host,
        accel: accel.into(),
        program: std::env::current_exe().context("this program's own path is not known")?,
    };
    let shutdown = Shutdown::default();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let asked = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => asked.destroy.cancel(),
            _ = terminate.recv() => asked.leave.cancel(),
        }
    });
    Ok(lucarne_agent::run(config, shutdown).await?)
}

async fn look(args: Host) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let output = args.remote.output;
    match args.command {
        HostCommand::Run { .. } => unreachable!("handled by the caller"),
        HostCommand::List => output::list(&client.list::<api::Host>("/api/v1/hosts").await?, output),
        HostCommand::Show { host } => {
            output::show(&client.get::<api::Host>(&format!("/api/v1/hosts/{}", escape(&host))).await?, output)
        }
        HostCommand::Fence { host, epoch, evidence } => {
            let dead = api::DeadHost { epoch, evidence };
            Ok(client.post_nothing(&format!("/api/v1/hosts/{}/fence", escape(&host)), &dead).await?)
        }
        HostCommand::Delete { host } => {
            Ok(client.delete(&format!("/api/v1/hosts/{}", escape(&host))).await?)
        }
    }
}
