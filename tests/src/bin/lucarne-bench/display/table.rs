//! What was found: a table for each workload with a column for each peer, and the ratios between them.

use super::peer::Peer;
use super::work::{Played, Taken};
use crate::report::{Report, Target, percentile};
use serde_json::json;
use std::collections::BTreeMap;

/// Everything that was measured.
#[derive(Default)]
pub struct Findings {
    size: (u16, u16),
    peers: Vec<(&'static str, String)>,
    /// By peer and `workload_metric`.
    figures: BTreeMap<(&'static str, String), f64>,
    order: Vec<String>,
}

impl Findings {
    pub fn new(size: (u16, u16)) -> Self {
        Self { size, ..Self::default() }
    }

    pub fn begin(&mut self, peer: &Peer) {
        self.peers.push((peer.name, peer.what.clone()));
    }

    pub fn put(&mut self, peer: &Peer, name: String, value: f64) {
        eprintln!("  {name:<28} {value:>12.3}");
        if !self.order.contains(&name) {
            self.order.push(name.clone());
        }
        self.figures.insert((peer.name, name), value);
    }

    /// Figures of a workload, beginning with its name.
    pub fn took(&mut self, peer: &Peer, work: &str, taken: Taken) {
        let name = |metric: &str| format!("{work}_{metric}");
        let frames = f64::from(taken.frames);
        for (metric, percent) in [("p50_ms", 50), ("p99_ms", 99)] {
            if let Some(value) = percentile(&taken.latencies, percent) {
                self.put(peer, name(metric), value);
            }
        }
        self.put(peer, name("fps"), frames / taken.seconds);
        self.put(peer, name("bytes_per_frame"), taken.bytes as f64 / frames);
        self.put(peer, name("settle_bytes"), taken.settle_bytes as f64);
        self.put(peer, name("cpu_s"), taken.cpu);
        if taken.cpu_parts.len() > 1 {
            eprintln!("  {:<28} {:?}", "", taken.cpu_parts);
        }
        self.put(peer, name("cpu_ms_per_mpx"), taken.cpu * 1e3 / taken.mpx);
        self.put(peer, name("mpx"), taken.mpx);
        self.put(peer, name("ssim"), taken.ssim);
        self.put(peer, name("wrong_pixels"), taken.wrong as f64);
    }

    /// Figures of frames that were drawn by themselves, beginning with their name.
    pub fn played(&mut self, peer: &Peer, play: &str, played: Played) {
        self.put(peer, format!("{play}_drawn_fps"), played.drawn);
        self.put(peer, format!("{play}_shown_fps"), played.shown);
        self.put(peer, format!("{play}_mbit_per_s"), played.bytes * 8.0 / 1e6);
        self.put(peer, format!("{play}_cpu"), played.cpu);
    }

    /// What the same work took alone and beside other viewers.
    pub fn beside(&mut self, peer: &Peer, alone: &Taken, beside: &Taken) {
        for (metric, percent) in [("p50", 50), ("p99", 99)] {
            let of = |taken: &Taken| percentile(&taken.latencies, percent);
            if let Some((alone, beside)) = of(alone).zip(of(beside)) {
                self.put(peer, format!("alone_{metric}_ms"), alone);
                self.put(peer, format!("beside_{metric}_ms"), beside);
                self.put(peer, format!("beside_over_alone_{metric}"), beside / alone);
            }
        }
    }

    pub fn idled(&mut self, peer: &Peer, bytes: f64, cpu: f64) {
        self.put(peer, "idle_bytes_per_s".into(), bytes);
        self.put(peer, "idle_cpu_percent".into(), cpu * 100.0);
    }

    pub fn many(&mut self, peer: &Peer, one: f64, eight: f64) {
        self.put(peer, "cpu_1_viewer_s".into(), one);
        self.put(peer, "cpu_8_viewers_s".into(), eight);
        self.put(peer, "cpu_8_viewers_over_1".into(), eight / one);
    }

    fn get(&self, peer: &'static str, name: &str) -> Option<f64> {
        self.figures.get(&(peer, name.to_owned())).copied()
    }

    fn ratio(&self, name: &str, peer: &'static str) -> Option<f64> {
        Some(self.get("lucarne", name)? / self.get(peer, name)?)
    }

    /// Bytes of a workload with what it took to become exact, against a peer's.
    fn bytes_ratio(&self, workload: &str, peer: &'static str) -> Option<f64> {
        let all = |peer| self.get(peer, &format!("{workload}_bytes_per_frame"));
        Some(all("lucarne")? / all(peer)?)
    }

    /// Processor time for a million changed pixels over all workloads that were measured.
    fn cpu_per_mpx(&self, peer: &'static str) -> Option<f64> {
        let works = ["scroll", "drag", "video", "repaint"];
        let sum = |metric: &str| -> Option<f64> {
            works.iter().map(|work| self.get(peer, &format!("{work}_{metric}"))).sum()
        };
        Some(sum("cpu_s")? * 1e3 / sum("mpx")?)
    }

    /// The figures that say how Lucarne compares.
    pub fn report(&self) -> Report {
        let mut report = Report { suite: "display", ..Report::default() };
        let mut add = |name: &str, value: Option<f64>, target| {
            if let Some(value) = value {
                report.add(name, value, target);
            }
        };
        add("key_to_pixel_p50_ms", self.get("lucarne", "typing_p50_ms"), None);
        add("key_to_pixel_ratio_qemu", self.ratio("typing_p50_ms", "qemu"), Some(Target::AtMost(0.6)));
        add("bytes_text_ratio_tiger", self.bytes_ratio("typing", "xvnc"), Some(Target::AtMost(0.8)));
        add("bytes_scroll_ratio_tiger", self.bytes_ratio("scroll", "xvnc"), Some(Target::AtMost(0.3)));
        add("bytes_drag_ratio_tiger", self.bytes_ratio("drag", "xvnc"), Some(Target::AtMost(0.3)));
        let films = self.get("lucarne", "video_h264_bytes_per_frame");
        let video = films.zip(self.get("xvnc", "video_bytes_per_frame")).map(|(own, tiger)| own / tiger);
        add("bytes_video_ratio_tiger", video, Some(Target::AtMost(0.3)));
        add("bytes_video_jpeg_ratio_tiger", self.bytes_ratio("video", "xvnc"), None);
        add("bytes_repaint_ratio_tiger", self.bytes_ratio("repaint", "xvnc"), Some(Target::AtMost(0.8)));
        let best = ["qemu", "qemu_lossy", "xvnc"].iter().filter_map(|peer| self.cpu_per_mpx(peer));
        let best = best.min_by(f64::total_cmp);
        let own = self.cpu_per_mpx("lucarne");
        add("cpu_ms_per_mpx", own, None);
        add("cpu_per_mpx_ratio_best_peer", own.zip(best).map(|(o, b)| o / b), Some(Target::AtMost(0.5)));
        for peer in ["qemu", "qemu_lossy", "xvnc"] {
            let ratio = own.zip(self.cpu_per_mpx(peer)).map(|(own, other)| own / other);
            add(&format!("cpu_per_mpx_ratio_{peer}"), ratio, None);
        }
        add("cpu_8_viewers_over_1", self.get("lucarne", "cpu_8_viewers_over_1"), Some(Target::AtMost(1.5)));
        add("fps_video_60", self.get("lucarne", "play_shown_fps"), Some(Target::AtLeast(60.0)));
        let share = self.get("lucarne", "play_shown_fps").zip(self.get("lucarne", "play_drawn_fps"));
        add("fps_shown_of_drawn", share.map(|(shown, drawn)| shown / drawn), Some(Target::AtLeast(1.0)));
        let own = |name: &str| self.get("lucarne", name);
        add("mobile_p99_ms", own("mobile_typing_p99_ms"), Some(Target::AtMost(180.0)));
        add("beside_over_alone_p99", own("beside_over_alone_p99"), Some(Target::AtMost(1.3)));
        add("sound_sync_p50_ms", own("sound_sync_p50_ms"), Some(Target::AtMost(80.0)));
        for ((peer, name), value) in &self.figures {
            report.add(format!("{peer}_{name}"), *value, None);
        }
        report.setting = [
            ("width".to_owned(), json!(self.size.0)),
            ("height".to_owned(), json!(self.size.1)),
            ("peers".to_owned(), json!(self.peers.iter().cloned().collect::<BTreeMap<_, _>>())),
        ]
        .into_iter()
        .collect();
        report.notes = self.matrix();
        report
    }

    /// A line for each figure, a column for each peer.
    fn matrix(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.peers.iter().map(|(name, what)| format!("{name}: {what}")).collect();
        let head: String = self.peers.iter().map(|(name, _)| format!("{name:>14}")).collect();
        lines.push("cpu: without the threads that run the guest; lucarne's with its broker, but for several viewers,".into());
        lines.push(
            "who come in beside it. xvnc has no guest: the player and its X server run on the host.".into(),
        );
        lines.push(format!("{:<28}{head}", ""));
        for name in &self.order {
            let values = self.peers.iter().map(|(peer, _)| match self.get(peer, name) {
                Some(value) if value >= 1000.0 => format!("{value:>14.0}"),
                Some(value) => format!("{value:>14.3}"),
                None => format!("{:>14}", "-"),
            });
            lines.push(format!("{name:<28}{}", values.collect::<String>()));
        }
        lines
    }
}
