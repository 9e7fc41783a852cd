//! `lucarne apply`: shows what it takes for the pools to be as a file says, asks, and has exactly that done.

use crate::args::{Apply, Output};
use crate::client::{ApiError, Client};
use crate::exit::Outstanding;
use crate::output;
use crate::pools_file::{self, Faults, PoolsFile};
use anyhow::{Context, Result, bail, ensure};
use lucarne_control::api::Problem;
use lucarne_control::apply::{ApplyPools, FieldChange, PlanAction, PoolsPlan};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;

/// The largest file, bytes; the server takes no larger one.
const LARGEST_FILE: u64 = 4 << 20;

/// Fields that are settled when a desktop is made.
const SETTLED: [&str; 4] = ["network", "audio", "clipboard", "recording"];

/// Runs the command.
pub async fn run(args: Apply) -> Result<()> {
    let (name, text) = read(&args.file)?;
    let file = pools_file::parse(&text).map_err(|Faults(faults)| {
        let lines: Vec<_> = faults.iter().map(|fault| format!("{name}:{fault}")).collect();
        anyhow::anyhow!("nothing was done:\n{}", lines.join("\n"))
    })?;
    ensure!(
        file.lists || !args.prune,
        "{name} says nothing of pools, and --prune would delete all there are; write `pool = []` if that is meant"
    );
    let json = args.remote.output == Output::Json;
    let asks = !args.yes && !args.dry_run;
    ensure!(
        !asks || (!json && std::io::stdin().is_terminal()),
        "nobody can be asked here whether it is to be done; say --yes, or --dry-run to see what it would be"
    );
    let client = Client::open(&args.remote).await?;
    let pools = file.pools.clone();
    let ask = ApplyPools { pools, prune: args.prune, dry_run: true, revision: None };
    let said = |e: ApiError| anyhow::Error::new(e).context(name.clone());
    let plan: PoolsPlan = client.post("/api/v1/apply", &ask).await.map_err(said)?;
    if json && (args.dry_run || !plan.errors.is_empty()) {
        output::json(&plan)?;
    } else if !json {
        print!("{}", show(&plan));
    }
    if let Some(first) = plan.errors.first() {
        let detail = errors(&name, &file, &plan);
        let problem =
            Problem { code: first.code.clone(), title: String::new(), status: first.status, detail };
        return Err(ApiError::Problem(problem).into());
    }
    let todo = plan.pools.iter().filter(|pool| pool.action != PlanAction::Unchanged).count();
    if args.dry_run {
        return if todo == 0 { Ok(()) } else { Err(Outstanding { what: name, pools: todo }.into()) };
    }
    if todo == 0 {
        return if json { output::json(&plan) } else { Ok(()) };
    }
    if asks && !confirmed()? {
        bail!("nothing was done");
    }
    let really = ApplyPools { dry_run: false, revision: Some(plan.revision), ..ask };
    let done: PoolsPlan = client.post("/api/v1/apply", &really).await.map_err(said)?;
    if json {
        return output::json(&done);
    }
    println!("Done: {}.", summary(&done, ["made", "changed", "deleted"]));
    Ok(())
}

/// The file's name for people, and its text.
fn read(path: &Path) -> Result<(String, String)> {
    let (name, mut text) = (path.display().to_string(), String::new());
    if path == Path::new("-") {
        let input = std::io::stdin().lock().take(LARGEST_FILE + 1).read_to_string(&mut text);
        input.context("standard input cannot be read as text")?;
        ensure!(
            text.len() as u64 <= LARGEST_FILE,
            "standard input has more than 4 MiB; no file of pools has"
        );
        return Ok(("standard input".to_owned(), text));
    }
    let file = std::fs::File::open(path).with_context(|| format!("{name} cannot be opened"))?;
    let input = file.take(LARGEST_FILE + 1).read_to_string(&mut text);
    input.with_context(|| format!("{name} cannot be read as text"))?;
    ensure!(text.len() as u64 <= LARGEST_FILE, "{name} has more than 4 MiB; no file of pools has");
    Ok((name, text))
}

fn confirmed() -> Result<bool> {
    eprint!("Do it? [y/N] ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// All that stands in the way, with the lines of the pools.
fn errors(name: &str, file: &PoolsFile, plan: &PoolsPlan) -> String {
    let mut text = "nothing was done:".to_owned();
    for error in &plan.errors {
        let line = file.lines.get(&error.pool).map(|line| format!(":{line}")).unwrap_or_default();
        let field = error.field.as_ref().map(|field| format!(", {field}")).unwrap_or_default();
        let _ = write!(text, "\n{name}{line}: pool {:?}{field}: {}", error.pool, error.detail);
    }
    text
}

/// The plan as a diff.
fn show(plan: &PoolsPlan) -> String {
    let (mut text, mut settled) = (String::new(), false);
    for pool in &plan.pools {
        let sign = match pool.action {
            PlanAction::Create => '+',
            PlanAction::Change => '~',
            PlanAction::Delete => '-',
            PlanAction::Unchanged => continue,
        };
        let _ = writeln!(text, "{sign} {}", pool.pool);
        for change in &pool.changes {
            if pool.action == PlanAction::Create {
                if !is_nothing(&change.to) {
                    let _ = writeln!(text, "    {}: {}", change.field, plain(&change.to));
                }
            } else {
                let _ = writeln!(text, "    {}", line(change));
                settled |= SETTLED.contains(&change.field.split('.').next().unwrap_or_default());
            }
        }
    }
    if !plan.new_groups.is_empty() {
        let _ = writeln!(
            text,
            "Groups that there are not yet, and that are made: {}",
            plan.new_groups.join(", ")
        );
    }
    if settled {
        text += "Desktops that there are keep the network, audio, clipboard and recording that they were made with.\n";
    }
    if !plan.errors.is_empty() {
        // What there is to do is not known.
        return text;
    }
    let unchanged = plan.pools.iter().filter(|pool| pool.action == PlanAction::Unchanged).count();
    let _ =
        writeln!(text, "= {unchanged} unchanged; {}", summary(plan, ["to make", "to change", "to delete"]));
    text
}

/// How many pools are made, changed and deleted.
fn summary(plan: &PoolsPlan, words: [&str; 3]) -> String {
    let count = |action| plan.pools.iter().filter(|pool| pool.action == action).count();
    let counts = [PlanAction::Create, PlanAction::Change, PlanAction::Delete].map(count);
    let parts: Vec<_> =
        counts.iter().zip(words).filter(|(n, _)| **n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") }
}

/// Not worth a line of a new pool.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What changes of a field: of a list who comes and who goes.
fn line(change: &FieldChange) -> String {
    let FieldChange { field, from, to } = change;
    let (Value::Array(before), Value::Array(after)) = (from, to) else {
        return format!("{field}: {} → {}", plain(from), plain(to));
    };
    let gone = before.iter().filter(|item| !after.contains(item)).map(|item| format!("- {}", plain(item)));
    let new = after.iter().filter(|item| !before.contains(item)).map(|item| format!("+ {}", plain(item)));
    format!("{field}: {}", gone.chain(new).collect::<Vec<_>>().join(", "))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        // With its quotes where it would not be seen to be a word.
        Value::String(text)
            if !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)) =>
        {
            text.clone()
        }
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lucarne_control::apply::{PlanError, PoolPlan};
    use serde_json::json;

    fn change(field: &str, from: Value, to: Value) -> FieldChange {
        FieldChange { field: field.to_owned(), from, to }
    }

    fn pool(name: &str, action: PlanAction, changes: Vec<FieldChange>) -> PoolPlan {
        PoolPlan { pool: name.to_owned(), action, changes }
    }

    fn plan(pools: Vec<PoolPlan>) -> PoolsPlan {
        PoolsPlan {
            revision: String::new(),
            applied: false,
            pools,
            new_groups: Vec::new(),
            errors: Vec::new(),
        }
    }

    #[test]
    fn a_plan_reads_like_a_diff() {
        let mut plan = plan(vec![
            pool(
                "lab",
                PlanAction::Create,
                vec![
                    change("description", Value::Null, json!("")),
                    change("entitled_groups", Value::Null, json!(["staff", "guests"])),
                    change("image", Value::Null, json!("abc")),
                    change("max_desktops", Value::Null, json!(8)),
                    change("recording.days", Value::Null, Value::Null),
                ],
            ),
            pool("same", PlanAction::Unchanged, Vec::new()),
            pool(
                "desk",
                PlanAction::Change,
                vec![
                    change("description", json!(""), json!("For all")),
                    change("entitled_users", json!(["ada", "ben"]), json!(["ada", "cy"])),
                    change("recording.days", Value::Null, json!(30)),
                    change("recording.mode", json!("off"), json!("on")),
                ],
            ),
            pool("old", PlanAction::Delete, Vec::new()),
        ]);
        plan.new_groups = vec!["guests".to_owned()];
        let wanted = "\
+ lab
    entitled_groups: staff, guests
    image: abc
    max_desktops: 8
~ desk
    description: \"\" → \"For all\"
    entitled_users: - ben, + cy
    recording.days: none → 30
    recording.mode: off → on
- old
Groups that there are not yet, and that are made: guests
Desktops that there are keep the network, audio, clipboard and recording that they were made with.
= 1 unchanged; 1 to make, 1 to change, 1 to delete
";
        assert_eq!(show(&plan), wanted);
    }

    #[test]
    fn a_plan_with_nothing_to_do_says_so() {
        let plan = plan(vec![pool("same", PlanAction::Unchanged, Vec::new())]);
        assert_eq!(show(&plan), "= 1 unchanged; nothing to do\n");
    }

    #[test]
    fn what_stands_in_the_way_is_told_with_the_files_line() {
        let file = pools_file::parse("[[pool]]\nname = \"lab\"\nimage = \"x\"\n").unwrap();
        let mut plan = plan(Vec::new());
        let error = |pool: &str, field: Option<&str>| PlanError {
            pool: pool.to_owned(),
            field: field.map(str::to_owned),
            code: "image_not_found".to_owned(),
            status: 404,
            detail: "there is no image \"x\"".to_owned(),
        };
        plan.errors = vec![error("lab", Some("image")), error("pruned", None)];
        assert_eq!(show(&plan), "", "it is not said that there is nothing to do");
        assert_eq!(
            errors("pools.toml", &file, &plan),
            "nothing was done:\npools.toml:2: pool \"lab\", image: there is no image \"x\"\n\
             pools.toml: pool \"pruned\": there is no image \"x\""
        );
    }
}
