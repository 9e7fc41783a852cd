//! Who this broker is to hosts on the network: the deployment's authority, and a certificate of its own that it issues to itself
//! and renews.

use lucarne_core::store::{self, Store};
use lucarne_trust::{Authority, Clients, Credentials, PublicKey, Role, VALID};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often its age is looked at.
const LOOK: Duration = Duration::from_secs(30);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The certificates.
    #[error("the deployment's certificates cannot be used: {0}")]
    Trust(#[from] lucarne_trust::Error),
}

/// The authority, and who this broker is.
#[derive(Debug)]
pub struct Trust {
    authority: Authority,
    certificate: String,
    own: RwLock<Own>,
}

#[derive(Clone, Debug)]
struct Own {
    issued: SystemTime,
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

impl Trust {
    /// The authority of the database, which is made when there is none, and a certificate for this broker.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn of(store: &Store) -> Result<Self, Error> {
        let (certificate, key) = store.authority(Authority::make(SystemTime::now())?).await?;
        let authority = Authority::load(&certificate, &key)?;
        let own = RwLock::new(issue(&authority, &certificate)?);
        Ok(Self { authority, certificate, own })
    }

    fn own(&self) -> Own {
        self.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For accepting hosts, and strangers who want to become one.
    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        self.own().server
    }

    /// For connecting to hosts.
    pub fn client(&self) -> Arc<rustls::ClientConfig> {
        self.own().client
    }

    /// The authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a host, PEM.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn issue(&self, role: Role, key: &PublicKey) -> Result<String, lucarne_trust::Error> {
        self.authority.issue(role, key, SystemTime::now())
    }

    /// Renews this broker's certificate at half its life, until `shutdown`.
    pub async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = look.tick() => {}
            }
            // By the clock that the other side checks it by, which may have been set. One of the future was issued before that.
            if self.own().issued.elapsed().is_ok_and(|age| age < VALID / 2) {
                continue;
            }
            match issue(&self.authority, &self.certificate) {
                Ok(own) => *self.own.write().unwrap_or_else(PoisonError::into_inner) = own,
                Err(e) => {
                    tracing::error!(error = %e, "this broker's certificate for hosts cannot be renewed")
                }
            }
        }
    }
}

fn issue(authority: &Authority, certificate: &str) -> Result<Own, lucarne_trust::Error> {
    let (key, public) = Credentials::make_key()?;
    let own = authority.issue(Role::Broker, &public, SystemTime::now())?;
    let own = Credentials::load(&own, &key, certificate)?;
    let issued = SystemTime::now();
    Ok(Own { issued, server: own.server(Clients::May)?, client: own.client()? })
}
