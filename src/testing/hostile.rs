//! Rule sets made to hurt the index, each with the header that hurts most.
//!
//! Apart from the generator because these are worst cases, not likenesses: what they cost is counted in probes and compared
//! with the linear walk.

use alloc::vec::Vec;

use super::prng::SplitMix64;
use super::rulegen::{Header, Rule};
use crate::key::{Cidr, Family, Fields, Locality, Pattern, Ports, Protocol, Zone};

/// What to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Every pair of nested prefixes of one address: all rules match, each in a pair of its own.
    Nested,
    /// Pairs that the sets of lengths allow on the header's path, and that do not exist.
    Useless,
    /// Any to any, random ranges of ports.
    Ranges,
    /// Any to any, one destination port each.
    Ports,
    /// Any to any, one source port each, random ranges of destination ports.
    SourcePorts,
    /// Any to any, every rule in a zone of its own.
    Zones,
    /// Any to any, all alike but for the priority.
    Alike,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Nested,
        Self::Useless,
        Self::Ranges,
        Self::Ports,
        Self::SourcePorts,
        Self::Zones,
        Self::Alike,
    ];
}

/// At most `count` rules of an attack, shuffled, and headers for them.
pub fn build(attack: Attack, family: Family, count: usize, seed: u64) -> (Vec<Rule>, Vec<Header>) {
    let mut chance = SplitMix64(seed);
    let width = family.bits();
    let cidr = |bits: u128, len: u8| Some(Cidr::from_bits(family, bits, len));
    let any = Pattern {
        family: Some(family),
        ..Pattern::ANY
    };
    let mut patterns = Vec::new();
    match attack {
        Attack::Nested => {
            // Squares of lengths, the longest first, until there are enough.
            let len = |at: usize| width - at as u8;
            for side in 0..=usize::from(width) {
                let edge = (0..=side).map(|at| (side, at));
                let other = (0..side).map(|at| (at, side));
                for (s, d) in edge.chain(other) {
                    if patterns.len() < count {
                        patterns.push(Pattern {
                            source: cidr(0, len(s)),
                            destination: cidr(0, len(d)),
                            ..any
                        });
                    }
                }
            }
        }
        Attack::Useless => {
            // On the path, s of length i and d of length j; each is paired with one off the other's path, of every length.
            let mut side = 1u8;
            while usize::from(side + 1) * usize::from(side + 1) * 2 <= count && side < width {
                side += 1;
            }
            let off = 1u128 << 127;
            for i in 0..side {
                for j in 0..side {
                    let (i, j) = (width - i, width - j);
                    patterns.push(Pattern {
                        source: cidr(0, i),
                        destination: cidr(off, j),
                        ..any
                    });
                    patterns.push(Pattern {
                        source: cidr(off, i),
                        destination: cidr(0, j),
                        ..any
                    });
                }
            }
        }
        _ => {
            for at in 0..count {
                let mut range = || {
                    let (a, b) = (chance.next() as u16, chance.next() as u16);
                    Ports {
                        first: a.min(b),
                        last: a.max(b),
                    }
                };
                let (source_ports, destination_ports, zone) = match attack {
                    Attack::Ranges => (range(), range(), None),
                    Attack::Ports => (Ports::ALL, Ports::one(at as u16), None),
                    Attack::SourcePorts => (Ports::one(at as u16), range(), None),
                    Attack::Zones => (Ports::ALL, Ports::ALL, Zone::new(at as u32)),
                    _ => (Ports::ALL, Ports::ALL, None),
                };
                patterns.push(Pattern {
                    source_ports,
                    destination_ports,
                    zone,
                    ..any
                });
            }
        }
    }
    for i in (1..patterns.len()).rev() {
        patterns.swap(i, chance.below(i as u64 + 1) as usize);
    }
    let rules = patterns
        .into_iter()
        .map(|pattern| Rule {
            pattern,
            flags: 0,
            flags_mask: 0,
        })
        .collect();
    let headers = (0..200)
        .map(|at| Header {
            flow: Fields {
                family,
                source: 0,
                destination: 0,
                source_port: chance.next() as u16,
                destination_port: chance.next() as u16,
                protocol: Protocol(at as u8),
                locality: Locality::default(),
                zone: Zone::new(at * 7).unwrap_or_default(),
            },
            flags: 0,
            rule: None,
        })
        .collect();
    (rules, headers)
}
