//! `lucarne desktop launch`: the steps of a connect as a waterfall.

use lucarne_control::api::LaunchTimes;
use lucarne_control::desktop::LaunchStep;
use std::fmt::Write;

/// Characters that the longest launch is drawn with.
const WIDTH: f64 = 48.0;

/// What a step is, for people.
fn says(step: LaunchStep) -> &'static str {
    match step {
        LaunchStep::Queue => "waiting for the pool",
        LaunchStep::Placement => "choosing a host",
        LaunchStep::Order => "telling it, and its answer",
        LaunchStep::Clone => "cloning the template",
        LaunchStep::Picture => "until there is a picture",
        LaunchStep::Identity => "giving it an identity",
        LaunchStep::FirstFrame => "until a viewer had it",
    }
}

/// A line for each step, below each other as they followed.
pub fn waterfall(times: &LaunchTimes) -> String {
    let mut text = format!("{} of {}", times.name, times.pool);
    let of = [("on", &times.host), ("for", &times.user)];
    for (word, name) in of.iter().filter_map(|(word, name)| Some((word, name.as_ref()?))) {
        let _ = write!(text, " {word} {name}");
    }
    text.push('\n');
    if times.steps.is_empty() {
        text.push_str("nothing is known of its steps yet\n");
        return text;
    }
    let scale = WIDTH / times.total_ms.max(0.001);
    for span in &times.steps {
        let from = (span.start_ms * scale).round().clamp(0.0, WIDTH - 1.0);
        let to = (span.end_ms * scale).round().clamp(from + 1.0, WIDTH);
        // Bounded by WIDTH just above.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (gap, bar, rest) = (from as usize, (to - from) as usize, (WIDTH - to) as usize);
        let took = format!("{:.1} ms", span.end_ms - span.start_ms);
        let line = format!(
            "{:<12}{}{}{} {took:>11}  {}",
            span.step.as_str(),
            " ".repeat(gap),
            "█".repeat(bar),
            " ".repeat(rest),
            says(span.step)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let _ = writeln!(text, "{:<12}{} {:>11}", "total", " ".repeat(48), format!("{:.1} ms", times.total_ms));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_control::api::LaunchSpan;

    fn times(steps: Vec<LaunchSpan>) -> LaunchTimes {
        LaunchTimes {
            desktop: "00000000-0000-7000-8000-000000000000".parse().unwrap(),
            name: "desk-abc".to_owned(),
            pool: "desk".to_owned(),
            host: Some("attic".to_owned()),
            user: Some("ada".to_owned()),
            requested_at_ms: Some(1),
            total_ms: steps.iter().map(|s| s.end_ms).fold(0.0, f64::max),
            steps,
        }
    }

    #[test]
    fn each_step_begins_below_where_the_one_before_it_ended() {
        let span = |step, start_ms, end_ms| LaunchSpan { step, start_ms, end_ms };
        let text = waterfall(&times(vec![
            span(LaunchStep::Queue, 0.0, 0.01),
            span(LaunchStep::Clone, 50.0, 100.0),
            span(LaunchStep::FirstFrame, 100.0, 200.0),
        ]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "desk-abc of desk on attic for ada");
        assert!(
            lines[1].starts_with(&format!("queue       █{}", " ".repeat(47))),
            "short steps are seen, too: {text}"
        );
        assert!(lines[2].starts_with(&format!("clone       {}{}", " ".repeat(12), "█".repeat(12))), "{text}");
        assert!(
            lines[3].starts_with(&format!("first_frame {}{} ", " ".repeat(24), "█".repeat(24))),
            "{text}"
        );
        assert!(lines[4].ends_with("200.0 ms"), "{text}");
    }

    #[test]
    fn a_launch_of_which_nothing_is_known_is_said_to_be_one() {
        assert!(waterfall(&times(Vec::new())).contains("nothing is known of its steps yet"));
    }
}
