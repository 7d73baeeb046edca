//! Translation: what a rewrite adds to a cached packet, what a new translation costs, how many places a choice of port looks at.
//!
//! The peers are the published crates `arcbox-conntrack` and `pktkit`. What they leave out, so that their figures are read for
//! what they are:
//!
//! | | `arcbox-conntrack` | `pktkit` |
//! |---|---|---|
//! | IPv6, other protocols than TCP and UDP | passed untranslated | no IPv6; ICMP queries and errors are translated |
//! | rules, destinations, prefixes, ranges | one prefix to one address | one address; port forwards |
//! | port choice | in turn, whether or not another has it | in turn, each looked up |
//! | port kept, parity, quotas, blocks, rest | none | none |
//! | mapping | by connection | by inside end; anybody may answer |
//! | TCP windows and states, invalid packets | none | a FIN shortens the lifetime |
//! | bound on memory | none | the ports of one address |
//! | checksums | incremental | incremental; each packet is copied to the heap, under a mutex |
//! | filter, routes, events, edits seen by cached flows | none | none |
//!
//! Each work begins with a copy of the packet from its template, for all alike.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arcbox_conntrack::{NatDirection, NatEngine, NatEngineConfig, NatResult};
use gufc::cache::{self, FlowCache};
use gufc::hooks::conntrack::{Config, Conntrack};
use gufc::hooks::nat::{Nat, Place, Pool, PoolConfig};
use gufc::hooks::route::{Options, Routes, Target};
use gufc::key::{Ports, Protocol, SevenTuple};
use gufc::packet::Interface;
use gufc::time::Instant;
use gufc::verdict::Path;
use gufc::wire::build::{Datagram, Transport, ethernet};
use gufc::wire::{Arrival, Frame};
use pktkit::L3Device;

use crate::report::{Contender, OURS, Report, median, thread_time};

type V4 = SevenTuple<Ipv4Addr>;
type Gateway = FlowCache<V4, (Nat<V4>, Routes)>;

const NOW: Instant = Instant::from_secs(1);
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Ethernet, IPv4, UDP and 64 bytes.
const LENGTH: usize = 14 + 20 + 8 + 64;

pub fn run(report: &mut Report) {
    hits(report);
    opens(report);
    choices(report);
}

/// First packets of so many flows, each of an inside end of its own.
fn packets(count: usize) -> Vec<[u8; LENGTH]> {
    (0..count as u32)
        .map(|n| {
            let source = IpAddr::from((0x0a00_0000 | (1 + n / 8)).to_be_bytes());
            let peer = IpAddr::from([198, 51, 100, (n % 200) as u8]);
            let transport = Transport::udp(20_000 + (n % 40_000) as u16, 53);
            let packet = Datagram::new(source, peer, transport)
                .with_payload(&[7; 64])
                .emit();
            let bytes = ethernet([2; 6], [4; 6], &[], &packet.expect("a packet"));
            bytes.try_into().expect("its length")
        })
        .collect()
}

fn gateway(capacity: u32, rule: Option<&str>) -> Gateway {
    let mut config = Config::new(capacity, [1, 2]);
    config.checksum = false;
    let tracker = Conntrack::try_new(config).expect("room");
    let mut nat = Nat::try_new(tracker, 8, [3, 4]).expect("room");
    nat.set_addresses(Interface(2), &[OWN.into()]);
    nat.add_pool(PoolConfig::new(vec![OWN.into()]))
        .expect("room");
    if let Some(rule) = rule {
        let _ = nat
            .insert(Place::Last, rule.parse().expect("a rule"))
            .expect("room");
    }
    let options = Options {
        decrement: true,
        ..Options::default()
    };
    let mut routes = Routes::with_options(4, 0, 2, options).expect("room");
    for (prefix, interface) in [("10.0.0.0/8", 1), ("0.0.0.0/0", 2)] {
        let hop = routes.add_next_hop(Interface(interface)).expect("room");
        let _ = routes
            .insert(prefix.parse().expect("a prefix"), Target::Via(hop))
            .expect("room");
    }
    let config = cache::Config {
        sessions: capacity as usize,
        ..cache::Config::new([5, 6])
    };
    FlowCache::new(config, (nat, routes)).expect("room")
}

/// Takes every packet through; counts those that left, and checks how.
fn play(gateway: &mut Gateway, packets: &[[u8; LENGTH]], path: Option<Path>) -> u64 {
    let arrival = Arrival::on(Interface(1));
    let mut left = 0;
    for packet in packets {
        let mut bytes = *packet;
        let mut frame: Frame<'_, V4> = Frame::ethernet(&mut bytes, &arrival).expect("a frame");
        let outcome = gateway.process(&mut frame, NOW);
        debug_assert!(path.is_none_or(|path| path == outcome.path));
        left += u64::from(outcome.verdict.is_accept());
        black_box(&bytes);
    }
    left
}

fn arcbox() -> NatEngine {
    let config = NatEngineConfig::new(OWN).with_port_range(1024, 65_535);
    let mut engine = NatEngine::new(&config);
    engine.set_internal_network(Ipv4Addr::new(10, 0, 0, 0), 8);
    engine
}

fn play_arcbox(engine: &mut NatEngine, packets: &[[u8; LENGTH]]) -> u64 {
    let mut left = 0;
    for packet in packets {
        let mut bytes = *packet;
        let result = engine.translate(&mut bytes, NatDirection::Outbound);
        left += u64::from(matches!(result, Ok(NatResult::Translated)));
        black_box(&bytes);
    }
    left
}

struct Pktkit {
    inside: Arc<dyn L3Device>,
    left: Arc<AtomicU64>,
    _nat: Arc<pktkit::nat::Nat>,
}

fn pktkit_nat() -> Pktkit {
    let prefix = |text: &str| text.parse().expect("a prefix");
    let nat = pktkit::nat::Nat::new(prefix("10.255.255.254/8"), prefix("203.0.113.1/24"));
    let left = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&left);
    nat.outside().set_handler(Arc::new(move |packet| {
        black_box(packet.as_bytes());
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }));
    Pktkit {
        inside: nat.inside(),
        left,
        _nat: nat,
    }
}

fn play_pktkit(nat: &Pktkit, packets: &[[u8; LENGTH]]) -> u64 {
    let before = nat.left.load(Ordering::Relaxed);
    for packet in packets {
        let bytes = *packet;
        let _ = nat.inside.send(pktkit::Packet::from_slice(&bytes[14..]));
    }
    nat.left.load(Ordering::Relaxed) - before
}

/// Established flows, one packet of each in turn: the same tracker, routes and cache, with and without a rewrite.
fn hits(report: &mut Report) {
    for (count, label) in [(1_000, "1k"), (40_000, "40k")] {
        let work = format!("nat hit v4 {label}");
        if !report.wants(&work) {
            continue;
        }
        let packets = packets(count);
        let mut translated = gateway(65_536, Some("oif 2 masquerade"));
        let mut plain = gateway(65_536, None);
        let (mut arcbox, pktkit) = (arcbox(), pktkit_nat());
        for gateway in [&mut translated, &mut plain] {
            play(gateway, &packets, None);
        }
        assert_eq!(translated.hooks().0.counters().translated, count as u64);
        assert_eq!(plain.hooks().0.counters().translated, 0);
        let hit = Some(Path::Hit);
        report.measure(
            &work,
            count,
            Some(("untranslated", 1.3)),
            vec![
                Contender::new(OURS, |_| play(&mut translated, &packets, hit)),
                Contender::new("untranslated", |_| play(&mut plain, &packets, hit)),
                Contender::new("arcbox", |_| play_arcbox(&mut arcbox, &packets)),
                Contender::new("pktkit", |_| play_pktkit(&pktkit, &packets)),
            ],
        );
        let stats = translated.stats();
        assert!(stats.cached() * 10 >= stats.packets() * 8, "they were hits");
    }
}

/// First packets of new flows: rules, choice of a tuple, tracker, routes, and the entry in the cache.
fn opens(report: &mut Report) {
    let work = "nat new v4 40k";
    if !report.wants(work) {
        return;
    }
    let count = 40_000;
    let packets = packets(count);
    let names = [OURS, "gufc-pool", "untranslated", "arcbox", "pktkit"];
    let mut times = names.map(|_| Vec::new());
    for round in 0..=5 {
        for (name, times) in names.iter().zip(&mut times) {
            let rule = match *name {
                "gufc-pool" => Some("oif 2 snat to pool 0"),
                "untranslated" => None,
                _ => Some("oif 2 masquerade"),
            };
            let mut ours = gateway(65_536, rule);
            let (mut arcbox, pktkit) = (arcbox(), pktkit_nat());
            let begin = thread_time();
            let left = match *name {
                "arcbox" => play_arcbox(&mut arcbox, &packets),
                "pktkit" => play_pktkit(&pktkit, &packets),
                _ => play(&mut ours, &packets, Some(Path::Miss)),
            };
            let time = (thread_time() - begin).as_nanos() as f64 / count as f64;
            assert_eq!(left, count as u64, "{name}");
            if round > 0 {
                times.push(time);
            }
        }
    }
    let mut cells: Vec<_> = names.into_iter().zip(times.map(median)).collect();
    cells.push(("bar-1M/s", 1000.0));
    report.add(work, "ns", Some(("bar-1M/s", 1.0)), cells);
}

/// Ports of one address, 99 % of them lent, one going and one coming: places looked at by a choice, counted, not timed.
///
/// Neither peer is here: `arcbox-conntrack` looks at none and may give out what another has, `pktkit` gives nothing back but
/// by its own clock.
fn choices(report: &mut Report) {
    let work = "nat port-choice 99% full";
    if !report.wants(work) {
        return;
    }
    let mut config = PoolConfig::new(vec![OWN.into()]);
    config.ports = Ports {
        first: 1024,
        last: 65_535,
    };
    config.protocols = vec![Protocol::UDP];
    let mut pool = Pool::try_new(config, [7, 8]).expect("room");
    let host = |n: u32| IpAddr::from((0x0a00_0000 | n).to_be_bytes());
    let mut held = Vec::new();
    for n in 0..64_512 * 99 / 100 {
        let lent = pool.open(host(n), Protocol::UDP, 20_000 + (n % 2) as u16, NOW);
        held.push((host(n), lent.expect("a port").outside));
    }
    let (mut most, rounds) = (0, 20_000u32);
    let before = pool.looked();
    for n in 0..rounds {
        let at = (u64::from(n) * 0x9e37_79b9 % held.len() as u64) as usize;
        let (who, outside) = held.swap_remove(at);
        pool.close(who, Protocol::UDP, outside, NOW).expect("held");
        let looked = pool.looked();
        let lent = pool
            .open(who, Protocol::UDP, 20_000 + (n % 2) as u16, NOW)
            .expect("a port");
        most = most.max(pool.looked() - looked);
        held.push((who, lent.outside));
    }
    let average = (pool.looked() - before) as f64 / f64::from(rounds);
    // The same by a range of ports towards one peer, as Linux does it: places of the tracker's table.
    let mut gateway = gateway(65_536, Some("oif 2 snat to 203.0.113.1:1024-11023 random"));
    let arrival = Arrival::on(Interface(1));
    let (mut refused, full) = (0u64, 9_900);
    let mut open = |n: u32| {
        let transport = Transport::udp(20_000, 53);
        let packet = Datagram::new(host(1 + n), IpAddr::from([198, 51, 100, 1]), transport).emit();
        let mut bytes = packet.expect("a packet");
        let mut frame: Frame<'_, V4> = Frame::ip(&mut bytes, &arrival).expect("a packet");
        refused += u64::from(!gateway.process(&mut frame, NOW).verdict.is_accept());
        gateway.hooks().0.counters().probes
    };
    let mut probes = (0..full).map(&mut open).last().unwrap_or(0);
    let begin = probes;
    for n in full..full + 50 {
        probes = open(n);
    }
    let ranged = (probes - begin) as f64 / 50.0;
    let worst = gateway.hooks().0.counters().probes_max;
    report.add(
        work,
        "places",
        Some(("bound", 1.0)),
        vec![
            (OURS, average),
            ("gufc-most", most as f64),
            ("range", ranged),
            ("range-most", f64::from(worst)),
            ("refused", refused as f64),
            ("bound", 42.0),
        ],
    );
}
