//! `/events`: what changes, as server-sent events (WHATWG HTML, section 9.2).

use super::extract::InQuery;
use super::problem::{ApiError, Result};
use super::scoped::Scoped;
use crate::app::App;
use crate::events::stream::{self, Over};
use crate::events::{Filter, Place};
use crate::server::Cut;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use lucarne_control::api::{Permission, Problem};
use lucarne_control::events::{Event, EventKind};
use lucarne_core::store::{Caller, Error, Object};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The id of the last event that the client has (WHATWG HTML, section 9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks proxies to pass on each event at once (nginx's word for it, which others took over).
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a client may take for what it was still told when its stream ended; then its connection is cut.
const FAREWELL: Duration = Duration::from_secs(2);

/// What changes from here on, as server-sent events, until the client goes. Each event's `data` is an `Event` as JSON; its name is
/// the `kind`. The first is `hello`: lists that are read after it, and not before, miss nothing. `reset` says that changes may have
/// been missed, and that the lists are to be read again; it may come at any time, and in the place of `hello`. What changes several
/// times in a moment is told once, as it is then; it may be told again although it is as before. A client that comes back with
/// `Last-Event-ID` is told what it missed, or `reset`. The stream ends when the sign-in does, when what the caller may see changes,
/// and when the broker ends: come back, with `Last-Event-ID`. Every 15 s there is a comment, and the id to come back with. Changes
/// that come through other brokers are told too, unless their word is lost, and where that is noticed `reset` follows; who has
/// to be sure reads the lists now and then. A user has at most 16 streams through one broker.
#[utoipa::path(get, path = "/events", tag = "events", security(("cookie" = []), ("token" = [])),
    params(
        ("kind" = Option<Vec<EventKind>>, Query, style = Form, explode = false,
            description = "Only events of these kinds, with commas between them or each in a parameter of its own; all that the caller may see when left out, but for `card` where they are told of `pool`"),
        ("pool" = Option<String>, Query, description = "Only events of this pool, by name or id: its own, and those of its cards, desktops and sessions"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the client has"),
    ), responses(
    (status = 200, body = Event, content_type = "text/event-stream", description = "The events follow, for as long as the client listens"),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "invalid_request"),
    (status = 401, body = Problem, content_type = "application/problem+json", description = "not_signed_in"),
    (status = 403, body = Problem, content_type = "application/problem+json", description = "not_permitted: of one of the kinds too"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "pool_not_found"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "too_many_streams"),
))]
pub async fn events(
    State(app): State<Arc<App>>,
    caller: Scoped,
    cut: Option<Extension<Cut>>,
    headers: HeaderMap,
    InQuery(query): InQuery<Vec<(String, String)>>,
) -> Result<Response> {
    // Of each kind they are told what is within.
    let (caller, _) = caller.reach();
    let filter = filter(&app, &caller, query).await?;
    // One that cannot be read is of no event that is known here.
    let last_id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let place = app.events.enter(caller, filter, last_id);
    let place =
        place.map_err(|e| ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", e.to_string()))?;
    stream::prepare(&app, &place).await?;
    let (out, mut coming) = mpsc::channel(1);
    let taken = CancellationToken::new();
    let whole = taken.clone().drop_guard();
    let streams = app.streams.clone();
    streams.spawn(run(app, place, out, taken, cut.map(|Extension(cut)| cut)));
    let body = poll_fn(move |context| {
        // Dropped with the body, once it was passed on to its end or its client went.
        let _ = &whole;
        coming.poll_recv(context)
    });
    let mut response = Sse::new(body.map(Ok::<_, Infallible>)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The life of a stream. `taken` is when all that was given to the connection is, or nobody is there to take it.
async fn run(
    app: Arc<App>,
    place: Place,
    out: mpsc::Sender<axum::response::sse::Event>,
    taken: CancellationToken,
    cut: Option<Cut>,
) {
    let over = stream::run(&app, place, &out).await;
    tracing::debug!(?over, "an event stream ended");
    if over == Over::Withdrawn {
        let _ = timeout(FAREWELL, out.send(stream::withdrawn())).await;
    }
    drop(out);
    if timeout(FAREWELL, taken.cancelled()).await.is_err()
        && let Some(cut) = cut
    {
        cut.now();
    }
}

/// What the caller wants to be told, of what they may be.
async fn filter(app: &App, caller: &Caller, query: Vec<(String, String)>) -> Result<Filter> {
    let (mut asked, mut pool) = (BTreeSet::new(), None);
    for (name, value) in query {
        match name.as_str() {
            "kind" => {
                for word in value.split(',') {
                    asked.insert(word.trim().parse().map_err(|e| ApiError::invalid(format!("kind: {e}")))?);
                }
            }
            "pool" if pool.is_some() => {
                return Err(ApiError::invalid("pool is there twice; one stream is of one pool, or of all"));
            }
            "pool" => pool = Some(value),
            _ => {}
        }
    }
    let may = |kind: &EventKind| {
        kind.takes().iter().any(|permission| caller.may(*permission))
            || !caller.reach(kind.takes()).is_empty()
    };
    if let Some(kind) = asked.iter().find(|kind| !may(kind)) {
        let takes: Vec<_> = kind.takes().iter().map(|permission| permission.as_str()).collect();
        let detail = format!(
            "to be told of {kind} takes {}, which {} has not with this sign-in",
            takes.join(" or "),
            caller.name
        );
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_permitted", detail));
    }
    if let Some(kind) = asked.iter().find(|kind| pool.is_some() && !of_pools(**kind)) {
        return Err(ApiError::invalid(format!("{kind} is of no pool; leave it out, or leave out pool")));
    }
    let pool = match pool {
        Some(pool) => Some(visible(app, caller, &pool).await?),
        None => None,
    };
    if !asked.is_empty() {
        return Ok(Filter { kinds: asked, pool });
    }
    // What a card says of a pool, the pool's events say too, to whom they are told of all.
    let twice = |kind: EventKind| kind == EventKind::Card && caller.may(Permission::PoolsRead);
    let mut kinds: BTreeSet<_> = EventKind::ALL.into_iter().filter(may).collect();
    kinds.retain(|kind| !twice(*kind) && (pool.is_none() || of_pools(*kind)));
    if kinds.is_empty() {
        return Err(ApiError::invalid("nothing that this sign-in may see is of a pool; leave out pool"));
    }
    Ok(Filter { kinds, pool })
}

fn of_pools(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Host | EventKind::Image | EventKind::User)
}

/// The name of a pool that the caller may know of; else it does not exist for them.
async fn visible(app: &App, caller: &Caller, name_or_id: &str) -> Result<String> {
    let pool = app.store.pool(name_or_id).await?;
    let reach = caller.reach(&[Permission::PoolsRead, Permission::DesktopsRead]);
    // Members of a group may have desktops of whichever pool.
    if !reach.groups().is_empty() || app.store.holds(&reach, Object::Pool(pool.id)).await? {
        return Ok(pool.name);
    }
    if let Some(user) = caller.user {
        let usable = app.store.usable([user].into()).await?;
        if usable.get(&user).is_some_and(|pools| pools.contains(&pool.id)) {
            return Ok(pool.name);
        }
    }
    Err(Error::NotFound { what: "pool", name: name_or_id.to_owned() }.into())
}
