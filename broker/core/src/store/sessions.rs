//! Sessions: one user's use of one desktop.

use super::{Error, Object, PlacedDesktop, Reach, Result, Store, pools, rows, seconds, timers};
use lucarne_control::api::{self, SessionState};
use lucarne_control::spec::RecordingMode;
use lucarne_control::{BrokerId, PoolId, SessionId, UserId};
use lucarne_db::Tx;
use lucarne_db::tables::{Broker, Desktop, Host, Pool, Session, User};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Why a broker's viewers have no part in a session any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// It ended, for this reason.
    Ended(String),
    /// It is used through another broker.
    Elsewhere,
    /// Its desktop's host may not connect any more.
    HostDenied,
    /// Its user may not use the pool any more.
    NotEntitled,
}

/// A session and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// The session as the API shows it.
    pub session: api::Session,
    /// The owner.
    pub user: UserId,
    /// The desktop's pool.
    pub pool: PoolId,
}

impl SessionRow {
    /// What it is to who may do something with some desktops.
    #[must_use]
    pub fn object(&self) -> Object {
        Object::Desktop { pool: self.pool, owner: Some(self.user) }
    }
}

/// Sessions with the names that they are shown with.
pub(super) fn views(tx: &mut Tx<'_>, sessions: Vec<Session>) -> Result<Vec<SessionRow>> {
    let users: HashMap<_, _> = tx
        .peek_all(sessions.iter().map(|s| User::key(&s.user_id)))?
        .into_iter()
        .map(|u| (u.id, u.name))
        .collect();
    let pools: HashMap<_, _> =
        tx.peek_all(sessions.iter().map(|s| Pool::key(&s.pool_id)))?.into_iter().map(|p| (p.id, p)).collect();
    let desktops = tx.peek_all(sessions.iter().map(|s| Desktop::key(&s.desktop_id)))?;
    let desktops: HashMap<_, _> = desktops.into_iter().map(|d| (d.id, d)).collect();
    let view = |s: Session| {
        let pool = pools.get(&s.pool_id).ok_or_else(|| Error::not_found("pool", s.pool_id))?;
        let user = users.get(&s.user_id).map(String::as_str).unwrap_or_default();
        let desktop = desktops.get(&s.desktop_id);
        Ok(row(s, user, pool, desktop))
    };
    sessions.into_iter().map(view).collect()
}

/// A session with its user's name, its pool and its desktop.
pub(super) fn row(s: Session, user: &str, pool: &Pool, desktop: Option<&Desktop>) -> SessionRow {
    let policy = desktop.map_or(pool.policy.0, |desktop| desktop.policy(pool));
    SessionRow {
        user: s.user_id,
        pool: pool.id,
        session: api::Session {
            id: s.id,
            user: user.to_owned(),
            pool: pool.name.clone(),
            desktop: s.desktop_id,
            desktop_name: desktop.map(|desktop| desktop.name.clone()).unwrap_or_default(),
            state: s.state,
            viewers: Vec::new(),
            created_at: seconds(s.created_at),
            ended_at: s.ended_at.map(seconds),
            recorded: policy.recording.mode != RecordingMode::Off,
            clipboard: policy.clipboard,
        },
    }
}

/// A session with the names that it is shown with.
fn view(tx: &mut Tx<'_>, session: Session) -> Result<SessionRow> {
    let id = session.id;
    views(tx, vec![session])?.pop().ok_or_else(|| Error::not_found("session", id))
}

/// As [`placed`]; neither session nor placement ends before the transaction does.
pub(super) fn hold_placed(tx: &mut Tx<'_>, id: SessionId) -> Result<PlacedDesktop> {
    let session = tx.peek(Session::key(&id))?.ok_or_else(|| Error::not_found("session", id))?;
    tx.share(Desktop::key(&session.desktop_id))?;
    tx.share(Session::key(&id))?;
    placed(tx, id)
}

/// Where a live session's desktop is.
fn placed(tx: &mut Tx<'_>, id: SessionId) -> Result<PlacedDesktop> {
    let session = tx.peek(Session::key(&id))?.ok_or_else(|| Error::not_found("session", id))?;
    let desktop = tx.peek(Desktop::key(&session.desktop_id))?;
    match desktop.map(|d| (d.id, d.host_id, d.placed, d.generation)) {
        Some((desktop, Some(host), true, generation)) if session.ended_at.is_none() => {
            Ok(PlacedDesktop { desktop, host, generation })
        }
        _ => Err(Error::SessionEnded(id.to_string())),
    }
}

impl Store {
    /// The session of that id, live or ended.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn session(&self, id: SessionId) -> Result<SessionRow> {
        self.read(move |tx| {
            let session = tx.peek(Session::key(&id))?.ok_or_else(|| Error::not_found("session", id))?;
            view(tx, session)
        })
        .await
    }

    /// At most `limit` sessions of this reach after this one, oldest first: the live ones, or the ended too.
    ///
    /// # Errors
    /// A database fault.
    pub async fn sessions(
        &self,
        of: &Reach,
        ended_too: bool,
        after: Option<SessionId>,
        limit: i64,
    ) -> Result<Vec<SessionRow>> {
        let of = of.clone();
        self.read(move |tx| {
            let sieve = of.sieve(tx)?;
            let select = || match of.only_own() {
                Some(user) => Session::of_user(&user),
                None if ended_too => Session::all(),
                None => Session::live(),
            };
            let fits = |session: &Session| {
                (ended_too || session.ended_at.is_none())
                    && sieve.holds(session.pool_id, Some(session.user_id))
            };
            let sessions = super::page(tx, select, |session| session.id, after, rows(limit), fits)?;
            views(tx, sessions)
        })
        .await
    }

    /// Of these sessions, those that a broker's viewers have no part in any more.
    ///
    /// # Errors
    /// A database fault.
    pub async fn not_here(
        &self,
        sessions: Vec<SessionId>,
        broker: BrokerId,
    ) -> Result<Vec<(SessionId, Over)>> {
        self.read(move |tx| {
            let rows = tx.peek_all(sessions.iter().map(Session::key))?;
            let desktops = tx.peek_all(rows.iter().map(|session| Desktop::key(&session.desktop_id)))?;
            let at: BTreeMap<_, _> = desktops.into_iter().filter_map(|d| Some((d.id, d.host_id?))).collect();
            let hosts: BTreeSet<_> = at.values().collect();
            let hosts = tx.peek_all(hosts.into_iter().map(Host::key))?;
            let denied: Vec<_> = hosts.iter().filter(|h| h.denied_at.is_some()).map(|h| h.id).collect();
            let entitled = pools::all_entitled(tx, rows.iter().map(|s| (s.user_id, s.pool_id)))?;
            let over = |session: Session| {
                let over = match session.ended_at {
                    Some(_) => Over::Ended(session.end_reason.unwrap_or_default()),
                    None if session.broker_id.is_some_and(|at| at != broker) => Over::Elsewhere,
                    None if at.get(&session.desktop_id).is_some_and(|host| denied.contains(host)) => {
                        Over::HostDenied
                    }
                    None if !entitled.contains(&(session.user_id, session.pool_id)) => Over::NotEntitled,
                    None => return None,
                };
                Some((session.id, over))
            };
            Ok(rows.into_iter().filter_map(over).collect())
        })
        .await
    }

    /// Where a live session's desktop is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], or a database fault.
    pub async fn session_desktop(&self, id: SessionId) -> Result<PlacedDesktop> {
        self.read(move |tx| placed(tx, id)).await
    }

    /// Notes that a viewer with control came through this broker; nothing for an ended session.
    ///
    /// # Errors
    /// A database fault.
    pub async fn session_connected(&self, id: SessionId, broker: BrokerId) -> Result<()> {
        self.write(move |tx| {
            // One that was ended has no part in it any more.
            if tx.share(Broker::key(&broker))?.is_none_or(|broker| broker.ended_at.is_some()) {
                return Ok(());
            }
            let Some(mut session) = tx.lock(Session::key(&id))?.filter(|s| s.ended_at.is_none()) else {
                return Ok(());
            };
            if session.state != SessionState::Connected || session.broker_id != Some(broker) {
                (session.state, session.broker_id) = (SessionState::Connected, Some(broker));
                tx.update(&session)?;
                if let Some(pool) = tx.peek(Pool::key(&session.pool_id))? {
                    timers::used(tx, &session, &pool)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Notes that none of this broker's viewers of a session is left; nothing where it is used through another.
    ///
    /// # Errors
    /// A database fault.
    pub async fn session_disconnected(&self, id: SessionId, broker: BrokerId) -> Result<()> {
        self.write(move |tx| {
            let here = |s: &Session| s.ended_at.is_none() && s.broker_id == Some(broker);
            let Some(mut session) = tx.lock(Session::key(&id))?.filter(|s| here(s)) else { return Ok(()) };
            (session.state, session.broker_id) = (SessionState::Disconnected, None);
            tx.update(&session)?;
            match tx.peek(Pool::key(&session.pool_id))? {
                Some(pool) => timers::left(tx, &session, &pool),
                None => Ok(()),
            }
        })
        .await
    }
}
