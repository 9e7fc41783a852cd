//! `lucarne audit`.

use crate::args::Audit;
use crate::client::Client;
use crate::output::{self, Row};
use anyhow::Result;
use lucarne_control::api::AuditEntry;

impl Row for AuditEntry {
    const TITLES: &'static [&'static str] = &["WHEN", "WHO", "WHAT", "TO WHAT", "DETAIL"];
    fn cells(&self) -> Vec<String> {
        let text = |s: &str| s.to_owned();
        vec![
            output::age(self.at),
            text(&self.actor),
            text(&self.action),
            text(&self.subject),
            text(&self.detail),
        ]
    }
}

/// Prints the log.
pub async fn run(args: Audit) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    output::list(&client.list::<AuditEntry>("/api/v1/audit").await?, args.remote.output)
}
