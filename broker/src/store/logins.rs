//! Sign-ins: cookies and bearer tokens, kept only as their sha256.

use super::{Error, Result, Store, audit, seconds, users};
use lucarne_control::UserId;
use lucarne_control::api::Role;

/// How long a cookie lives without use, milliseconds: 12 hours.
const COOKIE_IDLE: i64 = 12 * 3_600_000;

/// How long a bearer token lives, milliseconds: 30 days.
const TOKEN_LIFE: i64 = 30 * 86_400_000;

/// A cookie's life is prolonged when this much of it is gone, milliseconds. Lower: a write for nearly every request.
const PROLONG_AFTER: i64 = 600_000;

/// What a login is carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginKind {
    /// A browser's cookie: ends after 12 h without use.
    Cookie,
    /// A bearer token: ends 30 days after it was made.
    Token,
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user; none for the built-in administrator of the local socket when its user was deleted.
    pub user: Option<UserId>,
    /// The name, for the audit log.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The sha256 of the login's token; none for local peers.
    pub login: Option<Vec<u8>>,
}

impl Store {
    /// Keeps a login with the given sha256 of its token and tells when it ends, seconds since the epoch.
    ///
    /// # Errors
    /// A database fault.
    pub async fn create_login(&self, user: UserId, name: &str, kind: LoginKind, hash: &[u8]) -> Result<i64> {
        let (word, life) = match kind {
            LoginKind::Cookie => ("cookie", COOKIE_IDLE),
            LoginKind::Token => ("token", TOKEN_LIFE),
        };
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM logins WHERE expires_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER)")
            .execute(&mut *tx)
            .await?;
        let expires: i64 = sqlx::query_scalar(
            "INSERT INTO logins (hash, user_id, kind, expires_at)
             VALUES (?, ?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?) RETURNING expires_at",
        )
        .bind(hash)
        .bind(user.to_string())
        .bind(word)
        .bind(life)
        .fetch_one(&mut *tx)
        .await?;
        audit::write(&mut tx, name, "login.created", name, word).await?;
        tx.commit().await?;
        Ok(seconds(expires))
    }

    /// Who holds the login with this sha256, if it lives; a cookie's life is prolonged.
    ///
    /// # Errors
    /// A database fault.
    pub async fn caller(&self, hash: &[u8]) -> Result<Option<Caller>> {
        let row: Option<(String, String, String, String, i64)> = sqlx::query_as(
            "SELECT u.id, u.name, u.role, l.kind, l.expires_at - CAST(unixepoch('subsec') * 1000 AS INTEGER)
             FROM logins l JOIN users u ON u.id = l.user_id
             WHERE l.hash = ? AND u.deleted_at IS NULL
               AND l.expires_at > CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        )
        .bind(hash)
        .fetch_optional(&self.reader)
        .await?;
        let Some((id, name, role, kind, left)) = row else { return Ok(None) };
        if kind == "cookie" && left < COOKIE_IDLE - PROLONG_AFTER {
            sqlx::query(
                "UPDATE logins SET expires_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) + ? WHERE hash = ?",
            )
            .bind(COOKIE_IDLE)
            .bind(hash)
            .execute(&self.writer)
            .await?;
        }
        let user = Some(id.parse().map_err(|_| Error::corrupt("user id", &id))?);
        Ok(Some(Caller { user, name, role: users::role(&role)?, login: Some(hash.to_vec()) }))
    }

    /// Ends one login.
    ///
    /// # Errors
    /// A database fault.
    pub async fn delete_login(&self, name: &str, hash: &[u8]) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM logins WHERE hash = ?").bind(hash).execute(&mut *tx).await?;
        audit::write(&mut tx, name, "login.ended", name, "signed out").await?;
        Ok(tx.commit().await?)
    }
}
