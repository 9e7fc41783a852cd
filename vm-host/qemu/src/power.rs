//! Powering a guest off, and telling whether it was the guest that did it.
//!
//! The guest agent powers off whatever the guest makes of its power button: many desktops answer that with a question to
//! their user. The button (ACPI, `system_powerdown`) is for guests whose agent does not answer.

use crate::guest_agent::{GuestAgent, GuestAgentError};
use crate::qmp::{Event, Qmp, QmpError};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long the guest agent may take to listen. A guest that boots has none yet, and then waiting longer is of no use.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take to refuse. It does not answer when it obeys.
const REFUSAL_LIMIT: Duration = Duration::from_secs(2);

/// How long QEMU's last event may take to arrive once its process has ended.
const LAST_EVENT: Duration = Duration::from_secs(2);

/// Asks the guest to power off, and does not wait until it has.
///
/// # Errors
/// QEMU does not press the button either.
pub(crate) async fn ask(qmp: &Qmp, guest_agent: &Path) -> Result<(), QmpError> {
    let Err(error) = by_agent(guest_agent).await else { return Ok(()) };
    tracing::info!(%error, "the guest agent does not power off; the power button is pressed");
    qmp.execute("system_powerdown", Value::Null).await.map(drop)
}

async fn by_agent(socket: &Path) -> Result<(), GuestAgentError> {
    let mut agent = GuestAgent::connect(socket, AGENT_LIMIT).await?;
    match agent.execute("guest-shutdown", json!({ "mode": "powerdown" }), REFUSAL_LIMIT).await {
        // With the guest its port may be gone already.
        Ok(_) | Err(GuestAgentError::TimedOut(_) | GuestAgentError::Io(_)) => Ok(()),
        Err(refused) => Err(refused),
    }
}

/// What QEMU tells of its guest's power.
pub(crate) struct Power(watch::Receiver<Option<bool>>);

impl Power {
    /// Listens until QEMU ends.
    pub(crate) fn watch(mut events: mpsc::Receiver<Event>) -> Self {
        let (told, power) = watch::channel(None);
        tokio::spawn(async move {
            let mut by_guest = false;
            while let Some(event) = events.recv().await {
                by_guest |= event.name == "SHUTDOWN" && event.data["reason"] == "guest-shutdown";
            }
            told.send_replace(Some(by_guest));
        });
        Self(power)
    }

    /// Whether the guest has powered off; to be asked when QEMU has ended.
    pub(crate) async fn is_off_by_guest(&self) -> bool {
        let mut told = self.0.clone();
        let last = tokio::time::timeout(LAST_EVENT, told.wait_for(Option::is_some)).await;
        matches!(last, Ok(Ok(by_guest)) if *by_guest == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_that_powers_off_is_told_from_a_hypervisor_that_ends() {
        for (reason, by_guest) in [("guest-shutdown", true), ("host-signal", false)] {
            let (sender, events) = mpsc::channel(4);
            let power = Power::watch(events);
            for (name, data) in
                [("RESET", json!({})), ("SHUTDOWN", json!({ "guest": true, "reason": reason }))]
            {
                sender.send(Event { name: name.into(), data }).await.unwrap();
            }
            drop(sender);
            assert_eq!(power.is_off_by_guest().await, by_guest, "{reason}");
        }
    }
}
