//! The emulated link is what its specification says, as far as sockets on both of its sides can tell, and leaves nothing.

#![allow(clippy::unwrap_used)]

use lucarne_tests::link::{Counters, Link, LinkError, LinkSpec, PRESETS, Traffic};
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::process::signal;
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No delay, no rate, no loss.
const PLAIN: LinkSpec = LinkSpec::new(Duration::ZERO, None, 0.0);

/// The link, where this machine lets one be made.
fn link(spec: &LinkSpec) -> Option<Link> {
    match Link::new(spec) {
        Err(e @ (LinkError::Forbidden(_) | LinkError::NoTun(_))) => {
            println!("not run: {e}");
            None
        }
        other => Some(other.unwrap()),
    }
}

/// A connection over the link: the inside's end and the server's.
fn connection(link: &Link) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let inside = link.connect(listener.local_addr().unwrap().port()).unwrap();
    let (server, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), IpAddr::V4(link.client_address()));
    for end in [&inside, &server] {
        end.set_nodelay(true).unwrap();
        end.set_read_timeout(Some(LIMIT)).unwrap();
    }
    (inside, server)
}

/// Bytes in which none that is missing, doubled or moved goes unseen.
fn data(length: usize) -> Vec<u8> {
    (0..length as u64).flat_map(|n| (n * n).to_le_bytes()).take(length).collect()
}

/// Sends it from one end to the other; gives how long that took.
fn transfer(mut from: &TcpStream, mut to: &TcpStream, data: &[u8]) -> Duration {
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(data).unwrap());
        let mut arrived = vec![0; data.len()];
        to.read_exact(&mut arrived).unwrap();
        assert!(arrived == data, "what arrived is not what was sent");
    });
    began.elapsed()
}

/// A datagram socket inside that sends to one of the present namespace.
fn datagrams(link: &Link) -> (UdpSocket, UdpSocket) {
    let server = UdpSocket::bind((link.server_address(), 0)).unwrap();
    let inside = link.enter(|| UdpSocket::bind((link.client_address(), 0))).unwrap().unwrap();
    inside.connect(server.local_addr().unwrap()).unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    (inside, server)
}

fn wait_for(what: &str, link: &Link, traffic: Traffic) {
    let expected = Counters { to_server: traffic, ..Counters::default() };
    until(what, LIMIT, || (link.counters() == expected).then_some(()));
}

/// Whether the present namespace has this device.
fn exists(device: &str) -> bool {
    let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    devices.lines().any(|line| line.trim_start().starts_with(&format!("{device}:")))
}

#[test]
fn a_transfer_takes_at_least_the_time_that_the_rate_gives_it() {
    let rate = 4_000_000;
    let Some(link) = link(&LinkSpec::new(Duration::ZERO, Some(rate), 0.0)) else { return };
    let (inside, server) = connection(&link);
    let data = data(200_000);
    let least = Duration::from_millis(200_000 * 8 * 1000 / rate);
    let down = transfer(&server, &inside, &data);
    let up = transfer(&inside, &server, &data);
    assert!(down >= least && up >= least, "{down:?} and {up:?} for what needs {least:?}");
}

#[test]
fn data_arrives_unharmed_though_packets_are_lost_and_the_queue_is_short() {
    let spec =
        LinkSpec { queue_bytes: 15_000, ..LinkSpec::new(Duration::from_millis(2), Some(50_000_000), 0.05) };
    let Some(link) = link(&spec) else { return };
    let (inside, server) = connection(&link);
    let data = data(1_000_000);
    transfer(&server, &inside, &data);
    transfer(&inside, &server, &data);
    let Counters { to_server, to_client } = link.counters();
    for way in [to_server, to_client] {
        assert!(way.lost_packets > 0 && way.bytes > data.len() as u64, "{way:?}");
    }
}

#[test]
fn a_round_trip_takes_at_least_the_delay_of_both_ways() {
    let round_trip = Duration::from_millis(50);
    let Some(link) = link(&LinkSpec::new(round_trip, None, 0.0)) else { return };
    let began = Instant::now();
    let (inside, server) = connection(&link);
    let connected = began.elapsed();
    let began = Instant::now();
    transfer(&inside, &server, b"ping");
    transfer(&server, &inside, b"pong");
    let answered = began.elapsed();
    assert!(connected >= round_trip && answered >= round_trip, "{connected:?} and {answered:?}");
}

#[test]
fn packets_are_counted_by_what_became_of_them() {
    let Some(plain) = link(&PLAIN) else { return };
    let (inside, server) = datagrams(&plain);
    for n in 0..10 {
        inside.send(&[n; 72]).unwrap();
        let mut packet = [0; 100];
        assert_eq!((server.recv(&mut packet).unwrap(), packet[0]), (72, n));
    }
    // IPv4's header has 20 bytes, UDP's 8.
    wait_for("ten arrived", &plain, Traffic { packets: 10, bytes: 1000, ..Traffic::default() });

    let lossy = link(&LinkSpec { loss: 1.0, ..PLAIN }).unwrap();
    let (inside, _server) = datagrams(&lossy);
    for n in 0..10 {
        inside.send(&[n; 72]).unwrap();
    }
    wait_for("ten are lost", &lossy, Traffic { lost_packets: 10, lost_bytes: 1000, ..Traffic::default() });

    // The first takes the line for longer than the test takes.
    let slow = link(&LinkSpec { rate_bits_per_s: Some(1), queue_bytes: 300, ..PLAIN }).unwrap();
    let (inside, _server) = datagrams(&slow);
    for n in 0..10 {
        inside.send(&[n; 72]).unwrap();
    }
    let most = Traffic { overflowed_packets: 7, overflowed_bytes: 700, ..Traffic::default() };
    wait_for("one is on the line, two wait", &slow, most);
}

#[test]
fn two_links_have_addresses_namespaces_and_packets_of_their_own() {
    let Some(one) = link(&PLAIN) else { return };
    let two = link(&PLAIN).unwrap();
    let addresses = [one.server_address(), one.client_address(), two.server_address(), two.client_address()];
    for (n, address) in addresses.iter().enumerate() {
        assert!(!addresses[..n].contains(address), "{addresses:?}");
    }
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let inside = |link: &Link| link.enter(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert!(inside(&one) != inside(&two) && inside(&one) != own && inside(&two) != own);
    let (near, far) = connection(&one);
    transfer(&near, &far, &data(100_000));
    assert!(one.counters().to_server.bytes > 100_000);
    assert_eq!(two.counters(), Counters::default());
    connection(&two);
}

#[test]
fn a_process_can_be_started_inside() {
    let Some(link) = link(&PLAIN) else { return };
    let mut command = Command::new("readlink");
    link.place(command.arg("/proc/self/ns/net"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let inside = link.enter(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), inside.to_str().unwrap());
}

#[test]
fn a_dropped_link_leaves_no_device() {
    let Some(link) = link(&LinkSpec::new(Duration::from_secs(1), None, 0.0)) else { return };
    let device = link.device().unwrap().to_owned();
    let (inside, server) = datagrams(&link);
    inside.send(b"under way when the link ends").unwrap();
    assert!(exists(&device));
    drop(link);
    until("the device is gone", LIMIT, || (!exists(&device)).then_some(()));
    drop((inside, server));
}

/// Tells the test's own program, started again, to make a link and keep it.
const OWNER: &str = "LUCARNE_LINK_OWNER";

#[test]
fn a_killed_owner_leaves_no_device() {
    if std::env::var_os(OWNER).is_some() {
        let link = Link::new(&PLAIN).unwrap();
        eprintln!("{}", link.device().unwrap());
        // Until it is killed, or its parent is gone.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    if link(&PLAIN).is_none() {
        return;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner.args(["--exact", "--nocapture", "a_killed_owner_leaves_no_device"]).env(OWNER, "1");
    let mut owner = owner.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut device = String::new();
    BufReader::new(owner.stderr.take().unwrap()).read_line(&mut device).unwrap();
    let device = device.trim_end();
    assert!(exists(device), "{device}");
    assert!(signal(owner.id().cast_signed(), Signal::KILL));
    owner.wait().unwrap();
    until("the device is gone", LIMIT, || (!exists(device)).then_some(()));
}

#[test]
fn who_may_not_make_a_link_is_told_what_it_needs() {
    let refused = thread::spawn(|| {
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
            .unwrap();
        Link::new(&PLAIN).unwrap_err()
    });
    match refused.join().unwrap() {
        e @ LinkError::Forbidden(_) => assert!(e.to_string().contains("need root"), "{e}"),
        LinkError::NoTun(e) => println!("not run: {e}"),
        e => panic!("{e}"),
    }
}

#[test]
fn every_preset_carries_data_and_the_loopback_is_no_link() {
    if link(&PLAIN).is_none() {
        return;
    }
    for preset in PRESETS {
        let link = preset.link().unwrap();
        let (inside, server) = connection(&link);
        transfer(&inside, &server, &data(5_000));
        transfer(&server, &inside, &data(5_000));
        assert_eq!(link.device().is_none(), preset.spec.is_none(), "{}", preset.name);
        assert_eq!(link.counters() == Counters::default(), preset.spec.is_none(), "{}", preset.name);
    }
}
