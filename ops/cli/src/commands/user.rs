//! `lucarne user`.

use crate::args::{User, UserCommand};
use crate::client::{Client, escape};
use crate::commands::secret;
use crate::output::{self, Row};
use anyhow::Result;
use lucarne_control::api::{self, NewPassword, NewQuota, NewRole, NewUser, Role};

impl Row for api::User {
    const TITLES: &'static [&'static str] = &["NAME", "ROLE", "GROUPS", "CREATED"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.role.as_str().into(),
            self.groups.join(", "),
            output::age(self.created_at),
        ]
    }
}

/// Runs the command.
pub async fn run(args: User) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let output = args.remote.output;
    let path = |name: &str| format!("/api/v1/users/{}", escape(name));
    match args.command {
        UserCommand::List => output::list(&client.list::<api::User>("/api/v1/users").await?, output),
        UserCommand::Show { name } => output::show(&client.get::<api::User>(&path(&name)).await?, output),
        UserCommand::Create { name, administrator, role, groups } => {
            let password = secret("LUCARNE_NEW_PASSWORD", &format!("New password of {name}: "))?;
            let role = Some(if administrator { Role::Administrator } else { role });
            let user: api::User =
                client.post("/api/v1/users", &NewUser { name, password, role, groups }).await?;
            output::show(&user, output)
        }
        UserCommand::Password { name } => {
            let password = secret("LUCARNE_NEW_PASSWORD", &format!("New password of {name}: "))?;
            Ok(client.put(&format!("{}/password", path(&name)), &NewPassword { password }).await?)
        }
        UserCommand::Role { name, role } => {
            Ok(client.put(&format!("{}/role", path(&name)), &NewRole { role }).await?)
        }
        UserCommand::Quota { name, quota } => {
            let new = NewQuota { max_desktops: quota.max };
            Ok(client.put(&format!("{}/quota", path(&name)), &new).await?)
        }
        UserCommand::Join { name, group } => {
            Ok(client.put(&format!("{}/groups/{}", path(&name), escape(&group)), &()).await?)
        }
        UserCommand::Leave { name, group } => {
            Ok(client.delete(&format!("{}/groups/{}", path(&name), escape(&group))).await?)
        }
        UserCommand::Delete { name } => Ok(client.delete(&path(&name)).await?),
    }
}
