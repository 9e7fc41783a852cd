//! Short messages between those who use one PostgreSQL database: LISTEN and NOTIFY on a channel of its own.
//!
//! They are sent outside of transactions, by one connection: a NOTIFY inside holds a lock of the whole server until its
//! transaction is flushed, which would let transactions commit one after the other only. So a message may be lost, and
//! who needs to know looks again after a while.

use crate::fault::Fault;
use crate::postgres::{connect, settings};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, Config};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc as wakes;

/// The channel.
const CHANNEL: &str = "lucarne";

/// The longest message that the server takes is 8000 bytes.
const LONGEST: usize = 7900;

/// What is said where something that was said before could not be sent: whoever hears it may have missed anything.
const LOST: &str = "lost";

/// Between two attempts to connect, and two looks whether the listener is still wanted.
const PAUSE: Duration = Duration::from_millis(500);

/// What comes from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Somebody, perhaps oneself, said this.
    Said(String),
    /// From here on messages come; those before did not.
    Listening,
    /// Messages may have been missed.
    Missed,
}

/// The way to wake others; dropped, nothing comes from them any more.
#[derive(Debug)]
pub struct Wakes {
    say: mpsc::Sender<String>,
    over: Arc<AtomicBool>,
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Wakes {
    /// Joins those who use the database under `url`. What they say comes by the channel.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when its address cannot be read, [`Fault::Engine`] when there are no threads.
    pub fn join(url: &str) -> Result<(Self, wakes::UnboundedReceiver<Wake>), Fault> {
        let config = settings(url)?;
        let over = Arc::new(AtomicBool::new(false));
        let (say, said) = mpsc::channel();
        let (hear, heard) = wakes::unbounded_channel();
        let failed = |e| Fault::Engine(format!("cannot start a thread: {e}"));
        let (sender, listener) = (config.clone(), Arc::clone(&over));
        thread::Builder::new()
            .name("db-say".to_owned())
            .spawn(move || serve(&sender, &said))
            .map_err(failed)?;
        thread::Builder::new()
            .name("db-hear".to_owned())
            .spawn(move || listen(&config, &hear, &listener))
            .map_err(failed)?;
        Ok((Self { say, over }, heard))
    }

    /// Says something of one line to all; of what is said at once the lines come together.
    pub fn say(&self, line: String) {
        // Without the thread nobody hears it, which can happen at any time.
        let _ = self.say.send(line);
    }
}

/// Sends what is said, as much at once as there is.
fn serve(config: &Config, said: &mpsc::Receiver<String>) {
    let mut client: Option<Client> = None;
    let mut lost = false;
    loop {
        // What was lost is made known as soon as anything can be, and not only with what is said next.
        let mut text = match lost {
            false => match said.recv() {
                Ok(text) => text,
                Err(_) => return,
            },
            true => match said.recv_timeout(PAUSE) {
                Ok(text) => text,
                Err(mpsc::RecvTimeoutError::Timeout) => LOST.to_owned(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            },
        };
        if lost && text != LOST {
            text = format!("{LOST}\n{text}");
        }
        let mut next = None;
        while let Ok(more) = said.try_recv() {
            if text.len() + 1 + more.len() > LONGEST {
                next = Some(more);
                break;
            }
            text.push('\n');
            text.push_str(&more);
        }
        lost = false;
        for text in [Some(text), next].into_iter().flatten() {
            let mut sent = false;
            // A second try, on a new connection; whoever misses it looks again after a while.
            for _ in 0..2 {
                if client.is_none() {
                    client = connect(config).ok();
                }
                let Some(connected) = &mut client else { break };
                match connected.execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &text]) {
                    Ok(_) => {
                        sent = true;
                        break;
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, "cannot wake the other brokers");
                        client = None;
                    }
                }
            }
            lost |= !sent;
        }
    }
}

/// Passes on what is heard, until nobody wants it.
fn listen(config: &Config, hear: &wakes::UnboundedSender<Wake>, over: &AtomicBool) {
    let mut first = true;
    while !over.load(Ordering::Relaxed) && !hear.is_closed() {
        let Ok(mut client) = connect(config) else {
            thread::sleep(PAUSE);
            continue;
        };
        if client.batch_execute(&format!("LISTEN {CHANNEL}")).is_err() {
            thread::sleep(PAUSE);
            continue;
        }
        let wake = if std::mem::take(&mut first) { Wake::Listening } else { Wake::Missed };
        let _ = hear.send(wake);
        while !over.load(Ordering::Relaxed) && !hear.is_closed() && !client.is_closed() {
            let mut notifications = client.notifications();
            let mut coming = notifications.timeout_iter(PAUSE);
            let broken = loop {
                match coming.next() {
                    Ok(Some(said)) => {
                        if said.payload().lines().any(|line| line == LOST) {
                            let _ = hear.send(Wake::Missed);
                        }
                        drop(hear.send(Wake::Said(said.payload().to_owned())));
                    }
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            if broken {
                break;
            }
        }
    }
}
