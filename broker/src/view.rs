//! Rows and sights as the API shows them.

use crate::app::App;
use crate::fleet::{Fleet, Sight};
use crate::store::{DesktopRow, PoolRow};
use crate::viewers::Viewers;
use lucarne_control::api::{Desktop, Host, Pool, PoolTemplate, Session};
use lucarne_control::desktop::{DesiredState, ForkTimings, Phase};

/// A desktop with what its host sees of it now.
pub fn desktop(row: DesktopRow, fleet: &Fleet) -> Desktop {
    let mut shown = Desktop {
        id: row.id,
        name: row.name,
        pool: row.pool,
        host: row.host.as_ref().map(|(_, name)| name.clone()),
        phase: row.phase,
        detail: row.detail,
        user: row.user.map(|(_, name)| name),
        mac: row.mac,
        timings: row.timings,
        created_at: row.created_at,
    };
    if row.ended || shown.phase == Phase::Failed {
        return shown;
    }
    let Some((host, host_name)) = row.host else {
        shown.phase = Phase::Unplaced;
        return shown;
    };
    match fleet.sight(host, row.id, row.generation) {
        Sight::Lost => {
            shown.phase = Phase::Lost;
            shown.detail = format!("its host {host_name} is not connected");
        }
        Sight::NotYet if row.desired == DesiredState::Running => shown.phase = Phase::Placing,
        Sight::NotYet => shown.phase = Phase::Stopping,
        Sight::Seen(seen) => {
            if row.desired == DesiredState::Running {
                (shown.phase, shown.detail) = (seen.phase, seen.detail);
            } else {
                shown.phase = Phase::Stopping;
            }
            if seen.timings != ForkTimings::default() {
                shown.timings = seen.timings;
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
pub fn pool(row: PoolRow, fleet: &Fleet) -> Pool {
    let templates = fleet
        .templates(&row.template)
        .into_iter()
        .map(|(host, template)| PoolTemplate { host, template })
        .collect();
    Pool {
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
        max_desktops: row.max_desktops,
        entitled_users: row.entitled_users,
        entitled_groups: row.entitled_groups,
        desktops: row.desktops,
        templates,
        created_at: row.created_at,
    }
}

/// A host with what only its link knows.
pub fn host(mut host: Host, app: &App) -> Host {
    if let Some((pulse, facts)) = app.fleet.pulse(host.id) {
        host.online = pulse.online;
        host.last_seen = host.last_seen.max(pulse.last_seen);
        host.disk_free = pulse.disk_free;
        host.memory_available = pulse.memory_available;
        host.facts = facts;
    }
    host
}
