//! The invariants of ARCHITECTURE.md about who knows what, as far as dependencies and sources show them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What a crate needs to run, without what only its tests and its build need.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside =
                line == "[dependencies]" || line.starts_with("[target.") && line.ends_with(".dependencies]");
        } else if inside && !line.starts_with('#') {
            let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
            if let Some(end) = end.filter(|end| *end > 0) {
                names.insert(line[..end].to_owned());
            }
        }
    }
    names
}

fn of(folder: &str) -> BTreeSet<String> {
    let path = root().join(folder).join("Cargo.toml");
    let found =
        dependencies(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    assert!(!found.is_empty(), "{folder} has no dependencies, which it should");
    found
}

/// The folders of all crates but the tests'.
fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    // What the simulation puts in is nothing in what people run, and needs nothing.
    let apart = ["tests", "tests/mutants"];
    let crates: Vec<_> =
        members.split('"').skip(1).step_by(2).filter(|m| !apart.contains(m)).map(str::to_owned).collect();
    assert!(crates.len() > 5, "{crates:?}");
    crates
}

#[track_caller]
fn only(owner: &str, dependency: &str) {
    for folder in crates() {
        assert_eq!(of(&folder).contains(dependency), folder == owner, "{dependency} in {folder}");
    }
}

/// Rust sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

const IO: [&str; 8] = ["tokio", "tokio-util", "tokio-tungstenite", "hyper", "axum", "rustix", "libc", "zbus"];

#[test]
fn protocols_do_no_io_and_know_no_runtime() {
    for folder in ["protocol/rfb", "protocol/control", "protocol/trust"] {
        let needs = of(folder);
        assert!(IO.iter().all(|io| !needs.contains(*io)), "{folder} needs {needs:?}");
    }
}

#[test]
fn what_is_decided_knows_nothing_of_what_carries_it() {
    // Both run in the simulation, on virtual time.
    for folder in ["broker/core", "vm-host/ledger"] {
        let needs = of(folder);
        let carriers = IO.iter().filter(|io| **io != "tokio").chain(&["rustls", "openssl", "rusqlite"]);
        assert_eq!(carriers.filter(|c| needs.contains(**c)).count(), 0, "{folder} needs {needs:?}");
        let files = sources(&root().join(folder).join("src"));
        for file in files.into_iter().filter(|file| !file.to_string_lossy().ends_with("tests.rs")) {
            let text = fs::read_to_string(&file).unwrap();
            for word in ["tokio::time", "tokio::net", "tokio::spawn", "SystemTime::now", "Instant::now"] {
                assert!(!text.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn faults_are_put_in_by_the_simulation_alone() {
    for folder in crates() {
        let manifest = fs::read_to_string(root().join(&folder).join("Cargo.toml")).unwrap();
        let named = manifest.lines().filter(|line| line.starts_with("lucarne-mutants"));
        assert!(named.clone().all(|line| line == "lucarne-mutants.workspace = true"), "{folder}");
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("lucarne-mutants = { path = \"tests/mutants\" }"));
}

#[test]
fn the_display_path_knows_no_hypervisor_and_no_socket() {
    let needs = of("vm-host/display");
    let own: Vec<_> = needs.iter().filter(|n| n.starts_with("lucarne-")).collect();
    assert_eq!(own, ["lucarne-rfb"]);
    assert!(IO.iter().all(|io| !needs.contains(*io)), "{needs:?}");
}

#[test]
fn only_the_qemu_driver_speaks_dbus_and_only_the_probe_kvm() {
    only("vm-host/qemu", "zbus");
    only("vm-host/vmm", "kvm-ioctls");
    only("vm-host/vmm", "kvm-bindings");
}

#[test]
fn only_the_brokers_database_speaks_sql() {
    only("broker/db", "rusqlite");
    // Besides the server that tests start.
    let speaking = crates().into_iter().filter(|c| of(c).contains("postgres"));
    assert_eq!(speaking.collect::<Vec<_>>(), ["broker/db", "tests/postgres"]);
    let speaks = |file: &Path| fs::read_to_string(file).unwrap().contains("rusqlite");
    assert!(
        sources(&root().join("broker/db/src")).iter().any(|file| speaks(file)),
        "the database speaks SQL"
    );
}

#[test]
fn the_broker_knows_no_hypervisor_and_the_host_no_broker() {
    let broker = of("broker");
    let own: Vec<_> = broker.iter().filter(|n| n.starts_with("lucarne-")).collect();
    assert_eq!(
        own,
        ["lucarne-control", "lucarne-core", "lucarne-db", "lucarne-metrics", "lucarne-rfb", "lucarne-trust"]
    );
    for folder in crates().iter().filter(|c| c.starts_with("vm-host/")) {
        assert!(!of(folder).contains("lucarne-broker"), "{folder}");
    }
}

#[test]
fn the_plan_reads_no_clock_no_database_and_no_randomness() {
    let plan = fs::read_to_string(root().join("broker/core/src/plan.rs")).unwrap();
    for line in plan.lines().filter(|l| !l.trim_start().starts_with("//")) {
        for word in
            ["Instant", "SystemTime", "getrandom", "generate(", "Tx", "Db", "async ", ".await", "static "]
        {
            assert!(!line.contains(word), "{line}");
        }
    }
}

#[test]
fn what_only_tests_need_is_no_dependency() {
    let manifest = "[dependencies]\na.workspace = true\n# b = 1\nc-d = { version = \"1\" }\n[dev-dependencies]\ne = \"1\"\n";
    assert_eq!(dependencies(manifest).into_iter().collect::<Vec<_>>(), ["a", "c-d"]);
}
