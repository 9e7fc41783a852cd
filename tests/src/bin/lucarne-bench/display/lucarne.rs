//! Lucarne as it is used: a desktop of a pool, reached through the broker.

use super::cpu;
use super::guest;
use super::peer::Peer;
use super::viewer::{Login, Target, Viewer};
use crate::http::Client;
use crate::server::Server;
use crate::{pool, processes};
use anyhow::{Context, Result};
use lucarne_control::api::{Desktop, NewUser, Page, User};
use lucarne_control::desktop::Phase;
use lucarne_control::link::{Open, Purpose};
use lucarne_tests::guest::Guest;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The desktop's user.
const USER: &str = "bench";

/// A desktop with the player on it.
pub struct Subject {
    /// To be measured.
    pub peer: Peer,
    /// The desktop's folder.
    pub dir: PathBuf,
}

impl Subject {
    /// The desktop's QEMU.
    pub fn qemu(&self) -> Result<u32> {
        let pids = processes::in_dir(&self.dir);
        let is_qemu = |pid: &u32| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu-system"))
        };
        pids.into_iter().find(is_qemu).context("the desktop's QEMU has ended")
    }
}

/// Makes a pool and a user, gives the user a desktop, and starts the player on it.
pub async fn start(server: &Server, player: &[u8]) -> Result<Subject> {
    let mut admin = server.admin().await?;
    pool::make(&mut admin, 1).await?;
    let password = random_password()?;
    let new = NewUser { name: USER.into(), password: password.clone(), role: None, groups: Vec::new() };
    let (_, _): (_, User) = admin.post("/api/v1/users", &new).await?;
    let target = Target {
        // Listening on all addresses, it is on the loopback too.
        address: (Ipv4Addr::LOCALHOST, server.vnc()?.port()).into(),
        certificate: server.data_dir().join("broker/tls/cert.pem"),
        login: Login::Plain(USER.into(), password),
        video: false,
    };
    // The first connection makes the desktop.
    let opened = {
        let target = target.clone();
        tokio::task::spawn_blocking(move || Viewer::open(TcpStream::connect(target.address)?, &target))
    };
    drop(opened.await?.context("the first viewer of the desktop")?);
    let desktop = ready(&mut admin).await?;
    let dir = server.desktop_dir(&desktop.id.to_string());
    let bytes = player.to_vec();
    let guest = Guest::of(&dir);
    tokio::task::spawn_blocking(move || guest::start_player(&guest, &bytes)).await??;
    let mut pids = processes::of_desktop(&dir)?;
    // `up` runs the broker as a child; the agent takes no part in what is shown.
    pids.extend(processes::children(server.pid()?, "broker"));
    let open = Open {
        desktop: desktop.id,
        generation: generation(&dir)?,
        session: None,
        purpose: Purpose::View { view_only: false, shadow: false },
    };
    let peer = Peer {
        films: true,
        beside: Some((dir.join("display.sock"), open)),
        name: "lucarne",
        what: format!("Lucarne {}", env!("CARGO_PKG_VERSION")),
        target,
        cpu: cpu::Server::of(pids),
    };
    Ok(Subject { peer, dir })
}

async fn ready(admin: &mut Client) -> Result<Desktop> {
    loop {
        let desktops: Page<Desktop> = admin.get("/api/v1/desktops").await?;
        let desktop = desktops.items.into_iter().next().context("there is no desktop")?;
        if desktop.phase == Phase::Ready {
            return Ok(desktop);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The placement's generation, as the desktop process was told it.
fn generation(dir: &Path) -> Result<u64> {
    let path = dir.join("desktop.json");
    let text = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let config: serde_json::Value = serde_json::from_slice(&text)?;
    config["generation"].as_u64().with_context(|| format!("{} has no generation", path.display()))
}

fn random_password() -> Result<String> {
    let mut random = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
