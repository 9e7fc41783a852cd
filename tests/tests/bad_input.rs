//! What is wrong is refused, with an error that says what to do, and changes nothing.

#![allow(clippy::unwrap_used)]

use lucarne_tests::http::{Answer, Client};
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::{Server, Turn, data_dir, lucarne, names, program};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Asks for a stream as a browser does.
fn stream(client: &Client, ticket: &str, origin: Option<&str>) -> Answer {
    let mut client = client
        .clone()
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .with("Sec-WebSocket-Protocol", &format!("binary, lucarne.ticket.{ticket}"));
    if let Some(origin) = origin {
        client = client.with("Origin", origin);
    }
    client.send("GET", "/api/v1/stream", None)
}

fn ticket(connection: &Value) -> &str {
    connection["ticket"].as_str().unwrap()
}

#[test]
fn strangers_get_no_stream() {
    let server = Server::start();
    let user = server.user("anna");
    let wrong = json!({ "name": "anna", "password": "not her password" });
    let answer = server.anyone().send("POST", "/api/v1/auth/login", Some(&wrong));
    assert_eq!((answer.status, answer.code().as_str()), (401, "bad_credentials"), "{answer:?}");
    let answer = server.anyone().send("GET", "/api/v1/me", None);
    assert_eq!((answer.status, answer.code().as_str()), (401, "not_signed_in"), "{answer:?}");
    // No page of another site may act for a user.
    let foreign = user.clone().with("Origin", "https://elsewhere.example");
    let answer = server.ask(&foreign);
    assert_eq!((answer.status, answer.code().as_str()), (403, "foreign_origin"), "{answer:?}");

    let connection = server.connect(&user);
    let anyone = server.anyone();
    let answer = stream(&anyone, ticket(&connection), Some("https://elsewhere.example"));
    assert_eq!((answer.status, answer.code().as_str()), (403, "foreign_origin"), "{answer:?}");
    for garbage in ["", "nonsense", &"A".repeat(43), &"x".repeat(4000)] {
        let answer = stream(&anyone, garbage, None);
        assert_eq!(answer.status, 401, "ticket {garbage:?}: {answer:?}");
    }
    let connection = server.connect(&user);
    let own = format!("https://{}", server.address);
    let answer = stream(&anyone, ticket(&connection), Some(&own));
    assert_eq!(answer.status, 101, "{answer:?}");
    let answer = stream(&anyone, ticket(&connection), Some(&own));
    assert_eq!((answer.status, answer.code().as_str()), (401, "ticket_invalid"), "a used ticket: {answer:?}");
    server.stop();
}

#[test]
fn a_ticket_opens_nothing_any_more_after_half_a_minute() {
    let server = Server::start();
    let user = server.user("anna");
    // Each ticket can be tried once; they are all of one age.
    let connection = server.connect(&user);
    let path = format!("/api/v1/sessions/{}/ticket", connection["session"]["id"].as_str().unwrap());
    let mut tickets: Vec<String> =
        (0..40).map(|_| ticket(&user.send("POST", &path, None).json(201)).to_owned()).collect();
    let (made, mut tried) = (Instant::now(), Instant::now());
    let refused = until("a ticket has expired", LIMIT, || {
        if tried.elapsed() < Duration::from_secs(2) {
            return None;
        }
        tried = Instant::now();
        let answer = stream(&server.anyone(), &tickets.pop().expect("tickets enough"), None);
        (answer.status != 101).then_some(answer)
    });
    assert_eq!((refused.status, refused.code().as_str()), (401, "ticket_invalid"), "{refused:?}");
    assert!(made.elapsed() > Duration::from_secs(25), "refused after {:?} already", made.elapsed());
    server.stop();
}

/// A full disk under the desktops; taken away when dropped.
struct FullDisk<'a>(&'a Path);

impl<'a> FullDisk<'a> {
    fn on(folder: &'a Path) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=100m,mode=755", "tmpfs"])
            .arg(folder)
            .status()
            .unwrap();
        assert!(status.success(), "mount: {status}");
        Self(folder)
    }
}

impl Drop for FullDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_desktops_and_says_so() {
    let server = Server::start();
    let user = server.user("anna");
    let folder = server.data.join("host/desktops");
    let full = FullDisk::on(&folder);
    let answer =
        until("the server answers for good", LIMIT, || Some(server.ask(&user)).filter(|a| a.status != 202));
    assert_eq!(answer.status, 503, "{answer:?}\n{}", server.logs());
    assert!(answer.body.contains("full"), "{answer:?}");
    until("nothing is left on the full disk", LIMIT, || names(&folder).is_empty().then_some(()));
    drop(full);
    let _ = server.connect(&user);
    server.stop();
}

/// Both outputs of a program that must fail.
fn failure(output: Output) -> String {
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "it succeeds: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_disk_with_a_backing_file_is_not_imported() {
    let _turn = Turn::take();
    let temporary = tempfile::tempdir().unwrap();
    let (base, disk) = (temporary.path().join("base.qcow2"), temporary.path().join("disk.qcow2"));
    let create = |words: &[&str], file: &Path, size: Option<&str>| {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2"]).args(words).arg(file).args(size);
        assert!(command.status().unwrap().success());
    };
    create(&[], &base, Some("64M"));
    create(&["-F", "qcow2", "-b", base.to_str().unwrap()], &disk, None);
    let images = data_dir().join("host/images");
    let before = names(&images);
    let text = failure(
        lucarne(&["image", "import", disk.to_str().unwrap(), "--format", "qcow2", "--name", "evil"])
            .output()
            .unwrap(),
    );
    assert!(text.contains("disk.qcow2") && text.contains("backing file"), "{text}");
    assert_eq!(names(&images), before);
}

#[test]
fn a_file_of_pools_that_is_wrong_is_refused_with_its_lines_before_any_server_is_asked() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("pools.toml");
    fs::write(&file, "[[pool]]\nname = \"lab\"\nimage = 7\n[[pool]]\nname = \"two\"\nimages = \"x\"\n")
        .unwrap();
    let apply = |words: &[&str]| {
        let mut command = Command::new(program());
        command.args(["apply", "--data-dir"]).arg(temporary.path()).args(words).arg("-f").arg(&file);
        failure(command.output().unwrap())
    };
    let text = apply(&["--dry-run"]);
    for part in
        ["pools.toml:3:9: pool \"lab\": invalid type", "pools.toml:6:1: pool \"two\": unknown field `images`"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    fs::write(&file, "# no pools\n").unwrap();
    let text = apply(&["--prune", "--yes"]);
    assert!(text.contains("pool = []"), "{text}");
}

#[test]
fn a_port_in_use_is_named() {
    let _turn = Turn::take();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = lucarne(&["up", "--listen", &address, "--vnc-listen", "none"]).output().unwrap();
    let text = failure(output);
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
}

#[test]
fn a_missing_hypervisor_is_named_with_its_package() {
    let _turn = Turn::take();
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.args(["up", "--listen", "127.0.0.1:0", "--vnc-listen", "none", "--data-dir"]);
    command.arg(data_dir()).env("PATH", empty.path());
    let text = failure(command.output().unwrap());
    assert!(text.contains("qemu-system-x86"), "{text}");
    assert!(!fs::exists(data_dir().join("broker/broker.db")).unwrap(), "it made a database");
}
