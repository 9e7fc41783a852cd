//! Each process of a running server is killed while a person works, and the person goes on in the same guest.

#![allow(clippy::unwrap_used)]

use lucarne_tests::browser::Browser;
use lucarne_tests::guest::Guest;
use lucarne_tests::http::Client;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::process::Process;
use lucarne_tests::server::Server;
use lucarne_tests::viewer::{Vnc, keys};
use serde_json::Value;

/// Somebody's desktop, and what tells it from a later one of the same name.
struct Desk {
    id: String,
    guest: Guest,
    qemu: Process,
    boot: String,
}

impl Desk {
    fn of(server: &Server, connection: &Value) -> Self {
        let id = connection["desktop"]["id"].as_str().unwrap().to_owned();
        let guest = server.guest(connection);
        let qemu = server.process(&["qemu-system", &id]);
        let boot = guest.wait("cat /proc/sys/kernel/random/boot_id /etc/machine-id");
        Self { id, guest, qemu, boot }
    }

    /// The desktop process of it.
    fn process(&self, server: &Server) -> Process {
        server.process(&["lucarne", "--display-fd", &self.id])
    }

    fn assert_same_guest(&self) {
        assert!(self.qemu.runs(), "{:?} has ended", self.qemu);
        assert_eq!(self.guest.wait("cat /proc/sys/kernel/random/boot_id /etc/machine-id"), self.boot);
    }
}

/// Waits until another process than `killed` does the work.
fn restarted(what: &str, killed: &Process, now: impl Fn() -> Vec<Process>) {
    until(&format!("{what} is restarted"), LIMIT, || now().into_iter().find(|p| p.pid != killed.pid));
}

fn agent(server: &Server) -> Vec<Process> {
    lucarne_tests::process::with(&server.data, &["lucarne", "host", "--accel"])
}

fn broker(server: &Server) -> Vec<Process> {
    lucarne_tests::process::with(&server.data, &["lucarne", "broker", "--announce"])
}

/// Types a command into the terminal; its effect is seen in the picture and in the guest.
fn work(viewer: &mut Vnc, guest: &Guest, word: &str) {
    viewer.type_text(&format!("echo {word} > /home/user/{word}\n")).unwrap();
    viewer.pump("what was typed is in the picture", |_, updates| updates > 0).unwrap();
    assert_eq!(guest.wait_file(&format!("/home/user/{word}")), word);
}

fn open(server: &Server) -> (Client, Desk, Vnc) {
    let anna = server.user("anna");
    let desk = Desk::of(server, &server.connect(&anna));
    let mut viewer = Vnc::connect(server, "anna").unwrap();
    viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
    desk.guest.wait_terminal();
    (anna, desk, viewer)
}

#[test]
fn a_stream_goes_on_while_the_host_agent_is_killed_and_restarted() {
    let server = Server::start();
    let (anna, desk, mut viewer) = open(&server);
    work(&mut viewer, &desk.guest, "before");
    let killed = agent(&server).remove(0);
    killed.kill();
    work(&mut viewer, &desk.guest, "while");
    restarted("the host agent", &killed, || agent(&server));
    until("the desktop is ready again", LIMIT, || {
        let now = server.admin().get(&format!("/api/v1/desktops/{}", desk.id));
        (now["phase"] == "ready").then_some(())
    });
    work(&mut viewer, &desk.guest, "after");
    desk.assert_same_guest();
    assert_eq!(server.connect(&anna)["desktop"]["id"], desk.id.as_str());
    server.stop();
}

#[test]
fn a_browser_comes_back_to_the_same_guest_when_the_desktop_process_is_killed() {
    let server = Server::start();
    let anna = server.user("anna");
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(profile.path());
    browser.sign_in(&server, "anna");
    browser.connect();
    let desk = Desk::of(&server, &server.connect(&anna));
    browser.press("Control+Alt+t");
    desk.guest.wait_terminal();
    let stream = browser.stream().unwrap();
    let killed = desk.process(&server);
    killed.kill();
    until("the browser is back", LIMIT, || browser.stream().filter(|now| *now > stream));
    let before = browser.pixels();
    browser.type_text("echo back > /home/user/back\n");
    assert_eq!(desk.guest.wait_file("/home/user/back"), "back");
    until("what was typed is in the picture", LIMIT, || (browser.pixels() != before).then_some(()));
    assert_ne!(desk.process(&server).pid, killed.pid);
    desk.assert_same_guest();
    browser.close();
    server.stop();
}

#[test]
fn a_user_reconnects_to_the_same_desktop_after_the_broker_was_killed() {
    let server = Server::start();
    let (anna, desk, mut viewer) = open(&server);
    work(&mut viewer, &desk.guest, "before");
    let killed = broker(&server).remove(0);
    killed.kill();
    restarted("the broker", &killed, || broker(&server));
    let viewer = until("a viewer is let in", LIMIT, || Vnc::connect(&server, "anna").ok());
    work(&mut { viewer }, &desk.guest, "after");
    assert_eq!(server.connect(&anna)["desktop"]["id"], desk.id.as_str());
    desk.assert_same_guest();
    server.stop();
}

#[test]
fn a_desktop_that_is_logged_off_leaves_no_process_and_no_file() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let desk = Desk::of(&server, &connection);
    let processes = [desk.process(&server), desk.qemu.clone()];
    let session = connection["session"]["id"].as_str().unwrap();
    let answer = server.admin().send("DELETE", &format!("/api/v1/sessions/{session}?wait=true"), None);
    assert!(matches!(answer.status, 200 | 204), "{} {}", answer.head, answer.body);
    assert!(!server.desktop_dir(&desk.id).exists());
    until("its processes have been collected", LIMIT, || {
        processes.iter().all(|process| !process.exists()).then_some(())
    });
    server.stop();
}
