//! `/portal`: the signed-in user's cards.

use super::caller::SignedIn;
use super::problem::Result;
use crate::app::App;
use crate::view;
use axum::Json;
use axum::extract::State;
use lucarne_control::agent::{TemplateObserved, TemplateState};
use lucarne_control::api::{Availability, Card, Problem, Session};
use lucarne_control::desktop::{DesiredState, Phase};
use lucarne_core::store::{DesktopRow, PoolRow, Reach};
use std::sync::Arc;

/// The pools that the caller may use, with their desktops.
#[utoipa::path(get, path = "/portal", tag = "portal", security(("cookie" = []), ("token" = [])), responses(
    (status = 200, body = Vec<Card>),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_a_user: the local administrator, whose user was deleted"),
))]
pub async fn portal(State(app): State<Arc<App>>, caller: SignedIn) -> Result<Json<Vec<Card>>> {
    let user = caller.user()?;
    let pools = app.store.pools_of(user).await?;
    // Those that are being destroyed are the user's no more.
    let mut desktops = app.store.desktops(&Reach::own(user), false, None, i64::MAX).await?;
    desktops.retain(|d| d.desired != DesiredState::Absent);
    let sessions = app.store.sessions(&Reach::own(user), false, None, i64::MAX).await?;
    let cards = pools.into_iter().map(|pool| {
        let desktop = desktops.iter().find(|d| d.pool == pool.name).cloned();
        let session = sessions
            .iter()
            .find(|s| desktop.as_ref().is_some_and(|d| d.id == s.session.desktop))
            .map(|s| view::session(s.session.clone(), &app.viewers));
        (pool, desktop, session)
    });
    let online = app.store.hosts_online().await?;
    let mut shown = Vec::new();
    for (pool, desktop, session) in cards {
        let templates = app.store.templates(&pool.template).await?;
        shown.push(card(&app, online, templates, pool, desktop, session));
    }
    Ok(Json(shown))
}

fn card(
    app: &App,
    online: u64,
    templates: Vec<(String, TemplateObserved)>,
    pool: PoolRow,
    desktop: Option<DesktopRow>,
    session: Option<Session>,
) -> Card {
    let templates: Vec<_> = templates.into_iter().map(|(_, t)| t).collect();
    let desktop = desktop.map(|d| view::desktop(d, &app.control.fleet));
    let (availability, detail, progress) = match &desktop {
        Some(d) if d.phase == Phase::Lost => (Availability::Unavailable, d.detail.clone(), None),
        Some(d) if d.phase != Phase::Preparing => (Availability::Available, String::new(), None),
        _ => fresh(
            online,
            &templates,
            pool.desktops >= pool.max_desktops && pool.waiting == 0 && desktop.is_none(),
        ),
    };
    Card {
        pool: pool.id,
        name: pool.name,
        description: pool.description,
        kind: pool.rules.kind,
        desktop,
        session,
        availability,
        detail,
        progress,
    }
}

/// Whether a fresh desktop could be had.
fn fresh(online: u64, templates: &[TemplateObserved], full: bool) -> (Availability, String, Option<u8>) {
    let of = |state| templates.iter().filter(move |t| t.state == state);
    if online == 0 {
        let detail = "no host is connected; ask an administrator to start one";
        return (Availability::Unavailable, detail.to_owned(), None);
    }
    if full {
        let detail = "all desktops are in use; try again when someone has logged off";
        return (Availability::Unavailable, detail.to_owned(), None);
    }
    if of(TemplateState::Ready).next().is_some() {
        return (Availability::Available, String::new(), None);
    }
    if let Some(best) = of(TemplateState::Building).max_by_key(|t| t.progress) {
        return (Availability::Preparing, best.detail.clone(), Some(best.progress));
    }
    if let Some(failed) = of(TemplateState::Failed).next() {
        let detail = format!("the template could not be made: {}; ask an administrator", failed.detail);
        return (Availability::Unavailable, detail, None);
    }
    (Availability::Preparing, "a host is about to make the template".to_owned(), None)
}
