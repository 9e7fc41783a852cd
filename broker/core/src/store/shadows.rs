//! Administrators' wishes to watch a session, each step with its row in the audit log.
//!
//! ```text
//! asked ──► allowed (with a ticket) ── ticket redeemed ──► watching ──► ended
//!    └────► denied       └──────────── never ────────────────────────────┘
//! ```

use super::{Error, Object, Reach, Result, Store, reach, scoped_roles, tickets};
use crate::Entry;
use lucarne_control::api::Permission;
use lucarne_control::viewer::ShadowPolicy;
use lucarne_control::{BrokerId, SessionId, ShadowId};
use lucarne_db::tables::{Pool, Session, Shadow, ShadowState, User};
use lucarne_db::{Locked, Tx};

/// Who wants to watch what.
#[derive(Clone, Copy)]
pub struct ShadowRequest<'a> {
    /// The administrator's name.
    pub administrator: &'a str,
    /// The session.
    pub session: SessionId,
    /// With keyboard and pointer.
    pub control: bool,
    /// What for.
    pub reason: &'a str,
    /// Through which broker.
    pub broker: BrokerId,
}

/// A wish that the pool's policy does not forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedShadow {
    /// Its id.
    pub id: ShadowId,
    /// The user has to be asked.
    pub consent: bool,
}

/// A wish that took a step.
pub(super) struct Stepped {
    row: Locked<Shadow>,
    /// The session and its user, for the audit log.
    subject: String,
}

impl Stepped {
    pub fn entry(&self) -> Entry {
        Entry::Shadow { control: self.row.control, consent: self.row.consent }
    }

    pub fn administrator(&self) -> String {
        self.row.administrator.clone()
    }
}

fn subject(tx: &mut Tx<'_>, session: SessionId) -> Result<String> {
    let owner = tx.peek(Session::key(&session))?.map(|s| User::key(&s.user_id));
    let owner = owner.map(|key| tx.peek(key)).transpose()?.flatten();
    Ok(format!("{session} of {}", owner.map(|user| user.name).unwrap_or_default()))
}

fn how(control: bool) -> &'static str {
    if control { "with keyboard and pointer" } else { "view only" }
}

/// Takes a wish from one state to another; `None` when it is not in the first.
fn step(tx: &mut Tx<'_>, id: ShadowId, from: ShadowState, to: ShadowState) -> Result<Option<Stepped>> {
    let Some(mut row) = tx.lock(Shadow::key(&id))?.filter(|row| row.state == from) else { return Ok(None) };
    row.state = to;
    if matches!(to, ShadowState::Denied | ShadowState::Ended) {
        row.ended_at = Some(tx.now());
    }
    tx.update(&row)?;
    let subject = subject(tx, row.session_id)?;
    Ok(Some(Stepped { row, subject }))
}

/// A ticket of the wish was redeemed; `None` when nobody allowed it.
pub(super) fn begin(tx: &mut Tx<'_>, id: ShadowId) -> Result<Option<Stepped>> {
    let stepped = step(tx, id, ShadowState::Allowed, ShadowState::Watching)?;
    if let Some(Stepped { row, subject }) = &stepped {
        tx.audit(&row.administrator, "shadow.began", subject, how(row.control))?;
    }
    Ok(stepped)
}

/// A wish is over because the broker that it goes through is.
pub(super) fn broke_off(tx: &mut Tx<'_>, shadow: &Shadow, why: &str) -> Result<()> {
    let (to, action) = match shadow.state {
        ShadowState::Asked => (ShadowState::Denied, "shadow.denied"),
        _ => (ShadowState::Ended, "shadow.ended"),
    };
    if let Some(Stepped { subject, .. }) = step(tx, shadow.id, shadow.state, to)? {
        tx.audit("system", action, &subject, &format!("its broker is gone: {why}"))?;
    }
    Ok(())
}

/// Whether the roles of the user of that name let them watch a session.
fn may_watch(tx: &mut Tx<'_>, session: SessionId, name: &str) -> Result<bool> {
    let Some(user) = tx.find(User::named(name))? else { return Ok(false) };
    if user.role.permissions().contains(&Permission::DesktopsWatch) {
        return Ok(true);
    }
    let Some(session) = tx.peek(Session::key(&session))? else { return Ok(false) };
    let mut within = Reach::default();
    for grant in scoped_roles::grants(tx, user.id, Some(&[Permission::DesktopsWatch]))? {
        within.add(&grant, &[Permission::DesktopsWatch]);
    }
    reach::holds(tx, &within, Object::Desktop { pool: session.pool_id, owner: Some(session.user_id) })
}

impl Store {
    /// Puts a wish on record, if the session's pool does not forbid it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], [`Error::ShadowOff`], [`Error::ShadowControlOff`], or a database
    /// fault.
    pub async fn ask_shadow(&self, request: &ShadowRequest<'_>) -> Result<AskedShadow> {
        let ShadowRequest { session: session_id, control, broker, .. } = *request;
        let (administrator, reason) = (request.administrator.to_owned(), request.reason.to_owned());
        self.write(move |tx| {
            let missing = || Error::not_found("session", session_id);
            let pool = tx.peek(Session::key(&session_id))?.ok_or_else(missing)?.pool_id;
            let pool = tx.share(Pool::key(&pool))?.ok_or_else(|| Error::not_found("pool", pool))?;
            let session = tx.share(Session::key(&session_id))?.ok_or_else(missing)?;
            if session.ended_at.is_some() {
                return Err(Error::SessionEnded(session_id.to_string()));
            }
            let consent = match pool.policy.0.shadow {
                ShadowPolicy::Off => return Err(Error::ShadowOff { pool: pool.name }),
                ShadowPolicy::WithConsent => true,
                ShadowPolicy::WithNotice => false,
            };
            if control && !pool.policy.0.shadow_control {
                return Err(Error::ShadowControlOff { pool: pool.name });
            }
            let shadow = Shadow {
                id: ShadowId(tx.uuid()),
                session_id,
                administrator: administrator.clone(),
                control,
                consent,
                state: ShadowState::Asked,
                broker_id: Some(broker),
                created_at: tx.now(),
                ended_at: None,
            };
            tx.insert(&shadow)?;
            let subject = subject(tx, session_id)?;
            let mut detail = how(control).to_owned();
            if !reason.is_empty() {
                detail += &format!(": {reason}");
            }
            tx.audit(&administrator, "shadow.asked", &subject, &detail)?;
            Ok(AskedShadow { id: shadow.id, consent })
        })
        .await
    }

    /// Allows a wish, with a ticket of the given sha256 to the session on the placement of this generation.
    ///
    /// # Errors
    /// [`Error::SessionEnded`] when the session or its placement ended meanwhile, [`Error::NotFound`] when nobody
    /// asks any more, or a database fault.
    pub async fn allow_shadow(&self, id: ShadowId, by: &str, generation: u64, hash: &[u8]) -> Result<()> {
        let (by, hash) = (by.to_owned(), hash.to_vec());
        self.write(move |tx| {
            let stepped = step(tx, id, ShadowState::Asked, ShadowState::Allowed)?;
            let Stepped { row, subject } = stepped.ok_or_else(|| Error::not_found("shadow", id))?;
            let (session, wish) = (row.session_id, Default::default());
            tickets::insert(tx, &tickets::New { session, generation, hash: &hash, wish, shadow: Some(id) })?;
            Ok(tx.audit(&by, "shadow.allowed", &subject, &format!("{} may", row.administrator))?)
        })
        .await
    }

    /// Denies a wish that is still open.
    ///
    /// # Errors
    /// A database fault.
    pub async fn deny_shadow(&self, id: ShadowId, by: &str, why: &str) -> Result<()> {
        let (by, why) = (by.to_owned(), why.to_owned());
        self.write(move |tx| {
            if let Some(Stepped { row, subject }) = step(tx, id, ShadowState::Asked, ShadowState::Denied)? {
                let detail = format!("{} may not: {why}", row.administrator);
                tx.audit(&by, "shadow.denied", &subject, &detail)?;
            }
            Ok(())
        })
        .await
    }

    /// Of users who watch sessions, by name, those who may not any more, whatever they came with.
    ///
    /// # Errors
    /// A database fault.
    pub async fn may_not_watch(
        &self,
        watching: Vec<(SessionId, String)>,
    ) -> Result<Vec<(SessionId, String)>> {
        self.read(move |tx| {
            let mut over = Vec::new();
            for (session, name) in &watching {
                if !may_watch(tx, *session, name)? {
                    over.push((*session, name.clone()));
                }
            }
            Ok(over)
        })
        .await
    }

    /// Notes that a shadow that began is over.
    ///
    /// # Errors
    /// A database fault.
    pub async fn end_shadow(&self, id: ShadowId, why: &str) -> Result<()> {
        let why = why.to_owned();
        self.write(move |tx| {
            if let Some(Stepped { row, subject }) = step(tx, id, ShadowState::Watching, ShadowState::Ended)? {
                tx.audit(&row.administrator, "shadow.ended", &subject, &why)?;
            }
            Ok(())
        })
        .await
    }
}
