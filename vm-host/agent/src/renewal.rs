//! Keeps the host's certificate fresh.

use crate::error_chain;
use lucarne_relay::Identity;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often its age is looked at, and how soon a renewal that failed is tried again. A host that was away for longer than its
/// certificate is valid gets in again within this.
const LOOK: Duration = Duration::from_secs(20);

/// Renews it whenever half of its life is over.
pub(crate) async fn keep(identity: Identity) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        look.tick().await;
        if !identity.is_due() {
            continue;
        }
        match identity.renew().await {
            Ok(()) => {
                tracing::info!("the host has a new certificate");
                said.clear();
            }
            Err(error) => {
                let text = error_chain(&error);
                if text != said {
                    tracing::warn!(error = text, "the host's certificate cannot be renewed; trying on");
                    said = text;
                }
            }
        }
    }
}
