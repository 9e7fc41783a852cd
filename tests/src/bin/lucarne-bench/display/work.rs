//! The work itself: what is shown, how it is paced, and what is measured meanwhile.
//!
//! A frame is drawn when its key arrives, and the next key is pressed when the viewer shows the frame: nobody gains by
//! leaving frames out. Only [`play`] lets the player go by itself, and counts what arrived of what was drawn.

use super::peer::Peer;
use super::quality;
use super::viewer::Viewer;
use anyhow::{Result, ensure};
use lucarne_player::{Area, Scene, Workload};
use std::time::{Duration, Instant};

/// Every so many frames the picture is compared with what it should be.
const COMPARE: u32 = 10;

/// How long a picture may take to become exact after the last frame.
const SETTLE: Duration = Duration::from_secs(10);

/// What a workload took with one peer.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// From a key pressed until its frame was shown, milliseconds.
    pub latencies: Vec<f64>,
    /// Frames.
    pub frames: u32,
    /// Pixels that really changed, millions.
    pub mpx: f64,
    /// Bytes to the viewer until the last frame was shown.
    pub bytes: u64,
    /// Bytes to the viewer from then until its picture was exact.
    pub settle_bytes: u64,
    /// Processor time of the server, seconds, including what it took to settle.
    pub cpu: f64,
    /// The same by process.
    pub cpu_parts: Vec<(String, f64)>,
    /// Wall-clock time from the first key to the last frame, seconds.
    pub seconds: f64,
    /// Least similarity of a picture when it was shown.
    pub ssim: f64,
    /// Pixels that are wrong in the end.
    pub wrong: usize,
}

/// How frames are shown one by one.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Frames that are shown before those that count.
    pub before: u32,
    /// Frames that count.
    pub frames: u32,
    /// Time between two, at least.
    pub period: Duration,
}

impl Pace {
    /// So many, as fast as they are shown.
    pub const fn of(frames: u32) -> Self {
        Self { before: 0, frames, period: Duration::ZERO }
    }

    /// With so much time between them.
    pub const fn every(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// After so many that do not count.
    pub const fn after(self, before: u32) -> Self {
        Self { before, ..self }
    }
}

/// Shows frames one by one.
pub fn paced(peer: &Peer, viewer: &mut Viewer, workload: Workload, pace: Pace) -> Result<Taken> {
    let Pace { before, frames, period } = pace;
    let mut scene = begin(viewer, workload)?;
    for frame in 1..=before {
        viewer.press('n')?;
        viewer.wait_for(workload, frame)?;
        scene.step();
    }
    let mut taken = Taken { frames, ssim: 1.0, ..Taken::default() };
    let (bytes, cpu, began) = (viewer.bytes(), peer.cpu.parts(), Instant::now());
    // Comparing takes time that is not the server's.
    let mut apart = Duration::ZERO;
    for frame in before + 1..=before + frames {
        let pressed = Instant::now();
        viewer.press('n')?;
        viewer.wait_for(workload, frame)?;
        taken.latencies.push(pressed.elapsed().as_secs_f64() * 1e3);
        let comparing = Instant::now();
        let before = scene.canvas().clone();
        let areas = scene.step();
        taken.mpx += changed(&before, &scene, &areas) as f64 / 1e6;
        if frame % COMPARE == 0 {
            let area = areas[1];
            taken.ssim = taken.ssim.min(quality::similarity(viewer.picture(), scene.canvas(), area));
        }
        apart += comparing.elapsed();
        viewer.follow(pressed + period, |_| {})?;
    }
    taken.seconds = (began.elapsed() - apart).as_secs_f64();
    taken.bytes = viewer.bytes() - bytes;
    let bytes = viewer.bytes();
    let deadline = Instant::now() + SETTLE;
    loop {
        taken.wrong = quality::wrong_pixels(viewer.picture(), scene.canvas());
        if taken.wrong == 0 || Instant::now() >= deadline {
            break;
        }
        viewer.follow(Instant::now() + Duration::from_millis(100), |_| {})?;
    }
    taken.settle_bytes = viewer.bytes() - bytes;
    let spent = peer.cpu.parts().into_iter().zip(cpu).map(|((name, now), (_, then))| (name, now - then));
    taken.cpu_parts = spent.collect();
    taken.cpu = taken.cpu_parts.iter().map(|(_, seconds)| seconds).sum();
    Ok(taken)
}

/// Selects a workload and waits until its frame 0 is shown, and nothing more comes for a while.
pub fn begin(viewer: &mut Viewer, workload: Workload) -> Result<Scene> {
    viewer.press(char::from(b'0' + workload.number()))?;
    viewer.wait_for(workload, 0)?;
    let scene = Scene::new(workload, viewer.picture().width(), viewer.picture().height());
    let deadline = Instant::now() + SETTLE;
    while quality::wrong_pixels(viewer.picture(), scene.canvas()) > 0 && Instant::now() < deadline {
        viewer.follow(Instant::now() + Duration::from_millis(100), |_| {})?;
    }
    viewer.follow(Instant::now() + Duration::from_millis(500), |_| {})?;
    Ok(scene)
}

/// What came of frames that were drawn at 60 a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Played {
    /// Frames that the player drew, a second.
    pub drawn: f64,
    /// Frames that were shown, a second.
    pub shown: f64,
    /// Bytes a second.
    pub bytes: f64,
    /// Processor time a second.
    pub cpu: f64,
}

/// Lets the player go by itself for a time.
pub fn play(peer: &Peer, viewer: &mut Viewer, workload: Workload, time: Duration) -> Result<Played> {
    begin(viewer, workload)?;
    viewer.press('p')?;
    // The first moments are not typical.
    viewer.follow(Instant::now() + Duration::from_secs(1), |_| {})?;
    let (bytes, cpu, began) = (viewer.bytes(), peer.cpu.seconds(), Instant::now());
    let first = viewer.shown().map_or(0, |(_, frame)| frame);
    let (mut last, mut shown) = (first, 0u32);
    viewer.follow(began + time, |viewer| {
        if let Some((_, frame)) = viewer.shown().filter(|(_, frame)| *frame != last) {
            last = frame;
            shown += 1;
        }
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let played = Played {
        drawn: f64::from(last - first) / seconds,
        shown: f64::from(shown) / seconds,
        bytes: (viewer.bytes() - bytes) as f64 / seconds,
        cpu: (peer.cpu.seconds() - cpu) / seconds,
    };
    // Another workload ends it.
    begin(viewer, Workload::Typing)?;
    Ok(played)
}

/// What a screen on which nothing happens takes: bytes and processor seconds a second.
pub fn idle(peer: &Peer, viewer: &mut Viewer, time: Duration) -> Result<(f64, f64)> {
    begin(viewer, Workload::Typing)?;
    let (bytes, cpu, began) = (viewer.bytes(), peer.cpu.seconds(), Instant::now());
    viewer.follow(began + time, |_| {})?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(((viewer.bytes() - bytes) as f64 / seconds, (peer.cpu.seconds() - cpu) / seconds))
}

/// Processor seconds of the server for so many viewers of the same frames; the first one paces.
pub fn many(peer: &Peer, workload: Workload, viewers: usize, frames: u32) -> Result<f64> {
    let mut pacer = peer.view_beside()?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..viewers)
            .map(|_| {
                scope.spawn(|| -> Result<u32> {
                    let mut viewer = peer.view_beside()?;
                    let (mut last, mut seen) = (None, 0);
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        viewer.follow(Instant::now() + Duration::from_millis(50), |viewer| {
                            let shown =
                                viewer.shown().filter(|(shown, frame)| *shown == workload && *frame > 0);
                            if shown.is_some() && shown != last {
                                (last, seen) = (shown, seen + 1);
                            }
                        })?;
                    }
                    Ok(seen)
                })
            })
            .collect();
        let measured = (|| {
            begin(&mut pacer, workload)?;
            let cpu = peer.cpu.seconds();
            for frame in 1..=frames {
                pacer.press('n')?;
                pacer.wait_for(workload, frame)?;
                // Each of them is to see each frame.
                pacer.follow(Instant::now() + Duration::from_millis(60), |_| {})?;
            }
            Ok(peer.cpu.seconds() - cpu)
        })();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for other in others {
            let seen = other.join().map_err(|_| anyhow::anyhow!("a viewer broke"))??;
            // Who shows less does less.
            ensure!(seen * 10 >= frames * 9, "one of {viewers} viewers saw {seen} of {frames} frames");
        }
        measured
    })
}

/// Pixels that differ between a frame and the one before.
fn changed(before: &lucarne_player::Canvas, scene: &Scene, areas: &[Area]) -> usize {
    let count = |area: &Area| -> usize {
        let rows = (0..area.h).map(|y| {
            let pairs = before.row(*area, y).iter().zip(scene.canvas().row(*area, y));
            pairs.filter(|(a, b)| a != b).count()
        });
        rows.sum()
    };
    // The first and the last are barcodes.
    areas.get(1).map_or(0, count)
}
