//! The filter's twin: lists of rules walked from the top, sets searched from the front, edits made on a copy of everything.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::toy::{Choices, host};
use crate::hook::Context;
use crate::hooks::filter::{
    Action, DEPTH_MAX, Edit, Element, Filter, Limits, Name, Place, Policy, Rule, RuleId, SetField,
    SetKind, Transaction, VISITS_MAX,
};
use crate::key::{Cidr, Family, Fields, FlowKey, Ports};
use crate::packet::{Fragment, Packet};
use crate::verdict::Verdict;

/// A rule set, obviously.
#[derive(Clone, Debug)]
pub struct LinearFilter {
    /// What happens to packets that no rule decides.
    pub policy: Policy,
    limits: Limits,
    sets: BTreeMap<Name, (SetKind, usize, Vec<Element>)>,
    chains: BTreeMap<Name, Vec<(u32, Rule)>>,
    next: u32,
}

enum Walk {
    Decided(Verdict, u32),
    Through,
}

impl LinearFilter {
    /// An empty rule set.
    pub fn new(limits: Limits, policy: Policy) -> Self {
        Self {
            policy,
            limits,
            sets: BTreeMap::new(),
            chains: BTreeMap::from([(Name::MAIN, Vec::new())]),
            next: 0,
        }
    }

    /// All edits or none; whether they were made.
    pub fn commit(&mut self, edits: &[Edit]) -> bool {
        let mut copy = self.clone();
        let done = edits.iter().all(|edit| copy.step(edit).is_some()) && copy.is_sound();
        if done {
            *self = copy;
        }
        done
    }

    /// The rules of a chain.
    pub fn chain(&self, name: Name) -> &[(u32, Rule)] {
        self.chains.get(&name).map_or(&[], |rules| rules)
    }

    fn every_rule(&self) -> impl Iterator<Item = &Rule> {
        self.chains.values().flatten().map(|(_, rule)| rule)
    }

    fn find(&self, id: RuleId) -> Option<(Name, usize)> {
        self.chains.iter().find_map(|(name, rules)| {
            let at = rules.iter().position(|(other, _)| *other == id.0)?;
            Some((*name, at))
        })
    }

    fn reserved(&self) -> usize {
        self.sets.values().map(|(_, size, _)| size).sum()
    }

    fn step(&mut self, edit: &Edit) -> Option<()> {
        match edit {
            Edit::CreateSet {
                name,
                kind,
                capacity,
            } => {
                let room = self.reserved() + capacity <= self.limits.elements;
                if !room || self.sets.contains_key(name) || self.sets.len() >= self.limits.sets {
                    return None;
                }
                self.sets.insert(*name, (*kind, *capacity, Vec::new()));
            }
            Edit::ResizeSet { name, capacity } => {
                let rest = self.reserved() - self.sets.get(name)?.1;
                let (_, size, elements) = self.sets.get_mut(name)?;
                if *capacity < elements.len() || rest + capacity > self.limits.elements {
                    return None;
                }
                *size = *capacity;
            }
            Edit::DeleteSet(name) => {
                let reads = |rule: &Rule| rule.sets.iter().any(|test| test.set == *name);
                if self.every_rule().any(reads) {
                    return None;
                }
                self.sets.remove(name)?;
            }
            Edit::AddElement(name, element) => {
                let (kind, size, elements) = self.sets.get_mut(name)?;
                let clash = |other: &Element| match (other, element) {
                    (Element::Ports(a), Element::Ports(b)) => a.overlaps(b),
                    _ => other == element,
                };
                if !kind.admits(element) || elements.len() >= *size || elements.iter().any(clash) {
                    return None;
                }
                elements.push(*element);
            }
            Edit::DeleteElement(name, element) => {
                let elements = &mut self.sets.get_mut(name)?.2;
                let at = elements.iter().position(|other| other == element)?;
                elements.remove(at);
            }
            Edit::CreateChain(name) => {
                if self.chains.contains_key(name) || self.chains.len() > self.limits.chains {
                    return None;
                }
                self.chains.insert(*name, Vec::new());
            }
            Edit::DeleteChain(name) => {
                let goes = |rule: &Rule| rule.action.target() == Some(*name);
                let used = *name == Name::MAIN || self.every_rule().any(goes);
                if used || !self.chains.get(name)?.is_empty() {
                    return None;
                }
                self.chains.remove(name);
            }
            Edit::Insert(place, rule) => {
                let (chain, at) = match place {
                    Place::First => (Name::MAIN, 0),
                    Place::Last => (Name::MAIN, self.chain(Name::MAIN).len()),
                    Place::FirstOf(name) => (*name, 0),
                    Place::LastOf(name) => (*name, self.chain(*name).len()),
                    Place::Before(id) => self.find(*id)?,
                    Place::After(id) => self.find(*id).map(|(name, at)| (name, at + 1))?,
                };
                for test in &rule.sets {
                    let ports = self.sets.get(&test.set)?.0 == SetKind::Ports;
                    if ports != test.field.is_port() {
                        return None;
                    }
                }
                if let Some(target) = rule.action.target() {
                    if target == Name::MAIN || !self.chains.contains_key(&target) {
                        return None;
                    }
                }
                if self.every_rule().count() >= self.limits.rules {
                    return None;
                }
                let rules = self.chains.get_mut(&chain)?;
                rules.insert(at, (self.next, Rule::clone(rule)));
                self.next += 1;
            }
            Edit::Remove(id) => {
                let (name, at) = self.find(*id)?;
                self.chains.get_mut(&name)?.remove(at);
            }
            Edit::SetPolicy(policy) => self.policy = *policy,
        }
        Some(())
    }

    /// No circle, not too deep, not too many visits: by walking every way.
    fn is_sound(&self) -> bool {
        let shallow = self
            .chains
            .keys()
            .all(|name| self.is_shallow(*name, DEPTH_MAX));
        shallow && self.visits(Name::MAIN) <= u64::from(VISITS_MAX)
    }

    fn is_shallow(&self, chain: Name, left: u32) -> bool {
        let mut targets = self
            .chain(chain)
            .iter()
            .filter_map(|(_, rule)| rule.action.target());
        targets.all(|target| left > 0 && self.is_shallow(target, left - 1))
    }

    fn visits(&self, chain: Name) -> u64 {
        let targets = self
            .chain(chain)
            .iter()
            .filter_map(|(_, rule)| rule.action.target());
        1 + targets.map(|target| self.visits(target)).sum::<u64>()
    }

    /// Whether a flow passes a rule's tests of sets.
    fn in_sets(&self, rule: &Rule, flow: &Fields) -> bool {
        rule.sets.iter().all(|test| {
            let Some((kind, _, elements)) = self.sets.get(&test.set) else {
                return false;
            };
            let family = match kind {
                SetKind::V4 => Some(Family::V4),
                SetKind::V6 => Some(Family::V6),
                SetKind::Ports => None,
            };
            let holds = |element: &Element| match (element, test.field) {
                (Element::Prefix(p), SetField::Source) => p.holds(flow.family, flow.source),
                (Element::Prefix(p), SetField::Destination) => {
                    p.holds(flow.family, flow.destination)
                }
                (Element::Ports(p), SetField::SourcePort) => p.contains(flow.source_port),
                (Element::Ports(p), SetField::DestinationPort) => p.contains(flow.destination_port),
                _ => false,
            };
            family.is_none_or(|family| family == flow.family)
                && elements.iter().any(holds) != test.negated
        })
    }

    fn walk<P: Packet>(&self, chain: Name, packet: &P, context: &mut Context) -> Walk {
        let flow = packet.key().fields();
        let readable = packet.fragment() != Fragment::Later && packet.defect().is_none();
        for (id, rule) in self.chain(chain) {
            let matches = rule.matches_flow(&flow)
                && self.in_sets(rule, &flow)
                && (readable || !rule.reads_transport())
                && rule.conditions.hold(packet, context);
            if !matches {
                continue;
            }
            context.mark = rule.set_mark.unwrap_or(context.mark);
            context.log |= rule.log;
            match rule.action {
                Action::Continue => {}
                Action::Accept => return Walk::Decided(Verdict::Accept, *id),
                Action::Drop => return Walk::Decided(Verdict::Drop, *id),
                Action::Reject(answer) => return Walk::Decided(Verdict::Reject(answer), *id),
                Action::Return => return Walk::Through,
                Action::Jump(target) => match self.walk(target, packet, context) {
                    Walk::Through => {}
                    decided => return decided,
                },
                Action::Goto(target) => return self.walk(target, packet, context),
            }
        }
        Walk::Through
    }

    /// The verdict on a packet and the rule that gave it.
    pub fn judge<P: Packet>(&self, packet: &P, context: &mut Context) -> (Verdict, Option<u32>) {
        match self.walk(Name::MAIN, packet, context) {
            Walk::Decided(verdict, id) => (verdict, Some(id)),
            Walk::Through if self.policy == Policy::Accept => (Verdict::Accept, None),
            Walk::Through => (Verdict::Drop, None),
        }
    }

    /// Whether a filter holds the same.
    pub fn agrees(&self, filter: &Filter) -> bool {
        let table = filter.table();
        let sets = self.sets.iter().map(|(name, (kind, size, elements))| {
            (*name, *kind, *size, elements.iter().copied().collect())
        });
        let theirs = table.sets.iter();
        let theirs =
            theirs.map(|(name, set)| (*name, set.kind, set.capacity, set.elements.clone()));
        let rules = |name: Name| {
            let rules = filter.chain(name).map(|(id, rule, _)| (id.0, rule.clone()));
            rules.collect::<Vec<_>>()
        };
        table.policy == self.policy
            && sets.eq(theirs)
            && filter.chains().eq(self.chains.keys().copied())
            && self
                .chains
                .keys()
                .all(|name| rules(*name) == self.chain(*name))
    }
}

/// Rules with chains and sets, for the toy network.
pub const CHAIN_RULES: &[&str] = &[
    "jump a",
    "jump b",
    "goto a",
    "goto b",
    "return",
    "tcp dport 0-1 jump a",
    "ip saddr 10.0.0.0/31 jump b",
    "ct state new jump a",
    "ct state established goto b",
    "meta length 40 goto a",
    "tcp flags syn jump c",
    "tcp flags ack goto c",
    "meta length 100-1500 return",
    "udp dport 1 return",
    "ip saddr @hosts drop",
    "ip saddr != @hosts tcp dport @ports accept",
    "ip daddr @hosts jump c",
    "ip daddr != @hosts meta length 40 drop",
    "ip6 saddr @nets drop",
    "ip6 daddr != @nets accept",
    "tcp dport @ports drop",
    "udp sport != @ports reject",
    "ip saddr @hosts ip daddr @hosts ct state new return",
    "ct status seen-reply accept",
    "ct status none / seen-reply drop",
    "ct zone 1 drop",
    "ct direction reply meta mark set 0x3 continue",
];

/// The names of chains and sets that stories use.
pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn element(choices: &mut Choices<'_>, set: Name) -> Element {
    let kind = choices.byte();
    match set.as_str() {
        "ports" => {
            let first = choices.below(3);
            let last = (first + choices.below(2)).min(2);
            Element::Ports(Ports { first, last })
        }
        _ => {
            let family = if (set.as_str() == "hosts") != (kind % 16 == 0) {
                Family::V4
            } else {
                Family::V6
            };
            let len = family.bits() - [0, 0, 0, 1, 2][usize::from(choices.below(5))];
            let bits = Family::align(host(family, choices.below(4) as u8)).1;
            Element::Prefix(Cidr::from_bits(family, bits, len))
        }
    }
}

/// A transaction of up to `most` edits of a filter, most of which make sense.
pub fn transaction(choices: &mut Choices<'_>, filter: &Filter, most: u16) -> Transaction {
    let mut edits = filter.begin();
    let mut ids: Vec<RuleId> = filter.rules().map(|(id, ..)| id).collect();
    let chains = ["a", "b", "c", "main"].map(name);
    let sets = ["hosts", "nets", "ports"].map(name);
    for _ in 0..=choices.below(most) {
        let chain = choices.one(&chains);
        let set = choices.one(&sets);
        match choices.below(16) {
            0 => edits.create_chain(chain),
            1 => edits.delete_chain(chain),
            2 => {
                let kind = match (set.as_str(), choices.below(8)) {
                    (_, 7) => SetKind::V6,
                    ("hosts", _) => SetKind::V4,
                    ("nets", _) => SetKind::V6,
                    _ => SetKind::Ports,
                };
                edits.create_set(set, kind, usize::from(choices.below(4)));
            }
            3 => edits.delete_set(set),
            4..=6 => edits.add_element(set, element(choices, set)),
            7 => edits.delete_element(set, element(choices, set)),
            8 => edits.push(Edit::ResizeSet {
                name: set,
                capacity: usize::from(choices.below(5)),
            }),
            9 => edits.set_policy(choices.one(&[Policy::Accept, Policy::Drop])),
            10 | 11 if !ids.is_empty() => edits.remove(choices.one(&ids)),
            _ => {
                let plain = super::script::RULES;
                let text = if choices.below(3) == 0 {
                    choices.one(plain)
                } else {
                    choices.one(CHAIN_RULES)
                };
                let some = ids.get(usize::from(choices.byte()) % ids.len().max(1));
                let place = match (choices.below(5), some) {
                    (0, Some(id)) => Place::Before(*id),
                    (1, Some(id)) => Place::After(*id),
                    (2, _) => Place::FirstOf(chain),
                    _ => Place::LastOf(chain),
                };
                ids.push(edits.insert(place, text.parse().expect("a rule")));
            }
        }
    }
    edits
}

/// Chains and sets for the rules above to go to and to read.
pub fn beginnings(filter: &Filter) -> Transaction {
    let mut edits = filter.begin();
    for chain in ["a", "b", "c"] {
        edits.create_chain(name(chain));
    }
    for (set, kind) in [
        ("hosts", SetKind::V4),
        ("nets", SetKind::V6),
        ("ports", SetKind::Ports),
    ] {
        edits.create_set(name(set), kind, 3);
    }
    edits
}
