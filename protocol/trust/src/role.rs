//! What a certificate is for.

use crate::{Error, unreadable};
use lucarne_control::HostId;
use rustls_pki_types::{CertificateDer, ServerName};
use std::fmt;
use webpki::EndEntityCert;

/// The name of every broker; `.internal` is kept for names that nobody can register.
const BROKER: &str = "broker.lucarne.internal";

/// What follows a host's id in its name.
const HOST: &str = ".host.lucarne.internal";

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Any broker of the deployment: they all may do the same.
    Broker,
    /// One host.
    Host(HostId),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker => f.write_str(BROKER),
            Self::Host(id) => write!(f, "{id}{HOST}"),
        }
    }
}

impl Role {
    /// The name under which its server is asked for.
    ///
    /// # Errors
    /// None that can happen: the names are DNS names.
    pub fn server_name(self) -> Result<ServerName<'static>, Error> {
        ServerName::try_from(self.to_string()).map_err(|e| unreadable("a role's name", e))
    }

    /// The role that a certificate is for. That an authority stands behind it has to be checked before.
    ///
    /// # Errors
    /// It is for none.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let certificate = EndEntityCert::try_from(certificate).map_err(|e| unreadable("a certificate", e))?;
        let mut names = certificate.valid_dns_names();
        let (Some(name), None) = (names.next(), names.next()) else { return Err(Error::NotOf("deployment")) };
        match name.strip_suffix(HOST) {
            _ if name == BROKER => Ok(Self::Broker),
            Some(id) => Ok(Self::Host(id.parse().map_err(|_| Error::NotOf("host"))?)),
            None => Err(Error::NotOf("deployment")),
        }
    }
}
