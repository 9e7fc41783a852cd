//! Suite `display`: the same frames, shown by Lucarne, by QEMU's own VNC server and by TigerVNC's Xvnc, to the same viewer,
//! all in TLS.
//!
//! ```text
//! key ──► server ──► player draws the frame ──► server ──► viewer decodes, reads the frame's number ──► next key
//! ```
//!
//! The player runs in a guest (Lucarne's desktop; a like one of QEMU's own), or on the host for Xvnc, whose latencies
//! therefore lack a guest's. While one is measured the others' guests stand still.

mod codecs;
mod cpu;
mod guest;
mod links;
mod lucarne;
mod peer;
mod qemu;
mod quality;
mod sound;
mod table;
mod viewer;
mod work;
mod xvnc;

use crate::ServerArgs;
use crate::report::Report;
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use clap::Args;
pub use codecs::codecs;
use lucarne_player::Workload;
use peer::Peer;
pub use quality::{similarity, wrong_pixels};
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::Findings;
use viewer::{Target, Viewer};
use work::Pace;

/// What the suite takes.
#[derive(Args, Clone)]
pub struct DisplayArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Only these of lucarne, qemu, qemu_lossy and xvnc.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Only these of typing, scroll, drag, video, repaint, play, idle, many, links, mixed and sound; the last three are
    /// Lucarne's alone.
    #[arg(long, value_delimiter = ',')]
    work: Vec<String>,
    /// The program that draws; the one built beside this one when left out.
    #[arg(long)]
    player: Option<PathBuf>,
}

impl DisplayArgs {
    fn wants(&self, work: &str) -> bool {
        self.work.is_empty() || self.work.iter().any(|w| w == work)
    }

    /// Where the server is to listen for viewers: emulated links end at addresses of their own.
    pub fn vnc_listen(&self) -> &'static str {
        if self.wants_peer("lucarne") && (self.wants("links") || self.wants("mixed")) {
            "0.0.0.0:0"
        } else {
            "127.0.0.1:0"
        }
    }

    fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|p| p == name)
    }
}

/// Runs the suite.
pub async fn measure(server: &mut Server, args: &DisplayArgs) -> Result<Report> {
    let here = std::env::current_exe()?;
    let player = args.player.clone().unwrap_or_else(|| here.with_file_name("lucarne-player"));
    let program = std::fs::read(&player)
        .with_context(|| format!("{} cannot be read; build it with ops/bench", player.display()))?;
    server.wait_started().await?;
    let subject = lucarne::start(server, &program).await?;
    let (data_dir, args) = (server.data_dir().to_owned(), args.clone());
    let run = move || compare(subject, &data_dir, &args, &player, &program);
    tokio::task::spawn_blocking(run).await?
}

fn compare(
    subject: lucarne::Subject,
    data_dir: &Path,
    args: &DisplayArgs,
    player: &Path,
    program: &[u8],
) -> Result<Report> {
    let tls = data_dir.join("broker/tls");
    let dir = data_dir.join("display");
    let like = subject.qemu()?;
    let machine = if args.wants_peer("qemu") || args.wants_peer("qemu_lossy") {
        eprintln!("Starting QEMU with its own VNC server");
        Some(qemu::start(&dir.join("qemu"), like, &qemu::image(data_dir)?, &tls, program)?)
    } else {
        None
    };
    let size = {
        let viewer = subject.peer.view()?;
        (viewer.picture().width(), viewer.picture().height())
    };
    let xvnc = if args.wants_peer("xvnc") {
        Some(xvnc::start(&dir.join("xvnc"), size, &tls, player)?)
    } else {
        None
    };
    let mut findings = Findings::new(size);
    let other = machine.as_ref().map(|m| m.pid());
    if args.wants_peer("lucarne") {
        let _still = other.map(Still::new).transpose()?;
        one(&subject.peer, args, &mut findings)?;
        if args.wants("sound") {
            sound::measure(&subject, &mut findings)?;
        }
    }
    for peer in machine.iter().flat_map(|m| &m.peers).filter(|p| args.wants_peer(p.name)) {
        let _still = Still::new(like)?;
        one(peer, args, &mut findings)?;
    }
    if let Some(xvnc) = &xvnc {
        let _still =
            [Still::new(like)?].into_iter().chain(other.map(Still::new).transpose()?).collect::<Vec<_>>();
        one(&xvnc.peer, args, &mut findings)?;
    }
    Ok(findings.report())
}

/// Measures one peer.
fn one(peer: &Peer, args: &DisplayArgs, findings: &mut Findings) -> Result<()> {
    eprintln!("{}: {}", peer.name, peer.what);
    findings.begin(peer);
    let mut viewer = peer.view()?;
    for (workload, pace) in [
        (Workload::Typing, Pace::of(100).every(Duration::from_millis(100))),
        (Workload::Scroll, Pace::of(60)),
        (Workload::Drag, Pace::of(60)),
        (Workload::Video, Pace::of(90)),
        (Workload::Repaint, Pace::of(15)),
    ] {
        if args.wants(workload.name()) {
            let taken = work::paced(peer, &mut viewer, workload, pace)?;
            findings.took(peer, workload.name(), taken);
        }
    }
    if args.wants("video") && peer.films {
        let target = Target { video: true, ..peer.target.clone() };
        viewer = Viewer::open(TcpStream::connect(target.address)?, &target).context("a viewer of films")?;
        // A film is longer than what it takes to see that it is one.
        let taken = work::paced(peer, &mut viewer, Workload::Video, Pace::of(90).after(60))?;
        findings.took(peer, "video_h264", taken);
        viewer = peer.view()?;
    }
    if args.wants("play") {
        let played = work::play(peer, &mut viewer, Workload::Video, Duration::from_secs(5))?;
        findings.played(peer, "play", played);
    }
    if args.wants("idle") {
        let (bytes, cpu) = work::idle(peer, &mut viewer, Duration::from_secs(5))?;
        findings.idled(peer, bytes, cpu);
    }
    drop(viewer);
    // The others listen on this machine's loopback only.
    if args.wants("links") && peer.name == "lucarne" {
        links::slow(peer, findings)?;
    }
    if args.wants("mixed") && peer.name == "lucarne" {
        links::mixed(peer, findings)?;
    }
    if args.wants("many") {
        let both = work::many(peer, Workload::Scroll, 1, 40)
            .and_then(|one| Ok((one, work::many(peer, Workload::Scroll, 8, 40)?)));
        match both {
            Ok((one, eight)) => findings.many(peer, one, eight),
            // A peer that cannot do it is no reason to know nothing of the others.
            Err(error) if peer.name != "lucarne" => eprintln!("  8 viewers: {error:#}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A process that stands still as long as this lives.
struct Still(Pid);

impl Still {
    fn new(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(pid.cast_signed()).context("a process has a number")?;
        kill_process(pid, Signal::STOP).context("a guest cannot be stopped")?;
        ensure!(pid != rustix::process::getpid(), "this process itself");
        Ok(Self(pid))
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill_process(self.0, Signal::CONT);
    }
}
