//! `lucarne audit`: the log, and whether it is as it was written.

use crate::args::{Audit, AuditCommand, Output};
use crate::client::Client;
use crate::output::{self, Row};
use anyhow::{Context, Result, ensure};
use lucarne_control::api::{AuditEntry, AuditHead, AuditKnown, AuditVerified};
use std::path::Path;

impl Row for AuditEntry {
    const TITLES: &'static [&'static str] = &["WHEN", "WHO", "WHAT", "TO WHAT", "DETAIL"];
    fn cells(&self) -> Vec<String> {
        let text = |s: &str| s.to_owned();
        vec![
            output::age(self.at),
            text(&self.actor),
            text(&self.action),
            text(&self.subject),
            match self.action.as_str() {
                // Hashes by the dozen; `-o json` has them.
                "audit.strand_began" => {
                    let heads = serde_json::from_str::<Vec<AuditHead>>(&self.detail).unwrap_or_default();
                    format!("names the ends of {} before it", heads.len())
                }
                _ => text(&self.detail),
            },
        ]
    }
}

/// Prints the log, or what a check of it found.
pub async fn run(args: Audit) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    match args.command {
        None => output::list(&client.list::<AuditEntry>("/api/v1/audit").await?, args.remote.output),
        Some(AuditCommand::Verify { known }) => verify(&client, known.as_deref(), args.remote.output).await,
    }
}

/// Heads that are sent: a request has a limit, and newer strands name older ones.
const HEADS: usize = 400;

async fn verify(client: &Client, known: Option<&Path>, output: Output) -> Result<()> {
    let mut heads = Vec::new();
    if let Some(file) = known {
        let read = || anyhow::Ok(serde_json::from_slice::<AuditVerified>(&std::fs::read(file)?)?.heads);
        heads = read().with_context(|| {
            format!("{} is not what `lucarne audit verify -o json` printed", file.display())
        })?;
        let older = heads.len().saturating_sub(HEADS);
        heads.drain(..older);
    }
    let count = heads.len();
    let verified: AuditVerified = client.post("/api/v1/audit/verify", &AuditKnown { heads }).await?;
    match output {
        Output::Json => output::json(&verified)?,
        Output::Table => {
            for fault in &verified.faults {
                println!("{fault}");
            }
        }
    }
    ensure!(
        verified.faults.is_empty(),
        "the audit log is not as it was written: somebody has changed the broker's database. Keep a copy of it as it is"
    );
    if output == Output::Table {
        let strands = verified.heads.len();
        let of = if strands == 1 { "strand" } else { "strands" };
        println!("{} rows in {strands} {of}: none was changed, moved or taken out.", verified.rows);
        match known {
            Some(_) => println!("What the earlier check ended with is there ({count}): nothing was cut off."),
            None => println!(
                "Whether the newest rows were cut off shows only what an earlier check printed (-o json), with --known."
            ),
        }
    }
    Ok(())
}
