//! `lucarne up`: everything on this machine, until Ctrl-C.
//!
//! It starts the broker and the host agent as processes of their own and watches over them: either may be killed and
//! comes back without taking the other, or any desktop, with it. Ctrl-C ends everything in order: first the agent, which
//! destroys its desktops and tells the broker, then the broker.

pub mod broker;
mod child;
mod summary;

use crate::args::Up;
use crate::client::Client;
use crate::commands::{image, optional_address, pool};
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use child::{Child, Role};
use lucarne_control::api::Host;
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How long the broker may take at the end to put the desktops' ends on record.
const FAREWELL: Duration = Duration::from_secs(10);

/// How long the agent may take to appear at the broker. It probes KVM and opens its stores first.
const HOST_LIMIT: Duration = Duration::from_secs(60);

/// How long the host agent may take to its end: guests that persist power off first, and are switched off after a minute and a half.
const HOST_END: Duration = Duration::from_secs(180);

/// Where agents of this machine reach the broker.
pub fn agent_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("run").join("agent.sock")
}

/// Takes the data directory for this process; the kernel gives it back when the process ends.
fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("run").join("up.lock");
    let file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another `lucarne up` runs with the data directory {}; end it first, or choose another --data-dir",
            data_dir.display()
        );
    }
    Ok(file)
}

/// The folders that the processes share; others may pass through, because each desktop is a user of its own.
fn create_folders(data_dir: &Path) -> Result<()> {
    for (name, mode) in [("", 0o755), ("run", 0o700), ("broker", 0o700), ("host", 0o755), ("log", 0o700)] {
        let dir = data_dir.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(&dir).with_context(|| {
            format!("the folder {} cannot be created; choose another with --data-dir", dir.display())
        })?;
    }
    Ok(())
}

/// Runs everything.
pub async fn run(args: Up) -> Result<()> {
    let data_dir = std::path::absolute(&args.data.data_dir)?;
    let vnc = optional_address(&args.doors.vnc_listen)?;
    // What would fail later is said now, before anything is made.
    lucarne_qemu::Qemu::find()?;
    lucarne_agent::check_passable(&data_dir)?;
    create_folders(&data_dir)?;
    let _lock = lock(&data_dir)?;

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut broker_args = vec![
        "broker".into(),
        "--announce".into(),
        "--listen".into(),
        args.doors.listen.to_string(),
        "--vnc-listen".into(),
        vnc.map_or_else(|| "none".into(), |a| a.to_string()),
        "--vnc-security".into(),
        args.doors.vnc_security.iter().map(|s| s.name()).collect::<Vec<_>>().join(","),
    ];
    if let Some(listen) = args.doors.agent_listen {
        broker_args.extend(["--agent-listen".into(), listen.to_string()]);
    }
    if let Some(listen) = args.doors.metrics_listen {
        broker_args.extend(["--metrics-listen".into(), listen.to_string()]);
    }
    if args.default_pool != "none" {
        broker_args.extend(["--default-pool".into(), args.default_pool.clone()]);
    }
    let mut broker = Child::start(Role::Broker, &data_dir, broker_args).await?;
    let announced = broker.announcement().await?;
    broker.keep_addresses(&announced);

    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stop);
    let mut agent: Option<Child> = None;
    let begun = tokio::select! {
        begun = begin(&args, &data_dir, &mut agent, &announced) => begun,
        () = &mut stop => {
            end(&data_dir, agent, broker).await;
            return Ok(());
        }
    };
    if let Err(error) = begun {
        end(&data_dir, agent, broker).await;
        return Err(error);
    }
    let Some(mut agent) = agent else { bail!("the host agent was not started") };
    loop {
        tokio::select! {
            () = &mut stop => break,
            why = broker.ended() => broker = broker.restart(&why).await?,
            why = agent.ended() => agent = agent.restart(&why).await?,
        }
    }
    end(&data_dir, Some(agent), broker).await;
    Ok(())
}

/// Image, agent, template, and the lines that say where to go.
async fn begin(
    args: &Up,
    data_dir: &Path,
    agent: &mut Option<Child>,
    announced: &broker::Announcement,
) -> Result<()> {
    let store = image::open_store(data_dir)?;
    if store.list()?.is_empty() {
        match &args.recipe {
            Some(recipe) => {
                image::build(data_dir, recipe, false).await?;
            }
            None => eprintln!(
                "  There is no image yet, so there are no desktops: build one with `lucarne image build RECIPE`."
            ),
        }
    }
    let accel = match args.accel {
        crate::args::Accel::Auto => "auto",
        crate::args::Accel::Kvm => "kvm",
        crate::args::Accel::Tcg => "tcg",
    };
    let mut agent_args: Vec<_> = ["host", "run", "--accel", accel].map(Into::into).to_vec();
    if let Some(listen) = args.host_metrics_listen {
        agent_args.extend(["--metrics-listen".into(), listen.to_string()]);
    }
    if let Some(most) = args.host_max_starting {
        agent_args.extend(["--max-starting".into(), most.to_string()]);
    }
    let agent = agent.insert(Child::start(Role::Host, data_dir, agent_args).await?);
    let client = Client::local(data_dir);
    let host = tokio::select! {
        host = wait_host(&client) => host?,
        why = agent.ended() => bail!("the host agent could not start: {why}"),
    };
    let has_image = !store.list()?.is_empty();
    if has_image
        && args.default_pool != "none"
        && let Some(name) = wait_first_pool(&client).await?
    {
        pool::wait_template(&client, &name).await?;
    }
    summary::print(announced, &host, data_dir);
    Ok(())
}

async fn wait_host(client: &Client) -> Result<Host> {
    let began = Instant::now();
    let mut progress: Option<Progress> = None;
    loop {
        let hosts: Vec<Host> = client.list("/api/v1/hosts").await?;
        if let Some(host) = hosts.into_iter().find(|h| h.online) {
            if let Some(progress) = progress {
                progress.done("linked");
            }
            return Ok(host);
        }
        if began.elapsed() > Duration::from_secs(2) {
            progress.get_or_insert_with(|| Progress::new("Host agent")).set(50, "starting");
        }
        if began.elapsed() > HOST_LIMIT {
            bail!(
                "the host agent did not reach the broker within {} s; its log says why",
                HOST_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The pool that is there, or that the broker makes from the first image that its agent reports.
async fn wait_first_pool(client: &Client) -> Result<Option<String>> {
    let began = Instant::now();
    loop {
        let pools: Vec<lucarne_control::api::Pool> = client.list("/api/v1/pools").await?;
        if let Some(pool) = pools.into_iter().next() {
            return Ok(Some(pool.name));
        }
        // An administrator who deleted every pool gets no new one.
        if began.elapsed() > Duration::from_secs(5) {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Ends all desktops, on record and on this machine, then the agent and the broker.
async fn end(data_dir: &Path, agent: Option<Child>, broker: Child) {
    let mut progress = Progress::new("Ending");
    if let Some(agent) = agent {
        progress.set(10, "destroying desktops");
        // Otherwise the broker would have them made again at the next start, for users who have not asked.
        // A broker that does not answer must not keep the server from ending.
        let ended = tokio::time::timeout(FAREWELL, end_desktops(&Client::local(data_dir))).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the broker does not know that the desktops end");
        }
        agent.end(Signal::INT, HOST_END).await;
    }
    progress.set(80, "ending the broker");
    broker.end(Signal::TERM, Duration::from_secs(15)).await;
    progress.done("everything has ended");
}

async fn end_desktops(client: &Client) -> Result<()> {
    let desktops: Vec<lucarne_control::api::Desktop> = client.list("/api/v1/desktops").await?;
    // Personal ones are powered off by the agent, and stay.
    for desktop in desktops.into_iter().filter(|desktop| !desktop.persistent) {
        if let Err(error) = client.delete(&format!("/api/v1/desktops/{}", desktop.id)).await {
            // It may have ended meanwhile; the others have to be told of in any case.
            tracing::warn!(%error, desktop = desktop.name, "the desktop's end is not on record");
        }
    }
    Ok(())
}
