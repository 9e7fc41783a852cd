//! Who may become a host by the network, and who may not be one any more.

use super::{Error, Result, Store, rows, seconds};
use lucarne_control::agent::HostFacts;
use lucarne_control::{EnrollmentId, HostId, api};
use lucarne_db::Tx;
use lucarne_db::tables::{Authority, Enrollment, Host};
use lucarne_db::value::Json;

/// The authority behind the certificates of brokers and hosts.
const HOSTS: &str = "hosts";

/// Of a token that was never given, or was taken back.
const UNKNOWN: &str = "there is none like it here; make one with `lucarne host token`";

/// A permission to be given.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// sha256 of the token's secret.
    pub hash: Vec<u8>,
    /// Only as the host of this name.
    pub host: Option<String>,
    /// Milliseconds for which it is good.
    pub valid: i64,
}

/// A host that may have a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Which.
    pub host: HostId,
    /// Its name.
    pub name: String,
}

fn view(row: Enrollment) -> api::Enrollment {
    api::Enrollment {
        id: row.id,
        host: row.host,
        created_by: row.created_by,
        created_at: seconds(row.created_at),
        expires_at: seconds(row.expires_at),
        used_at: row.used_at.map(seconds),
        used_by: row.used_by,
    }
}

/// Uses up a token.
fn redeem(tx: &mut Tx<'_>, hash: &[u8], name: &str) -> Result<Enrollment> {
    let refused = |reason: String| Err(Error::TokenRefused { reason });
    let now = tx.now();
    let Some(mut row) = tx.lock_first(Enrollment::hashed(hash))? else {
        return refused(UNKNOWN.to_owned());
    };
    if let Some(by) = &row.used_by {
        return refused(format!(
            "it was used, by the host {by}; make a new one with `lucarne host token`, or, if this is that host, with `lucarne host \
             token --host {by}`"
        ));
    }
    if row.expires_at <= now {
        return refused("it is too old; make a new one with `lucarne host token`".to_owned());
    }
    if let Some(only) = row.host.as_ref().filter(|only| *only != name) {
        return refused(format!(
            "it is for the host {only}, not for {name}; use --name {only}, or another token"
        ));
    }
    (row.used_at, row.used_by) = (Some(now), Some(name.to_owned()));
    tx.update(&row)?;
    Ok(row.into_row())
}

fn enroll(tx: &mut Tx<'_>, hash: &[u8], name: &str, public_key: &[u8]) -> Result<Enrolled> {
    let token = redeem(tx, hash, name)?;
    let for_it = token.host.as_deref() == Some(name);
    let now = tx.now();
    let id = match tx.lock_first(Host::named(name))? {
        Some(host) if host.denied_at.is_some() => return Err(Error::HostDenied { host: host.name.clone() }),
        Some(_) if !for_it => {
            let reason = format!(
                "there is a host of that name. If this is that host, make a token for it with `lucarne host token --host {name}`; \
                 else choose another --name"
            );
            return Err(Error::NotThatHost { host: name.to_owned(), reason });
        }
        Some(mut host) => {
            // The one before is not that host any more; its link is found to be lost at its next word.
            host.public_key = Some(public_key.to_vec());
            host.epoch += 1;
            if host.broker_id.take().is_some() {
                host.cut_at = Some(now);
            }
            tx.update(&host)?;
            host.id
        }
        None => {
            let host = Host {
                id: HostId(tx.uuid()),
                name: name.to_owned(),
                facts: Json(HostFacts::default()),
                revision: 1,
                desktops: 0,
                promised_mib: 0,
                promised_vcpus: 0,
                created_at: now,
                last_seen: now,
                epoch: 0,
                broker_id: None,
                cut_at: Some(now),
                public_key: Some(public_key.to_vec()),
                address: None,
                denied_at: None,
                drained_at: None,
                labels: Json::default(),
                maintenance_at: None,
            };
            tx.insert(&host)?;
            host.id
        }
    };
    let detail = format!("with the token {} of {}", token.id, token.created_by);
    tx.audit("system", "host.enrolled", name, &detail)?;
    Ok(Enrolled { host: id, name: name.to_owned() })
}

impl Store {
    /// The deployment's authority, certificate and private key as PEM: the given one when there is none yet.
    ///
    /// # Errors
    /// A database fault.
    pub async fn authority(&self, otherwise: (String, String)) -> Result<(String, String)> {
        self.write(move |tx| {
            if let Some(row) = tx.peek(Authority::key(HOSTS))? {
                return Ok((row.certificate, row.private_key));
            }
            let (certificate, private_key) = otherwise.clone();
            let row = Authority { name: HOSTS.to_owned(), certificate, private_key, created_at: tx.now() };
            tx.insert(&row)?;
            Ok(otherwise.clone())
        })
        .await
    }

    /// Lets one host join.
    ///
    /// # Errors
    /// A database fault.
    pub async fn invite(&self, actor: &str, invitation: Invitation) -> Result<api::Enrollment> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let Invitation { hash, host, valid } = invitation.clone();
            let now = tx.now();
            let row = Enrollment {
                id: EnrollmentId(tx.uuid()),
                hash,
                host,
                created_by: actor.clone(),
                created_at: now,
                expires_at: now + valid,
                used_at: None,
                used_by: None,
            };
            tx.insert(&row)?;
            let detail = match &row.host {
                Some(host) => format!("for the host {host}"),
                None => "for one host of any name".to_owned(),
            };
            tx.audit(&actor, "enrollment.created", &row.id.to_string(), &detail)?;
            Ok(view(row))
        })
        .await
    }

    /// At most `limit` permissions after this one, oldest first: those that can be used, and those that were.
    ///
    /// # Errors
    /// A database fault.
    pub async fn invitations(&self, after: Option<EnrollmentId>, limit: i64) -> Result<Vec<api::Enrollment>> {
        self.read(move |tx| {
            let select = Enrollment::all().limit(rows(limit));
            let found = tx.list(match after {
                Some(after) => select.after(&after),
                None => select,
            })?;
            Ok(found.into_iter().map(view).collect())
        })
        .await
    }

    /// Takes a permission back, or forgets one that is over.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn withdraw_invitation(&self, actor: &str, id: EnrollmentId) -> Result<()> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            if !tx.remove(Enrollment::key(&id))? {
                return Err(Error::not_found("enrollment", id));
            }
            Ok(tx.audit(&actor, "enrollment.deleted", &id.to_string(), "")?)
        })
        .await
    }

    /// Makes who has a token a host of this name and key; the token is good for no other after it.
    ///
    /// # Errors
    /// [`Error::TokenRefused`], [`Error::HostDenied`], [`Error::NotThatHost`], or a database fault; the token is good still.
    pub async fn enroll(&self, hash: &[u8], name: &str, public_key: &[u8]) -> Result<Enrolled> {
        let (hash, name, public_key) = (hash.to_vec(), name.to_owned(), public_key.to_vec());
        let asked = hash.clone();
        // Strangers who guess take no turn at writing.
        if self.read(move |tx| Ok(tx.find(Enrollment::hashed(&asked))?.is_none())).await? {
            return Err(Error::TokenRefused { reason: UNKNOWN.to_owned() });
        }
        self.write(move |tx| enroll(tx, &hash, &name, &public_key)).await
    }

    /// The host with this key, if it may have another certificate.
    ///
    /// # Errors
    /// [`Error::HostDenied`], [`Error::NotThatHost`], or a database fault.
    pub async fn enrolled(&self, host: HostId, public_key: &[u8]) -> Result<Enrolled> {
        let public_key = public_key.to_vec();
        self.read(move |tx| {
            let other =
                |reason: &str| Err(Error::NotThatHost { host: host.to_string(), reason: reason.to_owned() });
            match tx.peek(Host::key(&host))? {
                None => other("it was deleted here; enrol it again with `lucarne host enroll`"),
                Some(row) if row.denied_at.is_some() => Err(Error::HostDenied { host: row.name }),
                Some(row) if row.public_key.as_ref() != Some(&public_key) => {
                    other("it was enrolled again since, with another key")
                }
                Some(row) => Ok(Enrolled { host, name: row.name }),
            }
        })
        .await
    }

    /// A host may not connect any more, and has no link any more.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn deny_host(&self, actor: &str, host: HostId, reason: &str) -> Result<()> {
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        self.write(move |tx| {
            let mut row = tx.lock(Host::key(&host))?.ok_or_else(|| Error::not_found("host", host))?;
            let now = tx.now();
            row.denied_at.get_or_insert(now);
            // As if another link had replaced the one that it has, so that this one is over however soon it is allowed again.
            row.epoch += 1;
            if row.broker_id.take().is_some() {
                (row.cut_at, row.last_seen) = (Some(now), now);
            }
            tx.update(&row)?;
            Ok(tx.audit(&actor, "host.denied", &row.name, &reason)?)
        })
        .await
    }

    /// A host that was denied may connect again.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn allow_host(&self, actor: &str, host: HostId) -> Result<()> {
        let actor = actor.to_owned();
        self.write(move |tx| {
            let mut row = tx.lock(Host::key(&host))?.ok_or_else(|| Error::not_found("host", host))?;
            if row.denied_at.take().is_none() {
                return Ok(());
            }
            tx.update(&row)?;
            Ok(tx.audit(&actor, "host.allowed", &row.name, "")?)
        })
        .await
    }
}
