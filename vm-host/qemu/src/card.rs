//! A guest's network card: in the template with its cable out, in clones with an address of their own.
//!
//! A card that is there when a template is frozen costs its clones nothing: what a guest reads, loads and starts for a new
//! card is memory that all of them share, and none has to do it on its user's time. The identity helper gives it the clone's
//! address before the cable is put in. Guests without the helper lose the card before the freeze, and every clone gets a card
//! of its own, plugged while the guest waits.

use crate::command::network;
use crate::guest_agent::{GuestAgent, GuestAgentError};
use crate::qmp::{Event, Qmp, QmpError};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The address of a template's card: locally administered, like the random ones of desktops.
pub(crate) const TEMPLATE_MAC: &str = "52:54:00:00:00:01";

/// How long the guest may take to get an address. Some images never ask for one; they have rehearsed what they do.
const ADDRESS_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take to let go of the card.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

/// Why a template cannot be frozen as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardError {
    /// QEMU.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The card is still plugged.
    #[error("the guest did not let go of a network card within {} s", RELEASE_LIMIT.as_secs())]
    Stuck,
}

/// Puts the card's cable in or pulls it out.
pub(crate) async fn set_cable(qmp: &Qmp, up: bool) -> Result<(), QmpError> {
    qmp.execute("set_link", json!({ "name": network::CARD, "up": up })).await.map(drop)
}

/// Plugs a card into a clone that has loaded its template, with its cable out.
pub(crate) async fn plug(qmp: &Qmp, mac: &str) -> Result<(), QmpError> {
    let card = json!({
        "driver": "virtio-net-pci", "id": network::CARD, "netdev": network::UPLINK, "bus": network::SLOT, "mac": mac,
        "romfile": "",
    });
    qmp.execute("device_add", card).await?;
    set_cable(qmp, false).await
}

/// Takes the card out of a template.
///
/// # Errors
/// The template must not be frozen then.
pub(crate) async fn remove(qmp: &Qmp, events: &mut mpsc::Receiver<Event>) -> Result<(), CardError> {
    while events.try_recv().is_ok() {}
    qmp.execute("device_del", json!({ "id": network::CARD })).await?;
    let gone = async {
        while let Some(event) = events.recv().await {
            if event.name == "DEVICE_DELETED" && event.data["device"] == network::CARD {
                return;
            }
        }
        // QEMU has ended, which its owner sees.
        std::future::pending().await
    };
    tokio::time::timeout(RELEASE_LIMIT, gone).await.map_err(|_| CardError::Stuck)?;
    qmp.execute("netdev_del", json!({ "id": network::HUB_PORT })).await?;
    Ok(())
}

/// Lets a template's guest do once what each of its clones will: get an address and lose it again. The network ends at
/// QEMU: it gives an address and reaches nothing.
///
/// # Errors
/// The template must not be frozen then.
pub(crate) async fn rehearse(qmp: &Qmp, agent: &mut GuestAgent) -> Result<(), QmpError> {
    qmp.execute("netdev_add", json!({ "type": "user", "id": network::UPLINK, "restrict": true })).await?;
    let port =
        json!({ "type": "hubport", "id": network::UPLINK_PORT, "hubid": 0, "netdev": network::UPLINK });
    qmp.execute("netdev_add", port).await?;
    set_cable(qmp, true).await?;
    wait_address(agent, true).await;
    set_cable(qmp, false).await?;
    wait_address(agent, false).await;
    // Their state would be part of the template's, and clones without a network could not load it.
    qmp.execute("netdev_del", json!({ "id": network::UPLINK_PORT })).await?;
    qmp.execute("netdev_del", json!({ "id": network::UPLINK })).await?;
    Ok(())
}

/// Waits until the guest has an IPv4 address, or has none any more, as far as it tells.
async fn wait_address(agent: &mut GuestAgent, wanted: bool) {
    let began = Instant::now();
    while began.elapsed() < ADDRESS_LIMIT {
        match has_address(agent).await {
            Ok(found) if found == wanted => return,
            Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => {
                tracing::debug!(%error, "the guest does not tell its addresses; it is not waited for");
                return;
            }
        }
    }
}

async fn has_address(agent: &mut GuestAgent) -> Result<bool, GuestAgentError> {
    let cards = agent.execute("guest-network-get-interfaces", json!({}), Duration::from_secs(20)).await?;
    let of_card = |card: &&Value| card["hardware-address"].as_str() == Some(TEMPLATE_MAC);
    let addresses = cards.as_array().into_iter().flatten().find(of_card).map(|card| &card["ip-addresses"]);
    Ok(addresses.and_then(Value::as_array).into_iter().flatten().any(|a| a["ip-address-type"] == "ipv4"))
}
