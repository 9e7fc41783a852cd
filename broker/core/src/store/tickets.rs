//! Tickets: the right to open one stream to one session, once, soon, as an owner, to look, or as a shadow. Kept only as
//! their sha256.

use super::{Error, PlacedDesktop, Result, Store, pools, sessions, shadows};
use crate::Entry;
use lucarne_control::viewer::ViewerWish;
use lucarne_control::{SessionId, ShadowId};
use lucarne_db::Tx;
use lucarne_db::tables::{Pool, Session, Ticket, User};
use lucarne_mutants::mutant;

/// Time to redeem a ticket, milliseconds. Longer: a leaked one is of use for longer. Shorter: slow links miss it.
const LIFE: i64 = 30_000;

/// Old tickets that are forgotten with each new one: more than come, so that none pile up.
const FORGET: usize = 4;

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

/// Keeps a ticket; [`Error::SessionEnded`] when the session or the placement ended meanwhile.
pub(super) fn insert(tx: &mut Tx<'_>, new: &New<'_>) -> Result<()> {
    let now = tx.now();
    for ticket in tx.claim(Ticket::by_expiry().up_to(&now).limit(FORGET))? {
        tx.delete(ticket)?;
    }
    if sessions::hold_placed(tx, new.session)?.generation != new.generation {
        return Err(Error::SessionEnded(new.session.to_string()));
    }
    if new.shadow.is_none() {
        let session =
            tx.peek(Session::key(&new.session))?.ok_or_else(|| Error::not_found("session", new.session))?;
        if !pools::entitled(tx, session.user_id, session.pool_id)? {
            let user = tx.peek(User::key(&session.user_id))?.map(|user| user.name).unwrap_or_default();
            let pool = tx.peek(Pool::key(&session.pool_id))?.map(|pool| pool.name).unwrap_or_default();
            return Err(Error::NotEntitled { user, pool });
        }
    }
    tx.insert(&Ticket {
        hash: new.hash.to_vec(),
        session_id: new.session,
        generation: new.generation,
        wish: new.wish,
        shadow_id: new.shadow,
        expires_at: now + LIFE,
        used_at: None,
    })?;
    Ok(())
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
        let hash = hash.to_vec();
        self.write(move |tx| insert(tx, &New { session, generation, hash: &hash, wish, shadow: None })).await
    }

    /// Redeems the ticket with the given sha256, once. `None` for a ticket that is unknown, used, expired, or whose session
    /// or placement has ended. A shadow's begins to watch, on record.
    ///
    /// # Errors
    /// A database fault.
    pub async fn redeem_ticket(&self, hash: &[u8]) -> Result<Option<Redeemed>> {
        let hash = hash.to_vec();
        self.write(move |tx| {
            let now = tx.now();
            let ticket = tx.lock(Ticket::key(&hash))?;
            let unused = |t: &Ticket| t.used_at.is_none() || mutant("a ticket is good for more than once");
            let Some(mut ticket) = ticket.filter(|t| unused(t) && t.expires_at > now) else {
                return Ok(None);
            };
            // Used up whatever it is good for.
            ticket.used_at = Some(now);
            tx.update(&ticket)?;
            let session = ticket.session_id;
            let placed = match sessions::hold_placed(tx, session) {
                Ok(placed) if placed.generation == ticket.generation => placed,
                _ if mutant("a ticket outlives its session") => PlacedDesktop {
                    desktop: lucarne_control::DesktopId(session.0),
                    host: lucarne_control::HostId(session.0),
                    generation: ticket.generation,
                },
                Ok(_) | Err(Error::SessionEnded(_) | Error::NotFound { .. }) => return Ok(None),
                Err(e) => return Err(e),
            };
            let (entry, user) = match ticket.shadow_id {
                Some(id) => match shadows::begin(tx, id)? {
                    Some(shadow) => (shadow.entry(), shadow.administrator()),
                    None => return Ok(None),
                },
                None => {
                    let owner = tx.peek(Session::key(&session))?.map(|s| User::key(&s.user_id));
                    let owner = owner.map(|key| tx.peek(key)).transpose()?.flatten();
                    (Entry::User(ticket.wish), owner.map(|user| user.name).unwrap_or_default())
                }
            };
            Ok(Some(Redeemed { session, placed, entry, user, shadow: ticket.shadow_id }))
        })
        .await
    }
}
