//! `lucarne-bench`: measures one suite on this machine with a server of its own, prints a table, and writes the figures
//! as JSON. It judges by what a user sees from outside: TLS, WebSocket and RFB. Missed targets are printed, not failed.

mod broker;
mod clone;
mod data;
mod display;
mod encode;
mod http;
mod life;
mod pool;
mod processes;
mod report;
mod server;
mod viewer;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Measures Lucarne.
#[derive(Parser)]
#[command(name = "lucarne-bench", version)]
struct Cli {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Forks desktops, one after another and several held at once, against the cold boot of the same run.
    Clone(CloneArgs),
    /// Shows the same frames by Lucarne, QEMU's own VNC server and TigerVNC's Xvnc, and compares what viewers get.
    Display(display::DisplayArgs),
    /// Runs the display benchmark's frames through comparison and encoders alone, without guest and network.
    Encode(encode::EncodeArgs),
    /// Suspends and resumes a desktop, by how much of its memory has changed.
    Life(LifeArgs),
    /// Assigns desktops and redeems tickets on each database, against the same transactions by the bare client.
    Broker(broker::BrokerArgs),
}

/// What every suite that runs a server takes.
#[derive(Args, Clone)]
struct ServerArgs {
    /// File for the figures.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Folder of the benchmark's own server; its database and templates are made anew by each run.
    #[arg(long, default_value = "/var/tmp/lucarne-bench")]
    data_dir: PathBuf,
    /// Image store to take the newest image from (by hard links) while the benchmark's own store is empty.
    #[arg(long, default_value = "/var/lib/lucarne/host/images")]
    images: PathBuf,
    /// Recipe of the image that is built when there is none anywhere; that of the source tree when left out.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// What executes the desktops: auto, kvm or tcg.
    #[arg(long, default_value = "auto")]
    accel: String,
}

/// What the suite `clone` takes.
#[derive(Args, Clone)]
struct CloneArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Forks in all.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=500))]
    clones: u32,
    /// How many of them are held at once, after the others have come and gone one by one.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    held: u32,
}

/// What the suite `life` takes.
#[derive(Args, Clone)]
struct LifeArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Suspensions without and with memory that was touched, of each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// MiB of the guest's memory that are touched.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=400))]
    touched_mib: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().suite).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lucarne-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(suite: Suite) -> Result<()> {
    if let Suite::Encode(args) = &suite {
        return finish(&encode::measure(args)?, args.json.as_deref());
    }
    if let Suite::Broker(args) = &suite {
        return finish(&broker::measure(args).await?, args.json.as_deref());
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let args = match &suite {
        Suite::Clone(args) => &args.server,
        Suite::Display(args) => &args.server,
        Suite::Life(args) => &args.server,
        Suite::Encode(_) | Suite::Broker(_) => bail!("this suite needs no server"),
    };
    let data_dir = data::prepare(&args.data_dir, &args.images)?;
    let vnc = match &suite {
        Suite::Display(args) => args.vnc_listen(),
        _ => "none",
    };
    let mut server = server::Server::spawn(&data_dir, args, vnc)?;
    let measured = tokio::select! {
        measured = async {
            match &suite {
                Suite::Clone(args) => clone::measure(&mut server, args).await,
                Suite::Display(args) => display::measure(&mut server, args).await,
                Suite::Life(args) => life::measure(&mut server, args).await,
                Suite::Encode(_) | Suite::Broker(_) => bail!("this suite needs no server"),
            }
        } => measured,
        () = stop => Err(anyhow::anyhow!("interrupted; nothing was measured to the end")),
    };
    // Whatever happened: no desktop is left behind.
    let ended = server.end().await;
    let report = measured?;
    ended?;
    finish(&report, args.json.as_deref())
}

/// Prints what was found and writes it to the file.
fn finish(report: &report::Report, json: Option<&Path>) -> Result<()> {
    print!("{}", report.table());
    if let Some(path) = json {
        let mut text = serde_json::to_string_pretty(&report.json())?;
        text.push('\n');
        std::fs::write(path, text)
            .with_context(|| format!("the figures cannot be written to {}", path.display()))?;
    }
    Ok(())
}
