//! What a link is like, and the links that the project's tables name.

use super::{Link, LinkError};
use std::time::Duration;

/// How much may wait in front of a preset's line, as the time that the line takes for it: about what a home router holds.
/// Much more, and every full queue adds seconds; much less, and a single flow cannot fill the line.
const QUEUE: Duration = Duration::from_millis(100);

/// What a link is like, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSpec {
    /// How long a packet is under way from the moment its last bit has left: half of the round trip time of an idle link.
    pub delay_one_way: Duration,
    /// Bits per second of each direction, counted over whole IP packets; `None` for as fast as the machine goes.
    pub rate_bits_per_s: Option<u64>,
    /// The probability from 0 to 1 that a packet that was sent does not arrive, each for itself.
    pub loss: f64,
    /// How many bytes of each direction may wait for the line, the rest of the packet on it included. What comes when there
    /// is no room is dropped (drop-tail); an idle line takes any packet. Without a rate nothing waits.
    pub queue_bytes: u64,
    /// Where the generators of loss begin: the same seed loses the same packets of the same sequence.
    pub seed: u64,
}

impl LinkSpec {
    /// A link of this round trip time, rate and loss with a queue of 100 ms.
    #[must_use]
    pub const fn new(round_trip: Duration, rate_bits_per_s: Option<u64>, loss: f64) -> Self {
        let delay_one_way = round_trip.checked_div(2).expect("two is not zero");
        let queue_bytes = match rate_bits_per_s {
            Some(rate) => (rate / 8).saturating_mul(QUEUE.as_millis() as u64) / 1000,
            None => 0,
        };
        Self { delay_one_way, rate_bits_per_s, loss, queue_bytes, seed: 1 }
    }

    /// That there can be such a link.
    pub(super) fn check(&self) -> Result<(), LinkError> {
        let wrong = |what| Err(LinkError::Spec(what));
        match self {
            Self { rate_bits_per_s: Some(0), .. } => wrong("a rate of 0 bit/s carries nothing"),
            Self { loss, .. } if !(0.0..=1.0).contains(loss) => {
                wrong("the loss is no probability from 0 to 1")
            }
            Self { delay_one_way, .. } if *delay_one_way > DELAY_MAX => wrong("the delay is above a minute"),
            _ => Ok(()),
        }
    }
}

/// Nobody waits longer; it keeps the times of arrival far from what a clock can count to.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// A link with the name that tables call it by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is like; `None` for no link at all: both sides are on this machine's loopback.
    pub spec: Option<LinkSpec>,
}

/// No link at all.
pub const LOOPBACK: Preset = Preset { name: "loopback", spec: None };

/// A good home connection.
pub const HOME: Preset = Preset {
    name: "20 ms, 20 Mbit/s",
    spec: Some(LinkSpec::new(Duration::from_millis(20), Some(20_000_000), 0.0)),
};

/// A poor mobile connection.
pub const MOBILE: Preset = Preset {
    name: "80 ms, 2 Mbit/s, 0.5 % loss",
    spec: Some(LinkSpec::new(Duration::from_millis(80), Some(2_000_000), 0.005)),
};

/// All of them, best first.
pub const PRESETS: [Preset; 3] = [LOOPBACK, HOME, MOBILE];

impl Preset {
    /// Makes the link.
    ///
    /// # Errors
    /// Those of [`Link::new`]; none for [`LOOPBACK`].
    pub fn link(&self) -> Result<Link, LinkError> {
        self.spec.as_ref().map_or_else(|| Ok(Link::loopback()), Link::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_what_its_name_says() {
        assert_eq!(LOOPBACK.spec, None);
        let home = HOME.spec.unwrap();
        assert_eq!(home.delay_one_way * 2, Duration::from_millis(20));
        assert_eq!((home.rate_bits_per_s, home.loss, home.queue_bytes), (Some(20_000_000), 0.0, 250_000));
        let mobile = MOBILE.spec.unwrap();
        assert_eq!(mobile.delay_one_way * 2, Duration::from_millis(80));
        assert_eq!(
            (mobile.rate_bits_per_s, mobile.loss, mobile.queue_bytes),
            (Some(2_000_000), 0.005, 25_000)
        );
    }

    #[test]
    fn a_link_that_cannot_be_is_refused() {
        let good = HOME.spec.unwrap();
        good.check().unwrap();
        for bad in [
            LinkSpec { rate_bits_per_s: Some(0), ..good },
            LinkSpec { loss: -0.1, ..good },
            LinkSpec { loss: 1.1, ..good },
            LinkSpec { loss: f64::NAN, ..good },
            LinkSpec { delay_one_way: Duration::MAX, ..good },
        ] {
            assert!(matches!(bad.check(), Err(LinkError::Spec(_))), "{bad:?}");
        }
    }
}
