//! The index against its twin: after every edit the structure is checked and the two answer alike.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use proptest::prelude::*;

use super::{InterestId, InterestIndex, Scratch};
use crate::key::{Cidr, Family, Fields, Locality, Pattern, Ports, Protocol, Zone};
use crate::testing::hostile::{self, Attack};
use crate::testing::linear_interest::LinearInterests;
use crate::testing::rulegen::{self, Profile};

/// The two, side by side.
#[derive(Debug)]
struct Pair {
    index: InterestIndex<u32>,
    twin: LinearInterests<u32>,
    ids: Vec<InterestId>,
    scratch: Scratch,
    next: u32,
}

impl Pair {
    fn new(capacity: usize, seed: u64) -> Self {
        Self {
            index: InterestIndex::new(capacity, seed),
            twin: LinearInterests::new(),
            ids: Vec::new(),
            scratch: Scratch::new(),
            next: 0,
        }
    }

    fn insert(&mut self, pattern: Pattern, priority: u64) {
        self.next += 1;
        let full = self.index.len() == self.index.capacity();
        match self.index.insert(pattern, priority, self.next) {
            Ok(id) => {
                assert!(!full);
                assert!(self.twin.get(id).is_none(), "an id given twice");
                self.twin.insert(id, pattern, priority, self.next);
                self.ids.push(id);
            }
            Err(_) => assert!(full),
        }
    }

    fn remove(&mut self, pick: usize) {
        if self.ids.is_empty() {
            return;
        }
        let id = self.ids.swap_remove(pick % self.ids.len());
        assert_eq!(self.index.remove(id), self.twin.remove(id));
        assert_eq!(self.index.remove(id), None);
        assert_eq!(self.index.get(id), None);
        assert_eq!(self.index.pattern(id), None);
    }

    fn ask(&mut self, flow: &Fields) {
        let expected = self.twin.matches(flow);
        let found = self.index.matches(flow, &mut self.scratch);
        assert!(found.iter().map(|m| m.id).eq(expected.iter().copied()));
        assert!(
            found
                .iter()
                .all(|m| Some(m.priority) == self.twin.get(m.id).map(|(_, p, _)| p))
        );
        let first = self.index.first(flow).map(|m| m.id);
        assert_eq!(first, expected.first().copied());
    }

    fn ask_region(&self, region: &Pattern) {
        let mut found = Vec::new();
        self.index.overlapping(region, |id| found.push(id));
        let set: BTreeSet<_> = found.iter().copied().collect();
        assert_eq!(set.len(), found.len(), "a pattern given twice");
        assert_eq!(set, self.twin.overlapping(region).into_iter().collect());
    }

    fn check(&self) {
        assert_eq!(self.index.check(), Ok(()));
        assert_eq!(self.index.len(), self.twin.len());
        assert!(
            self.index
                .iter()
                .map(|e| (e.id, e.pattern, e.priority, *e.value))
                .eq(self.twin.iter().map(|(i, p, n, v)| (i, *p, n, *v)))
        );
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Pattern, u64),
    Remove(usize),
    Ask(Fields),
    Region(Pattern),
    Clear,
}

/// Bits that nest and part at many lengths: a run of one digit, then another.
fn bits() -> impl Strategy<Value = u128> {
    prop_oneof![
        (0u32..129).prop_map(|n| u128::MAX.checked_shl(128 - n).unwrap_or(0)),
        (0u8..8, 0u32..126).prop_map(|(b, at)| u128::from(b) << at),
        (0u8..16).prop_map(|b| u128::from(b) << 124),
        any::<u128>(),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

/// A prefix's bits and length, or any address.
fn side() -> BoxedStrategy<Option<(u128, u8)>> {
    let edges = &[0u8, 1, 4, 5, 6, 7, 11, 12, 24, 31, 32, 64, 128][..];
    prop_oneof![
        2 => Just(None),
        4 => (bits(), 0u8..129).prop_map(Some),
        4 => (bits(), prop::sample::select(edges)).prop_map(Some),
    ]
    .boxed()
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        0u16..3,
        Just(u16::MAX),
        Just(0x0fff),
        Just(0x1000),
        any::<u16>()
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![
        3 => Just(Ports::ALL),
        3 => (0u16..4).prop_map(Ports::one),
        2 => (port(), port()).prop_map(|(a, b)| Ports { first: a.min(b), last: a.max(b) }),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(&[Protocol::TCP, Protocol::UDP, Protocol(0), Protocol(255)][..])
}

fn zone() -> impl Strategy<Value = Zone> {
    prop::sample::select(&[0, 1, Zone::MAX][..]).prop_map(|id| Zone::new(id).unwrap_or_default())
}

/// Patterns of which few are void.
fn pattern() -> BoxedStrategy<Pattern> {
    let rest = (
        ports(),
        ports(),
        prop::option::of(protocol()),
        prop::option::weighted(0.2, any::<bool>()),
        prop::option::weighted(0.2, any::<bool>()),
        prop::option::weighted(0.2, zone()),
    )
        .boxed();
    let sides = (
        family(),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.3),
        side(),
        side(),
    )
        .prop_map(|(family, mixed, named, source, destination)| {
            let other = match (family, mixed) {
                (Family::V4, true) => Family::V6,
                (Family::V6, true) => Family::V4,
                (family, false) => family,
            };
            let cidr = |family: Family| move |(bits, len)| Cidr::from_bits(family, bits, len);
            let named = named.then_some(family);
            (
                named,
                source.map(cidr(family)),
                destination.map(cidr(other)),
            )
        })
        .boxed();
    (sides, rest, prop::bool::weighted(0.02))
        .prop_map(|(sides, rest, inverted)| {
            let (family, source, destination) = sides;
            let (source_ports, destination_ports, protocol, source_local, destination_local, zone) =
                rest;
            Pattern {
                family,
                source,
                destination,
                source_ports: if inverted {
                    Ports { first: 2, last: 1 }
                } else {
                    source_ports
                },
                destination_ports,
                protocol,
                source_local,
                destination_local,
                zone,
            }
        })
        .boxed()
}

fn flow() -> impl Strategy<Value = Fields> {
    (
        family(),
        (bits(), bits()),
        (port(), port()),
        protocol(),
        (any::<bool>(), any::<bool>()),
        zone(),
    )
        .prop_map(|(family, addresses, ports, protocol, local, zone)| {
            let cut = |bits: u128| Cidr::from_bits(family, bits, family.bits()).bits();
            Fields {
                family,
                source: cut(addresses.0),
                destination: cut(addresses.1),
                source_port: ports.0,
                destination_port: ports.1,
                protocol,
                locality: Locality {
                    source: local.0,
                    destination: local.1,
                },
                zone,
            }
        })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (pattern(), 0u64..5).prop_map(|(p, n)| Op::Insert(p, n)),
        10 => any::<usize>().prop_map(Op::Remove),
        20 => flow().prop_map(Op::Ask),
        5 => pattern().prop_map(Op::Region),
        1 => Just(Op::Clear),
    ]
}

fn run(pair: &mut Pair, ops: Vec<Op>) {
    for op in ops {
        match op {
            Op::Insert(pattern, priority) => pair.insert(pattern, priority),
            Op::Remove(pick) => pair.remove(pick),
            Op::Ask(flow) => {
                pair.ask(&flow);
                continue;
            }
            Op::Region(region) => {
                pair.ask_region(&region);
                continue;
            }
            Op::Clear => {
                pair.index.clear();
                pair.twin = LinearInterests::new();
                pair.ids.clear();
            }
        }
        pair.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 40 }))]

    /// Any edits over both families: checked after each.
    #[test]
    fn like_the_twin(seed: u64, ops in prop::collection::vec(op(), 0..150)) {
        run(&mut Pair::new(60, seed), ops);
    }

    /// One pair of prefixes with everything in it: lists become buckets, buckets split and become lists again.
    #[test]
    fn one_pair_is_like_the_twin(
        seed: u64,
        rules in prop::collection::vec((pattern(), 0u64..5, any::<bool>()), 0..200),
        flows in prop::collection::vec(flow(), 20),
    ) {
        let mut pair = Pair::new(200, seed);
        for (step, (pattern, priority, remove)) in rules.into_iter().enumerate() {
            let flooded = Pattern { family: Some(Family::V4), source: None, destination: None, ..pattern };
            pair.insert(flooded, priority);
            if remove {
                pair.remove(step * 7);
            }
            if step % 8 == 0 {
                pair.check();
                pair.ask_region(&pattern);
                let flow = flows[step / 8 % flows.len()];
                pair.ask(&Fields { family: Family::V4, source: 0, destination: 0, ..flow });
            }
        }
        while !pair.ids.is_empty() {
            pair.remove(pair.ids.len() / 2);
            if pair.ids.len() % 8 == 0 {
                pair.check();
            }
        }
        pair.check();
        prop_assert_eq!(pair.index.stats().prefixes, 0);
    }
}

/// Every set of prefixes of up to two bits on either side, of each family: every set of four patterns out of a small world,
/// in and out again in every order of removal that rotation gives, asked for every flow of the world.
#[test]
fn small_world_exhaustively() {
    let family = Family::V4;
    let sides: Vec<Option<Cidr>> = [None, Some((0u128, 0u8)), Some((0, 6)), Some((1 << 127, 7))]
        .map(|side| side.map(|(bits, len)| Cidr::from_bits(family, bits, len)))
        .into();
    let mut world = Vec::new();
    for &source in &sides {
        for &destination in &sides {
            world.push(Pattern {
                source,
                destination,
                ..Pattern::ANY
            });
        }
    }
    let flows: Vec<Fields> = (0..4u128)
        .map(|n| Fields {
            family,
            source: (n & 1) << 127,
            destination: (n >> 1) << 127,
            source_port: 0,
            destination_port: 0,
            protocol: Protocol::UDP,
            locality: Locality::default(),
            zone: Zone::default(),
        })
        .collect();
    let stride = if cfg!(miri) { 4001 } else { 61 };
    for code in (0..1usize << 16).step_by(stride) {
        let mut pair = Pair::new(16, code as u64);
        for digit in 0..4 {
            pair.insert(world[code >> (4 * digit) & 15], (code >> digit & 1) as u64);
        }
        pair.check();
        for round in 0..4 {
            for flow in &flows {
                pair.ask(flow);
            }
            pair.ask_region(&world[code >> (4 * round) & 15]);
            pair.remove(code >> round);
            pair.check();
        }
    }
}

/// Inserted patterns come back as they were, void ones too, and an id dies with its pattern.
#[test]
fn patterns_come_back() {
    let mut index = InterestIndex::new(8, 1);
    let v4 = Some(Cidr::all(Family::V4));
    let mixed = Pattern {
        source: v4,
        destination: Some(Cidr::all(Family::V6)),
        ..Pattern::ANY
    };
    let backwards = Pattern {
        destination_ports: Ports { first: 9, last: 3 },
        ..Pattern::ANY
    };
    let all = Pattern {
        source: v4,
        ..Pattern::ANY
    };
    for pattern in [Pattern::ANY, mixed, backwards, all] {
        let id = index.insert(pattern, 7, ()).unwrap();
        assert_eq!(index.pattern(id), Some(pattern));
        assert_eq!(index.priority(id), Some(7));
        assert_eq!(index.check(), Ok(()));
    }
    assert_eq!(index.iter().count(), 4);
    index.clear();
    assert_eq!(index.iter().count(), 0);
    assert_eq!(index.check(), Ok(()));
}

/// Crafted sets of both families: every list is right, and a lookup makes at most one probe for eight rules, or walks.
#[test]
fn crafted_rules_are_bounded() {
    let count = if cfg!(miri) { 60 } else { 600 };
    for attack in Attack::ALL {
        for family in [Family::V4, Family::V6] {
            let (rules, headers) = hostile::build(attack, family, count, 3);
            let mut pair = Pair::new(count, 9);
            for (at, rule) in rules.iter().enumerate() {
                pair.insert(rule.pattern, (at % 7) as u64);
            }
            pair.check();
            for header in headers.iter().take(20) {
                pair.ask(&header.flow);
                let probes = pair.scratch.probes();
                assert!(
                    probes * 8 <= rules.len(),
                    "{attack:?}: {probes} probes for {} rules",
                    rules.len()
                );
            }
            for pick in 0..rules.len() {
                pair.remove(pick * 7);
                if pick % 128 == 0 {
                    pair.check();
                    pair.ask(&headers[0].flow);
                }
            }
            pair.check();
        }
    }
}

/// Crafted rules among many plain ones: the walk, dropped by then, is built again while rules come and go.
#[test]
fn crafted_rules_bring_the_walk_back() {
    let mut pair = Pair::new(1000, 2);
    let host = |n: u128| Some(Cidr::from_bits(Family::V4, n << 96, 32));
    for n in 0..100 {
        let pattern = Pattern {
            source: host(n),
            destination: host(n * 3),
            ..Pattern::ANY
        };
        pair.insert(pattern, 1);
    }
    let (rules, headers) = hostile::build(Attack::Nested, Family::V4, 120, 3);
    for rule in &rules {
        pair.insert(rule.pattern, 0);
        pair.check();
        pair.ask(&headers[0].flow);
    }
    assert_eq!(pair.scratch.probes(), 0, "it walks");
    for step in 0..120 {
        pair.remove(step * 5 + 100);
        pair.check();
        pair.ask(&headers[0].flow);
    }
}

/// Lists like those in the field: few probes, of which most find, however many pairs of lengths are in use.
#[test]
fn field_lists_need_few_probes() {
    let count = if cfg!(miri) { 100 } else { 3000 };
    for (profile, family) in [
        (Profile::Acl, Family::V4),
        (Profile::Firewall, Family::V4),
        (Profile::Chain, Family::V6),
    ] {
        let (rules, trace) = rulegen::generate(profile, count, family, 5, 3000);
        let mut pair = Pair::new(count, 9);
        for (at, rule) in rules.iter().enumerate() {
            pair.insert(rule.pattern, at as u64);
        }
        pair.check();
        let (mut probes, mut most) = (0, 0);
        for header in &trace {
            pair.index.matches(&header.flow, &mut pair.scratch);
            probes += pair.scratch.probes();
            most = most.max(pair.scratch.probes());
        }
        for header in trace.iter().step_by(29) {
            pair.ask(&header.flow);
        }
        for rule in rules.iter().step_by(97) {
            pair.ask_region(&rule.pattern);
        }
        assert!(probes < 16 * trace.len() && most <= 80, "{probes} {most}");
    }
}

/// An address with more prefixes than the first match keeps room for at first.
#[test]
fn the_first_match_of_a_deep_address() {
    let mut pair = Pair::new(1_000, 9);
    for len in 70..120 {
        for n in 0..8 {
            let pattern = Pattern {
                source: Some(Cidr::from_bits(Family::V6, 0, len)),
                destination_ports: Ports::new(n, 100).unwrap_or(Ports::ALL),
                ..Pattern::ANY
            };
            pair.insert(pattern, u64::from(u16::from(len) * 31 % 50 + n));
        }
    }
    pair.check();
    for port in 0..12 {
        let flow = Fields {
            family: Family::V6,
            source: 0,
            destination: 0,
            source_port: 0,
            destination_port: port,
            protocol: Protocol::TCP,
            locality: Locality::default(),
            zone: Zone::default(),
        };
        pair.ask(&flow);
    }
    assert!(pair.scratch.probes() > 33, "{}", pair.scratch.probes());
}
