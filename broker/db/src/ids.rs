//! New ids: UUIDv7 (RFC 9562, sections 5.7 and 6.2) of the database's time, in the order of their making.

use uuid::{Builder, Uuid};

/// Bits of the count within a millisecond: those of `rand_a` and the first of `rand_b`.
const COUNT_BITS: u32 = 26;

/// Makes ids of one connection.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    last: i64,
    count: u64,
}

impl Ids {
    /// The next id at this time, with 8 bytes of randomness.
    pub fn next(&mut self, now: i64, random: u64) -> Uuid {
        if now > self.last {
            // From anywhere in the lower half, so that two connections' ids of one millisecond are far apart.
            (self.last, self.count) = (now, random >> 48 << (COUNT_BITS - 17));
        } else {
            self.count += 1;
        }
        let count = self.count & ((1 << COUNT_BITS) - 1);
        let mut rest = [0; 10];
        rest[0] = (count >> 22) as u8;
        rest[1] = (count >> 14) as u8;
        rest[2] = (count >> 8) as u8 & 0x3f;
        rest[3] = count as u8;
        rest[4..].copy_from_slice(&random.to_be_bytes()[2..]);
        Builder::from_unix_timestamp_millis(self.last.unsigned_abs(), &rest).into_uuid()
    }

    /// As [`Ids::next`], with the system's randomness.
    pub fn next_random(&mut self, now: i64) -> Uuid {
        let mut random = [0; 8];
        if getrandom::fill(&mut random).is_err() {
            // Without the system's randomness at least its own.
            return Uuid::now_v7();
        }
        self.next(now, u64::from_be_bytes(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_their_making_even_when_the_clock_goes_back() {
        let mut ids = Ids::default();
        let mut made = Vec::new();
        for (now, random) in [(5, 0), (5, u64::MAX), (5, 7), (4, 0), (6, 0), (6, u64::MAX)] {
            for _ in 0..1000 {
                made.push(ids.next(now, random));
            }
        }
        assert!(made.is_sorted());
        made.dedup();
        assert_eq!(made.len(), 6000);
        assert!(made.iter().all(|id| id.get_version_num() == 7));
    }
}
