//! What has changed, told to those who watch: server-sent events (WHATWG HTML, section 9.2), the `data` of each an [`Event`] as JSON.
//!
//! ```text
//! hello ── desktop, session, pool … ── reset (read your lists again) ── desktop, session, pool … ── the end
//! ```

use crate::access::{Permission, Unknown, named};
use crate::api::{Desktop, Host, Image, Pool, Session, User};
use crate::ids::{DesktopId, HostId, PoolId, SessionId, UserId};
use crate::spec::ImageDigest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Desktops: one's own, and with `desktops:read` those that it holds for.
    Desktop,
    /// Sessions: one's own, and with `desktops:read` those that it holds for.
    Session,
    /// Pools; takes `pools:read`.
    Pool,
    /// The cards of one's own portal; takes `own`.
    Card,
    /// Hosts; takes `hosts:read`.
    Host,
    /// Images; takes `images:read`.
    Image,
    /// Users; takes `users:read`.
    User,
}

impl EventKind {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Desktop, Self::Session, Self::Pool, Self::Card, Self::Host, Self::Image, Self::User];

    /// As it is called in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Session => "session",
            Self::Pool => "pool",
            Self::Card => "card",
            Self::Host => "host",
            Self::Image => "image",
            Self::User => "user",
        }
    }

    /// What it takes to be told of one of the kind, one of them: everywhere, or in a scope that it is in.
    #[must_use]
    pub const fn takes(self) -> &'static [Permission] {
        match self {
            Self::Desktop | Self::Session => &[Permission::Own, Permission::DesktopsRead],
            Self::Pool => &[Permission::PoolsRead],
            Self::Card => &[Permission::Own],
            Self::Host => &[Permission::HostsRead],
            Self::Image => &[Permission::ImagesRead],
            Self::User => &[Permission::UsersRead],
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = Unknown;
    fn from_str(word: &str) -> Result<Self, Unknown> {
        named("kind of event", word, &Self::ALL, Self::as_str)
    }
}

/// The `data` of an event; its `kind` is the event's name too. `state` is what the API shows of the thing at that moment, and null
/// where the thing is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The first event: from here on changes are told. With a `Last-Event-ID` that is known, what was missed follows. Lists that
    /// are read after it, and not before, miss nothing.
    Hello {
        /// What is told.
        kinds: Vec<EventKind>,
    },
    /// Changes may have been missed: read the lists again. It may come at any time, and first.
    Reset {
        /// Why, for people.
        detail: String,
    },
    /// A desktop was made, is in another phase, or ended.
    Desktop {
        /// Which.
        id: DesktopId,
        /// As it is.
        state: Box<Desktop>,
    },
    /// A session began, is viewed by others than before, or ended.
    Session {
        /// Which.
        id: SessionId,
        /// As it is.
        state: Box<Session>,
    },
    /// A pool was made, changed or deleted, its templates are further, or it has more or fewer desktops.
    Pool {
        /// Which.
        id: PoolId,
        /// As it is.
        state: Option<Box<Pool>>,
    },
    /// A pool that the caller may use was changed, or its templates are further: their card of it may say something else, which
    /// `GET /portal` tells. How full the pool is is not told.
    Card {
        /// The pool.
        id: PoolId,
        /// Its name.
        name: String,
    },
    /// A host was added, linked, lost, drained, denied or forgotten, or has more or fewer desktops. Its free memory and disk are
    /// not told when they are all that changed.
    Host {
        /// Which.
        id: HostId,
        /// As it is.
        state: Option<Box<Host>>,
    },
    /// An image is on other hosts than before.
    Image {
        /// Which.
        id: ImageDigest,
        /// As it is.
        state: Option<Box<Image>>,
    },
    /// A user was made or deleted, or has other roles or other groups.
    User {
        /// Which.
        id: UserId,
        /// As it is.
        state: Option<Box<User>>,
    },
}

impl Event {
    /// The event's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Reset { .. } => "reset",
            Self::Desktop { .. } => "desktop",
            Self::Session { .. } => "session",
            Self::Pool { .. } => "pool",
            Self::Card { .. } => "card",
            Self::Host { .. } => "host",
            Self::Image { .. } => "image",
            Self::User { .. } => "user",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_its_kind_where_its_name_is_lost() {
        let card = Event::Card { id: PoolId::generate(), name: "desk".to_owned() };
        let json = serde_json::to_value(&card).unwrap_or_default();
        assert_eq!((json["kind"].as_str(), json["name"].as_str()), (Some(card.name()), Some("desk")));
        assert_eq!(serde_json::from_value::<Event>(json).ok(), Some(card));
    }

    #[test]
    fn a_kind_is_found_by_its_word_and_others_are_told_what_there_is() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).ok(), Some(kind.as_str().into()));
        }
        let why = "desktops".parse::<EventKind>().map_err(|e| e.to_string());
        assert!(why.is_err_and(|why| why.contains("\"desktops\"") && why.contains("session")));
    }
}
