//! Who is who: passwords, the slow-down after failures, viewers' one-time passwords, and the first administrator. Knows nothing of HTTP.

pub mod bootstrap;
pub mod names;
pub mod password;
pub mod slowdown;
pub mod viewer_password;

use lucarne_control::UserId;
use lucarne_core::store::{self, Store};
use password::Passwords;
use slowdown::SlowDown;
use std::net::IpAddr;

/// Checks names and passwords for every door: the API and the VNC listener share one slow-down.
#[derive(Debug)]
pub struct Auth {
    store: Store,
    passwords: Passwords,
    slowdown: SlowDown,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Name or password is wrong: which of them is not told.
    #[error("the name or the password is wrong")]
    BadCredentials,
    /// Too many attempts are waiting for the same name from the same address.
    #[error("too many attempts for this name; wait a minute and try again")]
    TooMany,
    /// The store or the hash function failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A fault on our side.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Argon2.
    #[error(transparent)]
    Password(#[from] password::Error),
}

impl Auth {
    /// Opens the doors on a store.
    ///
    /// # Errors
    /// When the hash function does not work.
    pub async fn new(store: Store) -> Result<Self, password::Error> {
        Ok(Self { store, passwords: Passwords::new().await?, slowdown: SlowDown::default() })
    }

    /// Whose name and password these are. Takes equally long for unknown names, and longer after each failure for the
    /// same name from the same address.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn verify(&self, name: &str, password: &str, from: IpAddr) -> Result<UserId, Refused> {
        let name: String = name.chars().take(names::LONGEST).collect();
        let turn = self.slowdown.turn(&name, from).ok_or(Refused::TooMany)?;
        tokio::time::sleep(turn).await;
        let known = self.store.password_hash(&name).await.map_err(Fault::from)?;
        let (user, hash) = known.unzip();
        let right = self.passwords.verify(password, hash).await.map_err(Fault::from)?;
        match (right, user) {
            (true, Some(user)) => {
                self.slowdown.succeeded(&name, from);
                Ok(user)
            }
            _ => {
                self.slowdown.failed(&name, from);
                tracing::warn!(user = name, %from, "a sign-in was refused: wrong name or password");
                let subject = format!("{name} from {from}");
                self.store
                    .note("system", "login.refused", &subject, "wrong name or password")
                    .await
                    .map_err(Fault::from)?;
                Err(Refused::BadCredentials)
            }
        }
    }

    /// The hash that the store keeps of a new password.
    ///
    /// # Errors
    /// When the hash function fails.
    pub async fn hash(&self, password: &str) -> Result<String, password::Error> {
        self.passwords.hash(password).await
    }
}
