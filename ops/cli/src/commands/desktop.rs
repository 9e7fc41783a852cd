//! `lucarne desktop`: the process of one desktop, or a look at all.

use crate::args::{Desktop, DesktopCommand, Output};
use crate::client::{Client, escape};
use crate::commands::{block_on, launch};
use crate::output::{self, Row};
use anyhow::{Context, Result, bail};
use lucarne_control::api::{self, NewDesktop, NewPower, Power};
use lucarne_control::desktop::Phase;
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
                "say what to do: lucarne desktop list, show, launch, create, power-on, suspend, power-off or delete"
            )
        }
    }
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
            let mut desktop: api::Desktop =
                client.post("/api/v1/desktops", &NewDesktop { pool, user }).await?;
            while wait && desktop.phase != Phase::Ready {
                if desktop.phase == Phase::Failed {
                    bail!("desktop {} could not be made: {}", desktop.id, desktop.detail);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                desktop = client.get(&path(&desktop.id.to_string())).await?;
            }
            output::show(&desktop, output)
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
