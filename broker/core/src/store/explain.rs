//! What a user would get of a pool, and why: every rule and every host that a connect asks, and what each says. Nothing is changed.

use super::places::Places;
use super::{Error, Result, Store, connect, disks, pools, quotas, seconds, users, waiting};
use crate::plan::World;
use lucarne_control::GroupId;
use lucarne_control::api::{ExplainedHost, ExplainedRule, Explanation, PastDesktop};
use lucarne_db::Tx;
use lucarne_db::tables::{Assignment, Desktop, Group, HolderKind, Host, Placement, Pool, User};
use std::sync::Arc;

/// Hosts, and desktops of the past, that an explanation lists at most.
const HOSTS: usize = 100;
const PAST: usize = 10;

fn rule(rule: &str, passed: bool, says: impl Into<String>) -> ExplainedRule {
    ExplainedRule { rule: rule.to_owned(), passed, says: says.into() }
}

/// By what a user may use a pool; none when they may not.
fn by_what(tx: &mut Tx<'_>, user: &User, pool: &Pool) -> Result<Option<String>> {
    let mut by = Vec::new();
    for held in pools::entitlements(tx, user.id, pool.id)? {
        match held.holder_kind {
            HolderKind::User => by.push("by name".to_owned()),
            HolderKind::Group => {
                let group = tx.peek(Group::key(&GroupId(held.holder)))?;
                by.extend(group.map(|group| format!("by the group {}", group.name)));
            }
        }
    }
    Ok((!by.is_empty()).then(|| by.join(", ")))
}

fn past(tx: &mut Tx<'_>, user: &User, pool: &Pool) -> Result<Vec<PastDesktop>> {
    let last = Assignment::of_user_in_pool(&user.id, &pool.id).newest_first().limit(PAST);
    let mut past = Vec::new();
    for assignment in tx.list(last)? {
        let desktop = tx.peek(Desktop::key(&assignment.desktop_id))?;
        let placement = tx.peek(Placement::key(&assignment.desktop_id, &1))?;
        let host = placement.as_ref().map(|p| tx.peek(Host::key(&p.host_id))).transpose()?.flatten();
        let failed = desktop.as_ref().map(|d| d.detail.clone()).filter(|detail| !detail.is_empty());
        let end_reason = match (assignment.end_reason, failed) {
            (Some(reason), Some(detail)) => Some(format!("{reason}: {detail}")),
            (reason, _) => reason,
        };
        past.push(PastDesktop {
            desktop: assignment.desktop_id,
            name: desktop.map(|d| d.name).unwrap_or_default(),
            assigned_at: seconds(assignment.created_at),
            host: host.map(|host| host.name),
            placed: placement.and_then(|p| p.reason),
            ended_at: assignment.ended_at.map(seconds),
            end_reason,
        });
    }
    Ok(past)
}

/// The desktop that they have, and why they would not get it again.
fn present(
    tx: &mut Tx<'_>,
    user: &User,
    pool: &Pool,
    world: &dyn World,
) -> Result<Option<(Desktop, Option<String>)>> {
    let Some(assignment) = tx.find(Assignment::live_in_pool(&user.id, &pool.id))? else { return Ok(None) };
    let Some(desktop) = tx.peek(Desktop::key(&assignment.desktop_id))? else { return Ok(None) };
    let against = match connect::failure(&desktop, world) {
        Some(why) => Some(why),
        None if desktop.persistent => None,
        None => connect::out_of_reach(tx, &desktop)?,
    };
    Ok(Some((desktop, against)))
}

fn explain(
    tx: &mut Tx<'_>,
    user: &User,
    pool: &Pool,
    world: &dyn World,
    places: &Places,
) -> Result<Explanation> {
    let mut e = Explanation {
        user: user.name.clone(),
        pool: pool.name.clone(),
        outcome: String::new(),
        says: String::new(),
        rules: Vec::new(),
        hosts: Vec::new(),
        hosts_total: 0,
        past: past(tx, user, pool)?,
    };
    let end = |e: &mut Explanation, outcome: &str, says: String| {
        (e.outcome, e.says) = (outcome.to_owned(), says);
    };
    match by_what(tx, user, pool)? {
        Some(by) => e.rules.push(rule("entitlement", true, format!("{} may use it {by}", user.name))),
        None => {
            let refused = Error::NotEntitled { user: user.name.clone(), pool: pool.name.clone() }.to_string();
            e.rules.push(rule("entitlement", false, "neither by name nor by a group of theirs"));
            end(&mut e, "not_entitled", refused);
            return Ok(e);
        }
    }
    let mut given_up = false;
    let disk = disks::seen(tx, pool, user.id)?;
    let only = disk.as_ref().and_then(|disk| disk.host_id);
    let mut found = present(tx, user, pool, world)?;
    // One that is out of reach is given up only for one that is not.
    if let Some((desktop, against @ Some(_))) = &mut found
        && connect::failure(desktop, world).is_none()
        && !places.any(tx, pool, only, world)?
    {
        *against = None;
    }
    match found {
        Some((desktop, None)) => {
            let host = desktop.host_id.map(|host| tx.peek(Host::key(&host))).transpose()?.flatten();
            let at = host.map(|host| format!(" on {}", host.name)).unwrap_or_default();
            e.rules.push(rule(
                "desktop",
                true,
                format!("they have the desktop {}{at}, and keep it", desktop.name),
            ));
            end(
                &mut e,
                "desktop_found",
                format!("{} is connected to the desktop {}{at}", user.name, desktop.name),
            );
            return Ok(e);
        }
        Some((desktop, Some(why))) => {
            given_up = true;
            e.rules.push(rule(
                "desktop",
                true,
                format!("their desktop {} is to be replaced: {why}", desktop.name),
            ));
        }
        None => e.rules.push(rule("desktop", true, "they have none, so one is made")),
    }
    if let Some(refused) = quotas::obstacle(tx, user)? {
        e.rules.push(rule("quota", false, refused.to_string()));
        end(&mut e, "quota_reached", refused.to_string());
        return Ok(e);
    }
    let waiting = waiting::good(tx, pool, world)?;
    if waiting > 0 {
        e.rules.push(rule(
            "waiting",
            true,
            format!("{waiting} desktop(s) of the pool wait for whoever comes"),
        ));
        let says = format!("{} gets a desktop that waits for whoever comes", user.name);
        end(&mut e, "desktop_waiting", says);
        return Ok(e);
    }
    let used = format!("{} of {} desktops are in use", pool.desktops, pool.max_desktops);
    if pool.desktops >= pool.max_desktops && !given_up {
        let refused = Error::PoolFull { pool: pool.name.clone(), max: i64::from(pool.max_desktops) };
        e.rules.push(rule("limit", false, used));
        end(&mut e, "pool_full", refused.to_string());
        return Ok(e);
    }
    e.rules.push(rule("limit", true, used));
    if let Some(disk) = disk {
        let host = only.map(|host| tx.peek(Host::key(&host))).transpose()?.flatten();
        let at = host.map_or("nowhere yet".to_owned(), |host| format!("on {}, and nowhere else", host.name));
        e.rules.push(rule("disk", true, format!("their home disk {} is {at}", disk.id)));
    }
    let verdicts = places.consider(tx, pool, only, world)?;
    e.hosts_total = verdicts.len() as u64;
    let fit = verdicts.iter().filter(|v| v.fits).count();
    let unmade = verdicts.iter().any(|v| v.template_failed);
    let chosen = verdicts.first().filter(|v| v.fits).map(|v| v.name.clone());
    let view = |(n, v): (usize, crate::plan::Verdict)| ExplainedHost {
        host: v.name,
        chosen: n == 0 && v.fits,
        fits: v.fits,
        says: v.says,
    };
    e.hosts = verdicts.into_iter().enumerate().map(view).take(HOSTS).collect();
    e.rules.push(rule("host", fit > 0, format!("{fit} of {} hosts can take a desktop", e.hosts_total)));
    match chosen {
        Some(host) => {
            let says = format!("{} gets a fresh desktop on {host}: {}", user.name, e.hosts[0].says);
            end(&mut e, "desktop_made", says);
        }
        None => {
            let each: Vec<_> = e.hosts.iter().map(|h| format!("{}: {}", h.host, h.says)).collect();
            let reason =
                if each.is_empty() { "no host has ever connected".to_owned() } else { each.join("; ") };
            let reason = match only {
                Some(_) => format!("the home disk is on one host alone: {reason}"),
                None => reason,
            };
            let pool = pool.name.clone();
            match unmade {
                true => end(&mut e, "desktop_failed", Error::TemplateFailed { pool, reason }.to_string()),
                false => end(&mut e, "no_host", Error::NoHost { pool, reason }.to_string()),
            }
        }
    }
    Ok(e)
}

impl Store {
    /// What the user would get of the pool now, and why.
    ///
    /// # Errors
    /// [`Error::NotFound`], or a database fault.
    pub async fn explain(&self, user: &str, pool: &str, world: Arc<dyn World>) -> Result<Explanation> {
        let (user, pool, places) = (user.to_owned(), pool.to_owned(), Arc::clone(&self.places));
        self.read(move |tx| {
            let user = users::find(tx, &user)?;
            let pool = pools::find(tx, &pool)?;
            explain(tx, &user, &pool, &*world, &places)
        })
        .await
    }
}
