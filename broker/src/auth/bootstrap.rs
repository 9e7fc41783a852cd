//! The first administrator, with a generated password that lies in the data directory until it is changed.

use super::password;
use crate::secret;
use lucarne_control::api::{NewUser, Role};
use lucarne_core::store::{self, Store};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The built-in administrator's name.
pub const ADMIN: &str = "admin";

/// The administrator that was made on the first start, while the generated password is in use.
#[derive(Clone)]
pub struct InitialAdmin {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for InitialAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InitialAdmin").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why the first administrator could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file with the password.
    #[error("cannot keep the administrator's first password in {file}: {source}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system has no randomness.
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    /// The hash function.
    #[error(transparent)]
    Password(#[from] password::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Where the generated password lies.
pub fn password_file(data_dir: &Path) -> PathBuf {
    data_dir.join("initial-admin-password")
}

/// Makes the first administrator when there has never been a user, and gives the password while it is in use.
///
/// # Errors
/// [`Error`].
pub async fn first_administrator(
    store: &Store,
    passwords: &super::Auth,
    data_dir: &Path,
) -> Result<Option<InitialAdmin>, Error> {
    let file = password_file(data_dir);
    let broken = |source| Error::File { file: file.clone(), source };
    if store.has_users().await? {
        return match fs::read_to_string(&file) {
            Ok(password) => {
                Ok(Some(InitialAdmin { name: ADMIN.to_owned(), password: password.trim().to_owned() }))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(broken(e)),
        };
    }
    // The file first: a crash in between leaves a password without a user, and the next start writes a new one.
    let password = generate().map_err(Error::Random)?;
    write_secret(&file, &format!("{password}\n")).map_err(broken)?;
    let hash = passwords.hash(&password).await?;
    let new = NewUser {
        name: ADMIN.to_owned(),
        password: String::new(),
        role: Some(Role::Administrator),
        groups: Vec::new(),
    };
    store.create_user("system", &new, &hash).await?;
    Ok(Some(InitialAdmin { name: ADMIN.to_owned(), password }))
}

/// Removes the generated password after it was changed.
///
/// # Errors
/// When the file is there and cannot be removed.
pub fn password_changed(data_dir: &Path) -> std::io::Result<()> {
    match fs::remove_file(password_file(data_dir)) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// The file system's.
pub fn write_secret(file: &Path, content: &str) -> std::io::Result<()> {
    let half = file.with_extension("tmp");
    match fs::remove_file(&half) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut f = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    f.write_all(content.as_bytes())?;
    f.sync_all()?;
    fs::rename(&half, file)?;
    if let Some(dir) = file.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Four groups of five characters: 100 bits.
fn generate() -> Result<String, getrandom::Error> {
    let groups: Result<Vec<_>, _> = (0..4).map(|_| secret::readable(5)).collect();
    Ok(groups?.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_are_readable_and_differ() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_ne!(a, b);
        let groups: Vec<_> = a.split('-').collect();
        assert_eq!(groups.len(), 4);
        assert!(groups.iter().all(|g| g.len() == 5 && !g.contains(['0', 'o', '1', 'l'])), "{a}");
    }
}
