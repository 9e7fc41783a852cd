//! The claim: in one transaction, a user gets their desktop of a pool, or a fresh one, with session and audit row.

use super::pools::{SpecColumns, entitled};
use super::sessions::{self, SessionRow};
use super::{DesktopRow, Ended, Error, Result, Store, Tx, audit, bump_revision, desktops, end};
use crate::plan::{self, Candidate, NoChoice, World};
use lucarne_control::agent::HostFacts;
use lucarne_control::spec::TemplateSpec;
use lucarne_control::{DesktopId, HostId, SessionId, UserId};
use sqlx::FromRow;
use uuid::Uuid;

/// Who wants a desktop of which pool.
pub struct ConnectRequest<'a> {
    /// The user.
    pub user: UserId,
    /// Who asks: the user, or an administrator for them.
    pub actor: &'a str,
    /// The pool's name or id.
    pub pool: &'a str,
    /// Make a session too; without, only a desktop that is there when the user comes.
    pub session: bool,
}

/// The user's desktop.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The desktop, placed.
    pub desktop: DesktopRow,
    /// The user's live session on it, when one was asked for.
    pub session: Option<SessionRow>,
    /// What it is forked from.
    pub template: TemplateSpec,
    /// It was made just now.
    pub fresh: bool,
    /// Dead desktops that it replaces: their hosts have to be told.
    pub replaced: Option<Ended>,
}

#[derive(FromRow)]
struct PoolColumns {
    id: String,
    name: String,
    #[sqlx(flatten)]
    spec: SpecColumns,
    max_desktops: i64,
    entitled: bool,
    user: Option<String>,
}

struct Claim<'a> {
    request: &'a ConnectRequest<'a>,
    pool: PoolColumns,
    user_name: String,
    template: TemplateSpec,
}

impl Store {
    /// Gives the user their desktop of the pool: the live one, or a fresh one when there is none or it died.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotEntitled`], [`Error::PoolFull`], [`Error::NoHost`],
    /// [`Error::TemplateFailed`], or a database fault; nothing was changed then.
    pub async fn connect(&self, request: &ConnectRequest<'_>, world: &dyn World) -> Result<Assigned> {
        let mut tx = self.begin().await?;
        let claim = claim(&mut tx, request).await?;
        let mut replaced = None;
        if let Some((desktop, generation)) = live_assignment(&mut tx, &claim).await? {
            match world.failure(desktop, generation) {
                Some(reason) => replaced = end::failed(&mut tx, &desktop.to_string(), &reason).await?,
                None => {
                    let session = match request.session {
                        true => Some(session(&mut tx, &claim, desktop).await?),
                        false => None,
                    };
                    return finish(tx, claim, desktop, session, false, None).await;
                }
            }
        }
        let host = choose(&mut tx, &claim, world).await?;
        let earlier = earlier_failure(&mut tx, &claim).await?;
        let (desktop, name) = insert_desktop(&mut tx, &claim, host).await?;
        sqlx::query("INSERT INTO assignments (id, desktop_id, user_id, pool_id) VALUES (?, ?, ?, ?)")
            .bind(Uuid::now_v7().to_string())
            .bind(desktop.to_string())
            .bind(request.user.to_string())
            .bind(&claim.pool.id)
            .execute(&mut *tx)
            .await?;
        let session = match request.session {
            true => Some(session(&mut tx, &claim, desktop).await?),
            false => None,
        };
        bump_revision(&mut tx).await?;
        let mut detail = format!("a fresh desktop of {} for {}", claim.pool.name, claim.user_name);
        if let Some(earlier) = earlier {
            detail += &format!(", in the place of {earlier}");
        }
        audit::write(&mut tx, request.actor, "desktop.assigned", &name, &detail).await?;
        finish(tx, claim, desktop, session, true, replaced).await
    }
}

async fn claim<'a>(tx: &mut Tx, request: &'a ConnectRequest<'a>) -> Result<Claim<'a>> {
    const SQL: &str = concat!(
        "SELECT p.id, p.name, p.image, p.memory_mib, p.vcpus, p.width, p.height, p.network, p.max_desktops, ",
        entitled!(),
        " AS entitled, (SELECT name FROM users WHERE id = ?1 AND deleted_at IS NULL) AS user
          FROM pools p WHERE (p.name = ?2 OR p.id = ?2) AND p.deleted_at IS NULL"
    );
    let pool: PoolColumns = sqlx::query_as(SQL)
        .bind(request.user.to_string())
        .bind(request.pool)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| Error::not_found("pool", request.pool))?;
    let user_name = pool.user.clone().ok_or_else(|| Error::not_found("user", request.user))?;
    if !pool.entitled {
        return Err(Error::NotEntitled { user: user_name, pool: pool.name });
    }
    let template = pool.spec.template()?;
    Ok(Claim { request, pool, user_name, template })
}

async fn live_assignment(tx: &mut Tx, claim: &Claim<'_>) -> Result<Option<(DesktopId, u64)>> {
    let row: Option<(String, i64)> = sqlx::query_as(
        "SELECT a.desktop_id, coalesce(pl.generation, 0) FROM assignments a
         LEFT JOIN placements pl ON pl.desktop_id = a.desktop_id AND pl.freed_at IS NULL
         WHERE a.user_id = ? AND a.pool_id = ? AND a.ended_at IS NULL",
    )
    .bind(claim.request.user.to_string())
    .bind(&claim.pool.id)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|(id, generation)| {
        Ok((id.parse().map_err(|_| Error::corrupt("desktop id", &id))?, generation.cast_unsigned()))
    })
    .transpose()
}

/// The user's last desktop of the pool, when it died: the audit log tells why there is a fresh one.
async fn earlier_failure(tx: &mut Tx, claim: &Claim<'_>) -> Result<Option<String>> {
    let row: Option<(String, String, String)> = sqlx::query_as(
        "SELECT a.end_reason, d.name, d.detail FROM assignments a JOIN desktops d ON d.id = a.desktop_id
         WHERE a.user_id = ? AND a.pool_id = ? ORDER BY a.id DESC LIMIT 1",
    )
    .bind(claim.request.user.to_string())
    .bind(&claim.pool.id)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.filter(|(end, _, _)| end == "failed").map(|(_, name, why)| format!("{name}, which failed: {why}")))
}

async fn choose(tx: &mut Tx, claim: &Claim<'_>, world: &dyn World) -> Result<HostId> {
    let live: i64 =
        sqlx::query_scalar("SELECT count(*) FROM desktops WHERE pool_id = ? AND ended_at IS NULL")
            .bind(&claim.pool.id)
            .fetch_one(&mut **tx)
            .await?;
    if live >= claim.pool.max_desktops {
        return Err(Error::PoolFull { pool: claim.pool.name.clone(), max: claim.pool.max_desktops });
    }
    let rows: Vec<(String, String, String, i64, bool)> = sqlx::query_as(
        "SELECT h.id, h.name, h.facts,
             coalesce((SELECT sum(memory_mib) FROM placements pl
                 WHERE pl.host_id = h.id AND pl.freed_at IS NULL), 0),
             EXISTS (SELECT 1 FROM host_images hi WHERE hi.host_id = h.id AND hi.digest = ?)
         FROM hosts h",
    )
    .bind(claim.template.image.as_str())
    .fetch_all(&mut **tx)
    .await?;
    let mut candidates = Vec::with_capacity(rows.len());
    for (id, name, facts, promised, has_image) in rows {
        let host = id.parse().map_err(|_| Error::corrupt("host id", &id))?;
        let facts: HostFacts =
            serde_json::from_str(&facts).map_err(|_| Error::corrupt("host's facts", &facts))?;
        candidates.push(Candidate {
            host,
            name,
            memory_mib: facts.memory_mib,
            promised_mib: promised.cast_unsigned(),
            has_image,
            seen: world.host(host, &claim.template),
        });
    }
    let pool = claim.pool.name.clone();
    plan::choose_host(&candidates, u64::from(claim.template.machine.memory_mib)).map_err(|e| match e {
        NoChoice::NoHost(reason) => Error::NoHost { pool, reason },
        NoChoice::TemplateFailed(reason) => Error::TemplateFailed { pool, reason },
    })
}

/// Inserts the desktop with its identity and its placement; both inserts check their limit again, so that a wrong
/// choice cannot overfill.
async fn insert_desktop(tx: &mut Tx, claim: &Claim<'_>, host: HostId) -> Result<(DesktopId, String)> {
    let id = DesktopId::generate();
    let random = Uuid::new_v4();
    let name = hostname(&claim.pool.name, &random);
    let bytes = Uuid::new_v4().into_bytes();
    // Locally administered, unicast (IEEE 802, section 8.2): never the address of a real card.
    let mac = format!("52:54:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3]);
    let inserted = sqlx::query(
        "INSERT INTO desktops (id, pool_id, name, machine_id, mac, desired, desired_gen, phase)
         SELECT ?1, ?2, ?3, ?4, ?5, 'running', 1, 'placing'
         WHERE (SELECT count(*) FROM desktops WHERE pool_id = ?2 AND ended_at IS NULL) < ?6",
    )
    .bind(id.to_string())
    .bind(&claim.pool.id)
    .bind(&name)
    .bind(Uuid::new_v4().simple().to_string())
    .bind(mac)
    .bind(claim.pool.max_desktops)
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(Error::PoolFull { pool: claim.pool.name.clone(), max: claim.pool.max_desktops });
    }
    let placed = sqlx::query(
        "INSERT INTO placements (desktop_id, generation, host_id, memory_mib)
         SELECT ?1, 1, ?2, ?3
         WHERE (SELECT coalesce(sum(memory_mib), 0) FROM placements WHERE host_id = ?2 AND freed_at IS NULL) + ?3
             <= (SELECT facts ->> 'memory_mib' FROM hosts WHERE id = ?2) * ?4",
    )
    .bind(id.to_string())
    .bind(host.to_string())
    .bind(i64::from(claim.template.machine.memory_mib))
    .bind(plan::MEMORY_PROMISE.cast_signed())
    .execute(&mut **tx)
    .await?;
    if placed.rows_affected() == 0 {
        let reason = "the chosen host is full".to_owned();
        return Err(Error::NoHost { pool: claim.pool.name.clone(), reason });
    }
    Ok((id, name))
}

/// A DNS label (RFC 1123) from the pool's name and six random characters without look-alikes.
fn hostname(pool: &str, random: &Uuid) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut label: String =
        pool.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    label.truncate(40);
    label.push('-');
    label.extend(random.as_bytes()[..6].iter().map(|b| char::from(LETTERS[usize::from(b % 32)])));
    label
}

/// The live session on the desktop, or a new one.
async fn session(tx: &mut Tx, claim: &Claim<'_>, desktop: DesktopId) -> Result<SessionId> {
    let live: Option<String> =
        sqlx::query_scalar("SELECT id FROM sessions WHERE desktop_id = ? AND ended_at IS NULL")
            .bind(desktop.to_string())
            .fetch_optional(&mut **tx)
            .await?;
    if let Some(id) = live {
        return id.parse().map_err(|_| Error::corrupt("session id", &id));
    }
    let id = SessionId::generate();
    sqlx::query(
        "INSERT INTO sessions (id, user_id, pool_id, desktop_id, state) VALUES (?, ?, ?, ?, 'connecting')",
    )
    .bind(id.to_string())
    .bind(claim.request.user.to_string())
    .bind(&claim.pool.id)
    .bind(desktop.to_string())
    .execute(&mut **tx)
    .await?;
    let subject = format!("{id} of {}", claim.user_name);
    audit::write(tx, claim.request.actor, "session.created", &subject, &format!("on {desktop}")).await?;
    Ok(id)
}

async fn finish(
    mut tx: Tx,
    claim: Claim<'_>,
    desktop: DesktopId,
    session: Option<SessionId>,
    fresh: bool,
    replaced: Option<Ended>,
) -> Result<Assigned> {
    let row = sqlx::query_as::<_, desktops::Columns>(desktops::select_desktops!("WHERE d.id = ?"))
        .bind(desktop.to_string())
        .fetch_one(&mut *tx)
        .await?
        .into_row()?;
    let session = match session {
        Some(id) => Some(sessions::get(&mut tx, id).await?),
        None => None,
    };
    tx.commit().await?;
    Ok(Assigned { desktop: row, session, template: claim.template, fresh, replaced })
}
