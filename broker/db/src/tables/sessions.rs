//! The use of desktops: sessions, the tickets that open their streams, and who watches.

use crate::table::table;
use crate::value::words;
use lucarne_control::api::SessionState;
use lucarne_control::viewer::ViewerWish;
use lucarne_control::{BrokerId, DesktopId, PoolId, SessionId, ShadowId, UserId};
use serde::{Deserialize, Serialize};

words!(SessionId, ShadowId, SessionState, ViewerWish, ShadowState);

/// How far an administrator's wish to watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowState {
    /// The user is asked.
    Asked,
    /// They said no, or nobody answered.
    Denied,
    /// They said yes, and the ticket is not redeemed yet.
    Allowed,
    /// The administrator watches.
    Watching,
    /// It is over.
    Ended,
}

table! {
    /// One user's use of one desktop.
    Session in "sessions" {
        /// Id.
        id: SessionId,
        /// The user.
        user_id: UserId,
        /// The pool.
        pool_id: PoolId,
        /// The desktop.
        desktop_id: DesktopId,
        /// Whether somebody looks at it.
        state: SessionState,
        /// Through which broker.
        broker_id: Option<BrokerId>,
        /// When.
        created_at: i64,
        /// When.
        ended_at: Option<i64>,
        /// Why.
        end_reason: Option<String>,
    }
    key (id: SessionId);
    unique live_on (desktop_id: DesktopId) where ended_at is null;
    index on (desktop_id: DesktopId) then (id);
    index of_user (user_id: UserId) then (id);
    index live () then (id) where ended_at is null;
    index through (broker_id: BrokerId) then (id) where ended_at is null;
}

table! {
    /// The right to open one stream, once, soon.
    Ticket in "tickets" {
        /// sha256 of what its holder has.
        hash: Vec<u8>,
        /// The session.
        session_id: SessionId,
        /// The placement that it is for.
        generation: u64,
        /// As what it lets in.
        wish: ViewerWish,
        /// The shadow that begins with it.
        shadow_id: Option<ShadowId>,
        /// When it is of no use any more.
        expires_at: i64,
        /// When it was used.
        used_at: Option<i64>,
    }
    key (hash: [u8]);
    index by_expiry () then (expires_at);
}

table! {
    /// An administrator's wish to watch a session.
    Shadow in "shadows" {
        /// Id.
        id: ShadowId,
        /// The session.
        session_id: SessionId,
        /// The administrator's name.
        administrator: String,
        /// With keyboard and pointer.
        control: bool,
        /// The user is asked.
        consent: bool,
        /// How far it is.
        state: ShadowState,
        /// Through which broker it goes.
        broker_id: Option<BrokerId>,
        /// When.
        created_at: i64,
        /// When it was denied or over.
        ended_at: Option<i64>,
    }
    key (id: ShadowId);
    index through (broker_id: BrokerId) then (id) where ended_at is null;
}
