//! `lucarne session`.

use crate::args::{Session, SessionCommand};
use crate::client::{Client, escape};
use crate::commands::trace;
use crate::output::{self, Row};
use anyhow::Result;
use lucarne_control::api::{self, Connection, NewSession, SessionState, ViewerPassword};
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
        SessionCommand::Show { id } => output::show(&client.get::<api::Session>(&path(&id)).await?, output),
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

/// Connects, until there is a picture if `wait`.
async fn connect(client: &Client, pool: String, wait: bool) -> Result<Connection> {
    let new = NewSession { pool, wait_ms: None };
    loop {
        let connection: Connection = client.post("/api/v1/sessions", &new).await?;
        if connection.ticket.is_some() || !wait {
            return Ok(connection);
        }
        eprintln!("{}", connection.detail);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
