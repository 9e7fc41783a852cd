//! Figures, their targets, and how they are printed.

use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The name in the JSON, with the unit at its end.
    pub name: String,
    /// The value.
    pub value: f64,
    /// What it should reach.
    pub target: Option<Target>,
}

/// Everything that a suite found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The suite's name.
    pub suite: &'static str,
    /// The figures, in the order in which they are printed.
    pub figures: Vec<Figure>,
    /// On what they were measured.
    pub setting: Map<String, Value>,
    /// How to read them, one line each.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, target: Option<Target>) {
        self.figures.push(Figure { name: name.into(), value, target });
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let round = |v: f64| (v * 100.0).round() / 100.0;
        let figures: Map<_, _> =
            self.figures.iter().map(|f| (f.name.clone(), json!(round(f.value)))).collect();
        json!({ "suite": self.suite, "figures": figures, "setting": self.setting })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<30} {:>10}  {:>8}  met", self.suite, "value", "target");
        for f in &self.figures {
            let target = f.target.map(Target::text).unwrap_or_default();
            let met = f.target.map_or("", |t| if t.is_met(f.value) { "yes" } else { "NO" });
            let line = format!("{:<30} {:>10.1}  {target:>8}  {met}", f.name, f.value);
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for note in &self.notes {
            let _ = writeln!(out, "  {note}");
        }
        out
    }
}

/// The percentile by nearest rank: the smallest value that `percent` of the values do not exceed.
///
/// `None` of no values.
pub fn percentile(values: &[f64], percent: u32) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent as usize).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(10.0));
        assert_eq!(percentile(&values, 95), Some(19.0));
        assert_eq!(percentile(&values, 100), Some(20.0));
        assert_eq!(percentile(&[7.0], 1), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_missed_target_is_said_and_not_hidden() {
        let mut report = Report { suite: "clone", ..Report::default() };
        report.add("fast_ms", 10.0, Some(Target::AtMost(20.0)));
        report.add("slow_ms", 30.123, Some(Target::AtMost(20.0)));
        report.add("speedup", 60.0, Some(Target::AtLeast(50.0)));
        let table = report.table();
        let met: Vec<_> = table.lines().skip(1).filter_map(|l| l.split_whitespace().last()).collect();
        assert_eq!(met, ["yes", "NO", "yes"]);
        assert_eq!(report.json()["figures"]["slow_ms"], 30.12);
    }
}
