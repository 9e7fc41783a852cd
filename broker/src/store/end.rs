//! The end of a desktop: hygiene in one transaction.
//!
//! Ending means: its session ended, its assignment ended, the desktop wanted absent, an audit row. From then on nobody
//! can reach it, whatever happens to the broker. The placement stays until the host confirms the destruction.

use super::{Error, Result, Store, Tx, audit, bump_revision};
use lucarne_control::desktop::ForkTimings;
use lucarne_control::{DesktopId, HostId, SessionId};

/// A desktop whose end was just decided: who has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub desktop: DesktopId,
    /// The host that has to destroy it.
    pub host: Option<HostId>,
    /// The session that ended with it.
    pub session: Option<SessionId>,
}

/// Ends a wanted desktop; nothing when it is wanted absent already.
pub(super) async fn desktop(tx: &mut Tx, actor: &str, desktop: &str, reason: &str) -> Result<Option<Ended>> {
    let name: Option<String> = sqlx::query_scalar(
        "UPDATE desktops SET desired = 'absent', desired_gen = desired_gen + 1, phase = 'stopping', detail = ?
         WHERE id = ? AND desired = 'running' RETURNING name",
    )
    .bind(reason)
    .bind(desktop)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(name) = name else { return Ok(None) };
    release(tx, desktop, reason).await?;
    let ended = ended(tx, desktop).await?;
    audit::write(tx, actor, "desktop.ended", &name, reason).await?;
    Ok(Some(ended))
}

/// As [`desktop`], for one that could not be made or died: the reason stays on record.
pub(super) async fn failed(tx: &mut Tx, desktop: &str, reason: &str) -> Result<Option<Ended>> {
    let name: Option<String> = sqlx::query_scalar(
        "UPDATE desktops SET desired = 'absent', desired_gen = desired_gen + 1, phase = 'failed', detail = ?
         WHERE id = ? AND desired = 'running' RETURNING name",
    )
    .bind(reason)
    .bind(desktop)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(name) = name else { return Ok(None) };
    release(tx, desktop, "failed").await?;
    let ended = ended(tx, desktop).await?;
    audit::write(tx, "system", "desktop.failed", &name, reason).await?;
    Ok(Some(ended))
}

async fn release(tx: &mut Tx, desktop: &str, reason: &str) -> Result<()> {
    for statement in [
        "UPDATE assignments SET ended_at = CAST(unixepoch('subsec') * 1000 AS INTEGER), end_reason = ?
         WHERE desktop_id = ? AND ended_at IS NULL",
        "UPDATE sessions SET ended_at = CAST(unixepoch('subsec') * 1000 AS INTEGER), end_reason = ?, state = 'ended'
         WHERE desktop_id = ? AND ended_at IS NULL",
    ] {
        sqlx::query(statement).bind(reason).bind(desktop).execute(&mut **tx).await?;
    }
    bump_revision(tx).await
}

async fn ended(tx: &mut Tx, desktop: &str) -> Result<Ended> {
    let (host, session): (Option<String>, Option<String>) = sqlx::query_as(
        "SELECT (SELECT host_id FROM placements WHERE desktop_id = ?1 AND freed_at IS NULL),
                (SELECT id FROM sessions WHERE desktop_id = ?1 ORDER BY id DESC LIMIT 1)",
    )
    .bind(desktop)
    .fetch_one(&mut **tx)
    .await?;
    Ok(Ended {
        desktop: desktop.parse().map_err(|_| Error::corrupt("desktop id", desktop))?,
        host: host.map(|h| h.parse().map_err(|_| Error::corrupt("host id", &h))).transpose()?,
        session: session.map(|s| s.parse().map_err(|_| Error::corrupt("session id", &s))).transpose()?,
    })
}

impl Store {
    /// Ends a desktop, whoever has it; nothing when its end was decided before.
    ///
    /// # Errors
    /// A database fault.
    pub async fn end_desktop(
        &self,
        actor: &str,
        desktop_id: DesktopId,
        reason: &str,
    ) -> Result<Option<Ended>> {
        let mut tx = self.begin().await?;
        let ended = desktop(&mut tx, actor, &desktop_id.to_string(), reason).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Ends a session by log-off, with its desktop; nothing when it has ended before.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn log_off(&self, actor: &str, session: SessionId) -> Result<(DesktopId, Option<Ended>)> {
        let mut tx = self.begin().await?;
        let row: Option<(String, bool)> =
            sqlx::query_as("SELECT desktop_id, ended_at IS NULL FROM sessions WHERE id = ?")
                .bind(session.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        let (id, live) = row.ok_or_else(|| Error::not_found("session", session))?;
        let ended = if live { desktop(&mut tx, actor, &id, "logged off").await? } else { None };
        tx.commit().await?;
        Ok((id.parse().map_err(|_| Error::corrupt("desktop id", &id))?, ended))
    }

    /// As planned by [`crate::plan::Action::Fail`]; without a generation to compare, whatever it is now.
    ///
    /// # Errors
    /// A database fault.
    pub async fn fail(
        &self,
        desktop: DesktopId,
        desired_gen: Option<i64>,
        reason: &str,
    ) -> Result<Option<Ended>> {
        let mut tx = self.begin().await?;
        if let Some(desired_gen) = desired_gen
            && !still(&mut tx, desktop, desired_gen).await?
        {
            return Ok(None);
        }
        let ended = failed(&mut tx, &desktop.to_string(), reason).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// As planned by [`crate::plan::Action::Destroy`].
    ///
    /// # Errors
    /// A database fault.
    pub async fn destroy(&self, desktop_id: DesktopId, desired_gen: i64) -> Result<Option<Ended>> {
        let mut tx = self.begin().await?;
        if !still(&mut tx, desktop_id, desired_gen).await? {
            return Ok(None);
        }
        let ended = desktop(&mut tx, "system", &desktop_id.to_string(), "nobody has it").await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// As planned by [`crate::plan::Action::ConfirmStopped`]: the evidence that a desktop is gone. Tells whether it
    /// was not on record before.
    ///
    /// # Errors
    /// A database fault.
    pub async fn confirm_stopped(&self, desktop: DesktopId, desired_gen: i64) -> Result<bool> {
        let mut tx = self.begin().await?;
        let name: Option<String> = sqlx::query_scalar(
            "UPDATE desktops SET ended_at = CAST(unixepoch('subsec') * 1000 AS INTEGER),
                 phase = CASE phase WHEN 'failed' THEN 'failed' ELSE 'stopped' END
             WHERE id = ? AND desired = 'absent' AND desired_gen = ? AND ended_at IS NULL RETURNING name",
        )
        .bind(desktop.to_string())
        .bind(desired_gen)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(name) = name else { return Ok(false) };
        let host: Option<String> = sqlx::query_scalar(
            "UPDATE placements SET freed_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
             WHERE desktop_id = ? AND freed_at IS NULL RETURNING (SELECT name FROM hosts WHERE id = host_id)",
        )
        .bind(desktop.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        bump_revision(&mut tx).await?;
        let detail = match host {
            Some(host) => format!("{host} confirmed that it is gone with its data"),
            None => "it was never placed".to_owned(),
        };
        audit::write(&mut tx, "system", "desktop.destroyed", &name, &detail).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// As planned by [`crate::plan::Action::RecordReady`].
    ///
    /// # Errors
    /// A database fault.
    pub async fn record_ready(
        &self,
        desktop: DesktopId,
        desired_gen: i64,
        timings: &ForkTimings,
    ) -> Result<()> {
        let timings = serde_json::to_string(timings).map_err(|e| Error::corrupt("timings", e))?;
        let mut tx = self.begin().await?;
        let name: Option<String> = sqlx::query_scalar(
            "UPDATE desktops SET phase = 'ready', detail = '', timings = ?
             WHERE id = ? AND desired = 'running' AND desired_gen = ? RETURNING name",
        )
        .bind(&timings)
        .bind(desktop.to_string())
        .bind(desired_gen)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(name) = name {
            audit::write(&mut tx, "system", "desktop.ready", &name, &timings).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

async fn still(tx: &mut Tx, desktop: DesktopId, desired_gen: i64) -> Result<bool> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM desktops WHERE id = ? AND desired_gen = ? AND ended_at IS NULL)",
    )
    .bind(desktop.to_string())
    .bind(desired_gen)
    .fetch_one(&mut **tx)
    .await?)
}
