//! One who watches: the events that are for them, at their own pace, until they go, or have to.

use super::{Next, Place, Start, read, tell};
use crate::app::App;
use axum::response::sse;
use lucarne_control::events::{Event, EventKind};
use lucarne_core::store;
use std::slice;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// How often somebody is shown that the broker is there; proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Who has not taken an event for this long is gone.
const STUCK: Duration = Duration::from_secs(60);

/// How soon a browser that lost the stream comes back, unless it knows better. Shorter: all come at once when a broker starts.
const RETRY: Duration = Duration::from_secs(2);

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Who watched went.
    Gone,
    /// They took nothing for a minute.
    Stuck,
    /// Their sign-in has ended, or they may do something else than when they came.
    Withdrawn,
    /// The server goes away.
    Shutdown,
}

/// Finds out what a watcher may know who has just taken a place. Until it is taken nothing of what changes is told to them, and
/// so this is looked at after it.
///
/// # Errors
/// A database fault.
pub async fn prepare(app: &App, place: &Place) -> store::Result<()> {
    let watcher = slice::from_ref(&place.watcher);
    tell::check(app, watcher).await?;
    if place.watcher.wants(EventKind::Card) {
        tell::look_at_cards(app, watcher).await?;
    }
    if place.watcher.wants(EventKind::Image) {
        read::know_images(app).await?;
    }
    Ok(())
}

/// Gives what is to be told to `out`, one event at a time, until the end.
pub async fn run(app: &App, mut place: Place, out: &mpsc::Sender<sse::Event>) -> Over {
    let over = place.watcher.over.clone();
    let telling = async {
        let mut head = app.events.head.subscribe();
        let mut alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Some(first(app, &place));
        loop {
            if let Some(event) = next.take() {
                match timeout(STUCK, out.send(event)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Over::Gone,
                    Err(_) => return Over::Stuck,
                }
            }
            head.borrow_and_update();
            match app.events.next(place.cursor, &place.watcher) {
                Next::Told(number, told) => {
                    place.cursor = number;
                    let event = sse::Event::default().event(told.kind.as_str()).data(&told.data);
                    next = Some(event.id(app.events.id(number)));
                    continue;
                }
                Next::Lost(number) => {
                    place.cursor = number;
                    let detail = "changes may have been missed; read your lists again";
                    next = Some(event(app, &Event::Reset { detail: detail.to_owned() }, number));
                    continue;
                }
                Next::Nothing(number) => place.cursor = number,
            }
            tokio::select! {
                // The sender lives in `app`, so this never fails.
                _ = head.changed() => {}
                () = out.closed() => return Over::Gone,
                // The id goes along: what was not for them is nothing that they could miss.
                _ = alive.tick() => {
                    next = Some(sse::Event::default().comment("").id(app.events.id(place.cursor)));
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = app.shutdown.cancelled() => Over::Shutdown,
        () = over.cancelled() => Over::Withdrawn,
        over = telling => over,
    }
}

/// What a stream begins with.
fn first(app: &App, place: &Place) -> sse::Event {
    let begin = match place.start {
        Start::Fresh | Start::Resumed => {
            Event::Hello { kinds: place.watcher.filter.kinds.iter().copied().collect() }
        }
        Start::Lost => Event::Reset {
            detail: "what came after that event is not known any more here; read your lists again".to_owned(),
        },
    };
    event(app, &begin, place.cursor).retry(RETRY)
}

/// The last that is said to somebody who may not know any more what they could.
pub fn withdrawn() -> sse::Event {
    let detail =
        "the sign-in has ended, or what you may see has changed; come back, and read your lists again";
    said(&Event::Reset { detail: detail.to_owned() })
}

fn event(app: &App, event: &Event, number: u64) -> sse::Event {
    said(event).id(app.events.id(number))
}

fn said(event: &Event) -> sse::Event {
    // Every one of our types has a form in JSON.
    sse::Event::default().event(event.name()).data(serde_json::to_string(event).unwrap_or_default())
}
