//! Why a handshake with a server failed.

use super::MAX_PENDING;
use crate::security::eax::OpenError;
use crate::security::rsa_aes::{KeyError, MAX_CREDENTIAL, RandomError, RsaError};
use crate::security::{MAX_PASSWORD, MAX_USER};

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are no ProtocolVersion message.
    #[error("the server does not speak RFB: it opened with {0:?}")]
    NotRfb(String),
    /// The server refuses and says why.
    #[error("the server refuses the connection: {0}")]
    Refused(String),
    /// The server offers nothing that is wanted.
    #[error("the server offers security types {0:?}, and none of them is wanted")]
    NoCommonType(Vec<u32>),
    /// The server's VeNCrypt is older than 0.2, or it refuses ours.
    #[error("the server does not take VeNCrypt 0.2")]
    VeNCryptVersion,
    /// The server does not go on after the choice of the sub-type.
    #[error("the server does not accept the VeNCrypt sub-type that it offered")]
    SubtypeRefused,
    /// Unencrypted bytes came after the start of encryption.
    #[error("{0} bytes came unencrypted after the start of encryption; they are not trusted")]
    UnencryptedBytes(usize),
    /// The name or password is too long for the protocol's other side.
    #[error(
        "the user name or password is too long: at most {MAX_USER} and {MAX_PASSWORD} bytes, or {MAX_CREDENTIAL} each with \
         RSA-AES"
    )]
    CredentialsTooLong,
    /// The server's RSA key.
    #[error("the server has {0}")]
    Key(#[from] KeyError),
    /// The server's random number.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Our RSA or randomness.
    #[error(transparent)]
    Rsa(#[from] RsaError),
    /// An encrypted message, or the keys were not the same on both sides.
    #[error(transparent)]
    Message(#[from] OpenError),
    /// The server saw another exchange of keys than we did.
    #[error("the server saw other keys than the ones that were sent: somebody is in between")]
    Hash,
    /// An encrypted message has more in it than it should.
    #[error("the server sent more than was asked for before it was answered")]
    Trailing,
    /// What the server asks for does not exist.
    #[error("the server wants RSA-AES credentials of kind {0}, which does not exist")]
    Credentials(u8),
    /// The server sends more than a handshake holds.
    #[error("the server sent more than {MAX_PENDING} bytes during the handshake")]
    Backlog,
    /// The caller's call does not fit the state.
    #[error("{0} is out of order in this handshake")]
    OutOfOrder(&'static str),
}
