//! `lucarne desktop`: the process of one desktop, or a look at all.

use crate::args::{Desktop, DesktopCommand, Output};
use crate::client::{Client, escape};
use crate::commands::{block_on, launch};
use crate::output::{self, Row};
use anyhow::{Context, Result, bail};
use lucarne_control::api::{self, NewDesktop, NewPower, Power};
use lucarne_control::desktop::Phase;
use lucarne_control::snapshot::{self, NewClone, NewSnapshot};
use std::time::Duration;

impl Row for api::Desktop {
    const TITLES: &'static [&'static str] =
        &["ID", "NAME", "POOL", "USER", "HOST", "STATE", "CREATED", "DETAIL"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.pool.clone(),
            self.user.clone().unwrap_or_else(|| "-".into()),
            self.host.clone().unwrap_or_else(|| "-".into()),
            self.phase.as_str().into(),
            output::age(self.created_at),
            self.detail.clone(),
        ]
    }
}

/// Runs the command.
pub fn run(args: Desktop) -> Result<()> {
    let recording = args.recording_fd;
    if let (Some(dir), Some(work)) = (&args.dir, &args.at_rest) {
        let work = serde_json::from_str(work).context("what is to be done is not understood")?;
        let dir = dir.clone();
        return block_on(async move { Ok(lucarne_desktop::at_rest(dir, work).await?) });
    }
    match (args.dir, args.display_fd, args.control_fd, args.command) {
        (Some(dir), Some(display), Some(control), None) => {
            block_on(async move { Ok(lucarne_desktop::run(dir, display, control, recording).await?) })
        }
        (None, _, _, Some(command)) => {
            let remote = args.remote;
            block_on(async move {
                let client = Client::open(&remote).await?;
                look(&client, command, remote.output).await
            })
        }
        _ => {
            bail!(
                "say what to do: lucarne desktop list, show, launch, create, power-on, suspend, power-off, clone or delete"
            )
        }
    }
}

/// Shows a desktop that was just asked for, with `wait` once it is ready.
pub async fn made(client: &Client, mut desktop: api::Desktop, wait: bool, output: Output) -> Result<()> {
    while wait && desktop.phase != Phase::Ready {
        let over = matches!(desktop.phase, Phase::Failed | Phase::Stopped) || desktop.phase.is_at_rest();
        if over {
            bail!("desktop {} could not be made: {}", desktop.name, desktop.detail);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        desktop = client.get(&format!("/api/v1/desktops/{}", desktop.id)).await?;
    }
    output::show(&desktop, output)
}

async fn look(client: &Client, command: DesktopCommand, output: Output) -> Result<()> {
    let path = |id: &str| format!("/api/v1/desktops/{}", escape(id));
    match command {
        DesktopCommand::List => {
            output::list(&client.list::<api::Desktop>("/api/v1/desktops?all=false").await?, output)
        }
        DesktopCommand::Show { id } => output::show(&client.get::<api::Desktop>(&path(&id)).await?, output),
        DesktopCommand::Launch { id } => {
            let times = client.get(&format!("{}/launch", path(&id))).await?;
            match output {
                Output::Table => {
                    print!("{}", launch::waterfall(&times));
                    Ok(())
                }
                Output::Json => output::json(&times),
            }
        }
        DesktopCommand::Create { pool, user, wait } => {
            let desktop = client.post("/api/v1/desktops", &NewDesktop { pool, user }).await?;
            made(client, desktop, wait, output).await
        }
        DesktopCommand::Clone { id, user, pool, disk_only, wait } => {
            let new = NewSnapshot { name: None, memory: Some(!disk_only) };
            let snapshot: snapshot::Snapshot = client.post(&format!("{}/snapshots", path(&id)), &new).await?;
            // It is waited for where it is taken.
            let to = format!("/api/v1/snapshots/{}/clone", snapshot.id);
            let desktop = client.post(&to, &NewClone { user, pool }).await;
            let desktop = match desktop {
                Ok(desktop) => desktop,
                Err(error) => {
                    // Nobody has asked for it but this.
                    let _ = client.delete(&format!("/api/v1/snapshots/{}", snapshot.id)).await;
                    return Err(error.into());
                }
            };
            let done = made(client, desktop, wait, output).await;
            if wait && done.is_ok() {
                // What it is made of is not needed any more.
                client.delete(&format!("/api/v1/snapshots/{}", snapshot.id)).await?;
            }
            done
        }
        DesktopCommand::PowerOn { id } => {
            Ok(client.put(&format!("{}/power", path(&id)), &NewPower { state: Power::On }).await?)
        }
        DesktopCommand::PowerOff { id } => {
            Ok(client.put(&format!("{}/power", path(&id)), &NewPower { state: Power::Off }).await?)
        }
        DesktopCommand::Suspend { id } => {
            Ok(client.put(&format!("{}/power", path(&id)), &NewPower { state: Power::Suspended }).await?)
        }
        DesktopCommand::Delete { id, wait } => {
            Ok(client.delete(&format!("{}?wait={wait}", path(&id))).await?)
        }
    }
}
