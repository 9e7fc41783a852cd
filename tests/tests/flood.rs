//! A thousand connections at once, at each door: bounded, told of in a few lines, and over when they are.

#![allow(clippy::unwrap_used)]

use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::process::Process;
use lucarne_tests::server::Server;
use lucarne_tests::viewer::{Vnc, keys};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::net::TcpStream;

const MANY: usize = 1000;

/// Memory that a process may take for a thousand strangers, KiB.
const MORE: u64 = 64 << 10;

fn descriptors(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap().count()
}

/// Resident memory, KiB.
fn memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_thousand_connections_at_once_harm_nobody_and_leave_nothing() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let guest = server.guest(&connection);
    let mut viewer = Vnc::connect(&server, "anna").unwrap();
    viewer.press(&[keys::CONTROL, keys::ALT, u32::from('t')]).unwrap();
    guest.wait_terminal();
    let broker = server.process(&["lucarne", "broker"]);
    let desktop = server.process(&["lucarne", "--display-fd", connection["desktop"]["id"].as_str().unwrap()]);

    for (door, address, word) in [("VNC", server.vnc, "VNC viewers"), ("HTTPS", server.address, "browsers")] {
        let (files, before) = (descriptors(&broker), [memory(&broker), memory(&desktop)]);
        let lines = server.broker_log().lines().count();
        let crowd: Vec<_> = (0..MANY).map(|_| TcpStream::connect(address).unwrap()).collect();
        let typed = format!("/home/user/typed-{door}");
        viewer.type_text(&format!("echo {door} > {typed}\n")).unwrap();
        viewer.pump("a frame in the crowd", |_, updates| updates > 0).unwrap();
        assert_eq!(guest.wait_file(&typed), door);
        let (held, during) = (descriptors(&broker), [memory(&broker), memory(&desktop)]);
        let told = until("the log tells of those who were refused", LIMIT, || {
            let log = server.broker_log();
            let told = |l: &&str| l.contains(&format!("connections for {word} were closed at once"));
            log.lines().find(told).map(str::to_owned)
        });
        println!("{door}: {told}");
        println!("{door}: KiB of broker and desktop process {before:?}, with the crowd {during:?}");
        println!("{door}: descriptors of the broker {files}, with the crowd {held}");
        for (before, during) in before.into_iter().zip(during) {
            assert!(during < before + MORE, "{door}: {before} KiB, and {during} with the crowd");
        }
        assert!(held < files + MANY / 2, "{door}: {files} descriptors, and {held} with the crowd");
        drop(crowd);
        until("the broker gives its descriptors back", LIMIT, || {
            (descriptors(&broker) <= files + 4).then_some(())
        });
        let lines = server.broker_log().lines().count() - lines;
        println!("{door}: {lines} lines in the broker's log");
        assert!(lines < 200, "{door}: {lines} lines in the broker's log");
        let _ = server.connect(&server.anyone().signed_in("anna", "password of anna"));
    }
    viewer.newest().unwrap();
    drop(viewer);
    Vnc::connect(&server, "anna").unwrap();
    server.stop();
}
