//! Tickets: the right to open one stream to one session, once, soon, as an owner, to look, or as a shadow. Kept only as
//! their sha256.

use super::{Error, PlacedDesktop, Result, Store, Tx, shadows};
use crate::viewers::Entry;
use lucarne_control::viewer::ViewerWish;
use lucarne_control::{SessionId, ShadowId};

/// Time to redeem a ticket, milliseconds. Longer: a leaked one is of use for longer. Shorter: slow links miss it.
const LIFE: i64 = 30_000;

/// What a redeemed ticket opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeemed {
    /// The session.
    pub session: SessionId,
    /// Its desktop, where it was when the ticket was made.
    pub placed: PlacedDesktop,
    /// As what it lets in.
    pub entry: Entry,
    /// The name of who looks.
    pub user: String,
    /// The shadow that begins with it.
    pub shadow: Option<ShadowId>,
}

/// A ticket to be kept.
pub(super) struct New<'a> {
    pub session: SessionId,
    pub generation: u64,
    pub hash: &'a [u8],
    pub wish: ViewerWish,
    pub shadow: Option<ShadowId>,
}

fn wish_word(wish: ViewerWish) -> &'static str {
    match wish {
        ViewerWish::TakeOver => "take_over",
        ViewerWish::Share => "share",
        ViewerWish::ViewOnly => "view_only",
    }
}

fn wish(word: &str) -> Result<ViewerWish> {
    match word {
        "take_over" => Ok(ViewerWish::TakeOver),
        "share" => Ok(ViewerWish::Share),
        "view_only" => Ok(ViewerWish::ViewOnly),
        other => Err(Error::corrupt("ticket", other)),
    }
}

/// Keeps a ticket; [`Error::SessionEnded`] when the session or the placement ended meanwhile.
pub(super) async fn insert(tx: &mut Tx, new: &New<'_>) -> Result<()> {
    sqlx::query("DELETE FROM tickets WHERE expires_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER)")
        .execute(&mut **tx)
        .await?;
    let done = sqlx::query(
        "INSERT INTO tickets (hash, session_id, generation, expires_at, wish, shadow_id)
         SELECT ?1, s.id, pl.generation, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?4, ?5, ?6
         FROM sessions s JOIN placements pl ON pl.desktop_id = s.desktop_id AND pl.freed_at IS NULL
         WHERE s.id = ?2 AND s.ended_at IS NULL AND pl.generation = ?3",
    )
    .bind(new.hash)
    .bind(new.session.to_string())
    .bind(new.generation.cast_signed())
    .bind(LIFE)
    .bind(wish_word(new.wish))
    .bind(new.shadow.map(|s| s.to_string()))
    .execute(&mut **tx)
    .await?;
    match done.rows_affected() {
        0 => Err(Error::SessionEnded(new.session.to_string())),
        _ => Ok(()),
    }
}

impl Store {
    /// Keeps a ticket with the given sha256 for the user of a session on the placement of the given generation.
    ///
    /// # Errors
    /// [`Error::SessionEnded`] when the session or the placement ended meanwhile, or a database fault.
    pub async fn create_ticket(
        &self,
        session: SessionId,
        generation: u64,
        hash: &[u8],
        wish: ViewerWish,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        insert(&mut tx, &New { session, generation, hash, wish, shadow: None }).await?;
        Ok(tx.commit().await?)
    }

    /// Redeems the ticket with the given sha256: one statement uses it up, so it works once. `None` for a ticket that is
    /// unknown, used, expired, or whose session or placement has ended. A shadow's begins to watch, on record.
    ///
    /// # Errors
    /// A database fault.
    pub async fn redeem_ticket(&self, hash: &[u8]) -> Result<Option<Redeemed>> {
        let mut tx = self.begin().await?;
        let row: Option<(String, i64, String, Option<String>, String)> = sqlx::query_as(
            "UPDATE tickets SET used_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
             WHERE hash = ? AND used_at IS NULL
               AND expires_at > CAST(unixepoch('subsec') * 1000 AS INTEGER)
             RETURNING session_id, generation, wish, shadow_id,
                 (SELECT u.name FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = session_id)",
        )
        .bind(hash)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((session, generation, word, shadow, mut user)) = row else { return Ok(None) };
        let session = session.parse().map_err(|_| Error::corrupt("session id", &session))?;
        let placed = match self.session_desktop(session).await {
            Ok(placed) if placed.generation == generation.cast_unsigned() => placed,
            // Used up all the same.
            Ok(_) | Err(Error::SessionEnded(_)) => {
                tx.commit().await?;
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let mut entry = Entry::User(wish(&word)?);
        if let Some(id) = &shadow {
            let Some(row) = shadows::begin(&mut tx, id).await? else {
                tx.commit().await?;
                return Ok(None);
            };
            (entry, user) = (row.entry(), row.administrator);
        }
        tx.commit().await?;
        let shadow = shadow.map(|id| id.parse().map_err(|_| Error::corrupt("shadow id", &id))).transpose()?;
        Ok(Some(Redeemed { session, placed, entry, user, shadow }))
    }
}
