//! Prefix translation without state (RFC 6296) before a tracker that sees internal addresses only; cached and uncached the same.

use gufc::epoch::Change;
use gufc::hooks::conntrack::{Config, Conntrack, Reason};
use gufc::hooks::filter::{Filter, Policy, Table};
use gufc::hooks::nat::{EditError, Npt};
use gufc::hooks::route::{Routes, Target};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::{Interface, Packet};
use gufc::time::Instant;
use gufc::verdict::{Answer, Outcome, Verdict};
use gufc::wire::build::{Datagram, Transport};
use gufc::wire::{Arrival, Frame};
use proptest::prelude::*;

use super::pair::Pair;

type Hooks = (Npt<Tuple>, Conntrack<Tuple>, Routes, Filter);

const NOW: Instant = Instant::from_millis(1_000);
/// The network's side, the outside, and another outside.
const INNER: u32 = 1;
const OUTER: u32 = 2;
const SECOND: u32 = 3;

/// The site of RFC 6296's worked example.
const RULE: &str = "ip6 saddr fd01:203:405::/48 oif 2 snat prefix to 2001:db8:1::/48";
const FILTER: &str = "
    chain main {
        policy drop
        ct state invalid drop
        ct state established,related accept
        ip6 saddr fd01:203:405::/48 ct state new accept
        ip6 daddr fd01:203:405::/48 udp dport 53 accept
    }
";

fn hooks(rules: &[&str]) -> Hooks {
    let mut npt = Npt::new();
    for rule in rules {
        let _ = npt.insert(rule.parse().expect("a rule")).expect("sound");
    }
    let tracker = Conntrack::try_new(Config::new(64, [1, 2])).expect("room");
    let mut routes = Routes::try_new(16).expect("room");
    for (prefix, interface) in [
        ("fd01:203:405::/48", INNER),
        ("::/0", OUTER),
        ("2001:db8:cccc::/48", SECOND),
    ] {
        let hop = routes.add_next_hop(Interface(interface)).expect("room");
        let prefix = prefix.parse().expect("a prefix");
        let _ = routes.insert(prefix, Target::Via(hop)).expect("room");
    }
    let mut filter = Filter::new("filter", 100, 7, Policy::Drop);
    let table: Table = FILTER.parse().expect("rules");
    let _ = filter.commit(filter.diff(&table)).expect("room");
    (npt, tracker, routes, filter)
}

fn udp(key: &str, payload: &[u8]) -> Vec<u8> {
    let key: Tuple = key.parse().expect("a key");
    let (source, destination) = (key.source(), key.destination());
    let transport = Transport::udp(source.port, destination.port);
    let datagram = Datagram::new(source.address, destination.address, transport);
    datagram.with_payload(payload).emit().expect("a packet")
}

fn key_of(bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    frame.key().to_string()
}

struct World(Pair<Hooks>);

impl World {
    fn new(rules: &[&str]) -> Self {
        Self(Pair::new(|| hooks(rules)))
    }

    fn send(&mut self, bytes: &[u8], on: u32) -> (Outcome, Vec<u8>) {
        let result = self.0.process(bytes, on, NOW);
        let (cached, plain) = (self.0.cached.hooks(), &self.0.plain.hooks);
        assert_eq!(cached.0.counters(), plain.0.counters());
        let dump = |hooks: &Hooks| format!("{:?}", hooks.1.iter().collect::<Vec<_>>());
        assert_eq!(dump(cached), dump(plain));
        result
    }

    fn passes(&mut self, on: u32, key: &str, wanted: &str) {
        let bytes = udp(key, b"data");
        let (outcome, after) = self.send(&bytes, on);
        assert_eq!(outcome.verdict, Verdict::Accept, "{key}: {outcome:?}");
        assert_eq!(key_of(&after), wanted);
        // No transport header is touched, checksum included.
        assert_eq!(after[40..], bytes[40..]);
    }
}

#[test]
fn rfc6296_outbound_and_inbound_without_state() {
    let mut world = World::new(&[RULE]);
    let (out, outside) = (
        "udp [fd01:203:405:1::1234]:4000 > [2001:db8:ffff::1]:53",
        "udp [2001:db8:1:d550::1234]:4000 > [2001:db8:ffff::1]:53",
    );
    let (back, inside) = (
        "udp [2001:db8:ffff::1]:53 > [2001:db8:1:d550::1234]:4000",
        "udp [2001:db8:ffff::1]:53 > [fd01:203:405:1::1234]:4000",
    );
    for round in 0..3 {
        world.passes(INNER, out, outside);
        world.passes(OUTER, back, inside);
        assert_eq!(world.0.hits, 2 * round, "both ways from one session");
    }
    // The tracker has one connection, of internal addresses.
    let tracker = &world.0.cached.hooks().1;
    assert_eq!(tracker.len(), 1);
    let one = tracker.iter().next().expect("one");
    assert_eq!(one.tuple(gufc::hook::Direction::Original).to_string(), out);
    assert_eq!(one.tuple(gufc::hook::Direction::Reply).to_string(), inside);
    // From outside, to whom the filter lets in by his internal address.
    world.passes(
        OUTER,
        "udp [2001:db8:ffff::9]:9 > [2001:db8:1:d550::53]:53",
        "udp [2001:db8:ffff::9]:9 > [fd01:203:405:1::53]:53",
    );
    // Towards another interface nothing changes.
    world.passes(
        INNER,
        "udp [fd01:203:405:1::1234]:4000 > [2001:db8:cccc::1]:53",
        "udp [fd01:203:405:1::1234]:4000 > [2001:db8:cccc::1]:53",
    );
}

#[test]
fn rfc6296_longer_prefixes_adjust_the_identifier() {
    let rule = "ip6 saddr fd01:203:405:1::/64 oif 2 snat prefix to 2001:db8:1:2::/64";
    let mut world = World::new(&[rule]);
    for (inside, outside) in [
        ("fd01:203:405:1:abcd::1", "2001:db8:1:2:811c::1"),
        ("fd01:203:405:1:ffff::1", "2001:db8:1:2:ffff:d54e:0:1"),
    ] {
        world.passes(
            INNER,
            &format!("udp [{inside}]:4000 > [2001:db8:ffff::1]:53"),
            &format!("udp [{outside}]:4000 > [2001:db8:ffff::1]:53"),
        );
        world.passes(
            OUTER,
            &format!("udp [2001:db8:ffff::1]:53 > [{outside}]:4000"),
            &format!("udp [2001:db8:ffff::1]:53 > [{inside}]:4000"),
        );
    }
}

#[test]
fn rfc6296_3_4_what_cannot_be_mapped_is_told() {
    let mut world = World::new(&[RULE]);
    let out = udp(
        "udp [fd01:203:405:ffff::1]:4000 > [2001:db8:ffff::1]:53",
        b"",
    );
    let back = udp("udp [2001:db8:ffff::1]:53 > [2001:db8:1:ffff::1]:4000", b"");
    for number in 1..3 {
        let (outcome, after) = world.send(&out, INNER);
        assert_eq!(outcome.verdict, Verdict::Reject(Answer::HostUnreachable));
        assert_eq!((outcome.by.hook, after), ("npt", out.clone()));
        let (outcome, _) = world.send(&back, OUTER);
        assert_eq!(outcome.verdict, Verdict::Reject(Answer::HostUnreachable));
        assert_eq!(world.0.cached.hooks().0.counters().unmappable, 2 * number);
    }
}

#[test]
fn rfc6296_4_3_packets_to_the_own_outside_are_turned_back() {
    let mut world = World::new(&[RULE]);
    // fd01:203:405:2::/64 is 2001:db8:1:d551::/64 outside.
    for _ in 0..3 {
        world.passes(
            INNER,
            "udp [fd01:203:405:1::1]:4000 > [2001:db8:1:d551::2]:53",
            "udp [2001:db8:1:d550::1]:4000 > [fd01:203:405:2::2]:53",
        );
        world.passes(
            INNER,
            "udp [fd01:203:405:2::2]:53 > [2001:db8:1:d550::1]:4000",
            "udp [2001:db8:1:d551::2]:53 > [fd01:203:405:1::1]:4000",
        );
    }
}

#[test]
fn rfc6296_errors_with_what_they_quote() {
    let mut world = World::new(&[RULE]);
    let out = "udp [fd01:203:405:1::1234]:4000 > [2001:db8:ffff::1]:53";
    let (_, outside) = world.send(&udp(out, b"question"), INNER);
    let error = |from: &str, to: &str, quoted: &[u8]| {
        let transport = Transport::Icmp {
            kind: 3,
            code: 0,
            rest: [0; 4],
        };
        let (from, to) = (
            from.parse().expect("an address"),
            to.parse().expect("an address"),
        );
        let datagram = Datagram::new(from, to, transport);
        datagram.with_payload(quoted).emit().expect("a packet")
    };
    let check = |world: &mut World, bytes: Vec<u8>, on, key: &str, quoted: &str| {
        for _ in 0..2 {
            let (outcome, mut after) = world.send(&bytes, on);
            assert_eq!(outcome.verdict, Verdict::Accept, "{outcome:?}");
            let frame = Frame::<Tuple>::ip(&mut after, &Arrival::default()).expect("a packet");
            assert_eq!(frame.key().to_string(), key);
            assert_eq!(frame.quoted().expect("a packet").to_string(), quoted);
            assert!(frame.is_intact());
        }
    };
    // A router outside complains of what left.
    let bytes = error("2001:db8:5::1", "2001:db8:1:d550::1234", &outside);
    let key = "icmpv6 2001:db8:5::1 > fd01:203:405:1::1234 id 0 type 3 code 0";
    check(&mut world, bytes, OUTER, key, out);
    // A router inside complains of an answer.
    let back = "udp [2001:db8:ffff::1]:53 > [2001:db8:1:d550::1234]:4000";
    let (_, inside) = world.send(&udp(back, b"answer"), OUTER);
    let bytes = error("fd01:203:405:7::1", "2001:db8:ffff::1", &inside);
    let key = "icmpv6 2001:db8:1:d556::1 > 2001:db8:ffff::1 id 0 type 3 code 0";
    check(&mut world, bytes, INNER, key, back);
    assert_eq!(world.0.cached.hooks().1.count(Reason::IcmpUnknown), 0);
}

#[test]
fn rules_come_and_go() {
    let mut world = World::new(&[]);
    let out = "udp [fd01:203:405:1::1234]:4000 > [2001:db8:ffff::1]:53";
    world.passes(INNER, out, out);
    world.passes(INNER, out, out);
    let edit = |world: &mut World, edit: &dyn Fn(&mut Npt<Tuple>) -> Result<Change, EditError>| {
        world
            .0
            .plain
            .edit(|hooks| edit(&mut hooks.0).map(|change| ((), change)))
            .expect("sound");
        world
            .0
            .cached
            .edit(|hooks| edit(&mut hooks.0).map(|change| ((), change)))
            .expect("sound");
    };
    edit(&mut world, &|npt| npt.insert(RULE.parse().expect("a rule")));
    world.passes(
        INNER,
        out,
        "udp [2001:db8:1:d550::1234]:4000 > [2001:db8:ffff::1]:53",
    );
    edit(&mut world, &|npt| {
        npt.remove("2001:db8:1::/48".parse().expect("a prefix"))
    });
    world.passes(INNER, out, out);
    // What is no such rule.
    let mut npt: Npt<Tuple> = Npt::new();
    for rule in [
        "ip6 saddr fd01:203:405::/48 snat prefix to 2001:db8:1::/48",
        "ip6 saddr fd01:203:405::/48 oif 2 dnat prefix to 2001:db8:1::/48",
        "ip6 saddr fd01:203:405::/65 oif 2 snat prefix to 2001:db8:1::/64",
        "ip6 saddr fd01:203:405::/48 udp dport 5 oif 2 snat prefix to 2001:db8:1::/48",
        "ip saddr 10.0.0.0/8 oif 2 snat prefix to 192.0.2.0/24",
        "ip6 saddr fd01:203:405::/48 oif 2 masquerade",
    ] {
        assert_eq!(
            npt.insert(rule.parse().expect("a rule")),
            Err(EditError::Action),
            "{rule}"
        );
    }
    assert!(npt.insert(RULE.parse().expect("a rule")).is_ok());
    assert_eq!(
        npt.insert(RULE.parse().expect("a rule")),
        Err(EditError::Action)
    );
    let second = "ip6 saddr fd01:203:405::/48 oif 2 snat prefix to 2001:db8:2::/48";
    assert_eq!(
        npt.insert(second.parse().expect("a rule")),
        Err(EditError::Action),
        "one outside each way"
    );
    assert!(
        npt.insert(second.replace("oif 2", "oif 3").parse().expect("a rule"))
            .is_ok()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What comes back is what went out, with every byte behind the addresses as it was.
    #[test]
    fn there_and_back(host in any::<u128>(), peer: u64, payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut world = World::new(&[RULE]);
        let inside = std::net::Ipv6Addr::from_bits(0xfd01_0203_0405 << 80 | host >> 48);
        prop_assume!(inside.segments()[3] != 0xffff);
        let peer = std::net::Ipv6Addr::from_bits(0x2001_0db8_ffff << 80 | u128::from(peer));
        let out = udp(&format!("udp [{inside}]:4000 > [{peer}]:53"), &payload);
        let (outcome, outside) = world.send(&out, INNER);
        prop_assert_eq!(outcome.verdict, Verdict::Accept);
        prop_assert_eq!(&outside[40..], &out[40..]);
        let key: Tuple = key_of(&outside).parse().expect("a key");
        let back = udp(&key.inverse().expect("an answer").to_string(), &payload);
        let (outcome, after) = world.send(&back, OUTER);
        prop_assert_eq!(outcome.verdict, Verdict::Accept);
        let key: Tuple = key_of(&after).parse().expect("a key");
        prop_assert_eq!(key.destination().address, std::net::IpAddr::V6(inside));
        prop_assert_eq!(&after[40..], &back[40..]);
    }
}
