//! Keeps a relay running, which takes viewers' streams by the network: a process of its own, so that none of them ends when the
//! agent does.

use crate::config::AgentConfig;
use lucarne_relay::relay::{self, Holder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

/// How often the relay is looked for. Shorter: more looks. Longer: after a relay's end new streams fail for longer.
const LOOK: Duration = Duration::from_secs(1);

/// How long a relay may take to begin, or to make way.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time between looks while one is waited for.
const SOON: Duration = Duration::from_millis(20);

/// The relay of this host.
pub(crate) struct Streams {
    config: AgentConfig,
    listen: SocketAddr,
    lock: PathBuf,
    host: String,
}

impl Streams {
    pub(crate) fn new(config: &AgentConfig, listen: SocketAddr, host: String) -> Self {
        Self { config: config.clone(), listen, lock: config.relay_lock(), host }
    }

    fn is_ours(&self, holder: &Holder) -> bool {
        let build = relay::build().unwrap_or_default();
        let told = holder.listen == self.listen && holder.metrics == self.config.relay_metrics_listen;
        holder.build == build && told && holder.host == self.host
    }

    /// Has this build's relay accept where it should: the port.
    ///
    /// # Errors
    /// It does not start; its log says why.
    pub(crate) async fn ensure(&self) -> io::Result<u16> {
        let until = Instant::now() + PATIENCE;
        let mut started: Option<Child> = None;
        let mut told = false;
        loop {
            match relay::holder(&self.lock)? {
                Some(holder) if self.is_ours(&holder) => return Ok(holder.port),
                Some(holder) if !told => {
                    tracing::info!(
                        pid = holder.pid,
                        "the relay before makes way; it keeps the streams that it has"
                    );
                    end(&holder);
                    told = true;
                }
                None if started.is_none() => started = Some(self.start()?),
                _ => {}
            }
            if let Some(child) = &mut started
                && let Some(status) = child.try_wait()?
            {
                let log = std::fs::read_to_string(self.config.relay_log()).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default().to_owned();
                return Err(io::Error::other(format!("the relay ended at once ({status}): {last}")));
            }
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the relay did not begin in time"));
            }
            sleep(SOON).await;
        }
    }

    /// Starts it again whenever it is not there.
    pub(crate) async fn keep(self) {
        let mut failed = false;
        loop {
            sleep(LOOK).await;
            if let Ok(Some(_)) = relay::holder(&self.lock) {
                continue;
            }
            match self.ensure().await {
                Ok(port) => {
                    tracing::warn!(port, "the relay was gone; another takes viewers' streams");
                    failed = false;
                }
                Err(error) if !failed => {
                    tracing::error!(%error, "viewers' streams cannot be taken; trying on");
                    failed = true;
                }
                Err(_) => {}
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.config.relay_log())?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(&self.config.program)
            .args(["host", "relay", "--listen", &self.listen.to_string(), "--dir"])
            .arg(&self.config.dir)
            .args(self.config.relay_metrics_listen.map(|address| format!("--metrics-listen={address}")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // SAFETY: setsid is async-signal-safe, and nothing else is done between fork and exec.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(())
            });
        }
        tokio::process::Command::from(command).spawn()
    }
}

/// Has a relay take no new streams; it ends with the last that it has.
fn end(holder: &Holder) {
    // What is written there may be of long ago.
    let command = std::fs::read(format!("/proc/{}/cmdline", holder.pid)).unwrap_or_default();
    let is_relay = command.split(|byte| *byte == 0).any(|word| word == b"relay");
    if let Some(pid) = rustix::process::Pid::from_raw(holder.pid).filter(|_| is_relay) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// As [`end`], for the relay of a host whose desktops are destroyed.
pub(crate) fn end_relay(config: &AgentConfig) {
    if let Ok(Some(holder)) = relay::holder(&config.relay_lock()) {
        end(&holder);
    }
}
