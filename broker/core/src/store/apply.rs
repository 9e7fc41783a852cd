//! Pools as they should be: a plan of what has to be done for that, and its doing, in one transaction.
//!
//! ```text
//! as they should be ─┐
//!                    ├─► plan, revision ─► (the revision that was asked for?) ─► create, change, delete ─► audit
//! as they are ───────┘        └─► obstacles: nothing is done
//! ```
//!
//! A plan that is only shown is made in the same way from what is only looked at. Knows nothing of files.

use super::entitle::{self, Holder};
use super::{Error, Object, Obstacle, PoolRow, Reach, Result, Store, all, images, pools, reach, snapshots};
use lucarne_control::api::NewPool;
use lucarne_control::apply::{FieldChange, PlanAction, PoolPlan};
use lucarne_control::spec::{ImageDigest, MachineShape};
use lucarne_control::{PoolId, UserId};
use lucarne_db::tables::{EVERYONE, Group, Image, Pool, PoolPolicy, PoolRules, User};
use lucarne_db::value::Json;
use lucarne_db::{Locked, Tx};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What there should be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The pools, each name once.
    pub pools: Vec<NewPool>,
    /// No others, of those that may be changed.
    pub prune: bool,
}

/// What has to be done for it.
#[derive(Debug)]
pub struct Plan {
    /// Stands for what the plan was made from.
    pub revision: String,
    /// For each pool, those to be deleted last.
    pub pools: Vec<PoolPlan>,
    /// Groups that are made.
    pub new_groups: Vec<String>,
    /// Why it cannot be done.
    pub obstacles: Vec<Obstacle>,
    /// Somebody may not use a pool any more.
    pub withdraws: bool,
    /// The pools that were made, changed or deleted, once that is done.
    pub touched: Vec<PoolId>,
    /// Those who had a role for a pool that was deleted.
    pub relieved: Vec<UserId>,
}

impl Plan {
    /// What should be on hosts changes.
    #[must_use]
    pub fn concerns_hosts(&self) -> bool {
        self.pools.iter().any(|pool| matches!(pool.action, PlanAction::Create | PlanAction::Delete))
    }
}

/// What a pool is, but for its name, as the API calls it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Settings {
    description: String,
    image: ImageDigest,
    machine: MachineShape,
    #[serde(flatten)]
    policy: PoolPolicy,
    #[serde(flatten)]
    rules: PoolRules,
    max_desktops: u32,
    entitled_users: BTreeSet<String>,
    entitled_groups: BTreeSet<String>,
}

impl Settings {
    fn wanted(new: &NewPool, image: ImageDigest) -> Self {
        Self {
            description: new.description.clone(),
            image,
            machine: new.machine.unwrap_or_default(),
            policy: pools::policy(new),
            rules: pools::rules(new),
            max_desktops: pools::max_desktops(new),
            entitled_users: new.entitled_users.iter().cloned().collect(),
            entitled_groups: new.entitled_groups.iter().cloned().collect(),
        }
    }

    /// By the names of fields, those of tables as `machine.vcpus`.
    fn fields(&self) -> BTreeMap<String, Value> {
        let mut fields = BTreeMap::new();
        if let Ok(Value::Object(all)) = serde_json::to_value(self) {
            for (name, value) in all {
                match value {
                    Value::Object(inner) => {
                        fields.extend(inner.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
                    }
                    value => drop(fields.insert(name, value)),
                }
            }
        }
        fields
    }
}

impl From<PoolRow> for Settings {
    fn from(row: PoolRow) -> Self {
        Self {
            description: row.description,
            image: row.template.image,
            machine: row.template.machine,
            policy: row.policy,
            rules: row.rules,
            max_desktops: row.max_desktops,
            entitled_users: row.entitled_users.into_iter().collect(),
            entitled_groups: row.entitled_groups.into_iter().collect(),
        }
    }
}

/// What changes from one to the other, or all that the other says.
fn changes(from: Option<&Settings>, to: &Settings) -> Vec<FieldChange> {
    let mut from = from.map(Settings::fields).unwrap_or_default();
    let change = |(field, to): (String, Value)| {
        let from = from.remove(&field);
        (from.as_ref() != Some(&to)).then(|| FieldChange { field, from: from.unwrap_or_default(), to })
    };
    to.fields().into_iter().filter_map(change).collect()
}

/// A pool with what it should be.
struct Step {
    new: Option<NewPool>,
    now: Option<(PoolId, Settings)>,
    /// None where it is to be deleted.
    then: Option<Settings>,
}

/// What is planned, with what it takes to do it.
struct Planned {
    plan: Plan,
    steps: Vec<Step>,
}

/// Whether rows are held until the plan is carried out, or only looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    Held,
    Seen,
}

/// The users of those names that there are.
fn known_users(tx: &mut Tx<'_>, wanted: &Wanted, rows: Rows) -> Result<BTreeSet<String>> {
    let names: BTreeSet<_> = wanted.pools.iter().flat_map(|pool| &pool.entitled_users).collect();
    let mut known = BTreeSet::new();
    for name in names {
        let user = match rows {
            Rows::Held => tx.share_first(User::named(name))?,
            Rows::Seen => tx.find(User::named(name))?,
        };
        known.extend(user.map(|user| user.name));
    }
    Ok(known)
}

/// What each word for an image stands for, or what is wrong with it.
fn resolve(tx: &mut Tx<'_>, wanted: &Wanted, rows: Rows) -> Result<BTreeMap<String, Result<Image, String>>> {
    let words: BTreeSet<_> = wanted.pools.iter().map(|pool| &pool.image).collect();
    let mut resolved = BTreeMap::new();
    for word in words {
        let image = match images::resolve(tx, word) {
            Ok(image) => Ok(image),
            Err(Error::ImageUnclear(why)) => Err(why),
            Err(e) => return Err(e),
        };
        resolved.insert(word.clone(), image);
    }
    if rows == Rows::Held {
        // Everybody holds images in this order.
        let digests: BTreeSet<_> = resolved.values().flatten().map(|image| image.digest.clone()).collect();
        for digest in digests {
            if tx.share(Image::key(&digest))?.is_none() {
                return Err(tx.again("an image was deleted").into());
            }
        }
    }
    Ok(resolved)
}

/// The pools that are concerned, by name. Pools out of `reach` are as if there were none: they are not pruned, and one that is
/// listed is refused as one that would be made.
fn present(tx: &mut Tx<'_>, wanted: &Wanted, reach: &Reach, rows: Rows) -> Result<BTreeMap<String, Pool>> {
    let mut seen = Vec::new();
    if wanted.prune {
        seen = all(tx, Pool::present, |pool| pool.id)?;
    } else {
        for new in &wanted.pools {
            seen.extend(tx.find(Pool::named(&new.name))?);
        }
    }
    let mut within = Vec::new();
    for pool in seen {
        if reach::holds(tx, reach, Object::Pool(pool.id))? {
            within.push(pool);
        }
    }
    let mut seen = within;
    if !reach.is_everywhere() {
        let not_theirs = |new: &&NewPool| seen.iter().all(|pool| pool.name != new.name);
        let others: Vec<_> = wanted.pools.iter().filter(not_theirs).map(|new| new.name.clone()).collect();
        if !others.is_empty() {
            return Err(Error::OutOfScope(others));
        }
    }
    if rows == Rows::Held {
        seen.sort_by_key(|pool| pool.id);
        for pool in &mut seen {
            let held = tx.lock(Pool::key(&pool.id))?.filter(|pool| pool.deleted_at.is_none());
            *pool = held.map(Locked::into_row).ok_or_else(|| tx.again("a pool was deleted"))?;
        }
    }
    Ok(seen.into_iter().map(|pool| (pool.name.clone(), pool)).collect())
}

fn new_groups(tx: &mut Tx<'_>, wanted: &Wanted) -> Result<Vec<String>> {
    let names: BTreeSet<_> = wanted.pools.iter().flat_map(|pool| &pool.entitled_groups).collect();
    let mut new = Vec::new();
    for name in names.into_iter().filter(|name| *name != EVERYONE) {
        if tx.find(Group::named(name))?.is_none() {
            new.push(name.clone());
        }
    }
    Ok(new)
}

/// What of an existing pool cannot be changed and should be.
fn fixed(obstacles: &mut Vec<Obstacle>, name: &str, word: &str, now: &Settings, then: &Settings) {
    let mut fixed = |field, is: String, hint: String| {
        let error = Box::new(Error::PoolFixed { what: field, is, hint });
        obstacles.push(Obstacle { pool: name.to_owned(), field: Some(field), error });
    };
    if now.image != then.image {
        let stands =
            if then.image.as_str() == word { "" } else { &format!(", and {word:?} is now {}", then.image) };
        fixed("image", format!("{}{stands}", now.image), format!("image = \"{}\"", now.image));
    }
    if now.machine != then.machine {
        let MachineShape { memory_mib, vcpus, width, height } = now.machine;
        let is = format!("{memory_mib} MiB, {vcpus} vcpus, {width}x{height}");
        let hint = format!(
            "machine = {{ memory_mib = {memory_mib}, vcpus = {vcpus}, width = {width}, height = {height} }}"
        );
        fixed("machine", is, hint);
    }
}

fn plan(tx: &mut Tx<'_>, wanted: &Wanted, reach: &Reach, rows: Rows) -> Result<Planned> {
    let users = known_users(tx, wanted, rows)?;
    let resolved = resolve(tx, wanted, rows)?;
    let mut present = present(tx, wanted, reach, rows)?;
    let new_groups = new_groups(tx, wanted)?;
    let (mut plans, mut steps, mut obstacles) = (Vec::new(), Vec::new(), Vec::new());
    for new in &wanted.pools {
        let mut obstacle = |field, error| {
            obstacles.push(Obstacle { pool: new.name.clone(), field: Some(field), error: Box::new(error) });
        };
        for name in new.entitled_users.iter().filter(|name| !users.contains(*name)) {
            obstacle("entitled_users", Error::not_found("user", name));
        }
        let now = match present.remove(&new.name) {
            Some(pool) => Some((pool.id, Settings::from(pools::view(tx, pool, true)?))),
            None => None,
        };
        let image = match resolved.get(&new.image) {
            Some(Ok(image)) => Some(image.digest.clone()),
            Some(Err(why)) => {
                obstacle("image", Error::ImageUnclear(why.clone()));
                // So that the rest of the plan is seen.
                now.as_ref().map(|(_, now)| now.image.clone())
            }
            None => None,
        };
        let Some(then) = image.map(|image| Settings::wanted(new, image)) else { continue };
        if let Some((_, now)) = &now {
            fixed(&mut obstacles, &new.name, &new.image, now, &then);
        }
        let changes = changes(now.as_ref().map(|(_, now)| now), &then);
        let action = match (&now, changes.is_empty()) {
            (None, _) => PlanAction::Create,
            (Some(_), false) => PlanAction::Change,
            (Some(_), true) => PlanAction::Unchanged,
        };
        plans.push(PoolPlan { pool: new.name.clone(), action, changes });
        steps.push(Step { new: Some(new.clone()), now, then: Some(then) });
    }
    if wanted.prune {
        for (name, pool) in present {
            match pools::check_unused(tx, &pool) {
                Ok(()) => {}
                Err(error @ Error::InUse { .. }) => {
                    obstacles.push(Obstacle { pool: name.clone(), field: None, error: Box::new(error) });
                }
                Err(e) => return Err(e),
            }
            let now = Some((pool.id, Settings::from(pools::view(tx, pool, true)?)));
            plans.push(PoolPlan { pool: name, action: PlanAction::Delete, changes: Vec::new() });
            steps.push(Step { new: None, now, then: None });
        }
    }
    let withdraws = steps.iter().any(|step| match (&step.now, &step.then) {
        (Some((_, now)), Some(then)) => {
            !now.entitled_users.is_subset(&then.entitled_users)
                || !now.entitled_groups.is_subset(&then.entitled_groups)
        }
        (now, None) => now.is_some(),
        (None, _) => false,
    });
    let revision = revision(wanted.prune, &plans, &steps);
    let plan = Plan {
        revision,
        pools: plans,
        new_groups,
        obstacles,
        withdraws,
        touched: Vec::new(),
        relieved: Vec::new(),
    };
    Ok(Planned { plan, steps })
}

/// The sha256 of what a plan was made from, in hexadecimal.
fn revision(prune: bool, plans: &[PoolPlan], steps: &[Step]) -> String {
    let mut sha = Sha256::new();
    sha.update([u8::from(prune)]);
    for (plan, step) in plans.iter().zip(steps) {
        // JSON has its ends in it: nothing can move from one to the next.
        sha.update(serde_json::to_vec(&(&plan.pool, &step.now, &step.then)).unwrap_or_default());
    }
    sha.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Has the pool be what it should.
fn change(tx: &mut Tx<'_>, actor: &str, id: PoolId, now: &Settings, then: &Settings) -> Result<()> {
    let pool = tx.lock(Pool::key(&id))?.filter(|pool| pool.deleted_at.is_none());
    let mut pool = pool.ok_or_else(|| Error::not_found("pool", id))?;
    let mut said = Vec::new();
    for FieldChange { field, from, to } in changes(Some(now), then) {
        // Each of these has a line of its own.
        if !field.starts_with("entitled_") {
            said.push(format!("{field}: {from} → {to}"));
        }
    }
    if !said.is_empty() {
        pool.description.clone_from(&then.description);
        pool.policy = Json(then.policy);
        let rescheduled = pool.rules.0.snapshots.every_s != then.rules.snapshots.every_s;
        pool.rules = Json(then.rules.clone());
        pool.max_desktops = then.max_desktops;
        tx.update(&pool)?;
        if rescheduled {
            snapshots::reschedule(tx, &pool)?;
        }
        tx.audit(actor, "pool.changed", &pool.name, &said.join(", "))?;
    }
    for name in now.entitled_users.difference(&then.entitled_users) {
        entitle::take(tx, actor, &pool, &Holder::User(name.clone()))?;
    }
    for name in now.entitled_groups.difference(&then.entitled_groups) {
        entitle::take(tx, actor, &pool, &Holder::Group(name.clone()))?;
    }
    for name in then.entitled_users.difference(&now.entitled_users) {
        entitle::give(tx, actor, &pool, &Holder::User(name.clone()))?;
    }
    for name in then.entitled_groups.difference(&now.entitled_groups) {
        entitle::give(tx, actor, &pool, &Holder::Group(name.clone()))?;
    }
    Ok(())
}

/// Does it all; gives the pools that are not as they were, and who has no role for one any more.
fn carry_out(tx: &mut Tx<'_>, actor: &str, steps: Vec<Step>) -> Result<(Vec<PoolId>, Vec<UserId>)> {
    let (mut touched, mut relieved) = (Vec::new(), Vec::new());
    for step in steps {
        match (step.now, step.then) {
            (Some((_, now)), Some(then)) if now == then => {}
            (Some((id, now)), Some(then)) => {
                change(tx, actor, id, &now, &then)?;
                touched.push(id);
            }
            (Some((id, _)), None) => {
                if let Some(pool) = tx.lock(Pool::key(&id))? {
                    relieved.extend(pools::delete(tx, actor, pool, false)?.users);
                    touched.push(id);
                }
            }
            (None, Some(then)) => {
                if let Some(new) = step.new {
                    match pools::insert(tx, actor, &new, &then.image) {
                        // There was none when the plan was made.
                        Err(Error::NameTaken { .. }) => return Err(tx.again("a pool was made").into()),
                        inserted => touched.push(inserted?.id),
                    }
                }
            }
            (None, None) => {}
        }
    }
    Ok((touched, relieved))
}

impl Store {
    /// What would have to be done for the pools to be as they should be, by who may change those of this reach.
    ///
    /// # Errors
    /// [`Error::OutOfScope`], or a database fault.
    pub async fn plan_pools(&self, reach: &Reach, wanted: &Wanted) -> Result<Plan> {
        let (reach, wanted) = (reach.clone(), wanted.clone());
        self.read(move |tx| Ok(plan(tx, &wanted, &reach, Rows::Seen)?.plan)).await
    }

    /// Does all that is needed for the pools to be as they should be, or nothing. With a `revision`, only what the plan of that
    /// revision said.
    ///
    /// # Errors
    /// [`Error::OutOfScope`]; [`Error::PlanOutdated`]; [`Error::PlanRefused`] with all that stands in the way; or a database fault.
    pub async fn apply_pools(
        &self,
        actor: &str,
        reach: &Reach,
        wanted: &Wanted,
        revision: Option<&str>,
    ) -> Result<Plan> {
        let (actor, revision) = (actor.to_owned(), revision.map(str::to_owned));
        let (reach, wanted) = (reach.clone(), wanted.clone());
        self.write(move |tx| {
            let Planned { mut plan, steps } = plan(tx, &wanted, &reach, Rows::Held)?;
            if revision.as_ref().is_some_and(|revision| *revision != plan.revision) {
                return Err(Error::PlanOutdated);
            }
            if !plan.obstacles.is_empty() {
                return Err(Error::PlanRefused(plan.obstacles));
            }
            (plan.touched, plan.relieved) = carry_out(tx, &actor, steps)?;
            Ok(plan)
        })
        .await
    }
}
