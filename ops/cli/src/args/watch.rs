//! `lucarne watch`.

use super::Remote;
use clap::Args as ClapArgs;
use lucarne_control::events::EventKind;

/// `lucarne watch`.
#[derive(ClapArgs)]
pub struct Watch {
    #[command(flatten)]
    pub remote: Remote,
    /// Only this: desktop, session, pool, card, host, image or user; may be given again, or with commas. All that you may see when
    /// left out.
    #[arg(long, value_delimiter = ',')]
    pub kind: Vec<EventKind>,
    /// Only what is of this pool: its name or id.
    #[arg(long)]
    pub pool: Option<String>,
    /// As -o json: each event as the API tells it, one in a line.
    #[arg(long)]
    pub json: bool,
}
