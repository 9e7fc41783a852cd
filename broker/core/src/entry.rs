//! As what somebody comes to a session.

use lucarne_control::viewer::{ViewerRole, ViewerWish};

/// As what somebody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The session's user.
    User(ViewerWish),
    /// An administrator.
    Shadow {
        /// With keyboard and pointer.
        control: bool,
        /// The user was asked, as the pool wants it.
        consent: bool,
    },
}

impl Entry {
    /// The role that this gives.
    #[must_use]
    pub fn role(self) -> ViewerRole {
        match self {
            Self::User(ViewerWish::TakeOver | ViewerWish::Share) => ViewerRole::Owner,
            Self::User(ViewerWish::ViewOnly) => ViewerRole::ViewOnly,
            Self::Shadow { .. } => ViewerRole::Shadow,
        }
    }

    /// Whether what is typed reaches the desktop.
    #[must_use]
    pub fn control(self) -> bool {
        match self {
            Self::User(wish) => wish != ViewerWish::ViewOnly,
            Self::Shadow { control, .. } => control,
        }
    }
}
