//! `lucarne group`.

use crate::args::{Group, GroupCommand};
use crate::client::{Client, escape};
use crate::output::{self, Row};
use anyhow::Result;
use lucarne_control::api::{self, NewQuota};

impl Row for api::Group {
    const TITLES: &'static [&'static str] = &["NAME", "DESKTOPS", "MOST"];
    fn cells(&self) -> Vec<String> {
        let quota = |number: fn(&api::QuotaUse) -> u32| {
            self.quota.as_ref().map_or_else(|| "-".to_owned(), |quota| number(quota).to_string())
        };
        vec![self.name.clone(), quota(|q| q.desktops), quota(|q| q.max_desktops)]
    }
}

/// Runs the command.
pub async fn run(args: Group) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let output = args.remote.output;
    match args.command {
        GroupCommand::List => output::list(&client.list::<api::Group>("/api/v1/groups").await?, output),
        GroupCommand::Quota { name, quota } => {
            let new = NewQuota { max_desktops: quota.max };
            Ok(client.put(&format!("/api/v1/groups/{}/quota", escape(&name)), &new).await?)
        }
    }
}
