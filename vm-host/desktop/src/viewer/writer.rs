//! The writing half of a viewer: carries out its orders and sends updates.
//!
//! An update goes out when the client has asked for one (or for continuous updates), there is something to send, and
//! everything before it is with the kernel and, where the client answers fences, so far on its way that it will not wait
//! (`flow`). What does not fit into an update stays for later ones, behind what is new. Meanwhile damage merges in the seat,
//! so at most one frame is ever unsent, however slow the client is. Sound goes before and between updates. It knows nothing of
//! input.

use super::board::Board;
use super::flow::Flow;
use super::inbox::{Inbox, Order};
use super::speaker::Speaker;
use super::trace::{Drawn, Tracer};
use super::{fence, server_init};
use crate::displays::Layout;
use crate::picture::{Arrival, Pending, Seat};
use lucarne_display::{CursorShape, EncodeError, Encoded, Encoder, Extras, Region, Resize};
use lucarne_rfb::encodings as enc;
use lucarne_rfb::server::write;
use lucarne_rfb::server::write::{ResizeReason, ResizeStatus};
use lucarne_rfb::{ClientEncodings, PixelFormat};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A viewer that takes no byte for this long, with some waiting, is gone in all but name. Shorter would close those
/// behind a network that recovers.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Pixels that are encoded in place; more go to a thread of their own, because they would hold up this viewer's input.
const INLINE_PIXELS: u64 = 128 * 128;

/// Quiet before what was sent as JPEG is sent again without loss. Shorter would spend bytes on pictures that move;
/// longer and people see the blur.
const REPAIR_AFTER: Duration = Duration::from_millis(120);

/// The same where pictures change just after they were repaired, again and again: each time twice as long, up to this.
const REPAIR_LATEST: Duration = Duration::from_secs(2);

/// And beyond that so many times of the link's own: what changes in answer to what the viewer sees comes no sooner than one.
const REPAIR_TRIPS: u32 = 2;

/// A change so soon after a repair makes it one in vain.
const REPAIRED_FOR: Duration = Duration::from_secs(1);

/// Pixels repaired at once: new damage waits no longer than these take.
const REPAIR_PIXELS: u64 = 256 * 1024;

/// Bytes that a pixel takes without loss where it was worth a JPEG: grain is not compressed.
const LOSSLESS_BYTES: u64 = 3;

/// A link of fewer bytes a second is worth an encoding of its own: what viewers share takes up to five times the bytes for text.
const SHARED_RATE: f64 = 1_000_000.0;

/// Bytes of an update while sound plays, about: the next sound waits behind them. Less would cut pictures into ever more
/// parts; at 20 Mbit/s these take 50 ms.
const BESIDE_SOUND: usize = 128 << 10;

/// Why a viewer's writing half ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("it took nothing for {} s with {waiting} bytes waiting", STALL_LIMIT.as_secs())]
    Stalled { waiting: usize },
    #[error("its connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("an encoder failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The screens are like this now.
const OF_SERVER: Resize = Resize { reason: ResizeReason::Server, status: ResizeStatus::Ok };

/// What is to be told with the next update, besides pixels.
#[derive(Default)]
struct News {
    resize: Option<Resize>,
    name: bool,
    absolute_pointer: bool,
    acknowledge_input: bool,
    acknowledge_audio: bool,
}

impl News {
    fn any(&self) -> bool {
        self.resize.is_some()
            || self.name
            || self.absolute_pointer
            || self.acknowledge_input
            || self.acknowledge_audio
    }
}

/// The writing half of one viewer.
pub(super) struct Writer<'a> {
    seat: Seat,
    /// The clipboard's, for those who may use it.
    board: Option<Board>,
    /// Where there is sound to be had.
    speaker: Option<Speaker>,
    inbox: &'a Inbox,
    wake: Arc<Notify>,
    name: &'a str,
    /// Away while another thread encodes with it.
    encoder: Option<Encoder>,
    encodings: ClientEncodings,
    out: Vec<u8>,
    news: News,
    cursor: Option<Arc<CursorShape>>,
    /// The lock keys' lights, as the client was told.
    leds: Option<u8>,
    /// The displays, as the client was told.
    layout: Option<Arc<Layout>>,
    requested: bool,
    continuous: bool,
    repair_at: Option<Instant>,
    repair_wait: Duration,
    /// The last repair that was sent.
    repaired: Option<Instant>,
    flow: Flow,
    /// Sound took what could be sent and a picture waits: it comes first now.
    picture_first: bool,
    tracer: &'a Tracer,
    /// The update that is in `out`.
    drawn: Option<Drawn>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        seat: Seat,
        board: Option<Board>,
        speaker: Option<Speaker>,
        inbox: &'a Inbox,
        wake: Arc<Notify>,
        name: &'a str,
        tracer: &'a Tracer,
    ) -> Self {
        Self {
            seat,
            board,
            speaker,
            inbox,
            wake,
            name,
            encoder: None,
            encodings: ClientEncodings::default(),
            out: Vec::new(),
            news: News::default(),
            cursor: None,
            leds: None,
            layout: None,
            requested: false,
            continuous: false,
            repair_at: None,
            repair_wait: REPAIR_AFTER,
            repaired: None,
            flow: Flow::default(),
            picture_first: false,
            tracer,
            drawn: None,
        }
    }

    /// Prepares ServerInit with the picture's present size.
    pub(super) fn greet(&mut self) {
        let (width, height) = self.seat.pending().size;
        server_init((width, height), self.name, &mut self.out);
        self.encoder = Some(Encoder::new(PixelFormat::BGRX, ClientEncodings::default(), width, height));
    }

    /// Sends until the connection ends.
    pub(super) async fn run(mut self, mut stream: impl AsyncWrite + Unpin) -> Result<(), WriteError> {
        loop {
            let taken = self.inbox.take();
            for order in taken.orders {
                self.carry_out(order);
            }
            if let Some(board) = &mut self.board {
                board.say(&mut self.out);
            }
            if let Some(area) = taken.refresh {
                self.seat.refresh(area);
            }
            self.requested |= taken.requested.is_some();
            if let Some(budget) = self.flow.budget() {
                self.fill(budget).await?;
            }
            if let Some(payload) = self.flow.overdue(Instant::now()) {
                write::fence(fence::REQUEST | fence::BLOCK_BEFORE, &payload, &mut self.out);
            }
            if self.out.is_empty() {
                self.wait().await;
            } else {
                let payload = self.flow.sent(self.out.len(), Instant::now());
                if let Some(payload) = payload {
                    write::fence(fence::REQUEST | fence::BLOCK_BEFORE, &payload, &mut self.out);
                }
                send(&mut stream, &self.out).await?;
                self.tracer.sent(self.drawn.take(), payload, self.flow.figures());
                self.out.clear();
                // A full repaint of a large screen should not stay allocated for a viewer that idles.
                self.out.shrink_to(1 << 20);
            }
        }
    }

    /// Appends what fits on the way: sound, which is late sooner, and then an update.
    async fn fill(&mut self, budget: usize) -> Result<(), WriteError> {
        let before = self.out.len();
        let mut limit = usize::MAX;
        if let Some(speaker) = &mut self.speaker {
            if !self.picture_first {
                speaker.say(&mut self.out);
            }
            if speaker.is_playing() {
                limit = BESIDE_SOUND;
            }
        }
        let left = budget.saturating_sub(self.out.len() - before).min(limit);
        // On a link that is too slow for both they take turns, and what sound could not be sent is dropped.
        self.picture_first = self.wanted() && left == 0;
        if self.wanted() && left > 0 {
            self.update(left).await?;
        }
        Ok(())
    }

    /// Waits for something to do. Borrows nothing, because an encoder cannot be shared with another thread.
    fn wait(&self) -> impl Future<Output = ()> + use<> {
        let wake = self.wake.clone();
        let repair_at = self.repair_at.filter(|_| self.wanted() && self.flow.budget().is_some());
        let copied = self.board.as_ref().map(Board::changed);
        async move {
            // Whatever it is, the loop looks at what there is.
            tokio::select! {
                () = wake.notified() => {}
                () = wait_until(repair_at) => {}
                () = wait_for(copied) => {}
            }
        }
    }

    /// The client has asked for an update.
    fn wanted(&self) -> bool {
        self.requested || self.continuous
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::PixelFormat(format) => {
                if let Some(encoder) = &mut self.encoder {
                    encoder.set_pixel_format(format);
                }
            }
            Order::Encodings(list) => self.set_encodings(ClientEncodings::new(list)),
            Order::Fence { flags, payload } => write::fence(flags, &payload, &mut self.out),
            Order::Answer { payload, at } => {
                self.flow.answered(&payload, at);
                self.tracer.answered(&payload, at, self.flow.figures());
            }
            Order::ContinuousUpdates(area) => {
                self.continuous = area.is_some();
                if !self.continuous {
                    write::end_of_continuous_updates(&mut self.out);
                }
            }
            Order::Clipboard(message) => {
                if let Some(board) = &mut self.board {
                    board.hear(&message);
                }
            }
            Order::Audio(request) => {
                if let Some(speaker) = &mut self.speaker {
                    speaker.hear(request, &mut self.out);
                }
            }
            Order::Bell => write::bell(&mut self.out),
            Order::Resize(status) => {
                self.news.resize = Some(Resize { reason: ResizeReason::ThisClient, status });
            }
        }
    }

    fn set_encodings(&mut self, encodings: ClientEncodings) {
        let before = std::mem::replace(&mut self.encodings, encodings.clone());
        let new = |number| encodings.supports(number) && !before.supports(number);
        self.news.acknowledge_input |= new(enc::QEMU_EXTENDED_KEY) || new(enc::EXTENDED_MOUSE_BUTTONS);
        if self.speaker.is_some() {
            self.news.acknowledge_audio |= new(enc::QEMU_AUDIO) || new(enc::OPUS_AUDIO);
        }
        self.news.name |= new(enc::DESKTOP_NAME);
        self.news.absolute_pointer |= new(enc::QEMU_POINTER_MOTION);
        if new(enc::EXTENDED_DESKTOP_SIZE) {
            // The first one says that the server knows SetDesktopSize.
            self.news.resize.get_or_insert(OF_SERVER);
        }
        if new(enc::FENCE) {
            let payload = self.flow.ping(Instant::now());
            write::fence(fence::REQUEST | fence::BLOCK_BEFORE, &payload, &mut self.out);
        }
        if new(enc::CONTINUOUS_UPDATES) {
            write::end_of_continuous_updates(&mut self.out);
        }
        if enc::CURSORS.into_iter().any(new) {
            self.cursor = None;
        }
        if new(enc::QEMU_LED_STATE) {
            self.leds = None;
        }
        if let Some(board) = &mut self.board {
            board.set_extended(encodings.supports(enc::EXTENDED_CLIPBOARD), &mut self.out);
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.set_encodings(encodings);
        }
    }

    /// Encodes what there is to send, if anything, up to about `budget` bytes: news and damage, or else a repair that is due.
    async fn update(&mut self, budget: usize) -> Result<(), WriteError> {
        let pending = self.seat.pending();
        let cursor = self.new_cursor(&pending);
        let lit = self.encodings.supports(enc::QEMU_LED_STATE) && pending.leds != self.leds;
        let leds = pending.leds.filter(|_| lit);
        if self.layout.as_ref().is_some_and(|told| *told != pending.layout) {
            self.news.resize.get_or_insert(OF_SERVER);
        }
        if pending.damaged || self.news.any() || cursor.is_some() || leds.is_some() {
            let look = self.seat.take();
            let news = std::mem::take(&mut self.news);
            if let Some(shape) = &cursor {
                self.cursor = Some(shape.clone());
            }
            self.leds = leds.or(self.leds);
            self.layout = Some(look.layout.clone());
            let pixels = look.changes.area();
            // However little of a film changed, its frame may take long.
            let small = pixels <= INLINE_PIXELS && !look.changes.touch_films();
            let of = (look.arrival, pixels);
            let name = self.name.to_owned();
            let done = self
                .encode(small, of, move |encoder, out| {
                    let extras = Extras {
                        resize: news.resize,
                        screens: &look.layout.screens,
                        cursor: cursor.as_deref(),
                        name: news.name.then_some(&name),
                        leds,
                        absolute_pointer: news.absolute_pointer.then_some(true),
                        acknowledge_input: news.acknowledge_input,
                        acknowledge_audio: news.acknowledge_audio,
                    };
                    encoder.encode_update(&look.screen, look.changes, &extras, budget, out)
                })
                .await?;
            let Some(Encoded { rest, only_films, .. }) = done else { return Ok(()) };
            if !rest.is_empty() {
                self.seat.put_back(rest);
            }
            // A film does not keep the page around it from becoming quiet.
            if !only_films || self.repair_at.is_none() {
                self.note_change(pixels > INLINE_PIXELS);
                self.plan_repair(self.repair_wait);
            }
        } else if self.repair_at.is_some_and(|at| at <= Instant::now()) {
            let Some((screen, films)) = self.seat.quiet_screen() else { return Ok(()) };
            let pixels = REPAIR_PIXELS.min(budget as u64 / LOSSLESS_BYTES);
            let done = self
                .encode(false, (None, pixels), move |encoder, out| {
                    let rects = encoder.repair(&screen, &films, pixels, out)?;
                    let rest = Region::new(screen.width(), screen.height());
                    Ok(Encoded { rects, rest, only_films: false })
                })
                .await?;
            // Without a rectangle, what is lossy is a film that runs.
            let idle = done.is_none_or(|done| done.rects == 0);
            if !idle {
                self.repaired = Some(Instant::now());
            }
            self.plan_repair(if idle { self.repair_wait } else { Duration::ZERO });
        }
        Ok(())
    }

    fn new_cursor(&self, pending: &Pending) -> Option<Arc<CursorShape>> {
        let draws = enc::CURSORS.into_iter().any(|encoding| self.encodings.supports(encoding));
        let is_sent = |shape: &Arc<CursorShape>| self.cursor.as_ref().is_some_and(|c| Arc::ptr_eq(c, shape));
        pending.cursor.clone().filter(|shape| draws && !is_sent(shape))
    }

    /// Something changed on the screen: a repair that was sent for nothing makes the next one wait longer, one that lasted
    /// makes it wait no longer than usual. What is small, such as a clock, changes little of what was repaired.
    fn note_change(&mut self, large: bool) {
        let Some(at) = self.repaired.filter(|_| large) else { return };
        self.repaired = None;
        let in_vain = at.elapsed() < REPAIRED_FOR;
        self.repair_wait = if in_vain { (self.repair_wait * 2).min(REPAIR_LATEST) } else { REPAIR_AFTER };
    }

    fn plan_repair(&mut self, after: Duration) {
        let lossy = self.encoder.as_ref().is_some_and(|e| !e.lossy_region().is_empty());
        // A repair goes on at once.
        let trips = if after.is_zero() { Duration::ZERO } else { self.flow.own_time() * REPAIR_TRIPS };
        self.repair_at = lossy.then(|| Instant::now() + after + trips);
    }

    /// Runs an encoding step, here or on a thread for such work. An update that says something answers the request.
    async fn encode(
        &mut self,
        small: bool,
        (arrival, pixels): (Option<Arrival>, u64),
        step: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<Encoded, EncodeError> + Send + 'static,
    ) -> Result<Option<Encoded>, WriteError> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(None) };
        let rate = self.flow.rate();
        encoder.set_share(self.seat.share().filter(|_| rate.is_none_or(|rate| rate >= SHARED_RATE)));
        encoder.set_rate(rate);
        let mut out = std::mem::take(&mut self.out);
        let (taken, before) = (Instant::now(), out.len());
        let run = move || {
            let done = step(&mut encoder, &mut out);
            (encoder, out, done)
        };
        let (encoder, out, done) = if small { run() } else { tokio::task::spawn_blocking(run).await? };
        (self.encoder, self.out) = (Some(encoder), out);
        let done = done?;
        if done.rects > 0 {
            self.requested = false;
            let (rects, bytes) = (done.rects, self.out.len() - before);
            self.drawn = Some(Drawn { arrival, taken, encoded: Instant::now(), pixels, rects, bytes });
        }
        Ok(Some(done))
    }
}

/// Waits until then; for ever without.
async fn wait_until(at: Option<Instant>) {
    wait_for(at.map(tokio::time::sleep_until)).await;
}

/// Waits for it; for ever without.
async fn wait_for(event: Option<impl Future<Output = ()>>) {
    match event {
        Some(event) => event.await,
        None => std::future::pending().await,
    }
}

/// Hands everything to the kernel; time counts only while it takes nothing.
async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), WriteError> {
    let mut sent = 0;
    while sent < bytes.len() {
        let waiting = bytes.len() - sent;
        let write = stream.write(&bytes[sent..]);
        let n =
            tokio::time::timeout(STALL_LIMIT, write).await.map_err(|_| WriteError::Stalled { waiting })??;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        sent += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test(start_paused = true)]
    async fn a_viewer_that_takes_nothing_is_given_up_with_what_waits() {
        let (mut ours, _theirs) = tokio::io::duplex(64);
        match send(&mut ours, &[0; 100]).await {
            Err(WriteError::Stalled { waiting }) => assert_eq!(waiting, 36),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_that_takes_a_little_at_a_time_is_kept() {
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let reader = tokio::spawn(async move {
            for _ in 0..100 {
                tokio::time::sleep(STALL_LIMIT / 2).await;
                theirs.read_u8().await.unwrap();
            }
        });
        send(&mut ours, &[0; 100]).await.unwrap();
        reader.await.unwrap();
    }
}
