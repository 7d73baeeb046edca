//! Stateful translation between IPv6 and IPv4 (RFC 6146, RFC 7915), on real frames; every packet through a cached and an uncached
//! dataplane.

use gufc::hooks::conntrack::{Config, Conntrack, Timeouts};
use gufc::hooks::filter::{Filter, Policy, Table};
use gufc::hooks::nat::{EditError, End, Filtering, Live, Nat, Place, PoolConfig, PoolId};
use gufc::key::{Embedding, Endpoint, FlowKey, Ports, Tuple};
use gufc::packet::{Mtus, Packet, SegmentOptions, Seq, TcpFlags};
use gufc::testing::prng::SplitMix64;
use gufc::time::Instant;
use gufc::verdict::{Answer, Outcome, Verdict};
use gufc::wire::build::{Datagram, Tcp, Transport};
use gufc::wire::{ANSWER_MAX, Arrival, Cut, Frame, Notice};
use proptest::prelude::*;

use super::pair::Pair;

pub(super) type Hooks = (Nat<Tuple>, Filter);

/// The outside address.
pub(super) const OUTSIDE: &str = "198.51.100.1";
const PREFIX: &str = "64:ff9b::/96";
const HOST: &str = "2001:db8::7";
const SERVER: &str = "192.0.2.53";
const NOW: Instant = Instant::from_millis(1_000);

/// What the filter sees is what leaves: rules about IPv4 for packets that came as IPv6.
const FILTER: &str = "
    chain main {
        policy drop
        ct state invalid drop
        ct state established,related accept
        ip daddr 192.0.2.0/24 ct state new accept
        ip6 daddr 2001:db8::/32 ct state new accept
        ip6 daddr 64:ff9b::/96 drop
    }
";

pub(super) struct Setting {
    pub(super) filtering: Filtering,
    pub(super) prefix: &'static str,
    pub(super) mtus: Mtus,
    pub(super) ports: Ports,
    pub(super) answer: Option<Answer>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            filtering: Filtering::EndpointIndependent,
            prefix: PREFIX,
            mtus: Mtus {
                v4: 1500,
                v6: 1500,
                lowest_v6: 1280,
            },
            ports: Ports {
                first: 1024,
                last: 65_535,
            },
            answer: Some(Answer::HostUnreachable),
        }
    }
}

fn hooks(setting: &Setting) -> Hooks {
    let mut config = Config::new(64, [1, 2]);
    config.timeouts = vec![Timeouts::RFC];
    let tracker = Conntrack::try_new(config).expect("room");
    let mut nat = Nat::try_new(tracker, 16, [3, 4]).expect("room");
    let pool = nat
        .add_pool(PoolConfig {
            prefix64: Some(setting.prefix.parse().expect("a prefix")),
            filtering: setting.filtering,
            ports: setting.ports,
            answer: setting.answer,
            ..PoolConfig::new(vec![OUTSIDE.parse().expect("an address")])
        })
        .expect("room");
    nat.set_mtus(setting.mtus);
    let rule = format!("ip6 daddr {} nat64 to pool {}", setting.prefix, pool.0);
    let rule: gufc::hooks::nat::Rule = rule.parse().expect("a rule");
    assert_eq!(rule.to_string().parse(), Ok(rule.clone()));
    let _ = nat.insert(Place::Last, rule).expect("room");
    let mut filter = Filter::new("filter", 100, 7, Policy::Drop);
    let table: Table = FILTER.parse().expect("rules");
    let _ = filter.commit(filter.diff(&table)).expect("room");
    (nat, filter)
}

pub(super) struct World {
    pub(super) pair: Pair<Hooks>,
    pub(super) now: Instant,
}

pub(super) fn key_of(bytes: &[u8]) -> Tuple {
    let mut bytes = bytes.to_vec();
    let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    frame.key()
}

/// A packet with this key.
pub(super) fn packet(key: &Tuple, flags: TcpFlags, numbers: [u32; 2], payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (key.source(), key.destination());
    let transport: Transport = match key.protocol().0 {
        6 => {
            let mut header = Tcp::new(source.port, destination.port);
            header.flags = flags;
            (header.seq, header.ack) = (Seq(numbers[0]), Seq(numbers[1]));
            if flags.contains(TcpFlags::SYN) {
                header.options = SegmentOptions {
                    mss: Some(1400),
                    ..SegmentOptions::default()
                };
            }
            header.into()
        }
        17 => Transport::udp(source.port, destination.port),
        1 | 58 => {
            let [kind, _] = destination.port.to_be_bytes();
            Transport::query(kind, source.port, numbers[0] as u16)
        }
        other => panic!("protocol {other}"),
    };
    let mut datagram = Datagram::new(source.address, destination.address, transport);
    datagram.hop_limit = 57;
    datagram.traffic_class = 0x2e << 2 | 1;
    datagram.with_payload(payload).emit().expect("a packet")
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        Self {
            pair: Pair::new(|| hooks(setting)),
            now: NOW,
        }
    }

    pub(super) fn nat(&self) -> &Nat<Tuple> {
        &self.pair.cached.hooks().0
    }

    fn send(&mut self, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        self.send_cut(bytes, &Cut::default())
    }

    /// The same for a datagram that came so, and is cut again afterwards.
    pub(super) fn send_cut(&mut self, bytes: &[u8], cut: &Cut) -> (Outcome, Vec<u8>) {
        let result = self.pair.process_cut(bytes, 1, self.now, cut);
        let dump = |nat: &Nat<Tuple>| {
            let connections: Vec<_> = nat.tracker().iter().collect();
            let mappings: Vec<_> = nat.mappings().collect();
            format!("{connections:?} {mappings:?} {:?}", nat.counters())
        };
        assert_eq!(
            dump(&self.pair.cached.hooks().0),
            dump(&self.pair.plain.hooks.0)
        );
        self.pair.plain.hooks.0.check().expect("sound");
        result
    }

    /// A packet of no particular contents; as it leaves.
    fn pass(&mut self, key: &str) -> Option<String> {
        let key: Tuple = key.parse().expect("a key");
        let (outcome, after) = self.send(&packet(&key, TcpFlags::SYN, [1, 0], b"data"));
        (outcome.verdict == Verdict::Accept).then(|| key_of(&after).to_string())
    }

    fn passes(&mut self, key: &str, wanted: &str) {
        assert_eq!(self.pass(key).as_deref(), Some(wanted), "{key}");
    }
}

#[test]
fn rfc6146_3_5_1_udp_both_ways() {
    let mut world = World::new(&Setting::default());
    let (there, back) = (
        "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53",
        "udp 192.0.2.53:53 > 198.51.100.1:4000",
    );
    for round in 0..4 {
        world.passes(there, "udp 198.51.100.1:4000 > 192.0.2.53:53");
        world.passes(back, "udp [64:ff9b::c000:235]:53 > [2001:db8::7]:4000");
        let hits = world.pair.hits;
        assert_eq!(hits, 2 * round, "one session, both directions cached");
    }
    // Nothing but addresses, ports and the family: traffic class, hop limit, payload (RFC 7915 sections 4.1, 5.1).
    let key: Tuple = there.parse().expect("a key");
    let (_, after) = world.send(&packet(&key, TcpFlags::NONE, [0; 2], b"question"));
    assert_eq!((after[1], after[8]), (0x2e << 2 | 1, 57));
    assert_eq!(&after[28..], b"question");
    assert_eq!(after[6] & 0x40, 0, "short ones may be fragmented");
    let identification = [after[4], after[5]];
    let (_, again) = world.send(&packet(&key, TcpFlags::NONE, [0; 2], b"question"));
    assert_ne!([again[4], again[5]], identification);
    let (_, long) = world.send(&packet(&key, TcpFlags::NONE, [0; 2], &[7; 1300]));
    assert_eq!(
        (long[4], long[5], long[6]),
        (0, 0, 0x40),
        "long ones must not"
    );
}

#[test]
fn rfc6146_3_5_2_tcp_runs_the_window_step() {
    let mut world = World::new(&Setting::default());
    let there: Tuple = "tcp [2001:db8::7]:4000 > [64:ff9b::c000:235]:80"
        .parse()
        .expect("a key");
    let back: Tuple = "tcp 192.0.2.53:80 > 198.51.100.1:4000"
        .parse()
        .expect("a key");
    let both = TcpFlags::SYN | TcpFlags::ACK;
    let steps: [(&Tuple, TcpFlags, [u32; 2], &[u8]); 8] = [
        (&there, TcpFlags::SYN, [100, 0], b""),
        (&back, both, [500, 101], b""),
        (&there, TcpFlags::ACK, [101, 501], b""),
        (&there, TcpFlags::ACK, [101, 501], b"GET"),
        (&back, TcpFlags::ACK, [501, 104], b"200"),
        (&there, TcpFlags::ACK, [104, 504], b""),
        (&there, TcpFlags::ACK, [104, 504], b"GET"),
        (&back, TcpFlags::ACK, [504, 107], b"200"),
    ];
    for (number, (key, flags, numbers, data)) in steps.into_iter().enumerate() {
        let (outcome, after) = world.send(&packet(key, flags, numbers, data));
        assert_eq!(outcome.verdict, Verdict::Accept, "{number}: {outcome:?}");
        let other = if key == &there { &back } else { &there };
        let wanted = other.inverse().expect("an answer");
        assert_eq!(key_of(&after), wanted);
        let mut bytes = after.clone();
        let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
        let segment = frame.segment().expect("a segment");
        assert_eq!((segment.seq.0, segment.ack.0), (numbers[0], numbers[1]));
        assert!(after.ends_with(data));
    }
    assert!(world.pair.hits >= 3, "{}", world.pair.hits);
    // A segment out of all windows is invalid, whichever family it comes from.
    let (outcome, _) = world.send(&packet(&back, TcpFlags::ACK, [9_000_000, 107], b"x"));
    assert_eq!(outcome.verdict, Verdict::Drop);
    // The end: the mapping goes with the connection.
    let fin = TcpFlags::FIN | TcpFlags::ACK;
    let _ = world.send(&packet(&there, fin, [107, 507], b""));
    let _ = world.send(&packet(&back, fin, [507, 108], b""));
    let _ = world.send(&packet(&there, TcpFlags::ACK, [108, 508], b""));
    assert_eq!(world.nat().mappings().count(), 1);
    world.now = NOW + gufc::time::Duration::from_secs(241);
    let _ = world.pair.cached.edit(|hooks| {
        hooks
            .0
            .maintain(NOW + gufc::time::Duration::from_secs(241), 1000);
        Ok::<_, ()>(((), gufc::epoch::Change::nothing()))
    });
    assert_eq!(
        world.nat().mappings().count(),
        0,
        "four minutes (RFC 6146 section 4)"
    );
    assert_eq!(world.nat().pool(PoolId(0)).map(|pool| pool.lent()), Some(0));
}

#[test]
fn rfc6146_3_5_3_echo_both_ways() {
    let mut world = World::new(&Setting::default());
    for _ in 0..3 {
        world.passes(
            "icmpv6 2001:db8::7 > 64:ff9b::c000:235 id 4000 type 128 code 0",
            "icmp 198.51.100.1 > 192.0.2.53 id 4000 type 8 code 0",
        );
        world.passes(
            "icmp 192.0.2.53 > 198.51.100.1 id 4000 type 0 code 0",
            "icmpv6 64:ff9b::c000:235 > 2001:db8::7 id 4000 type 129 code 0",
        );
    }
    assert!(world.pair.hits >= 3);
    // Another host, the same identifier.
    let other = world.pass("icmpv6 2001:db8::8 > 64:ff9b::c000:235 id 4000 type 128 code 0");
    let other = other.expect("passes");
    assert!(
        other.starts_with("icmp 198.51.100.1 > 192.0.2.53 id "),
        "{other}"
    );
    assert!(!other.contains("id 4000 "), "{other}");
}

#[test]
fn rfc6052_every_prefix_length() {
    for prefix in [
        "2001:db9::/32",
        "2001:db9:100::/40",
        "2001:db9:122::/48",
        "2001:db9:122:300::/56",
        "2001:db9:122:344::/64",
        "2001:db9:122:344::/96",
        "64:ff9b::/96",
    ] {
        let mut world = World::new(&Setting {
            prefix,
            ..Setting::default()
        });
        let embedding: Embedding = prefix.parse().expect("a prefix");
        let server = embedding.embed(SERVER.parse().expect("an address"));
        world.passes(
            &format!("udp [{HOST}]:4000 > [{server}]:53"),
            "udp 198.51.100.1:4000 > 192.0.2.53:53",
        );
        world.passes(
            "udp 192.0.2.53:53 > 198.51.100.1:4000",
            &format!("udp [{server}]:53 > [{HOST}]:4000"),
        );
    }
}

#[test]
fn rfc6146_3_1_one_binding_for_all_peers_and_two_hosts_share_none() {
    let mut world = World::new(&Setting::default());
    world.passes(
        "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53",
        "udp 198.51.100.1:4000 > 192.0.2.53:53",
    );
    world.passes(
        "udp [2001:db8::7]:4000 > [64:ff9b::c000:236]:99",
        "udp 198.51.100.1:4000 > 192.0.2.54:99",
    );
    assert_eq!(world.nat().mappings().count(), 1);
    let other = world.pass("udp [2001:db8::8]:4000 > [64:ff9b::c000:235]:53");
    let other: Tuple = other.expect("passes").parse().expect("a key");
    assert_ne!(other.source().port, 4000);
    assert_eq!(
        other.source().port % 2,
        0,
        "parity (RFC 6146 section 3.5.1.1)"
    );
    assert_eq!(world.nat().mappings().count(), 2);
}

#[test]
fn rfc6146_3_5_filtering() {
    for (filtering, stranger, neighbour) in [
        (Filtering::EndpointIndependent, true, true),
        (Filtering::AddressDependent, false, true),
        (Filtering::AddressAndPortDependent, false, false),
    ] {
        let mut world = World::new(&Setting {
            filtering,
            ..Setting::default()
        });
        world.passes(
            "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53",
            "udp 198.51.100.1:4000 > 192.0.2.53:53",
        );
        let seen = world.pass("udp 203.0.113.9:53 > 198.51.100.1:4000");
        let wanted = "udp [64:ff9b::cb00:7109]:53 > [2001:db8::7]:4000";
        assert_eq!(seen.as_deref(), stranger.then_some(wanted), "{filtering:?}");
        let seen = world.pass("udp 192.0.2.53:9999 > 198.51.100.1:4000");
        let wanted = "udp [64:ff9b::c000:235]:9999 > [2001:db8::7]:4000";
        assert_eq!(
            seen.as_deref(),
            neighbour.then_some(wanted),
            "{filtering:?}"
        );
        if stranger {
            // And its answer goes back the same way.
            world.passes(
                "udp [2001:db8::7]:4000 > [64:ff9b::cb00:7109]:53",
                "udp 198.51.100.1:4000 > 203.0.113.9:53",
            );
        }
    }
}

#[test]
fn rfc6146_3_1_static_bindings_let_connections_in() {
    let mut world = World::new(&Setting::default());
    assert_eq!(world.pass("tcp 203.0.113.9:1000 > 198.51.100.1:80"), None);
    let inside: Tuple = "tcp [2001:db8::80]:8080 > [::]:0".parse().expect("a key");
    let outside = Endpoint::new(OUTSIDE.parse().expect("an address"), 80);
    let forward = |nat: &mut Nat<Tuple>| nat.forward(PoolId(0), &inside, outside).expect("free");
    forward(&mut world.pair.plain.hooks.0);
    let _ = world.pair.cached.edit(|hooks| {
        forward(&mut hooks.0);
        Ok::<_, ()>(((), gufc::epoch::Change::nothing()))
    });
    world.passes(
        "tcp 203.0.113.9:1000 > 198.51.100.1:80",
        "tcp [64:ff9b::cb00:7109]:1000 > [2001:db8::80]:8080",
    );
    let key = "tcp [2001:db8::80]:8080 > [64:ff9b::cb00:7109]:1000"
        .parse()
        .expect("a key");
    let answer = packet(&key, TcpFlags::SYN | TcpFlags::ACK, [7, 2], b"");
    let (outcome, after) = world.send(&answer);
    assert_eq!(outcome.verdict, Verdict::Accept);
    assert_eq!(
        key_of(&after).to_string(),
        "tcp 198.51.100.1:80 > 203.0.113.9:1000"
    );
}

#[test]
fn rfc6146_3_8_hairpinning() {
    let mut world = World::new(&Setting::default());
    world.passes(
        "udp [2001:db8::8]:5000 > [64:ff9b::c000:235]:53",
        "udp 198.51.100.1:5000 > 192.0.2.53:53",
    );
    // To the outside end of a neighbour: from one's own outside end, and IPv6 all the way.
    for _ in 0..3 {
        world.passes(
            "udp [2001:db8::7]:4000 > [64:ff9b::c633:6401]:5000",
            "udp [64:ff9b::c633:6401]:4000 > [2001:db8::8]:5000",
        );
        world.passes(
            "udp [2001:db8::8]:5000 > [64:ff9b::c633:6401]:4000",
            "udp [64:ff9b::c633:6401]:5000 > [2001:db8::7]:4000",
        );
    }
    assert!(world.pair.hits >= 3);
    // To an outside end that nobody has.
    assert_eq!(
        world.pass("udp [2001:db8::7]:4000 > [64:ff9b::c633:6401]:5001"),
        None
    );
    assert_eq!(world.nat().counters().filtered, 1);
}

fn error(from: &str, to: &str, kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let transport = Transport::Icmp { kind, code, rest };
    let (from, to) = (
        from.parse().expect("an address"),
        to.parse().expect("an address"),
    );
    let datagram = Datagram::new(from, to, transport);
    datagram.with_payload(quoted).emit().expect("a packet")
}

/// The error's type and code, source, bytes behind the checksum, and the key of the packet in it.
fn read_error(bytes: &[u8]) -> (u8, u8, String, [u8; 4], String) {
    let mut bytes = bytes.to_vec();
    let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    assert!(frame.is_intact());
    let transport = frame.transport();
    (
        transport[0],
        transport[1],
        frame.key().source().address.to_string(),
        transport[4..8].try_into().expect("four"),
        frame.quoted().expect("a packet in it").to_string(),
    )
}

#[test]
fn rfc7915_errors_cross_with_what_they_quote() {
    let mut world = World::new(&Setting::default());
    let there = "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53";
    let sent = packet(
        &there.parse().expect("a key"),
        TcpFlags::NONE,
        [0; 2],
        b"question",
    );
    let (_, outside) = world.send(&sent);
    // A router on the way, and the server itself.
    for (from, kind, code, wanted, source) in [
        ("203.0.113.77", 11, 0, (3, 0), "64:ff9b::cb00:714d"),
        ("203.0.113.77", 3, 1, (1, 0), "64:ff9b::cb00:714d"),
        ("192.0.2.53", 3, 3, (1, 4), "64:ff9b::c000:235"),
    ] {
        let (outcome, after) = world.send(&error(from, OUTSIDE, kind, code, [0; 4], &outside));
        assert_eq!(outcome.verdict, Verdict::Accept);
        let (kind, code, from, _, quoted) = read_error(&after);
        assert_eq!((kind, code), wanted);
        assert_eq!((&*from, &*quoted), (source, there));
        assert_eq!(key_of(&after).destination().address.to_string(), HOST);
    }
    // Too big: the MTU is that of IPv6 (RFC 7915 section 4.2).
    let (_, after) = world.send(&error(
        "203.0.113.77",
        OUTSIDE,
        3,
        4,
        [0, 0, 0x05, 0x78],
        &outside,
    ));
    let (kind, code, _, rest, _) = read_error(&after);
    assert_eq!((kind, code, rest), (2, 0, 1420u32.to_be_bytes()));
    // The other way: a router inside complains of an answer.
    let back = "udp 192.0.2.53:53 > 198.51.100.1:4000";
    let answer = packet(
        &back.parse().expect("a key"),
        TcpFlags::NONE,
        [0; 2],
        b"answer",
    );
    let (_, inside) = world.send(&answer);
    let prefix = "64:ff9b::c000:235";
    let (outcome, after) = world.send(&error(
        "2001:db8:5::1",
        prefix,
        2,
        0,
        1400u32.to_be_bytes(),
        &inside,
    ));
    assert_eq!(outcome.verdict, Verdict::Accept);
    let (kind, code, from, rest, quoted) = read_error(&after);
    assert_eq!((kind, code, rest), (3, 4, 1380u32.to_be_bytes()));
    assert_eq!((&*from, &*quoted), (OUTSIDE, back));
    // Corrupt ones, and errors about nothing known, do not pass.
    let mut corrupt = error("203.0.113.77", OUTSIDE, 11, 0, [0; 4], &outside);
    *corrupt.last_mut().expect("bytes") ^= 1;
    let (outcome, _) = world.send(&corrupt);
    assert_eq!(outcome.verdict, Verdict::Drop);
    let stranger = packet(
        &"udp 198.51.100.1:4001 > 192.0.2.53:53"
            .parse()
            .expect("a key"),
        TcpFlags::NONE,
        [0; 2],
        b"",
    );
    let (outcome, _) = world.send(&error("203.0.113.77", OUTSIDE, 11, 0, [0; 4], &stranger));
    assert_eq!(outcome.verdict, Verdict::Drop);
}

#[test]
fn rfc6052_3_1_addresses_that_nobody_outside_has() {
    let mut world = World::new(&Setting::default());
    for (number, address) in [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "169.254.1.1",
    ]
    .into_iter()
    .enumerate()
    {
        let server = Embedding::WELL_KNOWN.embed(address.parse().expect("an address"));
        assert_eq!(
            world.pass(&format!("udp [{HOST}]:4000 > [{server}]:53")),
            None,
            "{address}"
        );
        assert_eq!(world.nat().counters().unreachable, number as u64 + 1);
        assert_eq!(world.nat().mappings().count(), 0, "nothing is left of it");
        assert_eq!(world.nat().tracker().len(), 0);
    }
    // By a prefix of one's own a private network can be reached (but this filter lets nobody).
    let mut world = World::new(&Setting {
        prefix: "2001:db9::/96",
        ..Setting::default()
    });
    assert_eq!(
        world.pass("udp [2001:db8::7]:4000 > [2001:db9::a00:1]:53"),
        None
    );
    assert_eq!(world.nat().counters().unreachable, 0);
    assert_eq!(
        world.nat().mappings().count(),
        0,
        "a refused packet leaves no mapping"
    );
}

#[test]
fn rfc7915_4_what_does_not_fit_is_told() {
    let mut world = World::new(&Setting::default());
    let there = "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53";
    world.pass(there).expect("passes");
    let key: Tuple = "udp 192.0.2.53:53 > 198.51.100.1:4000"
        .parse()
        .expect("a key");
    let mut datagram = Datagram::new(
        key.source().address,
        key.destination().address,
        Transport::udp(53, 4000),
    );
    datagram.dont_fragment = true;
    for round in 0..3 {
        let datagram = datagram.clone().with_payload(&[1; 1460]);
        let bytes = datagram.emit().expect("a packet");
        let (outcome, after) = world.send(&bytes);
        assert_eq!(outcome.verdict, Verdict::Reject(Answer::TooBig), "{round}");
        assert_eq!(after, bytes, "as it was");
        let mut bytes = bytes.clone();
        let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
        let mtu = Setting::default().mtus.told(frame.family());
        assert_eq!(mtu, 1480);
        let mut out = [0; ANSWER_MAX];
        let from = OUTSIDE.parse().expect("an address");
        let length = frame
            .answer(Notice::TooBig { mtu }, from, &mut out)
            .expect("an answer");
        let (kind, code, _, rest, _) = read_error(&out[..length]);
        assert_eq!((kind, code, rest), (3, 4, 1480u32.to_be_bytes()));
        // What fits passes still, from the cache.
        world
            .pass("udp 192.0.2.53:53 > 198.51.100.1:4000")
            .expect("passes");
    }
    let fits = datagram
        .clone()
        .with_payload(&[1; 1452])
        .emit()
        .expect("a packet");
    assert_eq!(world.send(&fits).0.verdict, Verdict::Accept);
    // One that may be fragmented has to be.
    datagram.dont_fragment = false;
    let long = datagram.with_payload(&[1; 1300]).emit().expect("a packet");
    assert_eq!(world.send(&long).0.verdict, Verdict::Drop);
    assert_eq!(world.nat().counters().untranslated, 4);
}

#[test]
fn rfc6146_3_5_what_has_been_translated_is_not_again() {
    for prefix in [PREFIX, "2001:db9:122::/48"] {
        let mut world = World::new(&Setting {
            prefix,
            ..Setting::default()
        });
        let embedding: Embedding = prefix.parse().expect("a prefix");
        let [own, server] = ["203.0.113.9", SERVER].map(|one| {
            let one = one.parse().expect("an address");
            embedding.embed(one)
        });
        assert_eq!(
            world.pass(&format!("udp [{own}]:4000 > [{server}]:53")),
            None
        );
        assert_eq!(world.nat().counters().unreachable, 1);
        assert_eq!(world.nat().mappings().count(), 0);
    }
}

/// Address unreachable, to the sender and about what he sent; whatever is said of other rules.
#[test]
fn rfc6146_3_5_1_1_who_gets_no_port_is_told() {
    let few = Ports {
        first: 4000,
        last: 4000,
    };
    for (answer, wanted) in [
        (PoolConfig::new(Vec::new()).answer, Some((1, 3))),
        (Some(Answer::AdminProhibited), Some((1, 1))),
        (None, None),
    ] {
        let mut world = World::new(&Setting {
            ports: few,
            answer,
            ..Setting::default()
        });
        for protocol in ["udp", "tcp"] {
            let at = |host| format!("{protocol} [{host}]:4000 > [64:ff9b::c000:235]:80");
            world.pass(&at("2001:db8::7")).expect("passes");
            let key: Tuple = at("2001:db8::8").parse().expect("a key");
            let mut bytes = packet(&key, TcpFlags::SYN, [1, 0], b"data");
            let (outcome, after) = world.send(&bytes);
            assert_eq!(after, bytes, "as it was");
            let told = match outcome.verdict {
                Verdict::Reject(answer) => {
                    let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default());
                    let mut out = [0; ANSWER_MAX];
                    let own = "2001:db8::1".parse().expect("an address");
                    let length = frame
                        .expect("a packet")
                        .answer(answer.into(), own, &mut out);
                    let (kind, code, _, _, quoted) = read_error(&out[..length.expect("answered")]);
                    assert_eq!(quoted, key.to_string());
                    Some((kind, code))
                }
                other => {
                    assert_eq!(other, Verdict::Drop);
                    None
                }
            };
            assert_eq!(told, wanted);
        }
        assert_eq!(world.nat().counters().unlent, 2);
        assert_eq!(world.nat().mappings().count(), 2);
    }
}

#[test]
fn rules_and_pools_have_to_match() {
    let (mut nat, _) = hooks(&Setting::default());
    let plain = PoolConfig::new(vec![OUTSIDE.parse().expect("an address")]);
    let plain = nat.add_pool(plain).expect("room");
    let mut insert = |rule: String| {
        let rule = rule.parse().expect("a rule");
        nat.insert(Place::Last, rule).map(|_| ())
    };
    assert_eq!(
        insert("ip6 daddr 64:ff9b::/96 nat64 to pool 0".into()),
        Ok(())
    );
    assert_eq!(
        insert(format!("nat64 to pool {}", plain.0)),
        Err(EditError::Action)
    );
    assert_eq!(insert("nat64 to pool 9".into()), Err(EditError::Action));
    assert_eq!(
        insert("ip saddr 10.0.0.0/8 nat64 to pool 0".into()),
        Err(EditError::Action)
    );
    assert_eq!(insert("snat to pool 0".into()), Err(EditError::Action));
}

/// The outside address is this machine's own, and its packets are for it until they are translated.
#[test]
fn outside_addresses_may_be_local() {
    let mut world = World::new(&Setting::default());
    let own: core::net::IpAddr = OUTSIDE.parse().expect("an address");
    let set = |nat: &mut Nat<Tuple>| nat.set_addresses(gufc::packet::Interface(2), &[own]);
    set(&mut world.pair.plain.hooks.0);
    let _ = world.pair.cached.edit(|hooks| {
        set(&mut hooks.0);
        Ok::<_, ()>(((), gufc::epoch::Change::nothing()))
    });
    world.pair.local = vec![own];
    for round in 0..3 {
        world.passes(
            "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53",
            "udp 198.51.100.1:4000 > 192.0.2.53:53",
        );
        world.passes(
            "udp 192.0.2.53:53 > 198.51.100.1:4000",
            "udp [64:ff9b::c000:235]:53 > [2001:db8::7]:4000",
        );
        assert_eq!(world.pair.hits, 2 * round);
    }
}

/// A rule that goes takes its connections along if it is told to, in both families, and then nothing is left of them.
#[test]
fn rules_end_with_their_connections_or_without() {
    let there = "udp [2001:db8::7]:4000 > [64:ff9b::c000:235]:53";
    let back = "udp 192.0.2.53:53 > 198.51.100.1:4000";
    for live in [Live::Keep, Live::End] {
        let mut world = World::new(&Setting::default());
        for _ in 0..2 {
            world.pass(there).expect("passes");
            world.pass(back).expect("passes");
        }
        let remove = |nat: &mut Nat<Tuple>| {
            let rule = nat.rules(End::Destination).next().map(|(id, ..)| id);
            nat.remove(rule.expect("one"), live)
                .map(|(_, change)| ((), change))
        };
        world
            .pair
            .plain
            .edit(|hooks| remove(&mut hooks.0))
            .expect("there");
        world
            .pair
            .cached
            .edit(|hooks| remove(&mut hooks.0))
            .expect("there");
        assert_eq!(world.pass(back).is_some(), live == Live::Keep);
        assert_eq!(world.pass(there).is_some(), live == Live::Keep);
        let left = usize::from(live == Live::Keep);
        assert_eq!(world.nat().mappings().count(), left);
        assert_eq!(
            world.nat().pool(PoolId(0)).map(|pool| pool.lent()),
            Some(left)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever hosts and servers send: cached or not it is the same, no two bindings share an outside end, and what answers a
    /// packet that passed comes back to its sender, from whom it wrote to.
    #[test]
    fn stories(seed: u64, filtering in 0usize..3) {
        let filtering = [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent][filtering];
        let mut world = World::new(&Setting { filtering, ..Setting::default() });
        let mut chance = SplitMix64(seed);
        let mut seen: Vec<(Tuple, Tuple)> = Vec::new();
        for _ in 0..60 {
            world.now = world.now + gufc::time::Duration::from_secs(chance.below(40));
            let host = format!("2001:db8::{}", 1 + chance.below(3));
            let server = match chance.below(8) {
                0 => Embedding::WELL_KNOWN.embed(OUTSIDE.parse().expect("an address")),
                1 => Embedding::WELL_KNOWN.embed("10.1.1.1".parse().expect("an address")),
                n => Embedding::WELL_KNOWN.embed([192, 0, 2, 1 + (n % 3) as u8].into()),
            };
            let (port, other) = (4000 + chance.below(3), 4000 + chance.below(3));
            let key = match chance.below(4) {
                0 => format!("icmpv6 {host} > {server} id {port} type 128 code 0"),
                1 => format!("tcp [{host}]:{port} > [{server}]:{other}"),
                2 => format!("udp 192.0.2.{}:{other} > {OUTSIDE}:{port}", 1 + chance.below(3)),
                _ => format!("udp [{host}]:{port} > [{server}]:{other}"),
            };
            let key: Tuple = key.parse().expect("a key");
            let payload = vec![chance.next() as u8; chance.below(40) as usize];
            let (outcome, after) = world.send(&packet(&key, TcpFlags::SYN, [1, 0], &payload));
            if outcome.verdict == Verdict::Accept {
                let left = key_of(&after);
                prop_assert!(after.ends_with(&payload));
                let answer = left.inverse().expect("an answer");
                let flags = TcpFlags::SYN | TcpFlags::ACK;
                let (outcome, after) = world.send(&packet(&answer, flags, [1, 2 + payload.len() as u32], &payload));
                prop_assert_eq!(outcome.verdict, Verdict::Accept, "{} of {}", answer, key);
                prop_assert_eq!(Some(key_of(&after)), key.inverse());
                prop_assert!(after.ends_with(&payload));
                seen.push((key, left));
            }
            let mut ends: Vec<_> = world.nat().mappings().map(|m| (m.protocol(), m.outside)).collect();
            let count = ends.len();
            ends.sort();
            ends.dedup();
            prop_assert_eq!(ends.len(), count);
        }
        prop_assert!(!seen.is_empty());
    }
}
