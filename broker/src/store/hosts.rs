//! Hosts as they introduced themselves, and what should be on each.

use super::pools::{RecordingColumns, SpecColumns, clipboard_policy};
use super::{Error, Result, Store, audit, seconds};
use lucarne_control::HostId;
use lucarne_control::agent::{Desired, DesktopDesired, Hello, HostFacts};
use lucarne_control::api::Host;
use lucarne_control::desktop::{DesiredState, Identity};
use sqlx::FromRow;

#[derive(FromRow)]
struct DesiredColumns {
    id: String,
    generation: i64,
    desired: String,
    name: String,
    machine_id: String,
    mac: String,
    pool: String,
    #[sqlx(flatten)]
    spec: SpecColumns,
    audio: bool,
    clipboard: String,
    #[sqlx(flatten)]
    recording: RecordingColumns,
}

/// The word in the database as what is wanted of a desktop.
pub(super) fn desired_state(word: &str) -> Result<DesiredState> {
    match word {
        "running" => Ok(DesiredState::Running),
        "absent" => Ok(DesiredState::Absent),
        other => Err(Error::corrupt("desired state", other)),
    }
}

impl Store {
    /// Notes that a host's agent connected, and gives the host's id.
    ///
    /// # Errors
    /// A database fault.
    pub async fn host_connected(&self, hello: &Hello) -> Result<HostId> {
        let facts = serde_json::to_string(&hello.facts).map_err(|e| Error::corrupt("host's facts", e))?;
        let mut tx = self.begin().await?;
        let id: String = sqlx::query_scalar(
            "INSERT INTO hosts (id, name, facts) VALUES (?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET facts = excluded.facts,
                 last_seen = CAST(unixepoch('subsec') * 1000 AS INTEGER)
             RETURNING id",
        )
        .bind(HostId::generate().to_string())
        .bind(&hello.host)
        .bind(facts)
        .fetch_one(&mut *tx)
        .await?;
        let detail = format!("agent {}, {} by {}", hello.version, hello.facts.driver, hello.facts.accel);
        audit::write(&mut tx, "system", "host.connected", &hello.host, &detail).await?;
        tx.commit().await?;
        id.parse().map_err(|_| Error::corrupt("host id", &id))
    }

    /// Notes that a host's agent went.
    ///
    /// # Errors
    /// A database fault.
    pub async fn host_disconnected(&self, host: HostId, name: &str, why: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE hosts SET last_seen = CAST(unixepoch('subsec') * 1000 AS INTEGER) WHERE id = ?")
            .bind(host.to_string())
            .execute(&mut *tx)
            .await?;
        audit::write(&mut tx, "system", "host.disconnected", name, why).await?;
        Ok(tx.commit().await?)
    }

    /// Everything that should be on a host: the templates of all pools, and the desktops placed there.
    ///
    /// # Errors
    /// A database fault.
    pub async fn desired(&self, host: HostId) -> Result<Desired> {
        let mut tx = self.reader.begin().await?;
        let revision: i64 =
            sqlx::query_scalar("SELECT value FROM revision WHERE id = 1").fetch_one(&mut *tx).await?;
        let templates: Vec<SpecColumns> = sqlx::query_as(
            "SELECT DISTINCT image, memory_mib, vcpus, width, height, 'user' AS network FROM pools
             WHERE deleted_at IS NULL ORDER BY image, memory_mib, vcpus, width, height",
        )
        .fetch_all(&mut *tx)
        .await?;
        let desktops: Vec<DesiredColumns> = sqlx::query_as(
            "SELECT d.id, pl.generation, d.desired, d.name, d.machine_id, d.mac,
                 p.image, p.memory_mib, p.vcpus, p.width, p.height, p.network, p.audio, p.clipboard,
                 p.id AS pool, p.recording, p.recording_days, p.recording_mib
             FROM placements pl JOIN desktops d ON d.id = pl.desktop_id JOIN pools p ON p.id = d.pool_id
             WHERE pl.host_id = ? AND pl.freed_at IS NULL ORDER BY d.id",
        )
        .bind(host.to_string())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Desired {
            revision: revision.cast_unsigned(),
            templates: templates.iter().map(SpecColumns::template).collect::<Result<_>>()?,
            desktops: desktops
                .into_iter()
                .map(|d| {
                    Ok(DesktopDesired {
                        desktop: d.id.parse().map_err(|_| Error::corrupt("desktop id", &d.id))?,
                        generation: d.generation.cast_unsigned(),
                        state: desired_state(&d.desired)?,
                        template: d.spec.template()?,
                        identity: Identity { hostname: d.name, machine_id: d.machine_id, mac: d.mac },
                        network: d.spec.network()?,
                        audio: d.audio,
                        clipboard: clipboard_policy(&d.clipboard)?,
                        recording: d.recording.policy()?,
                        pool: Some(d.pool.parse().map_err(|_| Error::corrupt("pool id", &d.pool))?),
                    })
                })
                .collect::<Result<_>>()?,
        })
    }

    /// At most `limit` hosts after the id `after`, oldest first; what only the agent's link knows is left at rest.
    ///
    /// # Errors
    /// A database fault.
    pub async fn hosts(&self, after: &str, limit: i64) -> Result<Vec<Host>> {
        let rows: Vec<HostColumns> = sqlx::query_as(
            "SELECT id, name, facts, last_seen, (SELECT count(*) FROM placements pl
                 WHERE pl.host_id = h.id AND pl.freed_at IS NULL) AS desktops
             FROM hosts h WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(HostColumns::into_host).collect()
    }

    /// The host of that name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn host(&self, name_or_id: &str) -> Result<Host> {
        sqlx::query_as::<_, HostColumns>(
            "SELECT id, name, facts, last_seen, (SELECT count(*) FROM placements pl
                 WHERE pl.host_id = h.id AND pl.freed_at IS NULL) AS desktops
             FROM hosts h WHERE h.id = ?1 OR h.name = ?1",
        )
        .bind(name_or_id)
        .fetch_optional(&self.reader)
        .await?
        .ok_or_else(|| Error::not_found("host", name_or_id))?
        .into_host()
    }

    /// Forgets a host that has no desktop. That it is offline is for the caller to check.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], or a database fault.
    pub async fn delete_host(&self, actor: &str, host: &Host) -> Result<()> {
        let mut tx = self.begin().await?;
        let id = host.id.to_string();
        let placed: i64 =
            sqlx::query_scalar("SELECT count(*) FROM placements WHERE host_id = ? AND freed_at IS NULL")
                .bind(&id)
                .fetch_one(&mut *tx)
                .await?;
        if placed > 0 {
            let by = format!("{placed} desktop(s) are placed on it; destroy them while it is connected");
            return Err(Error::InUse { what: "host", name: host.name.clone(), by });
        }
        // The placements of the past name the host only for history; their rows go with it.
        sqlx::query("DELETE FROM placements WHERE host_id = ?").bind(&id).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM hosts WHERE id = ?").bind(&id).execute(&mut *tx).await?;
        audit::write(&mut tx, actor, "host.deleted", &host.name, "").await?;
        Ok(tx.commit().await?)
    }
}

#[derive(FromRow)]
struct HostColumns {
    id: String,
    name: String,
    facts: String,
    last_seen: i64,
    desktops: i64,
}

impl HostColumns {
    fn into_host(self) -> Result<Host> {
        let facts: HostFacts =
            serde_json::from_str(&self.facts).map_err(|_| Error::corrupt("host's facts", &self.facts))?;
        Ok(Host {
            id: self.id.parse().map_err(|_| Error::corrupt("host id", &self.id))?,
            name: self.name,
            online: false,
            last_seen: seconds(self.last_seen),
            facts,
            desktops: u32::try_from(self.desktops).unwrap_or(u32::MAX),
            disk_free: 0,
            memory_available: 0,
        })
    }
}
