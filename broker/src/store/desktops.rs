//! Desktops as recorded: what is wanted of each, where it is placed and whose it is.

use super::hosts::desired_state;
use super::{Error, Result, Store, seconds};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_control::{DesktopId, HostId, UserId};
use sqlx::FromRow;

/// A desktop without what its host sees of it at the moment.
#[derive(Clone, Debug)]
pub struct DesktopRow {
    /// Id.
    pub id: DesktopId,
    /// The guest's host name.
    pub name: String,
    /// The pool's name.
    pub pool: String,
    /// The host of the live placement, or of the last one.
    pub host: Option<(HostId, String)>,
    /// The generation of that placement.
    pub generation: u64,
    /// What is wanted.
    pub desired: DesiredState,
    /// What was last recorded.
    pub phase: Phase,
    /// Why, for people.
    pub detail: String,
    /// The user that it is, or was, assigned to.
    pub user: Option<(UserId, String)>,
    /// The address of its network card.
    pub mac: String,
    /// How long its fork took, once recorded.
    pub timings: ForkTimings,
    /// Seconds since the epoch.
    pub created_at: i64,
    /// It is gone, confirmed.
    pub ended: bool,
}

/// A desktop that is placed and wanted: what a connection to it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedDesktop {
    /// Which.
    pub desktop: DesktopId,
    /// Where.
    pub host: HostId,
    /// The placement's generation.
    pub generation: u64,
}

#[derive(FromRow)]
pub(super) struct Columns {
    id: String,
    name: String,
    pool: String,
    host_id: Option<String>,
    host: Option<String>,
    generation: Option<i64>,
    desired: String,
    phase: String,
    detail: String,
    user_id: Option<String>,
    user: Option<String>,
    mac: String,
    timings: String,
    created_at: i64,
    ended_at: Option<i64>,
}

impl Columns {
    pub fn into_row(self) -> Result<DesktopRow> {
        let host = match (self.host_id, self.host) {
            (Some(id), Some(name)) => Some((id.parse().map_err(|_| Error::corrupt("host id", &id))?, name)),
            _ => None,
        };
        let user = match (self.user_id, self.user) {
            (Some(id), Some(name)) => Some((id.parse().map_err(|_| Error::corrupt("user id", &id))?, name)),
            _ => None,
        };
        Ok(DesktopRow {
            id: self.id.parse().map_err(|_| Error::corrupt("desktop id", &self.id))?,
            name: self.name,
            pool: self.pool,
            host,
            generation: self.generation.unwrap_or(0).cast_unsigned(),
            desired: desired_state(&self.desired)?,
            phase: phase(&self.phase)?,
            detail: self.detail,
            user,
            mac: self.mac,
            timings: serde_json::from_str(&self.timings)
                .map_err(|_| Error::corrupt("timings", &self.timings))?,
            created_at: seconds(self.created_at),
            ended: self.ended_at.is_some(),
        })
    }
}

/// The word in the database as a phase.
pub(super) fn phase(word: &str) -> Result<Phase> {
    serde_json::from_value(serde_json::Value::from(word)).map_err(|_| Error::corrupt("phase", word))
}

/// Selects desktops with pool, last placement and owner; conditions are added by `concat!`.
macro_rules! select_desktops {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.name, p.name AS pool, h.id AS host_id, h.name AS host, pl.generation, d.desired,
                 d.phase, d.detail, u.id AS user_id, u.name AS user, d.mac, d.timings, d.created_at, d.ended_at
             FROM desktops d JOIN pools p ON p.id = d.pool_id
             LEFT JOIN placements pl ON pl.desktop_id = d.id AND pl.generation =
                 (SELECT max(generation) FROM placements WHERE desktop_id = d.id)
             LEFT JOIN hosts h ON h.id = pl.host_id
             LEFT JOIN assignments a ON a.desktop_id = d.id
             LEFT JOIN users u ON u.id = a.user_id ",
            $rest
        )
    };
}
pub(super) use select_desktops;

impl Store {
    /// The desktop of that id, or the live one of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn desktop(&self, name_or_id: &str) -> Result<DesktopRow> {
        sqlx::query_as::<_, Columns>(select_desktops!(
            "WHERE d.id = ?1 OR (d.name = ?1 AND d.ended_at IS NULL) LIMIT 1"
        ))
        .bind(name_or_id)
        .fetch_optional(&self.reader)
        .await?
        .ok_or_else(|| Error::not_found("desktop", name_or_id))?
        .into_row()
    }

    /// At most `limit` desktops after the id `after`, oldest first: of one user or of all, the live ones or the ended
    /// too.
    ///
    /// # Errors
    /// A database fault.
    pub async fn desktops(
        &self,
        user: Option<UserId>,
        ended_too: bool,
        after: &str,
        limit: i64,
    ) -> Result<Vec<DesktopRow>> {
        let rows: Vec<Columns> = sqlx::query_as(select_desktops!(
            "WHERE d.id > ?1 AND (?2 IS NULL OR a.user_id = ?2) AND (?3 OR d.ended_at IS NULL)
             ORDER BY d.id LIMIT ?4"
        ))
        .bind(after)
        .bind(user.map(|u| u.to_string()))
        .bind(ended_too)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(Columns::into_row).collect()
    }

    /// Whether a desktop is on record and not yet confirmed as gone.
    ///
    /// # Errors
    /// A database fault.
    pub async fn is_live(&self, desktop: DesktopId) -> Result<bool> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM desktops WHERE id = ? AND ended_at IS NULL)")
            .bind(desktop.to_string())
            .fetch_one(&self.reader)
            .await?)
    }
}
