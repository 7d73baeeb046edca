//! Granules: the newest generation that touched each hashed piece of the flow space, so that most stale entries are found
//! untouched by a look at a few words, however many commits they slept through.
//!
//! ```text
//!  region  10.1.0.0/18 -> any, tcp 443     its narrowest side, cut to a level: source /16 = 10.1
//!             |
//!             v  hash(view, source /16, 10.1)
//!  words   [ 7 | 0 | 9 | 3 | 9 | 0 | ... ]     write the commit's generation there
//!             ^
//!             |  hash(view, source /16, 10.1), and of each other kind that was written since the stamp
//!  flow    10.1.2.3:4000 -> 192.0.2.1:443
//! ```
//!
//! A flow that a region touches has that region's granule among its own, so a flow whose granules are all no newer than its
//! stamp is untouched. The converse does not hold: granules are coarser than regions and words are shared. Whoever is not
//! cleared here has regions tested one by one, from the newest generation among its granules backwards.

use alloc::boxed::Box;
use alloc::vec;

use super::{Generation, Region, View};
use crate::key::{Cidr, Family, Fields, Pattern};

/// What a granule is cut by.
const SOURCE: usize = 0;
const DESTINATION: usize = SOURCE + LEVELS;
const DESTINATION_PORT: usize = DESTINATION + LEVELS;
const SOURCE_PORT: usize = DESTINATION_PORT + 1;
const ZONE: usize = SOURCE_PORT + 1;
const EVERYTHING: usize = ZONE + 1;
const KINDS: usize = EVERYTHING + 1;

/// Prefix lengths that granules of addresses have.
const LEVELS: usize = 4;

const fn levels(family: Family) -> [u8; LEVELS] {
    match family {
        Family::V4 => [8, 16, 24, 32],
        Family::V6 => [32, 48, 64, 128],
    }
}

#[derive(Clone, Debug)]
pub(super) struct Granules {
    /// A power of two of them.
    words: Box<[Generation]>,
    /// The newest of all words whose numbers end alike: so few that they stay near, where the words are read from afar.
    nearest: Box<[Generation; NEAREST]>,
    /// The ways of cutting that were used, and when each was last: the latest first, so that a look at what came after a stamp
    /// stops early.
    cuts: [Cut; CUTS],
    used: usize,
}

/// One way of cutting the flow space.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// The newest generation that was marked so.
    newest: Generation,
    view: View,
    kind: usize,
    /// What of a flow's fields counts, by family: source, destination, and the rest as [`rest_of`] packs it.
    masks: [[u128; 2]; 2],
    rest: u64,
}

impl Cut {
    fn new(view: View, kind: usize) -> Self {
        let side = |from: usize, family| match kind.checked_sub(from) {
            Some(level) => levels(family).get(level).map_or(0, |len| mask(*len)),
            None => 0,
        };
        let family = |family| match kind < DESTINATION {
            true => [side(SOURCE, family), 0],
            false => [0, side(DESTINATION, family)],
        };
        Self {
            newest: Generation::FIRST,
            view,
            kind,
            masks: [family(Family::V4), family(Family::V6)],
            rest: match kind {
                SOURCE_PORT => rest_of(u16::MAX, 0, 0),
                DESTINATION_PORT => rest_of(0, u16::MAX, 0),
                ZONE => rest_of(0, 0, u32::MAX),
                _ => 0,
            },
        }
    }

    /// The hash of the granule of this kind that a flow is in. No branch depends on the kind.
    #[inline]
    fn hash(&self, fields: &Fields) -> u32 {
        let [source, destination] = match fields.family {
            Family::V4 => &self.masks[0],
            Family::V6 => &self.masks[1],
        };
        let address = fields.source & source | fields.destination & destination;
        let rest = rest_of(
            fields.source_port,
            fields.destination_port,
            fields.zone.id(),
        );
        hash(self.view, self.kind, address, rest & self.rest)
    }
}

/// Ports and zone, side by side.
#[inline]
const fn rest_of(source_port: u16, destination_port: u16, zone: u32) -> u64 {
    (source_port as u64) << 48 | (destination_port as u64) << 32 | zone as u64
}

/// Two rounds of multiply and shift: spreads neighbouring prefixes; nothing here needs to resist an attacker, for a shared word
/// costs tests and never an answer.
#[inline]
const fn hash(view: View, kind: usize, address: u128, rest: u64) -> u32 {
    let tag = (kind as u64) << 2 | view as u64;
    let mut hash = (address >> 64) as u64 ^ (address as u64).rotate_left(29) ^ rest;
    hash = (hash ^ tag << 57 ^ tag).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (hash >> 32) as u32
}

const CUTS: usize = View::ALL.len() * KINDS;

/// 8 KB, two pages of the machine's memory.
const NEAREST: usize = 1 << 10;

impl Granules {
    /// About `words` words: a power of two from 2^10 to 2^20.
    pub(super) fn new(words: usize) -> Self {
        let words = Self::rounded(words);
        let never = Cut::new(View::Arrived, EVERYTHING);
        Self {
            words: vec![Generation::FIRST; words].into_boxed_slice(),
            nearest: Box::new([Generation::FIRST; NEAREST]),
            cuts: [never; CUTS],
            used: 0,
        }
    }

    fn rounded(words: usize) -> usize {
        words.clamp(NEAREST, 1 << 20).next_power_of_two()
    }

    /// Bytes that about so many words take.
    pub(super) fn bytes_for(words: usize) -> usize {
        (Self::rounded(words) + NEAREST) * size_of::<Generation>()
    }

    /// Records that a commit touched a region. Generations do not run backwards. Cost: two words, and the ways of cutting that
    /// were used since the region's own.
    pub(super) fn mark(&mut self, region: &Region, generation: Generation) {
        let Region { pattern, view } = *region;
        let (kind, address, rest) = kind_of(&pattern);
        let word = self.word(hash(view, kind, address, rest));
        self.nearest[word % NEAREST] = generation;
        if let Some(word) = self.words.get_mut(word) {
            *word = generation;
        }
        let used = self.cuts.get(..self.used).unwrap_or(&self.cuts);
        let known = used
            .iter()
            .position(|cut| cut.view == view && cut.kind == kind);
        let at = known.unwrap_or(self.used.min(CUTS - 1));
        if known.is_none() {
            self.used = at + 1;
        }
        // To the front.
        if let Some(front) = self.cuts.get_mut(..=at) {
            front.rotate_right(1);
        }
        let front = &mut self.cuts[0];
        if known.is_none() {
            *front = Cut::new(view, kind);
        }
        front.newest = generation;
    }

    /// The newest generation after `stamp` of which a region may touch the flow with these tuples: no later one does, and where
    /// there is none, none after `stamp` does.
    ///
    /// Cost: one word near, or one near and one far, for each kind and view marked since, at most 36.
    #[inline]
    pub(super) fn newest<'a>(
        &self,
        stamp: Generation,
        tuple: impl Fn(View) -> &'a Fields,
    ) -> Option<Generation> {
        let mut newest = stamp;
        for cut in self.cuts.get(..self.used)? {
            if cut.newest <= newest {
                break;
            }
            let word = self.word(cut.hash(tuple(cut.view)));
            if self.nearest[word % NEAREST] <= newest {
                continue;
            }
            newest = newest.max(self.words.get(word).copied().unwrap_or(cut.newest));
        }
        (newest > stamp).then_some(newest)
    }

    #[inline]
    fn word(&self, hash: u32) -> usize {
        hash as usize & (self.words.len() - 1)
    }
}

/// The granule that a region marks: of the narrower of its sides, else of a port, a zone, or everything. Its kind, and what of
/// its flows' addresses and rest counts.
fn kind_of(pattern: &Pattern) -> (usize, u128, u64) {
    let level = |side: &Option<Cidr>| {
        side.and_then(|cidr| {
            let levels = levels(cidr.family());
            let level = levels.iter().rposition(|len| *len <= cidr.len())?;
            Some((level, cidr.bits() & mask(*levels.get(level)?)))
        })
    };
    match (level(&pattern.source), level(&pattern.destination)) {
        (Some((source, bits)), other) if other.is_none_or(|(level, _)| level < source) => {
            (SOURCE + source, bits, 0)
        }
        (_, Some((destination, bits))) => (DESTINATION + destination, bits, 0),
        _ => {
            let (source, destination) = (&pattern.source_ports, &pattern.destination_ports);
            if destination.first == destination.last {
                (DESTINATION_PORT, 0, rest_of(0, destination.first, 0))
            } else if source.first == source.last {
                (SOURCE_PORT, 0, rest_of(source.first, 0, 0))
            } else if let Some(zone) = pattern.zone {
                (ZONE, 0, rest_of(0, 0, zone.id()))
            } else {
                (EVERYTHING, 0, 0)
            }
        }
    }
}

/// `len` ones, then zeros.
const fn mask(len: u8) -> u128 {
    match 128u32.checked_sub(len as u32) {
        None | Some(0) => u128::MAX,
        Some(128) => 0,
        Some(zeros) => u128::MAX << zeros,
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use super::*;
    use crate::key::{FlowKey, Ports, Tuple, Zone};
    use crate::testing::prng::SplitMix64;

    fn flow(prng: &mut SplitMix64) -> Fields {
        let mut host = || (prng.below(3), prng.below(3), prng.below(3));
        let (a, b, c) = host();
        let (d, e, f) = host();
        let (sport, dport) = (prng.below(3), prng.below(3));
        let text = if prng.below(3) == 0 {
            format!("tcp [2001:db8:{a}:{b}::{c}]:{sport} > [2001:db8:{d}:{e}::{f}]:{dport}")
        } else {
            format!("tcp 10.{a}.{b}.{c}:{sport} > 10.{d}.{e}.{f}:{dport}")
        };
        let key: Tuple = text.parse().expect("a tuple");
        let zone = Zone::new(prng.below(2) as u32).unwrap_or_default();
        key.in_zone(zone).fields()
    }

    /// A box around some flow.
    fn around(fields: &Fields, prng: &mut SplitMix64) -> Pattern {
        let mut side = |bits: u128| {
            let len = prng.below(u64::from(fields.family.bits()) + 1) as u8;
            (prng.below(2) == 0).then(|| Cidr::from_bits(fields.family, bits, len))
        };
        let (source, destination) = (side(fields.source), side(fields.destination));
        let mut pattern = Pattern {
            source,
            destination,
            ..Pattern::ANY
        };
        if prng.below(2) == 0 {
            pattern.destination_ports = Ports::one(fields.destination_port);
        }
        if prng.below(2) == 0 {
            pattern.source_ports = Ports::one(fields.source_port);
        }
        if prng.below(2) == 0 {
            pattern.zone = Some(fields.zone);
        }
        pattern
    }

    /// No region later than what granules say, or after a stamp that they clear, touches a flow, for every stamp; and they clear
    /// most stamps that can be cleared.
    #[test]
    fn what_granules_clear_no_region_touches() {
        let mut prng = SplitMix64(1);
        let (mut cleared, mut untouched) = (0, 0);
        for words in [1, 1024] {
            for _ in 0..200 {
                let mut granules = Granules::new(words);
                let mut published: Vec<(Generation, Region)> = Vec::new();
                let mut generation = Generation::FIRST;
                for _ in 0..prng.below(12) {
                    generation = generation.successor();
                    let near = flow(&mut prng);
                    let region = Region {
                        pattern: around(&near, &mut prng),
                        view: View::ALL[prng.below(3) as usize],
                    };
                    granules.mark(&region, generation);
                    published.push((generation, region));
                }
                for _ in 0..20 {
                    let tuples = [flow(&mut prng), flow(&mut prng), flow(&mut prng)];
                    let mut stamp = Generation::FIRST;
                    while stamp <= generation {
                        let mut touching = published.iter().rev().filter(|(published, region)| {
                            *published > stamp
                                && region.pattern.matches(&tuples[region.view as usize])
                        });
                        let touching = touching.next().map(|(published, _)| *published);
                        let near = granules.newest(stamp, |view| &tuples[view as usize]);
                        assert!(near >= touching, "{stamp} {tuples:?} {published:?}");
                        assert!(near.is_none_or(|near| near > stamp && near <= generation));
                        cleared += u32::from(near.is_none());
                        untouched += u32::from(touching.is_none());
                        stamp = stamp.successor();
                    }
                }
            }
        }
        assert!(cleared * 2 > untouched, "{cleared} of {untouched} cleared");
    }
}
