//! Printing: tables for people, the API's JSON for programs.

use crate::args::Output;
use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// A row of a table.
pub trait Row: Serialize {
    /// The column titles.
    const TITLES: &'static [&'static str];
    /// The cells.
    fn cells(&self) -> Vec<String>;
}

/// Prints a list.
pub fn list<T: Row>(rows: &[T], output: Output) -> Result<()> {
    if output == Output::Json {
        return json(&rows);
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(T::TITLES);
    for row in rows {
        table.add_row(row.cells());
    }
    print_trimmed(&table.to_string());
    if rows.is_empty() {
        println!("(none)");
    }
    Ok(())
}

/// Prints one thing, a line for each field.
pub fn show<T: Serialize>(thing: &T, output: Output) -> Result<()> {
    if output == Output::Json {
        return json(thing);
    }
    let value = serde_json::to_value(thing)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(fields) = value.as_object() {
        for (name, value) in fields {
            let text = match (name.as_str(), value) {
                (name, serde_json::Value::Number(n)) if name.ends_with("_at") => {
                    n.as_i64().map(age).unwrap_or_default()
                }
                (_, value) => plain(value),
            };
            table.add_row([name.replace('_', " "), text]);
        }
    }
    print_trimmed(&table.to_string());
    Ok(())
}

fn print_trimmed(text: &str) {
    for line in text.lines() {
        println!("{}", line.trim_end().trim_start_matches(' '));
    }
}

/// Prints the API's own JSON.
pub fn json<T: Serialize>(thing: &T) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(thing)?);
    Ok(())
}

fn plain(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "-".into(),
        Value::String(s) if s.is_empty() => "-".into(),
        Value::String(s) => s.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| format!("{k}={}", plain(v)))
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}

/// Seconds since the epoch as an age: `3 min ago`.
pub fn age(at: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    match now - at {
        s if s < 0 => "in the future".into(),
        s if s < 60 => format!("{s} s ago"),
        s if s < 3600 => format!("{} min ago", s / 60),
        s if s < 86_400 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// How long until then, such as `59 min`; `over` when it was before.
pub fn left(at: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match at - i64::try_from(now).unwrap_or(i64::MAX) {
        ..=0 => "over".to_owned(),
        s @ 1..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

/// Bytes in the largest unit that leaves a number above 1.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
