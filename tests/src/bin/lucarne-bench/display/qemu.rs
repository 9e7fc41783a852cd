//! QEMU's own VNC server: a guest with the same image and hardware, which QEMU shows twice: losslessly, as is its default,
//! and with JPEG.

use super::peer::Peer;
use super::viewer::{Login, Target};
use super::{cpu, guest};
use anyhow::{Context, Result, ensure};
use lucarne_tests::guest::Guest;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// VNC's display 0.
const FIRST_PORT: u16 = 5900;

/// A running guest; dropped it is killed.
pub struct Machine {
    process: Child,
    /// Both ways in which it is shown.
    pub peers: [Peer; 2],
}

/// Starts a guest like the one whose QEMU has this command line (of /proc/PID/cmdline), with a disk over `image`.
pub fn start(dir: &Path, like: u32, image: &Path, tls: &Path, player: &[u8]) -> Result<Machine> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    for (from, to) in
        [("cert.pem", "ca-cert.pem"), ("cert.pem", "server-cert.pem"), ("key.pem", "server-key.pem")]
    {
        fs::copy(tls.join(from), dir.join(to)).with_context(|| format!("{} of the server", from))?;
    }
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(image)
        .arg(dir.join("disk.qcow2"))
        .status()
        .context("qemu-img is missing")?;
    ensure!(made.success(), "qemu-img cannot make a disk over {}", image.display());
    let raw = fs::read(format!("/proc/{like}/cmdline")).context("the desktop's QEMU has ended")?;
    let words = raw.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned());
    let words: Vec<String> = words.filter(|w| !w.is_empty()).collect();
    let program = fs::read_link(format!("/proc/{like}/exe"))?;
    let ports = [free_port()?, free_port()?];
    let version = Command::new(&program).arg("--version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
    let log = fs::File::create(dir.join("stderr.log"))?;
    let process = Command::new(&program)
        .args(arguments(&words, dir, ports))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let peer = |name, how: &str, port| Peer {
        name,
        what: format!("{version}, -vnc {how}"),
        target: Target {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            certificate: tls.join("cert.pem"),
            login: Login::Anyone,
            video: false,
        },
        films: false,
        beside: None,
        cpu: cpu::Server::of(vec![process.id()]),
    };
    let peers = [peer("qemu", "with its defaults", ports[0]), peer("qemu_lossy", "lossy=on", ports[1])];
    let machine = Machine { process, peers };
    guest::start_player(&Guest::of(dir), player)?;
    Ok(machine)
}

impl Machine {
    /// QEMU's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other QEMU's arguments, with VNC instead of D-Bus, memory of its own, and from power-on.
fn arguments(like: &[String], dir: &Path, ports: [u16; 2]) -> Vec<String> {
    let mut words = Vec::new();
    let mut given = like.iter().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "-S" => {}
            "-incoming" | "-display" => {
                given.next();
            }
            "-object" => {
                let object = given.next().cloned().unwrap_or_default();
                words.push(word.clone());
                words.push(match object.strip_prefix("memory-backend-file,id=mem,") {
                    Some(rest) => {
                        let size =
                            rest.split(',').find(|part| part.starts_with("size=")).unwrap_or("size=1024M");
                        format!("memory-backend-ram,id=mem,{size}")
                    }
                    None => object,
                });
            }
            _ => words.push(word.clone()),
        }
    }
    let tls =
        format!("tls-creds-x509,id=tls,endpoint=server,dir={},verify-peer=no,sanity-check=no", dir.display());
    let [lossless, lossy] = ports.map(|port| format!("127.0.0.1:{}", port - FIRST_PORT));
    words.extend(["-object".into(), tls, "-display".into(), "none".into()]);
    words.extend(["-vnc".into(), format!("{lossless},id=lossless,tls-creds=tls,share=ignore")]);
    words.extend(["-vnc".into(), format!("{lossy},id=lossy,tls-creds=tls,share=ignore,lossy=on")]);
    words
}

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if port > FIRST_PORT {
            return Ok(port);
        }
    }
}

/// The disk of the newest image in the server's store.
pub fn image(data_dir: &Path) -> Result<PathBuf> {
    let store = data_dir.join("host/images");
    let disks = fs::read_dir(&store)?.flatten().map(|e| e.path().join("disk.qcow2"));
    disks.filter(|d| d.exists()).max().with_context(|| format!("{} has no image", store.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_hardware_starts_from_power_on_with_vnc() {
        let like = "qemu -display dbus,p2p=yes -object memory-backend-file,id=mem,size=512M,share=off,mem-path=/t \
                    -object rng-random,id=random -device virtio-vga,id=gpu -incoming defer -S";
        let like: Vec<String> = like.split_whitespace().map(str::to_owned).collect();
        let words = arguments(&like, Path::new("/d"), [5901, 5902]).join(" ");
        assert!(words.starts_with(
            "-object memory-backend-ram,id=mem,size=512M -object rng-random,id=random -device virtio-vga,id=gpu"
        ));
        assert!(words.contains("-vnc 127.0.0.1:1,id=lossless") && !words.contains("incoming"), "{words}");
    }
}
