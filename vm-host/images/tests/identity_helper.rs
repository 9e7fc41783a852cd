//! The identity helper of the recipes' images, run on a folder instead of a guest's root.
//!
//! Standard input and output stand for the virtio-serial port.

// The helper functions below are part of the tests, which may unwrap.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

const ENTROPY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const ID: &str = "0123456789abcdef0123456789abcdef";
/// base64 of a file that begins as an OpenSSH private key does, and of a public key line.
const KEY: &str =
    "LS0tLS1CRUdJTiBPUEVOU1NIIFBSSVZBVEUgS0VZLS0tLS0KYWJjCi0tLS0tRU5EIE9QRU5TU0ggUFJJVkFURSBLRVktLS0tLQo=";
const PUBLIC: &str = "c3NoLWVkMjU1MTkgQUFBQSByb290QHg=";

struct Guest(tempfile::TempDir);

impl Guest {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc/ssh")).unwrap();
        fs::write(folder.path().join("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\told\n").unwrap();
        fs::write(folder.path().join("etc/machine-id"), "").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The helper's answers to these requests.
    fn ask(&self, requests: &str) -> Vec<String> {
        let requests_file = self.path("requests");
        fs::write(&requests_file, requests).unwrap();
        let helper = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../ops/images/common/root/usr/lib/lucarne/identity");
        let output = Command::new("perl")
            .arg(helper)
            .arg("-")
            .stdin(fs::File::open(&requests_file).unwrap())
            .env("LUCARNE_IDENTITY_ROOT", self.0.path())
            .output()
            .expect("perl-base is essential on Debian");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

fn identity(changes: &[(&str, &str)]) -> String {
    let line =
        format!("identity 2 desk-7 {ID} 1793000000.000000001 {ENTROPY} {KEY} {PUBLIC} 52:54:00:12:34:56\n");
    changes.iter().fold(line, |line, (from, to)| line.replacen(from, to, 1))
}

#[test]
fn a_ping_is_answered() {
    assert_eq!(Guest::new().ask("ping\nping\n"), ["pong 2", "pong 2"]);
}

#[test]
fn an_identity_is_written_before_it_is_acknowledged() {
    let guest = Guest::new();
    assert_eq!(guest.ask(&identity(&[])), ["ok 2"]);
    assert_eq!(guest.read("etc/hostname"), "desk-7\n");
    assert_eq!(guest.read("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tdesk-7\n");
    assert_eq!(guest.read("etc/machine-id"), format!("{ID}\n"));
    assert_eq!(
        guest.read("etc/ssh/ssh_host_ed25519_key"),
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"
    );
    assert_eq!(guest.read("etc/ssh/ssh_host_ed25519_key.pub"), "ssh-ed25519 AAAA root@x\n");
    let mode = |name: &str| fs::metadata(guest.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("etc/ssh/ssh_host_ed25519_key"), 0o600);
    assert_eq!((mode("etc/machine-id"), mode("etc/hostname")), (0o444, 0o644));
}

#[test]
fn a_wrong_value_is_refused_and_changes_nothing() {
    let wrong = [
        (("desk-7", "Desk_7"), "hostname"),
        (("desk-7", "-desk"), "hostname"),
        ((ID, "0123"), "machine-id"),
        (("1793000000.000000001", "1793000000"), "time"),
        ((ENTROPY, "00ff"), "entropy"),
        ((KEY, "YWJj"), "private key"),
        ((KEY, "***"), "base64"),
        ((PUBLIC, "YWJj"), "public key"),
        (("identity 2 ", "identity 1 "), "version 2"),
        (("identity 2 ", "rename 2 "), "unknown request"),
        (("desk-7 ", ""), "7 values"),
        (("52:54", "53:54"), "address"),
        ((":56", ":56:78"), "address"),
    ];
    for (change, reason) in wrong {
        let guest = Guest::new();
        let answers = guest.ask(&identity(&[change]));
        assert!(
            answers.len() == 1 && answers[0].starts_with("error ") && answers[0].contains(reason),
            "{change:?}: {answers:?}"
        );
        assert_eq!(guest.read("etc/machine-id"), "", "{change:?}");
        assert!(!guest.path("etc/hostname").exists(), "{change:?}");
    }
}

#[test]
fn a_line_without_end_is_refused_once_and_the_next_one_is_heard() {
    let answers = Guest::new().ask(&format!("{}\nping\n", "x".repeat(100_000)));
    assert_eq!(answers, ["error line too long", "pong 2"]);
}
