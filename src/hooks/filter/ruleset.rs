//! The rules in their order, found through the interest index, each with its counter.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::rule::{Action, Rule};
use crate::interest::{InterestId, InterestIndex, Scratch};
use crate::key::Fields;

/// A rule's name for as long as it lives; never given to another rule of the same filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a new rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all rules.
    First,
    /// Behind all rules.
    Last,
    /// Right before this rule.
    Before(RuleId),
    /// Right behind this rule.
    After(RuleId),
}

/// Why an edit was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// There is no such rule.
    NoSuchRule(RuleId),
    /// The filter holds as many rules as its owner allowed.
    Full,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchRule(id) => write!(f, "there is no rule {id}"),
            Self::Full => f.write_str("the filter is full"),
        }
    }
}

impl core::error::Error for EditError {}

/// Packets and bytes that a rule has matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes from the network header on.
    pub bytes: u64,
}

impl Counter {
    #[inline]
    pub(super) fn count(&mut self, length: u32) {
        self.packets += 1;
        self.bytes += u64::from(length);
    }
}

/// A rule in its place.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: RuleId,
    pub(super) rule: Rule,
    interest: InterestId,
    position: Position,
}

/// What running a rule reads and writes, apart from the rule so that it stays within a line of the machine's cache.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    pub(super) counter: Counter,
    pub(super) id: RuleId,
    pub(super) set_mark: Option<u32>,
    pub(super) action: Action,
    pub(super) log: bool,
    /// Whether there are conditions to test, for which the rule itself must be read.
    pub(super) tests: bool,
}

const _: () = assert!(size_of::<Live>() <= 40);

impl Live {
    fn of(id: RuleId, rule: &Rule) -> Self {
        Self {
            counter: Counter::default(),
            id,
            set_mark: rule.set_mark,
            action: rule.action,
            log: rule.log,
            tests: !rule.conditions.is_none(),
        }
    }
}

/// The order of rules as a number: spaced out, so that a rule goes between two others without moving any.
type Position = i64;

/// Space between rules that are appended or prepended one by one: 2^31 fit either way.
const GAP: Position = 1 << 32;

/// A rule's slot. Slots are reused; ids are not.
pub(super) type RuleSlot = u32;

#[derive(Debug)]
pub(super) struct Ruleset {
    index: InterestIndex<RuleSlot>,
    slots: Vec<Option<Held>>,
    /// By slot; what stands in a free slot means nothing.
    live: Vec<Live>,
    free: Vec<RuleSlot>,
    by_id: BTreeMap<RuleId, RuleSlot>,
    by_position: BTreeMap<Position, RuleSlot>,
    next_id: u32,
    capacity: usize,
}

/// An index's priority of a position: the same order in unsigned numbers.
const fn priority(position: Position) -> u64 {
    position as u64 ^ 1 << 63
}

impl Ruleset {
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            index: InterestIndex::new(capacity, seed),
            slots: Vec::new(),
            live: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            by_position: BTreeMap::new(),
            next_id: 0,
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many more rules can be given an id.
    pub(super) const fn names_left(&self) -> usize {
        (u32::MAX - self.next_id) as usize
    }

    pub(super) fn get(&self, id: RuleId) -> Option<&Held> {
        self.at(*self.by_id.get(&id)?)
    }

    #[inline]
    pub(super) fn at(&self, slot: RuleSlot) -> Option<&Held> {
        self.slots.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn live(&self, slot: RuleSlot) -> Option<&Live> {
        self.live.get(slot as usize)
    }

    #[inline]
    pub(super) fn live_mut(&mut self, slot: RuleSlot) -> Option<&mut Live> {
        self.live.get_mut(slot as usize)
    }

    pub(super) fn counter(&self, id: RuleId) -> Option<Counter> {
        Some(self.live.get(*self.by_id.get(&id)? as usize)?.counter)
    }

    /// In order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Held> {
        self.by_position.values().filter_map(|slot| self.at(*slot))
    }

    /// The slots of the rules whose pattern matches a flow, in order.
    pub(super) fn matching<'a>(
        &'a self,
        flow: &Fields,
        scratch: &'a mut Scratch,
    ) -> impl Iterator<Item = RuleSlot> + 'a {
        self.index
            .matches(flow, scratch)
            .iter()
            .filter_map(|found| self.index.get(found.id).copied())
    }

    pub(super) fn insert(&mut self, place: Place, rule: Rule) -> Result<RuleId, EditError> {
        if self.len() >= self.capacity || self.next_id == u32::MAX {
            return Err(EditError::Full);
        }
        let position = self.position(place)?;
        let id = RuleId(self.next_id);
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => self.slots.len() as RuleSlot,
        };
        let inserted = self.index.insert(rule.pattern, priority(position), slot);
        let interest = inserted.map_err(|_| EditError::Full)?;
        self.next_id += 1;
        let live = Live::of(id, &rule);
        let held = Some(Held {
            id,
            rule,
            interest,
            position,
        });
        if self.free.pop().is_some() {
            self.slots[slot as usize] = held;
            self.live[slot as usize] = live;
        } else {
            self.slots.push(held);
            self.live.push(live);
        }
        self.by_id.insert(id, slot);
        self.by_position.insert(position, slot);
        Ok(id)
    }

    pub(super) fn remove(&mut self, id: RuleId) -> Result<Rule, EditError> {
        let slot = self.by_id.remove(&id).ok_or(EditError::NoSuchRule(id))?;
        let held = self.slots[slot as usize]
            .take()
            .ok_or(EditError::NoSuchRule(id))?;
        self.by_position.remove(&held.position);
        self.index.remove(held.interest);
        self.free.push(slot);
        Ok(held.rule)
    }

    /// A free position at a place, moving rules apart only when there is none: never for `First` and `Last`, and for the
    /// others once in 32 insertions at the same spot.
    fn position(&mut self, place: Place) -> Result<Position, EditError> {
        let first = |set: &Self| set.by_position.keys().next().copied();
        let last = |set: &Self| set.by_position.keys().next_back().copied();
        let found = match place {
            Place::First => first(self).map_or(Some(0), |p| p.checked_sub(GAP)),
            Place::Last => last(self).map_or(Some(0), |p| p.checked_add(GAP)),
            Place::Before(id) => {
                let at = self.get(id).ok_or(EditError::NoSuchRule(id))?.position;
                match self.by_position.range(..at).next_back() {
                    None => at.checked_sub(GAP),
                    Some((before, _)) => between(*before, at),
                }
            }
            Place::After(id) => {
                let at = self.get(id).ok_or(EditError::NoSuchRule(id))?.position;
                match self.by_position.range(at + 1..).next() {
                    None => at.checked_add(GAP),
                    Some((behind, _)) => between(at, *behind),
                }
            }
        };
        match found {
            Some(position) => Ok(position),
            None => {
                self.spread();
                self.position(place)
            }
        }
    }

    /// Spaces all rules out afresh. Cost: O(n) index edits.
    fn spread(&mut self) {
        let order: Vec<RuleSlot> = self.by_position.values().copied().collect();
        self.by_position.clear();
        for (number, slot) in order.into_iter().enumerate() {
            let position = number as Position * GAP;
            if let Some(held) = self.slots[slot as usize].as_mut() {
                self.index.remove(held.interest);
                if let Ok(interest) = self
                    .index
                    .insert(held.rule.pattern, priority(position), slot)
                {
                    held.interest = interest;
                }
                held.position = position;
            }
            self.by_position.insert(position, slot);
        }
    }
}

/// The middle of two positions, if there is room.
const fn between(low: Position, high: Position) -> Option<Position> {
    let middle = low + (high - low) / 2;
    if middle > low { Some(middle) } else { None }
}
