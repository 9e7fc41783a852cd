//! The server that is measured: `lucarne up` as a process of its own, with ports that the kernel chooses.

use crate::ServerArgs;
use crate::http::{Client, Pinned};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a start may take. It may have to build an image first, from packages.
const START_LIMIT: Duration = Duration::from_secs(1800);

/// How long the end may take; `lucarne up` itself gives its processes 75 s.
const END_LIMIT: Duration = Duration::from_secs(90);

/// A running server.
pub struct Server {
    data_dir: PathBuf,
    process: Child,
    tls: Option<Pinned>,
    vnc: Option<SocketAddr>,
}

impl Server {
    /// Starts it, listening for VNC viewers at `vnc` (`none` for not at all).
    pub fn spawn(data_dir: &Path, args: &ServerArgs, vnc: &str) -> Result<Self> {
        let here = std::env::current_exe().context("this program's own path is not known")?;
        let program = here.with_file_name("lucarne");
        ensure!(program.exists(), "{} is not there; build it with cargo build --release", program.display());
        let mut command = Command::new(&program);
        command
            .args(["up", "--listen", "127.0.0.1:0", "--vnc-listen", vnc, "--default-pool", "none"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--accel", &args.accel]);
        // target/release/lucarne-bench lies three below the top of the source tree.
        let recipe = here.ancestors().nth(3).map(|top| top.join("ops/images/debian-desktop.toml"));
        if let Some(recipe) = args.recipe.clone().or(recipe).filter(|r| r.exists()) {
            command.arg("--recipe").arg(recipe);
        }
        // In a group of its own, so that Ctrl-C reaches it through us, once, and in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        let process = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self { data_dir: data_dir.into(), process, tls: None, vnc: None })
    }

    /// Waits until it serves, and reads where.
    pub async fn wait_started(&mut self) -> Result<()> {
        let stdout = self.process.stdout.take().context("the server's output was read already")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut address: Option<SocketAddr> = None;
        let begin = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, rest)) = line.split_once("https://") {
                    let text = rest.trim().trim_end_matches('/');
                    address = Some(text.parse().with_context(|| format!("{text:?} is no address"))?);
                }
                if let Some(rest) = line.trim().strip_prefix("VNC viewers") {
                    self.vnc = rest.split_whitespace().next().and_then(|text| text.parse().ok());
                }
                if line.contains("Ctrl-C") {
                    return Ok(());
                }
            }
            bail!("the server ended before it served; what it said is above")
        };
        tokio::time::timeout(START_LIMIT, begin).await.context("the server did not start in time")??;
        let address = address.context("the server did not say where it listens")?;
        self.tls = Some(Pinned::new(address, &self.data_dir.join("broker/tls/cert.pem"))?);
        // Nothing more is expected, but a full pipe must not stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(())
    }

    /// How to reach it over TLS.
    pub fn tls(&self) -> Result<&Pinned> {
        self.tls.as_ref().context("the server has not started yet")
    }

    /// Where VNC viewers come in.
    pub fn vnc(&self) -> Result<SocketAddr> {
        self.vnc.context("the server did not say where VNC viewers come in")
    }

    /// Where everything of it is.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its own process: that of `lucarne up`.
    pub fn pid(&self) -> Result<u32> {
        self.process.id().context("the server has ended")
    }

    /// A client with an administrator's rights.
    pub async fn admin(&self) -> Result<Client> {
        Client::local(&self.data_dir.join("run/admin.sock")).await
    }

    /// Where a desktop's processes work.
    pub fn desktop_dir(&self, id: &str) -> PathBuf {
        self.data_dir.join("host/desktops").join(id)
    }

    /// Ends it as Ctrl-C does: with every desktop.
    pub async fn end(mut self) -> Result<()> {
        if let Some(pid) = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // Not yet waited for, so the number is still its own.
            rustix::process::kill_process(pid, Signal::INT).context("the server cannot be told to end")?;
        }
        let status = tokio::time::timeout(END_LIMIT, self.process.wait()).await;
        let status = status.context("the server did not end; look for `lucarne up`")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}
