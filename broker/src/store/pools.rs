//! Pools: what their desktops are made of, and who may use them.

use super::{Ended, Error, Result, Store, Tx, audit, bump_revision, end, seconds, shadows, users};
use lucarne_control::PoolId;
use lucarne_control::api::NewPool;
use lucarne_control::spec::{
    ClipboardPolicy, ImageDigest, MachineShape, NetworkPolicy, RecordingMode, RecordingPolicy, TemplateSpec,
};
use lucarne_control::viewer::ShadowPolicy;
use sqlx::FromRow;

/// A pool without what hosts know of it.
#[derive(Clone, Debug)]
pub struct PoolRow {
    /// Id.
    pub id: PoolId,
    /// Unique name.
    pub name: String,
    /// One line for users.
    pub description: String,
    /// What desktops are forked from.
    pub template: TemplateSpec,
    /// What desktops may reach.
    pub network: NetworkPolicy,
    /// Whether administrators may watch.
    pub shadow: ShadowPolicy,
    /// Whether those who watch may type too.
    pub shadow_control: bool,
    /// Viewers may hear what desktops play.
    pub audio: bool,
    /// Which way copied text goes.
    pub clipboard: ClipboardPolicy,
    /// Whether sessions are recorded.
    pub recording: RecordingPolicy,
    /// At most this many desktops at once.
    pub max_desktops: i64,
    /// Names of users.
    pub entitled_users: Vec<String>,
    /// Names of groups.
    pub entitled_groups: Vec<String>,
    /// Live desktops.
    pub desktops: i64,
    /// Seconds since the epoch.
    pub created_at: i64,
}

/// The columns that say what a desktop is made of; shared by all queries that need a template specification.
#[derive(FromRow)]
pub(super) struct SpecColumns {
    pub image: String,
    pub memory_mib: i64,
    pub vcpus: i64,
    pub width: i64,
    pub height: i64,
    pub network: String,
}

impl SpecColumns {
    pub fn template(&self) -> Result<TemplateSpec> {
        let number = |n: i64| u32::try_from(n).map_err(|_| Error::corrupt("machine shape", n));
        Ok(TemplateSpec {
            image: ImageDigest::try_from(self.image.clone())
                .map_err(|e| Error::corrupt("image digest", e.0))?,
            machine: MachineShape {
                memory_mib: number(self.memory_mib)?,
                vcpus: number(self.vcpus)?,
                width: number(self.width)?,
                height: number(self.height)?,
            },
        })
    }

    pub fn network(&self) -> Result<NetworkPolicy> {
        match self.network.as_str() {
            "user" => Ok(NetworkPolicy::User),
            "none" => Ok(NetworkPolicy::None),
            other => Err(Error::corrupt("network policy", other)),
        }
    }
}

fn network_word(n: NetworkPolicy) -> &'static str {
    match n {
        NetworkPolicy::User => "user",
        NetworkPolicy::None => "none",
    }
}

pub(super) fn clipboard_policy(word: &str) -> Result<ClipboardPolicy> {
    let policy = ClipboardPolicy::ALL.into_iter().find(|policy| policy.as_str() == word);
    policy.ok_or_else(|| Error::corrupt("clipboard policy", word))
}

/// The columns that say whether sessions are recorded.
#[derive(FromRow)]
pub(super) struct RecordingColumns {
    pub recording: String,
    pub recording_days: Option<i64>,
    pub recording_mib: Option<i64>,
}

impl RecordingColumns {
    pub fn policy(&self) -> Result<RecordingPolicy> {
        let modes = [RecordingMode::Off, RecordingMode::On, RecordingMode::Required];
        let mode = modes.into_iter().find(|mode| mode.as_str() == self.recording);
        Ok(RecordingPolicy {
            mode: mode.ok_or_else(|| Error::corrupt("recording policy", &self.recording))?,
            days: self.recording_days.and_then(|days| u32::try_from(days).ok()),
            mib: self.recording_mib.map(i64::cast_unsigned),
        })
    }
}

#[derive(FromRow)]
struct Columns {
    id: String,
    name: String,
    description: String,
    #[sqlx(flatten)]
    spec: SpecColumns,
    shadow: String,
    shadow_control: bool,
    audio: bool,
    clipboard: String,
    #[sqlx(flatten)]
    recording: RecordingColumns,
    max_desktops: i64,
    created_at: i64,
    entitled_users: String,
    entitled_groups: String,
    desktops: i64,
}

impl Columns {
    fn into_pool(self) -> Result<PoolRow> {
        let names = |s: &str| serde_json::from_str(s).map_err(|_| Error::corrupt("list of names", s));
        Ok(PoolRow {
            id: self.id.parse().map_err(|_| Error::corrupt("pool id", &self.id))?,
            template: self.spec.template()?,
            network: self.spec.network()?,
            shadow: shadows::policy(&self.shadow)?,
            shadow_control: self.shadow_control,
            audio: self.audio,
            clipboard: clipboard_policy(&self.clipboard)?,
            recording: self.recording.policy()?,
            max_desktops: self.max_desktops,
            entitled_users: names(&self.entitled_users)?,
            entitled_groups: names(&self.entitled_groups)?,
            desktops: self.desktops,
            created_at: seconds(self.created_at),
            name: self.name,
            description: self.description,
        })
    }
}

/// Selects pools with their entitlements and number of live desktops; conditions are added by `concat!`.
macro_rules! select_pools {
    ($rest:literal) => {
        concat!(
            "SELECT p.id, p.name, p.description, p.image, p.memory_mib, p.vcpus, p.width, p.height, p.network,
                p.shadow, p.shadow_control, p.audio, p.clipboard, p.recording, p.recording_days, p.recording_mib,
                p.max_desktops, p.created_at,
                (SELECT json_group_array(u.name) FROM entitlements e JOIN users u ON u.id = e.user_id
                    WHERE e.pool_id = p.id) AS entitled_users,
                (SELECT json_group_array(g.name) FROM entitlements e JOIN groups g ON g.id = e.group_id
                    WHERE e.pool_id = p.id) AS entitled_groups,
                (SELECT count(*) FROM desktops d WHERE d.pool_id = p.id AND d.ended_at IS NULL) AS desktops
             FROM pools p WHERE p.deleted_at IS NULL ",
            $rest
        )
    };
}

/// SQL: user `?1` may use the pool `p`.
macro_rules! entitled {
    () => {
        "EXISTS (SELECT 1 FROM entitlements e LEFT JOIN groups g ON g.id = e.group_id
            WHERE e.pool_id = p.id AND (e.user_id = ?1 OR g.name = 'everyone'
                OR e.group_id IN (SELECT m.group_id FROM memberships m WHERE m.user_id = ?1)))"
    };
}
pub(super) use entitled;

async fn insert(tx: &mut Tx, actor: &str, id: PoolId, new: &NewPool, image: &ImageDigest) -> Result<()> {
    let machine = new.machine.unwrap_or_default();
    sqlx::query(
        "INSERT INTO pools (id, name, description, image, memory_mib, vcpus, width, height, network, audio, clipboard,
             max_desktops, shadow, shadow_control, recording, recording_days, recording_mib)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(&new.name)
    .bind(&new.description)
    .bind(image.as_str())
    .bind(i64::from(machine.memory_mib))
    .bind(i64::from(machine.vcpus))
    .bind(i64::from(machine.width))
    .bind(i64::from(machine.height))
    .bind(network_word(new.network))
    .bind(new.audio.unwrap_or(true))
    .bind(new.clipboard.as_str())
    .bind(i64::from(new.max_desktops.unwrap_or(16)))
    .bind(shadows::policy_word(new.shadow))
    .bind(new.shadow_control)
    .bind(new.recording.mode.as_str())
    .bind(new.recording.days.map(i64::from))
    .bind(new.recording.mib.map(u64::cast_signed))
    .execute(&mut **tx)
    .await
    .map_err(|e| Error::name_taken(e, "pool", &new.name))?;
    for name in &new.entitled_users {
        let done = sqlx::query(
            "INSERT INTO entitlements (pool_id, user_id)
             SELECT ?, id FROM users WHERE name = ? AND deleted_at IS NULL ON CONFLICT DO NOTHING",
        )
        .bind(id.to_string())
        .bind(name)
        .execute(&mut **tx)
        .await?;
        if done.rows_affected() == 0 {
            let known: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM users WHERE name = ? AND deleted_at IS NULL)",
            )
            .bind(name)
            .fetch_one(&mut **tx)
            .await?;
            if !known {
                return Err(Error::not_found("user", name));
            }
        }
    }
    for name in &new.entitled_groups {
        let group = users::group(tx, name).await?;
        sqlx::query("INSERT INTO entitlements (pool_id, group_id) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(id.to_string())
            .bind(group)
            .execute(&mut **tx)
            .await?;
    }
    bump_revision(tx).await?;
    let mut detail = format!("image {}, {} MiB, {} vcpus", image.short(), machine.memory_mib, machine.vcpus);
    if new.shadow != ShadowPolicy::Off {
        let control = if new.shadow_control { " and control" } else { "" };
        detail += &format!(", shadow {}{control}", shadows::policy_word(new.shadow));
    }
    audit::write(tx, actor, "pool.created", &new.name, &detail).await
}

impl Store {
    /// Adds a pool on an image that was resolved before.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NotFound`] for an entitled user, or a database fault.
    pub async fn create_pool(&self, actor: &str, new: &NewPool, image: &ImageDigest) -> Result<PoolRow> {
        let mut tx = self.begin().await?;
        let id = PoolId::generate();
        insert(&mut tx, actor, id, new, image).await?;
        tx.commit().await?;
        self.pool(&id.to_string()).await
    }

    /// Adds the first pool on the first image, when no pool has ever been; tells whether it did.
    ///
    /// # Errors
    /// A database fault.
    pub async fn create_default_pool(&self, name: &str) -> Result<bool> {
        let mut tx = self.begin().await?;
        let row: Option<(String, String)> = sqlx::query_as(
            "SELECT digest, description FROM images WHERE NOT EXISTS (SELECT 1 FROM pools)
             ORDER BY created_at DESC, digest LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some((digest, description)) = row else { return Ok(false) };
        let digest = ImageDigest::try_from(digest).map_err(|e| Error::corrupt("image digest", e.0))?;
        let new = NewPool {
            name: name.to_owned(),
            description,
            image: digest.to_string(),
            machine: None,
            network: NetworkPolicy::User,
            shadow: ShadowPolicy::Off,
            shadow_control: false,
            audio: None,
            clipboard: ClipboardPolicy::Both,
            recording: RecordingPolicy::default(),
            max_desktops: None,
            entitled_users: Vec::new(),
            entitled_groups: vec![users::EVERYONE.to_owned()],
        };
        insert(&mut tx, "system", PoolId::generate(), &new, &digest).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The pool of that name or id.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn pool(&self, name_or_id: &str) -> Result<PoolRow> {
        sqlx::query_as::<_, Columns>(select_pools!("AND (p.name = ?1 OR p.id = ?1)"))
            .bind(name_or_id)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| Error::not_found("pool", name_or_id))?
            .into_pool()
    }

    /// At most `limit` pools after the id `after`, oldest first.
    ///
    /// # Errors
    /// A database fault.
    pub async fn pools(&self, after: &str, limit: i64) -> Result<Vec<PoolRow>> {
        let rows: Vec<Columns> = sqlx::query_as(select_pools!("AND p.id > ? ORDER BY p.id LIMIT ?"))
            .bind(after)
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter().map(Columns::into_pool).collect()
    }

    /// The pools that a user may use, or has a desktop of, by name.
    ///
    /// # Errors
    /// A database fault.
    pub async fn pools_of(&self, user: lucarne_control::UserId) -> Result<Vec<PoolRow>> {
        const SQL: &str = concat!(
            "SELECT p.id, p.name, p.description, p.image, p.memory_mib, p.vcpus, p.width, p.height, p.network,
                p.shadow, p.shadow_control, p.audio, p.clipboard, p.recording, p.recording_days, p.recording_mib,
                p.max_desktops, p.created_at, '[]' AS entitled_users, '[]' AS entitled_groups,
                (SELECT count(*) FROM desktops d WHERE d.pool_id = p.id AND d.ended_at IS NULL) AS desktops
             FROM pools p WHERE p.deleted_at IS NULL AND (",
            entitled!(),
            " OR EXISTS (SELECT 1 FROM assignments a
                WHERE a.pool_id = p.id AND a.user_id = ?1 AND a.ended_at IS NULL)) ORDER BY p.name"
        );
        let rows: Vec<Columns> = sqlx::query_as(SQL).bind(user.to_string()).fetch_all(&self.reader).await?;
        rows.into_iter().map(Columns::into_pool).collect()
    }

    /// Deletes a pool. With `force` its desktops are destroyed, with all data.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InUse`] when it has desktops that nobody said to destroy; or a database fault.
    pub async fn delete_pool(&self, actor: &str, name_or_id: &str, force: bool) -> Result<Vec<Ended>> {
        let mut tx = self.begin().await?;
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT id, name FROM pools WHERE (name = ?1 OR id = ?1) AND deleted_at IS NULL")
                .bind(name_or_id)
                .fetch_optional(&mut *tx)
                .await?;
        let (id, name) = row.ok_or_else(|| Error::not_found("pool", name_or_id))?;
        let desktops: Vec<String> =
            sqlx::query_scalar("SELECT id FROM desktops WHERE pool_id = ? AND desired = 'running'")
                .bind(&id)
                .fetch_all(&mut *tx)
                .await?;
        if !desktops.is_empty() && !force {
            let by = format!("{} desktop(s) run; log them off, or delete with force", desktops.len());
            return Err(Error::InUse { what: "pool", name, by });
        }
        let mut ended = Vec::new();
        for desktop in desktops {
            ended.extend(end::desktop(&mut tx, actor, &desktop, "its pool was deleted").await?);
        }
        sqlx::query("DELETE FROM entitlements WHERE pool_id = ?").bind(&id).execute(&mut *tx).await?;
        sqlx::query("UPDATE pools SET deleted_at = CAST(unixepoch('subsec') * 1000 AS INTEGER) WHERE id = ?")
            .bind(&id)
            .execute(&mut *tx)
            .await?;
        bump_revision(&mut tx).await?;
        let detail = format!("{} desktop(s) will be destroyed", ended.len());
        audit::write(&mut tx, actor, "pool.deleted", &name, &detail).await?;
        tx.commit().await?;
        Ok(ended)
    }
}
