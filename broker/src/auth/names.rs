//! What names and passwords may look like.

/// The longest name, characters.
pub const LONGEST: usize = 32;

/// The shortest password, characters (NIST SP 800-63B, section 5.1.1.2).
const SHORTEST_PASSWORD: usize = 8;

/// The longest password, characters: bounds the work of one attempt.
const LONGEST_PASSWORD: usize = 1024;

/// Checks the name of a user, a pool or a group.
///
/// # Errors
/// A sentence for the person who chose it.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_lowercase();
    let fits = name.len() <= LONGEST
        && name.starts_with(letter)
        && name.chars().all(|c| letter(c) || c.is_ascii_digit() || ".-_".contains(c));
    if fits {
        return Ok(());
    }
    Err(format!(
        "a {what}'s name is a lower-case letter, then lower-case letters, digits, '.', '_' or '-', at most {LONGEST}; \
         {name:?} is not"
    ))
}

/// Checks a new password.
///
/// # Errors
/// A sentence for the person who chose it.
pub fn check_password(password: &str) -> Result<(), String> {
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(format!("a password has at least {SHORTEST_PASSWORD} characters"));
    }
    check_length(password)
}

/// Checks that a password is none that nobody can have, before work goes into it.
///
/// # Errors
/// A sentence for the person who gave it.
pub fn check_length(password: &str) -> Result<(), String> {
    if password.chars().count() > LONGEST_PASSWORD {
        return Err(format!("a password has at most {LONGEST_PASSWORD} characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_confuse_are_refused() {
        for good in ["a", "ada", "web-1", "a.b_c"] {
            assert_eq!(check_name("user", good), Ok(()));
        }
        for bad in ["", "1a", "Ada", "a b", "a/b", "é", "-a", &"a".repeat(33)] {
            assert!(check_name("user", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_have_a_least_and_a_greatest_length() {
        assert!(check_password("1234567").is_err());
        assert!(check_password("12345678").is_ok());
        assert!(check_password(&"é".repeat(1024)).is_ok());
        assert!(check_password(&"x".repeat(1025)).is_err());
    }
}
