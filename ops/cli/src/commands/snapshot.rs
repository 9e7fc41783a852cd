//! `lucarne snapshot`.

use crate::args::{Snapshot, SnapshotCommand};
use crate::client::{Client, escape};
use crate::commands::desktop;
use crate::output::{self, Row};
use anyhow::{Result, bail};
use lucarne_control::agent::SnapshotState;
use lucarne_control::api;
use lucarne_control::desktop::Phase;
use lucarne_control::snapshot::{self, NewClone, NewSnapshot};
use std::time::Duration;

/// How often it is looked whether something is done.
const AGAIN: Duration = Duration::from_millis(100);

impl Row for snapshot::Snapshot {
    const TITLES: &'static [&'static str] = &["ID", "NAME", "TAKEN", "MEMORY", "MIB", "STATE", "AFTER"];
    fn cells(&self) -> Vec<String> {
        let current = if self.current { " (current)" } else { "" };
        let state = match self.state {
            SnapshotState::Taking | SnapshotState::Deleting => {
                format!("{} {} %", self.state.as_str(), self.progress)
            }
            SnapshotState::Failed => format!("failed: {}", self.detail),
            _ => format!("{}{current}", self.state.as_str()),
        };
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.taken_at.map_or_else(|| "-".to_owned(), output::age),
            if self.memory { "yes" } else { "no" }.to_owned(),
            (self.bytes >> 20).to_string(),
            state,
            self.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string()),
        ]
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/snapshots/{}", escape(id))
}

/// Runs the command.
pub async fn run(args: Snapshot) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let output = args.remote.output;
    match args.command {
        SnapshotCommand::List { desktop } => {
            let path = format!("/api/v1/desktops/{}/snapshots", escape(&desktop));
            output::list(&client.list::<snapshot::Snapshot>(&path).await?, output)
        }
        SnapshotCommand::Take { desktop, name, disk_only, wait } => {
            let new = NewSnapshot { name, memory: Some(!disk_only) };
            let to = format!("/api/v1/desktops/{}/snapshots", escape(&desktop));
            let mut taken: snapshot::Snapshot = client.post(&to, &new).await?;
            while wait && taken.state == SnapshotState::Taking {
                tokio::time::sleep(AGAIN).await;
                taken = client.get(&path(&taken.id.to_string())).await?;
            }
            if taken.state == SnapshotState::Failed {
                bail!("the snapshot {} could not be taken: {}", taken.name, taken.detail);
            }
            output::show(&taken, output)
        }
        SnapshotCommand::Show { id } => {
            output::show(&client.get::<snapshot::Snapshot>(&path(&id)).await?, output)
        }
        SnapshotCommand::Revert { id, wait } => {
            let snapshot: snapshot::Snapshot = client.get(&path(&id)).await?;
            client.post_nothing(&format!("{}/revert", path(&id)), &serde_json::json!({})).await?;
            let desktop = format!("/api/v1/desktops/{}", snapshot.desktop);
            if !wait {
                return Ok(());
            }
            loop {
                tokio::time::sleep(AGAIN).await;
                let desktop: api::Desktop = client.get(&desktop).await?;
                match desktop.phase {
                    Phase::Ready => return Ok(()),
                    Phase::Off | Phase::Suspended
                        if desktop.detail.starts_with("it could not be put back") =>
                    {
                        bail!("{}: {}", desktop.name, desktop.detail)
                    }
                    Phase::Off | Phase::Suspended | Phase::Failed => return Ok(()),
                    _ => {}
                }
            }
        }
        SnapshotCommand::Clone { id, user, pool, wait } => {
            let clone = client.post(&format!("{}/clone", path(&id)), &NewClone { user, pool }).await?;
            desktop::made(&client, clone, wait, output).await
        }
        SnapshotCommand::Delete { id, wait } => {
            let snapshot: snapshot::Snapshot = client.get(&path(&id)).await?;
            client.delete(&path(&id)).await?;
            let all = format!("/api/v1/desktops/{}/snapshots", snapshot.desktop);
            while wait && client.list::<snapshot::Snapshot>(&all).await?.iter().any(|s| s.id == snapshot.id) {
                tokio::time::sleep(AGAIN).await;
            }
            Ok(())
        }
    }
}
