//! Passwords, hashed by Argon2id (RFC 9106) with the parameters that OWASP recommends: 19 MiB, 2 passes, 1 lane.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Hashes at once. More: a flood of attempts takes 19 MiB and a core each, away from the desktops.
const AT_ONCE: usize = 2;

/// Why a password could not be hashed or compared.
#[derive(Debug, thiserror::Error)]
#[error("the password hash function failed: {0}")]
pub struct Error(String);

/// The hash function, and a hash that stands for users that do not exist.
#[derive(Debug)]
pub struct Passwords {
    dummy: String,
    at_once: Arc<Semaphore>,
}

impl Passwords {
    /// Makes the hash that unknown users are compared with.
    ///
    /// # Errors
    /// When the hash function does not work.
    pub async fn new() -> Result<Self, Error> {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut passwords = Self { dummy: String::new(), at_once };
        let nobody = crate::secret::generate().map_err(|e| Error(e.to_string()))?;
        passwords.dummy = passwords.hash(&nobody).await?;
        Ok(passwords)
    }

    /// The PHC string of a password with a fresh salt.
    ///
    /// # Errors
    /// When the hash function fails.
    pub async fn hash(&self, password: &str) -> Result<String, Error> {
        let password = password.to_owned();
        self.work(move || {
            let hash: PasswordHash =
                Argon2::default().hash_password(password.as_bytes()).map_err(|e| Error(e.to_string()))?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether a password has this hash. Without one (an unknown user) the same work is done, and the answer is no.
    ///
    /// # Errors
    /// When the kept hash cannot be read.
    pub async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy.clone());
        let password = password.to_owned();
        self.work(move || {
            let hash = PasswordHash::new(&hash).map_err(|e| Error(e.to_string()))?;
            let same = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
            Ok(same && known)
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.at_once).acquire_owned().await.map_err(|e| Error(e.to_string()))?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            f()
        })
        .await
        .map_err(|e| Error(e.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_has_the_hash() {
        let p = Passwords::new().await.unwrap();
        let hash = p.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(p.verify("correct horse", Some(hash.clone())).await.unwrap());
        assert!(!p.verify("battery staple", Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn unknown_users_cost_a_hash_of_the_same_parameters() {
        let p = Passwords::new().await.unwrap();
        let known = p.hash("x").await.unwrap();
        let parameters = |s: &str| s.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(parameters(&p.dummy), parameters(&known));
        assert!(!p.verify("anything", None).await.unwrap());
    }
}
