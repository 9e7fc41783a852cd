//! Rows and sights as the API shows them.

use crate::app::App;
use crate::viewers::Viewers;
use lucarne_control::api::{Desktop, Pool, PoolTemplate, Session};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};
use lucarne_core::fleet::{Fleet, Sight};
use lucarne_core::store::{self, DesktopRow, PoolRow};

/// A desktop with what its host sees of it now.
pub fn desktop(row: DesktopRow, fleet: &Fleet) -> Desktop {
    let sight = row.sight(fleet);
    let mut shown = Desktop {
        id: row.id,
        name: row.name,
        pool: row.pool,
        host: row.host.as_ref().map(|host| host.name.clone()),
        phase: row.phase,
        detail: row.detail,
        user: row.user.map(|(_, name)| name),
        persistent: row.persistent,
        mac: row.mac,
        timings: row.timings,
        created_at: row.created_at,
    };
    if row.ended || shown.phase == Phase::Failed {
        return shown;
    }
    let Some(host) = row.host else {
        shown.phase = Phase::Unplaced;
        return shown;
    };
    match sight {
        Sight::Lost => {
            shown.phase = Phase::Lost;
            shown.detail = format!("its host {} is not connected", host.name);
        }
        Sight::NotYet if row.desired == DesiredState::Running => shown.phase = Phase::Placing,
        Sight::NotYet if row.desired.is_at_rest() => {}
        Sight::NotYet => shown.phase = Phase::Stopping,
        Sight::Seen(seen) => {
            // What became of an earlier wish is not what is wanted now.
            let at_rest = seen.phase.is_at_rest();
            if row.desired == DesiredState::Running && !at_rest {
                (shown.phase, shown.detail) = (seen.phase, seen.detail);
            } else if row.desired == DesiredState::Running {
                shown.phase = Phase::Placing;
            } else if row.desired.is_at_rest() && at_rest {
                // One that is suspended and to be off is resumed first, unless its host says why not.
                let as_wanted = (row.desired == DesiredState::Off) == (seen.phase == Phase::Off);
                let said = !seen.detail.is_empty();
                shown.phase = if as_wanted || said { seen.phase } else { Phase::Stopping };
                if !seen.detail.is_empty() {
                    shown.detail = seen.detail;
                }
            } else {
                shown.phase = Phase::Stopping;
                if row.desired == DesiredState::Suspended {
                    shown.detail = "it is being suspended".to_owned();
                }
            }
            if seen.timings != ForkTimings::default() {
                let frame_ms = seen.timings.frame_ms.or(shown.timings.frame_ms);
                shown.timings = ForkTimings { frame_ms, ..seen.timings };
            }
        }
    }
    shown
}

/// A session with its viewers.
pub fn session(mut session: Session, viewers: &Viewers) -> Session {
    session.viewers = viewers.of(session.id);
    session
}

/// A pool with its templates on the connected hosts.
pub async fn pool(row: PoolRow, app: &App) -> store::Result<Pool> {
    let templates = app.store.templates(&row.template).await?;
    let templates = templates.into_iter().map(|(host, template)| PoolTemplate { host, template }).collect();
    Ok(Pool {
        id: row.id,
        name: row.name,
        description: row.description,
        image: row.template.image,
        machine: row.template.machine,
        network: row.policy.network,
        shadow: row.policy.shadow,
        shadow_control: row.policy.shadow_control,
        audio: row.policy.audio,
        clipboard: row.policy.clipboard,
        recording: row.policy.recording,
        kind: row.rules.kind,
        ready: row.rules.ready,
        limits: row.rules.limits,
        power: row.rules.power,
        placement: row.rules.placement,
        home: row.rules.home,
        snapshots: row.rules.snapshots,
        max_desktops: row.max_desktops,
        entitled_users: row.entitled_users,
        entitled_groups: row.entitled_groups,
        desktops: row.desktops,
        waiting: row.waiting,
        templates,
        created_at: row.created_at,
    })
}
