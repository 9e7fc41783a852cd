//! `lucarne session trace`: what the last updates of a session's viewers cost.

use crate::args::Output;
use crate::client::Client;
use crate::output;
use anyhow::Result;
use lucarne_control::trace::{InputKind, LinkFigures, Trace, UpdateTrace, ViewerTrace};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

/// How often a followed trace is asked for. A desktop remembers more updates than it sends meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// All that a desktop remembers.
const ALL: u32 = 256;

/// Prints a session's trace, and with `follow` the updates that come after it.
pub async fn run(client: &Client, path: &str, last: u32, follow: bool, output: Output) -> Result<()> {
    let trace: Trace = client.get(&format!("{path}?last={last}")).await?;
    if output == Output::Json {
        output::json(&trace)?;
    } else {
        print!("{}", table(&trace));
    }
    let number = |update: &UpdateTrace| {
        update.id.split_once('.').and_then(|(_, number)| number.parse::<u64>().ok()).unwrap_or_default()
    };
    let mut seen: HashMap<u64, u64> = trace.viewers.iter().map(|v| (v.viewer, v.updates)).collect();
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        let trace: Trace = client.get(&format!("{path}?last={ALL}")).await?;
        for viewer in &trace.viewers {
            let before = seen.insert(viewer.viewer, viewer.updates).unwrap_or_default();
            for update in viewer.recent.iter().filter(|update| number(update) > before) {
                if output == Output::Json {
                    output::json(update)?;
                } else {
                    println!("{}", line(update));
                }
            }
        }
    }
}

fn table(trace: &Trace) -> String {
    let mut text = String::new();
    for viewer in &trace.viewers {
        text += &viewer_table(viewer);
    }
    if trace.viewers.is_empty() {
        text += "Nobody views the session's desktop.\n";
    }
    for tcp in &trace.connections {
        let _ = writeln!(
            text,
            "TCP to {}: round trip {:.1} ms ± {:.1}, {}/s delivered, {} segments sent again, {} on the way, {} unsent",
            tcp.peer,
            tcp.rtt_ms,
            tcp.rttvar_ms,
            output::size(tcp.delivery_rate),
            tcp.retransmits,
            tcp.unacknowledged,
            output::size(tcp.unsent.into()),
        );
    }
    text
}

fn viewer_table(viewer: &ViewerTrace) -> String {
    let mut text = String::new();
    let looks = if viewer.view_only { ", which may only look" } else { "" };
    let _ = writeln!(
        text,
        "Viewer {}{looks}: {} updates; {}\n",
        viewer.viewer,
        viewer.updates,
        link(&viewer.link)
    );
    let titles = ["STAGE", "UPDATES", "P50 MS", "P95 MS", "P99 MS", "MAX MS"];
    let _ = writeln!(
        text,
        "{:<18}{:>8}{:>10}{:>10}{:>10}{:>10}",
        titles[0], titles[1], titles[2], titles[3], titles[4], titles[5]
    );
    for times in &viewer.stages {
        let _ = writeln!(
            text,
            "{:<18}{:>8}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
            times.stage.title(),
            times.count,
            times.p50_ms,
            times.p95_ms,
            times.p99_ms,
            times.max_ms
        );
    }
    if !viewer.recent.is_empty() {
        let _ = writeln!(text, "\n{HEADER}");
    }
    for update in &viewer.recent {
        let _ = writeln!(text, "{}", line(update));
    }
    text.push('\n');
    text
}

const HEADER: &str = "UPDATE     AFTER    BYTES  RECTS   PIXELS    INPUT    GUEST  COMPARE     WAIT   ENCODE     SEND  PRESENT  TOTAL MS";

fn line(update: &UpdateTrace) -> String {
    let input = match update.input {
        Some(InputKind::Key) => "key",
        Some(InputKind::Pointer) => "pointer",
        None => "-",
    };
    let mut text =
        format!("{:<11}{input:<8}{:>6}{:>7}{:>9}", update.id, update.bytes, update.rects, update.pixels);
    let (encode, send) = (Some(update.encode_ms), Some(update.send_ms));
    for ms in
        [update.input_ms, update.guest_ms, update.compare_ms, update.wait_ms, encode, send, update.present_ms]
    {
        match ms {
            Some(ms) => write!(text, "{ms:>9.2}"),
            None => write!(text, "{:>9}", "-"),
        }
        .unwrap_or_default();
    }
    let _ = write!(text, "{:>10.2}", update.total_ms);
    text
}

fn link(link: &LinkFigures) -> String {
    if !link.answers {
        return "it answers no fences, so what becomes of them is not known".to_owned();
    }
    let rate = link.rate.map_or("not measured".to_owned(), |rate| format!("{}/s", output::size(rate)));
    format!(
        "round trip {:.1} ms, rate {rate}, window {}, {} on the way",
        link.round_trip_ms,
        output::size(link.window),
        output::size(link.in_flight)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_control::trace::{Stage, StageTimes, TcpFigures};

    fn update() -> UpdateTrace {
        UpdateTrace {
            id: "1.42".into(),
            input: Some(InputKind::Key),
            damages: 1,
            pixels: 152,
            rects: 1,
            bytes: 57,
            input_ms: Some(0.02),
            guest_ms: Some(17.25),
            compare_ms: Some(0.01),
            wait_ms: Some(0.03),
            encode_ms: 0.05,
            send_ms: 0.02,
            present_ms: None,
            total_ms: 17.38,
        }
    }

    #[test]
    fn a_trace_reads_as_a_table_whose_columns_stand_under_their_titles() {
        let times = StageTimes {
            stage: Stage::Guest,
            count: 9,
            p50_ms: 17.0,
            p95_ms: 20.0,
            p99_ms: 30.0,
            max_ms: 31.5,
        };
        let link = LinkFigures { answers: true, round_trip_ms: 1.5, window: 16384, rate: None, in_flight: 0 };
        let viewer = ViewerTrace {
            viewer: 1,
            session: None,
            view_only: false,
            updates: 42,
            stages: vec![times],
            recent: vec![update()],
            link,
        };
        let tcp = TcpFigures {
            peer: "192.0.2.7:5000".into(),
            rtt_ms: 20.5,
            rttvar_ms: 1.0,
            delivery_rate: 2048,
            retransmits: 3,
            unacknowledged: 0,
            unsent: 0,
        };
        let text = table(&Trace { viewers: vec![viewer], connections: vec![tcp] });
        assert!(
            text.contains("Viewer 1: 42 updates; round trip 1.5 ms, rate not measured, window 16.0 KiB"),
            "{text}"
        );
        assert!(
            text.contains("guest                    9     17.00     20.00     30.00     31.50\n"),
            "{text}"
        );
        assert!(
            text.contains("TCP to 192.0.2.7:5000: round trip 20.5 ms ± 1.0, 2.0 KiB/s delivered, 3 segments"),
            "{text}"
        );
        assert_eq!(line(&update()).len(), HEADER.len(), "{text}");
        assert!(
            line(&update()).starts_with("1.42       key         57      1      152     0.02    17.25"),
            "{text}"
        );
    }

    #[test]
    fn a_desktop_that_nobody_views_is_said_to_be_so() {
        assert_eq!(table(&Trace::default()), "Nobody views the session's desktop.\n");
    }
}
