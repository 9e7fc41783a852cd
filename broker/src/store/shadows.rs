//! Administrators' wishes to watch a session, each step with its row in the audit log.
//!
//! ```text
//! asked ──► allowed (with a ticket) ── ticket redeemed ──► watching ──► ended
//!    └────► denied       └──────────── never ────────────────────────────┘
//! ```

use super::{Error, Result, Store, Tx, audit, tickets};
use crate::viewers::Entry;
use lucarne_control::viewer::ShadowPolicy;
use lucarne_control::{SessionId, ShadowId};
use sqlx::FromRow;

/// Who wants to watch what.
pub struct ShadowRequest<'a> {
    /// The administrator's name.
    pub administrator: &'a str,
    /// The session.
    pub session: SessionId,
    /// With keyboard and pointer.
    pub control: bool,
    /// What for.
    pub reason: &'a str,
}

/// A wish that the pool's policy does not forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedShadow {
    /// Its id.
    pub id: ShadowId,
    /// The user has to be asked.
    pub consent: bool,
}

/// A wish as a row.
#[derive(FromRow)]
pub(super) struct Columns {
    session_id: String,
    user: String,
    pub administrator: String,
    control: bool,
    consent: bool,
}

impl Columns {
    fn subject(&self) -> String {
        format!("{} of {}", self.session_id, self.user)
    }

    pub fn entry(&self) -> Entry {
        Entry::Shadow { control: self.control, consent: self.consent }
    }
}

pub(super) fn policy_word(policy: ShadowPolicy) -> &'static str {
    match policy {
        ShadowPolicy::Off => "off",
        ShadowPolicy::WithConsent => "with_consent",
        ShadowPolicy::WithNotice => "with_notice",
    }
}

pub(super) fn policy(word: &str) -> Result<ShadowPolicy> {
    match word {
        "off" => Ok(ShadowPolicy::Off),
        "with_consent" => Ok(ShadowPolicy::WithConsent),
        "with_notice" => Ok(ShadowPolicy::WithNotice),
        other => Err(Error::corrupt("shadow policy", other)),
    }
}

/// Takes a wish from one state to another; `None` when it is not in the first.
async fn step(tx: &mut Tx, id: &str, from: &str, to: &str) -> Result<Option<Columns>> {
    Ok(sqlx::query_as(
        "UPDATE shadows SET state = ?3 WHERE id = ?1 AND state = ?2
         RETURNING session_id, administrator, control, consent,
             (SELECT u.name FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = session_id) AS user",
    )
    .bind(id)
    .bind(from)
    .bind(to)
    .fetch_optional(&mut **tx)
    .await?)
}

/// A ticket of the wish was redeemed; `None` when nobody allowed it.
pub(super) async fn begin(tx: &mut Tx, id: &str) -> Result<Option<Columns>> {
    let Some(row) = step(tx, id, "allowed", "watching").await? else { return Ok(None) };
    let detail = if row.control { "with keyboard and pointer" } else { "view only" };
    audit::write(tx, &row.administrator, "shadow.began", &row.subject(), detail).await?;
    Ok(Some(row))
}

impl Store {
    /// Puts a wish on record, if the session's pool does not forbid it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], [`Error::ShadowOff`], [`Error::ShadowControlOff`], or a database
    /// fault.
    pub async fn ask_shadow(&self, request: &ShadowRequest<'_>) -> Result<AskedShadow> {
        let mut tx = self.begin().await?;
        let row: Option<(String, bool, String, String, bool)> = sqlx::query_as(
            "SELECT u.name, s.ended_at IS NULL, p.name, p.shadow, p.shadow_control FROM sessions s
             JOIN users u ON u.id = s.user_id JOIN pools p ON p.id = s.pool_id WHERE s.id = ?",
        )
        .bind(request.session.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let (user, live, pool, word, may_control) =
            row.ok_or_else(|| Error::not_found("session", request.session))?;
        if !live {
            return Err(Error::SessionEnded(request.session.to_string()));
        }
        let consent = match policy(&word)? {
            ShadowPolicy::Off => return Err(Error::ShadowOff { pool }),
            ShadowPolicy::WithConsent => true,
            ShadowPolicy::WithNotice => false,
        };
        if request.control && !may_control {
            return Err(Error::ShadowControlOff { pool });
        }
        let id = ShadowId::generate();
        sqlx::query(
            "INSERT INTO shadows (id, session_id, administrator, control, consent, state)
             VALUES (?, ?, ?, ?, ?, 'asked')",
        )
        .bind(id.to_string())
        .bind(request.session.to_string())
        .bind(request.administrator)
        .bind(request.control)
        .bind(consent)
        .execute(&mut *tx)
        .await?;
        let subject = format!("{} of {user}", request.session);
        let mut detail = if request.control { "with keyboard and pointer" } else { "view only" }.to_owned();
        if !request.reason.is_empty() {
            detail += &format!(": {}", request.reason);
        }
        audit::write(&mut tx, request.administrator, "shadow.asked", &subject, &detail).await?;
        tx.commit().await?;
        Ok(AskedShadow { id, consent })
    }

    /// Allows a wish, with a ticket of the given sha256 to the session on the placement of this generation.
    ///
    /// # Errors
    /// [`Error::SessionEnded`] when the session or its placement ended meanwhile, [`Error::NotFound`] when nobody
    /// asks any more, or a database fault.
    pub async fn allow_shadow(&self, id: ShadowId, by: &str, generation: u64, hash: &[u8]) -> Result<()> {
        let mut tx = self.begin().await?;
        let row = step(&mut tx, &id.to_string(), "asked", "allowed").await?;
        let row = row.ok_or_else(|| Error::not_found("shadow", id))?;
        let session = row.session_id.parse().map_err(|_| Error::corrupt("session id", &row.session_id))?;
        let ticket = tickets::New { session, generation, hash, wish: Default::default(), shadow: Some(id) };
        tickets::insert(&mut tx, &ticket).await?;
        let detail = format!("{} may", row.administrator);
        audit::write(&mut tx, by, "shadow.allowed", &row.subject(), &detail).await?;
        Ok(tx.commit().await?)
    }

    /// Denies a wish that is still open.
    ///
    /// # Errors
    /// A database fault.
    pub async fn deny_shadow(&self, id: ShadowId, by: &str, why: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        if let Some(row) = step(&mut tx, &id.to_string(), "asked", "denied").await? {
            let detail = format!("{} may not: {why}", row.administrator);
            audit::write(&mut tx, by, "shadow.denied", &row.subject(), &detail).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Notes that a shadow that began is over.
    ///
    /// # Errors
    /// A database fault.
    pub async fn end_shadow(&self, id: ShadowId, why: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        if let Some(row) = step(&mut tx, &id.to_string(), "watching", "ended").await? {
            audit::write(&mut tx, &row.administrator, "shadow.ended", &row.subject(), why).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// After a start of the broker: nobody watches through it, and nobody asks.
    ///
    /// # Errors
    /// A database fault.
    pub async fn end_all_shadows(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        let open: Vec<(String, String)> = sqlx::query_as(
            "SELECT id, state FROM shadows WHERE state IN ('asked', 'allowed', 'watching') ORDER BY id",
        )
        .fetch_all(&mut *tx)
        .await?;
        for (id, state) in open {
            let (to, action) = match state.as_str() {
                "asked" => ("denied", "shadow.denied"),
                _ => ("ended", "shadow.ended"),
            };
            if let Some(row) = step(&mut tx, &id, &state, to).await? {
                audit::write(&mut tx, "system", action, &row.subject(), "the broker was restarted").await?;
            }
        }
        Ok(tx.commit().await?)
    }
}
