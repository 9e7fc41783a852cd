//! What every viewer's stream has in common, whatever carries it: its place among the session's viewers, the session's
//! state on record, and the reasons for which it ends.

use crate::app::App;
use crate::viewers::{End, Newcomer, Place};
use lucarne_control::SessionId;
use lucarne_control::viewer::ViewerKind;
use lucarne_core::Change;
use lucarne_core::store::{self, Over as Why, PlacedDesktop};
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

impl Over {
    /// In a word, for monitoring.
    fn reason(&self) -> &'static str {
        match self {
            Self::Ended(End::LoggedOff) => "logged_off",
            Self::Ended(End::DesktopEnded) => "desktop_ended",
            Self::Ended(End::TakenOver(_) | End::Elsewhere) => "taken_over",
            Self::Ended(End::Withdrawn) => "withdrawn",
            Self::Ended(End::Idle) => "idle",
            Self::Ended(End::Lasted) => "session_limit",
            Self::Ended(End::PoweredOff) => "powered_off",
            Self::Ended(End::Suspended) => "suspended",
            Self::Ended(End::PutBack) => "put_back",
            Self::Ended(End::Maintenance) => "maintenance",
            Self::Ended(End::Stopped(_) | End::Full | End::Unseen) => "refused",
            Self::Viewer => "viewer",
            Self::Desktop(_) => "desktop",
            Self::Broken(_) => "broken",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(end) => end.fmt(f),
            Self::Viewer => f.write_str("the viewer went"),
            Self::Desktop(why) => f.write_str(why),
            Self::Broken(why) => write!(f, "a connection broke: {why}"),
            Self::Shutdown => f.write_str("the server is going away"),
        }
    }
}

/// Resolves when the broker ends the stream; selected against the copying of bytes.
pub type Ending<'a> = Pin<Box<dyn Future<Output = Over> + Send + 'a>>;

/// Takes a place among the session's viewers (those who have to go for it are told), runs `copy` to its end, and keeps the
/// session's state on record. `copy` gets the future that it has to end with, and the viewer's number and sight.
pub async fn run<'a, F, C>(
    app: &'a App,
    session: SessionId,
    placed: PlacedDesktop,
    newcomer: Newcomer,
    copy: C,
) -> Over
where
    C: FnOnce(Ending<'a>, &Place) -> F,
    F: Future<Output = Over>,
{
    let newcomer_kind = newcomer.kind;
    let (place, end) = match app.viewers.enter(session, newcomer) {
        Ok(entered) => entered,
        Err(why) => return Over::Ended(why),
    };
    // Between the permission and taking the place the session may have ended, with nobody there to be told.
    match app.store.session_desktop(session).await {
        Ok(now) if now == placed => {}
        Ok(_) | Err(store::Error::SessionEnded(_)) => return Over::Ended(End::LoggedOff),
        Err(e) => return Over::Desktop(e.to_string()),
    }
    // Or the right to it, or its host's, may have been taken away.
    match app.store.not_here(vec![session], app.control.broker()).await {
        Ok(over) if over.iter().any(|(_, why)| matches!(why, Why::NotEntitled | Why::HostDenied)) => {
            return Over::Ended(End::Withdrawn);
        }
        Ok(_) => {}
        Err(e) => return Over::Desktop(e.to_string()),
    }
    record(app, session).await;
    let mut streaming = app.metrics.stream(match newcomer_kind {
        ViewerKind::Browser => "browser",
        ViewerKind::Vnc => "vnc",
    });
    let ending = Box::pin(async move {
        tokio::select! {
            biased;
            end = end => end.map_or(Over::Shutdown, Over::Ended),
            () = app.shutdown.cancelled() => Over::Shutdown,
        }
    });
    let over = copy(ending, &place).await;
    streaming.reason = over.reason();
    drop(streaming);
    drop(place);
    record(app, session).await;
    over
}

/// Puts on record whether the session is in use. Others may do so at the same time; the last to look is right.
async fn record(app: &App, session: SessionId) {
    loop {
        let used = app.viewers.in_use(session);
        let me = app.control.broker();
        let recorded = match used {
            true => app.store.session_connected(session, me).await,
            false => app.store.session_disconnected(session, me).await,
        };
        if let Err(e) = recorded {
            tracing::error!(error = %e, %session, "cannot put the viewer's state on record");
            return;
        }
        app.control.changed([Change::Viewers(session)]);
        if app.viewers.in_use(session) == used {
            return;
        }
    }
}
