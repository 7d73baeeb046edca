//! Named sets of addresses, prefixes and ports, which rules refer to and which change without any rule changing.
//!
//! A set is read when a flow is judged for the first time, never on a hit: whether its key is in a set is as settled as
//! whether it is under a prefix. An edit of an element touches, for each rule that reads the set, the flows of the rule's box
//! that have the element in that place, and no others.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;

use super::edit::EditError;
use super::name::Name;
use super::reach::{of_ports, of_prefix};
use super::ruleset::RuleSlot;
use crate::key::{Cidr, Family, Fields, Pattern, Ports};
use crate::trie::prefix::PrefixMap;

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// IPv4 addresses and prefixes; they may nest.
    V4,
    /// IPv6 addresses and prefixes; they may nest.
    V6,
    /// Ports and ranges of ports, apart from one another.
    Ports,
}

impl SetKind {
    /// Every kind with its name in texts.
    pub const NAMES: [(Self, &'static str); 3] = [
        (Self::V4, "ipv4_addr"),
        (Self::V6, "ipv6_addr"),
        (Self::Ports, "inet_service"),
    ];

    /// Whether sets of this kind can hold the element.
    pub const fn admits(self, element: &Element) -> bool {
        match (self, element) {
            (Self::V4, Element::Prefix(prefix)) => matches!(prefix.family(), Family::V4),
            (Self::V6, Element::Prefix(prefix)) => matches!(prefix.family(), Family::V6),
            (Self::Ports, Element::Ports(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(kind, _)| kind == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// One element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// An address or a prefix.
    Prefix(Cidr),
    /// A port or a range of ports.
    Ports(Ports),
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Ports(ports) => ports.fmt(f),
        }
    }
}

impl From<Cidr> for Element {
    fn from(prefix: Cidr) -> Self {
        Self::Prefix(prefix)
    }
}

impl From<core::net::IpAddr> for Element {
    fn from(address: core::net::IpAddr) -> Self {
        Self::Prefix(Cidr::host(address))
    }
}

impl From<Ports> for Element {
    fn from(ports: Ports) -> Self {
        Self::Ports(ports)
    }
}

/// The part of a flow that is looked up in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetField {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
    /// The source port.
    SourcePort,
    /// The destination port.
    DestinationPort,
}

impl SetField {
    /// Whether it is a port.
    pub const fn is_port(self) -> bool {
        matches!(self, Self::SourcePort | Self::DestinationPort)
    }
}

/// A rule's test of a set: `ip saddr @blocked`, `tcp dport != @web`.
///
/// A flow of a family that the set does not hold fails it, negated or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetMatch {
    /// What is looked up.
    pub field: SetField,
    /// Whether it must not be in the set.
    pub negated: bool,
    /// The set.
    pub set: Name,
}

/// The flows of a box that have an element in one place; `None` when there is none.
pub(super) fn meet(pattern: &Pattern, field: SetField, element: &Element) -> Option<Pattern> {
    let mut met = *pattern;
    match element {
        Element::Prefix(prefix) => {
            if pattern
                .implied_family()
                .is_some_and(|f| f != prefix.family())
            {
                return None;
            }
            let side = match field {
                SetField::Source => &mut met.source,
                SetField::Destination => &mut met.destination,
                _ => return None,
            };
            *side = Some(match *side {
                Some(own) if prefix.covers(&own) => own,
                Some(own) if !own.covers(prefix) => return None,
                _ => *prefix,
            });
        }
        Element::Ports(ports) => {
            let side = match field {
                SetField::SourcePort => &mut met.source_ports,
                SetField::DestinationPort => &mut met.destination_ports,
                _ => return None,
            };
            *side = Ports::new(side.first.max(ports.first), side.last.min(ports.last))?;
        }
    }
    Some(met)
}

/// A set and the rules that read it.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: Name,
    pub(super) kind: SetKind,
    pub(super) capacity: usize,
    members: Members,
    /// The rules that read it, and how often each.
    pub(super) readers: BTreeMap<RuleSlot, u32>,
}

#[derive(Debug)]
enum Members {
    Prefixes(Box<PrefixMap<()>>),
    /// First to last port, apart.
    Ports(BTreeMap<u16, u16>),
}

impl Set {
    pub(super) fn new(name: Name, kind: SetKind, capacity: usize) -> Result<Self, EditError> {
        let map = |v4, v6| {
            let map = PrefixMap::try_new(v4, v6).map_err(|_| EditError::Memory)?;
            Ok(Box::new(map))
        };
        let members = match kind {
            SetKind::V4 => Members::Prefixes(map(capacity, 0)?),
            SetKind::V6 => Members::Prefixes(map(0, capacity)?),
            SetKind::Ports => Members::Ports(BTreeMap::new()),
        };
        Ok(Self {
            name,
            kind,
            capacity,
            members,
            readers: BTreeMap::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        match &self.members {
            Members::Prefixes(map) => map.len(),
            Members::Ports(map) => map.len(),
        }
    }

    pub(super) fn resize(&mut self, capacity: usize) -> Result<(), EditError> {
        if capacity < self.len() {
            return Err(EditError::Full);
        }
        if let Members::Prefixes(map) = &mut self.members {
            let more = capacity.saturating_sub(map.len());
            let reserved = match self.kind {
                SetKind::V4 => map.v4.try_reserve(more),
                _ => map.v6.try_reserve(more),
            };
            reserved.map_err(|_| EditError::Memory)?;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Whether a flow passes a test of this set. Cost: a longest prefix match, or O(log n).
    pub(super) fn passes(&self, test: &SetMatch, flow: &Fields) -> bool {
        let holds = match (&self.members, test.field) {
            (Members::Prefixes(map), SetField::Source | SetField::Destination) => {
                let family = if self.kind == SetKind::V4 {
                    Family::V4
                } else {
                    Family::V6
                };
                if flow.family != family {
                    return false;
                }
                let bits = if test.field == SetField::Source {
                    flow.source
                } else {
                    flow.destination
                };
                map.longest(family.address(bits)).is_some()
            }
            (Members::Ports(map), SetField::SourcePort) => holds(map, flow.source_port),
            (Members::Ports(map), SetField::DestinationPort) => holds(map, flow.destination_port),
            _ => return false,
        };
        holds != test.negated
    }

    /// Flows around `flow` that pass a test just if it does: those of the widest element that holds it, or those of the widest
    /// prefix or range around it that meets no element. Cost: O(bits) walks of a prefix trie, or O(log n).
    pub(super) fn alike(&self, test: &SetMatch, flow: &Fields) -> Pattern {
        match (&self.members, test.field) {
            (Members::Prefixes(map), SetField::Source | SetField::Destination) => {
                if (self.kind == SetKind::V4) != (flow.family == Family::V4) {
                    return Pattern::ANY;
                }
                let bits = match test.field {
                    SetField::Source => flow.source,
                    _ => flow.destination,
                };
                let host = Cidr::from_bits(flow.family, bits, flow.family.bits());
                if let Some((widest, ())) = map.covering(host).next() {
                    return of_prefix(test, widest);
                }
                let around = |len| Cidr::from_bits(flow.family, bits, len);
                let mut prefixes = (0..=flow.family.bits()).map(around);
                let free = prefixes.find(|prefix| map.within(*prefix).next().is_none());
                of_prefix(test, free.unwrap_or(host))
            }
            (Members::Ports(map), field) => {
                let port = match field {
                    SetField::SourcePort => flow.source_port,
                    _ => flow.destination_port,
                };
                let below = map.range(..=port).next_back();
                let above = map.range(port..).find(|(first, _)| **first > port);
                let ports = match below {
                    Some((&first, &last)) if last >= port => Ports { first, last },
                    _ => Ports {
                        first: below.map_or(0, |(_, last)| last.saturating_add(1)),
                        last: above.map_or(u16::MAX, |(first, _)| first.saturating_sub(1)),
                    },
                };
                of_ports(test, ports)
            }
            _ => Pattern::ANY,
        }
    }

    /// Adds an element; gives whether that made a difference to any address or port.
    pub(super) fn add(&mut self, element: &Element) -> Result<bool, EditError> {
        if !self.kind.admits(element) {
            return Err(EditError::WrongKind(self.name));
        }
        if self.contains(element) {
            return Err(EditError::ElementExists(self.name, *element));
        }
        if self.len() >= self.capacity {
            return Err(EditError::SetFull(self.name));
        }
        match (&mut self.members, element) {
            (Members::Prefixes(map), Element::Prefix(prefix)) => {
                let covered = map.covering(*prefix).next().is_some();
                map.insert(*prefix, ())
                    .map_err(|_| EditError::SetFull(self.name))?;
                Ok(!covered)
            }
            (Members::Ports(map), Element::Ports(ports)) => {
                let below = map.range(..=ports.last).next_back();
                if below.is_some_and(|(_, last)| *last >= ports.first) {
                    return Err(EditError::Overlaps(self.name, *element));
                }
                map.insert(ports.first, ports.last);
                Ok(true)
            }
            _ => Err(EditError::WrongKind(self.name)),
        }
    }

    /// Takes an element out; gives whether that made a difference to any address or port.
    pub(super) fn remove(&mut self, element: &Element) -> Result<bool, EditError> {
        if !self.contains(element) {
            return Err(EditError::NoSuchElement(self.name, *element));
        }
        match (&mut self.members, element) {
            (Members::Prefixes(map), Element::Prefix(prefix)) => {
                map.remove(*prefix);
                Ok(map.covering(*prefix).next().is_none())
            }
            (Members::Ports(map), Element::Ports(ports)) => {
                map.remove(&ports.first);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether this very element is there.
    pub(super) fn contains(&self, element: &Element) -> bool {
        match (&self.members, element) {
            (Members::Prefixes(map), Element::Prefix(prefix)) => map.get(*prefix).is_some(),
            (Members::Ports(map), Element::Ports(ports)) => {
                map.get(&ports.first) == Some(&ports.last)
            }
            _ => false,
        }
    }

    pub(super) fn elements(&self) -> BTreeSet<Element> {
        match &self.members {
            Members::Prefixes(map) => map.iter().map(|(prefix, ())| prefix.into()).collect(),
            Members::Ports(map) => {
                let ports = map.iter().map(|(&first, &last)| Ports { first, last });
                ports.map(Element::Ports).collect()
            }
        }
    }
}

fn holds(map: &BTreeMap<u16, u16>, port: u16) -> bool {
    let below = map.range(..=port).next_back();
    below.is_some_and(|(_, last)| *last >= port)
}
