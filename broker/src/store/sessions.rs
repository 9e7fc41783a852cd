//! Sessions: one user's use of one desktop.

use super::pools::clipboard_policy;
use super::{Error, PlacedDesktop, Result, Store, Tx, seconds};
use lucarne_control::api::{Session, SessionState};
use lucarne_control::{SessionId, UserId};
use sqlx::FromRow;

/// A session and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// The session as the API shows it.
    pub session: Session,
    /// The owner.
    pub user: UserId,
}

#[derive(FromRow)]
struct Columns {
    id: String,
    user_id: String,
    user: String,
    pool: String,
    desktop: String,
    desktop_name: String,
    state: String,
    created_at: i64,
    ended_at: Option<i64>,
    recorded: bool,
    clipboard: String,
}

impl Columns {
    fn into_row(self) -> Result<SessionRow> {
        let state: SessionState = serde_json::from_value(serde_json::Value::from(self.state.as_str()))
            .map_err(|_| Error::corrupt("session state", &self.state))?;
        Ok(SessionRow {
            user: self.user_id.parse().map_err(|_| Error::corrupt("user id", &self.user_id))?,
            session: Session {
                id: self.id.parse().map_err(|_| Error::corrupt("session id", &self.id))?,
                user: self.user,
                pool: self.pool,
                desktop: self.desktop.parse().map_err(|_| Error::corrupt("desktop id", &self.desktop))?,
                desktop_name: self.desktop_name,
                state,
                viewers: Vec::new(),
                created_at: seconds(self.created_at),
                ended_at: self.ended_at.map(seconds),
                recorded: self.recorded,
                clipboard: clipboard_policy(&self.clipboard)?,
            },
        })
    }
}

macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.user_id, u.name AS user, p.name AS pool, d.id AS desktop, d.name AS desktop_name,
                 s.state, s.created_at, s.ended_at, p.recording <> 'off' AS recorded, p.clipboard
             FROM sessions s JOIN users u ON u.id = s.user_id JOIN pools p ON p.id = s.pool_id
             JOIN desktops d ON d.id = s.desktop_id ",
            $rest
        )
    };
}

pub(super) async fn get(tx: &mut Tx, id: SessionId) -> Result<SessionRow> {
    sqlx::query_as::<_, Columns>(select_sessions!("WHERE s.id = ?"))
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| Error::not_found("session", id))?
        .into_row()
}

impl Store {
    /// The session of that id, live or ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn session(&self, id: SessionId) -> Result<SessionRow> {
        let mut tx = self.reader.begin().await?;
        get(&mut tx, id).await
    }

    /// At most `limit` sessions after the id `after`, oldest first: of one user or of all, the live ones or the ended
    /// too.
    ///
    /// # Errors
    /// A database fault.
    pub async fn sessions(
        &self,
        user: Option<UserId>,
        ended_too: bool,
        after: &str,
        limit: i64,
    ) -> Result<Vec<SessionRow>> {
        let rows: Vec<Columns> = sqlx::query_as(select_sessions!(
            "WHERE s.id > ?1 AND (?2 IS NULL OR s.user_id = ?2) AND (?3 OR s.ended_at IS NULL)
             ORDER BY s.id LIMIT ?4"
        ))
        .bind(after)
        .bind(user.map(|u| u.to_string()))
        .bind(ended_too)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(Columns::into_row).collect()
    }

    /// Where a live session's desktop is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], or a database fault.
    pub async fn session_desktop(&self, id: SessionId) -> Result<PlacedDesktop> {
        let row: Option<(String, bool, Option<String>, Option<i64>)> = sqlx::query_as(
            "SELECT s.desktop_id, s.ended_at IS NULL, pl.host_id, pl.generation FROM sessions s
             LEFT JOIN placements pl ON pl.desktop_id = s.desktop_id AND pl.freed_at IS NULL
             WHERE s.id = ?",
        )
        .bind(id.to_string())
        .fetch_optional(&self.reader)
        .await?;
        let (desktop, live, host, generation) = row.ok_or_else(|| Error::not_found("session", id))?;
        let (true, Some(host), Some(generation)) = (live, host, generation) else {
            return Err(Error::SessionEnded(id.to_string()));
        };
        Ok(PlacedDesktop {
            desktop: desktop.parse().map_err(|_| Error::corrupt("desktop id", &desktop))?,
            host: host.parse().map_err(|_| Error::corrupt("host id", &host))?,
            generation: generation.cast_unsigned(),
        })
    }

    /// Notes that a viewer with control came (`connected`) or that none is left; nothing for an ended session, and none is
    /// left where none has been.
    ///
    /// # Errors
    /// A database fault.
    pub async fn set_session_connected(&self, id: SessionId, connected: bool) -> Result<()> {
        const SQL: &str = "UPDATE sessions SET state = ?1
            WHERE id = ?2 AND ended_at IS NULL AND (?1 = 'connected' OR state = 'connected')";
        sqlx::query(SQL)
            .bind(if connected { "connected" } else { "disconnected" })
            .bind(id.to_string())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// After a start of the broker: no viewer is connected through it.
    ///
    /// # Errors
    /// A database fault.
    pub async fn disconnect_all_sessions(&self) -> Result<()> {
        sqlx::query("UPDATE sessions SET state = 'disconnected' WHERE state = 'connected'")
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
