//! The pools that there are, and how their users come into the database.

use lucarne_control::UserId;
use lucarne_control::api::{NewPool, NewUser};
use lucarne_core::store::{Error, Store};
use serde_json::{Value, json};

/// The floating pool.
pub const POOL: &str = "desk";

/// The personal pool.
pub const OWN: &str = "own";

/// As many desktops as the floating pool may have: fewer than there are users in some worlds.
const MOST: u32 = 6;

/// As many as the personal pool may have: enough, also where some are being destroyed.
const MOST_OWN: u32 = 9;

/// So many snapshots are kept of those that the schedule asks for.
pub const KEPT_SNAPSHOTS: u32 = 3;

/// The rules of the personal pool.
#[derive(Clone, Copy, Debug)]
pub struct Personal {
    /// Its desktops are powered off or suspended when nobody has used them for so long, seconds.
    pub rest_after_s: u32,
    /// They are suspended.
    pub suspends: bool,
    /// Sessions end when nobody has come back for so long, seconds.
    pub disconnected_s: Option<u32>,
    /// As many wait for users.
    pub ready: u32,
}

fn pools(personal: Personal) -> [Value; 2] {
    let image = crate::host::image().name;
    let floating = json!({
        "name": POOL, "image": image, "max_desktops": MOST, "entitled_groups": ["everyone"],
        // Fewer than there are users: some get one that waits, and some have one made.
        "ready": { "min": 2, "max_starting": 1 }, "limits": { "disconnected_s": 60 },
    });
    let Personal { rest_after_s, suspends, disconnected_s, ready } = personal;
    let power = if suspends { "suspend_after_s" } else { "off_after_s" };
    let own = json!({
        "name": OWN, "image": image, "max_desktops": MOST_OWN, "entitled_groups": ["everyone"],
        "kind": "personal", "ready": { "min": ready, "max_starting": 1 },
        "snapshots": { "every_s": 25, "keep": KEPT_SNAPSHOTS, "max": 4, "memory": suspends },
        "power": { (power): rest_after_s }, "limits": { "disconnected_s": disconnected_s },
    });
    [floating, own]
}

/// Puts a user, and the pools where there are none, into the database.
///
/// # Errors
/// The store's.
pub async fn prepare(store: &Store, name: &str, personal: Personal) -> Result<UserId, Error> {
    for pool in pools(personal) {
        if let Ok(pool) = serde_json::from_value::<NewPool>(pool) {
            match store.create_pool("admin", &pool, &crate::host::image().digest).await {
                Ok(_) | Err(Error::NameTaken { .. }) => {}
                Err(e) => return Err(e),
            }
        }
    }
    let new = NewUser { name: name.to_owned(), password: String::new(), role: None, groups: Vec::new() };
    match store.create_user("admin", &new, "hash").await {
        Ok(user) => Ok(user.id),
        // Made before by a request whose answer was lost.
        Err(Error::NameTaken { .. }) => Ok(store.user(name).await?.id),
        Err(e) => Err(e),
    }
}
