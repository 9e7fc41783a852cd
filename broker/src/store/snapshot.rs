//! What the planner looks at: all live desktops in one read.

use super::hosts::desired_state;
use super::{Error, Result, Store, desktops};
use crate::plan::DesktopSnapshot;
use lucarne_control::{DesktopId, HostId};

impl Store {
    /// The live desktops, each with the host of its live placement; what is observed is for the caller to fill in.
    ///
    /// # Errors
    /// A database fault.
    pub async fn live_desktops(&self) -> Result<Vec<(Option<HostId>, DesktopSnapshot)>> {
        type Row = (String, String, i64, String, Option<i64>, Option<String>, bool);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT d.id, d.desired, d.desired_gen, d.phase, pl.generation, pl.host_id,
                 EXISTS (SELECT 1 FROM assignments a WHERE a.desktop_id = d.id AND a.ended_at IS NULL)
             FROM desktops d LEFT JOIN placements pl ON pl.desktop_id = d.id AND pl.freed_at IS NULL
             WHERE d.ended_at IS NULL ORDER BY d.id",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter()
            .map(|(id, desired, desired_gen, phase, generation, host, assigned)| {
                let host: Option<HostId> =
                    host.map(|h| h.parse().map_err(|_| Error::corrupt("host id", &h))).transpose()?;
                let snapshot = DesktopSnapshot {
                    desktop: id.parse().map_err(|_| Error::corrupt("desktop id", &id))?,
                    desired: desired_state(&desired)?,
                    desired_gen,
                    recorded: desktops::phase(&phase)?,
                    placement: generation.map(i64::cast_unsigned),
                    assigned,
                    observed: None,
                };
                Ok((host, snapshot))
            })
            .collect()
    }

    /// The desktops that a host has to destroy, with the generation of their placement.
    ///
    /// # Errors
    /// A database fault.
    pub async fn absent_on(&self, host: HostId) -> Result<Vec<(DesktopId, u64)>> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT d.id, pl.generation FROM desktops d JOIN placements pl ON pl.desktop_id = d.id
             WHERE pl.host_id = ? AND pl.freed_at IS NULL AND d.desired = 'absent'",
        )
        .bind(host.to_string())
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter()
            .map(|(id, generation)| {
                let desktop = id.parse().map_err(|_| Error::corrupt("desktop id", &id))?;
                Ok((desktop, generation.cast_unsigned()))
            })
            .collect()
    }
}
