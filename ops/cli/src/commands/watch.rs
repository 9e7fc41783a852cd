//! `lucarne watch`: what changes, as it does.

use crate::args::{Output, Watch};
use crate::client::{ApiError, Client, escape};
use crate::commands::user;
use crate::sse::Reader;
use anyhow::{Context, Result};
use http_body_util::BodyExt;
use lucarne_control::api::{Desktop, Host, Pool, Session};
use lucarne_control::desktop::Phase;
use lucarne_control::events::Event;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{sleep, timeout};

/// The server says something every 15 s; a stream that is silent for this long is broken.
const SILENCE: Duration = Duration::from_secs(50);

/// The first pause before the stream is opened again, and the longest: each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Watches until Ctrl-C, which is no failure.
pub async fn run(args: Watch) -> Result<()> {
    let client = Client::open(&args.remote).await?;
    let json = args.json || args.remote.output == Output::Json;
    let kinds = args.kind.iter().map(|kind| format!("kind={kind}"));
    let pool = args.pool.iter().map(|pool| format!("pool={}", escape(pool)));
    let query: Vec<_> = kinds.chain(pool).collect();
    let path = format!("/api/v1/events?{}", query.join("&"));
    tokio::select! {
        ended = watch(&client, &path, Printer { json, seen: HashMap::new() }) => ended,
        pressed = tokio::signal::ctrl_c() => pressed.context("Ctrl-C cannot be waited for"),
    }
}

/// Why there are no more events for now.
enum Stopped {
    /// It is worth coming back.
    Broken(String),
    /// Nobody reads what is printed.
    Unread,
    /// It cannot be printed, or not be had.
    Failed(anyhow::Error),
}

/// Watches, and comes back whenever the stream breaks.
async fn watch(client: &Client, path: &str, mut printer: Printer) -> Result<()> {
    let (mut last_id, mut opened, mut pause) = (String::new(), false, PAUSES.0);
    loop {
        let mut events = 0;
        let stopped = stream(client, path, &mut last_id, |event| {
            events += 1;
            printer.print(event)
        });
        let why = match stopped.await {
            Stopped::Broken(why) => why,
            Stopped::Unread => return Ok(()),
            Stopped::Failed(e) => {
                // A server that is away comes back, where there has been one; so does one that has too much to do.
                let worth = match e.downcast_ref::<ApiError>() {
                    Some(ApiError::Problem(problem)) => problem.status == 429 || problem.status >= 500,
                    Some(ApiError::Unreachable { .. } | ApiError::Protocol(_)) => true,
                    None => false,
                };
                if !(opened && worth) {
                    return Err(e);
                }
                e.to_string()
            }
        };
        if events > 0 {
            (opened, pause) = (true, PAUSES.0);
        }
        eprintln!("The stream ended ({why}); coming back.");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Reads one stream to its end.
async fn stream(
    client: &Client,
    path: &str,
    last_id: &mut String,
    mut print: impl FnMut(Event) -> io::Result<()>,
) -> Stopped {
    let resume = [("last-event-id", last_id.clone())];
    let headers: Vec<_> =
        resume.iter().filter(|(_, id)| !id.is_empty()).map(|(name, id)| (*name, id.as_str())).collect();
    let mut body = match client.stream(path, &headers).await {
        Ok(body) => body,
        Err(e) => return Stopped::Failed(e.into()),
    };
    let mut reader = Reader::after(last_id);
    loop {
        let frame = match timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(e))) => return Stopped::Broken(e.to_string()),
            Ok(None) => return Stopped::Broken("the server ended it".to_owned()),
            Err(_) => return Stopped::Broken(format!("nothing came for {} s", SILENCE.as_secs())),
        };
        let Ok(bytes) = frame.into_data() else { continue };
        let events = match reader.take(&bytes) {
            Ok(events) => events,
            Err(e) => return Stopped::Failed(e.into()),
        };
        for data in events {
            // What a newer server tells of is for newer programs.
            let Ok(event) = serde_json::from_str(&data) else { continue };
            match print(event) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Stopped::Unread,
                Err(e) => return Stopped::Failed(e.into()),
            }
        }
        // Once it was printed: what was not is told again.
        last_id.clone_from(&reader.last_id);
    }
}

/// Prints events, for people each that says something new.
struct Printer {
    json: bool,
    /// What was said last of a thing, by its id: its name, and the line.
    seen: HashMap<String, (String, String)>,
}

impl Printer {
    fn print(&mut self, event: Event) -> io::Result<()> {
        if self.json {
            return print_json(&event);
        }
        match event {
            Event::Hello { kinds } => {
                let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
                eprintln!("Watching {}; Ctrl-C ends it.", kinds.join(", "));
                Ok(())
            }
            Event::Reset { detail: _ } => {
                eprintln!(
                    "Changes may be missing here; lists, such as `lucarne desktop list`, show what is so now."
                );
                Ok(())
            }
            Event::Desktop { id, state } => {
                let over = state.phase == Phase::Stopped;
                self.say("desktop", &id.to_string(), Some((state.name.clone(), desktop(&state))), over)
            }
            Event::Session { id, state } => {
                let over = state.ended_at.is_some();
                self.say(
                    "session",
                    &id.to_string(),
                    Some((state.desktop_name.clone(), session(&state))),
                    over,
                )
            }
            Event::Pool { id, state } => {
                let said = state.map(|state| (state.name.clone(), pool(&state)));
                self.say("pool", &id.to_string(), said, false)
            }
            // It says no more than that, each time.
            Event::Card { id: _, name } => line("card", &name, "changed"),
            Event::Host { id, state } => {
                let said = state.map(|state| (state.name.clone(), host(&state)));
                self.say("host", &id.to_string(), said, false)
            }
            Event::Image { id, state } => {
                let said = state.map(|image| {
                    let on =
                        if image.hosts.is_empty() { "no host".to_owned() } else { image.hosts.join(", ") };
                    (format!("{} {}", image.name, image.version), format!("on {on}"))
                });
                self.say("image", &id.to_string(), said, false)
            }
            Event::User { id, state } => {
                let said = state.map(|user| {
                    let groups =
                        if user.groups.is_empty() { "no group".to_owned() } else { user.groups.join(", ") };
                    (user.name.clone(), format!("{}, in {groups}", user::roles(&user)))
                });
                self.say("user", &id.to_string(), said, false)
            }
        }
    }

    /// Says what a thing is, by name and in words, unless that was said last; nothing is where it is gone. `over`: there will be no
    /// more of it.
    fn say(&mut self, kind: &str, id: &str, said: Option<(String, String)>, over: bool) -> io::Result<()> {
        let Some((name, words)) = said else {
            let name = self.seen.remove(id).map_or_else(|| id.to_owned(), |(name, _)| name);
            return line(kind, &name, "gone");
        };
        if self.seen.get(id).is_some_and(|(_, before)| *before == words) {
            return Ok(());
        }
        line(kind, &name, &words)?;
        match over {
            true => drop(self.seen.remove(id)),
            false => drop(self.seen.insert(id.to_owned(), (name, words))),
        }
        Ok(())
    }
}

fn desktop(d: &Desktop) -> String {
    let user = d.user.as_ref().map(|user| format!(" for {user}")).unwrap_or_default();
    let host = d.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
    let detail = if d.detail.is_empty() { String::new() } else { format!(": {}", d.detail) };
    format!("{}, of {}{user}{host}{detail}", d.phase.as_str(), d.pool)
}

fn session(s: &Session) -> String {
    let state = serde_json::to_value(s.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default();
    let viewers = match s.viewers.len() {
        0 => String::new(),
        1 => ", 1 viewer".to_owned(),
        n => format!(", {n} viewers"),
    };
    format!("{state}, {} in {}{viewers}", s.user, s.pool)
}

fn pool(p: &Pool) -> String {
    let template = |t: &lucarne_control::api::PoolTemplate| {
        let state = serde_json::to_value(t.template.state).ok();
        let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default();
        match t.template.progress {
            progress @ 0..100 if state == "building" => format!("{state} {progress} % on {}", t.host),
            _ => format!("{state} on {}", t.host),
        }
    };
    let templates: Vec<_> = p.templates.iter().map(template).collect();
    let templates = if templates.is_empty() { "on no host".to_owned() } else { templates.join(", ") };
    format!("{} of {} desktops, template {templates}", p.desktops, p.max_desktops)
}

fn host(h: &Host) -> String {
    let mut words = vec![if h.online { "online" } else { "offline" }.to_owned()];
    words.extend(h.drained.then(|| "drained".to_owned()));
    words.extend(h.denied.then(|| "denied".to_owned()));
    words.push(format!("{} desktops", h.desktops));
    words.join(", ")
}

fn print_json(thing: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(thing)?)?;
    out.flush()
}

/// A line with the time of day (UTC).
fn line(kind: &str, name: &str, words: &str) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (hours, minutes, seconds) = (now / 3600 % 24, now / 60 % 60, now % 60);
    let mut out = io::stdout().lock();
    writeln!(out, "{hours:02}:{minutes:02}:{seconds:02}Z  {kind:<8}{name:<24} {words}")?;
    out.flush()
}
