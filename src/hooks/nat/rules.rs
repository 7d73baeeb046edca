//! Translation rules in their order: two lists, one for each end, each asked for the first packet of a connection only.
//!
//! Apart because the packets of a connection that is decided on never come here: cost matters, but per connection.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::action::{Action, End};
use crate::hook::Context;
use crate::hooks::filter;
use crate::interest::{InterestId, InterestIndex, Scratch};
use crate::key::{Family, FlowKey};
use crate::packet::{Fragment, Packet};

/// A translation rule: the packets that it is for, and what it does with their connections.
///
/// Its text form is described [there](super#the-text-form).
///
/// ```
/// use gufc::hooks::nat::{End, Rule};
///
/// let rule: Rule = "ip saddr 10.0.0.0/8 oif 2 masquerade".parse()?;
/// assert_eq!(rule.action.end(), End::Source);
/// assert_eq!(rule.to_string(), "ip saddr 10.0.0.0/8 oif 2 masquerade");
/// # Ok::<(), gufc::hooks::filter::ParseRuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which packets it is for: a filter's rule, of which the matches count and the statements do not.
    pub matches: filter::Rule,
    /// What it does.
    pub action: Action,
}

/// A rule's name for as long as it lives; never given to another rule of the same translator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a new rule goes among the rules for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all of them.
    First,
    /// Behind all of them.
    Last,
    /// Right before this one.
    Before(RuleId),
}

/// Why an edit was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// There is no such rule, or none for the same end.
    NoSuchRule(RuleId),
    /// There are as many rules as the owner allowed.
    Full,
    /// The addresses of the action are of two families, or in no order, or of another family than the rule's.
    Action,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchRule(id) => write!(f, "there is no rule {id}"),
            Self::Full => f.write_str("no place for another rule"),
            Self::Action => f.write_str("the addresses of the action make no range"),
        }
    }
}

impl core::error::Error for EditError {}

#[derive(Clone, Debug)]
struct Held {
    id: RuleId,
    rule: Rule,
    interest: InterestId,
    /// Of the addresses that it changes ends to; `None` where both will do.
    family: Option<Family>,
    /// Connections that it decided.
    connections: u64,
}

/// The rules for one end.
#[derive(Debug)]
struct Chain {
    index: InterestIndex<RuleId>,
    /// In order.
    order: Vec<RuleId>,
    /// Behind the priorities of all of them.
    next: u64,
}

/// All rules.
#[derive(Debug)]
pub(super) struct Rules {
    chains: [Chain; 2],
    held: BTreeMap<RuleId, Held>,
    next_id: u32,
    capacity: usize,
}

impl Rules {
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        let chain = || Chain {
            index: InterestIndex::new(capacity, seed),
            order: Vec::new(),
            next: 0,
        };
        Self {
            chains: [chain(), chain()],
            held: BTreeMap::new(),
            next_id: 0,
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn get(&self, id: RuleId) -> Option<(&Rule, u64)> {
        self.held
            .get(&id)
            .map(|held| (&held.rule, held.connections))
    }

    /// The rules for an end, in order.
    pub(super) fn iter(&self, end: End) -> impl Iterator<Item = (RuleId, &Rule, u64)> {
        let chain = self.chains.get(end as usize);
        chain
            .into_iter()
            .flat_map(|chain| &chain.order)
            .filter_map(|id| {
                let held = self.held.get(id)?;
                Some((held.id, &held.rule, held.connections))
            })
    }

    /// `pool` is the family of the pool's addresses, where the action names one. Cost: O(n) for n rules where it does not go
    /// last; else an insertion into the index.
    pub(super) fn insert(
        &mut self,
        place: Place,
        rule: Rule,
        pool: Option<Family>,
    ) -> Result<RuleId, EditError> {
        if self.held.len() >= self.capacity || self.next_id == u32::MAX {
            return Err(EditError::Full);
        }
        let family = family_of(&rule.action).or(pool);
        if !is_sound(&rule, family) {
            return Err(EditError::Action);
        }
        let chain = &mut self.chains[rule.action.end() as usize];
        let at = match place {
            Place::First => 0,
            Place::Last => chain.order.len(),
            Place::Before(id) => chain
                .order
                .iter()
                .position(|other| *other == id)
                .ok_or(EditError::NoSuchRule(id))?,
        };
        let id = RuleId(self.next_id);
        let interest = chain
            .index
            .insert(rule.matches.pattern, chain.next, id)
            .map_err(|_| EditError::Full)?;
        self.next_id += 1;
        chain.next += 1;
        let last = at == chain.order.len();
        let end = rule.action.end();
        chain.order.insert(at, id);
        self.held.insert(
            id,
            Held {
                id,
                rule,
                interest,
                family,
                connections: 0,
            },
        );
        if !last {
            self.number(end);
        }
        Ok(id)
    }

    pub(super) fn remove(&mut self, id: RuleId) -> Result<Rule, EditError> {
        let held = self.held.remove(&id).ok_or(EditError::NoSuchRule(id))?;
        let end = held.rule.action.end();
        let chain = &mut self.chains[end as usize];
        chain.index.remove(held.interest);
        if let Some(at) = chain.order.iter().position(|other| *other == id) {
            chain.order.remove(at);
        }
        Ok(held.rule)
    }

    /// Gives the rules of a chain new priorities, in order.
    fn number(&mut self, end: End) {
        let chain = &mut self.chains[end as usize];
        for (at, id) in chain.order.iter().enumerate() {
            if let Some(held) = self.held.get_mut(id) {
                chain.index.remove(held.interest);
                let pattern = held.rule.matches.pattern;
                if let Ok(interest) = chain.index.insert(pattern, at as u64, *id) {
                    held.interest = interest;
                }
            }
        }
        chain.next = chain.order.len() as u64;
    }

    /// The first rule for an end that a packet matches; it is counted.
    pub(super) fn decide<P: Packet>(
        &mut self,
        end: End,
        packet: &P,
        context: &Context,
        scratch: &mut Scratch,
    ) -> Option<(RuleId, Action)> {
        let chain = &self.chains[end as usize];
        if chain.order.is_empty() {
            return None;
        }
        let fields = packet.key().fields();
        let transport = packet.fragment() != Fragment::Later && packet.defect().is_none();
        let found = chain
            .index
            .matches(&fields, scratch)
            .iter()
            .find_map(|found| {
                let id = chain.index.get(found.id)?;
                let held = self.held.get(id)?;
                let matches = &held.rule.matches;
                (held.family.is_none_or(|family| family == fields.family)
                    && matches.matches_flow(&fields)
                    && (transport || !matches.reads_transport())
                    && matches.conditions.hold(packet, context))
                .then_some(*id)
            })?;
        let held = self.held.get_mut(&found)?;
        held.connections += 1;
        Some((found, held.rule.action))
    }
}

/// The family of an action's addresses, if it has any.
fn family_of(action: &Action) -> Option<Family> {
    match action {
        Action::Change(_, range) => range.addresses.map(|(first, _)| Family::align(first).0),
        Action::Netmap(_, prefix) => Some(prefix.family()),
        Action::Nat64(_) => Some(Family::V6),
        _ => None,
    }
}

/// Whether the addresses of its action make a range.
fn is_sound(rule: &Rule, family: Option<Family>) -> bool {
    if let Action::Change(_, range) = rule.action {
        if let Some((first, last)) = range.addresses {
            let ((one, low), (other, high)) = (Family::align(first), Family::align(last));
            if one != other || low > high {
                return false;
            }
        }
    }
    let wanted = rule.matches.pattern.implied_family();
    family.is_none() || wanted.is_none() || wanted == family
}
