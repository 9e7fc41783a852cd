//! Suite `clone`: how long a user waits for a fresh desktop when nothing idles in wait for them, and what it takes of the
//! machine's memory.
//!
//! ```text
//! click ──► POST /sessions ──► 201 ──► WebSocket, RFB ──► every pixel drawn ──► phase ready, a key is sent
//!   0                 │                                          │                        │
//!                     └ plus (running − picture) = clone_ready   first_frame              usable
//! ```

use crate::CloneArgs;
use crate::http::Client;
use crate::pool;
use crate::processes::{self, Private};
use crate::report::{Report, Target, percentile};
use crate::server::Server;
use crate::viewer::Viewer;
use anyhow::{Context, Result, bail};
use lucarne_control::api::{Connection, Credentials, Desktop, Host, NewSession, NewUser, Page, Token, User};
use lucarne_control::desktop::Phase;
use lucarne_control::viewer::ViewerWish;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long one fork may take until its user can type, before the run is given up.
const CLONE_LIMIT: Duration = Duration::from_secs(60);

/// How often a desktop's phase is asked for. Shorter would take processor time away from what is measured.
const PHASE_PERIOD: Duration = Duration::from_millis(5);

/// Memory is read this long after the last fork at the soonest.
const SETTLE: Duration = Duration::from_secs(5);

/// Share of one processor below which a desktop is at rest. An idle TCG guest takes 0.05 or so; with less than that a run
/// would always wait to its limit.
const IDLE: f64 = 0.1;

/// The longest wait for desktops to be quiet.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// What one fork took, milliseconds from the click.
struct Sample {
    clone_ready: f64,
    first_frame: f64,
    usable: f64,
}

/// A desktop that is held.
struct Held {
    session: String,
    dir: PathBuf,
    onlooker: tokio::task::JoinHandle<()>,
}

/// Runs the suite.
pub async fn measure(server: &mut Server, args: &CloneArgs) -> Result<Report> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    server.wait_started().await?;
    let mut admin = server.admin().await?;
    let hosts: Page<Host> = admin.get("/api/v1/hosts").await?;
    let host = hosts.items.into_iter().next().context("the server has no host")?;
    let cold_boot_s = pool::make(&mut admin, args.clones).await?;
    eprintln!("Cold boot: {cold_boot_s:.1} s");
    let tokens = make_users(server, &mut admin, args.clones).await?;

    let held_count = args.held.min(args.clones) as usize;
    let alone = tokens.len() - held_count;
    let own = std::path::absolute(&args.server.data_dir)?;
    let others_before = processes::other_machines(&own);
    let mut samples = Vec::new();
    for token in &tokens[..alone] {
        let (sample, held) = fork(server, &mut admin, token).await?;
        say(samples.len(), &sample);
        samples.push(sample);
        log_off(&mut admin, held).await?;
    }
    let available_before = processes::memory_available()?;
    let mut held = Vec::new();
    for token in &tokens[alone..] {
        let (sample, desktop) = fork(server, &mut admin, token).await?;
        say(samples.len(), &sample);
        samples.push(sample);
        held.push(desktop);
    }
    let others = processes::other_machines(&own).max(others_before);
    let quiet = settle(&held).await?;
    let available_after = processes::memory_available()?;
    let mut private = Private::default();
    for desktop in &held {
        private += Private::of(&processes::of_desktop(&desktop.dir)?)?;
    }
    // Desktops take their time to come to rest on a busy machine; the server has closed the idle connection by then.
    let mut admin = server.admin().await?;
    for desktop in held {
        log_off(&mut admin, desktop).await?;
    }

    let mib = |bytes: f64| bytes / held_count as f64 / f64::from(1 << 20);
    let by_available = mib(available_before as f64 - available_after as f64);
    let (clean, dirty) = (mib(private.clean as f64), mib(private.dirty as f64));
    let mut report = figures(cold_boot_s, &samples, clean + dirty)?;
    report.setting = [
        ("clones", json!(samples.len())),
        ("held_at_once", json!(held_count)),
        ("accelerator", json!(host.facts.accel)),
        ("driver", json!(format!("{} {}", host.facts.driver, host.facts.driver_version))),
        ("processors", json!(host.facts.cpus)),
        ("memory_mib", json!(host.facts.memory_mib)),
        ("other_virtual_machines", json!(others)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect();
    report.notes = vec![
        format!(
            "{} forks, {alone} one by one and {held_count} held at once; {} on {} processors; load before: {}",
            samples.len(),
            host.facts.accel,
            host.facts.cpus,
            load.trim()
        ),
        "clone_ready: click to the guest's first instruction, an upper bound; first_frame: every pixel decoded;".into(),
        "usable: identity done, input let through, a key sent. speedup: cold_boot / clone_ready_p50.".into(),
        format!(
            "memory: private pages of QEMU and desktop process, {dirty:.1} MiB written and {clean:.1} as in their files, {quiet};"
        ),
        format!("MemAvailable fell by {by_available:.1} MiB a clone."),
    ];
    if others > 0 {
        report.notes.push(format!("{others} other virtual machines ran on this host and took part of it."));
    }
    Ok(report)
}

fn figures(cold_boot_s: f64, samples: &[Sample], memory_mib: f64) -> Result<Report> {
    let of = |get: fn(&Sample) -> f64, percent| {
        let values: Vec<f64> = samples.iter().map(get).collect();
        percentile(&values, percent).context("nothing was measured")
    };
    let ready = of(|s| s.clone_ready, 50)?;
    let mut report = Report { suite: "clone", ..Report::default() };
    report.add("cold_boot_s", cold_boot_s, None);
    report.add("clone_ready_ms_p50", ready, None);
    report.add("clone_ready_ms_p95", of(|s| s.clone_ready, 95)?, None);
    report.add("connect_first_frame_ms_p50", of(|s| s.first_frame, 50)?, Some(Target::AtMost(500.0)));
    report.add("connect_first_frame_ms_p95", of(|s| s.first_frame, 95)?, None);
    report.add("connect_usable_ms_p50", of(|s| s.usable, 50)?, Some(Target::AtMost(1500.0)));
    report.add("connect_usable_ms_p95", of(|s| s.usable, 95)?, None);
    report.add("speedup_vs_cold_boot", cold_boot_s * 1000.0 / ready, Some(Target::AtLeast(50.0)));
    report.add("memory_per_clone_mib", memory_mib, Some(Target::AtMost(100.0)));
    Ok(report)
}

fn say(number: usize, s: &Sample) {
    eprintln!(
        "Fork {:>2}: running {:.0} ms, first frame {:.0} ms, usable {:.0} ms",
        number + 1,
        s.clone_ready,
        s.first_frame,
        s.usable
    );
}

/// Makes as many users and signs each in: a token each.
async fn make_users(server: &Server, admin: &mut Client, count: u32) -> Result<Vec<String>> {
    let mut random = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut tokens = Vec::new();
    for number in 1..=count {
        let name = format!("bench-{number}");
        let new = NewUser { name: name.clone(), password: password.clone(), role: None, groups: Vec::new() };
        let (_, _): (_, User) = admin.post("/api/v1/users", &new).await?;
        let mut client = Client::remote(server.tls()?, None).await?;
        let credentials = Credentials { name, password: password.clone() };
        let (_, token): (_, Token) = client.post("/api/v1/auth/token", &credentials).await?;
        tokens.push(token.token);
    }
    Ok(tokens)
}

async fn fork(server: &Server, admin: &mut Client, token: &str) -> Result<(Sample, Held)> {
    let forked = tokio::time::timeout(CLONE_LIMIT, timed_fork(server, admin, token)).await;
    forked.with_context(|| format!("a desktop was not usable within {} s", CLONE_LIMIT.as_secs()))?
}

async fn timed_fork(server: &Server, admin: &mut Client, token: &str) -> Result<(Sample, Held)> {
    // A browser that shows the portal has its connection open.
    let mut client = Client::remote(server.tls()?, Some(token.to_owned())).await?;
    let wish = NewSession { pool: pool::NAME.into(), wait_ms: None, viewers: ViewerWish::TakeOver };
    let click = Instant::now();
    let ms = || click.elapsed().as_secs_f64() * 1000.0;
    let (status, connection): (_, Connection) = client.post("/api/v1/sessions", &wish).await?;
    let answered = ms();
    let ticket = connection.ticket.as_deref();
    let ticket = ticket.with_context(|| format!("status {status}, no picture: {}", connection.detail))?;
    let mut viewer = Viewer::open(server.tls()?, &connection.websocket, ticket).await?;
    viewer.first_frame().await?;
    let first_frame = ms();
    let desktop = wait_ready(admin, &connection.desktop.id.to_string()).await?;
    viewer.key().await?;
    let usable = ms();
    let timings = desktop.timings;
    let (picture, running) = (timings.picture_ms, timings.running_ms);
    // The answer comes once there is a picture. The template's last picture is there before the guest goes on, so the
    // difference may have either sign.
    let after_picture = picture.zip(running).map(|(picture, running)| running - picture);
    let after_picture = after_picture.context("the desktop does not say how long its fork took")?;
    let sample = Sample { clone_ready: answered + after_picture, first_frame, usable };
    let held = Held {
        session: connection.session.id.to_string(),
        dir: server.desktop_dir(&desktop.id.to_string()),
        onlooker: tokio::spawn(viewer.look_on()),
    };
    Ok((sample, held))
}

async fn wait_ready(admin: &mut Client, id: &str) -> Result<Desktop> {
    loop {
        let desktop: Desktop = admin.get(&format!("/api/v1/desktops/{id}")).await?;
        match desktop.phase {
            Phase::Ready => return Ok(desktop),
            Phase::Starting => tokio::time::sleep(PHASE_PERIOD).await,
            other => bail!("the desktop {} is {}: {}", desktop.name, other.as_str(), desktop.detail),
        }
    }
}

/// Logs off and waits until the desktop is gone with its data.
async fn log_off(admin: &mut Client, held: Held) -> Result<()> {
    admin.delete(&format!("/api/v1/sessions/{}?wait=true", held.session)).await?;
    held.onlooker.await.context("a viewer broke")?;
    Ok(())
}

/// Waits until the desktops' processes have come to rest, and says how.
async fn settle(held: &[Held]) -> Result<String> {
    let mut pids = Vec::new();
    for desktop in held {
        pids.extend(processes::of_desktop(&desktop.dir)?);
    }
    let window = Duration::from_secs(2);
    let began = Instant::now();
    let mut spent = processes::cpu_seconds(&pids);
    loop {
        tokio::time::sleep(window).await;
        let now = processes::cpu_seconds(&pids);
        let share = (now - spent) / window.as_secs_f64() / held.len() as f64;
        let waited = began.elapsed();
        if waited >= SETTLE && (share < IDLE || waited > QUIET_LIMIT) {
            let how = if share < IDLE { "at rest" } else { "still busy" };
            let (seconds, percent) = (waited.as_secs_f64(), share * 100.0);
            return Ok(format!(
                "{seconds:.0} s after the last fork, {how} at {percent:.0} % of a processor each"
            ));
        }
        spent = now;
    }
}
