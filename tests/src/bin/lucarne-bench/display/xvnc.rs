//! TigerVNC's Xvnc: an X server of its own, with the player as its only program, on the host.

use super::cpu;
use super::peer::Peer;
use super::qemu::free_port;
use super::viewer::{Login, Target};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running Xvnc; dropped it is killed with its player.
pub struct Xvnc {
    server: Child,
    player: Option<Child>,
    /// To be measured.
    pub peer: Peer,
}

/// Starts it with a screen of this size.
pub fn start(dir: &Path, (width, height): (u16, u16), tls: &Path, player: &Path) -> Result<Xvnc> {
    std::fs::create_dir_all(dir)?;
    let port = free_port()?;
    let log = std::fs::File::create(dir.join("xvnc.log"))?;
    let mut server = Command::new("Xvnc")
        .args(["-displayfd", "1", "-depth", "24", "-localhost", "-nolisten", "tcp", "-AlwaysShared"])
        .args(["-SecurityTypes", "X509None", "-geometry", &format!("{width}x{height}")])
        .args(["-rfbport", &port.to_string()])
        .arg(format!("-X509Cert={}", tls.join("cert.pem").display()))
        .arg(format!("-X509Key={}", tls.join("key.pem").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("Xvnc is missing: install tigervnc-standalone-server")?;
    let mut number = String::new();
    if let Some(stdout) = server.stdout.take() {
        BufReader::new(stdout).read_line(&mut number)?;
    }
    let target = Target {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        certificate: tls.join("cert.pem"),
        login: Login::Anyone,
        video: false,
    };
    let peer = Peer {
        name: "xvnc",
        what: version(),
        target,
        films: false,
        beside: None,
        cpu: cpu::Server::of(vec![server.id()]),
    };
    let mut xvnc = Xvnc { server, player: None, peer };
    ensure!(!number.trim().is_empty(), "Xvnc did not start; see {}", dir.join("xvnc.log").display());
    let mut playing = Command::new(player)
        .env("DISPLAY", format!(":{}", number.trim()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started", player.display()))?;
    let stdout = playing.stdout.take();
    xvnc.player = Some(playing);
    let mut said = String::new();
    if let Some(stdout) = stdout {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    ensure!(said.starts_with("ready "), "the player on Xvnc says: {said:?}");
    Ok(xvnc)
}

/// What it says of itself.
fn version() -> String {
    let said = Command::new("Xvnc")
        .arg("-version")
        .output()
        .map(|o| [o.stdout, o.stderr].concat())
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().find(|l| l.contains("TigerVNC")).unwrap_or("TigerVNC's Xvnc");
    line.split(" - ").next().unwrap_or(line).to_owned()
}

impl Drop for Xvnc {
    fn drop(&mut self) {
        for process in self.player.iter_mut().chain([&mut self.server]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
