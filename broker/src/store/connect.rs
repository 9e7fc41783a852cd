//! The claim: in one transaction, a user gets their desktop of a pool, or a fresh one, with session and audit row.

use super::sessions::{self, SessionRow};
use super::{DesktopRow, Ended, Error, Result, Store, all, desktops, end, pools};
use crate::plan::{self, Candidate, NoChoice, World};
use lucarne_control::api::SessionState;
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_control::spec::TemplateSpec;
use lucarne_control::{DesktopId, SessionId, UserId};
use lucarne_db::tables::{Assignment, Desktop, Host, HostImage, Placement, Pool, Session, User};
use lucarne_db::value::Json;
use lucarne_db::{Locked, Tx};
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// Who wants a desktop of which pool.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// The user.
    pub user: UserId,
    /// Who asks: the user, or an administrator for them.
    pub actor: String,
    /// The pool's name or id.
    pub pool: String,
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

/// A request that may be served.
struct Claim<'a> {
    request: &'a ConnectRequest,
    pool: Pool,
    user: User,
}

impl Store {
    /// Gives the user their desktop of the pool: the live one, or a fresh one when there is none or it died.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotEntitled`], [`Error::PoolFull`], [`Error::NoHost`],
    /// [`Error::TemplateFailed`], or a database fault; nothing was changed then.
    pub async fn connect(&self, request: ConnectRequest, world: Arc<dyn World>) -> Result<Assigned> {
        self.write(move |tx| connect(tx, &request, &*world)).await
    }
}

fn connect(tx: &mut Tx<'_>, request: &ConnectRequest, world: &dyn World) -> Result<Assigned> {
    let user = tx.share(User::key(&request.user))?.filter(|user| user.deleted_at.is_none());
    let user = user.ok_or_else(|| Error::not_found("user", request.user))?;
    let id = pools::find(tx, &request.pool)?.id;
    if !pools::entitled(tx, user.id, id)? {
        let pool = tx.peek(Pool::key(&id))?.map(|pool| pool.name).unwrap_or_default();
        return Err(Error::NotEntitled { user: user.name, pool });
    }
    let mut replaced = None;
    if let Some(assignment) = tx.find(Assignment::live_in_pool(&user.id, &id))? {
        let desktop = tx.lock(Desktop::key(&assignment.desktop_id))?;
        // Whoever ended it meanwhile has ended the assignment too.
        if let Some(desktop) = desktop.filter(|d| d.is_wanted() && d.assigned) {
            match world.failure(desktop.id, if desktop.placed { desktop.generation } else { 0 }) {
                Some(reason) => replaced = end::failed(tx, desktop.id, &reason)?,
                None => {
                    let pool =
                        tx.peek(Pool::key(&id))?.ok_or_else(|| Error::not_found("pool", &request.pool))?;
                    return finish(tx, &Claim { request, pool, user }, desktop.id, false, None);
                }
            }
        }
    }
    let pool = tx.lock(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none());
    let mut pool = pool.ok_or_else(|| Error::not_found("pool", &request.pool))?;
    if pool.desktops >= pool.max_desktops {
        return Err(Error::PoolFull { pool: pool.name.clone(), max: i64::from(pool.max_desktops) });
    }
    let host = choose(tx, &pool, world)?;
    pool.desktops += 1;
    tx.update(&pool)?;
    let claim = Claim { request, pool: pool.into_row(), user };
    let earlier = earlier_failure(tx, &claim)?;
    let (desktop, name) = insert(tx, &claim, host)?;
    let mut detail = format!("a fresh desktop of {} for {}", claim.pool.name, claim.user.name);
    if let Some(earlier) = earlier {
        detail += &format!(", in the place of {earlier}");
    }
    tx.audit(&request.actor, "desktop.assigned", &name, &detail)?;
    finish(tx, &claim, desktop, true, replaced)
}

/// The user's last desktop of the pool, when it died: the audit log tells why there is a fresh one.
fn earlier_failure(tx: &mut Tx<'_>, claim: &Claim<'_>) -> Result<Option<String>> {
    let last = Assignment::of_user_in_pool(&claim.user.id, &claim.pool.id).newest_first();
    let last = tx.find(last)?.filter(|last| last.end_reason.as_deref() == Some(end::FAILED));
    let desktop = last.map(|last| tx.peek(Desktop::key(&last.desktop_id))).transpose()?.flatten();
    Ok(desktop.map(|desktop| format!("{}, which failed: {}", desktop.name, desktop.detail)))
}

/// The best host, held until the end, with room for the desktop.
fn choose(tx: &mut Tx<'_>, pool: &Pool, world: &dyn World) -> Result<Locked<Host>> {
    let template = pool.template();
    let needed = u64::from(template.machine.memory_mib);
    let mut with_image = HashSet::new();
    for image in tx.list(HostImage::of(&template.image))? {
        with_image.insert(image.host_id);
    }
    let mut hosts = all(tx, Host::all, |host| host.id)?;
    loop {
        let candidates: Vec<Candidate> = hosts
            .iter()
            .map(|host| Candidate {
                host: host.id,
                name: host.name.clone(),
                memory_mib: host.facts.0.memory_mib,
                promised_mib: host.promised_mib,
                has_image: with_image.contains(&host.id),
                seen: world.host(host.id, &template),
            })
            .collect();
        let name = pool.name.clone();
        let chosen = plan::choose_host(&candidates, needed).map_err(|e| match e {
            NoChoice::NoHost(reason) => Error::NoHost { pool: name, reason },
            NoChoice::TemplateFailed(reason) => Error::TemplateFailed { pool: name, reason },
        })?;
        let locked = tx.lock(Host::key(&chosen))?;
        // What was promised there meanwhile counts.
        let fits = |host: &Host| host.promised_mib + needed <= host.facts.0.memory_mib * plan::MEMORY_PROMISE;
        match locked {
            Some(host) if fits(&host) => return Ok(host),
            Some(host) => {
                hosts.iter_mut().filter(|h| h.id == chosen).for_each(|h| h.promised_mib = host.promised_mib)
            }
            None => hosts.retain(|h| h.id != chosen),
        }
    }
}

/// Inserts the desktop with its identity, its placement and its assignment.
fn insert(tx: &mut Tx<'_>, claim: &Claim<'_>, mut host: Locked<Host>) -> Result<(DesktopId, String)> {
    let (id, now) = (DesktopId(tx.uuid()), tx.now());
    let random = Uuid::new_v4();
    let bytes = Uuid::new_v4().into_bytes();
    let memory_mib = u64::from(claim.pool.machine.0.memory_mib);
    let desktop = Desktop {
        id,
        pool_id: claim.pool.id,
        name: hostname(&claim.pool.name, &random),
        machine_id: random.simple().to_string(),
        // Locally administered, unicast (IEEE 802, section 8.2): never the address of a real card.
        mac: format!("52:54:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3]),
        desired: DesiredState::Running,
        desired_gen: 1,
        phase: Phase::Placing,
        detail: String::new(),
        timings: Json::default(),
        host_id: Some(host.id),
        generation: 1,
        placed: true,
        user_id: Some(claim.user.id),
        assigned: true,
        created_at: now,
        ended_at: None,
    };
    tx.insert(&desktop)?;
    tx.insert(&Placement {
        desktop_id: id,
        generation: desktop.generation,
        host_id: host.id,
        memory_mib,
        created_at: now,
        freed_at: None,
    })?;
    host.revision += 1;
    host.desktops += 1;
    host.promised_mib += memory_mib;
    tx.update(&host)?;
    let assignment = Assignment {
        id: tx.uuid(),
        desktop_id: id,
        user_id: claim.user.id,
        pool_id: claim.pool.id,
        created_at: now,
        ended_at: None,
        end_reason: None,
    };
    tx.insert(&assignment)?;
    Ok((id, desktop.name))
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
fn session(tx: &mut Tx<'_>, claim: &Claim<'_>, desktop: DesktopId) -> Result<SessionRow> {
    if let Some(live) = tx.find(Session::live_on(&desktop))? {
        return sessions::view(tx, live);
    }
    let session = Session {
        id: SessionId(tx.uuid()),
        user_id: claim.user.id,
        pool_id: claim.pool.id,
        desktop_id: desktop,
        state: SessionState::Connecting,
        created_at: tx.now(),
        ended_at: None,
        end_reason: None,
    };
    tx.insert(&session)?;
    let subject = format!("{} of {}", session.id, claim.user.name);
    tx.audit(&claim.request.actor, "session.created", &subject, &format!("on {desktop}"))?;
    sessions::view(tx, session)
}

fn finish(
    tx: &mut Tx<'_>,
    claim: &Claim<'_>,
    desktop: DesktopId,
    fresh: bool,
    replaced: Option<Ended>,
) -> Result<Assigned> {
    let session = match claim.request.session {
        true => Some(session(tx, claim, desktop)?),
        false => None,
    };
    let template = claim.pool.template();
    Ok(Assigned { desktop: desktops::view(tx, desktop)?, session, template, fresh, replaced })
}
