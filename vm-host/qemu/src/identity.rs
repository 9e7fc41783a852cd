//! Giving a clone its own identity, inside the guest.
//!
//! Recipe images run a resident helper on the virtio-serial port `org.lucarne.identity.0`, which takes one line and
//! answers `ok 2`; it is quicker because nothing has to be started. Every other image is served by qemu-guest-agent
//! running a shell script. `vmgenid` has reseeded the kernel before either runs.

use crate::guest_agent::GuestAgent;
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

/// Longest answer of the helper, bytes; the longest that there is says `pong 2`.
const MAX_ANSWER: u64 = 1024;

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
    fn new(identity: &'a Identity) -> Result<Self, VmError> {
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
        Ok(Self { identity, entropy, key: ssh::HostKey::generate(&identity.hostname).map_err(failed)? })
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

/// Gives the identity through the resident helper.
pub(crate) async fn by_helper(socket: &Path, identity: &Identity) -> Result<(), VmError> {
    let gift = Gift::new(identity)?;
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
        ask_helper(socket, &line).await
    };
    let answer = tokio::time::timeout(HELPER_LIMIT, give)
        .await
        .map_err(|_| failed(format!("its helper did not answer within {} s", HELPER_LIMIT.as_secs())))?
        .map_err(failed)?;
    if answer == "ok 2" { Ok(()) } else { Err(failed(format!("its helper said {answer:?}"))) }
}

/// Says a line to the resident helper and gives its answer, without the end of its line.
pub(crate) async fn ask_helper(socket: &Path, line: &str) -> io::Result<String> {
    let mut stream = crate::address::connect(socket).await?;
    stream.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer).await?;
    match answer.strip_suffix('\n') {
        Some(line) => Ok(line.into()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "its helper's answer has no end")),
    }
}

/// Gives the identity through qemu-guest-agent and a shell.
pub(crate) async fn by_guest_agent(socket: &Path, identity: &Identity) -> Result<(), VmError> {
    let gift = Gift::new(identity)?;
    let mut agent = GuestAgent::connect(socket, AGENT_LIMIT).await.map_err(failed)?;
    let now = now();
    // Everything interpolated has been checked above or is base64 or hexadecimal.
    let script = format!(
        "set -e
date -s @{secs}.{nanos:09} >/dev/null
echo {entropy} > /dev/urandom
umask 022
echo {id} > /etc/machine-id
[ -e /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ] && echo {id} > /var/lib/dbus/machine-id
old=$(cat /proc/sys/kernel/hostname)
echo {host} > /proc/sys/kernel/hostname
echo {host} > /etc/hostname
if [ -n \"$old\" ] && [ -w /etc/hosts ]; then
  sed \"s/\\\\b$old\\\\b/{host}/g\" /etc/hosts > /etc/hosts.new && cat /etc/hosts.new > /etc/hosts && rm /etc/hosts.new
fi
if [ -d /etc/ssh ]; then
  rm -f /etc/ssh/ssh_host_*
  (umask 077; echo {private} | base64 -d > /etc/ssh/ssh_host_ed25519_key)
  echo {public} | base64 -d > /etc/ssh/ssh_host_ed25519_key.pub
  if command -v systemctl >/dev/null; then systemctl --no-block try-restart ssh.service sshd.service || true; fi
fi
exit 0",
        secs = now.as_secs(),
        nanos = now.subsec_nanos(),
        entropy = gift.entropy_hex(),
        id = gift.identity.machine_id,
        host = gift.identity.hostname,
        private = STANDARD.encode(&gift.key.private),
        public = STANDARD.encode(&gift.key.public),
    );
    agent.shell(&script, AGENT_LIMIT).await.map_err(failed)?;
    Ok(())
}

/// SSH host keys, made on the host because the guest would take longer.
mod ssh {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use ring::signature::{Ed25519KeyPair, KeyPair};

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
        pub(super) fn generate(comment: &str) -> Result<Self, String> {
            let mut seed = [0u8; 32];
            let mut check = [0u8; 4];
            getrandom::fill(&mut seed).map_err(|e| e.to_string())?;
            getrandom::fill(&mut check).map_err(|e| e.to_string())?;
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| e.to_string())?;
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
        use super::HostKey;
        use std::os::unix::fs::PermissionsExt;

        #[test]
        fn openssh_reads_the_private_key_and_derives_the_same_public_key() {
            let key = HostKey::generate("desk-1").unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key");
            std::fs::write(&path, &key.private).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let out =
                std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert_eq!(out.stdout, key.public);
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
    async fn an_identity_that_could_inject_shell_or_lines_is_refused_before_the_guest_sees_it() {
        let nowhere = Path::new("/nonexistent/socket");
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
            let error = by_guest_agent(nowhere, &identity).await.unwrap_err().to_string();
            assert!(error.contains("is not a"), "{error}");
            assert!(by_helper(nowhere, &identity).await.unwrap_err().to_string().contains("is not a"));
        }
    }
}
