//! Suite `broker`: what the control plane takes, on each database, against the same transactions driven by the bare client.
//!
//! An assignment is what a connect commits: the claim of a fresh desktop with placement, assignment, session and two rows of
//! the audit log, flushed to disk. No host, no guest and no network is in the way; PostgreSQL is a server of the suite's own.

use crate::report::{Report, Target};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use lucarne_control::agent::{HostFacts, TemplateState};
use lucarne_control::api::Role;
use lucarne_control::spec::{ImageDigest, MachineShape, TemplateSpec};
use lucarne_control::viewer::ViewerWish;
use lucarne_control::{DesktopId, HostId, PoolId, UserId};
use lucarne_core::plan::{HostSeen, World};
use lucarne_core::store::{ConnectRequest, Reach, Store};
use lucarne_db::tables::{
    EVERYONE_ID, Entitlement, HolderKind, Host, HostImage, Image, Pool, PoolPolicy, User,
};
use lucarne_db::value::Json;
use lucarne_db::{Db, Row};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

mod raw;
mod scale;

/// What the suite takes.
#[derive(Args, Clone)]
pub struct BrokerArgs {
    /// File for the figures.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Assignments on each database.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    assignments: u32,
    /// Requests that are under way at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    at_once: u32,
    /// Redemptions of one ticket, all at once.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    redemptions: u32,
    /// Only these of memory, sqlite, postgres, and scale for the part with hosts.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Simulated hosts.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    hosts: u32,
    /// Desktops on them.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    desktops: u32,
}

/// Pools that assignments are spread over.
const POOLS: usize = 16;

/// Hosts.
const HOSTS: usize = 64;

/// Everything is there and nothing has failed.
struct Fine;

impl World for Fine {
    fn host(&self, _: HostId, _: &TemplateSpec) -> Option<HostSeen> {
        let template = Some((TemplateState::Ready, String::new()));
        Some(HostSeen { online: true, memory_available: None, template })
    }
    fn failure(&self, _: HostId, _: DesktopId, _: u64) -> Option<String> {
        None
    }
}

/// What assignments are made of.
struct Scene {
    users: Vec<UserId>,
    pools: Vec<PoolId>,
    hosts: Vec<HostId>,
}

async fn insert<R: Row + Sync>(db: &Db, rows: Vec<R>) -> Result<()> {
    for part in rows.chunks(500) {
        let part = part.to_vec();
        db.write(move |tx| part.iter().try_for_each(|row| tx.insert(row))).await?;
    }
    Ok(())
}

impl Scene {
    async fn make(db: &Db, users: usize) -> Result<Self> {
        let image = ImageDigest::try_from("ab".repeat(32)).map_err(|e| anyhow!("{e}"))?;
        let scene = Self {
            users: (0..users).map(|_| UserId::generate()).collect(),
            pools: (0..POOLS).map(|_| PoolId::generate()).collect(),
            hosts: (0..HOSTS).map(|_| HostId::generate()).collect(),
        };
        let facts = HostFacts {
            cpus: 64,
            memory_mib: 1 << 30,
            driver: "qemu".to_owned(),
            driver_version: "10".to_owned(),
            accel: "kvm".to_owned(),
            accel_reason: String::new(),
            network: String::new(),
        };
        let of_image = Image {
            digest: image.clone(),
            name: "desktop".to_owned(),
            version: "1".to_owned(),
            description: String::new(),
            virtual_size: 1,
            stored_size: 1,
            created_at: 1,
            source: String::new(),
        };
        insert(db, vec![of_image]).await?;
        let host = |(n, id): (usize, &HostId)| Host {
            id: *id,
            name: format!("host-{n}"),
            facts: Json(facts.clone()),
            revision: 1,
            desktops: 0,
            promised_mib: 0,
            promised_vcpus: 0,
            created_at: 1,
            last_seen: 1,
            epoch: 1,
            broker_id: Some(lucarne_control::BrokerId::generate()),
            cut_at: None,
            public_key: None,
            address: None,
            denied_at: None,
            drained_at: None,
            labels: Json::default(),
            maintenance_at: None,
        };
        insert(db, scene.hosts.iter().enumerate().map(host).collect()).await?;
        let stored = |id: &HostId| HostImage { host_id: *id, digest: image.clone() };
        insert(db, scene.hosts.iter().map(stored).collect()).await?;
        let pool = |(n, id): (usize, &PoolId)| Pool {
            id: *id,
            name: format!("pool-{n}"),
            description: String::new(),
            image: image.clone(),
            machine: Json(MachineShape::default()),
            policy: Json(PoolPolicy::default()),
            rules: Json::default(),
            preparation: Json::default(),
            max_desktops: u32::MAX,
            desktops: 0,
            created_at: 1,
            deleted_at: None,
        };
        insert(db, scene.pools.iter().enumerate().map(pool).collect()).await?;
        let held =
            |id: &PoolId| Entitlement { pool_id: *id, holder_kind: HolderKind::Group, holder: EVERYONE_ID.0 };
        insert(db, scene.pools.iter().map(held).collect()).await?;
        let user = |(n, id): (usize, &UserId)| User {
            id: *id,
            name: format!("user-{n}"),
            role: Role::User,
            password_hash: String::new(),
            max_desktops: None,
            created_at: 1,
            deleted_at: None,
        };
        insert(db, scene.users.iter().enumerate().map(user).collect()).await?;
        Ok(scene)
    }
}

/// What a run of assignments found.
struct Rate {
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn rate(mut took: Vec<f64>, seconds: f64) -> Rate {
    took.sort_by(f64::total_cmp);
    let rank = |percent: usize| took[((took.len() * percent).div_ceil(100)).max(1) - 1];
    Rate { per_s: took.len() as f64 / seconds, p50_ms: rank(50), p99_ms: rank(99) }
}

/// Assigns a desktop to each user, `at_once` at a time.
async fn assign(store: &Store, scene: &Arc<Scene>, at_once: u32) -> Result<Rate> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let tasks = (0..at_once).map(|_| {
        let (store, scene, next) = (store.clone(), Arc::clone(scene), Arc::clone(&next));
        tokio::spawn(async move {
            let mut took = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(user) = scene.users.get(n) else { return anyhow::Ok(took) };
                let request = ConnectRequest {
                    user: *user,
                    actor: format!("user-{n}"),
                    pool: format!("pool-{}", n % POOLS),
                    session: true,
                    clock: std::time::Instant::now,
                };
                let start = Instant::now();
                store.connect(request, Arc::new(Fine)).await?;
                took.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    Ok(rate(took, begun.elapsed().as_secs_f64()))
}

/// Redeems one ticket so many times at once, and gives the redemptions a second; exactly one has to win.
async fn race(store: &Store, redemptions: u32) -> Result<f64> {
    let sessions = store.sessions(&Reach::everywhere(), false, None, 1).await?;
    let session = sessions.first().context("there is no session to race for")?.session.id;
    let hash = vec![7; 32];
    let generation = store.session_desktop(session).await?.generation;
    store.create_ticket(session, generation, &hash, ViewerWish::TakeOver).await?;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..redemptions)
        .map(|_| {
            let (store, hash) = (store.clone(), hash.clone());
            tokio::spawn(async move { store.redeem_ticket(&hash).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += u32::from(task.await??.is_some());
    }
    ensure!(won == 1, "{won} of {redemptions} redemptions of one ticket won, and exactly one has to");
    Ok(f64::from(redemptions) / begun.elapsed().as_secs_f64())
}

/// What a database takes.
async fn engine(report: &mut Report, args: &BrokerArgs, name: &str, db: Db) -> Result<f64> {
    let scene = Arc::new(Scene::make(&db, args.assignments as usize).await?);
    let store = Store::new(db.clone());
    let rate = assign(&store, &scene, args.at_once).await?;
    report.add(format!("assignments_per_s_{name}"), rate.per_s, None);
    report.add(format!("connect_{name}_p50_ms"), rate.p50_ms, None);
    report.add(format!("connect_{name}_p99_ms"), rate.p99_ms, None);
    let redemptions = race(&store, args.redemptions).await?;
    report.add(format!("redemptions_per_s_{name}"), redemptions, None);
    db.close().await;
    Ok(rate.per_s)
}

/// Runs the suite.
pub async fn measure(args: &BrokerArgs) -> Result<Report> {
    let mut report = Report { suite: "broker", ..Report::default() };
    let wanted = |name: &str| args.engines.is_empty() || args.engines.iter().any(|e| e == name);
    let mut ratios = Vec::new();
    if wanted("memory") {
        let clock = Arc::new(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
        });
        engine(&mut report, args, "memory", Db::memory(clock, 1)).await?;
    }
    if wanted("sqlite") {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let file = folder.path().join("broker.db");
        let per_s = engine(&mut report, args, "sqlite", Db::sqlite(&file).await?).await?;
        let (file, work) = (folder.path().join("bare.db"), args.assignments as usize);
        let db = Db::sqlite(&file).await?;
        let scene = Scene::make(&db, work).await?;
        db.close().await;
        let bare = tokio::task::spawn_blocking(move || raw::sqlite(&file, &scene, work)).await??;
        report.add("raw_assignments_per_s_sqlite", bare, None);
        report.add("raw_sql_ratio_sqlite", per_s / bare, Some(Target::AtLeast(0.5)));
        ratios.push(per_s / bare);
    }
    if wanted("postgres") {
        let start = || lucarne_postgres::Server::start(true).map_err(|e| anyhow!("{e}"));
        let server = Arc::new(tokio::task::spawn_blocking(start).await??);
        let url = server.url("postgres");
        let per_s = engine(&mut report, args, "postgres", Db::postgres(&url).await?).await?;
        let (url, work) = (server.url("template1"), args.assignments as usize);
        let db = Db::postgres(&url).await?;
        let scene = Scene::make(&db, work).await?;
        db.close().await;
        let bare = tokio::task::spawn_blocking(move || raw::postgres(&url, &scene, work)).await??;
        report.add("raw_assignments_per_s_postgres", bare, None);
        report.add("raw_sql_ratio_postgres", per_s / bare, Some(Target::AtLeast(0.5)));
        ratios.push(per_s / bare);
        tokio::task::spawn_blocking(move || drop(server)).await?;
    }
    if let Some(least) = ratios.into_iter().min_by(f64::total_cmp) {
        report.add("raw_sql_ratio", least, Some(Target::AtLeast(0.5)));
    }
    if wanted("scale") {
        scale::measure(&mut report, args).await.inspect_err(|_| eprint!("{}", report.table()))?;
    }
    if report.figures.iter().any(|figure| figure.name.starts_with("assignments")) {
        report.notes.push(format!(
            "{} assignments, {} at once, {} redemptions of one ticket: one won on each database; SQLite's bare client flushes for \
             each assignment, where Lucarne flushes once for what came meanwhile",
            args.assignments, args.at_once, args.redemptions
        ));
    }
    Ok(report)
}
