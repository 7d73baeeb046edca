//! The index itself: patterns with a priority and a payload, found by flow or by region.
//!
//! Apart from its parts so that the public type and its promises are read in one place.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::prefix::{Bits, Hit};
use super::rule::{Flow, Rule};
use super::slab::{Marks, Slab};
use super::space::{Space, WALK_STEP};
use super::visit::{All, First, Visit};
use crate::key::{Cidr, Family, Fields, Pattern};

/// Patterns with a priority and a payload, found by the flows that they match.
///
/// A lower number is an earlier priority; among equals the one inserted first comes first. Patterns that no flow can match
/// (they name both families, or a port range that ends before it begins) are kept, and match and overlap nothing.
///
/// ```
/// use gufc::interest::{InterestIndex, Scratch};
/// use gufc::key::{FlowKey, Pattern, Ports, Tuple};
///
/// let mut index = InterestIndex::new(1000, 0x5eed);
/// let any = index.insert(Pattern::ANY, 20, "everything")?;
/// let ssh = index.insert(
///     Pattern { destination_ports: Ports::one(22), ..Pattern::ANY },
///     10,
///     "ssh",
/// )?;
///
/// let mut scratch = Scratch::new();
/// let flow: Tuple = "tcp 192.0.2.1:40000 > 10.1.2.3:22".parse()?;
/// let matches = index.matches(&flow.fields(), &mut scratch);
/// assert_eq!(matches.iter().map(|m| m.id).collect::<Vec<_>>(), [ssh, any]);
///
/// assert_eq!(index.remove(ssh), Some("ssh"));
/// assert_eq!(index.first(&flow.fields()).map(|m| m.id), Some(any));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct InterestIndex<T> {
    slots: Slab<T>,
    v4: Space<u32>,
    v6: Space<u128>,
    /// Patterns that no flow can match, by slot.
    void: BTreeMap<u32, (Pattern, u64)>,
    capacity: usize,
    sequence: u64,
    seed: u64,
}

impl<T> InterestIndex<T> {
    /// The most patterns that any index can hold: 2²⁴ - 1.
    pub const CAPACITY_MAX: usize = (1 << 24) - 1;

    /// An empty index for at most `capacity` patterns; more than [`CAPACITY_MAX`](Self::CAPACITY_MAX) is cut to it.
    ///
    /// `seed` keys the hash functions: take it from a random source where those who write patterns are not trusted.
    /// Nothing is allocated yet; the index grows with what it holds.
    pub const fn new(capacity: usize, seed: u64) -> Self {
        Self {
            slots: Slab::new(),
            v4: Space::new(seed),
            v6: Space::new(!seed),
            void: BTreeMap::new(),
            capacity: if capacity > Self::CAPACITY_MAX {
                Self::CAPACITY_MAX
            } else {
                capacity
            },
            sequence: 0,
            seed,
        }
    }

    /// Patterns held.
    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no pattern is held.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most patterns that the index will hold.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Adds a pattern.
    ///
    /// Cost: a walk of each side's trie (at most 7 nodes, IPv6: 23), one hash table edit, and bounded copying: at most 128
    /// records a trie, a few clusters of a table that is growing. A pattern of both families pays for both.
    ///
    /// # Errors
    ///
    /// [`Full`] when `capacity` patterns are held; nothing has changed and `value` is dropped.
    pub fn insert(
        &mut self,
        pattern: Pattern,
        priority: u64,
        value: T,
    ) -> Result<InterestId, Full> {
        if self.len() >= self.capacity {
            return Err(Full);
        }
        let marks = Marks::of(&pattern);
        let sides = match (pattern.source, pattern.destination) {
            (None, None) => [(0, 0); 2],
            (source, destination) => [source, destination]
                .map(|side| side.map_or((0, 0), |cidr| (cidr.bits(), cidr.len().into()))),
        };
        let sequence = self.sequence;
        let id = self.slots.insert(marks, sides, sequence, value);
        self.sequence += 1;
        let rule = Rule::new(&pattern, priority, id.slot);
        if marks.is_void() {
            self.void.insert(id.slot, (pattern, priority));
        }
        if marks.in_v4() {
            let [source, destination] = sides.map(narrow);
            self.v4.insert(source, destination, rule, sequence);
        }
        if marks.in_v6() {
            let [source, destination] = sides;
            self.v6.insert(source, destination, rule, sequence);
        }
        self.build_walks();
        Ok(id)
    }

    /// Takes a pattern out and gives its payload; `None` when `id` is no longer, or never was, in the index.
    ///
    /// Cost: as [`insert`](Self::insert).
    pub fn remove(&mut self, id: InterestId) -> Option<T> {
        let sequence = self.slots.sequence(id.slot);
        let (marks, sides, value) = self.slots.remove(id)?;
        if marks.is_void() {
            self.void.remove(&id.slot);
        }
        if marks.in_v4() {
            let [source, destination] = sides.map(narrow);
            self.v4.remove(source, destination, id.slot, sequence);
        }
        if marks.in_v6() {
            let [source, destination] = sides;
            self.v6.remove(source, destination, id.slot, sequence);
        }
        self.build_walks();
        Some(value)
    }

    /// The payload of a pattern. Cost: O(1).
    pub fn get(&self, id: InterestId) -> Option<&T> {
        self.slots.get(id)
    }

    /// The payload of a pattern. Cost: O(1).
    pub fn get_mut(&mut self, id: InterestId) -> Option<&mut T> {
        self.slots.get_mut(id)
    }

    /// The pattern as it was inserted. Cost: a walk of each side's trie and a probe.
    pub fn pattern(&self, id: InterestId) -> Option<Pattern> {
        Some(self.read(id)?.0)
    }

    /// The priority of a pattern. Cost: as [`pattern`](Self::pattern).
    pub fn priority(&self, id: InterestId) -> Option<u64> {
        Some(self.read(id)?.1)
    }

    /// All patterns that match a flow, in the order of priority.
    ///
    /// Cost: a walk of each side's trie, a probe for each pair of prefixes that both sides allow (never more than there are
    /// patterns), and O(m log m) for m matches. Allocates only when `scratch` has never before held as many.
    pub fn matches<'s>(&self, flow: &Fields, scratch: &'s mut Scratch) -> &'s [Match] {
        let Scratch {
            found,
            sources,
            destinations,
            probes,
        } = scratch;
        found.clear();
        let mut visit = All(|priority, slot| {
            found.push(Match {
                priority,
                id: self.slots.id(slot),
            });
        });
        let packed = Flow::of(flow);
        let sought = match flow.family {
            Family::V4 => {
                let addresses = (narrow_bits(flow.source), narrow_bits(flow.destination));
                let room = (ready(sources, 33), ready(destinations, 33));
                self.v4.admitting(addresses, &packed, room, &mut visit)
            }
            Family::V6 => {
                let room = (ready(sources, 129), ready(destinations, 129));
                let addresses = (flow.source, flow.destination);
                self.v6.admitting(addresses, &packed, room, &mut visit)
            }
        };
        *probes = sought.probes;
        if !sought.in_order {
            self.sort(found);
        }
        found
    }

    /// The first pattern, in the order of priority, that matches a flow.
    ///
    /// Cost: as [`matches`](Self::matches), but for the sorting, and for what comes later than a pattern already found: all patterns
    /// of a pair of prefixes, the rest of a short list, and 64 or 4,096 of a long one at a time are passed over. A linear walk
    /// ends with the first. Allocates nothing.
    pub fn first(&self, flow: &Fields) -> Option<Match> {
        let mut visit = First {
            best: None,
            sequence: |slot| self.slots.sequence(slot),
        };
        let packed = Flow::of(flow);
        match flow.family {
            Family::V4 => {
                let addresses = (narrow_bits(flow.source), narrow_bits(flow.destination));
                first_in(&self.v4, addresses, &packed, &mut visit);
            }
            Family::V6 => {
                let addresses = (flow.source, flow.destination);
                first_in(&self.v6, addresses, &packed, &mut visit);
            }
        }
        visit.best.map(|(priority, slot)| Match {
            priority,
            id: self.slots.id(slot),
        })
    }

    /// Calls `visit` once with each pattern that some flow of `region` matches, in no stated order.
    ///
    /// Cost: with S and D prefixes that the region's source and destination touch (those that hold it, those within it),
    /// O(S + D), and a probe for each pair allowed among them or a pass over all pairs, whichever is less: whatever the region and
    /// the patterns, never more than three looks for each pattern there is, and the patterns of the pairs touched. A side that is
    /// any address touches all prefixes of its side, which costs little where there are few; with both sides any it is the pass.
    pub fn overlapping(&self, region: &Pattern, mut visit: impl FnMut(InterestId)) {
        let marks = Marks::of(region);
        let rule = Rule::new(region, 0, 0);
        let side = |cidr: &Option<Cidr>| cidr.map(|cidr| (cidr.bits(), u32::from(cidr.len())));
        let (source, destination) = (side(&region.source), side(&region.destination));
        if marks.in_v4() {
            let mut visit = |rule: &Rule| visit(self.slots.id(rule.slot()));
            let (source, destination) = (source.map(narrow), destination.map(narrow));
            self.v4.meeting(source, destination, &rule, &mut visit);
        }
        if marks.in_v6() {
            let both = marks.in_v4();
            let mut visit = |rule: &Rule| {
                // What is in both spaces has been seen in the other.
                if !(both && self.slots.marks(rule.slot()).in_v4()) {
                    visit(self.slots.id(rule.slot()));
                }
            };
            self.v6.meeting(source, destination, &rule, &mut visit);
        }
    }

    /// All patterns in the order of priority. Cost: O(n log n) for n patterns, and 112 bytes each while it lasts.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_, T>> {
        let mut list: Vec<(u64, u64, u32, Pattern)> = Vec::new();
        let mut add = |rule: &Rule| {
            let slot = rule.slot();
            let mut pattern = self.slots.pattern(slot);
            rule.write(&mut pattern);
            list.push((rule.priority, self.slots.sequence(slot), slot, pattern));
        };
        let all = Rule::new(&Pattern::ANY, 0, 0);
        self.v4.meeting(None, None, &all, &mut add);
        self.v6.meeting(None, None, &all, &mut |rule| {
            if !self.slots.marks(rule.slot()).in_v4() {
                add(rule);
            }
        });
        list.extend(self.void.iter().map(|(&slot, &(pattern, priority))| {
            (priority, self.slots.sequence(slot), slot, pattern)
        }));
        list.sort_unstable_by_key(|&(priority, sequence, ..)| (priority, sequence));
        list.into_iter().filter_map(|(priority, _, slot, pattern)| {
            let id = self.slots.id(slot);
            Some(Entry {
                id,
                pattern,
                priority,
                value: self.slots.get(id)?,
            })
        })
    }

    /// Takes all patterns out. Their ids stay invalid. Cost: O(n).
    pub fn clear(&mut self) {
        self.slots.clear();
        self.v4 = Space::new(self.seed);
        self.v6 = Space::new(!self.seed);
        self.void.clear();
    }

    /// Sizes, for observers. Cost: O(buckets).
    pub fn stats(&self) -> Stats {
        let (prefixes4, pairs4, buckets4) = self.v4.counts();
        let (prefixes6, pairs6, buckets6) = self.v6.counts();
        Stats {
            patterns: self.len(),
            bytes: self.slots.bytes()
                + self.v4.bytes()
                + self.v6.bytes()
                + self.void.len() * size_of::<(u32, (Pattern, u64))>(),
            prefixes: prefixes4 + prefixes6,
            pairs: pairs4 + pairs6,
            buckets: buckets4 + buckets6,
        }
    }

    /// Tests every invariant of the structure. Cost: O(n log n). For tests and fuzzing.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        self.slots.check()?;
        let mut void = 0;
        let mut expected = [0; 2];
        for slot in self.slots.held() {
            let marks = self.slots.marks(slot);
            void += usize::from(marks.is_void());
            expected[0] += usize::from(marks.in_v4());
            expected[1] += usize::from(marks.in_v6());
            let Some((pattern, _)) = self.read(self.slots.id(slot)) else {
                return Err("index: a pattern that is not found");
            };
            if Marks::of(&pattern) != marks {
                return Err("index: a pattern under other marks");
            }
        }
        if void != self.void.len() {
            return Err("index: count of void patterns");
        }
        let mut fault = false;
        let counts = [
            self.v4
                .check(|rule| fault |= !self.slots.marks(rule.slot()).in_v4())?,
            self.v6
                .check(|rule| fault |= !self.slots.marks(rule.slot()).in_v6())?,
        ];
        if counts != expected || fault {
            return Err("index: patterns of a family");
        }
        let walks = [self.v4.walked()?, self.v6.walked()?];
        for ((walked, reach), in_v4) in walks.into_iter().zip([true, false]) {
            let mut count = 0;
            for slot in self.slots.held().filter(|&slot| slot < reach) {
                let marks = self.slots.marks(slot);
                if if in_v4 { marks.in_v4() } else { marks.in_v6() } {
                    count += 1;
                    let order = self
                        .priority(self.slots.id(slot))
                        .zip(Some(self.slots.sequence(slot)));
                    if walked.get(&slot).copied() != order {
                        return Err("index: a pattern not in the walk, or elsewhere");
                    }
                }
            }
            if count != walked.len() {
                return Err("index: a pattern in the walk that is gone");
            }
        }
        Ok(())
    }

    /// Brings walks that are being built a few slots further.
    fn build_walks(&mut self) {
        for _ in 0..WALK_STEP {
            let Some(slot) = self.v4.walk_next() else {
                break;
            };
            let rule = self.slots.sides(slot).filter(|_| self.slots.is_held(slot));
            let rule = rule.filter(|(marks, _)| marks.in_v4());
            let sequence = self.slots.sequence(slot);
            let sides = rule.map(|(_, [s, d])| (narrow(s), narrow(d), sequence));
            self.v4.walk_on(sides, self.slots.slots());
        }
        for _ in 0..WALK_STEP {
            let Some(slot) = self.v6.walk_next() else {
                break;
            };
            let rule = self.slots.sides(slot).filter(|_| self.slots.is_held(slot));
            let rule = rule.filter(|(marks, _)| marks.in_v6());
            let sequence = self.slots.sequence(slot);
            let sides = rule.map(|(_, [s, d])| (s, d, sequence));
            self.v6.walk_on(sides, self.slots.slots());
        }
    }

    /// A pattern and its priority.
    fn read(&self, id: InterestId) -> Option<(Pattern, u64)> {
        self.slots.get(id)?;
        let (marks, sides) = self.slots.sides(id.slot)?;
        if marks.is_void() {
            return self.void.get(&id.slot).copied();
        }
        let rule = if marks.in_v4() {
            let [source, destination] = sides.map(narrow);
            self.v4.find(source, destination, id.slot)
        } else {
            let [source, destination] = sides;
            self.v6.find(source, destination, id.slot)
        }?;
        let mut pattern = self.slots.pattern(id.slot);
        rule.write(&mut pattern);
        Some((pattern, rule.priority))
    }

    /// By priority, equals by age.
    fn sort(&self, found: &mut [Match]) {
        if found.is_sorted_by(|a, b| a.priority < b.priority) {
            return;
        }
        if found.len() <= 24 {
            for i in 1..found.len() {
                let mut at = i;
                while at > 0 && found[at - 1].priority > found[at].priority {
                    found.swap(at - 1, at);
                    at -= 1;
                }
            }
        } else {
            found.sort_unstable_by_key(|found| found.priority);
        }
        let mut rest = found;
        while let Some(first) = rest.first() {
            let priority = first.priority;
            let equal = rest.iter().take_while(|m| m.priority == priority).count();
            let (run, behind) = rest.split_at_mut(equal);
            if equal > 1 {
                run.sort_unstable_by_key(|m| self.slots.sequence(m.id.slot));
            }
            rest = behind;
        }
    }
}

/// Visits what matches. Few addresses have many prefixes, and room for all that there can be takes longer to clear than the
/// search takes.
#[inline]
fn first_in<A: Bits>(space: &Space<A>, addresses: (A, A), packed: &Flow, visit: &mut impl Visit) {
    let (mut sources, mut destinations) = ([Hit::NONE; FEW_HITS], [Hit::NONE; FEW_HITS]);
    let room = (sources.as_mut_slice(), destinations.as_mut_slice());
    if space.admitting(addresses, packed, room, visit).is_cut {
        first_in_many(space, addresses, packed, visit);
    }
}

#[cold]
#[inline(never)]
fn first_in_many<A: Bits>(
    space: &Space<A>,
    addresses: (A, A),
    packed: &Flow,
    visit: &mut impl Visit,
) {
    let (mut sources, mut destinations) = (A::NO_HITS, A::NO_HITS);
    let room = (sources.as_mut(), destinations.as_mut());
    space.admitting(addresses, packed, room, visit);
}

/// Prefixes that most addresses have no more of.
const FEW_HITS: usize = if cfg!(any(test, miri, fuzzing)) {
    3
} else {
    12
};

fn narrow_bits(bits: u128) -> u32 {
    u32::from_aligned(bits)
}

fn narrow((bits, len): (u128, u32)) -> (u32, u32) {
    (narrow_bits(bits), len)
}

/// Room for `count` prefixes.
fn ready(room: &mut Vec<Hit>, count: usize) -> &mut [Hit] {
    if room.len() < count {
        room.resize(count, Hit::NONE);
    }
    room
}

/// Names a pattern in an index: a slot, and which of its successive tenants.
///
/// The id of a removed pattern finds nothing, until its slot has been reused 2³² times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterestId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl InterestId {
    /// The slot, below the most patterns that the index has held at once: fit to index a table beside it.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// How often the slot has been vacated.
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The id of these parts. One that the index did not give names nothing, or another pattern.
    pub const fn from_parts(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }
}

/// A pattern that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its priority: lower is earlier.
    pub priority: u64,
    /// Which pattern.
    pub id: InterestId,
}

/// A pattern in the index, as [`InterestIndex::iter`] gives it.
#[derive(Debug)]
pub struct Entry<'a, T> {
    /// Its name.
    pub id: InterestId,
    /// The pattern as inserted.
    pub pattern: Pattern,
    /// Its priority: lower is earlier.
    pub priority: u64,
    /// Its payload.
    pub value: &'a T,
}

/// Room for the answer of [`InterestIndex::matches`], kept between calls so that none allocates.
#[derive(Debug, Default)]
pub struct Scratch {
    found: Vec<Match>,
    sources: Vec<Hit>,
    destinations: Vec<Hit>,
    probes: usize,
}

impl Scratch {
    /// No room yet: grows with the largest answer.
    pub const fn new() -> Self {
        Self {
            found: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            probes: 0,
        }
    }

    /// Room for `matches` matches.
    pub fn with_capacity(matches: usize) -> Self {
        Self {
            found: Vec::with_capacity(matches),
            sources: alloc::vec![Hit::NONE; 129],
            destinations: alloc::vec![Hit::NONE; 129],
            probes: 0,
        }
    }

    /// Pairs of prefixes that the last lookup probed: what it cost.
    pub const fn probes(&self) -> usize {
        self.probes
    }
}

/// Why a pattern was not added: the index holds as many as its owner allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the interest index is full")
    }
}

impl core::error::Error for Full {}

/// Sizes of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Patterns held.
    pub patterns: usize,
    /// Bytes allocated, all parts and slack counted; what payloads own themselves is not.
    pub bytes: usize,
    /// Distinct source and destination prefixes, both families.
    pub prefixes: usize,
    /// Distinct pairs of source and destination prefix.
    pub pairs: usize,
    /// Pairs with so many patterns that they are looked up by ports and zone too.
    pub buckets: usize,
}

/// Whether some flow can match: one family at most, and no port range that ends before it begins.
pub(crate) fn holds_flows(pattern: &Pattern) -> bool {
    !pattern.is_empty()
        && pattern.source_ports.first <= pattern.source_ports.last
        && pattern.destination_ports.first <= pattern.destination_ports.last
}
