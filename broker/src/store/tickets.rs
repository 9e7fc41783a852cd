//! Tickets: the right to open one stream to one session, once, soon. Kept only as their sha256.

use super::{Error, PlacedDesktop, Result, Store};
use lucarne_control::SessionId;

/// Time to redeem a ticket, milliseconds. Longer: a leaked one is of use for longer. Shorter: slow links miss it.
const LIFE: i64 = 30_000;

/// What a redeemed ticket opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redeemed {
    /// The session.
    pub session: SessionId,
    /// Its desktop, where it was when the ticket was made.
    pub placed: PlacedDesktop,
}

impl Store {
    /// Keeps a ticket with the given sha256 for a session on the placement of the given generation.
    ///
    /// # Errors
    /// [`Error::SessionEnded`] when the session or the placement ended meanwhile, or a database fault.
    pub async fn create_ticket(&self, session: SessionId, generation: u64, hash: &[u8]) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM tickets WHERE expires_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER)")
            .execute(&mut *tx)
            .await?;
        let done = sqlx::query(
            "INSERT INTO tickets (hash, session_id, generation, expires_at)
             SELECT ?1, s.id, pl.generation, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?4
             FROM sessions s JOIN placements pl ON pl.desktop_id = s.desktop_id AND pl.freed_at IS NULL
             WHERE s.id = ?2 AND s.ended_at IS NULL AND pl.generation = ?3",
        )
        .bind(hash)
        .bind(session.to_string())
        .bind(generation.cast_signed())
        .bind(LIFE)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::SessionEnded(session.to_string()));
        }
        tx.commit().await?;
        Ok(())
    }

    /// Redeems the ticket with the given sha256: one statement, so it works once. `None` for a ticket that is unknown,
    /// used, expired, or whose session or placement has ended.
    ///
    /// # Errors
    /// A database fault.
    pub async fn redeem_ticket(&self, hash: &[u8]) -> Result<Option<Redeemed>> {
        let row: Option<(String, i64)> = sqlx::query_as(
            "UPDATE tickets SET used_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
             WHERE hash = ? AND used_at IS NULL
               AND expires_at > CAST(unixepoch('subsec') * 1000 AS INTEGER)
             RETURNING session_id, generation",
        )
        .bind(hash)
        .fetch_optional(&self.writer)
        .await?;
        let Some((session, generation)) = row else { return Ok(None) };
        let session = session.parse().map_err(|_| Error::corrupt("session id", &session))?;
        match self.session_desktop(session).await {
            Ok(placed) if placed.generation == generation.cast_unsigned() => {
                Ok(Some(Redeemed { session, placed }))
            }
            Ok(_) | Err(Error::SessionEnded(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
