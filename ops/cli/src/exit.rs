//! Exit codes: what a script can tell apart.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed |
//! | 2 | the command line is wrong |
//! | 3 | what was named does not exist |
//! | 4 | not signed in, or not allowed |
//! | 5 | a conflict with what is there |
//! | 6 | not now: no host, no space, still being made, or the server is away |
//! | 7 | a dry run: there is something to do |

use crate::client::ApiError;
use std::process::ExitCode;

/// A dry run found that something is not as it should be.
#[derive(Debug)]
pub struct Outstanding {
    /// What says how it should be.
    pub what: String,
    /// How many pools are not so.
    pub pools: usize,
}

impl std::fmt::Display for Outstanding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, pools } = self;
        write!(f, "{pools} pool(s) are not as {what} says; apply it without --dry-run")
    }
}

impl std::error::Error for Outstanding {}

/// The code for an error.
pub fn code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Outstanding>() {
        return ExitCode::from(7);
    }
    let status = error.chain().find_map(|cause| match cause.downcast_ref::<ApiError>()? {
        ApiError::Problem(problem) => Some(problem.status),
        ApiError::Unreachable { .. } => Some(503),
        ApiError::Protocol(_) => None,
    });
    ExitCode::from(match status {
        Some(404 | 410) => 3,
        Some(401 | 403) => 4,
        Some(409) => 5,
        Some(503 | 507) => 6,
        _ => 1,
    })
}

/// The error and its causes on one line, without saying a cause twice.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
