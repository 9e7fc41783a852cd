//! `lucarne host`.

use crate::args::{Accel, Host, HostCommand, Output};
use crate::client::{Client, escape};
use crate::output::{self, Row};
use anyhow::{Context, Result, bail, ensure};
use lucarne_agent::sim::SimConfig;
use lucarne_agent::{AccelChoice, AgentConfig, Route, Shutdown};
use lucarne_control::api;
use lucarne_relay::Identity;
use lucarne_trust::EnrollmentToken;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

impl Row for api::Host {
    const TITLES: &'static [&'static str] =
        &["NAME", "ONLINE", "DESKTOPS", "ACCEL", "DRIVER", "MEMORY FREE", "DISK FREE", "LABELS"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            match (self.denied, self.online) {
                (true, _) => "denied".into(),
                (false, true) if self.maintenance_at.is_some() => "maintenance".into(),
                (false, true) if self.drained => "drained".into(),
                (false, true) => "yes".into(),
                (false, false) => "no".into(),
            },
            self.desktops.to_string(),
            self.facts.accel.clone(),
            format!("{} {}", self.facts.driver, self.facts.driver_version),
            output::size(self.memory_available),
            output::size(self.disk_free),
            self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
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

impl Row for api::Enrollment {
    const TITLES: &'static [&'static str] = &["ID", "FOR", "MADE BY", "GOOD FOR", "USED BY"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.host.clone().unwrap_or_else(|| "any".to_owned()),
            self.created_by.clone(),
            if self.used_at.is_some() { "used".to_owned() } else { output::left(self.expires_at) },
            self.used_by.clone().unwrap_or_default(),
        ]
    }
}

/// This machine's name.
fn own_name() -> Result<String> {
    let name = rustix::system::uname();
    Ok(name.nodename().to_str().context("this machine's name is not UTF-8")?.to_owned())
}

/// The folder of an enrolled host's identity.
fn identity(data_dir: &Path) -> PathBuf {
    data_dir.join("host").join("identity")
}

/// Runs the agent, or looks at hosts.
pub async fn run(args: Host) -> Result<()> {
    match args.command {
        HostCommand::Run {
            name,
            accel,
            sim,
            metrics_listen,
            relay_metrics_listen,
            max_starting,
            listen,
            address,
        } => {
            let data_dir = std::path::absolute(&args.remote.data_dir)?;
            if let Some(hosts) = sim {
                return simulate(&data_dir, name, hosts).await;
            }
            let route = match Identity::open(&identity(&data_dir))? {
                Some(identity) => {
                    if let Some(name) = name.filter(|name| *name != identity.about.name) {
                        bail!(
                            "this host was enrolled as {}; leave --name out, or enrol it as {name} with `lucarne host enroll`",
                            identity.about.name
                        );
                    }
                    Route::Network { identity, listen, address }
                }
                None => Route::Here {
                    socket: crate::up::agent_socket(&data_dir),
                    host: name.map_or_else(own_name, Ok)?,
                },
            };
            let config = AgentConfig {
                dir: data_dir.join("host"),
                route,
                accel: accel.into(),
                metrics_listen,
                relay_metrics_listen,
                max_starting,
                program: std::env::current_exe().context("this program's own path is not known")?,
            };
            agent(config).await
        }
        HostCommand::Relay { dir, listen, metrics_listen } => {
            let stop = CancellationToken::new();
            let asked = stop.clone();
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::spawn(async move {
                terminate.recv().await;
                asked.cancel();
            });
            Ok(lucarne_agent::relay(&dir, listen, metrics_listen, stop).await?)
        }
        HostCommand::Enroll { token, broker, name } => {
            let data_dir = std::path::absolute(&args.remote.data_dir)?;
            enroll(&data_dir, &token, &broker, &name.map_or_else(own_name, Ok)?).await
        }
        _ => look(args).await,
    }
}

async fn simulate(data_dir: &Path, name: Option<String>, hosts: u32) -> Result<()> {
    let run = data_dir.join("run");
    ensure!(run.exists(), "there is no broker in {}; choose its folder with --data-dir", data_dir.display());
    let config = SimConfig {
        socket: crate::up::agent_socket(data_dir),
        display: run.join("simulated.sock"),
        name: name.unwrap_or_else(|| "sim".to_owned()),
        hosts,
    };
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.cancel();
    });
    Ok(lucarne_agent::sim::run(config, stop).await?)
}

async fn agent(config: AgentConfig) -> Result<()> {
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

async fn enroll(data_dir: &Path, token: &str, brokers: &[String], name: &str) -> Result<()> {
    let token: EnrollmentToken = token.parse()?;
    for broker in brokers {
        let port = broker.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        ensure!(port.is_some(), "--broker {broker} has no port; give it as {broker}:8444");
    }
    let folder = data_dir.join("host");
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).with_context(|| {
        format!("the folder {} cannot be created; choose another with --data-dir", folder.display())
    })?;
    let identity = Identity::enroll(&identity(data_dir), &token, name, brokers).await?;
    println!(
        "this machine is the host {} ({}) now; start it with `lucarne host run`, and restart it if it runs",
        identity.about.name, identity.about.id
    );
    Ok(())
}

async fn look(args: Host) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let output = args.remote.output;
    let of = |host: &str, what: &str| format!("/api/v1/hosts/{}{what}", escape(host));
    match args.command {
        HostCommand::Run { .. } | HostCommand::Relay { .. } | HostCommand::Enroll { .. } => {
            unreachable!("handled by the caller")
        }
        HostCommand::List => output::list(&client.list::<api::Host>("/api/v1/hosts").await?, output),
        HostCommand::Show { host } => output::show(&client.get::<api::Host>(&of(&host, "")).await?, output),
        HostCommand::Token { host, valid_for } => {
            let new = api::NewEnrollment { host, valid_s: Some(valid_for) };
            let given: api::GivenEnrollment = client.post("/api/v1/enrollments", &new).await?;
            if output == Output::Json {
                return output::json(&given);
            }
            let name = given.enrollment.host.map(|host| format!(" --name {host}")).unwrap_or_default();
            println!("On the new host, as root, within {}:\n", output::left(given.enrollment.expires_at));
            println!("  lucarne host enroll --broker {}{name} {}\n", given.brokers.join(","), given.token);
            println!(
                "(or with another address by which the new host reaches this broker, and with all brokers, separated by commas)"
            );
            println!("The token is good once. It is not shown again.");
            Ok(())
        }
        HostCommand::Tokens => {
            output::list(&client.list::<api::Enrollment>("/api/v1/enrollments").await?, output)
        }
        HostCommand::Withdraw { id } => {
            Ok(client.delete(&format!("/api/v1/enrollments/{}", escape(&id))).await?)
        }
        HostCommand::Deny { host, reason } => {
            Ok(client.put(&of(&host, "/denial"), &api::DenyHost { reason }).await?)
        }
        HostCommand::Label { host, labels } => {
            let labels = labels.into_iter().collect();
            Ok(client.put(&of(&host, "/labels"), &api::NewLabels { labels }).await?)
        }
        HostCommand::Drain { host } => Ok(client.put(&of(&host, "/drain"), &()).await?),
        HostCommand::Maintain { host, after } => {
            Ok(client.put(&of(&host, "/maintenance"), &api::NewMaintenance { in_s: after }).await?)
        }
        HostCommand::Resume { host } => Ok(client.delete(&of(&host, "/maintenance")).await?),
        HostCommand::Allow { host } => Ok(client.delete(&of(&host, "/denial")).await?),
        HostCommand::Fence { host, epoch, evidence } => {
            Ok(client.post_nothing(&of(&host, "/fence"), &api::DeadHost { epoch, evidence }).await?)
        }
        HostCommand::Delete { host } => Ok(client.delete(&of(&host, "")).await?),
    }
}
