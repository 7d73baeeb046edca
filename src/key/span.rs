//! A span of flows: all those of one class between two of them, in one of a few orders of their fields.
//!
//! Apart from [`Pattern`] because a box of flows has a mask on each side, and who looks up one of many boxes tries each kind of
//! mask that occurs: whoever chooses the kinds chooses the cost. Spans have no masks. Those of one order that are apart are found by
//! one search, and there are five orders.
//!
//! ```text
//!  order             destination     its port   source         its port
//!  by destination    198.51.100.1    0 - 442    any            any        a scan of one host: its closed ports below 443
//!  by port           any              22        any            any        a sweep of many hosts for one port
//!  by source         any             any        203.0.113.9    any        whatever comes from a host that is locked out
//!  by source port    198.51.100.1    0 - 442    192.0.2.1      40000      a scan, where rules read source ports
//!  by both ports     198.51.100/24   22         192.0.2.1      40000      a sweep, where rules read source ports
//! ```

use core::fmt;

use super::{Cidr, Family, Fields, Locality, Pattern, Ports, Protocol, Zone};

/// Which field is compared first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SpanOrder {
    /// Destination, destination port, source, source port.
    Destination,
    /// Destination port, destination, source, source port.
    Port,
    /// Source, destination, destination port, source port.
    Source,
    /// Source port, source, destination, destination port.
    SourcePort,
    /// Destination port, source port, source, destination.
    Ports,
}

const DESTINATION: usize = 0;
const DESTINATION_PORT: usize = 1;
const SOURCE: usize = 2;
const SOURCE_PORT: usize = 3;

impl SpanOrder {
    /// All orders.
    pub const ALL: [Self; 5] = [
        Self::Destination,
        Self::Port,
        Self::Source,
        Self::SourcePort,
        Self::Ports,
    ];

    const fn fields(self) -> [usize; 4] {
        match self {
            Self::Destination => [DESTINATION, DESTINATION_PORT, SOURCE, SOURCE_PORT],
            Self::Port => [DESTINATION_PORT, DESTINATION, SOURCE, SOURCE_PORT],
            Self::Source => [SOURCE, DESTINATION, DESTINATION_PORT, SOURCE_PORT],
            Self::SourcePort => [SOURCE_PORT, SOURCE, DESTINATION, DESTINATION_PORT],
            Self::Ports => [DESTINATION_PORT, SOURCE_PORT, SOURCE, DESTINATION],
        }
    }

    /// A flow's four fields as the order compares them.
    pub(crate) fn place(self, flow: &Fields) -> [u128; 4] {
        let values = values(flow);
        self.fields().map(|field| values[field])
    }
}

/// Both ends of a range are in it.
type Range = (u128, u128);

/// Flows of one class (family, zone, protocol, locality) in a range of each of four fields. Addresses are left-aligned
/// ([`Family::align`]).
///
/// ```
/// use gufc::key::{FlowKey, Pattern, Ports, Span, SpanOrder, Tuple};
///
/// let scan: Tuple = "tcp 192.0.2.1:40000 > 198.51.100.1:80".parse()?;
/// let web = Pattern { destination_ports: Ports::one(443), ..Pattern::ANY };
/// let mut span = Span::class_of(&scan.fields(), SpanOrder::Destination);
/// span.avoid(&scan.fields(), &web);
/// assert!(!span.overlaps(&web));
/// let other: Tuple = "tcp 192.0.2.9:1 > 203.0.113.5:442".parse()?;
/// assert!(span.holds(&other.fields()));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    family: Family,
    zone: Zone,
    protocol: Protocol,
    locality: Locality,
    order: SpanOrder,
    /// Of destinations, destination ports, sources, source ports.
    ranges: [Range; 4],
}

/// Everything that a field can be.
const ALL: [Range; 4] = [
    (0, u128::MAX),
    (0, u16::MAX as u128),
    (0, u128::MAX),
    (0, u16::MAX as u128),
];

impl Span {
    /// All flows of a flow's class, to be narrowed in this order.
    pub const fn class_of(flow: &Fields, order: SpanOrder) -> Self {
        Self {
            family: flow.family,
            zone: flow.zone,
            protocol: flow.protocol,
            locality: flow.locality,
            order,
            ranges: ALL,
        }
    }

    /// The order in which it is narrowed.
    pub const fn order(&self) -> SpanOrder {
        self.order
    }

    /// Whether a flow is in it. Cost: O(1).
    #[inline]
    pub fn holds(&self, flow: &Fields) -> bool {
        self.family == flow.family
            && self.zone == flow.zone
            && self.protocol == flow.protocol
            && self.locality == flow.locality
            && self
                .ranges
                .iter()
                .zip(values(flow))
                .all(|(range, value)| range.0 <= value && value <= range.1)
    }

    /// Whether every flow of another span of its class is in it.
    pub fn covers(&self, other: &Self) -> bool {
        let mut ranges = self.ranges.iter().zip(&other.ranges);
        ranges.all(|(one, other)| one.0 <= other.0 && other.1 <= one.1)
    }

    /// A pattern that matches all flows of its class.
    pub const fn class(&self) -> Pattern {
        Pattern {
            family: Some(self.family),
            protocol: Some(self.protocol),
            source_local: Some(self.locality.source),
            destination_local: Some(self.locality.destination),
            zone: Some(self.zone),
            ..Pattern::ANY
        }
    }

    /// Whether some flow of it matches the pattern. Cost: O(1).
    pub fn overlaps(&self, pattern: &Pattern) -> bool {
        let mut ranges = self.ranges.iter().zip(sides(pattern));
        self.is_of_class(pattern) && ranges.all(|(one, other)| one.0 <= other.1 && other.0 <= one.1)
    }

    /// Keeps what matches the pattern, which must match some of it.
    pub fn confine(&mut self, pattern: &Pattern) {
        for (range, side) in self.ranges.iter_mut().zip(sides(pattern)) {
            *range = (range.0.max(side.0), range.1.min(side.1));
        }
    }

    /// Cuts off what matches a pattern that `flow`, one of the span's, does not match; of several cuts that would do, the one
    /// at the field that comes first in the order.
    pub fn avoid(&mut self, flow: &Fields, pattern: &Pattern) {
        if !self.overlaps(pattern) {
            return;
        }
        let (values, holes) = (values(flow), sides(pattern));
        for field in self.order.fields() {
            let (value, (first, last)) = (values[field], holes[field]);
            if value < first {
                self.ranges[field].1 = first - 1;
                return;
            }
            if value > last {
                self.ranges[field].0 = last + 1;
                return;
            }
        }
    }

    /// The largest part of it around `flow` that lies between two flows in its order: where a field is less than
    /// everything, those before it are the flow's own.
    #[must_use]
    pub fn in_order(mut self, flow: &Fields) -> Self {
        let values = values(flow);
        let mut exact = false;
        for field in self.order.fields().into_iter().rev() {
            if exact {
                self.ranges[field] = (values[field], values[field]);
            }
            exact |= self.ranges[field] != ALL[field];
        }
        self
    }

    /// Whether it holds one flow only.
    pub fn is_one(&self) -> bool {
        self.ranges.iter().all(|(first, last)| first == last)
    }

    /// The first and the last flow's four fields as its order compares them.
    pub(crate) fn ends(&self) -> [[u128; 4]; 2] {
        let fields = self.order.fields();
        [
            fields.map(|field| self.ranges[field].0),
            fields.map(|field| self.ranges[field].1),
        ]
    }

    /// Any flow of it, for what all have in common.
    pub(crate) fn first(&self) -> Fields {
        let [
            (destination, _),
            (destination_port, _),
            (source, _),
            (source_port, _),
        ] = self.ranges;
        Fields {
            family: self.family,
            source,
            destination,
            source_port: source_port as u16,
            destination_port: destination_port as u16,
            protocol: self.protocol,
            locality: self.locality,
            zone: self.zone,
        }
    }

    fn is_of_class(&self, pattern: &Pattern) -> bool {
        let value = |wanted: Option<bool>, is| wanted.is_none_or(|wanted| wanted == is);
        !pattern.is_empty()
            && pattern
                .implied_family()
                .is_none_or(|family| family == self.family)
            && pattern
                .protocol
                .is_none_or(|protocol| protocol == self.protocol)
            && value(pattern.source_local, self.locality.source)
            && value(pattern.destination_local, self.locality.destination)
            && pattern.zone.is_none_or(|zone| zone == self.zone)
    }
}

fn values(flow: &Fields) -> [u128; 4] {
    [
        flow.destination,
        flow.destination_port.into(),
        flow.source,
        flow.source_port.into(),
    ]
}

/// What a pattern matches of each field.
fn sides(pattern: &Pattern) -> [Range; 4] {
    let prefix = |side: &Option<Cidr>| match side {
        None => (0, u128::MAX),
        Some(cidr) => (cidr.bits(), cidr.bits() | !cidr.mask()),
    };
    let ports = |ports: &Ports| (ports.first.into(), ports.last.into());
    [
        prefix(&pattern.destination),
        ports(&pattern.destination_ports),
        prefix(&pattern.source),
        ports(&pattern.source_ports),
    ]
}

/// Writes `tcp any IPv4 > 198.51.100.1 port 0-442`: ports that are all are left out.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.protocol)?;
        self.write_side([SOURCE, SOURCE_PORT], f)?;
        f.write_str(" > ")?;
        self.write_side([DESTINATION, DESTINATION_PORT], f)?;
        if self.zone != Zone::default() {
            write!(f, " zone {}", self.zone.id())?;
        }
        Ok(())
    }
}

impl Span {
    fn write_side(&self, side: [usize; 2], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [address, ports] = side;
        let (range, (low, high)) = (self.ranges[address], self.ranges[ports]);
        let [first, last] = [range.0, range.1].map(|bits| self.family.address(bits));
        if range == ALL[address] {
            let v4 = self.family == Family::V4;
            write!(f, "any {}", if v4 { "IPv4" } else { "IPv6" })?;
        } else if first == last {
            write!(f, "{first}")?;
        } else {
            write!(f, "{first}-{last}")?;
        }
        if (low, high) == ALL[ports] {
            Ok(())
        } else if low == high {
            write!(f, " port {low}")
        } else {
            write!(f, " port {low}-{high}")
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::key::{FlowKey, Tuple};
    use crate::testing::prng::SplitMix64;

    fn world() -> Vec<Fields> {
        let mut world = Vec::new();
        for ends in ["10.0.0.{}", "[2001:db8::{}]"] {
            for protocol in ["tcp", "udp"] {
                for n in 0..3_u32.pow(4) {
                    let [a, b, c, d] = [n % 3, n / 3 % 3, n / 9 % 3, n / 27];
                    let end = |host: u32| ends.replace("{}", &host.to_string());
                    let text = format!("{protocol} {}:{c} > {}:{d}", end(a), end(b));
                    world.push(text.parse::<Tuple>().expect("a tuple").fields());
                }
            }
        }
        world
    }

    fn pattern(chance: &mut SplitMix64, around: &Fields) -> Pattern {
        let mut side = |bits| {
            let short = around.family.bits() - chance.below(3) as u8;
            let len = [0, short, around.family.bits()][chance.below(3) as usize];
            (chance.below(2) == 0).then(|| Cidr::from_bits(around.family, bits, len))
        };
        let (source, destination) = (side(around.source), side(around.destination));
        let mut ports = |port: u16| match chance.below(3) {
            0 => Ports::one(port),
            1 => Ports {
                first: port.saturating_sub(1),
                last: port,
            },
            _ => Ports::ALL,
        };
        let (source_ports, destination_ports) =
            (ports(around.source_port), ports(around.destination_port));
        Pattern {
            source,
            destination,
            source_ports,
            destination_ports,
            protocol: (chance.below(3) == 0).then_some(around.protocol),
            ..Pattern::ANY
        }
    }

    /// Over a small world: what is cut off is what the pattern matches, what is kept matches or does not as the flow does, and a span
    /// in order holds just the flows between its ends.
    #[test]
    fn spans_are_cut_where_patterns_end() {
        let world = world();
        let mut chance = SplitMix64(1);
        let mut one = || chance.below(world.len() as u64) as usize;
        let seeds: Vec<[usize; 4]> = (0..600).map(|_| [one(), one(), one(), one()]).collect();
        let mut kept = 0;
        for (n, [at, near @ ..]) in seeds.into_iter().enumerate() {
            let order = SpanOrder::ALL[n % SpanOrder::ALL.len()];
            let flow = &world[at];
            let mut span = Span::class_of(flow, order);
            let mut patterns = Vec::new();
            for near in near {
                let pattern = pattern(&mut chance, &world[near]);
                let overlaps = world.iter().any(|f| span.holds(f) && pattern.matches(f));
                assert!(span.overlaps(&pattern) || !overlaps);
                if pattern.matches(flow) {
                    span.confine(&pattern);
                } else {
                    span.avoid(flow, &pattern);
                    assert!(!span.overlaps(&pattern));
                }
                patterns.push(pattern);
            }
            let ordered = span.in_order(flow);
            assert!(ordered.holds(flow), "{span} {ordered}");
            for other in &world {
                if span.holds(other) {
                    let alike = |p: &Pattern| p.matches(other) == p.matches(flow);
                    assert!(patterns.iter().all(alike), "{span}");
                }
                assert!(span.holds(other) || !ordered.holds(other));
                let [first, last] = ordered.ends();
                let class = Span::class_of(other, order) == Span::class_of(flow, order);
                let place = order.place(other);
                let between = first <= place && place <= last;
                assert_eq!(ordered.holds(other), class && between, "{ordered}");
                kept += u32::from(ordered.holds(other));
            }
            assert_eq!(ordered.is_one(), ordered.ends()[0] == ordered.ends()[1]);
        }
        assert!(kept > 1_200, "{kept}");
    }

    #[test]
    fn spans_read_well() {
        let scan: Tuple = "tcp 192.0.2.1:40000 > 198.51.100.1:80"
            .parse()
            .expect("a tuple");
        let flow = scan.fields();
        let mut span = Span::class_of(&flow, SpanOrder::Destination);
        span.avoid(
            &flow,
            &Pattern {
                destination_ports: Ports::one(443),
                ..Pattern::ANY
            },
        );
        assert_eq!(span.to_string(), "tcp any IPv4 > any IPv4 port 0-442");
        let span = span.in_order(&flow);
        assert_eq!(span.to_string(), "tcp any IPv4 > 198.51.100.1 port 0-442");
    }
}
