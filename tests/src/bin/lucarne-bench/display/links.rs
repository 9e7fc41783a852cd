//! Slow links: what a viewer sees over them, and what it costs the others that one is slow or stands still.

use super::peer::Peer;
use super::table::Findings;
use super::viewer::Viewer;
use super::work::{self, Pace};
use anyhow::{Context, Result};
use lucarne_player::Workload;
use lucarne_tests::link::{HOME, Link, LinkError, MOBILE, Preset};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The links by the names that figures have.
const LINKS: [(&str, Preset); 2] = [("home", HOME), ("mobile", MOBILE)];

/// The time between two frames.
const PERIOD: Duration = Duration::from_millis(100);

/// What is shown alone, and then beside others.
const SHOWN: Pace = Pace::of(200).every(PERIOD);

/// The link, where this machine lets one be made.
fn link(preset: &Preset) -> Result<Option<Link>> {
    match preset.link() {
        Ok(link) => Ok(Some(link)),
        Err(error @ (LinkError::Forbidden(_) | LinkError::NoTun(_))) => {
            eprintln!("  {}: not measured: {error}", preset.name);
            Ok(None)
        }
        Err(error) => Err(error).context(format!("the link of {}", preset.name)),
    }
}

/// One viewer over each link.
pub fn slow(peer: &Peer, findings: &mut Findings) -> Result<()> {
    for (name, preset) in LINKS {
        let Some(link) = link(&preset)? else { continue };
        eprintln!("  over {}", preset.name);
        let mut viewer = peer.view_over(&link)?;
        for (workload, pace) in [
            (Workload::Typing, Pace::of(100).every(PERIOD)),
            (Workload::Scroll, Pace::of(40)),
            (Workload::Video, Pace::of(40)),
        ] {
            let taken = work::paced(peer, &mut viewer, workload, pace)?;
            findings.took(peer, &format!("{name}_{}", workload.name()), taken);
        }
        let played = work::play(peer, &mut viewer, Workload::Video, Duration::from_secs(5))?;
        findings.played(peer, &format!("{name}_play"), played);
        viewer.close()?;
    }
    Ok(())
}

/// A viewer on this machine, alone, and beside one that reads nothing and one on a poor mobile link.
pub fn mixed(peer: &Peer, findings: &mut Findings) -> Result<()> {
    let Some(mobile) = link(&MOBILE)? else { return Ok(()) };
    let mut viewer = peer.view()?;
    findings.put(peer, "rss_before_mib".into(), peer.cpu.resident_mib()?);
    let alone = work::paced(peer, &mut viewer, Workload::Scroll, SHOWN)?;
    let stalled = peer.view()?;
    let slow = peer.view_over(&mobile)?;
    let done = AtomicBool::new(false);
    let (beside, seen) = std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow(slow, &done));
        let beside = work::paced(peer, &mut viewer, Workload::Scroll, SHOWN);
        done.store(true, Ordering::Relaxed);
        (beside, follower.join())
    });
    let seen = seen.map_err(|_| anyhow::anyhow!("the slow viewer broke"))??;
    let beside = beside?;
    findings.put(peer, "rss_after_mib".into(), peer.cpu.resident_mib()?);
    drop(stalled);
    findings.put(peer, "mixed_slow_frames".into(), seen.into());
    findings.beside(peer, &alone, &beside);
    Ok(())
}

/// Follows the stream until it is enough; how many frames were seen.
fn follow(mut viewer: Viewer, done: &AtomicBool) -> Result<u32> {
    let (mut last, mut seen) = (None, 0);
    while !done.load(Ordering::Relaxed) {
        viewer.follow(Instant::now() + Duration::from_millis(50), |viewer| {
            let shown = viewer.shown();
            if shown.is_some() && shown != last {
                (last, seen) = (shown, seen + 1);
            }
        })?;
    }
    Ok(seen)
}
