//! Sign-ins: cookies and bearer tokens, kept only as their sha256.

use super::scoped_roles::{self, Grant};
use super::{Error, Reach, Result, Store, seconds};
use lucarne_control::UserId;
use lucarne_control::api::{Permission, Role};
use lucarne_db::tables::{Login, LoginKind, User};
use lucarne_db::value::Json;
use std::collections::{BTreeSet, HashMap};

/// How long a cookie lives without use, milliseconds: 12 hours.
const COOKIE_IDLE: i64 = 12 * 3_600_000;

/// What a bearer token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// How long it lives, milliseconds.
    pub life: i64,
    /// All that may be done with it; what its user may do where nothing is said.
    pub permissions: Option<Vec<Permission>>,
}

impl Default for NewToken {
    /// 30 days, for everything.
    fn default() -> Self {
        Self { life: 30 * 86_400_000, permissions: None }
    }
}

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
    /// Their role.
    pub role: Role,
    /// What they may do everywhere with this login.
    pub permissions: Vec<Permission>,
    /// What they may do besides, in one scope each.
    pub grants: Vec<Grant>,
    /// The sha256 of the login's token; none for local peers.
    pub login: Option<Vec<u8>>,
}

impl Caller {
    /// Whether they may do this everywhere.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Where they may do what takes one of these.
    #[must_use]
    pub fn reach(&self, one_of: &[Permission]) -> Reach {
        let everywhere = |p: &Permission| *p != Permission::Own && self.may(*p);
        let mut reach = Reach { everywhere: one_of.iter().any(everywhere), ..Reach::default() };
        if one_of.contains(&Permission::Own) && self.may(Permission::Own) {
            reach.own = self.user;
        }
        for grant in &self.grants {
            reach.add(grant, one_of);
        }
        reach
    }
}

/// What is left of a role's permissions with a login that is for these only.
fn permissions(role: Role, only: Option<&[Permission]>) -> Vec<Permission> {
    let all = role.permissions().iter().copied();
    all.filter(|permission| only.is_none_or(|only| only.contains(permission))).collect()
}

impl Store {
    /// Keeps a cookie's login, see [`Store::create_token`].
    ///
    /// # Errors
    /// [`Error::NotFound`] when the user was deleted meanwhile, or a database fault.
    pub async fn create_cookie(&self, user: UserId, name: &str, hash: &[u8]) -> Result<i64> {
        let whole = NewToken { life: COOKIE_IDLE, permissions: None };
        self.create_login(user, name, LoginKind::Cookie, whole, hash).await
    }

    /// Keeps a token with the given sha256 and tells when it ends, seconds since the epoch.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the user was deleted meanwhile, or a database fault.
    pub async fn create_token(&self, user: UserId, name: &str, new: NewToken, hash: &[u8]) -> Result<i64> {
        self.create_login(user, name, LoginKind::Token, new, hash).await
    }

    /// Keeps a login with the given sha256 of its token and tells when it ends, seconds since the epoch.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the user was deleted meanwhile, or a database fault.
    async fn create_login(
        &self,
        user: UserId,
        name: &str,
        kind: LoginKind,
        new: NewToken,
        hash: &[u8],
    ) -> Result<i64> {
        let detail = match (kind, &new.permissions) {
            (LoginKind::Cookie, _) => "cookie".to_owned(),
            (LoginKind::Token, None) => "token".to_owned(),
            (LoginKind::Token, Some(only)) => {
                let words: Vec<_> = only.iter().map(|permission| permission.as_str()).collect();
                format!("token for {}", words.join(", "))
            }
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
            let (created_at, expires_at) = (now, now + new.life);
            let permissions = new.permissions.clone().map(Json);
            tx.insert(&Login {
                hash: hash.clone(),
                user_id: user,
                kind,
                created_at,
                expires_at,
                permissions,
            })?;
            tx.audit(&name, "login.created", &name, &detail)?;
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
                let Some(user) = user else { return Ok(None) };
                let only = login.permissions.map(|only| only.0);
                let grants = scoped_roles::grants(tx, user.id, only.as_deref())?;
                Ok(Some((user, only, grants, aged)))
            })
            .await?;
        let Some((user, only, grants, aged)) = found else { return Ok(None) };
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
        Ok(Some(Caller {
            user: Some(user.id),
            name: user.name,
            role: user.role,
            permissions: permissions(user.role, only.as_deref()),
            grants,
            login: Some(hash.to_vec()),
        }))
    }

    /// Who holds the logins with these sha256s, of those that live. No cookie's life is prolonged by it: nobody did anything.
    ///
    /// # Errors
    /// A database fault.
    pub async fn callers(&self, hashes: BTreeSet<Vec<u8>>) -> Result<HashMap<Vec<u8>, Caller>> {
        self.read(move |tx| {
            let (now, mut logins) = (tx.now(), Vec::new());
            for hash in &hashes {
                logins.extend(tx.peek(Login::key(hash))?.filter(|login| login.expires_at > now));
            }
            let users = tx.peek_all(logins.iter().map(|login| User::key(&login.user_id)))?;
            let users: HashMap<_, _> = users.into_iter().map(|user| (user.id, user)).collect();
            let mut callers = HashMap::new();
            for login in logins {
                let user = users.get(&login.user_id).filter(|user| user.deleted_at.is_none());
                let Some(user) = user else { continue };
                let only = login.permissions.as_ref().map(|only| only.0.as_slice());
                let caller = Caller {
                    user: Some(user.id),
                    name: user.name.clone(),
                    role: user.role,
                    permissions: permissions(user.role, only),
                    grants: scoped_roles::grants(tx, user.id, only)?,
                    login: Some(login.hash.clone()),
                };
                callers.insert(login.hash, caller);
            }
            Ok(callers)
        })
        .await
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
