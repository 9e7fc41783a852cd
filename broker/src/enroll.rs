//! The door for hosts, for who shows no certificate: a token becomes a host, and a host's key another certificate.

use crate::agents::Stream;
use crate::app::App;
use futures_util::{SinkExt, StreamExt};
use lucarne_control::enroll::{Answer, Ask, MAX_ASK};
use lucarne_core::Change;
use lucarne_core::store::{self, Enrolled};
use lucarne_db::Fault;
use lucarne_trust::{PublicKey, Role, Secret};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Bytes read at once.
const BUFFER: usize = 4 << 10;

/// Time to ask and to take the answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest name of a host, a DNS name's (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

/// Answers one question.
pub async fn answer<S: Stream>(app: &App, stream: S, address: SocketAddr) {
    let exchange = async {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_ASK))
            .max_frame_size(Some(MAX_ASK))
            .read_buffer_size(BUFFER);
        let mut socket = accept_async_with_config(stream, Some(config)).await?;
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let answer = match asked(app, &text).await {
                Ok(answer) => answer,
                Err(Refusal::Because(reason)) => {
                    tracing::info!(%address, reason, "a host's certificate was refused");
                    Answer::Refused { reason }
                }
                // Another broker may do better, and strangers need not know what fails here.
                Err(Refusal::Fault(e)) => {
                    tracing::error!(error = %e, %address, "a host could not be given a certificate");
                    break;
                }
            };
            socket.send(Message::text(serde_json::to_string(&answer).unwrap_or_default())).await?;
            break;
        }
        socket.close(None).await?;
        // Until the other side has it too.
        while socket.next().await.transpose()?.is_some() {}
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    match timeout(PATIENCE, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!(error = %e, %address, "a newcomer's connection ended early"),
        Err(_) => tracing::debug!(%address, "a newcomer was too slow"),
    }
}

/// Why there is no certificate.
enum Refusal {
    /// For who asks.
    Because(String),
    /// For the log.
    Fault(Fault),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Because(reason)
    }
}

async fn asked(app: &App, text: &str) -> Result<Answer, Refusal> {
    let ask = serde_json::from_str(text)
        .map_err(|e| format!("the question cannot be read ({e}); install the same release on both"))?;
    let (enrolled, key) = match ask {
        Ask::Enroll { secret, name, public_key } => {
            let (secret, key) = (Secret::parse(&secret), PublicKey::try_from(public_key));
            let (secret, key) = (secret.map_err(|e| e.to_string())?, key.map_err(|e| e.to_string())?);
            check_name(&name)?;
            (app.store.enroll(&secret.hash(), &name, key.as_bytes()).await, key)
        }
        Ask::Renew { host, public_key } => {
            let key = PublicKey::try_from(public_key).map_err(|e| e.to_string())?;
            (app.store.enrolled(host, key.as_bytes()).await, key)
        }
    };
    let Enrolled { host, name } = enrolled.map_err(|e| match e {
        store::Error::Fault(fault) => Refusal::Fault(fault),
        refused => Refusal::Because(refused.to_string()),
    })?;
    // Of one that was enrolled again, who was it before is not any more.
    app.control.changed([Change::Host(host), Change::Link(host)]);
    let certificate = app.trust.issue(Role::Host(host), &key).map_err(|e| e.to_string())?;
    Ok(Answer::Issued { host, name, certificate, authority: app.trust.certificate().to_owned() })
}

/// Names are shown and typed.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    match name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fine) {
        true => Err(format!(
            "{name:?} is no name for a host: letters, digits, dots, hyphens and underlines, at most {LONGEST_NAME}"
        )),
        false => Ok(()),
    }
}
