//! Deleting snapshots beneath the disk of a guest that runs: QEMU copies what is over a layer needs of it, while the guest goes on.

use super::{Due, Layers, SnapshotError, at_rest, check_room, disk_of, list, mark_deleted, remove, take};
use crate::disk;
use crate::qmp::{Qmp, QmpError};
use crate::save::SaveError;
use lucarne_control::SnapshotId;
use lucarne_driver::Overseer;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// QEMU's name for the work.
const JOB: &str = "merge";

/// Deletes a snapshot: what is over it gets what it needs of it. Does what is left to do of others as well.
///
/// # Errors
/// The layers are as they were, or the snapshot is not to be seen any more and some of its work is left to be done.
pub(crate) async fn merge(
    qmp: &Qmp,
    dir: &Path,
    id: SnapshotId,
    overseer: &dyn Overseer,
) -> Result<(), SnapshotError> {
    take::mend_under(qmp, dir).await?;
    mark_deleted(dir, id)?;
    let mut last = None;
    loop {
        let layers = list(dir)?;
        if layers.due().is_some() && layers.due() == last {
            // It did not bring it about, whatever it said.
            return Err(SnapshotError::Busy);
        }
        last = layers.due();
        match layers.due() {
            None => return Ok(()),
            Some(Due::Remove(id)) => remove(dir, id)?,
            Some(Due::Merge { lower, upper, onto }) => {
                check_room(dir, &layers, lower)?;
                let onto = match onto {
                    Some(id) => disk_of(dir, Some(id)),
                    None => at_rest::below(dir, lower)?,
                };
                if layers.beneath().contains(&lower) {
                    let nodes = Nodes::look(qmp, &layers).await?;
                    stream(qmp, dir, &nodes, (upper, lower, &onto), overseer).await?;
                } else {
                    // Of another branch, which QEMU has not opened.
                    disk::put_over(&disk_of(dir, upper), &onto, || overseer.is_cancelled()).await?;
                }
                // Nothing is over it now, and it is removed.
            }
        }
    }
}

/// QEMU's names for the layers beneath a guest's disk.
struct Nodes {
    /// The highest first, down to the template's and the image's disk.
    chain: Vec<String>,
    /// The snapshots, the highest first.
    beneath: Vec<SnapshotId>,
}

impl Nodes {
    /// QEMU opened most of them by itself, and gave them names of its own. It says how many are beneath each, if it is to list them all.
    async fn look(qmp: &Qmp, layers: &Layers) -> Result<Self, SnapshotError> {
        let nodes = qmp.execute("query-named-block-nodes", Value::Null).await?;
        let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
        let top = take::top(qmp).await?;
        let depth = |node: &Value| node["backing_file_depth"].as_u64().unwrap_or(0);
        let mut chain: Vec<(u64, String)> = nodes
            .iter()
            .filter(|node| node["drv"] == "qcow2")
            .filter_map(|node| Some((depth(node), node["node-name"].as_str()?.to_owned())))
            .collect();
        chain.sort_by(|a, b| b.cmp(a));
        let is_chain = chain.iter().rev().enumerate().all(|(n, (depth, _))| *depth == n as u64);
        let chain: Vec<String> = chain.into_iter().map(|(_, name)| name).collect();
        let beneath = layers.beneath();
        if !is_chain {
            // Something else is open, and which is which cannot be told.
            return Err(SnapshotError::Busy);
        }
        if chain.first() != Some(&top) || chain.len() < beneath.len() + 2 {
            return Err(SnapshotError::Busy);
        }
        Ok(Self { chain, beneath })
    }

    /// The name of a layer; of the disk that is written now, where there is no id.
    fn of(&self, id: Option<SnapshotId>) -> Result<&str, SnapshotError> {
        let at = match id {
            None => 0,
            Some(id) => {
                1 + self.beneath.iter().position(|below| *below == id).ok_or(SnapshotError::None(id))?
            }
        };
        self.chain.get(at).map(String::as_str).ok_or(SnapshotError::Busy)
    }

    fn below(&self, id: SnapshotId) -> Result<&str, SnapshotError> {
        let at = 2 + self.beneath.iter().position(|below| *below == id).ok_or(SnapshotError::None(id))?;
        self.chain.get(at).map(String::as_str).ok_or(SnapshotError::Busy)
    }
}

async fn stream(
    qmp: &Qmp,
    dir: &Path,
    nodes: &Nodes,
    (upper, lower, onto): (Option<SnapshotId>, SnapshotId, &Path),
    overseer: &dyn Overseer,
) -> Result<(), SnapshotError> {
    let job = json!({
        "job-id": JOB, "device": nodes.of(upper)?, "base-node": nodes.below(lower)?, "backing-file": onto,
        // Its end waits to be read.
        "auto-dismiss": false,
    });
    let gone = nodes.of(Some(lower))?.to_owned();
    qmp.execute("block-stream", job).await?;
    let ended = follow(qmp, &Sparing { dir, overseer }).await;
    qmp.execute("job-dismiss", json!({ "id": JOB })).await?;
    ended?;
    take::close(qmp, &gone).await;
    if gone == "disk" {
        // The name of the first one's file is another.
        let _ = qmp.execute("blockdev-del", json!({ "node-name": "disk-file" })).await;
    }
    Ok(())
}

/// Ends the work that somebody has left, where there is any.
pub(super) async fn end_left(qmp: &Qmp) -> Result<(), SnapshotError> {
    let jobs = qmp.execute("query-jobs", Value::Null).await?;
    if !jobs.as_array().is_some_and(|jobs| jobs.iter().any(|job| job["id"] == JOB)) {
        return Ok(());
    }
    if let Err(error) = follow(qmp, &Unwanted).await {
        tracing::info!(%error, "a deletion that was begun goes on later");
    }
    qmp.execute("job-dismiss", json!({ "id": JOB })).await?;
    Ok(())
}

/// Gives up before the host's disk is full, which would stop the guest and those beside it.
struct Sparing<'a> {
    dir: &'a Path,
    overseer: &'a dyn Overseer,
}

impl Overseer for Sparing<'_> {
    fn progress(&self, percent: u8) {
        self.overseer.progress(percent);
    }

    fn is_cancelled(&self) -> bool {
        self.overseer.is_cancelled() || crate::save::room(self.dir).is_ok_and(|room| room == 0)
    }
}

/// Nobody.
struct Unwanted;

impl Overseer for Unwanted {
    fn progress(&self, _: u8) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}

async fn follow(qmp: &Qmp, overseer: &dyn Overseer) -> Result<(), SnapshotError> {
    let mut cancelled = false;
    loop {
        let jobs = qmp.execute("query-jobs", Value::Null).await?;
        let jobs = jobs.as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(job) = jobs.iter().find(|job| job["id"] == JOB) else {
            return Err(
                QmpError::Refused { command: "query-jobs".into(), desc: "the work is gone".into() }.into()
            );
        };
        if job["status"] == "concluded" {
            return match job["error"].as_str() {
                None => Ok(()),
                Some(_) if cancelled => Err(SaveError::Cancelled.into()),
                Some(why) => {
                    Err(QmpError::Refused { command: "block-stream".into(), desc: why.into() }.into())
                }
            };
        }
        let number = |name: &str| job[name].as_u64().unwrap_or(0);
        overseer.progress((number("current-progress") * 100 / number("total-progress").max(1)).min(99) as u8);
        if overseer.is_cancelled() && !cancelled {
            cancelled = true;
            qmp.execute("job-cancel", json!({ "id": JOB })).await?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
