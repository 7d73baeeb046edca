//! Chains of rules in their order, each found through an interest index of its chain, each with its counter; and the sets.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::Limits;
use super::edit::EditError;
use super::name::Name;
use super::rule::{Action, Rule};
use super::set::{Set, SetField, SetKind, SetMatch};
use crate::interest::{InterestId, InterestIndex, Scratch};
use crate::key::{Fields, Pattern};
use crate::verdict::Answer;

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
    /// Before all rules of the main chain.
    First,
    /// Behind all rules of the main chain.
    Last,
    /// Before all rules of this chain.
    FirstOf(Name),
    /// Behind all rules of this chain.
    LastOf(Name),
    /// Right before this rule.
    Before(RuleId),
    /// Right behind this rule.
    After(RuleId),
}

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
    pub(super) chain: ChainSlot,
    /// The chain that it goes to.
    pub(super) target: Option<ChainSlot>,
    /// The sets that it reads, one for each test.
    pub(super) sets: Box<[SetSlot]>,
    interest: InterestId,
    position: Position,
}

/// What is kept of a removed rule in case it has to come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    id: RuleId,
    slot: RuleSlot,
    counter: Counter,
}

/// What running a rule reads and writes, and what putting a program together reads of most rules, apart from the rule so that
/// it stays within a line of the machine's cache.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    pub(super) counter: Counter,
    pub(super) id: RuleId,
    pub(super) set_mark: Option<u32>,
    pub(super) effect: Effect,
    pub(super) log: bool,
    /// Whether there are conditions to test, for which the rule itself must be read.
    pub(super) tests: bool,
    /// Whether a flow that its pattern has may not match, for exceptions or sets: [`Ruleset::settles`] says.
    pub(super) narrows: bool,
    /// Whether it matches only packets whose transport header can be read.
    pub(super) reads_transport: bool,
    /// Programs that have the rule. It stays in its slot while there are any, though it may have been removed.
    programs: u32,
}

/// What a rule does to a packet. Where it sends the packet next is the program's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Effect {
    #[default]
    Continue,
    Accept,
    Drop,
    Reject(Answer),
}

const _: () = assert!(size_of::<Live>() <= 40);

impl Live {
    fn of(id: RuleId, rule: &Rule) -> Self {
        Self {
            counter: Counter::default(),
            id,
            set_mark: rule.set_mark,
            effect: match rule.action {
                Action::Accept => Effect::Accept,
                Action::Drop => Effect::Drop,
                Action::Reject(answer) => Effect::Reject(answer),
                Action::Continue | Action::Jump(_) | Action::Goto(_) | Action::Return => {
                    Effect::Continue
                }
            },
            log: rule.log,
            tests: !rule.conditions.is_none(),
            narrows: !rule.except.is_empty() || !rule.sets.is_empty(),
            reads_transport: rule.reads_transport(),
            programs: 0,
        }
    }
}

/// The order of rules as a number: spaced out, so that a rule goes between two others without moving any.
type Position = i64;

/// Space between rules that are appended or prepended one by one: 2^31 fit either way.
const GAP: Position = 1 << 32;

/// A rule's slot. Slots are reused; ids are not.
pub(super) type RuleSlot = u32;
/// A chain's slot.
pub(super) type ChainSlot = u32;
/// A set's slot.
pub(super) type SetSlot = u32;

/// The slot of the main chain, which is always there.
pub(super) const MAIN: ChainSlot = 0;

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: Name,
    index: InterestIndex<RuleSlot>,
    by_position: BTreeMap<Position, RuleSlot>,
    /// Rules that come here.
    pub(super) callers: u32,
    /// Chains that rules of this one go to, and how many do.
    pub(super) targets: BTreeMap<ChainSlot, u32>,
}

#[derive(Debug)]
pub(super) struct Ruleset {
    /// Rules, also those that have been removed and that programs still have.
    slots: Vec<Option<Held>>,
    /// By slot; what stands in a free slot means nothing.
    live: Vec<Live>,
    free: Vec<RuleSlot>,
    by_id: BTreeMap<RuleId, RuleSlot>,
    chains: Vec<Option<Chain>>,
    chain_names: BTreeMap<Name, ChainSlot>,
    sets: Vec<Option<Set>>,
    set_names: BTreeMap<Name, SetSlot>,
    /// The sum of the sets' capacities.
    elements_reserved: usize,
    next_id: u32,
    limits: Limits,
    seed: u64,
}

/// An index's priority of a position: the same order in unsigned numbers.
const fn priority(position: Position) -> u64 {
    position as u64 ^ 1 << 63
}

impl Ruleset {
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        let mut set = Self {
            slots: Vec::new(),
            live: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            chains: Vec::new(),
            chain_names: BTreeMap::new(),
            sets: Vec::new(),
            set_names: BTreeMap::new(),
            elements_reserved: 0,
            next_id: 0,
            limits,
            seed,
        };
        set.put_chain(set.new_chain(Name::MAIN));
        set
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The id that the next rule gets.
    pub(super) const fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Takes ids back that were given since; no rule has them any more.
    pub(super) fn rewind_ids(&mut self, next_id: u32) {
        self.next_id = next_id;
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

    /// The rules of a chain in order.
    pub(super) fn iter(&self, chain: ChainSlot) -> impl DoubleEndedIterator<Item = &Held> {
        let order = self.chain(chain).map(|chain| chain.by_position.values());
        order
            .into_iter()
            .flatten()
            .filter_map(|slot| self.at(*slot))
    }

    /// The slots of a chain's rules whose pattern matches a flow, in order.
    pub(super) fn matching<'a>(
        &'a self,
        chain: ChainSlot,
        flow: &Fields,
        scratch: &'a mut Scratch,
    ) -> impl Iterator<Item = RuleSlot> + 'a {
        let index = self.chain(chain).map(|chain| &chain.index);
        let matches = index.map_or(&[][..], |index| index.matches(flow, scratch));
        matches
            .iter()
            .filter_map(move |found| index?.get(found.id).copied())
    }

    /// The rules of a chain, in order, that some flow of a region may match. Cost: as
    /// [`overlapping`](InterestIndex::overlapping), and O(m log m) for m of them.
    pub(super) fn meeting(&self, chain: ChainSlot, region: &Pattern) -> Vec<&Held> {
        let mut met: Vec<&Held> = Vec::new();
        if let Some(chain) = self.chain(chain) {
            chain.index.overlapping(region, |id| {
                met.extend(chain.index.get(id).and_then(|slot| self.at(*slot)));
            });
        }
        met.sort_unstable_by_key(|held| held.position);
        met
    }

    /// Whether a rule whose pattern has the flow matches it, exceptions and sets too.
    pub(super) fn settles(&self, held: &Held, flow: &Fields) -> bool {
        let is_in = |(test, slot): (&SetMatch, &SetSlot)| {
            self.set_at(*slot).is_some_and(|set| set.passes(test, flow))
        };
        let rule = &held.rule;
        !rule.except.iter().any(|hole| hole.matches(flow))
            && rule.sets.iter().zip(&held.sets).all(is_in)
    }

    /// Puts a rule in its place, under the next id, or as it was when it was removed.
    pub(super) fn insert(
        &mut self,
        place: Place,
        rule: Rule,
        removed: Option<Removed>,
    ) -> Result<RuleId, EditError> {
        if self.len() >= self.limits.rules || removed.is_none() && self.next_id == u32::MAX {
            return Err(EditError::Full);
        }
        let target = match rule.action.target() {
            None => None,
            Some(Name::MAIN) => return Err(EditError::JumpToMain),
            Some(name) => Some(self.chain_named(name)?),
        };
        let sets = self.resolve(&rule)?;
        let (chain, position) = self.position(place)?;
        let id = removed.map_or(RuleId(self.next_id), |old| old.id);
        // A slot that programs have is not among the free ones; any other is freed and taken again in the same order.
        let kept = removed.filter(|old| self.live(old.slot).is_some_and(|l| l.programs > 0));
        let slot = match (kept, self.free.last()) {
            (Some(old), _) => old.slot,
            (None, Some(slot)) => *slot,
            (None, None) => self.slots.len() as RuleSlot,
        };
        let Some(Some(home)) = self.chains.get_mut(chain as usize) else {
            return Err(EditError::Full);
        };
        let inserted = home.index.insert(rule.pattern, priority(position), slot);
        let interest = inserted.map_err(|_| EditError::Full)?;
        home.by_position.insert(position, slot);
        if let Some(target) = target {
            *home.targets.entry(target).or_default() += 1;
            if let Some(target) = self.chain_mut(target) {
                target.callers += 1;
            }
        }
        for set in &sets {
            if let Some(set) = self.set_mut(*set) {
                *set.readers.entry(slot).or_default() += 1;
            }
        }
        let mut live = Live::of(id, &rule);
        if let Some(old) = removed {
            live.counter = old.counter;
        }
        let held = Some(Held {
            id,
            rule,
            chain,
            target,
            sets,
            interest,
            position,
        });
        if let Some(kept) = kept {
            live.programs = self.live(kept.slot).map_or(0, |live| live.programs);
        }
        if kept.is_some() || self.free.pop().is_some() {
            self.slots[slot as usize] = held;
            self.live[slot as usize] = live;
        } else {
            self.slots.push(held);
            self.live.push(live);
        }
        self.by_id.insert(id, slot);
        self.next_id = self.next_id.max(id.0 + 1);
        Ok(id)
    }

    /// The sets that a rule reads, each of a kind that fits.
    fn resolve(&self, rule: &Rule) -> Result<Box<[SetSlot]>, EditError> {
        let slots = rule.sets.iter().map(|test| {
            let slot = self.set_named(test.set)?;
            let kind = self.set_at(slot).map(|set| set.kind);
            let fits = match test.field {
                SetField::SourcePort | SetField::DestinationPort => kind == Some(SetKind::Ports),
                _ => kind.is_some_and(|kind| kind != SetKind::Ports),
            };
            if fits {
                Ok(slot)
            } else {
                Err(EditError::WrongKind(test.set))
            }
        });
        slots.collect()
    }

    /// Takes a rule out; gives it, where it stood, and what it was.
    pub(super) fn remove(&mut self, id: RuleId) -> Result<(Held, Place, Removed), EditError> {
        let missing = EditError::NoSuchRule(id);
        let slot = *self.by_id.get(&id).ok_or(missing)?;
        let in_use = self.live(slot).is_some_and(|live| live.programs > 0);
        let held = if in_use {
            self.at(slot).cloned()
        } else {
            self.free.push(slot);
            self.slots.get_mut(slot as usize).and_then(Option::take)
        };
        let held = held.ok_or(missing)?;
        self.by_id.remove(&id);
        let mut behind = None;
        if let Some(chain) = self.chain_mut(held.chain) {
            chain.by_position.remove(&held.position);
            chain.index.remove(held.interest);
            if let Some(target) = held.target {
                decrement(&mut chain.targets, target);
            }
            behind = chain.by_position.range(..held.position).next_back();
        }
        let behind = behind.map(|(_, slot)| *slot);
        let home = self
            .chain(held.chain)
            .map_or(Name::MAIN, |chain| chain.name);
        let place = match behind.and_then(|slot| self.at(slot)) {
            Some(behind) => Place::After(behind.id),
            None => Place::FirstOf(home),
        };
        if let Some(target) = held.target.and_then(|target| self.chain_mut(target)) {
            target.callers -= 1;
        }
        for set in &held.sets {
            if let Some(set) = self.set_mut(*set) {
                decrement(&mut set.readers, slot);
            }
        }
        let counter = self.live(slot).map_or(Counter::default(), |l| l.counter);
        Ok((held, place, Removed { id, slot, counter }))
    }

    /// One more program has the rules of these slots.
    pub(super) fn pin(&mut self, slots: impl Iterator<Item = RuleSlot>) {
        for slot in slots {
            if let Some(live) = self.live_mut(slot) {
                live.programs += 1;
            }
        }
    }

    /// One program less has the rules of these slots; those that were removed before go with the last one.
    pub(super) fn unpin(&mut self, slots: impl Iterator<Item = RuleSlot>) {
        for slot in slots {
            let Some(live) = self.live_mut(slot) else {
                continue;
            };
            live.programs = live.programs.saturating_sub(1);
            if live.programs > 0 {
                continue;
            }
            if let Some(place) = self.slots.get_mut(slot as usize) {
                let removed = |held: &mut Held| !self.by_id.contains_key(&held.id);
                if place.take_if(removed).is_some() {
                    self.free.push(slot);
                }
            }
        }
    }

    /// A free position at a place, moving rules apart only when there is none: never at the ends of a chain, and for other
    /// places once in 32 insertions at the same spot.
    fn position(&mut self, place: Place) -> Result<(ChainSlot, Position), EditError> {
        let slot = match place {
            Place::First | Place::Last => MAIN,
            Place::FirstOf(chain) | Place::LastOf(chain) => self.chain_named(chain)?,
            Place::Before(id) | Place::After(id) => {
                self.get(id).ok_or(EditError::NoSuchRule(id))?.chain
            }
        };
        let Some(chain) = self.chain(slot) else {
            return Err(EditError::Full);
        };
        let order = &chain.by_position;
        let found = match place {
            Place::First | Place::FirstOf(_) => {
                let first = order.keys().next();
                first.map_or(Some(0), |p| p.checked_sub(GAP))
            }
            Place::Last | Place::LastOf(_) => {
                let last = order.keys().next_back();
                last.map_or(Some(0), |p| p.checked_add(GAP))
            }
            Place::Before(id) => {
                let at = self.get(id).ok_or(EditError::NoSuchRule(id))?.position;
                match order.range(..at).next_back() {
                    None => at.checked_sub(GAP),
                    Some((before, _)) => between(*before, at),
                }
            }
            Place::After(id) => {
                let at = self.get(id).ok_or(EditError::NoSuchRule(id))?.position;
                match order.range(at + 1..).next() {
                    None => at.checked_add(GAP),
                    Some((behind, _)) => between(at, *behind),
                }
            }
        };
        match found {
            Some(position) => Ok((slot, position)),
            None => {
                self.spread(slot);
                self.position(place)
            }
        }
    }

    /// Spaces the rules of a chain out afresh. Cost: O(n) index edits.
    fn spread(&mut self, chain: ChainSlot) {
        let Some(Some(chain)) = self.chains.get_mut(chain as usize) else {
            return;
        };
        let order: Vec<RuleSlot> = chain.by_position.values().copied().collect();
        chain.by_position.clear();
        for (number, slot) in order.into_iter().enumerate() {
            let position = number as Position * GAP;
            if let Some(Some(held)) = self.slots.get_mut(slot as usize) {
                chain.index.remove(held.interest);
                let pattern = held.rule.pattern;
                if let Ok(interest) = chain.index.insert(pattern, priority(position), slot) {
                    held.interest = interest;
                }
                held.position = position;
            }
            chain.by_position.insert(position, slot);
        }
    }
}

/// Chains.
impl Ruleset {
    pub(super) fn chain(&self, slot: ChainSlot) -> Option<&Chain> {
        self.chains.get(slot as usize)?.as_ref()
    }

    fn chain_mut(&mut self, slot: ChainSlot) -> Option<&mut Chain> {
        self.chains.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn chain_named(&self, name: Name) -> Result<ChainSlot, EditError> {
        let slot = self.chain_names.get(&name).copied();
        slot.ok_or(EditError::NoSuchChain(name))
    }

    /// Names and slots, by name.
    pub(super) fn chains(&self) -> impl Iterator<Item = (Name, ChainSlot)> {
        self.chain_names.iter().map(|(name, slot)| (*name, *slot))
    }

    fn new_chain(&self, name: Name) -> Chain {
        Chain {
            name,
            index: InterestIndex::new(self.limits.rules, self.seed),
            by_position: BTreeMap::new(),
            callers: 0,
            targets: BTreeMap::new(),
        }
    }

    pub(super) fn create_chain(&mut self, name: Name) -> Result<(), EditError> {
        if self.chain_names.contains_key(&name) {
            return Err(EditError::ChainExists(name));
        }
        if self.chain_names.len() > self.limits.chains {
            return Err(EditError::Full);
        }
        self.put_chain(self.new_chain(name));
        Ok(())
    }

    pub(super) fn put_chain(&mut self, chain: Chain) {
        let name = chain.name;
        let slot = place_in(&mut self.chains, chain);
        self.chain_names.insert(name, slot);
    }

    pub(super) fn delete_chain(&mut self, name: Name) -> Result<Chain, EditError> {
        let slot = self.chain_named(name)?;
        let Some(chain) = self.chain(slot) else {
            return Err(EditError::NoSuchChain(name));
        };
        if slot == MAIN || chain.callers > 0 || !chain.by_position.is_empty() {
            return Err(EditError::ChainInUse(name));
        }
        self.chain_names.remove(&name);
        let chain = self.chains.get_mut(slot as usize).and_then(Option::take);
        chain.ok_or(EditError::NoSuchChain(name))
    }
}

/// Sets.
impl Ruleset {
    pub(super) fn set_at(&self, slot: SetSlot) -> Option<&Set> {
        self.sets.get(slot as usize)?.as_ref()
    }

    pub(super) fn set_mut(&mut self, slot: SetSlot) -> Option<&mut Set> {
        self.sets.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn set_named(&self, name: Name) -> Result<SetSlot, EditError> {
        let slot = self.set_names.get(&name).copied();
        slot.ok_or(EditError::NoSuchSet(name))
    }

    /// By name.
    pub(super) fn sets(&self) -> impl Iterator<Item = &Set> {
        self.set_names
            .values()
            .filter_map(|slot| self.set_at(*slot))
    }

    pub(super) fn create_set(
        &mut self,
        name: Name,
        kind: SetKind,
        capacity: usize,
    ) -> Result<(), EditError> {
        if self.set_names.contains_key(&name) {
            return Err(EditError::SetExists(name));
        }
        self.reserve_elements(0, capacity)?;
        if self.set_names.len() >= self.limits.sets {
            return Err(EditError::Full);
        }
        let set = Set::new(name, kind, capacity)?;
        self.put_set(set);
        Ok(())
    }

    /// Whether sets may hold `more` elements in the place of `less`.
    pub(super) fn reserve_elements(&self, less: usize, more: usize) -> Result<(), EditError> {
        let sum = (self.elements_reserved - less.min(self.elements_reserved)).checked_add(more);
        match sum {
            Some(sum) if sum <= self.limits.elements => Ok(()),
            _ => Err(EditError::Full),
        }
    }

    /// Gives a set another capacity; gives the one that it had.
    pub(super) fn resize_set(&mut self, name: Name, capacity: usize) -> Result<usize, EditError> {
        let slot = self.set_named(name)?;
        let old = self.set_at(slot).map_or(0, |set| set.capacity);
        self.reserve_elements(old, capacity)?;
        if let Some(set) = self.set_mut(slot) {
            set.resize(capacity)?;
        }
        self.elements_reserved = self.elements_reserved - old + capacity;
        Ok(old)
    }

    pub(super) fn put_set(&mut self, set: Set) {
        let name = set.name;
        self.elements_reserved += set.capacity;
        let slot = place_in(&mut self.sets, set);
        self.set_names.insert(name, slot);
    }

    pub(super) fn delete_set(&mut self, name: Name) -> Result<Set, EditError> {
        let slot = self.set_named(name)?;
        if self.set_at(slot).is_some_and(|set| !set.readers.is_empty()) {
            return Err(EditError::SetInUse(name));
        }
        let set = self.sets.get_mut(slot as usize).and_then(Option::take);
        let set = set.ok_or(EditError::NoSuchSet(name))?;
        self.set_names.remove(&name);
        self.elements_reserved -= set.capacity;
        Ok(set)
    }
}

/// The first free place, or a new one. Chains and sets come and go rarely: a search is good enough.
fn place_in<T>(places: &mut Vec<Option<T>>, value: T) -> u32 {
    match places.iter().position(Option::is_none) {
        Some(free) => {
            places[free] = Some(value);
            free as u32
        }
        None => {
            places.push(Some(value));
            (places.len() - 1) as u32
        }
    }
}

fn decrement<K: Ord + Copy>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// The middle of two positions, if there is room.
const fn between(low: Position, high: Position) -> Option<Position> {
    let middle = low + (high - low) / 2;
    if middle > low { Some(middle) } else { None }
}
