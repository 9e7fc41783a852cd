//! Giving a clone its own identity, inside the guest.
//!
//! Recipe images run a resident helper on the virtio-serial port `org.lucarne.identity.0`, which takes one line and
//! answers `ok 2`; it is quicker because nothing has to be started. Every other image is served by qemu-guest-agent
//! running a shell script. `vmgenid` has reseeded the kernel before either runs.
//!
//! A guest that boots from a disk of its own gets the same again, because what it was given first may not have reached the
//! disk: with the SSH host key that is kept beside the disk, and with as much patience as a boot takes.

use crate::command::files;
use crate::guest_agent::GuestAgent;
use crate::template::BOOT_LIMIT;
use base64::{Engine, engine::general_purpose::STANDARD};
use lucarne_control::desktop::Identity;
use lucarne_driver::VmError;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// How long the resident helper may take. A guest that was just forked on a loaded host answers within a second.
const HELPER_LIMIT: Duration = Duration::from_secs(20);

/// How long the guest agent may take for all of it.
const AGENT_LIMIT: Duration = Duration::from_secs(60);

/// How long the helper of a guest that boots may be silent before it is asked anew: a guest that starts again while it
/// boots loses the question.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Longest answer of the helper, bytes; the longest that there is says `pong 2`.
const MAX_ANSWER: u64 = 1024;

/// The secret of a persistent desktop's SSH host key, in its folder.
const KEPT_KEY: &str = "host-key";

/// How an identity is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The SSH host key is kept in the desktop's folder, and is always the same.
    pub(crate) keeps_key: bool,
    /// The guest boots from its own disk: it answers late, and has SSH host keys already.
    pub(crate) booted: bool,
    /// What it has on its disk, and in mind, is another desktop's.
    pub(crate) anew: bool,
}

fn failed(why: impl ToString) -> VmError {
    VmError::Guest { what: "its identity".into(), why: why.to_string() }
}

/// What the guest is given.
struct Gift<'a> {
    identity: &'a Identity,
    entropy: [u8; 32],
    key: crate::identity::ssh::HostKey,
}

impl<'a> Gift<'a> {
    /// With a key that is kept in this folder, or a new one.
    fn new(identity: &'a Identity, kept: Option<&Path>) -> Result<Self, VmError> {
        if !is_hostname(&identity.hostname) {
            return Err(failed(format!("{:?} is not a host name (RFC 1123)", identity.hostname)));
        }
        if identity.machine_id.len() != 32 || !identity.machine_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(failed(format!("{:?} is not a machine id", identity.machine_id)));
        }
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(failed)?;
        if !is_mac(&identity.mac) {
            return Err(failed(format!("{:?} is not a network card's address", identity.mac)));
        }
        let seed =
            kept.map_or_else(ssh::new_seed, |dir| ssh::kept_seed(&dir.join(KEPT_KEY))).map_err(failed)?;
        let key = ssh::HostKey::of_seed(&seed, &identity.hostname).map_err(failed)?;
        Ok(Self { identity, entropy, key })
    }

    fn entropy_hex(&self) -> String {
        self.entropy.iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn is_hostname(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Six bytes in lower-case hexadecimal, for one card and no group (IEEE 802, the two lowest bits of the first).
fn is_mac(mac: &str) -> bool {
    let bytes: Vec<&str> = mac.split(':').collect();
    let digits =
        |byte: &&str| byte.len() == 2 && byte.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    bytes.len() == 6
        && bytes.iter().all(digits)
        && u8::from_str_radix(bytes[0], 16).is_ok_and(|first| first & 1 == 0)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Gives the identity to the guest that runs in `dir`, through the resident helper.
pub(crate) async fn by_helper(dir: &Path, identity: &Identity, terms: Terms) -> Result<(), VmError> {
    let gift = Gift::new(identity, terms.keeps_key.then_some(dir))?;
    let socket = dir.join(files::IDENTITY);
    if terms.booted {
        wait_helper(&socket).await?;
    }
    let give = async {
        let now = now();
        let line = format!(
            "identity 2 {} {} {}.{:09} {} {} {} {}\n",
            identity.hostname,
            identity.machine_id,
            now.as_secs(),
            now.subsec_nanos(),
            gift.entropy_hex(),
            STANDARD.encode(&gift.key.private),
            STANDARD.encode(&gift.key.public),
            identity.mac,
        );
        ask_helper(&socket, &line).await
    };
    let answer = tokio::time::timeout(HELPER_LIMIT, give)
        .await
        .map_err(|_| failed(format!("its helper did not answer within {} s", HELPER_LIMIT.as_secs())))?
        .map_err(failed)?;
    if answer != "ok 2" {
        return Err(failed(format!("its helper said {answer:?}")));
    }
    if terms.anew {
        to_disk(dir).await;
    }
    Ok(())
}

/// Has the guest put on its disk who it is: what that has of another desktop is not to be there again after a power cut.
async fn to_disk(dir: &Path) {
    let synced = async {
        let mut agent = GuestAgent::connect(&dir.join(files::GUEST_AGENT), HELPER_LIMIT).await?;
        agent.shell("sync", AGENT_LIMIT).await
    };
    if let Err(error) = synced.await {
        tracing::warn!(%error, "the guest's identity may not be on its disk yet");
    }
}

/// What a shell does for the network card, whose address was loaded with the guest's memory, to have this one, and for all of the identity
/// to be on the disk.
fn own_card(mac: &str) -> String {
    format!(
        "for card in /sys/class/net/*; do
  name=${{card##*/}}
  if [ -e $card/device ] && [ \"$(cat $card/address)\" != {mac} ]; then
    ip link set dev $name down && ip link set dev $name address {mac} && ip link set dev $name up
  fi
done
sync"
    )
}

/// Waits until the helper of a guest that boots is there.
async fn wait_helper(socket: &Path) -> Result<(), VmError> {
    let there = async {
        loop {
            match tokio::time::timeout(ASK_AGAIN, ask_helper(socket, "ping\n")).await {
                Ok(Ok(_)) => return,
                // QEMU takes one connection at a time, and gives it up a moment after the last one's end.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the identity helper cannot be asked yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(_) => {}
            }
        }
    };
    let limit = BOOT_LIMIT.as_secs();
    let waited = tokio::time::timeout(BOOT_LIMIT, there).await;
    waited.map_err(|_| failed(format!("its helper did not answer within {limit} s of its boot")))
}

/// Says a line to the resident helper and gives its answer, without the end of its line.
pub(crate) async fn ask_helper(socket: &Path, line: &str) -> io::Result<String> {
    let mut stream = crate::address::connect(socket).await?;
    stream.write_all(line.as_bytes()).await?;
    let mut answers = BufReader::new(stream.take(MAX_ANSWER));
    loop {
        let mut answer = String::new();
        answers.read_line(&mut answer).await?;
        match answer.strip_suffix('\n') {
            // To a question whose asker did not wait for it.
            Some("pong 2") if line != "ping\n" => {}
            Some(line) => return Ok(line.into()),
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "its helper's answer has no end")),
        }
    }
}

/// Gives the identity to the guest that runs in `dir`, through qemu-guest-agent and a shell.
pub(crate) async fn by_guest_agent(dir: &Path, identity: &Identity, terms: Terms) -> Result<(), VmError> {
    let gift = Gift::new(identity, terms.keeps_key.then_some(dir))?;
    let patience = if terms.booted { BOOT_LIMIT } else { AGENT_LIMIT };
    let mut agent = GuestAgent::connect(&dir.join(files::GUEST_AGENT), patience).await.map_err(failed)?;
    let now = now();
    // The image's keys are every clone's, and another desktop's are that one's. Those on a disk of its own are its user's.
    let keys = if terms.booted && !terms.anew {
        "[ ! -s /etc/ssh/ssh_host_ed25519_key ]"
    } else {
        "rm -f /etc/ssh/ssh_host_*"
    };
    // Everything interpolated has been checked above or is base64 or hexadecimal.
    let script = format!(
        "set -e
date -s @{secs}.{nanos:09} >/dev/null
echo {entropy} > /dev/urandom
umask 022
if grep -q ' /etc/machine-id ' /proc/self/mountinfo; then umount -l /etc/machine-id || true; fi
echo {id} > /etc/machine-id
[ -e /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ] && echo {id} > /var/lib/dbus/machine-id
old=$(cat /proc/sys/kernel/hostname)
echo {host} > /proc/sys/kernel/hostname
echo {host} > /etc/hostname
if [ -n \"$old\" ] && [ -w /etc/hosts ]; then
  sed \"s/\\\\b$old\\\\b/{host}/g\" /etc/hosts > /etc/hosts.new && cat /etc/hosts.new > /etc/hosts && rm /etc/hosts.new
fi
if [ -d /etc/ssh ] && {keys}; then
  (umask 077; echo {private} | base64 -d > /etc/ssh/ssh_host_ed25519_key)
  echo {public} | base64 -d > /etc/ssh/ssh_host_ed25519_key.pub
  if command -v systemctl >/dev/null; then systemctl --no-block try-restart ssh.service sshd.service || true; fi
fi
{anew}
exit 0",
        anew = if terms.anew { own_card(&gift.identity.mac) } else { String::new() },
        secs = now.as_secs(),
        nanos = now.subsec_nanos(),
        entropy = gift.entropy_hex(),
        id = gift.identity.machine_id,
        host = gift.identity.hostname,
        private = STANDARD.encode(&gift.key.private),
        public = STANDARD.encode(&gift.key.public),
    );
    // A guest that boots has much else to do.
    agent.shell(&script, patience).await.map_err(failed)?;
    Ok(())
}

/// SSH host keys, made on the host because the guest would take longer.
mod ssh {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    /// What an ed25519 key is derived from (RFC 8032, section 5.1.5).
    pub(super) type Seed = [u8; 32];

    /// A new one.
    pub(super) fn new_seed() -> io::Result<Seed> {
        let mut seed = Seed::default();
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(seed)
    }

    /// The one in this file; a new one, durably, where there is none.
    pub(super) fn kept_seed(path: &Path) -> io::Result<Seed> {
        match std::fs::read(path) {
            Ok(kept) => {
                return kept
                    .try_into()
                    .map_err(|_| io::Error::other(format!("{} is no key", path.display())));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Err(_) => {}
        }
        let (seed, next) = (new_seed()?, path.with_extension("next"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&seed)?;
        file.sync_all()?;
        std::fs::rename(&next, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(seed)
    }

    /// An ed25519 host key as OpenSSH stores it.
    pub(super) struct HostKey {
        /// `ssh_host_ed25519_key` (OpenSSH's PROTOCOL.key, unencrypted).
        pub(super) private: Vec<u8>,
        /// `ssh_host_ed25519_key.pub` (RFC 4253, section 6.6; RFC 8709).
        pub(super) public: Vec<u8>,
    }

    fn string(out: &mut Vec<u8>, bytes: &[u8]) {
        // Every string here is far shorter than 2^32.
        out.extend((bytes.len() as u32).to_be_bytes());
        out.extend(bytes);
    }

    impl HostKey {
        pub(super) fn of_seed(seed: &Seed, comment: &str) -> Result<Self, String> {
            let mut check = [0u8; 4];
            getrandom::fill(&mut check).map_err(|e| e.to_string())?;
            let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|e| e.to_string())?;
            let public = pair.public_key().as_ref();

            let mut public_blob = Vec::new();
            string(&mut public_blob, b"ssh-ed25519");
            string(&mut public_blob, public);

            let mut secret = Vec::new();
            secret.extend(check);
            secret.extend(check);
            string(&mut secret, b"ssh-ed25519");
            string(&mut secret, public);
            string(&mut secret, &[&seed[..], public].concat());
            string(&mut secret, comment.as_bytes());
            // Padded to the block size of the cipher `none`, 8, with 1, 2, 3, …
            for pad in 1u8.. {
                if secret.len().is_multiple_of(8) {
                    break;
                }
                secret.push(pad);
            }

            let mut file = b"openssh-key-v1\0".to_vec();
            string(&mut file, b"none");
            string(&mut file, b"none");
            string(&mut file, b"");
            file.extend(1u32.to_be_bytes());
            string(&mut file, &public_blob);
            string(&mut file, &secret);

            let mut private = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
            let encoded = STANDARD.encode(file);
            for line in encoded.as_bytes().chunks(70) {
                private.push_str(&String::from_utf8_lossy(line));
                private.push('\n');
            }
            private.push_str("-----END OPENSSH PRIVATE KEY-----\n");
            Ok(Self {
                private: private.into_bytes(),
                public: format!("ssh-ed25519 {} {comment}\n", STANDARD.encode(public_blob)).into_bytes(),
            })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::{HostKey, kept_seed, new_seed};
        use std::os::unix::fs::PermissionsExt;

        #[test]
        fn openssh_reads_the_private_key_and_derives_the_same_public_key() {
            let key = HostKey::of_seed(&new_seed().unwrap(), "desk-1").unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key");
            std::fs::write(&path, &key.private).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let out =
                std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert_eq!(out.stdout, key.public);
        }

        #[test]
        fn a_key_that_is_kept_is_the_same_each_time_and_one_that_was_spoiled_is_not_replaced() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("host-key");
            let first = kept_seed(&path).unwrap();
            assert_eq!(kept_seed(&path).unwrap(), first);
            assert_ne!(new_seed().unwrap(), first);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let public = |seed| HostKey::of_seed(seed, "desk-1").unwrap().public;
            assert_eq!(public(&first), public(&kept_seed(&path).unwrap()));
            std::fs::write(&path, "short").unwrap();
            assert!(kept_seed(&path).is_err());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_helper_that_answers_without_an_end_is_given_up_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let guest = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut sent = 0usize;
            // Until nobody listens any more.
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        });
        let error = ask_helper(&path, "ping\n").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let sent =
            tokio::time::timeout(HELPER_LIMIT, guest).await.expect("the connection is closed").unwrap();
        assert!(sent < 64 << 20, "{sent} bytes were taken");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waited_for_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let guest = tokio::spawn(async move {
            for answer in ["pong 2\nok 2\n", "pong 2\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(ask_helper(&path, "identity 2\n").await.unwrap(), "ok 2");
        assert_eq!(ask_helper(&path, "ping\n").await.unwrap(), "pong 2");
        guest.await.unwrap();
    }

    #[tokio::test]
    async fn an_identity_that_could_inject_shell_or_lines_is_refused_before_the_guest_sees_it() {
        let nowhere = Path::new("/nonexistent");
        let (id, mac) = ("0123456789abcdef0123456789abcdef", "52:54:00:12:34:56");
        for (hostname, machine_id, mac) in [
            ("x; reboot", id, mac),
            ("-x", id, mac),
            ("desk", "0123456789abcdef0123456789abcde\n", mac),
            ("desk", id, ""),
            ("desk", id, "52:54:00:12:34:5\n"),
            ("desk", id, "53:54:00:12:34:56"),
        ] {
            let identity =
                Identity { hostname: hostname.into(), machine_id: machine_id.into(), mac: mac.into() };
            let error = by_guest_agent(nowhere, &identity, Terms::default()).await.unwrap_err().to_string();
            assert!(error.contains("is not a"), "{error}");
            let error = by_helper(nowhere, &identity, Terms::default()).await.unwrap_err().to_string();
            assert!(error.contains("is not a"), "{error}");
        }
    }
}
