//! `lucarne why`.

use super::Remote;
use clap::Args as ClapArgs;

/// `lucarne why`.
#[derive(ClapArgs)]
pub struct Why {
    #[command(flatten)]
    pub remote: Remote,
    /// The user's name or id.
    pub user_name: String,
    /// The pool's name or id; all pools when left out.
    pub pool: Option<String>,
}
