//! One direction of a link: what becomes of its packets and when. It reads no clock and does no I/O.
//!
//! ```text
//! offer ──► room in the queue? ──► line: one packet at a time, at the rate ──► lost? ──► delay ──► take
//!               │ no                                                            │ yes
//!               ▼                                                               ▼
//!           overflowed                                                         lost
//! ```
//!
//! When a packet arrives is settled when it comes: the line is free again at a known time, and the delay is always the
//! same, so packets arrive in the order that they came in. Times are computed and never measured, so waking late costs a
//! packet some delay, but the line no capacity. A lost packet takes up the line: it was sent.

use super::counters::Tally;
use super::spec::LinkSpec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most bytes under way, which a delay without a rate would otherwise not bound: 6 Gbit/s for 80 ms.
const UNDER_WAY_MAX: usize = 64 << 20;

/// What a packet under way takes up besides its bytes, about.
const OVERHEAD: usize = 64;

/// The packets of one direction.
#[derive(Debug)]
pub struct Direction {
    spec: LinkSpec,
    losses: Losses,
    /// When the line has sent everything that it was given.
    free: Option<Instant>,
    under_way: VecDeque<(Instant, Box<[u8]>)>,
    /// Bytes of `under_way`, overhead included.
    held: usize,
    tally: Arc<Tally>,
}

impl Direction {
    /// An idle one. What happens is counted in `tally`; `stream` tells the losses of directions with one seed apart.
    pub fn new(spec: LinkSpec, stream: u64, tally: Arc<Tally>) -> Self {
        let losses = Losses::new(spec.loss, spec.seed ^ stream.rotate_left(32));
        Self { spec, losses, free: None, under_way: VecDeque::new(), held: 0, tally }
    }

    /// A packet came. Times must not go back from call to call.
    pub fn offer(&mut self, now: Instant, packet: &[u8]) {
        let bytes = packet.len() as u64;
        let begin = self.free.map_or(now, |free| free.max(now));
        let sent = match self.spec.rate_bits_per_s {
            None => now,
            Some(rate) => {
                let waiting = bytes_in(begin - now, rate);
                if waiting > 0 && waiting + bytes > self.spec.queue_bytes {
                    return self.tally.overflowed(bytes);
                }
                begin + duration_of(bytes, rate)
            }
        };
        if self.held + packet.len() + OVERHEAD > UNDER_WAY_MAX {
            return self.tally.overflowed(bytes);
        }
        self.free = Some(sent);
        if self.losses.next() {
            return self.tally.lost(bytes);
        }
        self.held += packet.len() + OVERHEAD;
        self.under_way.push_back((sent + self.spec.delay_one_way, packet.into()));
    }

    /// When the next packet arrives; `None` while there is none.
    pub fn due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }

    /// The next packet that has arrived.
    pub fn take(&mut self, now: Instant) -> Option<Box<[u8]>> {
        let (_, packet) = self.under_way.pop_front_if(|(due, _)| *due <= now)?;
        self.held -= packet.len() + OVERHEAD;
        self.tally.delivered(packet.len() as u64);
        Some(packet)
    }
}

const NANOS: u128 = 1_000_000_000;

fn duration_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 8 * NANOS / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Rounded up, so that a line that still sends is never taken for an idle one.
fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from((time.as_nanos() * u128::from(rate)).div_ceil(8 * NANOS)).unwrap_or(u64::MAX)
}

/// Which packets are lost: `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Debug)]
struct Losses {
    state: u64,
    /// A number below it is a loss; one more than the largest number loses everything.
    threshold: u128,
}

impl Losses {
    fn new(loss: f64, seed: u64) -> Self {
        // Exact: a power of two. Both ends of 0 to 1 come out as never and always.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let threshold = (loss * 2f64.powi(64)) as u128;
        Self { state: seed, threshold }
    }

    fn next(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31)) < self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::counters::Traffic;

    fn spec() -> LinkSpec {
        LinkSpec::new(Duration::ZERO, None, 0.0)
    }

    fn direction(spec: LinkSpec) -> (Direction, Arc<Tally>, Instant) {
        let tally = Arc::new(Tally::default());
        (Direction::new(spec, 0, Arc::clone(&tally)), tally, Instant::now())
    }

    /// Everything that is under way, with the milliseconds from `start` to its arrival and its first byte.
    fn arrivals(direction: &mut Direction, start: Instant) -> Vec<(u128, u8)> {
        std::iter::from_fn(|| {
            let due = direction.due()?;
            assert_eq!(
                due.checked_sub(Duration::from_nanos(1)).and_then(|early| direction.take(early)),
                None
            );
            Some(((due - start).as_millis(), direction.take(due).unwrap()[0]))
        })
        .collect()
    }

    #[test]
    fn packets_leave_one_after_the_other_and_arrive_in_order_after_the_delay() {
        // 1000 bytes take 8 ms.
        let spec = LinkSpec {
            delay_one_way: Duration::from_millis(30),
            rate_bits_per_s: Some(1_000_000),
            queue_bytes: 10_000,
            ..spec()
        };
        let (mut direction, tally, start) = direction(spec);
        for n in 0..3 {
            direction.offer(start + Duration::from_millis(n), &[u8::try_from(n).unwrap(); 1000]);
        }
        direction.offer(start + Duration::from_millis(100), &[3; 500]);
        assert_eq!(arrivals(&mut direction, start), [(38, 0), (46, 1), (54, 2), (134, 3)]);
        let now = tally.read();
        assert_eq!(now, Traffic { packets: 4, bytes: 3500, ..Traffic::default() });
    }

    #[test]
    fn what_the_queue_has_no_room_for_is_dropped_and_an_idle_line_takes_any_packet() {
        let spec = LinkSpec { rate_bits_per_s: Some(1_000_000), queue_bytes: 2_500, ..spec() };
        let (mut direction, tally, start) = direction(spec);
        for n in 0..4 {
            direction.offer(start, &[n; 1000]);
        }
        // The first is half gone: 1500 bytes wait.
        direction.offer(start + Duration::from_millis(4), &[4; 1000]);
        direction.offer(start + Duration::from_millis(100), &[5; 5000]);
        assert_eq!(arrivals(&mut direction, start), [(8, 0), (16, 1), (24, 4), (140, 5)]);
        let now = tally.read();
        assert_eq!((now.overflowed_packets, now.overflowed_bytes, now.lost_packets), (2, 2000, 0));
    }

    #[test]
    fn without_a_rate_nothing_waits_and_memory_stays_bounded() {
        let spec = LinkSpec { delay_one_way: Duration::from_secs(1), queue_bytes: 0, ..spec() };
        let (mut direction, tally, start) = direction(spec);
        let fit = UNDER_WAY_MAX / (1500 + OVERHEAD);
        for _ in 0..fit + 3 {
            direction.offer(start, &[0; 1500]);
        }
        assert_eq!(tally.read().overflowed_packets, 3);
        assert!(arrivals(&mut direction, start).iter().all(|(at, _)| *at == 1000));
        assert_eq!((tally.read().packets, direction.held), (fit as u64, 0));
    }

    #[test]
    fn a_lost_packet_takes_up_the_line() {
        let spec = LinkSpec { rate_bits_per_s: Some(1_000_000), queue_bytes: 10_000, loss: 1.0, ..spec() };
        let (mut direction, tally, start) = direction(spec);
        direction.offer(start, &[0; 1000]);
        direction.losses.threshold = 0;
        direction.offer(start, &[1; 1000]);
        assert_eq!(arrivals(&mut direction, start), [(16, 1)]);
        assert_eq!((tally.read().lost_packets, tally.read().lost_bytes), (1, 1000));
    }

    fn lost(seed: u64, stream: u64) -> Vec<bool> {
        let spec = LinkSpec { loss: 0.05, seed, ..spec() };
        let mut direction = Direction::new(spec, stream, Arc::default());
        (0..10_000).map(|_| direction.losses.next()).collect()
    }

    #[test]
    fn the_same_seed_loses_the_same_packets_and_about_as_many_as_asked() {
        assert_eq!(lost(7, 0), lost(7, 0));
        assert_ne!(lost(7, 0), lost(8, 0));
        assert_ne!(lost(7, 0), lost(7, 1));
        let count = lost(7, 0).iter().filter(|lost| **lost).count();
        assert!((400..600).contains(&count), "{count} of 10000 at 5 %");
    }

    #[test]
    fn no_loss_and_all_loss_are_exact() {
        let mut never = Losses::new(0.0, 1);
        let mut always = Losses::new(1.0, 1);
        assert!((0..10_000).all(|_| !never.next() && always.next()));
    }
}
