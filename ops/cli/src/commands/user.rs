//! `lucarne user`.

use crate::args::{User, UserCommand};
use crate::client::{Client, escape};
use crate::commands::secret;
use crate::output::{self, Row};
use anyhow::Result;
use lucarne_control::api::{self, NewPassword, NewUser, Role};

impl Row for api::User {
    const TITLES: &'static [&'static str] = &["NAME", "ROLE", "GROUPS", "CREATED"];
    fn cells(&self) -> Vec<String> {
        let role = match self.role {
            Role::Administrator => "administrator",
            Role::User => "user",
        };
        vec![self.name.clone(), role.into(), self.groups.join(", "), output::age(self.created_at)]
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
        UserCommand::Create { name, administrator, groups } => {
            let password = secret("LUCARNE_NEW_PASSWORD", &format!("New password of {name}: "))?;
            let role = Some(if administrator { Role::Administrator } else { Role::User });
            let user: api::User =
                client.post("/api/v1/users", &NewUser { name, password, role, groups }).await?;
            output::show(&user, output)
        }
        UserCommand::Password { name } => {
            let password = secret("LUCARNE_NEW_PASSWORD", &format!("New password of {name}: "))?;
            Ok(client.put(&format!("{}/password", path(&name)), &NewPassword { password }).await?)
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
