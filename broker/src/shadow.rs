//! An administrator's wish to watch a session: what the pool allows, the question to the user, the ticket. Each step is on
//! record ([`crate::store`]); what holds while somebody watches is in [`crate::viewers`].

use crate::app::App;
use crate::connect;
use crate::secret;
use crate::viewers::NotAsked;
use lucarne_control::SessionId;
use lucarne_control::viewer::{NewShadow, ShadowQuestion};
use lucarne_core::Entry;
use lucarne_core::store::{self, PlacedDesktop, ShadowRequest};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the user may think. Longer: an administrator waits before a screen where nobody is. Shorter: people do not get
/// to read it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why nobody may watch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool's policy, or a fault.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The user said no.
    #[error("{0} did not allow it")]
    Denied(String),
    /// The user said nothing.
    #[error("the user did not answer within {} s", PATIENCE.as_secs())]
    Unanswered,
    /// There is nobody to ask, or not any more.
    #[error(transparent)]
    NotAsked(#[from] NotAsked),
    /// The user's viewers cannot show it.
    #[error("the user has a VNC viewer open, which cannot show that somebody watches")]
    Unseen,
    /// The session has as many viewers as it may have, or the desktop shows nothing.
    #[error("{0}")]
    Unreachable(String),
    /// The administrator does not wait any more.
    #[error("the administrator did not wait for the answer")]
    Withdrawn,
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] getrandom::Error),
}

/// A ticket for a shadow.
pub struct Allowed {
    /// The ticket.
    pub ticket: String,
    /// Where the session's desktop is.
    pub placed: PlacedDesktop,
}

/// Asks whoever has to be asked, and gives a ticket. `gone` says that the administrator does not wait any more.
///
/// # Errors
/// [`Error`]; refusals by the pool's policy leave nothing behind, all others are on record.
pub async fn ask(
    app: &App,
    session: SessionId,
    administrator: &str,
    new: &NewShadow,
    gone: CancellationToken,
) -> Result<Allowed, Error> {
    let NewShadow { control, ref reason } = *new;
    let asked = app
        .store
        .ask_shadow(&ShadowRequest { administrator, session, control, reason, broker: app.control.broker() })
        .await?;
    let question = ShadowQuestion {
        id: asked.id,
        user: administrator.to_owned(),
        control,
        reason: reason.clone(),
        answer_within_s: PATIENCE.as_secs().try_into().unwrap_or(u32::MAX),
    };
    let entry = Entry::Shadow { control, consent: asked.consent };
    let verdict = async {
        let by =
            if asked.consent { consent(app, session, question, gone).await? } else { "system".to_owned() };
        match app.viewers.in_the_way(session, entry) {
            Ok(_) => {}
            Err(crate::viewers::End::Unseen) => return Err(Error::Unseen),
            Err(full) => return Err(Error::Unreachable(full.to_string())),
        }
        let placed = app.store.session_desktop(session).await?;
        connect::reach(app, placed).await.map_err(Error::Unreachable)?;
        let ticket = secret::generate()?;
        app.store.allow_shadow(asked.id, &by, placed.generation, &secret::hash(&ticket)).await?;
        Ok(Allowed { ticket, placed })
    }
    .await;
    if let Err(why) = &verdict {
        let by = match why {
            Error::Denied(user) => user,
            _ => "system",
        };
        app.store.deny_shadow(asked.id, by, &why.to_string()).await?;
    }
    verdict
}

/// Asks the user; gives the name of who allowed it.
async fn consent(
    app: &App,
    session: SessionId,
    question: ShadowQuestion,
    gone: CancellationToken,
) -> Result<String, Error> {
    let mut asking = app.viewers.ask(session, question)?;
    let answer = tokio::select! {
        answer = timeout(PATIENCE, &mut asking.answer) => answer.map_err(|_| Error::Unanswered)?,
        () = gone.cancelled() => return Err(Error::Withdrawn),
    };
    match answer {
        Ok(answer) if answer.allow => Ok(answer.by),
        Ok(answer) => Err(Error::Denied(answer.by)),
        // Whoever could answer has gone.
        Err(_) => Err(NotAsked::Nobody.into()),
    }
}
