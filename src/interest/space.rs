//! The pair space of one family: two tries of prefixes, and a cell for each pair of them that some pattern names.
//!
//! Apart from tuple spaces, which probe a table for each pair of *lengths* in use (30 to 350 of them in rule sets of 100,000),
//! because an address has few prefixes in a trie (3 to 8), and of the pairs among them those that exist are told by a set of
//! lengths kept with each prefix. It descends from Srinivasan, Suri and Varghese's pruned tuple space (SIGCOMM 1999,
//! section 4), with pairs in place of tuples, so that nothing is looked for that traffic could multiply.
//!
//! ```text
//!  source ──► trie ──► 10.0.0.0/8  #3  paired with lengths {0, 24}  ┐
//!                      10.1.0.0/16 #9  paired with lengths {32}     ├─► pairs that both sides allow ─► (#3, #4) cell
//!  destination ► trie ► any        #1  paired with lengths {16}     │                                  (#9, #7) cell
//!                      192.0.2.0/24 #4 paired with lengths {8}      │
//!                      192.0.2.1   #7  paired with lengths {16}     ┘
//! ```
//!
//! Cost of a lookup: two walks, and a probe for each pair allowed. Each probe is owed to a pattern of its own: for S on the
//! source's path and a length L in its set, some pattern pairs S with a prefix of length L. There are thus never more
//! probes than patterns, nor more than 33 * 33 (IPv4; IPv6: 129 * 129), nor more than there are pairs of *lengths* in use.
//!
//! The last bound is what the walk goes by. Lists made by hand or by machine use few pairs of lengths for their size. Where
//! there are many, a set may be crafted so that each lookup probes them all, and each probe costs as much as testing ten
//! rules in a row: a linear [`Walk`] is then kept beside the pairs, and answers whenever the probes would cost more.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::bucket::{Buckets, Cell};
use super::prefix::{Bits, Hit, PrefixTrie};
use super::rule::{Flow, Rule};
use super::table::{Slot, Table};
use super::visit::Visit;
use super::walk::Walk;

/// A prefix: its bits, zeros behind them, and its length.
pub(super) type Prefix<A> = (A, u32);

/// Patterns of one family, by prefixes.
#[derive(Debug)]
pub(super) struct Space<A> {
    sources: PrefixTrie<A>,
    destinations: PrefixTrie<A>,
    pairs: Table<Cell>,
    buckets: Buckets,
    /// Pairs of lengths in use, with the number of pairs of prefixes that have them.
    lengths: Table<Lengths>,
    len: usize,
    walk: Walk<A>,
    /// Slots below this one are in the walk: none, some while it is being built, or all.
    walk_reach: u32,
    walk_wanted: bool,
}

/// A lookup's cost, and whether what it gave came in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    pub(super) probes: usize,
    pub(super) in_order: bool,
    /// There was no room for all prefixes: nothing was given to anybody.
    pub(super) is_cut: bool,
}

/// Up to so many rules the walk is always there, and always faster.
const SMALL: usize = if cfg!(any(test, miri, fuzzing)) {
    8
} else {
    128
};
/// The walk answers when there are more probes than one for so many rules.
const RULES_PER_PROBE: usize = 8;
/// The walk is dropped when there are more rules than so many for each pair of lengths in use, and built when there are
/// fewer than `WALK_FROM`. Lists made by hand or by machine have 6 to 600; a crafted one needs less than 4 to hurt.
const WALK_UNTIL: usize = 6;
const WALK_FROM: usize = 5;
/// With fewer rules than so many for each pair of lengths in use, the walk answers without a look at the tries: only sets that
/// are crafted have so few.
const WALK_AT_ONCE: usize = 2;
/// Slots that an edit adds to a walk that is being built.
pub(super) const WALK_STEP: u32 = 8;
const ALL: u32 = u32::MAX;

/// Probes made ready before the first is looked at, so that their cache misses overlap.
const BATCH: usize = 8;

impl<A: Bits> Space<A> {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            sources: PrefixTrie::new(seed ^ 0x243f_6a88_85a3_08d3),
            destinations: PrefixTrie::new(seed ^ 0x1319_8a2e_0370_7344),
            pairs: Table::new(seed ^ 0xa409_3822_299f_31d0),
            buckets: Buckets::new(seed ^ 0x082e_fa98_ec4e_6c89),
            lengths: Table::new(seed ^ 0x4528_21e6_38d0_1377),
            len: 0,
            walk: Walk::new(),
            walk_reach: ALL,
            walk_wanted: true,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.sources.bytes()
            + self.destinations.bytes()
            + self.pairs.bytes()
            + self.buckets.bytes()
            + self.lengths.bytes()
            + self.walk.bytes()
    }

    /// Distinct prefixes of both sides, pairs, and buckets.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (
            self.sources.len() + self.destinations.len(),
            self.pairs.len(),
            self.buckets.len(),
        )
    }

    pub(super) fn insert(
        &mut self,
        source: Prefix<A>,
        destination: Prefix<A>,
        rule: Rule,
        sequence: u64,
    ) {
        let from = self.sources.enter(source.0, source.1);
        let to = self.destinations.enter(destination.0, destination.1);
        let key = pair_key(
            self.sources.at(from).number(),
            self.destinations.at(to).number(),
        );
        let mut is_new = false;
        let buckets = &mut self.buckets;
        self.pairs.change(key, |cell| {
            is_new = cell.is_none();
            buckets.add(cell, key, rule, 0)
        });
        if is_new {
            self.sources.join(from, destination.1);
            self.destinations.join(to, source.1);
            let lengths = Lengths::key_of(source.1, destination.1);
            self.lengths.change(lengths, |held| {
                Lengths::of(lengths, held.map_or(0, Lengths::count) + 1)
            });
        }
        self.len += 1;
        if rule.slot() < self.walk_reach {
            self.walk.insert(source, destination, &rule, sequence);
        }
        self.weigh();
    }

    pub(super) fn remove(
        &mut self,
        source: Prefix<A>,
        destination: Prefix<A>,
        slot: u32,
        sequence: u64,
    ) -> Option<Rule> {
        let from = self.sources.find(source.0, source.1)?;
        let to = self.destinations.find(destination.0, destination.1)?;
        let key = pair_key(
            self.sources.at(from).number(),
            self.destinations.at(to).number(),
        );
        let cell = self.pairs.get(key)?;
        let (rule, rest) = self.buckets.take(cell, slot)?;
        match rest {
            Some(rest) => self.pairs.change(key, |_| rest),
            None => {
                self.pairs.remove(key);
                self.sources.part(from, destination.1);
                self.destinations.part(to, source.1);
                let lengths = Lengths::key_of(source.1, destination.1);
                match self.lengths.get(lengths).map_or(0, Lengths::count) {
                    0 | 1 => {
                        self.lengths.remove(lengths);
                    }
                    count => self
                        .lengths
                        .change(lengths, |_| Lengths::of(lengths, count - 1)),
                }
            }
        }
        self.len -= 1;
        if slot < self.walk_reach {
            self.walk.remove(rule.priority, sequence);
        }
        self.weigh();
        Some(rule)
    }

    /// Drops the walk, or asks for one, by what the rules are like.
    fn weigh(&mut self) {
        let lengths = self.lengths.len();
        if self.walk_wanted {
            if self.len > SMALL && self.len > lengths * WALK_UNTIL {
                self.walk_wanted = false;
                self.walk_reach = 0;
                self.walk = Walk::new();
            }
        } else if self.len <= SMALL / 2 || self.len < lengths * WALK_FROM {
            self.walk_wanted = true;
        }
    }

    /// The first slot that a walk being built has not reached.
    pub(super) fn walk_next(&self) -> Option<u32> {
        (self.walk_wanted && self.walk_reach != ALL).then_some(self.walk_reach)
    }

    /// Adds the rule of the next slot, if it has one in this space, to the walk being built.
    pub(super) fn walk_on(&mut self, rule: Option<(Prefix<A>, Prefix<A>, u64)>, slots: u32) {
        let slot = self.walk_reach;
        if let Some((source, destination, sequence)) = rule {
            if let Some(rule) = self.find(source, destination, slot) {
                self.walk.insert(source, destination, &rule, sequence);
            }
        }
        self.walk_reach = if slot + 1 >= slots { ALL } else { slot + 1 };
    }

    pub(super) fn find(
        &self,
        source: Prefix<A>,
        destination: Prefix<A>,
        slot: u32,
    ) -> Option<Rule> {
        let from = self.sources.find(source.0, source.1)?;
        let to = self.destinations.find(destination.0, destination.1)?;
        let key = pair_key(
            self.sources.at(from).number(),
            self.destinations.at(to).number(),
        );
        self.buckets.find(&self.pairs.get(key)?, slot)
    }

    /// Gives priority and slot of every rule that admits the flow to `visit`.
    ///
    /// The two slices are room for the prefixes of an address: 33 or 129 of each at most.
    #[inline]
    pub(super) fn admitting(
        &self,
        addresses: (A, A),
        flow: &Flow,
        room: (&mut [Hit], &mut [Hit]),
        visit: &mut impl Visit,
    ) -> Sought {
        let can_walk = self.walk_reach == ALL;
        let walk = |visit: &mut _| {
            self.walk.admitting(addresses.0, addresses.1, flow, visit);
            Sought {
                probes: 0,
                in_order: true,
                is_cut: false,
            }
        };
        if can_walk && (self.len <= SMALL || self.len < self.lengths.len() * WALK_AT_ONCE) {
            return walk(visit);
        }
        let Some((sources, destinations)) = self.gather(addresses, room) else {
            return Sought {
                probes: 0,
                in_order: false,
                is_cut: true,
            };
        };
        // Where in the list the destinations with each partner bit begin: they come by length, so those of a bit adjoin.
        let mut begins = [0u8; 64];
        let mut lengths = 0u64;
        for (at, hit) in destinations.iter().enumerate().rev() {
            lengths |= 1 << hit.partner;
            begins[hit.partner as usize & 63] = at as u8;
        }
        if can_walk {
            let allowed = sources.iter().map(|s| (s.partners & lengths).count_ones());
            if allowed.sum::<u32>() as usize * RULES_PER_PROBE > self.len {
                return walk(visit);
            }
        }
        let mut batch = [(0u64, 0u32); BATCH];
        let mut waiting = 0;
        let mut probes = 0;
        for source in sources {
            let mut allowed = source.partners & lengths;
            while allowed != 0 {
                let bit = allowed.trailing_zeros();
                allowed &= allowed - 1;
                let begin = usize::from(begins[bit as usize & 63]);
                for destination in destinations.get(begin..).unwrap_or(&[]) {
                    if destination.partner != bit {
                        break;
                    }
                    if destination.partners >> source.partner & 1 == 0 {
                        continue;
                    }
                    let key = pair_key(source.number, destination.number);
                    batch[waiting % BATCH] = (key, self.pairs.hash(key));
                    waiting += 1;
                    if waiting == BATCH {
                        probes += waiting;
                        self.probe(&batch, flow, visit);
                        waiting = 0;
                    }
                }
            }
        }
        self.probe(batch.get(..waiting).unwrap_or(&[]), flow, visit);
        Sought {
            probes: probes + waiting,
            in_order: false,
            is_cut: false,
        }
    }

    /// The prefixes of both addresses, by length; `None` where they are more than there is room for. The walks take turns, so
    /// that their cache misses overlap.
    #[inline]
    fn gather<'r>(
        &self,
        (source, destination): (A, A),
        (sources, destinations): (&'r mut [Hit], &'r mut [Hit]),
    ) -> Option<(&'r [Hit], &'r [Hit])> {
        let (mut s, mut d) = (0, 0);
        let mut from = self.sources.walk(source);
        let mut to = self.destinations.walk(destination);
        loop {
            let more = self.sources.step(&mut from, |hit| {
                if let Some(place) = sources.get_mut(s) {
                    *place = hit;
                }
                s += 1;
            });
            let also = self.destinations.step(&mut to, |hit| {
                if let Some(place) = destinations.get_mut(d) {
                    *place = hit;
                }
                d += 1;
            });
            if !more && !also {
                break;
            }
        }
        Some((sources.get(..s)?, destinations.get(..d)?))
    }

    #[inline]
    fn probe(&self, batch: &[(u64, u32)], flow: &Flow, visit: &mut impl Visit) {
        let mut cells = [Cell::EMPTY; BATCH];
        for (cell, (_, hash)) in cells.iter_mut().zip(batch) {
            *cell = self.pairs.peek(*hash);
        }
        // Single rules first: they cost least, and what comes later than one of them may be passed over.
        let mut many = 0u32;
        for (at, (cell, &(key, hash))) in cells.iter_mut().zip(batch).enumerate() {
            if !cell.is_empty() && cell.key() != key {
                *cell = self.pairs.get_hashed(key, hash).unwrap_or(Cell::EMPTY);
            }
            if cell.is_one() {
                self.buckets.admitting(cell, flow, visit);
            } else if !cell.is_empty() {
                many |= 1 << at;
            }
        }
        while many != 0 {
            if let Some(cell) = cells.get(many.trailing_zeros() as usize) {
                if visit.wants(cell.first()) {
                    self.buckets.admitting(cell, flow, visit);
                }
            }
            many &= many - 1;
        }
    }

    /// Gives every rule that some flow of a region meets to `visit`, and returns how many prefixes and pairs it looked at. A side
    /// that is `None` is any address.
    ///
    /// Cost: with S and D prefixes that the region touches on each side, O(S + D), and the lesser of a probe for each pair
    /// allowed among them and a pass over all pairs. A region of any source and any destination takes the pass at once.
    pub(super) fn meeting(
        &self,
        source: Option<Prefix<A>>,
        destination: Option<Prefix<A>>,
        region: &Rule,
        visit: &mut impl FnMut(&Rule),
    ) -> usize {
        let any = |side: Option<Prefix<A>>| side.is_none_or(|(_, len)| len == 0);
        if any(source) && any(destination) {
            for cell in self.pairs.iter() {
                self.buckets.meeting(&cell, region, visit);
            }
            return self.pairs.len();
        }
        let sources = touched(&self.sources, source);
        let destinations = touched(&self.destinations, destination);
        let walked = sources.len() + destinations.len();
        let mut by_bit: [Vec<&Hit>; 64] = [const { Vec::new() }; 64];
        for hit in &destinations {
            by_bit[hit.partner as usize & 63].push(hit);
        }
        let mut allowed = 0;
        for hit in &sources {
            let lengths = bits(hit.partners).map(|bit| by_bit[bit].len());
            allowed += lengths.sum::<usize>();
            if allowed > self.pairs.len() {
                self.meet_all(&sources, &destinations, region, visit);
                return walked + self.pairs.len();
            }
        }
        for source in &sources {
            let partners = bits(source.partners).flat_map(|bit| &by_bit[bit]);
            for destination in partners.filter(|d| d.partners >> source.partner & 1 == 1) {
                let key = pair_key(source.number, destination.number);
                if let Some(cell) = self.pairs.get(key) {
                    self.buckets.meeting(&cell, region, visit);
                }
            }
        }
        walked + allowed
    }

    /// [`meeting`](Self::meeting) by a pass over all pairs.
    fn meet_all(
        &self,
        sources: &[Hit],
        destinations: &[Hit],
        region: &Rule,
        visit: &mut impl FnMut(&Rule),
    ) {
        let (sources, destinations) = (Numbers::of(sources), Numbers::of(destinations));
        for cell in self.pairs.iter() {
            let (from, to) = ((cell.key() >> 24) as u32, cell.key() as u32 & 0xff_ffff);
            if sources.holds(from) && destinations.holds(to) {
                self.buckets.meeting(&cell, region, visit);
            }
        }
    }

    /// The rules in the walk, by slot, and how far it reaches. For `check`.
    pub(super) fn walked(&self) -> Result<(Walked, u32), &'static str> {
        let mut walked = Walked::new();
        self.walk.check(|slot, priority, sequence| {
            walked.insert(slot, (priority, sequence));
        })?;
        Ok((walked, self.walk_reach))
    }

    /// Tests everything but the walk; gives every rule to `seen`.
    pub(super) fn check(&self, mut seen: impl FnMut(&Rule)) -> Result<usize, &'static str> {
        self.sources.check()?;
        self.destinations.check()?;
        self.pairs.check()?;
        let mut total = 0;
        let mut pairs_of: [BTreeMap<u32, Vec<u32>>; 2] = Default::default();
        for cell in self.pairs.iter() {
            total += self.buckets.check(&cell, &mut seen)?;
            let (from, to) = ((cell.key() >> 24) as u32, cell.key() as u32 & 0xff_ffff);
            pairs_of[0].entry(from).or_default().push(to);
            pairs_of[1].entry(to).or_default().push(from);
        }
        self.buckets.check_tables()?;
        self.lengths.check()?;
        let tally: u32 = self.lengths.iter().map(Lengths::count).sum();
        if tally as usize != self.pairs.len() || total != self.len {
            return Err("space: count of rules, or of pairs by length");
        }
        let mut lens: [BTreeMap<u32, u32>; 2] = Default::default();
        for (lens, trie) in lens.iter_mut().zip([&self.sources, &self.destinations]) {
            trie.touched(A::ZERO, 0, &mut |record| {
                lens.insert(record.number(), record.len());
            });
        }
        for side in 0..2 {
            let trie = [&self.sources, &self.destinations][side];
            if pairs_of[side].len() != trie.len() {
                return Err("space: a prefix without a pair, or the reverse");
            }
            let mut fault = None;
            trie.touched(A::ZERO, 0, &mut |record| {
                let mut counts = [0u32; 64];
                for partner in pairs_of[side].get(&record.number()).into_iter().flatten() {
                    match lens[1 - side].get(partner) {
                        Some(&len) => counts[A::partner(len) as usize & 63] += 1,
                        None => fault = Some("space: a pair with no prefix"),
                    }
                }
                if (0..64).any(|bit| trie.pairs(record, bit) != counts[bit as usize]) {
                    fault = Some("space: partners of a prefix");
                }
            });
            if let Some(fault) = fault {
                return Err(fault);
            }
        }
        Ok(total)
    }
}

/// Priority and age of rules, by slot.
type Walked = BTreeMap<u32, (u64, u64)>;

/// The prefixes that a region's side touches.
fn touched<A: Bits>(trie: &PrefixTrie<A>, side: Option<Prefix<A>>) -> Vec<Hit> {
    let (bits, len) = side.unwrap_or((A::ZERO, 0));
    let mut hits = Vec::new();
    trie.touched(bits, len, &mut |record| hits.push(record.hit()));
    hits
}

/// The numbers of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize & 63);
        set &= set.wrapping_sub(1);
        bit
    })
}

/// A set of prefixes by their numbers.
struct Numbers(Vec<u64>);

impl Numbers {
    fn of(hits: &[Hit]) -> Self {
        let most = hits.iter().map(|hit| hit.number).max().unwrap_or(0);
        let mut words = alloc::vec![0; most as usize / 64 + 1];
        for hit in hits {
            if let Some(word) = words.get_mut(hit.number as usize / 64) {
                *word |= 1 << (hit.number % 64);
            }
        }
        Self(words)
    }

    fn holds(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64).copied().unwrap_or(0);
        word >> (number % 64) & 1 == 1
    }
}

fn pair_key(source: u32, destination: u32) -> u64 {
    u64::from(source) << 24 | u64::from(destination)
}

/// How many pairs of prefixes have one pair of lengths.
#[derive(Clone, Copy, Debug)]
struct Lengths(u64);

impl Lengths {
    fn key_of(source: u32, destination: u32) -> u64 {
        u64::from(source) << 8 | u64::from(destination)
    }

    fn of(key: u64, count: u32) -> Self {
        Self(key << 32 | u64::from(count))
    }

    fn count(self) -> u32 {
        self.0 as u32
    }
}

impl Slot for Lengths {
    const EMPTY: Self = Self(0);

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn key(&self) -> u64 {
        self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Pattern;

    /// A region with any address on one side costs what the other side touches, where the first has few prefixes.
    #[test]
    fn a_region_of_any_source_looks_at_what_its_destination_touches() {
        let networks = if cfg!(miri) { 64 } else { 4_096 };
        let any = (0, 0);
        for turned in [false, true] {
            let mut space = Space::<u32>::new(1);
            for n in 0..networks {
                let rule = Rule::new(&Pattern::ANY, 0, n);
                let network = (10 << 24 | n << 8, 24);
                let (source, destination) = if turned {
                    (network, any)
                } else {
                    (any, network)
                };
                space.insert(source, destination, rule, n.into());
            }
            let region = Rule::new(&Pattern::ANY, 0, 0);
            for (len, touched) in [(32, 1), (24, 1), (20, 16)] {
                let side = Some((10 << 24, len));
                let (source, destination) = if turned { (side, None) } else { (None, side) };
                let mut met = 0;
                let looked = space.meeting(source, destination, &region, &mut |_| met += 1);
                assert_eq!(met, touched);
                assert!(looked <= 1 + 2 * touched, "{looked} for {touched}");
            }
            let mut met = 0;
            let looked = space.meeting(None, None, &region, &mut |_| met += 1);
            assert_eq!((looked, met), (networks as usize, networks as usize));
        }
    }

    /// A region that is wide on both sides, and patterns that are narrow on both, of which each pairs two of many prefixes: there
    /// are as many pairs that could be as the product of them, and no more looks than prefixes and pairs that are.
    #[test]
    fn a_wide_region_looks_at_no_more_than_there_is() {
        let networks = if cfg!(miri) { 64 } else { 4_096 };
        let mut space = Space::<u32>::new(1);
        let within = |n: u32| (10 << 24 | n << 8, 24);
        let outside = |n: u32| (11 << 24 | n << 8, 24);
        for n in 0..networks {
            let rule = |slot| Rule::new(&Pattern::ANY, 0, slot);
            let other = (n * 7 + 1) % networks;
            space.insert(within(n), outside(other), rule(2 * n), 0);
            space.insert(outside(n), within(other), rule(2 * n + 1), 0);
        }
        let region = Rule::new(&Pattern::ANY, 0, 0);
        let look = |source, destination| {
            let mut met = 0;
            let looked = space.meeting(Some(source), Some(destination), &region, &mut |_| met += 1);
            (met, looked)
        };
        let both = networks as usize * 2;
        // Half of the prefixes of each side and no pair; all prefixes and all pairs.
        let (met, looked) = look((10 << 24, 8), (10 << 24, 8));
        assert_eq!(met, 0);
        assert!(looked <= both + both, "{looked}");
        let (met, looked) = look((10 << 24, 7), (10 << 24, 7));
        assert_eq!(met, networks * 2);
        assert!(looked <= 3 * both, "{looked}");
    }
}
