//! What can go wrong in the store: refusals that the caller can do something about, and faults of the database.

use lucarne_control::agent::Followed;
use lucarne_control::api::Role;
use lucarne_db::Fault;

/// The store's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store did not do what was asked. Every refusal leaves the database as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed, or holds what cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is no such thing, or it is not the caller's.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// What kind of thing: `pool`, `user`, `session` and so on.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is already a {what} named {name:?}; choose another name or delete it first")]
    NameTaken {
        /// What kind of thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The user may not use the pool.
    #[error(
        "{user} is not entitled to the pool {pool:?}; ask an administrator to entitle the user or one of their groups"
    )]
    NotEntitled {
        /// The user's name.
        user: String,
        /// The pool's name.
        pool: String,
    },
    /// The pool has as many desktops as it may have.
    #[error(
        "all {max} desktops of the pool {pool:?} are in use; try again when someone has logged off, or ask an administrator to raise the limit"
    )]
    PoolFull {
        /// The pool's name.
        pool: String,
        /// The limit.
        max: i64,
    },
    /// The user, or a group of theirs, has as many desktops as it may have.
    #[error(
        "the {what} {name} has {max} desktop(s), which is as many as it may have at once; log off from one first, or ask an administrator to raise the limit"
    )]
    QuotaReached {
        /// `user` or `group`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The limit.
        max: u32,
    },
    /// The desktop is destroyed when its user logs off, and not powered off.
    #[error("{desktop} is no personal desktop, and cannot be powered off; log its user off, or destroy it")]
    NotPersonal {
        /// The desktop's name.
        desktop: String,
    },
    /// The desktop is destroyed when its user logs off, and has no yesterday.
    #[error("{desktop} is no personal desktop, and has no snapshots: it is destroyed when its user logs off")]
    NoSnapshots {
        /// The desktop's name.
        desktop: String,
    },
    /// A clone would have another template than what it is made of.
    #[error(
        "{desktop} cannot be cloned to the pool {pool:?}: clones go to personal pools of the same image, machine and network; choose such a pool"
    )]
    OtherTemplate {
        /// The desktop's name.
        desktop: String,
        /// The pool's name.
        pool: String,
    },
    /// The desktop has as many snapshots as it may have.
    #[error(
        "{desktop} has {max} snapshots, which is as many as it may have; delete one first, or ask an administrator to raise the limit"
    )]
    TooManySnapshots {
        /// The desktop's name.
        desktop: String,
        /// The limit.
        max: u32,
    },
    /// There is nothing of it yet.
    #[error("{desktop} is just being made; try again when it is ready")]
    NotMade {
        /// The desktop's name.
        desktop: String,
    },
    /// The desktop's host is worked on, and nothing runs there.
    #[error(
        "{desktop} is on the host {host}, which is being worked on; try again later, or ask an administrator"
    )]
    HostInMaintenance {
        /// The desktop's name.
        desktop: String,
        /// The host's name.
        host: String,
    },
    /// No host can take the desktop.
    #[error("no host can run a desktop of the pool {pool:?}: {reason}")]
    NoHost {
        /// The pool's name.
        pool: String,
        /// Why each host was passed over.
        reason: String,
    },
    /// The template could not be made on any host.
    #[error("desktops of the pool {pool:?} cannot be made: {reason}")]
    TemplateFailed {
        /// The pool's name.
        pool: String,
        /// What the hosts say.
        reason: String,
    },
    /// The session has ended.
    #[error("the session {0} has ended; connect to the pool again")]
    SessionEnded(String),
    /// The user has a desktop of the pool.
    #[error(
        "{user} already has the desktop {desktop} of the pool {pool:?}; destroy it first for a fresh one"
    )]
    AlreadyAssigned {
        /// The user's name.
        user: String,
        /// The pool's name.
        pool: String,
        /// The desktop's name.
        desktop: String,
    },
    /// Something else still needs it.
    #[error("the {what} {name:?} is in use: {by}")]
    InUse {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// By what, and what to do.
        by: String,
    },
    /// What the desktops of a pool are forked from does not change.
    #[error(
        "what its desktops are forked from cannot be changed, and its {what} is {is}. Leave it as it is with {hint}, make a pool of \
         another name, or delete this one first"
    )]
    PoolFixed {
        /// `image` or `machine`.
        what: &'static str,
        /// What it is.
        is: String,
        /// How it is written.
        hint: String,
    },
    /// What would be done is not what the plan of that revision said.
    #[error(
        "the pools have changed since the plan was made, and nothing was done; look at a new plan, and apply that"
    )]
    PlanOutdated,
    /// Something stands in the way of what was to be done.
    #[error("nothing was done: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    PlanRefused(Vec<Obstacle>),
    /// The image's name or digest prefix stands for none or for several.
    #[error("{0}")]
    ImageUnclear(String),
    /// The pool lets nobody watch.
    #[error("sessions of the pool {pool:?} cannot be watched: its shadow policy is off")]
    ShadowOff {
        /// The pool's name.
        pool: String,
    },
    /// The pool lets nobody type for the user.
    #[error("sessions of the pool {pool:?} can be watched, but not controlled; ask without control")]
    ShadowControlOff {
        /// The pool's name.
        pool: String,
    },
    /// Another link has replaced the one that this came by.
    #[error(
        "this broker's link to the host {host} is lost: the host is linked anew, or the broker was silent for too long"
    )]
    LinkLost {
        /// The host's name.
        host: String,
    },
    /// Another broker found this one silent, and has ended it.
    #[error("this broker was silent for so long that another has ended it; it starts over")]
    BrokerEnded,
    /// The database does not know what the host was told.
    #[error(
        "the host {host} has followed revision {}.{} of what should be on it, and the database knows of {}.{} only: it is \
         older than the host. If it was restored from a backup, say so with `lucarne database restored`, and hosts follow it \
         again",
        followed.epoch, followed.revision, known.epoch, known.revision
    )]
    DatabaseOlder {
        /// The host's name.
        host: String,
        /// What it followed.
        followed: Followed,
        /// What the database knows of.
        known: Followed,
    },
    /// The host has desktops that another database knows.
    #[error(
        "this database does not know the host {host}, which has {desktops} desktop(s) of another one. Start the broker on the \
         database that knows it; or, if they may be destroyed, remove followed.json from the host's folder and start its agent again"
    )]
    HostUnknown {
        /// The host's name.
        host: String,
        /// How many it has.
        desktops: u64,
    },
    /// An administrator said that it may not connect.
    #[error(
        "the host {host} is denied; an administrator can let it in again with `lucarne host allow {host}`"
    )]
    HostDenied {
        /// The host's name.
        host: String,
    },
    /// The agent is not that of the host that it says it is.
    #[error("the agent is not let in as the host {host}: {reason}")]
    NotThatHost {
        /// The host's name.
        host: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// An enrolment token that is no good.
    #[error("the enrolment token is refused: {reason}")]
    TokenRefused {
        /// Why, and what to do.
        reason: String,
    },
    /// The role holds everywhere or not at all.
    #[error("the role {} cannot be given for one pool or one group: {}", .0.as_str(), whole(*.0))]
    RoleUnscoped(Role),
    /// Somebody would change pools that are not theirs to change.
    #[error(
        "nothing was done: you may change some pools only, and {} not among them; leave out what you may not change",
        several(.0)
    )]
    OutOfScope(Vec<String>),
    /// The last administrator stays.
    #[error("{0:?} is the last administrator; make another user an administrator first")]
    LastAdministrator(String),
}

/// Why a role cannot be limited.
fn whole(role: Role) -> &'static str {
    match role {
        Role::Administrator => {
            "an administrator of a part could give themselves the rest; give operator or help_desk there"
        }
        _ => "it is what everybody has; entitle them to the pool if they are to use its desktops",
    }
}

fn several(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("{} {}", quoted.join(", "), if names.len() == 1 { "is" } else { "are" })
}

/// Why a pool cannot be as it should be.
#[derive(Debug, thiserror::Error)]
#[error("pool {pool:?}: {error}{}", self.remedy())]
pub struct Obstacle {
    /// The pool's name.
    pub pool: String,
    /// The field that is to blame, if one is.
    pub field: Option<&'static str>,
    /// What it would be alone.
    pub error: Box<Error>,
}

impl Obstacle {
    /// What to do, where the error does not say it because it is met elsewhere too.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match *self.error {
            Error::NotFound { .. } => "; create the user first, or take the name out of entitled_users",
            _ => "",
        }
    }
}

impl Error {
    pub(super) fn not_found(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }
}
