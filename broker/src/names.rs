//! Names that one at a time may have.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The names that are taken.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<HashSet<String>>>);

/// A name that was taken; free again when dropped.
#[derive(Debug)]
pub struct Claim(Names, String);

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a name; none when somebody has it.
    pub fn claim(&self, name: &str) -> Option<Claim> {
        self.lock().insert(name.to_owned()).then(|| Claim(self.clone(), name.to_owned()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_holders_at_a_time() {
        let names = Names::default();
        let first = names.claim("attic");
        assert!(first.is_some() && names.claim("attic").is_none() && names.claim("cellar").is_some());
        drop(first);
        assert!(names.claim("attic").is_some());
    }
}
