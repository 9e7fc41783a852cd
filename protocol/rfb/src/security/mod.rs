//! What both sides of the handshake share: the names of protocol versions, security types and VeNCrypt sub-types here,
//! and the cryptography of the types that bring their own in the modules. Knows no state machine.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`vnc_auth`] | the DES response to a challenge |
//! | [`rsa_aes`] | public keys, random numbers, session keys and hashes; RSA itself is the caller's |
//! | [`eax`] | the encrypted messages that follow |
//!
//! Source: rfbproto, "ProtocolVersion", "Security", "VeNCrypt".

pub mod eax;
pub mod rsa_aes;
pub mod vnc_auth;

use std::fmt;

/// The longest user name that `Plain` takes, bytes.
pub const MAX_USER: usize = 256;
/// The longest password that `Plain` takes, bytes.
pub const MAX_PASSWORD: usize = 1024;
/// The longest reason of a refusal that a client reads, bytes.
pub const MAX_REASON: usize = 4096;

/// The versions of the protocol that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `RFB 003.003`; 3.5 and everything unknown count as this.
    V3_3,
    /// `RFB 003.007`.
    V3_7,
    /// `RFB 003.008`.
    V3_8,
}

impl Version {
    /// The 12 bytes of the ProtocolVersion message.
    #[must_use]
    pub const fn message(self) -> &'static [u8; 12] {
        match self {
            Self::V3_3 => b"RFB 003.003\n",
            Self::V3_7 => b"RFB 003.007\n",
            Self::V3_8 => b"RFB 003.008\n",
        }
    }

    /// Understands a ProtocolVersion message; versions above 3.8 (some viewers say 4.0 or 3.889) count as 3.8.
    #[must_use]
    pub fn parse(message: &[u8; 12]) -> Option<Self> {
        if &message[..4] != b"RFB " || message[7] != b'.' || message[11] != b'\n' {
            return None;
        }
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
        };
        match (number(&message[4..7])?, number(&message[8..11])?) {
            (3, 8..) | (4.., _) => Some(Self::V3_8),
            (3, 7) => Some(Self::V3_7),
            (3, _) => Some(Self::V3_3),
            _ => None,
        }
    }
}

/// A security type, as in the list that the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityType {
    /// 1: no authentication, no encryption. Only inside a link that is already trusted.
    None,
    /// 2: a DES response to a challenge, no encryption.
    VncAuth,
    /// 5, 6, 129 and 130: keys that are exchanged by RSA, then AES.
    RsaAes(RsaAes),
    /// 19: VeNCrypt 0.2, which has sub-types.
    VeNCrypt,
}

impl SecurityType {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 1,
            Self::VncAuth => 2,
            Self::RsaAes(kind) => kind.number(),
            Self::VeNCrypt => 19,
        }
    }

    /// The type with that number, when this crate knows it.
    #[must_use]
    pub const fn from_number(n: u8) -> Option<Self> {
        match n {
            1 => Some(Self::None),
            2 => Some(Self::VncAuth),
            5 => Some(Self::RsaAes(RsaAes::Ra2)),
            6 => Some(Self::RsaAes(RsaAes::Ra2ne)),
            19 => Some(Self::VeNCrypt),
            129 => Some(Self::RsaAes(RsaAes::Ra2_256)),
            130 => Some(Self::RsaAes(RsaAes::Ra2ne_256)),
            _ => None,
        }
    }

    /// RFB 3.3 has it: there the server says the type, and only None and VncAuth exist (rfbproto, "Security").
    #[must_use]
    pub const fn is_in_3_3(self) -> bool {
        matches!(self, Self::None | Self::VncAuth)
    }
}

/// A security type that exchanges keys by RSA (rfbproto, "RSA-AES Security Type" and the three after it). The two-step
/// types (13 and 133) are not implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "as rfbproto and viewers write them")]
pub enum RsaAes {
    /// 5: AES with 128 bits, SHA-1.
    Ra2,
    /// 6: the same, and nothing is encrypted any more once the password was sent.
    Ra2ne,
    /// 129: AES with 256 bits, SHA-256.
    Ra2_256,
    /// 130: the same, and nothing is encrypted any more once the password was sent.
    Ra2ne_256,
}

impl RsaAes {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [Self::Ra2_256, Self::Ra2, Self::Ra2ne_256, Self::Ra2ne];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ra2 => 5,
            Self::Ra2ne => 6,
            Self::Ra2_256 => 129,
            Self::Ra2ne_256 => 130,
        }
    }

    /// Everything after the handshake is encrypted too, SecurityResult included.
    #[must_use]
    pub const fn encrypts_stream(self) -> bool {
        matches!(self, Self::Ra2 | Self::Ra2_256)
    }
}

/// A sub-type of VeNCrypt. All of these start TLS; "X509" ones with a certificate, "TLS" ones were meant for
/// anonymous key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subtype {
    /// 257.
    TlsNone,
    /// 259.
    TlsPlain,
    /// 260.
    X509None,
    /// 262.
    X509Plain,
}

impl Subtype {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::TlsNone => 257,
            Self::TlsPlain => 259,
            Self::X509None => 260,
            Self::X509Plain => 262,
        }
    }

    /// The sub-type with that number, when this crate knows it.
    #[must_use]
    pub const fn from_number(n: u32) -> Option<Self> {
        match n {
            257 => Some(Self::TlsNone),
            259 => Some(Self::TlsPlain),
            260 => Some(Self::X509None),
            262 => Some(Self::X509Plain),
            _ => None,
        }
    }

    /// A user's name and password follow inside TLS.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::TlsPlain | Self::X509Plain)
    }

    /// The server shows an X.509 certificate.
    #[must_use]
    pub const fn has_certificate(self) -> bool {
        matches!(self, Self::X509None | Self::X509Plain)
    }
}

/// A secret that neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood_as_the_specification_says() {
        let cases: [(&[u8; 12], Option<Version>); 8] = [
            (b"RFB 003.003\n", Some(Version::V3_3)),
            (b"RFB 003.005\n", Some(Version::V3_3)),
            (b"RFB 003.007\n", Some(Version::V3_7)),
            (b"RFB 003.008\n", Some(Version::V3_8)),
            (b"RFB 003.889\n", Some(Version::V3_8)),
            (b"RFB 004.001\n", Some(Version::V3_8)),
            (b"RFB 00a.008\n", None),
            (b"GET / HTTP/1", None),
        ];
        for (message, version) in cases {
            assert_eq!(Version::parse(message), version, "{}", String::from_utf8_lossy(message));
        }
        for v in [Version::V3_3, Version::V3_7, Version::V3_8] {
            assert_eq!(Version::parse(v.message()), Some(v));
        }
    }

    #[test]
    fn every_number_names_one_type() {
        let known: Vec<u8> =
            (0..=255).filter(|n| SecurityType::from_number(*n).is_some_and(|t| t.number() == *n)).collect();
        assert_eq!(known, [1, 2, 5, 6, 19, 129, 130]);
        assert_eq!((0..=255).filter(|n| SecurityType::from_number(*n).is_some()).count(), known.len());
    }

    #[test]
    fn a_password_does_not_show_in_debug() {
        assert!(!format!("{:?}", Password::new("hunter2".into())).contains("hunter2"));
    }
}
