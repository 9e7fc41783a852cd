//! `lucarne pool`.

use crate::args::{Holders, Pool, PoolCommand};
use crate::client::{Client, escape};
use crate::output::{self, Row};
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use lucarne_control::agent::TemplateState;
use lucarne_control::api::{self, NewPool};
use lucarne_control::spec::{MachineShape, NetworkPolicy, RecordingPolicy};
use std::time::Duration;

impl Row for api::Pool {
    const TITLES: &'static [&'static str] =
        &["NAME", "KIND", "IMAGE", "MEMORY", "VCPUS", "DESKTOPS", "WAITING", "MOST", "TEMPLATE", "FOR"];
    fn cells(&self) -> Vec<String> {
        let template = self.templates.iter().map(|t| match t.template.state {
            TemplateState::Ready => format!("{}: ready", t.host),
            TemplateState::Building => format!("{}: {} % {}", t.host, t.template.progress, t.template.detail),
            TemplateState::Failed => format!("{}: failed", t.host),
        });
        let who =
            self.entitled_groups.iter().map(|g| format!("@{g}")).chain(self.entitled_users.iter().cloned());
        vec![
            self.name.clone(),
            self.kind.as_str().into(),
            self.image.short().into(),
            format!("{} MiB", self.machine.memory_mib),
            self.machine.vcpus.to_string(),
            self.desktops.to_string(),
            self.waiting.to_string(),
            self.max_desktops.to_string(),
            template.collect::<Vec<_>>().join(", "),
            who.collect::<Vec<_>>().join(", "),
        ]
    }
}

/// Runs the command.
pub async fn run(args: Pool) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let output = args.remote.output;
    match args.command {
        PoolCommand::List => output::list(&client.list::<api::Pool>("/api/v1/pools").await?, output),
        PoolCommand::Show { pool } => output::show(&get(&client, &pool).await?, output),
        PoolCommand::Create {
            name,
            image,
            description,
            memory,
            vcpus,
            display,
            no_network,
            shadow,
            shadow_control,
            no_audio,
            clipboard,
            recording,
            recording_days,
            recording_mib,
            life,
            max_desktops,
            users,
            groups,
            wait,
        } => {
            let (width, height) = display
                .split_once('x')
                .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
                .with_context(|| {
                    format!("--display is WIDTHxHEIGHT in pixels, such as 1280x800, not {display:?}")
                })?;
            let new = NewPool {
                name,
                description,
                image,
                machine: Some(MachineShape { memory_mib: memory, vcpus, width, height }),
                network: if no_network { NetworkPolicy::None } else { NetworkPolicy::User },
                shadow: shadow.into(),
                shadow_control,
                audio: Some(!no_audio),
                clipboard: clipboard.into(),
                recording: RecordingPolicy {
                    mode: recording.into(),
                    days: recording_days,
                    mib: recording_mib,
                },
                kind: life.kind(),
                ready: life.ready(),
                limits: life.limits(),
                power: life.power(),
                placement: life.placement(),
                home: life.home(),
                snapshots: life.snapshots(),
                max_desktops: Some(max_desktops),
                entitled_users: users,
                entitled_groups: groups,
            };
            let mut pool: api::Pool = client.post("/api/v1/pools", &new).await?;
            if wait {
                pool = wait_template(&client, &pool.name).await?;
            }
            output::show(&pool, output)
        }
        PoolCommand::Entitle { pool, holders } => {
            for path in paths(&pool, &holders) {
                client.put(&path, &()).await?;
            }
            output::show(&get(&client, &pool).await?, output)
        }
        PoolCommand::Withdraw { pool, holders } => {
            for path in paths(&pool, &holders) {
                client.delete(&path).await?;
            }
            output::show(&get(&client, &pool).await?, output)
        }
        PoolCommand::Delete { pool, force } => {
            Ok(client.delete(&format!("/api/v1/pools/{}?force={force}", escape(&pool))).await?)
        }
    }
}

/// Where the entitlements of these are.
fn paths(pool: &str, holders: &Holders) -> Vec<String> {
    let of = |kind: &str, name: &String| format!("/api/v1/pools/{}/{kind}/{}", escape(pool), escape(name));
    let users = holders.users.iter().map(|name| of("users", name));
    users.chain(holders.groups.iter().map(|name| of("groups", name))).collect()
}

async fn get(client: &Client, pool: &str) -> Result<api::Pool> {
    Ok(client.get(&format!("/api/v1/pools/{}", escape(pool))).await?)
}

/// Waits until some host can fork desktops of the pool, showing how far it is.
pub async fn wait_template(client: &Client, name: &str) -> Result<api::Pool> {
    let mut progress: Option<Progress> = None;
    loop {
        let pool = get(client, name).await?;
        if let Some(ready) = pool.templates.iter().find(|t| t.template.state == TemplateState::Ready) {
            if let Some(progress) = progress {
                let boot = ready.template.cold_boot_s.unwrap_or_default();
                progress.done(&format!("frozen; its cold boot took {boot:.1} s"));
            }
            return Ok(pool);
        }
        let progress = progress.get_or_insert_with(|| Progress::new("Template"));
        match pool.templates.first() {
            Some(t) if t.template.state == TemplateState::Failed => {
                bail!("the template of pool {name} could not be made on {}: {}", t.host, t.template.detail)
            }
            Some(t) => progress.set(t.template.progress, &t.template.detail),
            None => progress.set(0, "waiting for a host"),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
