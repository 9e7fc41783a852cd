//! What the planner looks at: all live desktops.

use super::{Result, Store, all};
use crate::plan::DesktopSnapshot;
use lucarne_control::{DesktopId, HostId};
use lucarne_db::tables::Desktop;

impl Store {
    /// The live desktops, each with the host of its live placement; what is observed is for the caller to fill in.
    ///
    /// # Errors
    /// A database fault.
    pub async fn live_desktops(&self) -> Result<Vec<(Option<HostId>, DesktopSnapshot)>> {
        let desktops = self.read(|tx| Ok(all(tx, Desktop::live, |desktop| desktop.id)?)).await?;
        let snapshot = |d: Desktop| {
            let snapshot = DesktopSnapshot {
                desktop: d.id,
                desired: d.desired,
                desired_gen: d.desired_gen,
                recorded: d.phase,
                placement: d.placed.then_some(d.generation),
                assigned: d.assigned,
                observed: None,
            };
            (d.host_id.filter(|_| d.placed), snapshot)
        };
        Ok(desktops.into_iter().map(snapshot).collect())
    }

    /// The desktops that a host has to destroy, with the generation of their placement.
    ///
    /// # Errors
    /// A database fault.
    pub async fn absent_on(&self, host: HostId) -> Result<Vec<(DesktopId, u64)>> {
        let there = self.read(move |tx| Ok(all(tx, || Desktop::live_on(&host), |d| d.id)?)).await?;
        let absent = there.into_iter().filter(|d| d.placed && !d.is_wanted());
        Ok(absent.map(|d| (d.id, d.generation)).collect())
    }
}
