//! The recorder: one more viewer of the picture, whose updates go to a file (`lucarne_recording`) instead of a socket.
//!
//! ```text
//! off
//! waiting ── the first viewer with a session ──► running ── the desktop ends ──► over
//!                    └───────── a write fails ──────┴──► broken (required: viewers are refused and closed)
//! ```
//!
//! The host agent has opened the file and handed it over, because this process may not get at where it lies. What the picture
//! shows is taken at most every [`INTERVAL`], without loss, and each time is one block of the file. It never sees input.

use crate::desktop::Desktop;
use crate::picture::{Look, Pending, Seat};
use lucarne_control::ids::SessionId;
use lucarne_control::spec::{RecordingMode, RecordingPolicy};
use lucarne_display::{CursorShape, Encoder, Extras, Rect, UNLIMITED};
use lucarne_recording::{Header, VERSION, Writer};
use lucarne_rfb::encodings as enc;
use lucarne_rfb::server::write;
use lucarne_rfb::{ClientEncodings, PixelFormat};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Time between two looks at the picture. Shorter makes films in a page take more of the disk; a crash loses so much.
const INTERVAL: Duration = Duration::from_millis(200);

/// Time between two whole screens, if something has changed. Seeking draws what changed since the last, and a broken block
/// spoils as much.
const KEY_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes of changes after which there is a whole screen sooner.
const KEY_BYTES: usize = 4 << 20;

/// Lossless, and what any RFB client decodes; compression level 6, because a disk keeps it longer than a link.
const ENCODINGS: [i32; 6] = [
    enc::TIGHT,
    enc::ZRLE,
    enc::COPY_RECT,
    enc::DESKTOP_SIZE,
    enc::CURSOR_WITH_ALPHA,
    enc::COMPRESSION_0 + 6,
];

/// How far the recording is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Off,
    Waiting,
    Running,
    Broken(String),
    Over,
}

/// A desktop's recording, as the others see it.
pub(crate) struct Recording {
    policy: RecordingPolicy,
    session: watch::Sender<Option<SessionId>>,
    state: watch::Sender<State>,
}

impl Recording {
    pub(crate) fn new(policy: RecordingPolicy) -> Self {
        let state = if policy.mode == RecordingMode::Off { State::Off } else { State::Waiting };
        Self { policy, session: watch::Sender::new(None), state: watch::Sender::new(state) }
    }

    /// A viewer comes: recording begins, if it has not. The error is for the viewer's user.
    pub(crate) async fn begin(&self, session: Option<SessionId>) -> Result<(), String> {
        let Some(session) = session else { return self.allowed() };
        self.session.send_if_modified(|begun| begun.is_none() && begun.replace(session).is_none());
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| *state != State::Waiting).await;
        self.allowed()
    }

    fn allowed(&self) -> Result<(), String> {
        match &*self.state.borrow() {
            State::Broken(why) if self.policy.mode == RecordingMode::Required => Err(refusal(why)),
            _ => Ok(()),
        }
    }

    /// Waits until nobody may use the desktop any more because it cannot be recorded, and says why.
    pub(crate) async fn lost(&self) -> String {
        if self.policy.mode == RecordingMode::Required
            && let Ok(state) =
                self.state.subscribe().wait_for(|state| matches!(state, State::Broken(_))).await
            && let State::Broken(why) = &*state
        {
            return refusal(why);
        }
        std::future::pending().await
    }

    /// Waits until nothing more is written.
    pub(crate) async fn finished(&self) {
        let written = |state: &State| !matches!(state, State::Waiting | State::Running);
        let _ = self.state.subscribe().wait_for(written).await;
    }
}

fn refusal(why: &str) -> String {
    format!("this desktop may only be used while it is recorded, and it cannot be: {why}")
}

/// Records until the desktop ends. `file` is empty, and only ever appended to.
pub(crate) async fn run(desktop: Arc<Desktop>, file: Option<File>) {
    let recording = &desktop.recording;
    if *recording.state.borrow() == State::Off {
        return;
    }
    let mut session = recording.session.subscribe();
    let session = tokio::select! {
        session = session.wait_for(Option::is_some) => session.ok().and_then(|session| *session),
        _ = desktop.guest_ended() => None,
    };
    let Some(session) = session else {
        recording.state.send_replace(State::Over);
        return;
    };
    let recorded = match file {
        Some(file) => record(&desktop, session, file).await,
        None => Err(io::Error::other("its host could not make the file; the host agent's log says why")),
    };
    match recorded {
        Ok(()) => {
            recording.state.send_replace(State::Over);
        }
        Err(error) => {
            let why = match error.raw_os_error() {
                Some(_) if error.kind() == io::ErrorKind::StorageFull => "the host's disk is full".to_owned(),
                _ => error.to_string(),
            };
            tracing::error!(%session, why, "the desktop is not recorded any more");
            recording.state.send_replace(State::Broken(why.clone()));
            desktop.change(|status| status.detail = format!("it is not recorded: {why}"));
        }
    }
}

async fn record(desktop: &Desktop, session: SessionId, file: File) -> io::Result<()> {
    desktop.picture.first().await;
    let wake = Arc::new(Notify::new());
    let seat = desktop.picture.join_apart(wake.clone());
    let header = header(desktop, session);
    let began = Instant::now();
    let writer = tokio::task::spawn_blocking(move || Writer::new(file, &header)).await??;
    let mut tape = Tape {
        writer,
        began,
        name: desktop.name.clone(),
        encoder: None,
        cursor: None,
        key_at: began,
        since_key: 0,
    };
    tape = tape.look(&seat).await?;
    tracing::info!(%session, "the desktop is recorded");
    desktop.recording.state.send_replace(State::Running);
    loop {
        let ended = tokio::select! {
            () = wake.notified() => false,
            _ = desktop.guest_ended() => true,
        };
        if !ended {
            // Changes that follow at once are one look.
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = desktop.guest_ended() => {}
            }
        }
        tape = tape.look(&seat).await?;
        if ended {
            break;
        }
    }
    let (bytes, hash) = tokio::task::spawn_blocking(move || tape.finish()).await??;
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    tracing::info!(%session, bytes, hash, "the recording has ended");
    Ok(())
}

fn header(desktop: &Desktop, session: SessionId) -> Header {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let policy = &desktop.recording.policy;
    Header {
        version: VERSION,
        desktop: desktop.id.to_string(),
        name: desktop.name.clone(),
        session: Some(session.to_string()),
        pool: desktop.pool.map(|pool| pool.to_string()),
        started_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        keep_days: policy.days,
        keep_mib: policy.mib,
    }
}

/// What is written with.
struct Tape {
    writer: Writer<File>,
    began: Instant,
    name: String,
    /// None before the first key frame.
    encoder: Option<(Encoder, (u16, u16))>,
    /// The pointer's shape that was written last.
    cursor: Option<Arc<CursorShape>>,
    key_at: Instant,
    since_key: usize,
}

impl Tape {
    /// Writes what has changed, if anything has.
    async fn look(mut self, seat: &Seat) -> io::Result<Self> {
        let Pending { damaged, cursor, .. } = seat.pending();
        let same = |sent: &Arc<CursorShape>| cursor.as_ref().is_some_and(|now| Arc::ptr_eq(sent, now));
        let moved = cursor.is_some() && !self.cursor.as_ref().is_some_and(same);
        if !damaged && !moved && self.encoder.is_some() {
            return Ok(self);
        }
        let due =
            self.encoder.is_none() || self.key_at.elapsed() >= KEY_INTERVAL || self.since_key >= KEY_BYTES;
        if due {
            seat.refresh(Rect::new(0, 0, u16::MAX, u16::MAX));
        }
        let Look { screen, changes, .. } = seat.take();
        let size = (screen.width(), screen.height());
        // A screen of another size is another picture, and all of it is damaged.
        let key = due || self.encoder.as_ref().is_some_and(|(_, before)| *before != size);
        let write = move || {
            let mut out = Vec::new();
            if key {
                write::server_init(size.0, size.1, &PixelFormat::BGRX, &self.name, &mut out);
                let encodings = ClientEncodings::new(ENCODINGS.to_vec());
                self.encoder = Some((Encoder::new(PixelFormat::BGRX, encodings, size.0, size.1), size));
                (self.key_at, self.since_key) = (Instant::now(), 0);
            }
            let Some((encoder, _)) = &mut self.encoder else { return Ok(self) };
            let extras = Extras { cursor: cursor.as_deref().filter(|_| key || moved), ..Extras::default() };
            let changes = if key { changes.without_copies() } else { changes };
            encoder
                .encode_update(&screen, changes, &extras, UNLIMITED, &mut out)
                .map_err(io::Error::other)?;
            let at = self.began.elapsed();
            if key {
                self.writer.key(at, &out)?;
            } else if !out.is_empty() {
                self.since_key += out.len();
                self.writer.update(at, &out)?;
            }
            self.cursor = cursor;
            Ok(self)
        };
        tokio::task::spawn_blocking(write).await?
    }

    fn finish(self) -> io::Result<(u64, [u8; 32])> {
        let bytes = self.writer.bytes();
        let (file, hash) = self.writer.finish(self.began.elapsed())?;
        file.sync_all()?;
        Ok((bytes, hash))
    }
}
