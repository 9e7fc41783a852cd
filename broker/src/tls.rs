//! The server's certificate: made on the first start, self-signed, kept in the data directory and used again.
//!
//! It is made anew when it is about to expire or when the address that is listened on is not in it. Browsers show a
//! warning for it; its fingerprint is printed so that people can compare.

use crate::auth::bootstrap::write_secret;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a certificate is valid: Apple's systems refuse more than 825 days.
const VALID: Duration = Duration::from_secs(800 * 86_400);

/// It is made anew when less than this is left.
const RENEW: Duration = Duration::from_secs(60 * 86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file in the data directory.
    #[error("cannot use the server's certificate in {path}: {reason}; delete that folder for a new one", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Making it.
    #[error("cannot make the server's certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Using it.
    #[error("cannot use the server's certificate: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The certificate and what is made of it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For HTTPS (ALPN `http/1.1`).
    pub https: Arc<ServerConfig>,
    /// For other protocols: no ALPN.
    pub plain: Arc<ServerConfig>,
    /// sha256 of the certificate, upper-case hexadecimal with colons.
    pub fingerprint: String,
}

/// What the certificate on disk was made for.
#[derive(PartialEq, Serialize, Deserialize)]
struct Made {
    names: Vec<String>,
    until: u64,
}

/// Loads the certificate in `data_dir/tls`, or makes one for this machine and `listen`.
///
/// # Errors
/// [`Error`].
pub fn load_or_make(data_dir: &Path, listen: IpAddr) -> Result<Identity, Error> {
    let dir = data_dir.join("tls");
    let file =
        |path: &Path, e: &dyn std::fmt::Display| Error::File { path: path.to_owned(), reason: e.to_string() };
    fs::create_dir_all(&dir).map_err(|e| file(&dir, &e))?;
    let (cert_path, key_path) = (dir.join("cert.pem"), dir.join("key.pem"));
    let made_path = dir.join("made.json");
    let names = names(listen);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let made: Option<Made> = fs::read(&made_path).ok().and_then(|b| serde_json::from_slice(&b).ok());
    let good =
        made.is_some_and(|m| names.iter().all(|n| m.names.contains(n)) && m.until > (now + RENEW).as_secs());
    if !good || !cert_path.exists() || !key_path.exists() {
        let (cert, key) = make(&names)?;
        // What it was made for comes last: a crash before that makes another.
        write_secret(&key_path, &key).map_err(|e| file(&key_path, &e))?;
        write_secret(&cert_path, &cert).map_err(|e| file(&cert_path, &e))?;
        let made = Made { names, until: (now + VALID).as_secs() };
        let made = serde_json::to_string(&made).map_err(|e| file(&made_path, &e))?;
        write_secret(&made_path, &made).map_err(|e| file(&made_path, &e))?;
    }
    let cert = CertificateDer::from_pem_file(&cert_path).map_err(|e| file(&cert_path, &e))?;
    let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|e| file(&key_path, &e))?;
    let fingerprint: Vec<String> = Sha256::digest(&cert).iter().map(|b| format!("{b:02X}")).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let plain = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)?;
    let mut https = plain.clone();
    https.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { https: Arc::new(https), plain: Arc::new(plain), fingerprint: fingerprint.join(":") })
}

fn names(listen: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.is_unspecified() && !listen.is_loopback() {
        names.push(listen.to_string());
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let is_name =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if is_name && host != "localhost" {
        names.push(host.to_owned());
    }
    names
}

fn make(names: &[String]) -> Result<(String, String), Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "Lucarne");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now();
    // An hour back, for clients whose clocks are behind.
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + VALID).into();
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_certificate_is_used_again_until_the_address_changes() {
        let dir = tempfile::tempdir().unwrap();
        let loopback = load_or_make(dir.path(), "127.0.0.1".parse().unwrap()).unwrap();
        let again = load_or_make(dir.path(), "127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(loopback.fingerprint, again.fingerprint);
        let wider = load_or_make(dir.path(), "192.0.2.7".parse().unwrap()).unwrap();
        assert_ne!(wider.fingerprint, again.fingerprint);
        let back = load_or_make(dir.path(), "127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(back.fingerprint, wider.fingerprint, "the wider one covers loopback too");
        let mode = fs::metadata(dir.path().join("tls/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
