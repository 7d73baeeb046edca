//! Rule sets and header traces of any size, shaped like those of access lists, firewalls and IP chains.
//!
//! Apart from the tests because benches and examples draw from it too. The same seed gives the same bytes in every port of
//! this generator (`samples/` holds a few lines of another): all distributions are tables of round numbers, and chance is
//! SplitMix64.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::prng::SplitMix64;
use crate::key::{Cidr, Family, Fields, Locality, Pattern, Ports, Protocol, Zone};

/// What kind of list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Access control list.
    Acl,
    /// Firewall: one side is often any.
    Firewall,
    /// IP chain: a mixture.
    Chain,
}

/// One rule: a pattern, and a test of flags that is no part of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The flows.
    pub pattern: Pattern,
    /// TCP flags or ICMP type in the upper octet, ICMP code in the lower.
    pub flags: u16,
    /// The bits of `flags` that count.
    pub flags_mask: u16,
}

/// One line of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The flow.
    pub flow: Fields,
    /// As [`Rule::flags`].
    pub flags: u16,
    /// The rule that it was drawn from; none for noise.
    pub rule: Option<u32>,
}

impl Rule {
    /// Whether a header matches, flags included.
    pub fn matches(&self, header: &Header) -> bool {
        self.pattern.matches(&header.flow) && header.flags & self.flags_mask == self.flags
    }
}

/// Makes `count` rules of a family, and a trace of `headers` headers.
pub fn generate(
    profile: Profile,
    count: usize,
    family: Family,
    seed: u64,
    headers: usize,
) -> (Vec<Rule>, Vec<Header>) {
    let mut g = Chance(SplitMix64(seed));
    let rules = rules(&mut g, profile, count, family);
    let trace = trace(&mut g, &rules, family, headers);
    let rules = rules.iter().map(|raw| raw.rule(family)).collect();
    (rules, trace)
}

/// The rules as text, a line each.
pub fn write_rules(rules: &[Rule]) -> String {
    let mut text = String::new();
    for rule in rules {
        let Pattern {
            source,
            destination,
            source_ports,
            destination_ports,
            protocol,
            ..
        } = rule.pattern;
        let side = |side: Option<Cidr>| match side {
            Some(cidr) => alloc::format!("{}/{}", cidr.address(), cidr.len()),
            None => String::from("any"),
        };
        let _ = writeln!(
            text,
            "@{}\t{}\t{} : {}\t{} : {}\t0x{:02x}/0x{}\t0x{:04x}/0x{:04x}\t",
            side(source),
            side(destination),
            source_ports.first,
            source_ports.last,
            destination_ports.first,
            destination_ports.last,
            protocol.map_or(0, |p| p.0),
            if protocol.is_some() { "FF" } else { "00" },
            rule.flags,
            rule.flags_mask,
        );
    }
    text
}

/// The trace as text, a line each.
pub fn write_trace(trace: &[Header]) -> String {
    let mut text = String::new();
    for header in trace {
        let flow = &header.flow;
        let shift = 128 - u32::from(flow.family.bits());
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            flow.source >> shift,
            flow.destination >> shift,
            flow.source_port,
            flow.destination_port,
            flow.protocol.0,
            u32::from(header.flags) << 16,
            header.rule.unwrap_or(u32::MAX),
        );
    }
    text
}

/// Reads one line of rules.
pub fn read_rule(line: &str) -> Option<Rule> {
    let mut parts = line.trim().strip_prefix('@')?.split('\t');
    let source: Cidr = parts.next()?.parse().ok()?;
    let destination: Cidr = parts.next()?.parse().ok()?;
    let ports = |text: &str| {
        let (first, last) = text.split_once(" : ")?;
        Ports::new(first.parse().ok()?, last.parse().ok()?)
    };
    let pair = |text: &str| {
        let (value, mask) = text.split_once('/')?;
        let hex = |text: &str| u16::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Some((hex(value)?, hex(mask)?))
    };
    let source_ports = ports(parts.next()?)?;
    let destination_ports = ports(parts.next()?)?;
    let (protocol, protocol_mask) = pair(parts.next()?)?;
    let (flags, flags_mask) = pair(parts.next()?)?;
    Some(Rule {
        pattern: Pattern {
            source: Some(source),
            destination: Some(destination),
            source_ports,
            destination_ports,
            protocol: (protocol_mask != 0).then_some(Protocol(protocol as u8)),
            ..Pattern::ANY
        },
        flags,
        flags_mask,
    })
}

/// Reads one line of a trace, whose family the rules say.
pub fn read_header(line: &str, family: Family) -> Option<Header> {
    let mut parts = line.split_ascii_whitespace();
    let shift = 128 - u32::from(family.bits());
    let mut address = || parts.next()?.parse::<u128>().ok()?.checked_shl(shift);
    let (source, destination) = (address()?, address()?);
    let mut number = || parts.next()?.parse::<u32>().ok();
    let (source_port, destination_port) = (number()?, number()?);
    let (protocol, flags) = (number()?, number()?);
    let rule = number().filter(|&rule| rule != u32::MAX);
    Some(Header {
        flow: flow(
            family,
            (source, destination),
            (source_port as u16, destination_port as u16),
            protocol as u8,
        ),
        flags: (flags >> 16) as u16,
        rule,
    })
}

fn flow(family: Family, addresses: (u128, u128), ports: (u16, u16), protocol: u8) -> Fields {
    Fields {
        family,
        source: addresses.0,
        destination: addresses.1,
        source_port: ports.0,
        destination_port: ports.1,
        protocol: Protocol(protocol),
        locality: Locality::default(),
        zone: Zone::default(),
    }
}

struct Chance(SplitMix64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, table: &[(u64, T)]) -> T {
        let total = table.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(total);
        for &(weight, value) in table {
            if at < weight {
                return value;
            }
            at -= weight;
        }
        table[0].1
    }

    fn bits(&mut self, count: u32) -> u128 {
        let mut value = 0;
        for _ in 0..count.div_ceil(64) {
            value = value << 64 | u128::from(self.0.next());
        }
        if count == 128 {
            value
        } else {
            value & ((1 << count) - 1)
        }
    }

    /// An index below `len`, low ones often.
    fn skewed(&mut self, len: usize) -> usize {
        let k = u128::from(self.below(1 << 20));
        ((len as u128 * k * k) >> 40) as usize
    }
}

/// A rule as drawn: addresses right-aligned, protocol 0 for any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Raw {
    source: (u128, u32),
    destination: (u128, u32),
    source_ports: (u16, u16),
    destination_ports: (u16, u16),
    protocol: u8,
    flags: (u16, u16),
}

impl Raw {
    fn rule(&self, family: Family) -> Rule {
        let shift = 128 - u32::from(family.bits());
        let side =
            |(bits, len): (u128, u32)| Some(Cidr::from_bits(family, bits << shift, len as u8));
        let ports = |(first, last): (u16, u16)| Ports { first, last };
        Rule {
            pattern: Pattern {
                source: side(self.source),
                destination: side(self.destination),
                source_ports: ports(self.source_ports),
                destination_ports: ports(self.destination_ports),
                protocol: (self.protocol != 0).then_some(Protocol(self.protocol)),
                ..Pattern::ANY
            },
            flags: self.flags.0,
            flags_mask: self.flags.1,
        }
    }
}

/// Prefixes of one side, nested by construction, old ones drawn again more often than new ones.
struct Side {
    width: u32,
    by_len: BTreeMap<u32, Vec<u128>>,
}

impl Side {
    fn root(&self, g: &mut Chance, len: u32) -> u128 {
        if self.width == 128 {
            let block = u128::from(g.below(64)) << 104;
            let rest = if len > 24 {
                g.bits(len - 24) << (128 - len)
            } else {
                0
            };
            return 0x2001 << 112 | block | rest;
        }
        const FIRST: [u128; 10] = [10, 172, 192, 193, 62, 80, 131, 147, 203, 66];
        let first = FIRST[g.below(10) as usize] << 24;
        let rest = if len > 8 {
            g.bits(len - 8) << (32 - len)
        } else {
            0
        };
        first | rest
    }

    fn draw(&mut self, g: &mut Chance, lens: &[(u64, u32)], reuse: u64) -> (u128, u32) {
        let len = g.pick(lens);
        if len == 0 {
            return (0, 0);
        }
        let width = self.width;
        let list = self.by_len.entry(len).or_default();
        if !list.is_empty() && g.below(1000) < reuse {
            return (list[g.skewed(list.len())], len);
        }
        let shorter: Vec<u32> = self
            .by_len
            .range(..len)
            .filter(|(_, list)| !list.is_empty())
            .map(|(&len, _)| len)
            .collect();
        let bits = if !shorter.is_empty() && g.percent(70) {
            let above = shorter[g.below(shorter.len() as u64) as usize];
            let list = &self.by_len[&above];
            let parent = list[g.skewed(list.len())];
            parent | g.bits(len - above) << (width - len)
        } else {
            self.root(g, len)
        };
        let bits = bits >> (width - len) << (width - len);
        self.by_len.entry(len).or_default().push(bits);
        (bits, len)
    }
}

fn rules(g: &mut Chance, profile: Profile, count: usize, family: Family) -> Vec<Raw> {
    let width = u32::from(family.bits());
    let side = || Side {
        width,
        by_len: BTreeMap::new(),
    };
    let (mut sources, mut destinations) = (side(), side());
    let reuse = match profile {
        Profile::Acl => 900,
        Profile::Firewall => 820,
        Profile::Chain => 860,
    };
    let reuse = reuse
        - match count {
            0..=5000 => 0,
            5001..=50_000 => 120,
            _ => 250,
        };
    let (pairs, protocols, classes) = match profile {
        Profile::Acl => (ACL_PAIRS, ACL_PROTOCOLS, ACL_CLASSES),
        Profile::Firewall => (FW_PAIRS, FW_PROTOCOLS, FW_CLASSES),
        Profile::Chain => (IPC_PAIRS, IPC_PROTOCOLS, IPC_CLASSES),
    };
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    while rules.len() < count {
        let [s, d] = g.pick(pairs);
        let source = sources.draw(g, lens(family, s), reuse);
        let destination = destinations.draw(g, lens(family, d), reuse);
        let protocol = g.pick(protocols);
        let (mut source_ports, mut destination_ports) = ((0, u16::MAX), (0, u16::MAX));
        if protocol == 6 || protocol == 17 {
            let (s, d) = g.pick(classes);
            source_ports = ports(g, s);
            destination_ports = ports(g, d);
        }
        let flags = match protocol {
            6 => g.pick(TCP_FLAGS),
            1 => g.pick(ICMP_FLAGS),
            _ => (0, 0),
        };
        let rule = Raw {
            source,
            destination,
            source_ports,
            destination_ports,
            protocol,
            flags,
        };
        if seen.insert(rule) {
            rules.push(rule);
        }
    }
    // The more specific first, a tenth of them elsewhere.
    let mut keyed: Vec<(i64, usize)> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let noise = if g.percent(10) {
            g.below(width.into()) as i64
        } else {
            0
        };
        keyed.push((noise - i64::from(rule.source.1 + rule.destination.1), index));
    }
    keyed.sort_unstable();
    keyed.iter().map(|&(_, index)| rules[index]).collect()
}

fn trace(g: &mut Chance, rules: &[Raw], family: Family, headers: usize) -> Vec<Header> {
    let width = u32::from(family.bits());
    let side = Side {
        width,
        by_len: BTreeMap::new(),
    };
    let mut trace = Vec::with_capacity(headers);
    while trace.len() < headers {
        let kind = g.below(100);
        let index = g.below(rules.len() as u64) as u32;
        let rule = rules[index as usize];
        let host = |len: u32| u128::MAX.checked_shr(128 - width + len).unwrap_or(0);
        let ((sa, sl), (da, dl)) = (rule.source, rule.destination);
        let (sp, dp) = (rule.source_ports, rule.destination_ports);
        let mut from = Some(index);
        let (mut protocol, mut flags) = (rule.protocol, rule.flags);
        let (source, destination, source_port, destination_port);
        if kind < 40 {
            source = sa | if g.percent(50) { host(sl) } else { 0 };
            destination = da | if g.percent(50) { host(dl) } else { 0 };
            source_port = if g.below(2) == 0 { sp.0 } else { sp.1 };
            destination_port = if g.below(2) == 0 { dp.0 } else { dp.1 };
        } else if kind < 85 {
            source = sa | g.bits(width - sl);
            destination = da | g.bits(width - dl);
            let mut within =
                |(first, last): (u16, u16)| first + g.below(u64::from(last - first) + 1) as u16;
            source_port = within(sp);
            destination_port = within(dp);
        } else {
            from = None;
            source = side.root(g, width);
            destination = side.root(g, width);
            source_port = g.below(65536) as u16;
            destination_port = SERVICES[g.below(SERVICES.len() as u64) as usize];
            (protocol, flags) = (6, (0, 0));
        }
        if protocol == 0 {
            protocol = [6, 17, 1, 255][g.below(4) as usize];
        }
        let flags = flags.0 | g.bits(16) as u16 & !flags.1;
        let share = (g.below(1 << 24) + 1) as f64 / f64::from((1 << 24) + 1);
        let burst = ((0.2 / (1.0 - share)) as usize + 1).min(256);
        let shift = 128 - width;
        let header = Header {
            flow: flow(
                family,
                (source << shift, destination << shift),
                (source_port, destination_port),
                protocol,
            ),
            flags,
            rule: from,
        };
        let burst = burst.min(headers - trace.len());
        trace.extend(core::iter::repeat_n(header, burst));
    }
    trace
}

fn ports(g: &mut Chance, class: Class) -> (u16, u16) {
    match class {
        Class::Any => (0, 65535),
        Class::High => (1024, 65535),
        Class::Low => (0, 1023),
        Class::Exact => {
            let port = if g.percent(85) {
                let k = g.below(1 << 16);
                SERVICES[((SERVICES.len() as u64 * k * k) >> 32) as usize]
            } else {
                1024 + g.below(64512) as u16
            };
            (port, port)
        }
        Class::Range => {
            if g.percent(70) {
                return RANGES[g.below(RANGES.len() as u64) as usize];
            }
            let first = 1024 + g.below(60000) as u32;
            let last = first + (1 << g.below(11));
            (first as u16, last.min(65535) as u16)
        }
    }
}

fn lens(family: Family, class: u8) -> &'static [(u64, u32)] {
    match (family, class) {
        (Family::V4, b'B') => &[(3, 8), (2, 10), (2, 12), (2, 14)],
        (Family::V4, b'S') => &[(6, 16), (2, 17), (2, 18), (2, 19), (3, 20), (2, 21)],
        (Family::V4, b'N') => &[
            (3, 22),
            (3, 23),
            (9, 24),
            (2, 25),
            (2, 26),
            (3, 27),
            (3, 28),
            (2, 29),
            (3, 30),
        ],
        (Family::V4, b'H') => &[(2, 31), (18, 32)],
        (Family::V6, b'B') => &[(2, 16), (2, 19), (3, 20), (2, 24)],
        (Family::V6, b'S') => &[(5, 32), (2, 36), (2, 40), (2, 44), (5, 48)],
        (Family::V6, b'N') => &[(4, 52), (5, 56), (3, 60), (9, 64), (1, 80), (1, 96)],
        (Family::V6, b'H') => &[(1, 112), (1, 127), (14, 128)],
        _ => &[(1, 0)],
    }
}

#[derive(Clone, Copy)]
enum Class {
    Any,
    High,
    Low,
    Range,
    Exact,
}

use Class::{Any, Exact, High, Low, Range};

/// Classes of prefix length, source and destination: W any, B backbone, S site, N subnet, H host.
type Pairs = &'static [(u64, [u8; 2])];
const ACL_PAIRS: Pairs = &[
    (46, *b"HH"),
    (14, *b"NH"),
    (12, *b"HN"),
    (10, *b"NN"),
    (6, *b"WH"),
    (5, *b"SH"),
    (4, *b"HS"),
    (2, *b"SN"),
    (1, *b"WW"),
];
const FW_PAIRS: Pairs = &[
    (26, *b"WH"),
    (24, *b"HW"),
    (16, *b"WN"),
    (10, *b"NW"),
    (9, *b"HH"),
    (6, *b"SN"),
    (4, *b"NS"),
    (3, *b"BH"),
    (2, *b"WW"),
];
const IPC_PAIRS: Pairs = &[
    (40, *b"HH"),
    (16, *b"NN"),
    (12, *b"HN"),
    (10, *b"NH"),
    (8, *b"SS"),
    (6, *b"WH"),
    (5, *b"HW"),
    (2, *b"BN"),
    (1, *b"WW"),
];

type Protocols = &'static [(u64, u8)];
const ACL_PROTOCOLS: Protocols = &[(80, 6), (9, 17), (3, 1), (8, 0)];
const FW_PROTOCOLS: Protocols = &[(60, 6), (22, 17), (6, 1), (9, 0), (2, 47), (1, 50)];
const IPC_PROTOCOLS: Protocols = &[(52, 6), (22, 17), (8, 1), (15, 0), (2, 50), (1, 4)];

type Classes = &'static [(u64, (Class, Class))];
const ACL_CLASSES: Classes = &[
    (18, (Any, Any)),
    (62, (Any, Exact)),
    (16, (Any, Range)),
    (3, (Any, High)),
    (1, (High, Exact)),
];
const FW_CLASSES: Classes = &[
    (20, (Any, Any)),
    (36, (Any, Exact)),
    (14, (High, Exact)),
    (9, (Exact, High)),
    (8, (Any, High)),
    (5, (High, High)),
    (4, (Any, Range)),
    (2, (Exact, Exact)),
    (2, (Low, Any)),
];
const IPC_CLASSES: Classes = &[
    (30, (Any, Any)),
    (28, (Any, Exact)),
    (12, (Exact, Any)),
    (10, (Exact, Exact)),
    (8, (High, Exact)),
    (6, (Any, Range)),
    (3, (Range, Any)),
    (2, (Range, Range)),
    (1, (High, Low)),
];

type Flags = &'static [(u64, (u16, u16))];
const TCP_FLAGS: Flags = &[
    (78, (0, 0)),
    (10, (0x0200, 0x1200)),
    (6, (0x0000, 0x0200)),
    (4, (0x1000, 0x1000)),
    (1, (0x0100, 0x0100)),
    (1, (0x0400, 0x0400)),
];
const ICMP_FLAGS: Flags = &[
    (60, (0, 0)),
    (15, (0x0800, 0xff00)),
    (10, (0x0000, 0xff00)),
    (6, (0x0300, 0xff00)),
    (4, (0x0b00, 0xff00)),
    (5, (0x0303, 0xffff)),
];

const SERVICES: [u16; 66] = [
    20, 21, 22, 23, 25, 53, 67, 68, 69, 80, 88, 110, 111, 119, 123, 135, 137, 139, 143, 161, 162,
    179, 389, 443, 445, 465, 500, 514, 515, 520, 543, 587, 631, 636, 873, 993, 995, 1080, 1194,
    1433, 1521, 1645, 1646, 1701, 1723, 1812, 1813, 2049, 3128, 3268, 3306, 3389, 4500, 5060, 5061,
    5432, 5900, 6000, 6379, 8000, 8080, 8443, 9000, 9090, 9200, 27017,
];
const RANGES: [(u16, u16); 18] = [
    (20, 21),
    (67, 68),
    (137, 139),
    (109, 110),
    (1645, 1646),
    (1812, 1813),
    (6000, 6063),
    (8000, 8100),
    (5060, 5061),
    (49152, 65535),
    (32768, 61000),
    (10000, 20000),
    (1025, 65535),
    (1, 1023),
    (33434, 33523),
    (2000, 2100),
    (7000, 7009),
    (27000, 27015),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte what another port of the generator wrote, in each family and each profile.
    #[test]
    fn another_port_wrote_the_same() {
        for (profile, family, rules, trace) in [
            (
                Profile::Acl,
                Family::V4,
                include_str!("samples/acl4.rules"),
                include_str!("samples/acl4.trace"),
            ),
            (
                Profile::Firewall,
                Family::V6,
                include_str!("samples/fw6.rules"),
                include_str!("samples/fw6.trace"),
            ),
            (
                Profile::Chain,
                Family::V4,
                include_str!("samples/ipc4.rules"),
                include_str!("samples/ipc4.trace"),
            ),
        ] {
            let (made, headers) = generate(profile, 40, family, 11, 40);
            assert_eq!(write_rules(&made), rules);
            assert_eq!(write_trace(&headers), trace);
            for (line, rule) in rules.lines().zip(&made) {
                assert_eq!(read_rule(line).as_ref(), Some(rule));
            }
            for (line, header) in trace.lines().zip(&headers) {
                assert_eq!(read_header(line, family).as_ref(), Some(header));
                if let Some(rule) = header.rule {
                    assert!(made[rule as usize].matches(header));
                }
            }
        }
    }
}
