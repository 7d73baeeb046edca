//! Edits, one at a time or many as one: all or nothing, at a cost of the edits and not of the rules.
//!
//! A transaction is a list of edits and the version of the rule set that it was thought out for. A commit applies them in
//! order and keeps, for each, what takes it back; where one fails, the others are taken back in reverse. Nothing is copied
//! but what the edits name.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::name::Name;
use super::rule::Rule;
use super::ruleset::{Chain, ChainSlot, MAIN, Place, Removed, RuleId, Ruleset};
use super::set::{Element, Set, SetField, SetKind, meet};
use super::{Filter, Policy};
use crate::epoch::{Change, View};
use crate::key::Pattern;

/// The most rules that go to another chain on any way through the chains, as in Linux.
pub const DEPTH_MAX: u32 = 16;

/// The most chains that one packet may be walked through, the same one counted each time.
///
/// Without it, sixteen chains that jump to the next one a hundred times each would keep a packet busy for years.
pub const VISITS_MAX: u32 = 4096;

/// Readers of a set beyond which an edit of an element no longer names the box of each.
const READERS_NAMED: usize = 8;

/// One change of a rule set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// A new set for at most `capacity` elements.
    CreateSet {
        /// Its name.
        name: Name,
        /// What it holds.
        kind: SetKind,
        /// The most elements.
        capacity: usize,
    },
    /// Another capacity for a set, not below what it holds.
    ResizeSet {
        /// The set.
        name: Name,
        /// The most elements.
        capacity: usize,
    },
    /// A set that no rule reads goes, with its elements.
    DeleteSet(Name),
    /// A new element of a set.
    AddElement(Name, Element),
    /// An element of a set goes.
    DeleteElement(Name, Element),
    /// A new, empty chain.
    CreateChain(Name),
    /// An empty chain that no rule goes to goes.
    DeleteChain(Name),
    /// A new rule.
    Insert(Place, Box<Rule>),
    /// A rule goes.
    Remove(RuleId),
    /// Another policy.
    SetPolicy(Policy),
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateSet {
                name,
                kind,
                capacity,
            } => write!(f, "create set {name} {{ type {kind} size {capacity} }}"),
            Self::ResizeSet { name, capacity } => write!(f, "resize set {name} {capacity}"),
            Self::DeleteSet(name) => write!(f, "delete set {name}"),
            Self::AddElement(name, element) => write!(f, "add element {name} {{ {element} }}"),
            Self::DeleteElement(name, element) => {
                write!(f, "delete element {name} {{ {element} }}")
            }
            Self::CreateChain(name) => write!(f, "create chain {name}"),
            Self::DeleteChain(name) => write!(f, "delete chain {name}"),
            Self::Insert(place, rule) => match place {
                Place::First => write!(f, "insert rule {} {rule}", Name::MAIN),
                Place::FirstOf(chain) => write!(f, "insert rule {chain} {rule}"),
                Place::Last => write!(f, "add rule {} {rule}", Name::MAIN),
                Place::LastOf(chain) => write!(f, "add rule {chain} {rule}"),
                Place::Before(id) => write!(f, "insert rule handle {id} {rule}"),
                Place::After(id) => write!(f, "add rule handle {id} {rule}"),
            },
            Self::Remove(id) => write!(f, "delete rule handle {id}"),
            Self::SetPolicy(policy) => write!(f, "policy {policy}"),
        }
    }
}

/// Why an edit was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// There is no such rule.
    NoSuchRule(RuleId),
    /// The filter holds as many rules, chains, sets or elements as its owner allowed.
    Full,
    /// There is no such chain.
    NoSuchChain(Name),
    /// There is such a chain already.
    ChainExists(Name),
    /// The chain has rules, or rules go to it, or it is the main chain.
    ChainInUse(Name),
    /// A rule may not go to the main chain.
    JumpToMain,
    /// Chains go to one another in a circle, on which this one lies.
    Loop(Name),
    /// Chains nest deeper than [`DEPTH_MAX`] below this one.
    TooDeep(Name),
    /// A packet might be walked through more than [`VISITS_MAX`] chains.
    TooManyVisits,
    /// There is no such set.
    NoSuchSet(Name),
    /// There is such a set already.
    SetExists(Name),
    /// Rules read the set.
    SetInUse(Name),
    /// The set holds as many elements as it may.
    SetFull(Name),
    /// The set holds things of another kind.
    WrongKind(Name),
    /// The set does not have this element.
    NoSuchElement(Name, Element),
    /// The set has this element already.
    ElementExists(Name, Element),
    /// The set has an element with some of these ports.
    Overlaps(Name, Element),
    /// There is no memory for the set.
    Memory,
    /// The rule set has changed since the transaction began.
    Outdated {
        /// The version that it began with.
        began: u64,
        /// The version now.
        now: u64,
    },
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchRule(id) => write!(f, "there is no rule {id}"),
            Self::Full => f.write_str("the filter is full"),
            Self::NoSuchChain(name) => write!(f, "there is no chain {name}"),
            Self::ChainExists(name) => write!(f, "there is a chain {name} already"),
            Self::ChainInUse(name) => write!(f, "chain {name} is in use"),
            Self::JumpToMain => f.write_str("a rule may not go to the main chain"),
            Self::Loop(name) => write!(f, "chain {name} comes back to itself"),
            Self::TooDeep(name) => {
                write!(f, "chains nest deeper than {DEPTH_MAX} below {name}")
            }
            Self::TooManyVisits => {
                write!(f, "a packet might pass more than {VISITS_MAX} chains")
            }
            Self::NoSuchSet(name) => write!(f, "there is no set {name}"),
            Self::SetExists(name) => write!(f, "there is a set {name} already"),
            Self::SetInUse(name) => write!(f, "rules read set {name}"),
            Self::SetFull(name) => write!(f, "set {name} is full"),
            Self::WrongKind(name) => write!(f, "set {name} holds things of another kind"),
            Self::NoSuchElement(name, element) => write!(f, "set {name} has no {element}"),
            Self::ElementExists(name, element) => write!(f, "set {name} has {element} already"),
            Self::Overlaps(name, element) => {
                write!(f, "set {name} has some of {element} already")
            }
            Self::Memory => f.write_str("there is no memory for the set"),
            Self::Outdated { began, now } => write!(
                f,
                "the rule set has changed since: the transaction began at version {began}, this is version {now}"
            ),
        }
    }
}

impl core::error::Error for EditError {}

/// Why a transaction was refused as a whole. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitError {
    /// The edit that failed, from 0; `None` where each would do, but not all together.
    pub edit: Option<usize>,
    /// Why.
    pub why: EditError,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.edit {
            Some(number) => write!(f, "edit {number}: {}", self.why),
            None => self.why.fmt(f),
        }
    }
}

impl core::error::Error for CommitError {}

/// Many edits that take effect together or not at all.
///
/// It knows the version of the rule set that it began with, borrows nothing, and is refused when anything has been committed
/// since. Handed to [`Filter::commit`].
///
/// ```
/// use gufc::hooks::filter::{Filter, Place, Policy, SetKind};
///
/// let mut filter = Filter::new("filter", 100, 1, Policy::Accept);
/// let mut edits = filter.begin();
/// edits.create_set("blocked".parse()?, SetKind::V4, 1_000);
/// edits.add_element("blocked".parse()?, "198.51.100.0/24".parse::<gufc::key::Cidr>()?);
/// let rule = edits.insert(Place::Last, "ip saddr @blocked drop".parse()?);
/// edits.insert(Place::Before(rule), "ct state established accept".parse()?);
/// let late = filter.begin();
/// let (_, change) = filter.commit(edits)?;
/// assert_eq!(change.regions().len(), 2, "one box for each rule: nobody read the set before");
///
/// let refused = filter.commit(late).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "the rule set has changed since: the transaction began at version 0, this is version 1"
/// );
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing happens until it is committed"]
pub struct Transaction {
    version: u64,
    next_id: u32,
    edits: Vec<Edit>,
}

impl Transaction {
    pub(super) const fn new(version: u64, next_id: u32) -> Self {
        Self {
            version,
            next_id,
            edits: Vec::new(),
        }
    }

    /// Adds any edit.
    pub fn push(&mut self, edit: Edit) {
        if matches!(edit, Edit::Insert(..)) {
            self.next_id = self.next_id.saturating_add(1);
        }
        self.edits.push(edit);
    }

    /// A new rule; the id that it is going to have, by which later edits of the transaction may name it.
    pub fn insert(&mut self, place: Place, rule: Rule) -> RuleId {
        let id = RuleId(self.next_id);
        self.push(Edit::Insert(place, Box::new(rule)));
        id
    }

    /// A rule goes.
    pub fn remove(&mut self, id: RuleId) {
        self.push(Edit::Remove(id));
    }

    /// Another rule in the place of one; it has an id and a counter of its own.
    pub fn replace(&mut self, id: RuleId, rule: Rule) -> RuleId {
        let new = self.insert(Place::Before(id), rule);
        self.remove(id);
        new
    }

    /// A new chain.
    pub fn create_chain(&mut self, name: Name) {
        self.push(Edit::CreateChain(name));
    }

    /// A chain goes.
    pub fn delete_chain(&mut self, name: Name) {
        self.push(Edit::DeleteChain(name));
    }

    /// A new set.
    pub fn create_set(&mut self, name: Name, kind: SetKind, capacity: usize) {
        self.push(Edit::CreateSet {
            name,
            kind,
            capacity,
        });
    }

    /// A set goes.
    pub fn delete_set(&mut self, name: Name) {
        self.push(Edit::DeleteSet(name));
    }

    /// A new element of a set.
    pub fn add_element(&mut self, set: Name, element: impl Into<Element>) {
        self.push(Edit::AddElement(set, element.into()));
    }

    /// An element of a set goes.
    pub fn delete_element(&mut self, set: Name, element: impl Into<Element>) {
        self.push(Edit::DeleteElement(set, element.into()));
    }

    /// Another policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.push(Edit::SetPolicy(policy));
    }

    /// The edits in order.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The version of the rule set that it began with.
    pub const fn version(&self) -> u64 {
        self.version
    }
}

/// Writes one edit a line.
impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for edit in &self.edits {
            writeln!(f, "{edit}")?;
        }
        Ok(())
    }
}

/// What takes an edit back.
enum Undo {
    DeleteSet(Name),
    PutSet(Box<Set>),
    ResizeSet(Name, usize),
    AddElement(Name, Element),
    DeleteElement(Name, Element),
    DeleteChain(Name),
    PutChain(Box<Chain>),
    Remove(RuleId),
    PutRule(Box<(Place, Rule, Removed)>),
    SetPolicy(Policy),
}

impl Filter {
    /// Begins a transaction: many edits, one generation, visible at once. Cost: O(1).
    pub fn begin(&self) -> Transaction {
        Transaction::new(self.version, self.rules.next_id())
    }

    /// How many commits the rule set has seen.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Applies a transaction: all of it or nothing. The change names the boxes of the rules that came and went, and for each
    /// set element that did, its part of the boxes of the rules that read the set.
    ///
    /// # Errors
    ///
    /// [`EditError::Outdated`] when anything has been committed since it began; else the first edit that failed, and why.
    /// Rules, ids, counters, sets and judgement are as before.
    ///
    /// Cost: that of the edits one by one, and where a rule with a jump came, O(chains + jumps).
    pub fn commit(&mut self, edits: Transaction) -> Result<((), Change), CommitError> {
        if edits.version != self.version {
            return Err(CommitError {
                edit: None,
                why: EditError::Outdated {
                    began: edits.version,
                    now: self.version,
                },
            });
        }
        Ok(((), self.apply(edits.edits)?))
    }

    /// One edit.
    pub(super) fn apply_one(&mut self, edit: Edit) -> Result<Change, EditError> {
        self.apply([edit]).map_err(|error| error.why)
    }

    pub(super) fn apply(
        &mut self,
        edits: impl IntoIterator<Item = Edit>,
    ) -> Result<Change, CommitError> {
        let mut undo = Vec::new();
        let mut boxes = Vec::new();
        let next_id = self.rules.next_id();
        let (policy, mut jumps) = (self.policy, false);
        let mut failed = None;
        for (number, edit) in edits.into_iter().enumerate() {
            jumps |= matches!(&edit, Edit::Insert(_, rule) if rule.action.target().is_some());
            match self.step(edit, &mut boxes) {
                Ok(back) => undo.push(back),
                Err(why) => {
                    failed = Some(CommitError {
                        edit: Some(number),
                        why,
                    });
                    break;
                }
            }
        }
        if failed.is_none() && jumps {
            failed = check_graph(&self.rules)
                .err()
                .map(|why| CommitError { edit: None, why });
        }
        if let Some(error) = failed {
            for back in undo.into_iter().rev() {
                self.take_back(back);
            }
            self.rules.rewind_ids(next_id);
            return Err(error);
        }
        if undo.is_empty() {
            return Ok(Change::nothing());
        }
        self.version += 1;
        if policy != self.policy {
            return Ok(Change::everything(self.name));
        }
        let mut change = Change::nothing();
        let mut last = None;
        for touched in boxes {
            // A rule that is replaced by one of the same box is one region.
            if last.replace(touched) != Some(touched) {
                change = change.touches(self.name, View::Routed, touched);
            }
        }
        Ok(change)
    }

    /// Does one edit and adds what it touches to `boxes`; gives what takes it back.
    fn step(&mut self, edit: Edit, boxes: &mut Vec<Pattern>) -> Result<Undo, EditError> {
        let rules = &mut self.rules;
        Ok(match edit {
            Edit::CreateSet {
                name,
                kind,
                capacity,
            } => {
                rules.create_set(name, kind, capacity)?;
                Undo::DeleteSet(name)
            }
            Edit::ResizeSet { name, capacity } => {
                Undo::ResizeSet(name, rules.resize_set(name, capacity)?)
            }
            Edit::DeleteSet(name) => Undo::PutSet(Box::new(rules.delete_set(name)?)),
            Edit::AddElement(name, element) => {
                let slot = rules.set_named(name)?;
                let set = rules.set_mut(slot).ok_or(EditError::NoSuchSet(name))?;
                if set.add(&element)? {
                    touch_readers(rules, slot, &element, boxes);
                }
                Undo::DeleteElement(name, element)
            }
            Edit::DeleteElement(name, element) => {
                let slot = rules.set_named(name)?;
                let set = rules.set_mut(slot).ok_or(EditError::NoSuchSet(name))?;
                if set.remove(&element)? {
                    touch_readers(rules, slot, &element, boxes);
                }
                Undo::AddElement(name, element)
            }
            Edit::CreateChain(name) => {
                rules.create_chain(name)?;
                Undo::DeleteChain(name)
            }
            Edit::DeleteChain(name) => Undo::PutChain(Box::new(rules.delete_chain(name)?)),
            Edit::Insert(place, rule) => {
                let pattern = rule.pattern;
                let id = rules.insert(place, *rule, None)?;
                if rules
                    .get(id)
                    .is_some_and(|held| is_walked(rules, held.chain))
                {
                    boxes.push(pattern);
                }
                Undo::Remove(id)
            }
            Edit::Remove(id) => {
                let (held, place, removed) = rules.remove(id)?;
                if is_walked(rules, held.chain) {
                    boxes.push(held.rule.pattern);
                }
                Undo::PutRule(Box::new((place, held.rule, removed)))
            }
            Edit::SetPolicy(policy) => {
                Undo::SetPolicy(core::mem::replace(&mut self.policy, policy))
            }
        })
    }

    /// Takes an edit back. Edits are taken back in reverse, so what each needs is as it was: none of this can fail.
    fn take_back(&mut self, back: Undo) {
        let rules = &mut self.rules;
        let done = match back {
            Undo::DeleteSet(name) => rules.delete_set(name).map(drop),
            Undo::PutSet(set) => {
                rules.put_set(*set);
                Ok(())
            }
            Undo::ResizeSet(name, capacity) => rules.resize_set(name, capacity).map(drop),
            Undo::AddElement(name, element) => rules.set_named(name).and_then(|slot| {
                let set = rules.set_mut(slot);
                set.map_or(Ok(()), |set| set.add(&element).map(drop))
            }),
            Undo::DeleteElement(name, element) => rules.set_named(name).and_then(|slot| {
                let set = rules.set_mut(slot);
                set.map_or(Ok(()), |set| set.remove(&element).map(drop))
            }),
            Undo::DeleteChain(name) => rules.delete_chain(name).map(drop),
            Undo::PutChain(chain) => {
                rules.put_chain(*chain);
                Ok(())
            }
            Undo::Remove(id) => rules.remove(id).map(drop),
            Undo::PutRule(rule) => {
                let (place, rule, removed) = *rule;
                rules.insert(place, rule, Some(removed)).map(drop)
            }
            Undo::SetPolicy(policy) => {
                self.policy = policy;
                Ok(())
            }
        };
        debug_assert_eq!(done, Ok(()), "taking back an edit");
    }
}

/// Whether packets can be in a chain. A chain that no rule goes to is walked by none; when one comes to go there, that rule's
/// own box holds all flows that are concerned.
fn is_walked(rules: &Ruleset, chain: ChainSlot) -> bool {
    chain == MAIN || rules.chain(chain).is_some_and(|chain| chain.callers > 0)
}

/// The flows for which an element in a set makes a difference: for each rule that reads it, the rule's box with the element
/// in that place; for a set with many readers, the box of the element alone.
fn touch_readers(rules: &Ruleset, set: u32, element: &Element, boxes: &mut Vec<Pattern>) {
    let Some(state) = rules.set_at(set) else {
        return;
    };
    let few = state.readers.len() <= READERS_NAMED;
    let mut whole: [Option<SetField>; 4] = [None; 4];
    for slot in state.readers.keys() {
        let Some(held) = rules.at(*slot) else {
            continue;
        };
        if !is_walked(rules, held.chain) {
            continue;
        }
        for (test, _) in held
            .rule
            .sets
            .iter()
            .zip(&held.sets)
            .filter(|(_, slot)| **slot == set)
        {
            if few {
                boxes.extend(meet(&held.rule.pattern, test.field, element));
            } else {
                whole[test.field as usize] = Some(test.field);
            }
        }
    }
    for field in whole.into_iter().flatten() {
        boxes.extend(meet(&Pattern::ANY, field, element));
    }
}

/// Whether chains nest as they may: without a circle, not too deep, not too often.
///
/// Cost: O(chains + jumps), nesting at most as deep as chains may.
fn check_graph(rules: &Ruleset) -> Result<(), EditError> {
    let slots = rules.chains().map(|(_, slot)| slot as usize + 1).max();
    let mut state = alloc::vec![Walk::New; slots.unwrap_or(0)];
    for (_, slot) in rules.chains() {
        visit(rules, slot, 0, &mut state)?;
    }
    match state.get(MAIN as usize) {
        Some(Walk::Done { visits, .. }) if *visits > VISITS_MAX => Err(EditError::TooManyVisits),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Walk {
    New,
    OnTheWay,
    Done { depth: u32, visits: u32 },
}

/// How deep chains nest below this one, and how many a packet might be walked through.
fn visit(
    rules: &Ruleset,
    slot: ChainSlot,
    above: u32,
    state: &mut [Walk],
) -> Result<(u32, u32), EditError> {
    let Some(chain) = rules.chain(slot) else {
        return Ok((0, 0));
    };
    match state.get(slot as usize) {
        Some(Walk::OnTheWay) => return Err(EditError::Loop(chain.name)),
        Some(Walk::Done { depth, visits }) => return Ok((*depth, *visits)),
        _ => {}
    }
    let mark = |state: &mut [Walk], walk| {
        if let Some(place) = state.get_mut(slot as usize) {
            *place = walk;
        }
    };
    mark(state, Walk::OnTheWay);
    let (mut depth, mut visits) = (0, 1_u32);
    for (target, rules_there) in &chain.targets {
        // A circle is found before it is deep, unless it is a long one: that is told by its depth.
        if above > DEPTH_MAX {
            return Err(EditError::TooDeep(chain.name));
        }
        let (below, each) = visit(rules, *target, above + 1, state)?;
        depth = depth.max(below + 1);
        visits = visits.saturating_add(each.saturating_mul(*rules_there));
    }
    if depth > DEPTH_MAX {
        return Err(EditError::TooDeep(chain.name));
    }
    mark(state, Walk::Done { depth, visits });
    Ok((depth, visits))
}
