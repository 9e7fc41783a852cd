//! The commands, one file each.

mod apply;
mod audit;
mod database;
mod desktop;
mod disk;
mod export;
mod group;
mod host;
pub mod image;
mod import;
mod launch;
pub mod pool;
mod recording;
mod session;
mod snapshot;
mod trace;
mod user;
mod watch;
mod why;

use crate::args::{Args, Command};
use anyhow::{Context, Result, ensure};
use std::future::Future;
use std::io::{BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use tracing_subscriber::EnvFilter;

/// Says how lines are logged: `json`, or for people.
const LOG_FORMAT: &str = "LUCARNE_LOG_FORMAT";

/// Long-running processes log to standard error; the others only warn.
pub fn logging(command: &Command) {
    let quiet = match command {
        Command::Broker(_) => false,
        Command::Host(host) => {
            use crate::args::HostCommand::{Relay, Run};
            !matches!(host.command, Run { .. } | Relay { .. })
        }
        Command::Desktop(desktop) => desktop.dir.is_none(),
        _ => true,
    };
    let default = if quiet { "error" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // For programs that collect logs: an object of JSON in each line.
    match std::env::var_os(LOG_FORMAT).is_some_and(|format| format == "json") {
        true => log.json().flatten_event(true).init(),
        false => log.with_ansi(ansi).init(),
    }
}

/// Takes as many file descriptors as the system gives: each viewer, host and stream is one, and the usual first limit is 1024.
fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
}

/// Runs what was asked.
pub fn run(args: Args) -> Result<()> {
    if matches!(args.command, Command::Broker(_) | Command::Host(_)) {
        take_descriptors();
    }
    match args.command {
        Command::Up(up) => block_on(crate::up::run(up)),
        Command::Broker(broker) => block_on(crate::up::broker::run(broker)),
        Command::Host(args) => block_on(host::run(args)),
        Command::Image(args) => block_on(image::run(args)),
        Command::Pool(args) => block_on(pool::run(args)),
        Command::Apply(args) => block_on(apply::run(args)),
        Command::Export(args) => block_on(export::run(args)),
        Command::User(args) => block_on(user::run(args)),
        Command::Group(args) => block_on(group::run(args)),
        Command::Desktop(args) => desktop::run(args),
        Command::Disk(args) => block_on(disk::run(args)),
        Command::Snapshot(args) => block_on(snapshot::run(args)),
        Command::Session(args) => block_on(session::run(args)),
        Command::Why(args) => block_on(why::run(args)),
        Command::Watch(args) => block_on(watch::run(args)),
        Command::Audit(args) => block_on(audit::run(args)),
        Command::Database(args) => block_on(database::run(args)),
        Command::Recording(args) => recording::run(args),
        Command::Probe => {
            println!("{}", lucarne_vmm::probe());
            Ok(())
        }
    }
}

/// Runs a future on all processors.
pub fn block_on<F: Future<Output = Result<()>>>(future: F) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime could not be started")?
        .block_on(future)
}

/// A secret from the environment, or from a prompt on standard input.
pub fn secret(variable: &str, prompt: &str) -> Result<String> {
    if let Ok(secret) = std::env::var(variable) {
        return Ok(secret);
    }
    let terminal = std::io::stdin().is_terminal();
    let echo = if terminal {
        eprint!("{prompt}");
        std::io::stderr().flush()?;
        Some(Quiet::new()?)
    } else {
        None
    };
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    drop(echo);
    let secret = line.trim_end_matches(['\n', '\r']).to_owned();
    ensure!(!secret.is_empty(), "no password was given: set {variable} or write it to standard input");
    Ok(secret)
}

/// A terminal that does not show what is typed (termios(3)).
struct Quiet(rustix::termios::Termios);

impl Quiet {
    fn new() -> Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
        eprintln!();
    }
}

/// `none` or an address.
pub fn optional_address(text: &str) -> Result<Option<SocketAddr>> {
    if text == "none" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .with_context(|| format!("{text:?} is neither `none` nor an address such as 127.0.0.1:5900"))
}
