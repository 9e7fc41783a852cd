//! Suite `life`: what suspending and resuming a desktop, and a snapshot of it, take, by how much its user has changed of its memory.
//!
//! ```text
//! PUT power suspended ──► phase suspended, on the disk      PUT power on ──► phase ready
//!          0                     suspend                          0            resume
//!
//! POST snapshots ──► state ready, the guest runs on; for how long it stood still, its host says
//! ```

use crate::LifeArgs;
use crate::http::Client;
use crate::pool;
use crate::report::{Report, percentile};
use crate::server::Server;
use anyhow::{Context, Result, bail, ensure};
use lucarne_control::agent::SnapshotState;
use lucarne_control::api::{Desktop, Host, NewDesktop, NewPower, NewUser, Page, Pool, Power, User};
use lucarne_control::desktop::Phase;
use lucarne_control::snapshot::{NewSnapshot, Snapshot};
use lucarne_tests::guest::Guest;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// The pool of desktops that persist.
const POOL: &str = "bench-personal";

/// How often a desktop's phase is asked for. Shorter would take processor time away from what is measured.
const PHASE_PERIOD: Duration = Duration::from_millis(5);

/// How long one step may take, before the run is given up.
const LIMIT: Duration = Duration::from_secs(300);

/// What one suspension and the resumption after it took.
struct Sample {
    suspend_ms: f64,
    resume_ms: f64,
    kept_mib: f64,
}

/// Runs the suite.
pub async fn measure(server: &mut Server, args: &LifeArgs) -> Result<Report> {
    server.wait_started().await?;
    let mut admin = server.admin().await?;
    let hosts: Page<Host> = admin.get("/api/v1/hosts").await?;
    let host = hosts.items.into_iter().next().context("the server has no host")?;
    pool::make(&mut admin, 1).await?;
    let mut new: serde_json::Value = admin.get(&format!("/api/v1/pools/{}", pool::NAME)).await?;
    new = json!({ "name": POOL, "image": new["image"], "machine": new["machine"], "kind": "personal",
        "entitled_groups": ["everyone"] });
    let (_, _): (_, Pool) = admin.post("/api/v1/pools", &new).await?;
    let user = NewUser {
        name: "bench-owner".into(),
        password: "correct horse battery".into(),
        role: None,
        groups: Vec::new(),
    };
    let (_, _): (_, User) = admin.post("/api/v1/users", &user).await?;
    let wish = NewDesktop { pool: POOL.into(), user: user.name.clone() };
    let (_, desktop): (_, Desktop) = admin.post("/api/v1/desktops", &wish).await?;
    let id = desktop.id.to_string();
    wait(&mut admin, &id, Phase::Ready).await?;
    let dir = server.desktop_dir(&id);
    let guest = Guest::of(&dir);

    let mut idle = Vec::new();
    let mut touched = Vec::new();
    // What a guest has freed is still not as its template has it: first all that it has not touched.
    for _ in 0..args.rounds {
        idle.push(round(&mut admin, &id, &dir).await?);
    }
    for n in 0..args.rounds {
        let fill = format!("dd if=/dev/urandom of=/dev/shm/touched bs=1M count={} 2>&1", args.touched_mib);
        tokio::task::block_in_place(|| guest.must(&fill));
        touched.push(round(&mut admin, &id, &dir).await?);
        let (less, more) = (&idle[n as usize], &touched[n as usize]);
        eprintln!(
            "suspend {:.0} and {:.0} ms, resume {:.0} and {:.0} ms, {:.0} and {:.0} MiB",
            less.suspend_ms, more.suspend_ms, less.resume_ms, more.resume_ms, less.kept_mib, more.kept_mib
        );
    }
    let mut snapshots = Vec::new();
    for _ in 0..args.rounds {
        snapshots.push(snapshot(&mut admin, &id).await?);
    }
    admin.delete(&format!("/api/v1/desktops/{id}?wait=true")).await?;

    let middle = |samples: &[Sample], get: fn(&Sample) -> f64| {
        let values: Vec<f64> = samples.iter().map(get).collect();
        percentile(&values, 50).context("nothing was measured")
    };
    let suspend = (middle(&idle, |s| s.suspend_ms)?, middle(&touched, |s| s.suspend_ms)?);
    let kept = (middle(&idle, |s| s.kept_mib)?, middle(&touched, |s| s.kept_mib)?);
    ensure!(kept.1 > kept.0, "what was touched was not kept");
    let mut report = Report { suite: "life", ..Report::default() };
    report.add("suspend_ms_idle", suspend.0, None);
    report.add("suspend_ms_touched", suspend.1, None);
    report.add("suspend_ms_per_gib_touched", suspend.1 * 1024.0 / f64::from(args.touched_mib), None);
    report.add("suspended_mib_idle", kept.0, None);
    report.add("suspended_mib_touched", kept.1, None);
    report.add("resume_ms_idle", middle(&idle, |s| s.resume_ms)?, None);
    report.add("resume_ms", middle(&touched, |s| s.resume_ms)?, None);
    let of = |get: fn(&Taken) -> f64| {
        let values: Vec<f64> = snapshots.iter().map(get).collect();
        percentile(&values, 50).context("nothing was measured")
    };
    report.add("snapshot_pause_ms", of(|s| s.pause_ms)?, None);
    report.add("snapshot_total_ms", of(|s| s.total_ms)?, None);
    report.add("snapshot_mib", of(|s| s.mib)?, None);
    report.setting = [
        ("rounds", json!(args.rounds)),
        ("touched_mib", json!(args.touched_mib)),
        ("accelerator", json!(host.facts.accel)),
        ("driver", json!(format!("{} {}", host.facts.driver, host.facts.driver_version))),
        ("processors", json!(host.facts.cpus)),
        ("memory_mib", json!(host.facts.memory_mib)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect();
    report.notes = vec![
        format!(
            "medians of {} rounds, each without and with {} MiB of random numbers in the guest's memory, from the request to the phase;",
            args.rounds, args.touched_mib
        ),
        "suspend_ms_per_gib_touched is all of the time over what was touched, what does not depend on it included;".into(),
        "snapshots are of that memory, while the guest runs.".into(),
    ];
    Ok(report)
}

/// What one snapshot with the guest's memory took.
struct Taken {
    /// For how long the guest stood still.
    pause_ms: f64,
    /// From the request until it was there.
    total_ms: f64,
    mib: f64,
}

/// Takes one of a guest that runs, and deletes it.
async fn snapshot(admin: &mut Client, id: &str) -> Result<Taken> {
    let began = Instant::now();
    let (_, mut taken): (_, Snapshot) =
        admin.post(&format!("/api/v1/desktops/{id}/snapshots"), &NewSnapshot::default()).await?;
    let path = format!("/api/v1/snapshots/{}", taken.id);
    while taken.state == SnapshotState::Taking && began.elapsed() < LIMIT {
        tokio::time::sleep(PHASE_PERIOD).await;
        taken = admin.get(&path).await?;
    }
    ensure!(taken.state == SnapshotState::Ready, "a snapshot was not taken: {taken:?}");
    let total_ms = began.elapsed().as_secs_f64() * 1000.0;
    admin.delete(&path).await?;
    let all = format!("/api/v1/desktops/{id}/snapshots");
    while !admin.get::<Page<Snapshot>>(&all).await?.items.is_empty() {
        ensure!(began.elapsed() < LIMIT, "a snapshot was not deleted");
        tokio::time::sleep(PHASE_PERIOD).await;
    }
    Ok(Taken { pause_ms: taken.pause_ms as f64, total_ms, mib: taken.bytes as f64 / f64::from(1 << 20) })
}

/// Suspends it and takes it up again.
async fn round(admin: &mut Client, id: &str, dir: &Path) -> Result<Sample> {
    let power = format!("/api/v1/desktops/{id}/power");
    let began = Instant::now();
    admin.put(&power, &NewPower { state: Power::Suspended }).await?;
    wait(admin, id, Phase::Suspended).await?;
    let suspend_ms = began.elapsed().as_secs_f64() * 1000.0;
    let kept = dir.join("suspended");
    let kept = std::fs::metadata(&kept).with_context(|| format!("{} is not there", kept.display()))?.len();
    let began = Instant::now();
    admin.put(&power, &NewPower { state: Power::On }).await?;
    wait(admin, id, Phase::Ready).await?;
    let resume_ms = began.elapsed().as_secs_f64() * 1000.0;
    Ok(Sample { suspend_ms, resume_ms, kept_mib: kept as f64 / f64::from(1 << 20) })
}

async fn wait(admin: &mut Client, id: &str, phase: Phase) -> Result<()> {
    let began = Instant::now();
    loop {
        let desktop: Desktop = admin.get(&format!("/api/v1/desktops/{id}")).await?;
        if desktop.phase == phase {
            return Ok(());
        }
        if desktop.phase == Phase::Failed || began.elapsed() > LIMIT {
            bail!("the desktop is {} and not {}: {}", desktop.phase.as_str(), phase.as_str(), desktop.detail);
        }
        tokio::time::sleep(PHASE_PERIOD).await;
    }
}
