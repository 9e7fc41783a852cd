//! Sign-ins: cookies and bearer tokens, kept only as their sha256.

use super::{Error, Result, Store, seconds};
use lucarne_control::UserId;
use lucarne_control::api::Role;
use lucarne_db::tables::{Login, LoginKind, User};

/// How long a cookie lives without use, milliseconds: 12 hours.
const COOKIE_IDLE: i64 = 12 * 3_600_000;

/// How long a bearer token lives, milliseconds: 30 days.
const TOKEN_LIFE: i64 = 30 * 86_400_000;

/// A cookie's life is prolonged when this much of it is gone, milliseconds. Lower: a write for nearly every request.
const PROLONG_AFTER: i64 = 600_000;

/// Ended logins that are forgotten with each new one: more than come, so that none pile up.
const FORGET: usize = 8;

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
    /// [`Error::NotFound`] when the user was deleted meanwhile, or a database fault.
    pub async fn create_login(&self, user: UserId, name: &str, kind: LoginKind, hash: &[u8]) -> Result<i64> {
        let (word, life) = match kind {
            LoginKind::Cookie => ("cookie", COOKIE_IDLE),
            LoginKind::Token => ("token", TOKEN_LIFE),
        };
        let (name, hash) = (name.to_owned(), hash.to_vec());
        self.write(move |tx| {
            let now = tx.now();
            tx.share(User::key(&user))?
                .filter(|row| row.deleted_at.is_none())
                .ok_or_else(|| Error::not_found("user", &name))?;
            for login in tx.claim(Login::by_expiry().up_to(&now).limit(FORGET))? {
                tx.delete(login)?;
            }
            let (created_at, expires_at) = (now, now + life);
            tx.insert(&Login { hash: hash.clone(), user_id: user, kind, created_at, expires_at })?;
            tx.audit(&name, "login.created", &name, word)?;
            Ok(seconds(expires_at))
        })
        .await
    }

    /// Who holds the login with this sha256, if it lives; a cookie's life is prolonged.
    ///
    /// # Errors
    /// A database fault.
    pub async fn caller(&self, hash: &[u8]) -> Result<Option<Caller>> {
        let key = hash.to_vec();
        let found = self
            .read(move |tx| {
                let now = tx.now();
                let Some(login) = tx.peek(Login::key(&key))?.filter(|login| login.expires_at > now) else {
                    return Ok(None);
                };
                let user = tx.peek(User::key(&login.user_id))?.filter(|user| user.deleted_at.is_none());
                let aged =
                    login.kind == LoginKind::Cookie && login.expires_at - now < COOKIE_IDLE - PROLONG_AFTER;
                Ok(user.map(|user| (user, aged)))
            })
            .await?;
        let Some((user, aged)) = found else { return Ok(None) };
        if aged {
            let key = hash.to_vec();
            self.write(move |tx| {
                if let Some(mut login) = tx.lock(Login::key(&key))? {
                    login.expires_at = tx.now() + COOKIE_IDLE;
                    tx.update(&login)?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(Some(Caller { user: Some(user.id), name: user.name, role: user.role, login: Some(hash.to_vec()) }))
    }

    /// Ends one login.
    ///
    /// # Errors
    /// A database fault.
    pub async fn delete_login(&self, name: &str, hash: &[u8]) -> Result<()> {
        let (name, hash) = (name.to_owned(), hash.to_vec());
        self.write(move |tx| {
            tx.remove(Login::key(&hash))?;
            Ok(tx.audit(&name, "login.ended", &name, "signed out")?)
        })
        .await
    }
}
