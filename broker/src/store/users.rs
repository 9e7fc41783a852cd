//! Users, groups and who is in which.

use super::{Ended, Error, Result, Store, Tx, audit, end, seconds};
use lucarne_control::api::{Group, NewUser, Role, User};
use lucarne_control::{GroupId, UserId};
use sqlx::FromRow;

/// The group that every user is in.
pub(super) const EVERYONE: &str = "everyone";

#[derive(FromRow)]
struct UserRow {
    id: String,
    name: String,
    role: String,
    created_at: i64,
    groups: String,
}

impl UserRow {
    fn into_user(self) -> Result<User> {
        Ok(User {
            id: self.id.parse().map_err(|_| Error::corrupt("user id", &self.id))?,
            role: role(&self.role)?,
            groups: serde_json::from_str(&self.groups)
                .map_err(|_| Error::corrupt("group list", &self.groups))?,
            name: self.name,
            created_at: seconds(self.created_at),
        })
    }
}

pub(super) fn role(word: &str) -> Result<Role> {
    match word {
        "administrator" => Ok(Role::Administrator),
        "user" => Ok(Role::User),
        other => Err(Error::corrupt("role", other)),
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Administrator => "administrator",
        Role::User => "user",
    }
}

/// The group's id; the group is made when there is none of that name.
pub(super) async fn group(tx: &mut Tx, name: &str) -> Result<String> {
    sqlx::query("INSERT INTO groups (id, name) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
        .bind(GroupId::generate().to_string())
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(sqlx::query_scalar("SELECT id FROM groups WHERE name = ?").bind(name).fetch_one(&mut **tx).await?)
}

impl Store {
    /// Adds a user whose password has the given PHC hash.
    ///
    /// # Errors
    /// [`Error::NameTaken`], or a database fault.
    pub async fn create_user(&self, actor: &str, new: &NewUser, password_hash: &str) -> Result<User> {
        let mut tx = self.begin().await?;
        let id = UserId::generate();
        let role = new.role.unwrap_or(Role::User);
        sqlx::query("INSERT INTO users (id, name, role, password_hash) VALUES (?, ?, ?, ?)")
            .bind(id.to_string())
            .bind(&new.name)
            .bind(role_word(role))
            .bind(password_hash)
            .execute(&mut *tx)
            .await
            .map_err(|e| Error::name_taken(e, "user", &new.name))?;
        for name in new.groups.iter().filter(|n| *n != EVERYONE) {
            let group = group(&mut tx, name).await?;
            sqlx::query("INSERT INTO memberships (user_id, group_id) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(id.to_string())
                .bind(group)
                .execute(&mut *tx)
                .await?;
        }
        let detail = format!("role {}, groups {:?}", role_word(role), new.groups);
        audit::write(&mut tx, actor, "user.created", &new.name, &detail).await?;
        tx.commit().await?;
        self.user(&id.to_string()).await
    }

    /// The living user of that name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn user(&self, name_or_id: &str) -> Result<User> {
        sqlx::query_as::<_, UserRow>(
            "SELECT id, name, role, created_at, (SELECT json_group_array(g.name) FROM memberships m
                 JOIN groups g ON g.id = m.group_id WHERE m.user_id = u.id) AS groups
             FROM users u WHERE (name = ?1 OR id = ?1) AND deleted_at IS NULL",
        )
        .bind(name_or_id)
        .fetch_optional(&self.reader)
        .await?
        .ok_or_else(|| Error::not_found("user", name_or_id))?
        .into_user()
    }

    /// At most `limit` living users after the id `after`, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn users(&self, after: &str, limit: i64) -> Result<Vec<User>> {
        let rows: Vec<UserRow> = sqlx::query_as(
            "SELECT id, name, role, created_at, (SELECT json_group_array(g.name) FROM memberships m
                 JOIN groups g ON g.id = m.group_id WHERE m.user_id = u.id) AS groups
             FROM users u WHERE deleted_at IS NULL AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(UserRow::into_user).collect()
    }

    /// Id and password hash of the living user of that name.
    ///
    /// # Errors
    /// A database fault.
    pub async fn password_hash(&self, name: &str) -> Result<Option<(UserId, String)>> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT id, password_hash FROM users WHERE name = ? AND deleted_at IS NULL")
                .bind(name)
                .fetch_optional(&self.reader)
                .await?;
        row.map(|(id, hash)| Ok((id.parse().map_err(|_| Error::corrupt("user id", &id))?, hash))).transpose()
    }

    /// Changes a user's password and ends all their logins but `keep` (the sha256 of its token).
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn set_password(
        &self,
        actor: &str,
        user: UserId,
        hash: &str,
        keep: Option<&[u8]>,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        let name: Option<String> = sqlx::query_scalar(
            "UPDATE users SET password_hash = ? WHERE id = ? AND deleted_at IS NULL RETURNING name",
        )
        .bind(hash)
        .bind(user.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let name = name.ok_or_else(|| Error::not_found("user", user))?;
        sqlx::query("DELETE FROM logins WHERE user_id = ? AND hash IS NOT ?")
            .bind(user.to_string())
            .bind(keep)
            .execute(&mut *tx)
            .await?;
        audit::write(&mut tx, actor, "user.password_changed", &name, "other sign-ins ended").await?;
        Ok(tx.commit().await?)
    }

    /// Deletes a user: their logins, and their desktops with all data.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::LastAdministrator`], or a database fault.
    pub async fn delete_user(&self, actor: &str, name_or_id: &str) -> Result<Vec<Ended>> {
        let mut tx = self.begin().await?;
        let row: Option<(String, String, String)> = sqlx::query_as(
            "SELECT id, name, role FROM users WHERE (name = ?1 OR id = ?1) AND deleted_at IS NULL",
        )
        .bind(name_or_id)
        .fetch_optional(&mut *tx)
        .await?;
        let (id, name, role) = row.ok_or_else(|| Error::not_found("user", name_or_id))?;
        let administrators: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM users WHERE role = 'administrator' AND deleted_at IS NULL",
        )
        .fetch_one(&mut *tx)
        .await?;
        if role == "administrator" && administrators == 1 {
            return Err(Error::LastAdministrator(name));
        }
        let desktops: Vec<String> =
            sqlx::query_scalar("SELECT desktop_id FROM assignments WHERE user_id = ? AND ended_at IS NULL")
                .bind(&id)
                .fetch_all(&mut *tx)
                .await?;
        let mut ended = Vec::new();
        for desktop in desktops {
            ended.extend(end::desktop(&mut tx, actor, &desktop, "the user was deleted").await?);
        }
        for statement in [
            "DELETE FROM logins WHERE user_id = ?",
            "DELETE FROM memberships WHERE user_id = ?",
            "DELETE FROM entitlements WHERE user_id = ?",
            "UPDATE users SET deleted_at = CAST(unixepoch('subsec') * 1000 AS INTEGER), password_hash = '' WHERE id = ?",
        ] {
            sqlx::query(statement).bind(&id).execute(&mut *tx).await?;
        }
        let detail = format!("{} desktop(s) will be destroyed", ended.len());
        audit::write(&mut tx, actor, "user.deleted", &name, &detail).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// All groups after the id `after`, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn groups(&self, after: &str, limit: i64) -> Result<Vec<Group>> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT id, name FROM groups WHERE id > ? ORDER BY id LIMIT ?")
                .bind(after)
                .bind(limit)
                .fetch_all(&self.reader)
                .await?;
        rows.into_iter()
            .map(|(id, name)| {
                Ok(Group { id: id.parse().map_err(|_| Error::corrupt("group id", &id))?, name })
            })
            .collect()
    }

    /// Whether there is any living user; when not, the broker is new.
    ///
    /// # Errors
    /// A database fault.
    pub async fn has_users(&self) -> Result<bool> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users)").fetch_one(&self.reader).await?)
    }
}
