//! How many half-open sessions each source has, and how many sessions each zone: a count-min sketch of fixed size, exact for
//! few, never too low.
//!
//! Source: Cormode and Muthukrishnan, *An improved data stream summary: the count-min sketch and its applications*, 2005.

use alloc::vec::Vec;

use crate::key::{Family, Fields};

/// What sessions are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// An IPv4 address or an IPv6 prefix of 64 bits, in its zone.
    Source,
    /// The zone.
    Zone,
}

/// Rows of counters; a source has one in each, and its count is the lowest.
const ROWS: usize = 2;

#[derive(Debug)]
pub(super) struct Sources {
    /// Empty without a limit.
    counters: Vec<[u32; ROWS]>,
    most: u32,
    by: By,
    seed: [u64; 2],
}

impl Sources {
    /// Counters for so many sessions; none at all for a limit of `u32::MAX`.
    pub(super) fn new(by: By, most: u32, sessions: usize, seed: [u64; 2]) -> Self {
        Self {
            counters: alloc::vec![[0; ROWS]; Self::counters(most, sessions)],
            most,
            by,
            // Seeds that stand near one another, or near zero, hash no worse than others.
            seed: seed.map(|seed| {
                (seed ^ seed >> 32 ^ 0xd1b5_4a32_d192_ed03).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }),
        }
    }

    fn counters(most: u32, sessions: usize) -> usize {
        match most {
            u32::MAX => 0,
            _ => sessions.div_ceil(2).next_power_of_two().max(64),
        }
    }

    pub(super) fn bytes_for(most: u32, sessions: usize) -> usize {
        Self::counters(most, sessions) * size_of::<[u32; ROWS]>()
    }

    fn places(&self, flow: &Fields) -> [usize; ROWS] {
        // Who has an address of version 6 has the 64 bits behind its prefix.
        let zone = u64::from(flow.zone.id()) << 1;
        let (address, kind) = match self.by {
            By::Source => {
                let v6 = u64::from(flow.family == Family::V6);
                ((flow.source >> 64) as u64, zone | v6)
            }
            By::Zone => (zone, 0),
        };
        let [a, b] = self.seed;
        let product = u128::from(address ^ a) * u128::from(b.wrapping_add(kind << 1) | 1);
        let hash = (product as u64 ^ (product >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = self.counters.len().wrapping_sub(1);
        [(hash >> 40) as usize & mask, (hash >> 8) as usize & mask]
    }

    /// Sessions of a flow's source, or of those taken for it.
    pub(super) fn count(&self, flow: &Fields) -> u32 {
        let places = self.places(flow).into_iter().enumerate();
        let counts = places.filter_map(|(row, at)| self.counters.get(at)?.get(row));
        counts.min().copied().unwrap_or(0)
    }

    /// Whether the source may not have another.
    pub(super) fn is_full(&self, flow: &Fields) -> bool {
        !self.counters.is_empty() && self.count(flow) >= self.most
    }

    /// One more, or one fewer.
    pub(super) fn add(&mut self, flow: &Fields, more: bool) {
        if self.counters.is_empty() {
            return;
        }
        for (row, at) in self.places(flow).into_iter().enumerate() {
            if let Some(count) = self
                .counters
                .get_mut(at)
                .and_then(|row_of| row_of.get_mut(row))
            {
                *count = if more {
                    count.saturating_add(1)
                } else {
                    count.saturating_sub(1)
                };
            }
        }
    }

    /// The sum of all counts, by row; `None` without a limit. For tests.
    pub(super) fn sums(&self) -> Option<[u64; ROWS]> {
        let add = |sums: [u64; ROWS], counts: &[u32; ROWS]| {
            [
                sums[0] + u64::from(counts[0]),
                sums[1] + u64::from(counts[1]),
            ]
        };
        (!self.counters.is_empty()).then(|| self.counters.iter().fold([0; ROWS], add))
    }

    pub(super) fn bytes(&self) -> usize {
        self.counters.capacity() * size_of::<[u32; ROWS]>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{FlowKey, Tuple};

    fn flow(text: &str) -> Fields {
        text.parse::<Tuple>().expect("a tuple").fields()
    }

    #[test]
    fn sources_are_never_counted_too_low_and_seldom_too_high() {
        let mut sources = Sources::new(By::Source, 8, 4_096, [3, 5]);
        let from = |n: u32| {
            flow(&alloc::format!(
                "udp 10.0.{}.{}:1 > 10.1.0.0:2",
                n >> 8,
                n & 255
            ))
        };
        for n in 0..1_000 {
            for _ in 0..=n % 3 {
                sources.add(&from(n), true);
            }
        }
        let too_high = (0..1_000).filter(|n| sources.count(&from(*n)) > n % 3 + 1);
        assert!(too_high.count() < 250);
        assert!((0..1_000).all(|n| sources.count(&from(n)) > n % 3));
        for n in 0..1_000 {
            for _ in 0..=n % 3 {
                sources.add(&from(n), false);
            }
        }
        assert_eq!(sources.sums(), Some([0, 0]));
    }

    #[test]
    fn zones_are_counted_apart() {
        let in_zone = |zone| {
            let key: Tuple = "udp 10.0.0.1:1 > 10.0.0.2:2".parse().expect("a tuple");
            key.in_zone(crate::key::Zone::new(zone).expect("a zone"))
                .fields()
        };
        let mut zones = Sources::new(By::Zone, 1, 1_024, [3, 5]);
        zones.add(&in_zone(7), true);
        assert!(zones.is_full(&in_zone(7)));
        let others = (8..40).filter(|zone| zones.is_full(&in_zone(*zone)));
        assert_eq!(others.count(), 0);
    }

    #[test]
    fn a_prefix_of_64_bits_is_one_source() {
        let from = |text: &str| flow(&alloc::format!("udp {text}:1 > [2001:db8:9::1]:2"));
        let mut sources = Sources::new(By::Source, 2, 64, [3, 5]);
        sources.add(&from("[2001:db8::1]"), true);
        assert!(!sources.is_full(&from("[2001:db8::2]")));
        sources.add(&from("[2001:db8::2]"), true);
        assert!(sources.is_full(&from("[2001:db8::3]")));
        let mut unlimited = Sources::new(By::Source, u32::MAX, 64, [3, 5]);
        unlimited.add(&from("[::1]"), true);
        assert!(!unlimited.is_full(&from("[::1]")));
    }
}
