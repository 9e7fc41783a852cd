//! How something is done to a desktop's snapshots: by its process, which is asked, or by one that is started as its user.

use crate::desktop_process::{read_status, say};
use crate::spawn;
use lucarne_desktop::control::{Command, Work, WorkEnd, WorkStatus};
use lucarne_qemu::process::Credentials;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// How long something may take that is done at rest: a layer is read and written, which may be as large as the disk.
const AT_REST_LIMIT: Duration = Duration::from_secs(6 * 3600);

/// The same once it is given up.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(30);

/// Longest line of what is done at rest, bytes.
const MAX_LINE: u64 = 64 << 10;

/// Progress is told in steps of so many percent.
const STEP: u8 = 20;

pub(crate) fn not_now(error: &io::Error) -> WorkEnd {
    WorkEnd::NotNow { why: error.to_string() }
}

/// Asks a desktop process, and waits until it says how it went.
pub(crate) async fn ask(
    stream: UnixStream,
    work: Work,
    given_up: &CancellationToken,
    tell: &(dyn Fn(u8) + Sync),
) -> io::Result<WorkEnd> {
    let ended = || Ok(WorkEnd::NotNow { why: "its desktop process ended meanwhile".into() });
    let mut lines = BufReader::new(stream);
    // It is told of at once, and what was done before does not count.
    let Some(before) = read_status(&mut lines).await? else { return ended() };
    let before = match before.work {
        // An agent before this one has asked for it.
        Some(now) if now.end.is_none() && now.todo == work => now.number.saturating_sub(1),
        last => {
            say(&mut lines, &Command::Work { todo: work }).await?;
            last.map_or(0, |last| last.number)
        }
    };
    let (mut asked, mut last) = (true, 0);
    loop {
        let status = tokio::select! {
            status = read_status(&mut lines) => status?,
            () = given_up.cancelled(), if asked => {
                asked = false;
                say(&mut lines, &Command::GiveUp).await?;
                continue;
            }
        };
        let Some(status) = status else { return ended() };
        let Some(now) = status.work.filter(|work| work.number > before) else { continue };
        if let Some(end) = now.end {
            return Ok(end);
        }
        if now.progress >= last + STEP {
            last = now.progress;
            tell(last);
        }
    }
}

/// Has a process of the desktop's user do it, where nothing of the desktop runs.
pub(crate) async fn at_rest(
    program: &Path,
    user: Option<&Credentials>,
    dir: &Path,
    work: Work,
    given_up: &CancellationToken,
    tell: &(dyn Fn(u8) + Sync),
) -> WorkEnd {
    let mut child = match spawn::at_rest(program, dir, work, user) {
        Ok(child) => child,
        Err(error) => return not_now(&error),
    };
    let (mut input, output) = (child.stdin.take(), child.stdout.take());
    let Some(output) = output else { return WorkEnd::Failed { why: "it says nothing".into() } };
    let mut lines = BufReader::new(output);
    let (mut end, mut line) = (None, Vec::new());
    let limit = tokio::time::sleep(AT_REST_LIMIT);
    tokio::pin!(limit);
    loop {
        let mut limited = (&mut lines).take(MAX_LINE);
        let read = tokio::select! {
            read = limited.read_until(b'\n', &mut line) => read,
            () = &mut limit => {
                let _ = child.kill().await;
                return WorkEnd::Failed { why: "it did not come to its end".into() };
            }
            // It gives up when nobody can ask it any more.
            () = given_up.cancelled(), if input.is_some() => {
                input = None;
                limit.as_mut().reset(tokio::time::Instant::now() + GIVE_UP_LIMIT);
                continue;
            }
        };
        if !matches!(read, Ok(1..)) {
            break;
        }
        match serde_json::from_slice::<WorkStatus>(&line) {
            Ok(WorkStatus { end: Some(how), .. }) => end = Some(how),
            Ok(status) => tell(status.progress),
            Err(error) => tracing::warn!(%error, "what is said of a snapshot is not understood"),
        }
        line.clear();
    }
    let _ = child.wait().await;
    end.unwrap_or_else(|| WorkEnd::Failed {
        why: "its work ended early; the desktop's log may say why".into(),
    })
}
