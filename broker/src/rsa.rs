//! The server's RSA key for viewers that choose an RSA-AES type: made once, kept beside the certificate's key, and known to
//! people by its fingerprint. RSA is OpenSSL's; `lucarne_rfb` has the protocol.
//!
//! 2048 bits, because TigerVNC makes a key of its own as long as the server's for each connection, which takes seconds when
//! it is longer. A file with another key from 1024 to 8192 bits is used as it is.

use crate::auth::bootstrap::write_secret;
use lucarne_rfb::security::rsa_aes::{KeyError, PublicKey, Rsa, RsaError};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{self, Padding};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Bits of a new key. Fewer: below what NIST SP 800-57 allows. More: viewers take seconds to connect.
const BITS: u32 = 2048;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file in the data directory.
    #[error("cannot use the RSA key for VNC viewers in {path}: {reason}; delete that file for a new one", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// OpenSSL.
    #[error("cannot make an RSA key for VNC viewers: {0}")]
    Make(#[from] ErrorStack),
    /// It is none that viewers take.
    #[error("cannot use an RSA key for VNC viewers: it is {0}")]
    Key(#[from] KeyError),
}

/// A key pair.
pub struct RsaKey {
    keys: rsa::Rsa<Private>,
    public: PublicKey,
}

impl RsaKey {
    /// A fresh one.
    ///
    /// # Errors
    /// OpenSSL cannot, or viewers do not take that length.
    pub fn generate(bits: u32) -> Result<Self, Error> {
        Self::of(rsa::Rsa::generate(bits)?)
    }

    fn of(keys: rsa::Rsa<Private>) -> Result<Self, Error> {
        let public = PublicKey::new(&keys.n().to_vec(), &keys.e().to_vec())?;
        Ok(Self { keys, public })
    }

    /// The key in `data_dir/tls/vnc-rsa-key.pem`, made when there is no such file.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn load_or_make(data_dir: &Path) -> Result<Self, Error> {
        let dir = data_dir.join("tls");
        let path = dir.join("vnc-rsa-key.pem");
        let file = |e: &dyn fmt::Display| Error::File { path: path.clone(), reason: e.to_string() };
        let pem = match std::fs::read(&path) {
            Ok(pem) => pem,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let made = PKey::from_rsa(Self::generate(BITS)?.keys)?.private_key_to_pem_pkcs8()?;
                std::fs::create_dir_all(&dir).map_err(|e| file(&e))?;
                write_secret(&path, &String::from_utf8_lossy(&made)).map_err(|e| file(&e))?;
                made
            }
            Err(e) => return Err(file(&e)),
        };
        let keys = PKey::private_key_from_pem(&pem).and_then(|key| key.rsa()).map_err(|e| file(&e))?;
        if !keys.check_key().map_err(|e| file(&e))? {
            return Err(file(&"it is damaged"));
        }
        Self::of(keys).map_err(|e| file(&e))
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({})", self.public.fingerprint())
    }
}

fn failed(e: ErrorStack) -> RsaError {
    RsaError(e.to_string())
}

impl Rsa for RsaKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn encrypt(&self, to: &PublicKey, block: &[u8]) -> Result<Vec<u8>, RsaError> {
        let number = |bytes| BigNum::from_slice(bytes);
        let modulus = number(to.modulus()).map_err(failed)?;
        let exponent = number(to.exponent()).map_err(failed)?;
        let key = rsa::Rsa::from_public_components(modulus, exponent).map_err(failed)?;
        let mut out = vec![0; key.size() as usize];
        key.public_encrypt(block, &mut out, Padding::NONE).map_err(failed)?;
        Ok(out)
    }

    /// OpenSSL blinds, so that its time tells nothing. The padding is not its business: before 3.2 its error for a wrong
    /// one tells an attacker what this key was used for.
    fn decrypt(&self, block: &[u8]) -> Result<Vec<u8>, RsaError> {
        let mut out = vec![0; self.keys.size() as usize];
        if block.len() != out.len() {
            return Err(RsaError(format!(
                "a block of {} bytes where the key has {}",
                block.len(),
                out.len()
            )));
        }
        self.keys.private_decrypt(block, &mut out, Padding::NONE).map_err(failed)?;
        Ok(out)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), RsaError> {
        getrandom::fill(bytes).map_err(|e| RsaError(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let made = RsaKey::load_or_make(dir.path()).unwrap();
        assert_eq!(made.public_key().bits(), BITS);
        let again = RsaKey::load_or_make(dir.path()).unwrap();
        assert_eq!(again.public_key(), made.public_key());
        let path = dir.path().join("tls/vnc-rsa-key.pem");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        let other = RsaKey::load_or_make(dir.path()).unwrap();
        assert_ne!(other.public_key().fingerprint(), made.public_key().fingerprint());
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls/vnc-rsa-key.pem");
        fs::create_dir(dir.path().join("tls")).unwrap();
        let short = PKey::from_rsa(rsa::Rsa::generate(512).unwrap()).unwrap();
        for bad in [b"no key".to_vec(), short.private_key_to_pem_pkcs8().unwrap()] {
            fs::write(&path, &bad).unwrap();
            let error = RsaKey::load_or_make(dir.path()).unwrap_err().to_string();
            assert!(error.contains("vnc-rsa-key.pem") && error.contains("delete that file"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
    }

    #[test]
    fn what_is_encrypted_to_a_key_is_decrypted_by_it_with_its_leading_zeros() {
        let (ours, theirs) = (RsaKey::generate(1024).unwrap(), RsaKey::generate(1100).unwrap());
        let mut block = vec![0; theirs.public_key().modulus().len()];
        block[70] = 7;
        let encrypted = ours.encrypt(theirs.public_key(), &block).unwrap();
        assert_eq!(theirs.decrypt(&encrypted).unwrap(), block);
        assert!(theirs.decrypt(&encrypted[1..]).is_err());
        assert!(theirs.decrypt(&[0xff; 138]).is_err(), "not less than the modulus");
        assert!(!format!("{ours:?}").contains("keys"));
    }
}
