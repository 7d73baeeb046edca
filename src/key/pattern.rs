//! A set of flows as a box over the fields: what rules match, hooks are interested in, and edits touch.

use core::fmt;

use super::{Cidr, Family, Fields, FlowKey, Locality, Protocol, Zone};

/// An inclusive range of ports (or of what stands in their place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The lowest port.
    pub first: u16,
    /// The highest port, not below `first`.
    pub last: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// The ports from `first` to `last`; `None` when `last` is below `first`.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// One port.
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether `port` is in the range.
    pub const fn contains(&self, port: u16) -> bool {
        // One subtraction and one comparison: below `first` wraps above every width.
        port.wrapping_sub(self.first) <= self.last - self.first
    }

    /// Whether every port of `other` is in the range.
    pub const fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether some port is in both.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A box of flows: a prefix or any address on each side, a range of ports on each side, and for each of protocol, locality,
/// zone and family one value or any.
///
/// The empty set has no pattern. ICMP's type and code are matched as a range of destination ports, `type << 8 | code`.
///
/// ```
/// use gufc::key::{FlowKey, Pattern, Ports, Protocol, Tuple};
///
/// let ssh = Pattern {
///     destination: Some("10.0.0.0/8".parse()?),
///     destination_ports: Ports::one(22),
///     protocol: Some(Protocol::TCP),
///     ..Pattern::ANY
/// };
/// let flow: Tuple = "tcp 192.0.2.1:40000 > 10.1.2.3:22".parse()?;
/// assert!(ssh.matches(&flow.fields()));
/// assert!(Pattern::ANY.covers(&ssh));
/// assert!(!ssh.matches(&flow.inverse().unwrap().fields()));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    /// Family, or any. A prefix on either side implies its family.
    pub family: Option<Family>,
    /// Source prefix, or any address.
    pub source: Option<Cidr>,
    /// Destination prefix, or any address.
    pub destination: Option<Cidr>,
    /// Source ports.
    pub source_ports: Ports,
    /// Destination ports.
    pub destination_ports: Ports,
    /// Protocol, or any.
    pub protocol: Option<Protocol>,
    /// Whether the source is local, or either.
    pub source_local: Option<bool>,
    /// Whether the destination is local, or either.
    pub destination_local: Option<bool>,
    /// Zone, or any.
    pub zone: Option<Zone>,
}

impl Pattern {
    /// All flows.
    pub const ANY: Self = Self {
        family: None,
        source: None,
        destination: None,
        source_ports: Ports::ALL,
        destination_ports: Ports::ALL,
        protocol: None,
        source_local: None,
        destination_local: None,
        zone: None,
    };

    /// The pattern that matches exactly the flows with these fields.
    pub const fn exactly(fields: &Fields) -> Self {
        Self {
            family: Some(fields.family),
            source: Some(Cidr::from_bits(
                fields.family,
                fields.source,
                fields.family.bits(),
            )),
            destination: Some(Cidr::from_bits(
                fields.family,
                fields.destination,
                fields.family.bits(),
            )),
            source_ports: Ports::one(fields.source_port),
            destination_ports: Ports::one(fields.destination_port),
            protocol: Some(fields.protocol),
            source_local: Some(fields.locality.source),
            destination_local: Some(fields.locality.destination),
            zone: Some(fields.zone),
        }
    }

    /// Whether a flow is in the box. Cost: at most nine comparisons.
    #[inline]
    pub const fn matches(&self, fields: &Fields) -> bool {
        family_is(self.family, fields.family)
            && side_holds(&self.source, fields.family, fields.source)
            && side_holds(&self.destination, fields.family, fields.destination)
            && self.source_ports.contains(fields.source_port)
            && self.destination_ports.contains(fields.destination_port)
            && match self.protocol {
                None => true,
                Some(protocol) => protocol.0 == fields.protocol.0,
            }
            && locality_is(self.source_local, self.destination_local, fields.locality)
            && match self.zone {
                None => true,
                Some(zone) => zone.id() == fields.zone.id(),
            }
    }

    /// [`matches`](Self::matches) for a key.
    pub fn contains<K: FlowKey>(&self, key: &K) -> bool {
        self.matches(&key.fields())
    }

    /// The family that every flow of the box has, given by the field or by a prefix; `None` when it may be either.
    ///
    /// A box whose parts name both families holds no flow; this then gives one of them.
    pub fn implied_family(&self) -> Option<Family> {
        self.family
            .or(self.source.map(|p| p.family()))
            .or(self.destination.map(|p| p.family()))
    }

    /// Whether no flow can match, because the parts name both families.
    pub fn is_empty(&self) -> bool {
        let family = self.implied_family();
        [
            self.family,
            self.source.map(|p| p.family()),
            self.destination.map(|p| p.family()),
        ]
        .iter()
        .any(|part| part.is_some() && *part != family)
    }

    /// Whether every flow of `other` is in this box, for boxes that are not empty. Cost: O(1).
    pub fn covers(&self, other: &Self) -> bool {
        fn value<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || one == other
        }
        fn side(one: &Option<Cidr>, other: &Option<Cidr>, family: Option<Family>) -> bool {
            match (one, other) {
                (None, _) => true,
                (Some(one), Some(other)) => one.covers(other),
                (Some(one), None) => one.len() == 0 && Some(one.family()) == family,
            }
        }
        value(self.family, other.implied_family())
            && side(&self.source, &other.source, other.implied_family())
            && side(
                &self.destination,
                &other.destination,
                other.implied_family(),
            )
            && self.source_ports.covers(&other.source_ports)
            && self.destination_ports.covers(&other.destination_ports)
            && value(self.protocol, other.protocol)
            && value(self.source_local, other.source_local)
            && value(self.destination_local, other.destination_local)
            && value(self.zone, other.zone)
    }

    /// Whether some flow is in both boxes, for boxes that are not empty. Cost: O(1).
    pub fn overlaps(&self, other: &Self) -> bool {
        fn value<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        fn side(one: &Option<Cidr>, other: &Option<Cidr>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => one.overlaps(other),
                _ => true,
            }
        }
        value(self.implied_family(), other.implied_family())
            && side(&self.source, &other.source)
            && side(&self.destination, &other.destination)
            && self.source_ports.overlaps(&other.source_ports)
            && self.destination_ports.overlaps(&other.destination_ports)
            && value(self.protocol, other.protocol)
            && value(self.source_local, other.source_local)
            && value(self.destination_local, other.destination_local)
            && value(self.zone, other.zone)
    }
}

impl Default for Pattern {
    /// [`Pattern::ANY`].
    fn default() -> Self {
        Self::ANY
    }
}

#[inline]
const fn family_is(wanted: Option<Family>, family: Family) -> bool {
    match wanted {
        None => true,
        Some(wanted) => wanted as u8 == family as u8,
    }
}

#[inline]
const fn side_holds(prefix: &Option<Cidr>, family: Family, bits: u128) -> bool {
    match prefix {
        None => true,
        Some(prefix) => prefix.holds(family, bits),
    }
}

#[inline]
const fn locality_is(source: Option<bool>, destination: Option<bool>, locality: Locality) -> bool {
    (match source {
        None => true,
        Some(source) => source == locality.source,
    }) && match destination {
        None => true,
        Some(destination) => destination == locality.destination,
    }
}

/// Writes the parts that are not "any", in the words of the rule language.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Words { f, first: true };
        if let (Some(family), None, None) = (self.family, self.source, self.destination) {
            words.put(format_args!(
                "family {}",
                if family == Family::V4 { "ip" } else { "ip6" }
            ))?;
        }
        let name = |prefix: &Cidr| {
            if prefix.family() == Family::V4 {
                "ip"
            } else {
                "ip6"
            }
        };
        if let Some(prefix) = self.source {
            words.put(format_args!("{} saddr {prefix}", name(&prefix)))?;
        }
        if let Some(prefix) = self.destination {
            words.put(format_args!("{} daddr {prefix}", name(&prefix)))?;
        }
        if let Some(protocol) = self.protocol {
            words.put(format_args!("proto {protocol}"))?;
        }
        if self.source_ports != Ports::ALL {
            words.put(format_args!("sport {}", self.source_ports))?;
        }
        if self.destination_ports != Ports::ALL {
            words.put(format_args!("dport {}", self.destination_ports))?;
        }
        if let Some(local) = self.source_local {
            words.put(format_args!("slocal {}", if local { "yes" } else { "no" }))?;
        }
        if let Some(local) = self.destination_local {
            words.put(format_args!("dlocal {}", if local { "yes" } else { "no" }))?;
        }
        if let Some(zone) = self.zone {
            words.put(format_args!("zone {}", zone.id()))?;
        }
        if words.first {
            words.f.write_str("any")
        } else {
            Ok(())
        }
    }
}

struct Words<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    first: bool,
}

impl Words<'_, '_> {
    fn put(&mut self, word: fmt::Arguments<'_>) -> fmt::Result {
        if !core::mem::take(&mut self.first) {
            self.f.write_str(" ")?;
        }
        self.f.write_fmt(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tiny domains, so that boxes meet, nest and miss each other often.
    fn cidr() -> impl Strategy<Value = Option<Cidr>> {
        prop_oneof![
            Just(None),
            (any::<bool>(), 0u8..4, 0u8..4).prop_map(|(v6, bits, len)| {
                let family = if v6 { Family::V6 } else { Family::V4 };
                Some(Cidr::from_bits(family, u128::from(bits) << 125, len.min(3)))
            })
        ]
    }

    fn ports() -> impl Strategy<Value = Ports> {
        (0u16..4, 0u16..4).prop_map(|(a, b)| Ports {
            first: a.min(b),
            last: a.max(b),
        })
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        (
            prop::option::of(prop_oneof![Just(Family::V4), Just(Family::V6)]),
            cidr(),
            cidr(),
            ports(),
            ports(),
            prop::option::of(prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP)]),
            prop::option::of(any::<bool>()),
        )
            .prop_map(
                |(
                    family,
                    source,
                    destination,
                    source_ports,
                    destination_ports,
                    protocol,
                    source_local,
                )| {
                    Pattern {
                        family,
                        source,
                        destination,
                        source_ports,
                        destination_ports,
                        protocol,
                        source_local,
                        ..Pattern::ANY
                    }
                },
            )
    }

    fn every_flow() -> impl Iterator<Item = Fields> {
        (0u32..2 * 8 * 8 * 4 * 4 * 2 * 2).map(|n| Fields {
            family: if n & 1 == 0 { Family::V4 } else { Family::V6 },
            source: u128::from(n >> 1 & 7) << 125,
            destination: u128::from(n >> 4 & 7) << 125,
            source_port: (n >> 7 & 3) as u16,
            destination_port: (n >> 9 & 3) as u16,
            protocol: if n >> 11 & 1 == 0 {
                Protocol::TCP
            } else {
                Protocol::UDP
            },
            locality: Locality {
                source: n >> 12 & 1 == 1,
                destination: false,
            },
            zone: Zone::default(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 200 }))]

        /// `covers` and `overlaps` are what the sets of matching flows say, over the whole small world.
        #[test]
        fn boxes_are_sets(a in pattern(), b in pattern()) {
            prop_assert_eq!(a.is_empty(), !every_flow().any(|f| a.matches(&f)));
            if a.is_empty() || b.is_empty() {
                return Ok(());
            }
            let overlap = every_flow().any(|f| a.matches(&f) && b.matches(&f));
            prop_assert_eq!(a.overlaps(&b), overlap);
            if a.covers(&b) {
                prop_assert!(every_flow().all(|f| !b.matches(&f) || a.matches(&f)));
            }
            prop_assert!(a.covers(&a));
            prop_assert!(Pattern::ANY.covers(&a));
        }
    }
}
