//! Brokers, their database, hosts and users on virtual time, with everything failing that can fail, and a check of what was
//! promised.

mod broker;
mod check;
mod host;
mod network;
mod owner;
mod pools;
mod random;
mod tasks;
mod trouble;
mod user;
mod world;

use clap::{Parser, Subcommand};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use world::{HEALING, Size, World};

/// Lives through seeds: each is one world, whose brokers, database, hosts, network and users follow from it.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lives through many seeds, and says of each promise that was broken by which.
    Seeds {
        /// How many.
        #[arg(long, default_value_t = 200)]
        count: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        first: u64,
    },
    /// Lives through one seed again, exactly, and prints what happened.
    Replay {
        /// Which.
        seed: u64,
        /// With this fault put in.
        #[arg(long)]
        mutant: Option<String>,
    },
    /// Puts in one fault after the other, and says which seed finds it.
    Mutants {
        /// Seeds to try of each, at most.
        #[arg(long, default_value_t = 300)]
        seeds: u64,
        /// Only this.
        #[arg(long)]
        only: Option<String>,
    },
}

/// The world of a seed: not all are of the same size.
fn size(seed: u64) -> Size {
    let size = |brokers, hosts, users, owners, seconds: u64| {
        // One in so many transactions waits for up to so long.
        let stalls = (100, 20_000);
        Size { brokers, hosts, users, owners, trouble: seconds * 1000, stalls }
    };
    match seed % 5 {
        0 => size(1, 2, 4, 2, 240),
        1 => size(2, 3, 6, 3, 240),
        2 => size(3, 4, 9, 4, 240),
        3 => size(3, 2, 5, 2, 400),
        // A slow database.
        _ => Size { stalls: (8, 5_000), ..size(3, 2, 4, 2, 400) },
    }
}

/// What one world came to.
struct Lived {
    broken: Option<String>,
    counts: BTreeMap<&'static str, u64>,
    log: Vec<String>,
    virtual_ms: u64,
}

fn live(seed: u64, mutant: Option<&'static str>, keep_log: bool) -> Lived {
    lucarne_mutants::live(mutant);
    let mut world = World::new(seed, size(seed));
    world.keep_log = keep_log;
    let broken = world.live().err();
    lucarne_mutants::live(None);
    Lived { broken, counts: world.counts, log: world.log, virtual_ms: world.now }
}

/// Does it for each, on all processors; in the order of what was given.
fn at_once<T: Sync, R: Send>(of: Vec<T>, each: impl Fn(&T) -> R + Sync) -> Vec<(T, R)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((n, one)) = {
            let n = next.fetch_add(1, Ordering::Relaxed);
            of.get(n).map(|one| (n, one))
        } {
            done.push((n, each(one)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from))
            .map(|_| scope.spawn(work))
            .collect();
        let joined = |thread: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(joined).collect()
    });
    done.sort_by_key(|(n, _)| *n);
    of.into_iter().zip(done.into_iter().map(|(_, result)| result)).collect()
}

fn seeds(first: u64, count: u64) -> bool {
    let began = Instant::now();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut virtual_ms, mut broken) = (0, Vec::new());
    for (seed, lived) in at_once((first..first + count).collect(), |seed| live(*seed, None, false)) {
        virtual_ms += lived.virtual_ms;
        for (what, n) in lived.counts {
            *counts.entry(what).or_default() += n;
        }
        if let Some(what) = lived.broken {
            println!("seed {seed}, after {:.3} s: {what}", lived.virtual_ms as f64 / 1000.0);
            broken.push(seed);
        }
    }
    let width = counts.keys().map(|what| what.len()).max().unwrap_or(0);
    for (what, n) in &counts {
        println!("{what:width$}  {n:>12}");
    }
    println!(
        "{count} seeds, {:.1} virtual hours in {:.1} s: {} promises broken; each world as it should be {} s after its trouble",
        virtual_ms as f64 / 3_600_000.0,
        began.elapsed().as_secs_f64(),
        broken.len(),
        HEALING / 1000
    );
    if let Some(seed) = broken.first() {
        println!("see what happened: replay {seed}");
    }
    broken.is_empty()
}

/// All faults that can be put in: those that a few worlds come by.
fn all_mutants() -> Vec<&'static str> {
    let asked = at_once((0..60).collect(), |seed: &u64| {
        live(*seed, None, false);
        lucarne_mutants::all_asked()
    });
    let all: BTreeSet<_> = asked.into_iter().flat_map(|(_, asked)| asked).collect();
    all.into_iter().collect()
}

fn mutants(most: u64, only: Option<&str>) -> bool {
    let all = all_mutants();
    let tried: Vec<_> = all.iter().filter(|name| only.is_none_or(|only| name.contains(only))).collect();
    let width = tried.iter().map(|name| name.len()).max().unwrap_or(0);
    let mut caught = 0;
    let find = |name: &&&'static str| {
        let began = Instant::now();
        let found = (1..=most).find_map(|seed| live(seed, Some(name), false).broken.map(|what| (seed, what)));
        (found, began.elapsed().as_secs_f64())
    };
    for (name, (found, seconds)) in at_once(tried.clone(), find) {
        match found {
            Some((seed, what)) => {
                caught += 1;
                println!("{name:width$}  caught by seed {seed:>3} in {seconds:>5.1} s: {what}");
            }
            None => println!("{name:width$}  NOT CAUGHT by {most} seeds in {seconds:.1} s"),
        }
    }
    println!("{caught} of {} faults caught", tried.len());
    caught == tried.len() && !tried.is_empty()
}

fn replay(seed: u64, mutant: Option<&str>) -> bool {
    let mutant = mutant.and_then(|wanted| all_mutants().into_iter().find(|name| *name == wanted));
    let lived = live(seed, mutant, true);
    lived.log.iter().for_each(|line| println!("{line}"));
    match lived.broken {
        Some(what) => {
            println!("{:>8.3}  BROKEN: {what}", lived.virtual_ms as f64 / 1000.0);
            false
        }
        None => true,
    }
}

fn main() -> ExitCode {
    let held = match Arguments::parse().command {
        Command::Seeds { count, first } => seeds(first, count),
        Command::Replay { seed, mutant } => replay(seed, mutant.as_deref()),
        Command::Mutants { seeds, only } => mutants(seeds, only.as_deref()),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
