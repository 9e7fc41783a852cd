//! A process that `lucarne up` watches over: started in a session of its own, so that the terminal's Ctrl-C reaches only
//! `up`, and told to end when `up` itself is killed.

use crate::up::broker::Announcement;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// How long the broker may take to open its database and ports.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(60);

/// Lives shorter than this are not restarted at once.
const SHORT_LIFE: Duration = Duration::from_secs(2);

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Broker,
    Host,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Host => "host",
        }
    }
}

/// A running child.
pub struct Child {
    role: Role,
    data_dir: PathBuf,
    args: Vec<String>,
    process: tokio::process::Child,
    began: Instant,
}

impl Child {
    fn log(&self) -> PathBuf {
        log_path(&self.data_dir, self.role)
    }

    /// Starts it; what it logs goes to `log/<role>.log` of the data directory.
    pub async fn start(role: Role, data_dir: &Path, args: Vec<String>) -> Result<Self> {
        let log_path = log_path(data_dir, role);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("the log {} cannot be written", log_path.display()))?;
        let parent = std::process::id();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(&args)
            .env("LUCARNE_DATA_DIR", data_dir)
            .stdin(Stdio::null())
            .stdout(if role == Role::Broker { Stdio::piped() } else { Stdio::from(log.try_clone()?) })
            .stderr(log);
        // SAFETY: only async-signal-safe system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                // The parent may have died before the line above.
                match rustix::process::getppid() {
                    Some(pid) if pid.as_raw_nonzero().get().unsigned_abs() == parent => Ok(()),
                    _ => Err(std::io::Error::other("the parent is gone")),
                }
            });
        }
        let process =
            command.spawn().with_context(|| format!("the {} process could not be started", role.name()))?;
        Ok(Self { role, data_dir: data_dir.into(), args, process, began: Instant::now() })
    }

    /// What the broker says once it serves.
    pub async fn announcement(&mut self) -> Result<Announcement> {
        let stdout = self.process.stdout.take().context("the broker's output was read already")?;
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        let read = tokio::time::timeout(ANNOUNCE_LIMIT, reader.read_line(&mut line)).await;
        match read {
            Ok(Ok(n)) if n > 0 => {
                serde_json::from_str(&line).context("the broker's announcement is not understood")
            }
            Ok(_) => {
                let why = self.ended().await;
                bail!("{why}")
            }
            Err(_) => bail!(
                "the broker did not serve within {} s; see {}",
                ANNOUNCE_LIMIT.as_secs(),
                self.log().display()
            ),
        }
    }

    /// Makes a restarted broker listen where this one does: port 0 would get another port each time.
    pub fn keep_addresses(&mut self, announced: &Announcement) {
        let vnc = announced.vnc_address.map(|a| a.to_string());
        let metrics = announced.metrics_address.map(|a| a.to_string());
        let listen = Some(announced.address.to_string());
        for (option, address) in [("--listen", listen), ("--vnc-listen", vnc), ("--metrics-listen", metrics)]
        {
            let at = self.args.iter().position(|a| a == option);
            if let (Some(at), Some(address)) = (at, address) {
                self.args[at + 1] = address;
            }
        }
    }

    /// Waits until it has ended and says why.
    pub async fn ended(&mut self) -> String {
        let status = self.process.wait().await;
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let last = text.lines().last().unwrap_or_default();
        match (last.strip_prefix("lucarne: "), status) {
            (Some(why), _) => why.to_owned(),
            (None, Ok(status)) => {
                format!("the {} process ended with {status}; see {}", self.role.name(), self.log().display())
            }
            (None, Err(error)) => format!("the {} process cannot be watched: {error}", self.role.name()),
        }
    }

    /// Starts it again after it ended.
    pub async fn restart(self, why: &str) -> Result<Self> {
        eprintln!("  The {} process ended and is started again: {why}", self.role.name());
        let mut lived = self.began.elapsed();
        loop {
            if lived < SHORT_LIFE {
                tokio::time::sleep(SHORT_LIFE).await;
            }
            let mut next = Self::start(self.role, &self.data_dir, self.args.clone()).await?;
            if self.role == Role::Host {
                return Ok(next);
            }
            match next.announcement().await {
                Ok(_) => return Ok(next),
                Err(error) => {
                    eprintln!("  The broker does not come back yet: {error}");
                    lived = next.began.elapsed();
                }
            }
        }
    }

    /// Ends it by `signal`, and by force after `limit`.
    pub async fn end(mut self, signal: Signal, limit: Duration) {
        if let Some(pid) = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // Not yet waited for, so the number is still its own.
            let _ = rustix::process::kill_process(pid, signal);
        }
        if tokio::time::timeout(limit, self.process.wait()).await.is_err() {
            eprintln!(
                "  The {} process did not end within {} s and is killed.",
                self.role.name(),
                limit.as_secs()
            );
            let _ = self.process.kill().await;
        }
    }
}

fn log_path(data_dir: &Path, role: Role) -> PathBuf {
    data_dir.join("log").join(format!("{}.log", role.name()))
}
