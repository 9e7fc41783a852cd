//! What Prometheus sees of a server with a desktop in use, checked by its own tool; and the steps of a real launch.

#![allow(clippy::unwrap_used)]

use lucarne_control::api::LaunchTimes;
use lucarne_control::desktop::LaunchStep;
use lucarne_tests::poll::{LIMIT, until};
use lucarne_tests::server::{Server, lucarne, root};
use lucarne_tests::viewer::Vnc;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// As `ops/test` provides it.
fn promtool() -> Command {
    let own = root().join("target/tools/promtool");
    Command::new(if own.exists() { own } else { PathBuf::from("promtool") })
}

fn passes(mut command: Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is missing: use ops/test, or install Prometheus");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: monitoring\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn prometheus_takes_what_broker_and_host_tell_while_a_desktop_is_in_use() {
    let server = Server::start();
    let connection = server.connect(&server.user("anna"));
    let mut viewer = Vnc::connect(&server, "anna").unwrap();
    viewer.pump("a picture", |_, updates| updates > 0).unwrap();
    // A picture is sent before the guest has its identity.
    let host = until("the desktop is ready", LIMIT, || {
        let told = get(server.host_metrics(), "/metrics");
        told.contains("lucarne_desktops{phase=\"ready\"} 1\n").then_some(told)
    });
    let broker = get(server.metrics, "/metrics");
    for told in [&broker, &host] {
        let mut check = promtool();
        check.args(["check", "metrics"]);
        assert_eq!(passes(check, told), "", "promtool has something to say of {told}");
        for shared in
            ["lucarne_build_info{version=", "process_resident_memory_bytes ", "process_cpu_seconds_total "]
        {
            assert!(told.lines().any(|line| line.starts_with(shared)), "no {shared} in {told}");
        }
    }
    for line in [r#"lucarne_streams{kind="vnc"} 1"#, r#"lucarne_pool_desktops{pool="debian"} 1"#] {
        assert!(broker.lines().any(|l| l == line), "no {line} in {broker}");
    }
    for line in ["lucarne_broker_linked 1", r#"lucarne_desktop_start_seconds_count{step="picture"} 1"#] {
        assert!(host.lines().any(|l| l == line), "no {line} in {host}");
    }
    assert!(get(server.metrics, "/readyz").contains("[+] database"));
    assert!(get(server.host_metrics(), "/readyz").contains("[+] broker"));

    let id = connection["desktop"]["id"].as_str().unwrap();
    let shown = |format: &str| {
        let output = lucarne(&["desktop", "launch", id, "--output", format]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let times = until("the first picture is on record", LIMIT, || {
        let times: LaunchTimes = serde_json::from_str(&shown("json")).unwrap();
        times.steps.iter().any(|span| span.step == LaunchStep::FirstFrame).then_some(times)
    });
    let steps: Vec<LaunchStep> = times.steps.iter().map(|span| span.step).collect();
    assert_eq!(
        steps,
        [
            LaunchStep::Queue,
            LaunchStep::Placement,
            LaunchStep::Order,
            LaunchStep::Clone,
            LaunchStep::Picture,
            LaunchStep::Identity,
            LaunchStep::FirstFrame,
        ]
    );
    let clone = &times.steps[3];
    assert!(clone.end_ms > clone.start_ms, "a clone takes time: {times:?}");
    let table = shown("table");
    assert!(table.lines().count() == 9 && table.contains("cloning the template"), "{table}");
    eprintln!("{table}");
    drop(viewer);
    server.stop();
}

#[test]
fn the_alert_rules_are_right_and_say_what_they_should() {
    let rules = |words: &[&str]| {
        let mut command = promtool();
        command.current_dir(root().join("ops/dashboards")).args(words);
        command
    };
    let said = passes(rules(&["check", "rules", "alerts.yml"]), "");
    assert!(said.contains("SUCCESS: 11 rules found"), "{said}");
    passes(rules(&["test", "rules", "alerts_test.yml"]), "");
}

/// The dashboard and the rules ask only for what there is.
#[test]
fn each_metric_that_dashboard_and_rules_ask_for_is_told_by_some_process() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let told = ["broker/src/metrics.rs", "vm-host/agent/src/metrics.rs", "protocol/metrics/src/lib.rs"];
    let told: String = told.map(read).concat();
    let asked = read("ops/dashboards/lucarne.json") + &read("ops/dashboards/alerts.yml");
    let mut found = 0;
    for name in
        asked.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("lucarne_"))
    {
        let name =
            ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(told.contains(&format!("\"{name}\"")), "nobody tells {name}");
        found += 1;
    }
    assert!(found > 30, "{found}");
}
