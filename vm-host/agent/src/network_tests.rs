//! The rules' text, and the rules themselves in network namespaces of the test's own.

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::time::Duration;

const UIDS: Range<u32> = 1_900_000_000..1_900_065_536;

fn script(resolv_conf: &str) -> String {
    Confinement::new(UIDS, resolv_conf).unwrap().script()
}

#[test]
fn loading_replaces_the_table_in_the_same_transaction() {
    let script = script("");
    assert!(
        script.starts_with("add table inet lucarne\ndelete table inet lucarne\ntable inet lucarne {"),
        "{script}"
    );
}

#[test]
fn only_the_range_is_led_to_the_refusals_and_dns_comes_before_them() {
    let script = script("nameserver 127.0.0.53\n");
    // A negated match would catch what has no user at all: resets and ICMP errors of the kernel.
    assert_eq!(script.matches("skuid").count(), 1);
    assert!(script.contains("meta skuid 1900000000-1900065535 goto desktops"), "{script}");
    let dns = script.find("ip daddr 127.0.0.53 udp dport 53 accept").unwrap();
    assert!(dns < script.find("goto refused").unwrap(), "{script}");
}

#[test]
fn dns_is_let_through_only_to_the_servers_that_are_configured() {
    let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver ::1\nnameserver 10.0.0.1 # first\n\
                nameserver fe80::1%eth0\nnameserver nonsense\nnameserver\nnameserver 10.0.0.1\nnameserver 0.0.0.0\n";
    assert_eq!(servers(text), ["::1".parse::<IpAddr>().unwrap(), "10.0.0.1".parse().unwrap()]);
    assert!(script(text).contains("ip6 daddr ::1 tcp dport 53 accept"));
    assert!(!script("").contains("dport"));
    let many: String = (1..9).map(|n| format!("nameserver 127.0.0.{n}\n")).collect();
    assert_eq!(servers(&many).len(), MAX_SERVERS);
}

#[test]
fn a_range_with_root_or_without_anyone_is_refused() {
    for wrong in [0..10, 5..5, Range { start: 9, end: 3 }] {
        assert!(matches!(Confinement::new(wrong, ""), Err(NetworkError::Range(..))));
    }
    assert!(Confinement::new(7..8, "").unwrap().script().contains("meta skuid 7 goto desktops"));
}

#[test]
fn the_administrator_is_told_what_of_this_machine_stays_reachable() {
    let said = |text| Confinement::new(UIDS, text).unwrap().to_string();
    assert!(said("nameserver 127.0.0.53\nnameserver 10.0.0.1\n").contains("nothing but DNS at 127.0.0.53 ("));
    assert!(!said("nameserver 10.0.0.1\n").contains("DNS"));
}

#[test]
fn a_listing_without_an_essential_rule_is_not_complete() {
    let good = "reject with icmpx admin-prohibited\noifname \"lo\" goto refused\nfib daddr type local goto refused\n\
                type filter hook output\nmeta skuid 5-9 goto desktops";
    assert!(is_complete(good, 5, 9));
    assert!(!is_complete(good, 5, 10));
    assert!(!is_complete(good, 5, 5));
    for missing in ["hook output", "oifname \"lo\"", "fib daddr", "reject"] {
        assert!(!is_complete(&good.replace(missing, ""), 5, 9), "{missing}");
    }
}

/// The variable that tells the test's own program, started again in a namespace, which part it plays.
const PART: &str = "LUCARNE_NETWORK_TEST";

/// The variable that tells that program where to connect to.
const TARGET: &str = "LUCARNE_NETWORK_TARGET";

const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const PORT: u16 = 4711;

/// Two fresh namespaces joined by a cable: "here" with the rules, "outside" with a server. The parts are this program
/// again, because a namespace and a user id belong to a process.
#[test]
fn a_confined_user_reaches_the_outside_and_nothing_of_this_machine() {
    match std::env::var(PART).as_deref() {
        Ok("here") => here(),
        Ok("outside") => serve_outside(),
        Ok("connect") => connect(),
        _ => match Command::new("unshare").args(["--net", "true"]).output() {
            Ok(output) if output.status.success() => {
                let mut inside = Command::new("unshare");
                inside.arg("--net").arg(std::env::current_exe().unwrap());
                assert!(part(inside, "here").status().unwrap().success());
            }
            other => println!("not run: network namespaces need root and unshare ({other:?})"),
        },
    }
}

fn part(mut command: Command, part: &str) -> Command {
    command
        .args(["--exact", "--nocapture"])
        .arg(format!("{}::a_confined_user_reaches_the_outside_and_nothing_of_this_machine", module_path()))
        .env(PART, part);
    command
}

/// The test's module as libtest names it: without the crate.
fn module_path() -> &'static str {
    module_path!().split_once("::").map_or("", |(_, rest)| rest)
}

/// Ends its process when it goes out of scope, whatever the test finds.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn here() {
    let mut outside = Command::new("unshare");
    outside.arg("--net").arg(std::env::current_exe().unwrap());
    let outside = Running(part(outside, "outside").stdin(Stdio::piped()).spawn().unwrap());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while std::fs::read_link(format!("/proc/{}/ns/net", outside.0.id())).unwrap() == own {
        assert!(std::time::Instant::now() < until, "the outside has no namespace of its own");
        std::thread::yield_now();
    }
    ip("link set lo up");
    ip(&format!("link add near type veth peer name far netns {}", outside.0.id()));
    ip(&format!("addr add {HERE}/24 dev near"));
    ip("link set near up");
    ip(&format!("route add {METADATA} via {OUTSIDE}"));
    // Also serves IPv4.
    let _listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();

    let confined = UIDS.start + 7;
    let unconfined = UIDS.end;
    // The outside takes a moment to come up; what may be reached must be reachable before anything is concluded.
    while !reaches(unconfined, OUTSIDE.into()) {
        assert!(std::time::Instant::now() < until, "the outside never answered");
    }
    let refused: [IpAddr; 4] =
        [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), HERE.into(), METADATA.into()];
    for target in refused.into_iter().chain([OUTSIDE.into()]) {
        assert!(reaches(confined, target), "{target} must be reachable without rules");
    }
    assert!(matches!(check(UIDS), Err(NetworkError::Lost(..))));

    println!("{}", confine(UIDS).unwrap());
    confine(UIDS).unwrap();
    check(UIDS).unwrap();
    assert!(matches!(check(1..2), Err(NetworkError::Lost(1, 1))));
    for target in refused {
        assert!(!reaches(confined, target), "{target} must be refused");
        assert!(reaches(unconfined, target), "{target} is for other users");
    }
    assert!(!reaches(UIDS.end - 1, HERE.into()), "the last of the range is confined too");
    assert!(reaches(confined, OUTSIDE.into()), "the outside stays open");

    release();
    release();
    assert!(matches!(check(UIDS), Err(NetworkError::Lost(..))));
    assert!(reaches(confined, HERE.into()), "released");
}

/// Listens on every address of its namespace, until its standard input ends.
fn serve_outside() {
    let far = || Command::new("ip").args(["link", "show", "far"]).output().is_ok_and(|o| o.status.success());
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while !far() {
        assert!(std::time::Instant::now() < until, "no cable came");
    }
    ip(&format!("addr add {OUTSIDE}/24 dev far"));
    ip(&format!("addr add {METADATA}/32 dev far"));
    ip("link set far up");
    let _listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

/// Whether a process of this user can connect.
fn reaches(uid: u32, address: IpAddr) -> bool {
    let mut command = Command::new("/proc/self/exe");
    command.uid(uid).gid(uid).env(TARGET, std::net::SocketAddr::new(address, PORT).to_string());
    part(command, "connect").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

fn connect() {
    let target = std::env::var(TARGET).unwrap().parse().unwrap();
    TcpStream::connect_timeout(&target, Duration::from_secs(10)).unwrap();
}
