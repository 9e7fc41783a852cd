//! The control socket: tells host agents the status, and takes their commands ([`crate::control`]).
//!
//! It knows nothing of how a status comes about or of what stopping takes.

use crate::control::{Command, Status};
use crate::desktop::{Desktop, Ending};
use crate::snapshots::Worker;
use lucarne_control::desktop::Phase;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longest command, bytes.
const MAX_LINE: u64 = 4096;

/// Agents at once: one, and during its restart two. More are a mistake, and each costs a task.
const MAX_AGENTS: usize = 16;

/// How long agents may take to read the last status.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves agents until the desktop has stopped and they have been told.
pub(crate) async fn serve(listener: UnixListener, desktop: Arc<Desktop>) {
    let mut agents = JoinSet::new();
    let mut heard = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if agents.len() < MAX_AGENTS => {
                    agents.spawn(serve_agent(stream, desktop.clone()));
                }
                Ok(_) => tracing::warn!("an agent was turned away: {MAX_AGENTS} are connected"),
                Err(error) => {
                    tracing::error!(%error, "the control socket accepts no agent");
                    // Descriptors run out and come back; without a pause this would spin until they do.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(told) = agents.join_next() => heard |= told.unwrap_or(false),
            () = desktop.stopped() => break,
        }
    }
    // The last status is what matters most: an agent that is just about to connect hears it as well.
    let farewell = async {
        while !heard || !agents.is_empty() {
            tokio::select! {
                biased;
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(agents.spawn(serve_agent(stream, desktop.clone()))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Some(told) = agents.join_next() => heard |= told.unwrap_or(false),
            }
        }
    };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("no agent has read the last status");
    }
}

/// Whether it was told the last status.
async fn serve_agent(stream: UnixStream, desktop: Arc<Desktop>) -> bool {
    let (read, mut write) = stream.into_split();
    let mut status = desktop.status();
    let ended = tokio::select! {
        told = tell(&mut write, &mut status) => told.map(|()| true),
        heard = hear(BufReader::new(read), &desktop) => heard.map(|()| false),
    };
    ended.unwrap_or_else(|error| {
        tracing::warn!(%error, "the connection to an agent ended");
        false
    })
}

/// Sends the status at once and after each change, `stopped`, `off` or `suspended` last.
async fn tell(
    write: &mut (impl AsyncWriteExt + Unpin),
    status: &mut watch::Receiver<Status>,
) -> io::Result<()> {
    loop {
        let (mut line, phase) = {
            let now = status.borrow_and_update();
            (serde_json::to_vec(&*now)?, now.phase)
        };
        line.push(b'\n');
        write.write_all(&line).await?;
        if phase == Phase::Stopped || phase.is_at_rest() || status.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Takes commands until the agent goes.
async fn hear(mut read: impl AsyncBufRead + Unpin, desktop: &Arc<Desktop>) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        (&mut read).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            if line.len() as u64 == MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the agent sent an endless line"));
            }
            if desktop.is_asked_for() {
                // It said what it wants and closed its side: it still wants to hear the outcome.
                desktop.stopped().await;
                std::future::pending::<()>().await;
            }
            return Ok(());
        }
        match serde_json::from_slice(&line) {
            Ok(Command::Stop) => {
                tracing::info!("the agent wants this desktop stopped");
                desktop.end(Ending::Stop);
            }
            Ok(Command::PowerOff) => {
                tracing::info!("the agent wants this desktop powered off");
                desktop.end(Ending::PowerOff);
            }
            Ok(Command::Suspend) => {
                tracing::info!("the agent wants this desktop suspended");
                desktop.suspend();
            }
            Ok(Command::Work { todo }) => {
                tracing::info!(?todo, "the agent wants something done to this desktop's snapshots");
                Worker::begin(desktop, todo);
            }
            Ok(Command::GiveUp) => desktop.worker.give_up(),
            Err(error) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the agent sent a command that is not known: {error}"),
                ));
            }
        }
    }
}
