//! `lucarne session`.

use crate::args::{Output, Session, SessionCommand, Viewers};
use crate::client::{Client, escape};
use crate::commands::trace;
use crate::output::{self, Row};
use anyhow::Result;
use lucarne_control::api::{self, Connection, NewSession, SessionState, ViewerPassword};
use lucarne_control::viewer::{NewShadow, Viewer, ViewerKind, ViewerRole, ViewerWish};
use serde::Serialize;
use std::time::Duration;

impl Row for api::Session {
    const TITLES: &'static [&'static str] = &["ID", "USER", "POOL", "DESKTOP", "STATE", "BEGAN"];
    fn cells(&self) -> Vec<String> {
        let state = match self.state {
            SessionState::Connecting => "connecting",
            SessionState::Connected => "connected",
            SessionState::Disconnected => "disconnected",
            SessionState::Ended => "ended",
        };
        vec![
            self.id.to_string(),
            self.user.clone(),
            self.pool.clone(),
            self.desktop_name.clone(),
            state.into(),
            output::age(self.created_at),
        ]
    }
}

impl Row for Viewer {
    const TITLES: &'static [&'static str] =
        &["VIEWER", "ROLE", "CONTROL", "USER", "KIND", "SECURITY", "ADDRESS", "CAME"];
    fn cells(&self) -> Vec<String> {
        let role = match self.role {
            ViewerRole::Owner => "owner",
            ViewerRole::ViewOnly => "view-only",
            ViewerRole::Shadow => "shadow",
        };
        let kind = match self.kind {
            ViewerKind::Browser => "browser",
            ViewerKind::Vnc => "VNC viewer",
        };
        vec![
            self.id.to_string(),
            role.into(),
            if self.control { "yes" } else { "no" }.into(),
            self.user.clone(),
            kind.into(),
            self.security.clone(),
            self.address.clone(),
            output::age(self.since),
        ]
    }
}

/// What a program needs to open a stream.
#[derive(Serialize)]
struct Ticket {
    session: String,
    ticket: Option<String>,
    websocket: String,
    detail: String,
}

/// Runs the command.
pub async fn run(args: Session) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let output = args.remote.output;
    let path = |id: &str| format!("/api/v1/sessions/{}", escape(id));
    match args.command {
        SessionCommand::List { all } => {
            let mut sessions = client.list::<api::Session>("/api/v1/sessions?all=true").await?;
            sessions.retain(|s| all || s.state != SessionState::Ended);
            output::list(&sessions, output)
        }
        SessionCommand::Show { id } => show(client.get(&path(&id)).await?, output),
        SessionCommand::Ticket { id, viewers } => {
            let wish = match viewers {
                Viewers::TakeOver => "take_over",
                Viewers::Share => "share",
                Viewers::ViewOnly => "view_only",
            };
            ticket(client.post(&format!("{}/ticket?viewers={wish}", path(&id)), &()).await?, output)
        }
        SessionCommand::Shadow { id, control, reason } => {
            eprintln!("Asking; the user has 30 s to answer, if the pool's policy wants it.");
            let new = NewShadow { control, reason };
            ticket(client.post(&format!("{}/shadow", path(&id)), &new).await?, output)
        }
        SessionCommand::Disconnect { id, viewer } => {
            Ok(client.delete(&format!("{}/viewers/{viewer}", path(&id))).await?)
        }
        SessionCommand::Create { pool, wait } => {
            output::show(&connect(&client, pool, wait).await?.session, output)
        }
        SessionCommand::Password { pool } => {
            let id = connect(&client, pool, true).await?.session.id;
            let path = format!("{}/viewer-password", path(&id.to_string()));
            output::show(&client.post::<ViewerPassword>(&path, &()).await?, output)
        }
        SessionCommand::Trace { id, last, follow } => {
            trace::run(&client, &format!("{}/trace", path(&id)), last, follow, output).await
        }
        SessionCommand::Delete { id, wait } => {
            Ok(client.delete(&format!("{}?wait={wait}", path(&id))).await?)
        }
    }
}

/// Prints a session, and its viewers as a table of their own.
fn show(session: api::Session, output: Output) -> Result<()> {
    if output == Output::Json {
        return output::show(&session, output);
    }
    let mut fields = serde_json::to_value(&session)?;
    fields.as_object_mut().map(|fields| fields.remove("viewers"));
    output::show(&fields, output)?;
    println!();
    output::list(&session.viewers, output)
}

fn ticket(connection: Connection, output: Output) -> Result<()> {
    if output == Output::Json {
        return output::show(&connection, output);
    }
    let Connection { session, ticket, websocket, detail, .. } = connection;
    output::show(&Ticket { session: session.id.to_string(), ticket, websocket, detail }, output)
}

/// Connects, until there is a picture if `wait`.
async fn connect(client: &Client, pool: String, wait: bool) -> Result<Connection> {
    let new = NewSession { pool, wait_ms: None, viewers: ViewerWish::TakeOver };
    loop {
        let connection: Connection = client.post("/api/v1/sessions", &new).await?;
        if connection.ticket.is_some() || !wait {
            return Ok(connection);
        }
        eprintln!("{}", connection.detail);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
