//! Addresses for links: a pair for each, of the block that is set aside for measuring networks, 198.18.0.0/15 (RFC 2544,
//! RFC 6890), so that a link seldom meets what a machine uses.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::{fs, io};

const BLOCK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// How many pairs the block has: four addresses for each, whose first and last stay unused.
const PAIRS: u32 = (1 << 17) / 4;

/// A pair of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair(u32);

impl Pair {
    /// In the present namespace.
    pub fn server(self) -> Ipv4Addr {
        self.address(1)
    }

    /// In the link's own namespace.
    pub fn client(self) -> Ipv4Addr {
        self.address(2)
    }

    /// The device that a link with these addresses has on both sides. Whoever has the device has the addresses.
    pub fn device(self) -> String {
        format!("lclink{}", self.0)
    }

    fn address(self, last: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(BLOCK.to_bits() + self.0 * 4 + last)
    }
}

/// The pairs that clash with no address and no route of this thread's namespace, from a random one on. With the same pair for
/// each link a connection would begin with the round trip time and window that the kernel remembers of the link before
/// (`ip-tcp_metrics(8)`).
pub fn free_pairs() -> io::Result<impl Iterator<Item = Pair>> {
    let used = parse_trie(&fs::read_to_string("/proc/thread-self/net/fib_trie")?);
    let start = u32::try_from(RandomState::new().hash_one(0) % u64::from(PAIRS)).unwrap_or_default();
    let pairs = (0..PAIRS).map(move |n| Pair((start + n) % PAIRS));
    Ok(pairs.filter(move |pair| {
        [pair.server(), pair.client()]
            .into_iter()
            .all(|address| !used.iter().any(|(network, mask)| address.to_bits() & mask == *network))
    }))
}

/// Routes shorter than this, the default one first of all, cover nearly everything; a link's own goes before them.
const SHORTEST: u32 = 8;

/// Network and mask of every address and route in all of a namespace's tables, as `/proc/net/fib_trie` draws them: a leaf with
/// the address, and under it a line for each length of prefix.
fn parse_trie(trie: &str) -> BTreeSet<(u32, u32)> {
    let mut used = BTreeSet::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim_start) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if let (Some(leaf), Some(prefix)) = (leaf, line.strip_prefix('/')) {
            let length = prefix.split(' ').next().and_then(|length| length.parse().ok());
            if let Some(length @ SHORTEST..=32) = length {
                used.insert((leaf.to_bits(), u32::MAX << (32 - length)));
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_read_as_the_kernel_draws_it() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 128.0.0.0\n        \
                    /1 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        |-- 192.0.2.0\n           /32 link BROADCAST\n\
                    \x20          /24 link UNICAST\n        |-- 192.0.2.2\n           /32 host LOCAL\n";
        let network = |last| Ipv4Addr::new(192, 0, 2, last).to_bits();
        let expected = [(network(0), u32::MAX << 8), (network(0), u32::MAX), (network(2), u32::MAX)];
        assert_eq!(parse_trie(trie), BTreeSet::from(expected));
    }

    #[test]
    fn pairs_are_all_different_and_in_the_block() {
        let all: Vec<_> = free_pairs().unwrap().take(1000).collect();
        for pair in &all {
            assert_eq!(pair.server().octets()[0], 198);
            assert!(matches!(pair.client().octets()[1], 18 | 19));
            assert!(pair.device().len() < 16, "{}", pair.device());
            assert_eq!(all.iter().filter(|other| *other == pair).count(), 1);
        }
        assert_eq!(Pair(PAIRS - 1).client(), Ipv4Addr::new(198, 19, 255, 254));
    }
}
