//! `lucarne disk`.

use crate::args::{Disk, DiskCommand};
use crate::client::{Client, escape};
use crate::output::{self, Row};
use anyhow::Result;
use lucarne_control::api;

impl Row for api::Disk {
    const TITLES: &'static [&'static str] = &["ID", "USER", "POOL", "HOST", "GIB", "STATE", "DESKTOP"];
    fn cells(&self) -> Vec<String> {
        let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.id.to_string(),
            self.user.clone(),
            self.pool.clone(),
            or_none(&self.host),
            (self.size_mib >> 10).to_string(),
            self.state.as_str().to_owned(),
            or_none(&self.desktop),
        ]
    }
}

/// Runs the command.
pub async fn run(args: Disk) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    match args.command {
        DiskCommand::List => {
            output::list(&client.list::<api::Disk>("/api/v1/disks").await?, args.remote.output)
        }
        DiskCommand::Delete { id } => Ok(client.delete(&format!("/api/v1/disks/{}", escape(&id))).await?),
    }
}
