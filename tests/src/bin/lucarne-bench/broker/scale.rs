//! A broker with as many hosts and desktops as a large deployment: the built `lucarne broker`, and `lucarne host run --sim` as the
//! hosts, on one machine. What hosts pretend is subtracted where a figure says so.

use super::{BrokerArgs, insert, rate};
use crate::processes;
use crate::report::{Report, Target};
use anyhow::{Context, Result, anyhow, bail, ensure};
use lucarne_control::UserId;
use lucarne_control::api::Role;
use lucarne_db::Db;
use lucarne_db::tables::{Login, LoginKind, User};
use lucarne_tests::http::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Users who connect while everything is there, and how many of them at once.
const VISITORS: usize = 500;
const AT_ONCE: usize = 8;

/// Programs that make desktops at once.
const MAKERS: usize = 32;

/// Pools that desktops are spread over.
const POOLS: usize = 16;

/// What a simulated host takes for a template, and for a picture, milliseconds (`lucarne_agent::sim`).
const TEMPLATE_MS: f64 = 500.0;
const PICTURE_MS: f64 = 90.0;

/// How long the broker is watched while nothing happens.
const STEADY: Duration = Duration::from_secs(30);

/// Anything that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(900);

/// Time between looks.
const LOOK: Duration = Duration::from_millis(20);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Broker {
    process: Running,
    address: SocketAddr,
    data: PathBuf,
}

fn program() -> PathBuf {
    lucarne_tests::server::program()
}

fn log(data: &Path, name: &str) -> Result<File> {
    Ok(File::options().create(true).append(true).open(data.join(name))?)
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        ensure!(begun.elapsed() < LIMIT, "not within {} s: {what}", LIMIT.as_secs());
        std::thread::sleep(LOOK);
    }
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

impl Broker {
    fn start(data: &Path, listen: SocketAddr) -> Result<Self> {
        let said = data.join("said");
        let mut command = Command::new(program());
        command.args([
            "broker",
            "--announce",
            "--vnc-listen",
            "none",
            "--listen",
            &listen.to_string(),
            "--data-dir",
        ]);
        command.arg(data).stdin(Stdio::null()).stdout(File::create(&said)?).stderr(log(data, "broker.log")?);
        let process = Running(command.spawn().context("a broker cannot be started")?);
        let announced: Value = until("the broker serves", || {
            serde_json::from_str(fs::read_to_string(&said).ok()?.lines().next()?).ok()
        })?;
        let address = announced["address"].as_str().context("the broker says no address")?.parse()?;
        Ok(Self { process, address, data: data.to_owned() })
    }

    fn admin(&self) -> Client {
        Client::local(self.data.join("run/admin.sock"))
    }

    fn visitor(&self, n: usize) -> Client {
        let cert = self.data.join("broker/tls/cert.pem");
        Client::remote(self.address, cert).with("Authorization", &format!("Bearer {}", token(n)))
    }

    fn online(&self) -> u64 {
        let health = self.admin().try_send("GET", "/api/v1/health", None);
        health
            .ok()
            .filter(|h| h.status == 200)
            .map_or(0, |h| h.json(200)["hosts_online"].as_u64().unwrap_or(0))
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

fn token(n: usize) -> String {
    format!("benchmark-visitor-{n:08}")
}

async fn people(file: &Path, users: usize) -> Result<()> {
    let db = Db::sqlite(file).await?;
    let ids: Vec<UserId> = (0..users + VISITORS).map(|_| UserId::generate()).collect();
    let user = |(n, id): (usize, &UserId)| User {
        id: *id,
        name: format!("user-{n}"),
        role: Role::User,
        password_hash: String::new(),
        max_desktops: None,
        created_at: 1,
        deleted_at: None,
    };
    insert(&db, ids.iter().enumerate().map(user).collect()).await?;
    let login = |(n, id): (usize, &UserId)| Login {
        hash: Sha256::digest(token(n)).to_vec(),
        user_id: *id,
        kind: LoginKind::Token,
        permissions: None,
        created_at: 1,
        expires_at: i64::MAX,
    };
    insert(&db, ids[users..].iter().enumerate().map(login).collect()).await?;
    db.close().await;
    Ok(())
}

/// Makes a pool; milliseconds until all hosts have told, for the last of them, that it is ready there.
fn pool(broker: &Broker, n: usize, hosts: usize) -> Result<f64> {
    let machine =
        json!({ "memory_mib": 1024, "vcpus": 1 + n % 8, "width": 1024 + 8 * (n / 8), "height": 768 });
    let body = json!({ "name": format!("pool-{n}"), "image": "simulated", "machine": machine,
        "max_desktops": 100_000, "entitled_groups": ["everyone"] });
    let begun = Instant::now();
    let answer = broker.admin().send("POST", "/api/v1/pools", Some(&body));
    ensure!(answer.status == 201, "a pool is refused: {}", answer.body);
    until("all hosts have the pool's template", || {
        let pool = broker.admin().get(&format!("/api/v1/pools/pool-{n}"));
        let ready = pool["templates"].as_array()?.iter().filter(|t| t["state"] == "ready").count();
        (ready == hosts).then_some(())
    })?;
    Ok(ms(begun))
}

/// Makes desktops, many at once: a second.
fn make(broker: &Broker, desktops: usize) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let admin = broker.admin();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= desktops {
                    return Ok(());
                }
                let body = json!({ "pool": format!("pool-{}", n % POOLS), "user": format!("user-{n}") });
                let answer = admin.try_send("POST", "/api/v1/desktops", Some(&body))?;
                ensure!(answer.status == 201, "a desktop is refused: {}", answer.body);
            }
        };
        let makers: Vec<_> = (0..MAKERS).map(|_| scope.spawn(work)).collect();
        makers.into_iter().try_for_each(|maker| maker.join().map_err(|_| anyhow!("a maker failed"))?)
    })?;
    Ok(desktops as f64 / begun.elapsed().as_secs_f64())
}

/// How many desktops are ready, as the API lists them.
fn ready(broker: &Broker) -> Result<usize> {
    let (mut ready, mut after) = (0, String::new());
    loop {
        let page = broker.admin().get(&format!("/api/v1/desktops?limit=200{after}"));
        let items = page["items"].as_array().context("a page has items")?;
        ready += items.iter().filter(|d| d["phase"] == "ready").count();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(ready),
        }
    }
}

/// Visitors connect, some at once: the times of all, milliseconds.
fn visit(broker: &Broker) -> Result<Vec<f64>> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<Vec<f64>> {
            let mut took = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= VISITORS {
                    return Ok(took);
                }
                let body = json!({ "pool": format!("pool-{}", n % POOLS) });
                let begun = Instant::now();
                let answer = broker.visitor(n).try_send("POST", "/api/v1/sessions", Some(&body))?;
                ensure!(answer.status == 201, "a visitor is refused: {} {}", answer.status, answer.body);
                took.push(ms(begun));
            }
        };
        let visitors: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for visitor in visitors {
            all.extend(visitor.join().map_err(|_| anyhow!("a visitor failed"))??);
        }
        Ok(all)
    })
}

fn rss_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn cpu_s(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    processes::seconds_of(&stat).context("the broker's processor time cannot be read")
}

/// Says on standard error how far it is.
fn say(what: &str) {
    eprintln!("  {what}");
}

/// Runs it; the figures are added as they are found, so that what broke last is all that is missing.
pub async fn measure(report: &mut Report, args: &BrokerArgs) -> Result<()> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let data = folder.path().to_owned();
    for part in ["broker", "run"] {
        fs::create_dir(data.join(part))?;
    }
    people(&data.join("broker/broker.db"), args.desktops as usize).await?;
    let (hosts, desktops) = (args.hosts as usize, args.desktops as usize);
    let (mut part, returned) = tokio::task::spawn_blocking(move || {
        let mut part = Report::default();
        let ran = run(&mut part, &data, hosts, desktops);
        (part, ran)
    })
    .await?;
    report.figures.append(&mut part.figures);
    report.notes.append(&mut part.notes);
    returned
}

fn run(report: &mut Report, data: &Path, hosts: usize, desktops: usize) -> Result<()> {
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let mut broker = Broker::start(data, any)?;
    let mut sim = Command::new(program());
    sim.args(["host", "run", "--sim", &hosts.to_string(), "--data-dir"]).arg(data).stdin(Stdio::null());
    sim.stdout(log(data, "sim.log")?).stderr(log(data, "sim.log")?);
    let begun = Instant::now();
    let sim = Running(sim.spawn().context("simulated hosts cannot be started")?);
    until("all hosts are linked", || (broker.online() == hosts as u64).then_some(()))?;
    report.add("link_all_hosts_s", begun.elapsed().as_secs_f64(), None);
    report.add("broker_rss_hosts_mib", rss_mib(broker.pid())?, None);
    say(&format!("{hosts} hosts are linked"));
    for n in 0..POOLS {
        pool(&broker, n, hosts)?;
    }
    say("pools are made");
    report.add("desktops_per_s_api", make(&broker, desktops)?, None);
    say(&format!("{desktops} desktops are on record"));
    let begun = Instant::now();
    while ready(&broker)? < desktops {
        ensure!(begun.elapsed() < LIMIT, "of {desktops} desktops, {} are ready", ready(&broker)?);
    }
    report.add("last_ready_after_s", begun.elapsed().as_secs_f64(), None);
    say("all are ready");

    let before = cpu_s(broker.pid())?;
    std::thread::sleep(STEADY);
    let used = cpu_s(broker.pid())? - before;
    report.add("steady_cpu_percent", 100.0 * used / STEADY.as_secs_f64(), None);
    report.add("broker_rss_mib", rss_mib(broker.pid())?, None);

    let begun = Instant::now();
    let visits = visit(&broker)?;
    let visits = rate(visits.iter().map(|took| took - PICTURE_MS).collect(), begun.elapsed().as_secs_f64());
    report.add("connect_p50_ms", visits.p50_ms, None);
    report.add("connect_p99_ms", visits.p99_ms, Some(Target::AtMost(100.0)));
    say("visitors have connected");
    report.add("reconcile_full_scan_ms", pool(&broker, POOLS, hosts)? - TEMPLATE_MS, None);

    broker.process.0.kill()?;
    broker.process.0.wait()?;
    let begun = Instant::now();
    broker = Broker::start(data, broker.address)?;
    report.add("broker_serves_again_s", begun.elapsed().as_secs_f64(), None);
    until("all hosts are linked again", || (broker.online() == hosts as u64).then_some(()))?;
    let body = json!({ "pool": "pool-0" });
    let answer = broker.visitor(0).send("POST", "/api/v1/sessions", Some(&body));
    ensure!(answer.status == 201, "a visitor is refused: {}", answer.body);
    report.add("recover_after_broker_restart_s", begun.elapsed().as_secs_f64(), Some(Target::AtMost(10.0)));
    if ready(&broker)? < desktops {
        bail!("after the restart, only {} of {desktops} desktops are ready", ready(&broker)?);
    }
    drop(sim);
    report.notes.push(format!(
        "{hosts} simulated hosts with {desktops} desktops on one broker with SQLite, all on this machine; connect and reconcile \
         without the {PICTURE_MS} ms and {TEMPLATE_MS} ms that simulated hosts take for a picture and a template"
    ));
    Ok(())
}
