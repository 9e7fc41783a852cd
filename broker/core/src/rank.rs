//! Hosts in the order in which the desktops of a pool prefer them, kept from one placement to the next: who places many desktops
//! on many hosts looks at all hosts once, and at the first few of them for each desktop.
//!
//! What is kept may be old. A host is judged anew when its turn comes: one that is less preferred than it was goes back in the
//! order, and one that does not fit any more is left out. Pure, as [`crate::plan`] is.

use crate::plan::{self, Candidate, Choice, Demand, Score};
use std::collections::BTreeSet;

/// The order; hosts are numbers that mean something to its owner.
#[derive(Debug)]
pub(crate) struct Ranking {
    demand: Demand,
    order: BTreeSet<(Score, usize)>,
}

impl Ranking {
    /// That of these hosts, numbered from 0, for desktops that need this.
    pub(crate) fn new<'a>(demand: Demand, candidates: impl Iterator<Item = Candidate<'a>>) -> Self {
        let fitting = candidates.enumerate().filter(|(_, c)| plan::fits(c, &demand));
        Self { demand, order: fitting.map(|(n, c)| (plan::score(&c, demand.strategy), n)).collect() }
    }

    /// Whether it is an order for desktops that need this.
    pub(crate) fn is_for(&self, demand: &Demand) -> bool {
        self.demand == *demand
    }

    /// Takes the host out that is preferred, as it is now; none where none fits of those that did.
    pub(crate) fn take<'a>(&mut self, candidate: impl Fn(usize) -> Candidate<'a>) -> Option<(usize, Choice)> {
        loop {
            let (known, n) = self.order.pop_first()?;
            let now = candidate(n);
            if !plan::fits(&now, &self.demand) {
                continue;
            }
            let score = plan::score(&now, self.demand.strategy);
            if score > known {
                self.order.insert((score, n));
                continue;
            }
            return Some((n, plan::choice(&now, self.order.len() + 1)));
        }
    }

    /// Puts a host back that was taken out, as it is now.
    pub(crate) fn put_back(&mut self, n: usize, now: &Candidate<'_>) {
        if plan::fits(now, &self.demand) {
            self.order.insert((plan::score(now, self.demand.strategy), n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HostSeen;
    use lucarne_control::HostId;
    use lucarne_control::agent::HostFacts;
    use lucarne_control::pool::PlacementStrategy;
    use uuid::Uuid;

    const MIB: u64 = 1024;

    fn demand(strategy: PlacementStrategy) -> Demand {
        Demand { memory_mib: MIB, vcpus: 1, memory_percent: 100, cpu_percent: 1600, strategy }
    }

    fn candidate<'a>(n: usize, facts: &'a HostFacts, promised_mib: u64) -> Candidate<'a> {
        Candidate {
            host: HostId(Uuid::from_u128(n as u128 + 1)),
            name: "h",
            facts,
            promised_mib,
            promised_vcpus: 0,
            lacks: None,
            has_image: true,
            drained: false,
            seen: HostSeen { online: true, memory_available: None, template: None },
        }
    }

    #[test]
    fn each_desktop_gets_the_host_that_a_look_at_all_of_them_would_give_it() {
        let facts: Vec<HostFacts> = (1..=7)
            .map(|n| HostFacts { cpus: 64, memory_mib: n * 4 * MIB, ..HostFacts::default() })
            .collect();
        for strategy in [PlacementStrategy::Spread, PlacementStrategy::Pack] {
            let demand = demand(strategy);
            let mut promised = vec![0; facts.len()];
            let all = |promised: &[u64]| -> Vec<_> {
                facts.iter().enumerate().map(|(n, f)| candidate(n, f, promised[n])).collect()
            };
            let mut ranking = Ranking::new(demand, all(&promised).into_iter());
            let mut placed = 0;
            while let Ok(expected) = plan::choose_host(&all(&promised), &demand) {
                let (n, choice) = ranking.take(|n| candidate(n, &facts[n], promised[n])).unwrap();
                assert_eq!(choice, expected, "desktop {placed}");
                promised[n] += MIB;
                ranking.put_back(n, &candidate(n, &facts[n], promised[n]));
                placed += 1;
            }
            assert_eq!(placed, 4 * (1..=7).sum::<u64>(), "all are full");
            assert!(ranking.take(|n| candidate(n, &facts[n], promised[n])).is_none());
        }
    }

    #[test]
    fn a_host_that_others_filled_or_that_went_away_meanwhile_is_passed_over() {
        let facts = HostFacts { cpus: 64, memory_mib: 8 * MIB, ..HostFacts::default() };
        let demand = demand(PlacementStrategy::Spread);
        let mut ranking = Ranking::new(demand, (0..3).map(|n| candidate(n, &facts, 0)));
        let now = |n: usize| match n {
            0 => candidate(n, &facts, 4 * MIB),
            1 => Candidate { seen: HostSeen::default(), ..candidate(n, &facts, 0) },
            _ => candidate(n, &facts, 2 * MIB),
        };
        let order: Vec<usize> = std::iter::from_fn(|| ranking.take(now).map(|(n, _)| n)).collect();
        assert_eq!(order, [2, 0]);
    }
}
