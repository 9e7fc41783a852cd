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
        vec![self.name.clone(), roles(self), self.groups.join(", "), output::age(self.created_at)]
    }
}

/// All roles of a user: first the one that holds everywhere.
pub fn roles(user: &api::User) -> String {
    let scoped = user.scoped_roles.iter().map(ToString::to_string);
    [user.role.as_str().to_owned()].into_iter().chain(scoped).collect::<Vec<_>>().join(", ")
}

/// Where the API has a role for one pool or one group, below a user's path.
fn scope(pool: Option<String>, group: Option<String>) -> Option<String> {
    let pool = pool.map(|name| format!("pools/{}", escape(&name)));
    pool.or_else(|| group.map(|name| format!("groups/{}", escape(&name))))
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
        UserCommand::Role { name, role, pool, group, remove } => {
            let Some(scope) = scope(pool, group) else {
                return Ok(client.put(&format!("{}/role", path(&name)), &NewRole { role }).await?);
            };
            let path = format!("{}/roles/{}/{scope}", path(&name), role.as_str());
            match remove {
                true => Ok(client.delete(&path).await?),
                false => Ok(client.put(&path, &()).await?),
            }
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
