//! Why a handshake with a client failed.

use super::MAX_PENDING;
use crate::security::eax::OpenError;
use crate::security::rsa_aes::{KeyError, RandomError, RsaError};

/// Why a handshake failed. What was written for the client before an error may still be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are no ProtocolVersion message.
    #[error("the peer does not speak RFB: it opened with {0:?}")]
    NotRfb(String),
    /// RFB 3.3 knows no list of security types, and none that is offered can be used with it.
    #[error(
        "the client speaks RFB 3.3, which has none of the offered security types; it must speak 3.7 or later"
    )]
    VersionTooOld,
    /// There is nothing in the offer.
    #[error("no security type was offered")]
    NothingOffered,
    /// A security type that was not offered.
    #[error("the client chose security type {0}, which was not offered")]
    Type(u8),
    /// A VeNCrypt version other than 0.2.
    #[error("the client wants VeNCrypt {0}.{1}; only 0.2 is supported")]
    VeNCryptVersion(u8, u8),
    /// A sub-type that was not offered.
    #[error("the client chose VeNCrypt sub-type {0}, which was not offered")]
    Subtype(u32),
    /// Plain text followed the start of encryption.
    #[error(
        "{0} bytes came unencrypted after the start of encryption; they are not trusted and the connection must be closed"
    )]
    UnencryptedBytes(usize),
    /// The client's RSA key.
    #[error("the client has {0}")]
    Key(#[from] KeyError),
    /// The client's random number.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Our RSA or randomness.
    #[error(transparent)]
    Rsa(#[from] RsaError),
    /// An encrypted message, or the keys were not the same on both sides.
    #[error(transparent)]
    Message(#[from] OpenError),
    /// The client saw another exchange of keys than we did.
    #[error("the client saw other keys than the ones that were sent: somebody is in between")]
    Hash,
    /// An encrypted message has more in it than it should.
    #[error("the client sent more than its name and password before it was answered")]
    Trailing,
    /// A name or password of impossible length.
    #[error("the client sent a {what} of {length} bytes; at most {limit} are taken")]
    TooLong {
        /// `user name` or `password`.
        what: &'static str,
        /// What it said.
        length: u32,
        /// What is taken.
        limit: usize,
    },
    /// A name or password that is no UTF-8.
    #[error("the client's {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// The client goes on sending without waiting for an answer.
    #[error("the client sent more than {MAX_PENDING} bytes ahead of the handshake")]
    Backlog,
    /// The caller's call does not fit the state.
    #[error("{0} is out of order in this handshake")]
    OutOfOrder(&'static str),
}
