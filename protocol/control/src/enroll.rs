//! How a host gets its certificates: one question and one answer, as JSON text frames of a WebSocket on the broker's door for
//! hosts, from who shows no certificate.

use crate::ids::HostId;
use serde::{Deserialize, Serialize};

/// The longest question, bytes.
pub const MAX_ASK: usize = 16 << 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Ask {
    /// To become a host of the deployment.
    Enroll {
        /// The token's secret, base64url.
        secret: String,
        /// The name that the host is to have.
        name: String,
        /// Its public key, base64url.
        public_key: String,
    },
    /// A new certificate for a host with the key that it enrolled with. No proof that the key is the asker's own is needed: the
    /// certificate is of use to nobody else.
    Renew {
        /// Which.
        host: HostId,
        /// Its public key, base64url.
        public_key: String,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// Here it is.
    Issued {
        /// The host.
        host: HostId,
        /// Its name.
        name: String,
        /// Its certificate, PEM.
        certificate: String,
        /// The authority's, PEM.
        authority: String,
    },
    /// It is refused.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}
