//! How much a viewer may be sent now, so that nothing old queues up on the way to it.
//!
//! ```text
//! sent ──► kernel ──► gateway ──► network ──► viewer's decoder
//!   └─ a fence behind it ◄──────── its answer ─────┘
//! ```
//!
//! A fence (rfbproto, "ClientFence") that is answered after everything before it was handled tells how long that took. The
//! shortest such time is the link's own. The link's rate, the viewer's decoding included, is what bytes took beyond it: since
//! the first of them was sent, and so no sooner than the link had them. Answers that come all at once, because one packet was
//! lost and held up all behind it, therefore do not make a link look fast. From both follows how many bytes may be on the way:
//! those that the link holds, and [`QUEUE`] worth of queue; each update is a part of that, so that the link has the next one
//! before it has carried the last. Without fences there is no limit but the kernel's. It reads no clock; times are given to it.

use lucarne_control::trace::LinkFigures;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long what is sent now may wait behind what was sent before, beyond the link's own time. Below a frame of 30 ms it
/// cannot be seen, and much below it links would run dry between two updates.
const QUEUE: Duration = Duration::from_millis(30);

/// Bytes that may be on the way before anything is known, and at least. Smaller would make an update per round trip of
/// what any link carries at once.
const WINDOW_MIN: u64 = 16 << 10;

/// Bytes that may be on the way at most.
const WINDOW_MAX: u64 = 4 << 20;

/// Measuring with less than this tells of the processor's scheduling and not of the link. Updates may always be this long.
const SAMPLE_MIN: u64 = 4 << 10;

/// A shorter time than this beyond the link's own is noise; as is a [`NOISY`]th of the link's own.
const NOISE: Duration = Duration::from_millis(1);
const NOISY: u32 = 16;

/// Of so many measurements the fastest counts: slower ones may be of a moment in which the viewer was busy.
const SAMPLES: usize = 6;

/// The shortest time is forgotten after this, because links change.
const FORGET: Duration = Duration::from_secs(30);

/// What was sent longer ago than this tells nothing of the present rate. Shorter, and a packet that was lost is much of it.
const SPAN: Duration = Duration::from_secs(1);

/// Fences of one such time that are remembered at most.
const SPANS: usize = 64;

/// Where little is sent, one fence in so many times of the link's own. Each answer is a packet that may be lost on the way,
/// and the next key would wait behind it until it is sent again.
const FENCE_EVERY: u32 = 8;

/// A fence that was sent.
#[derive(Clone, Copy, Debug)]
struct Ping {
    number: u32,
    /// Bytes sent before it in all.
    end: u64,
    at: Instant,
    /// There was so much on the way that it shows what the link can carry.
    filled: bool,
}

/// Bytes that one fence is behind.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Bytes sent before them in all.
    begin: u64,
    /// The first of them.
    at: Instant,
}

/// The flow to one viewer.
#[derive(Debug, Default)]
pub(super) struct Flow {
    sent: u64,
    confirmed: u64,
    /// What was sent that no fence is behind.
    open: Option<Span>,
    pings: VecDeque<Ping>,
    /// Of fences that were sent within [`SPAN`], whether answered or not.
    spans: VecDeque<Span>,
    next: u32,
    /// The viewer has answered a fence.
    answers: bool,
    /// When the last fence was sent.
    pinged: Option<Instant>,
    /// Shortest times of the present span of [`FORGET`] and of the one before.
    shortest: [Option<Duration>; 2],
    span_began: Option<Instant>,
    /// Bytes a second, the last measurements.
    rates: VecDeque<f64>,
}

impl Flow {
    /// `bytes` are handed to the kernel now. Gives the payload of a fence to send behind them, where one is of use.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) -> Option<[u8; 4]> {
        let (bytes, begin) = (bytes as u64, self.sent);
        self.sent += bytes;
        // Much begins a span of its own: a little that was sent long before would hide how fast it went.
        let little = self.open.is_none_or(|open| begin - open.begin < SAMPLE_MIN);
        if self.open.is_none() || little && bytes >= SAMPLE_MIN {
            self.open = Some(Span { begin, at: now });
        }
        let last = self.pings.back().map_or(self.confirmed, |ping| ping.end);
        let much = self.sent - last >= SAMPLE_MIN;
        let since = self.pinged.map_or(Duration::MAX, |pinged| now.saturating_duration_since(pinged));
        let due = self.pings.is_empty() && since >= self.own_time() * FENCE_EVERY;
        (self.answers && (much || due)).then(|| self.ping(now))
    }

    /// The payload of a fence to send although nothing else is, for what is on the way with none behind it: what was sent
    /// before the viewer was known to answer.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<[u8; 4]> {
        let unconfirmed = self.sent - self.confirmed;
        let late = self.answers && self.pings.is_empty() && unconfirmed >= SAMPLE_MIN;
        late.then(|| self.ping(now))
    }

    /// The payload of a fence that is sent now.
    pub(super) fn ping(&mut self, now: Instant) -> [u8; 4] {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let old = |span: &Span| now.saturating_duration_since(span.at) > SPAN;
        while self.spans.front().is_some_and(old) || self.spans.len() == SPANS {
            self.spans.pop_front();
        }
        self.spans.extend(self.open.take());
        let filled = (self.sent - self.confirmed) * 2 >= self.window();
        self.pings.push_back(Ping { number, end: self.sent, at: now, filled });
        self.pinged = Some(now);
        number.to_be_bytes()
    }

    /// The viewer has answered a fence; one that was not sent by [`Self::ping`] is ignored.
    pub(super) fn answered(&mut self, payload: &[u8], now: Instant) {
        let Ok(number) = payload.try_into().map(u32::from_be_bytes) else { return };
        let Some(at) = self.pings.iter().position(|ping| ping.number == number) else { return };
        let Some(ping) = self.pings.drain(..=at).next_back() else { return };
        self.confirmed = ping.end;
        self.answers = true;
        self.note_time(now.saturating_duration_since(ping.at), now);
        // The link carried at least this much: where it stood still meanwhile, or waited for more, it carries more.
        let noise = NOISE.max(self.own_time() / NOISY);
        let carried = |span: &Span| {
            let bytes = ping.end.checked_sub(span.begin).filter(|bytes| *bytes >= SAMPLE_MIN)?;
            let took = now.saturating_duration_since(span.at).saturating_sub(self.own_time());
            Some(bytes as f64 / took.max(noise).as_secs_f64())
        };
        let Some(rate) = self.spans.iter().filter_map(carried).reduce(f64::max) else { return };
        // A link that had little to carry does not show how much it could.
        if ping.filled || self.rate().is_none_or(|known| rate > known) {
            if self.rates.len() == SAMPLES {
                self.rates.pop_front();
            }
            self.rates.push_back(rate);
        }
    }

    fn note_time(&mut self, took: Duration, now: Instant) {
        let began = *self.span_began.get_or_insert(now);
        if now.saturating_duration_since(began) > FORGET {
            self.shortest = [None, self.shortest[0]];
            self.span_began = Some(now);
        }
        self.shortest[0] = Some(self.shortest[0].map_or(took, |shortest| shortest.min(took)));
    }

    /// The link's own time there and back.
    pub(super) fn own_time(&self) -> Duration {
        self.shortest.iter().flatten().min().copied().unwrap_or_default()
    }

    /// Bytes a second that the link carries; `None` before it was measured.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rates.iter().copied().reduce(f64::max)
    }

    /// Bytes that the link carries in this time. As long as nothing was measured, it is believed to carry the smallest window
    /// in its own time, as TCP does: a viewer that has only been typed to would otherwise get its first picture in crumbs.
    fn in_time(&self, time: Duration) -> u64 {
        let believed = WINDOW_MIN as f64 / self.own_time().max(NOISE).as_secs_f64();
        (self.rate().unwrap_or(believed) * time.as_secs_f64()) as u64
    }

    /// Bytes that may be on the way.
    fn window(&self) -> u64 {
        self.in_time(self.own_time() + QUEUE).clamp(WINDOW_MIN, WINDOW_MAX)
    }

    /// What is believed, for people.
    pub(super) fn figures(&self) -> LinkFigures {
        LinkFigures {
            answers: self.answers,
            round_trip_ms: self.own_time().as_secs_f64() * 1000.0,
            window: self.window(),
            rate: self.rate().map(|rate| rate as u64),
            in_flight: self.sent - self.confirmed,
        }
    }

    /// Bytes that the next update may have; `None` while what is on the way has to arrive first.
    pub(super) fn budget(&self) -> Option<usize> {
        if !self.answers {
            return Some(usize::MAX);
        }
        let left = self.window().checked_sub(self.sent - self.confirmed)?;
        let part = self.in_time(QUEUE).max(SAMPLE_MIN);
        (left > 0).then(|| usize::try_from(left.min(part)).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that carries so many bytes a second and takes so long each way, and a viewer that answers at once.
    struct Link {
        rate: f64,
        delay: Duration,
        free_at: Instant,
        answers: VecDeque<(Instant, [u8; 4])>,
        /// The longest time that something waited for what was before it.
        waited: Duration,
        carried: u64,
    }

    impl Link {
        fn new(rate: f64, delay_ms: u64, now: Instant) -> Self {
            let delay = Duration::from_millis(delay_ms);
            Self { rate, delay, free_at: now, answers: VecDeque::new(), waited: Duration::ZERO, carried: 0 }
        }

        fn carry(&mut self, bytes: usize, fence: Option<[u8; 4]>, now: Instant) {
            self.waited = self.waited.max(self.free_at.saturating_duration_since(now));
            self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 / self.rate);
            self.carried += bytes as u64;
            if let Some(payload) = fence {
                self.answers.push_back((self.free_at + self.delay * 2, payload));
            }
        }

        /// A flow to a viewer that always has `update` more bytes to get, for so many seconds.
        fn run(&mut self, flow: &mut Flow, update: usize, seconds: u64, start: Instant) -> Instant {
            let end = start + Duration::from_secs(seconds);
            let mut now = start;
            while now < end {
                while let Some((at, payload)) = self.answers.front().copied().filter(|(at, _)| *at <= now) {
                    flow.answered(&payload, at);
                    self.answers.pop_front();
                }
                if let Some(budget) = flow.budget() {
                    let bytes = update.min(budget);
                    let fence = flow.sent(bytes, now);
                    self.carry(bytes, fence, now);
                }
                now += Duration::from_millis(1);
            }
            now
        }

        fn greeted(&mut self, now: Instant) -> Flow {
            let mut flow = Flow::default();
            let hello = flow.ping(now);
            self.carry(20, Some(hello), now);
            flow.answered(&hello, now + self.delay * 2);
            self.answers.clear();
            flow
        }
    }

    #[test]
    fn a_slow_link_is_kept_busy_and_nothing_waits_long_on_it() {
        for (mbit, delay_ms) in [(2.0, 40), (20.0, 10), (2.0, 5), (100.0, 20), (0.5, 100)] {
            let start = Instant::now();
            let mut link = Link::new(mbit * 125_000.0, delay_ms, start);
            let mut flow = link.greeted(start);
            let warm = link.run(&mut flow, 1 << 20, 5, start + link.delay * 2);
            (link.waited, link.carried) = (Duration::ZERO, 0);
            link.run(&mut flow, 1 << 20, 10, warm);
            let share = link.carried as f64 / (link.rate * 10.0);
            assert!(share > 0.85, "{mbit} Mbit/s, {delay_ms} ms: only {share} of it is used");
            let floor = Duration::from_secs_f64(WINDOW_MIN as f64 / link.rate);
            let limit = (QUEUE + NOISE * 5).max(floor);
            assert!(link.waited <= limit, "{mbit} Mbit/s, {delay_ms} ms: {:?}", link.waited);
        }
    }

    #[test]
    fn a_link_that_gets_slower_is_believed_after_a_few_answers() {
        let start = Instant::now();
        let mut link = Link::new(2_500_000.0, 20, start);
        let mut flow = link.greeted(start);
        let slower = link.run(&mut flow, 1 << 20, 5, start + link.delay * 2);
        link.rate /= 10.0;
        let settled = link.run(&mut flow, 1 << 20, 5, slower);
        link.waited = Duration::ZERO;
        link.run(&mut flow, 1 << 20, 5, settled);
        let floor = Duration::from_secs_f64(WINDOW_MIN as f64 / link.rate);
        assert!(link.waited <= (QUEUE + NOISE * 5).max(floor), "{:?}", link.waited);
    }

    #[test]
    fn a_viewer_that_never_answers_is_not_limited_and_foreign_answers_count_for_nothing() {
        let now = Instant::now();
        let mut flow = Flow::default();
        let _ = flow.ping(now);
        assert_eq!(flow.sent(10 << 20, now), None);
        flow.answered(b"another", now);
        flow.answered(&77u32.to_be_bytes(), now);
        assert_eq!(flow.budget(), Some(usize::MAX));
    }

    #[test]
    fn what_was_sent_before_the_first_answer_is_asked_after() {
        let now = Instant::now();
        let mut flow = Flow::default();
        let hello = flow.ping(now);
        assert_eq!(flow.sent(300_000, now), None);
        assert_eq!(flow.overdue(now), None, "nobody knows yet that it answers");
        flow.answered(&hello, now + Duration::from_millis(20));
        assert_eq!(flow.budget(), None);
        let late = flow.overdue(now + Duration::from_millis(20)).expect("something is to be asked");
        assert_eq!(flow.overdue(now + Duration::from_millis(20)), None, "once is enough");
        flow.answered(&late, now + Duration::from_millis(40));
        assert!(flow.budget().is_some());
    }

    #[test]
    fn what_arrived_long_ago_does_not_make_a_link_look_fast() {
        let start = Instant::now();
        let mut link = Link::new(250_000.0, 40, start);
        let mut flow = link.greeted(start);
        let warm = link.run(&mut flow, 1 << 20, 5, start + link.delay * 2);
        let known = flow.rate().expect("it was filled");
        // All that was on the way has arrived.
        let mut now = warm + Duration::from_secs(1);
        link.answers.drain(..).for_each(|(_, payload)| flow.answered(&payload, now));
        for _ in 0..20 {
            // A fence behind little, and much that has none for a while.
            let first = flow.sent(100, now).expect("a fence");
            assert_eq!(flow.sent(SAMPLE_MIN as usize - 1, now), None);
            flow.answered(&first, now + link.delay * 2);
            now += Duration::from_secs(1);
            let next = flow.sent(100, now).expect("a fence");
            flow.answered(&next, now + link.delay * 2);
            now += Duration::from_secs(1);
        }
        assert_eq!(flow.rate(), Some(known));
    }

    #[test]
    fn answers_that_one_lost_packet_held_up_do_not_make_a_link_look_fast() {
        let start = Instant::now();
        let mut link = Link::new(250_000.0, 40, start);
        let mut flow = link.greeted(start);
        let mut now = link.run(&mut flow, 1 << 20, 5, start + link.delay * 2);
        for _ in 0..10 {
            // What is on the way waits for the packet that is sent again, and is handled and answered all at once then.
            let again = now + link.delay * 4;
            for answer in &mut link.answers {
                answer.0 = answer.0.max(again);
            }
            now = link.run(&mut flow, 1 << 20, 1, now);
            let rate = flow.rate().expect("it was filled");
            assert!(rate < link.rate * 1.3, "{rate} of {}", link.rate);
        }
        assert!(flow.rate().is_some_and(|rate| rate > link.rate * 0.7));
    }

    #[test]
    fn the_first_picture_tells_of_the_link() {
        let start = Instant::now();
        let mut link = Link::new(250_000.0, 40, start);
        let mut flow = Flow::default();
        let hello = flow.ping(start);
        // Nobody knows yet that it answers, so all of it goes out at once.
        assert_eq!(flow.sent(100_000, start), None);
        link.carry(100_000, None, start);
        let now = start + link.delay * 2;
        flow.answered(&hello, now);
        let late = flow.overdue(now).expect("something is to be asked");
        link.carry(20, Some(late), now);
        let (answered, payload) = link.answers.pop_front().expect("an answer");
        flow.answered(&payload, answered);
        let rate = flow.rate().expect("it was measured");
        assert!((0.7..1.05).contains(&(rate / link.rate)), "{rate} of {}", link.rate);
    }

    #[test]
    fn a_picture_after_a_little_is_measured_alone() {
        let start = Instant::now();
        let mut link = Link::new(250_000.0, 40, start);
        let mut flow = link.greeted(start);
        let typed = start + link.delay * 4;
        assert_eq!(flow.sent(100, typed), None);
        let now = typed + Duration::from_millis(500);
        let fence = flow.sent(20_000, now).expect("a fence");
        link.free_at = now;
        link.carry(20_000, Some(fence), now);
        let (answered, payload) = link.answers.pop_front().expect("an answer");
        flow.answered(&payload, answered);
        assert!(flow.rate().is_some_and(|rate| (rate / link.rate - 1.0).abs() < 0.05), "{:?}", flow.rate());
    }

    #[test]
    fn where_little_is_sent_fences_are_few() {
        let start = Instant::now();
        let mut flow = Flow::default();
        let hello = flow.ping(start);
        flow.answered(&hello, start + Duration::from_millis(80));
        let mut fences = 0;
        for key in 1..=100 {
            let now = start + Duration::from_millis(100) * key;
            if let Some(payload) = flow.sent(200, now) {
                fences += 1;
                flow.answered(&payload, now + Duration::from_millis(80));
            }
        }
        assert!((10..=20).contains(&fences), "{fences} fences behind 100 keys");
    }

    #[test]
    fn small_updates_have_one_fence_under_way() {
        let now = Instant::now();
        let mut flow = Flow::default();
        let hello = flow.ping(now);
        flow.answered(&hello, now + Duration::from_millis(20));
        let now = now + Duration::from_millis(20) * FENCE_EVERY;
        let first = flow.sent(100, now);
        assert!(first.is_some());
        assert_eq!(flow.sent(100, now), None);
        assert!(flow.sent(SAMPLE_MIN as usize, now).is_some());
        flow.answered(&first.unwrap(), now + Duration::from_millis(40));
        // Nothing was measured: the smallest window in the link's own 20 ms is believed, and so more in 30 ms beyond.
        let believed = WINDOW_MIN * 30 / 20;
        assert_eq!(flow.budget(), Some(believed as usize));
        let window = WINDOW_MIN * 50 / 20;
        flow.sent((window - 200 - SAMPLE_MIN) as usize, now);
        assert_eq!(flow.budget(), Some(100), "the second hundred is not confirmed, and as much is left");
        flow.sent(100, now);
        assert_eq!(flow.budget(), None);
    }
}
