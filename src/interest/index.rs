//! The index itself: patterns with a priority and a payload, found by flow or by region.
//!
//! Apart from its parts so that the public type and its promises are read in one place.

use alloc::vec::Vec;
use core::fmt;

use crate::key::{Fields, Pattern};

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
    rules: Vec<Rule<T>>,
    free: Vec<u32>,
    capacity: usize,
    len: usize,
    sequence: u64,
    seed: u64,
}

#[derive(Debug)]
struct Rule<T> {
    generation: u32,
    held: Option<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    pattern: Pattern,
    priority: u64,
    sequence: u64,
    value: T,
}

impl<T> InterestIndex<T> {
    /// The most patterns that any index can hold.
    pub const CAPACITY_MAX: usize = (1 << 28) - 1;

    /// An empty index for at most `capacity` patterns; more than [`CAPACITY_MAX`](Self::CAPACITY_MAX) is cut to it.
    ///
    /// `seed` keys the hash functions: take it from a random source where those who write patterns are not trusted.
    /// Nothing is allocated yet.
    pub const fn new(capacity: usize, seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            free: Vec::new(),
            capacity: if capacity > Self::CAPACITY_MAX {
                Self::CAPACITY_MAX
            } else {
                capacity
            },
            len: 0,
            sequence: 0,
            seed,
        }
    }

    /// Patterns held.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no pattern is held.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most patterns that the index will hold.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Adds a pattern.
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
        if self.len >= self.capacity {
            return Err(Full);
        }
        let held = Some(Held {
            pattern,
            priority,
            sequence: self.sequence,
            value,
        });
        self.sequence += 1;
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            if let Some(rule) = self.rules.get_mut(slot as usize) {
                rule.held = held;
                return Ok(InterestId {
                    slot,
                    generation: rule.generation,
                });
            }
        }
        let slot = self.rules.len() as u32;
        self.rules.push(Rule {
            generation: 0,
            held,
        });
        Ok(InterestId {
            slot,
            generation: 0,
        })
    }

    /// Takes a pattern out and gives its payload; `None` when `id` is no longer, or never was, in the index.
    pub fn remove(&mut self, id: InterestId) -> Option<T> {
        let rule = self.rules.get_mut(id.slot as usize)?;
        if rule.generation != id.generation {
            return None;
        }
        let held = rule.held.take()?;
        rule.generation = rule.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.len -= 1;
        Some(held.value)
    }

    /// The payload of a pattern. Cost: O(1).
    pub fn get(&self, id: InterestId) -> Option<&T> {
        self.held(id).map(|held| &held.value)
    }

    /// The payload of a pattern. Cost: O(1).
    pub fn get_mut(&mut self, id: InterestId) -> Option<&mut T> {
        let rule = self.rules.get_mut(id.slot as usize)?;
        if rule.generation != id.generation {
            return None;
        }
        rule.held.as_mut().map(|held| &mut held.value)
    }

    /// The pattern as it was inserted. Cost: O(1).
    pub fn pattern(&self, id: InterestId) -> Option<Pattern> {
        self.held(id).map(|held| held.pattern)
    }

    /// The priority of a pattern. Cost: O(1).
    pub fn priority(&self, id: InterestId) -> Option<u64> {
        self.held(id).map(|held| held.priority)
    }

    /// All patterns that match a flow, in the order of priority.
    ///
    /// Allocates only when `scratch` has never before held as many.
    pub fn matches<'s>(&self, flow: &Fields, scratch: &'s mut Scratch) -> &'s [Match] {
        scratch.found.clear();
        for (slot, rule) in self.rules.iter().enumerate() {
            if let Some(held) = &rule.held {
                if holds_flows(&held.pattern) && held.pattern.matches(flow) {
                    scratch.found.push(Match {
                        priority: held.priority,
                        id: InterestId {
                            slot: slot as u32,
                            generation: rule.generation,
                        },
                    });
                }
            }
        }
        scratch
            .found
            .sort_by_key(|m| (m.priority, self.sequence(m.id)));
        &scratch.found
    }

    /// The first pattern, in the order of priority, that matches a flow.
    pub fn first(&self, flow: &Fields) -> Option<Match> {
        let mut scratch = Scratch::new();
        self.matches(flow, &mut scratch).first().copied()
    }

    /// Calls `visit` with each pattern that some flow of `region` matches, in no stated order.
    pub fn overlapping(&self, region: &Pattern, mut visit: impl FnMut(InterestId)) {
        if !holds_flows(region) {
            return;
        }
        for (slot, rule) in self.rules.iter().enumerate() {
            if let Some(held) = &rule.held {
                if holds_flows(&held.pattern) && held.pattern.overlaps(region) {
                    visit(InterestId {
                        slot: slot as u32,
                        generation: rule.generation,
                    });
                }
            }
        }
    }

    /// All patterns in the order of priority. Cost: O(n log n) for n patterns, and 24 bytes each while it lasts.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_, T>> {
        let mut entries: Vec<_> = self
            .rules
            .iter()
            .enumerate()
            .filter_map(|(slot, rule)| {
                let held = rule.held.as_ref()?;
                let id = InterestId {
                    slot: slot as u32,
                    generation: rule.generation,
                };
                Some((held.priority, held.sequence, id, held))
            })
            .collect();
        entries.sort_unstable_by_key(|&(priority, sequence, ..)| (priority, sequence));
        entries.into_iter().map(|(priority, _, id, held)| Entry {
            id,
            pattern: held.pattern,
            priority,
            value: &held.value,
        })
    }

    /// Takes all patterns out. Their ids stay invalid. Cost: O(n).
    pub fn clear(&mut self) {
        for (slot, rule) in self.rules.iter_mut().enumerate() {
            if rule.held.take().is_some() {
                rule.generation = rule.generation.wrapping_add(1);
                self.free.push(slot as u32);
            }
        }
        self.len = 0;
    }

    /// Sizes, for observers. Cost: O(1).
    pub fn stats(&self) -> Stats {
        let _ = self.seed;
        Stats {
            patterns: self.len,
            bytes: self.rules.capacity() * size_of::<Rule<T>>() + self.free.capacity() * 4,
            ..Stats::default()
        }
    }

    /// Tests every invariant of the structure. Cost: O(n). For tests and fuzzing.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let held = self.rules.iter().filter(|rule| rule.held.is_some()).count();
        if held != self.len || held + self.free.len() != self.rules.len() {
            return Err("count of patterns");
        }
        Ok(())
    }

    fn held(&self, id: InterestId) -> Option<&Held<T>> {
        let rule = self.rules.get(id.slot as usize)?;
        if rule.generation != id.generation {
            return None;
        }
        rule.held.as_ref()
    }

    fn sequence(&self, id: InterestId) -> u64 {
        self.held(id).map_or(0, |held| held.sequence)
    }
}

/// Names a pattern in an index: a slot, and which of its successive tenants.
///
/// The id of a removed pattern finds nothing, until its slot has been reused 2³² times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterestId {
    slot: u32,
    generation: u32,
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
}

impl Scratch {
    /// No room yet: grows with the largest answer.
    pub const fn new() -> Self {
        Self { found: Vec::new() }
    }

    /// Room for `matches` matches.
    pub fn with_capacity(matches: usize) -> Self {
        Self {
            found: Vec::with_capacity(matches),
        }
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
    /// Bytes allocated, all parts and slack counted.
    pub bytes: usize,
    /// Distinct source and destination prefixes, both families.
    pub prefixes: usize,
    /// Distinct pairs of source and destination prefix.
    pub pairs: usize,
    /// Pairs with more than one pattern.
    pub buckets: usize,
}

/// Whether some flow can match: one family at most, and no port range that ends before it begins.
pub(crate) fn holds_flows(pattern: &Pattern) -> bool {
    !pattern.is_empty()
        && pattern.source_ports.first <= pattern.source_ports.last
        && pattern.destination_ports.first <= pattern.destination_ports.last
}
