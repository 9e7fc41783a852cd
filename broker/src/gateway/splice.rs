//! What every viewer's stream has in common, whatever carries it: the session's one place, the session's state on
//! record, and the reasons for which it ends.

use crate::app::App;
use crate::store::{self, PlacedDesktop};
use crate::viewers::End;
use lucarne_control::SessionId;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Over {
    /// The broker ended it.
    Ended(End),
    /// The viewer went, or broke the protocol.
    Viewer,
    /// The desktop's side went; why, for people.
    Desktop(String),
    /// A connection broke; why.
    Broken(String),
    /// The server goes away.
    Shutdown,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(end) => f.write_str(end.reason()),
            Self::Viewer => f.write_str("the viewer went"),
            Self::Desktop(why) => f.write_str(why),
            Self::Broken(why) => write!(f, "a connection broke: {why}"),
            Self::Shutdown => f.write_str("the server is going away"),
        }
    }
}

/// Resolves when the broker ends the stream; selected against the copying of bytes.
pub type Ending<'a> = Pin<Box<dyn Future<Output = Over> + Send + 'a>>;

/// Takes the session's place (an earlier viewer is told), runs `copy` to its end, and keeps the session's state on
/// record. `copy` gets the future that it has to end with.
pub async fn run<'a, F, C>(app: &'a App, session: SessionId, placed: PlacedDesktop, copy: C) -> Over
where
    C: FnOnce(Ending<'a>) -> F,
    F: Future<Output = Over>,
{
    let (place, end) = app.viewers.enter(session);
    // Between the permission and taking the place the session may have ended, with nobody there to be told.
    match app.store.session_desktop(session).await {
        Ok(now) if now == placed => {}
        Ok(_) | Err(store::Error::SessionEnded(_)) => return Over::Ended(End::LoggedOff),
        Err(e) => return Over::Desktop(e.to_string()),
    }
    connected(app, session, true).await;
    let ending = Box::pin(async move {
        tokio::select! {
            biased;
            end = end => end.map_or(Over::Shutdown, Over::Ended),
            () = app.shutdown.cancelled() => Over::Shutdown,
        }
    });
    let over = copy(ending).await;
    if place.leave() {
        connected(app, session, false).await;
    }
    over
}

async fn connected(app: &App, session: SessionId, is: bool) {
    if let Err(e) = app.store.set_session_connected(session, is).await {
        tracing::error!(error = %e, %session, "cannot put the viewer's state on record");
    }
}
