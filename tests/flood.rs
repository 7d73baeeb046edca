//! No flood collapse: what an attacker sends makes no lookup worse than its bound, and ends no established flow. Counted, not timed:
//! `examples/attack` times the same.

use core::net::Ipv4Addr;

use gufc::cache::{Config, FlowCache, Quotas};
use gufc::cookie::FlowCookie;
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::{FlowKey, Protocol, SevenTuple, Tuple};
use gufc::packet::Origin;
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::trie::{DualIndex, KeyIndex};
use gufc::verdict::{Path, Uncached, Verdict};

type Cache = FlowCache<Tuple, (Filter,)>;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROOM: usize = 256;
const GOOD: u32 = 64;

fn cache() -> Cache {
    cache_with(Quotas::DEFAULT)
}

fn cache_with(quotas: Quotas) -> Cache {
    let config = Config {
        sessions: ROOM,
        quotas,
        ..Config::new([1, 2])
    };
    let mut filter = Filter::new("filter", 4, 1, Policy::Drop);
    let rule = "udp dport 53 accept".parse().expect("a rule");
    let (_, _change) = filter.insert(Place::Last, rule).expect("room");
    FlowCache::new(config, (filter,)).expect("a valid configuration")
}

fn udp(source: u32, port: u16, to: u16) -> ToyPacket {
    let source = Ipv4Addr::from_bits(source);
    let key = SevenTuple::new(source, SERVER, Protocol::UDP, port, to);
    ToyPacket::new(Tuple::V4(key))
}

fn good(n: u32) -> ToyPacket {
    udp(0x0a00_0000 + n, 5_000, 53)
}

/// A cache with established flows, then `count` packets of the attacker with one of the flows' between each two; how many of the
/// flows' packets were not answered by the cache.
fn under(count: u32, now: Instant, mut attack: impl FnMut(u32) -> ToyPacket) -> (Cache, u32) {
    let mut cache = cache();
    for n in 0..GOOD {
        let mut there = good(n);
        let key = there.key.inverse().expect("an answer");
        let mut back = ToyPacket { key, ..there };
        assert_eq!(cache.process(&mut there, now).path, Path::Miss);
        assert_eq!(cache.process(&mut back, now).path, Path::FirstReply);
    }
    let mut lost = 0;
    for n in 0..count {
        let _ = cache.process(&mut attack(n), now);
        lost += u32::from(cache.process(&mut good(n % GOOD), now).path != Path::Hit);
        assert!(cache.len() <= ROOM);
    }
    assert_eq!(cache.check(), Ok(()));
    (cache, lost)
}

/// The attacker's own flows push one another out; nobody else's.
#[test]
fn established_flows_outlast_floods_and_scans() {
    let now = Instant::from_secs(1);
    let mut chance = SplitMix64(1);
    let sources = |_: u32| udp(0xc000_0000 | chance.next() as u32 >> 2, 9, 53);
    let (cache, lost) = under(6_000, now, sources);
    assert_eq!((cache.len(), lost), (ROOM, 0), "a flood of new flows");

    let (cache, lost) = under(6_000, now, |n| udp(0xc000_0001, 9, n as u16));
    assert_eq!(
        (cache.len(), lost),
        (GOOD as usize + 1 + ROOM / 4, 0),
        "a scan of ports fills the quota of denials, and finds an open one"
    );
}

/// The same where the flows' packets are rare: none of them for as long as the attack lasts.
#[test]
fn established_flows_need_not_be_busy() {
    let start = Instant::from_secs(1);
    let (mut cache, _) = under(0, start, good);
    for n in 0..20_000 {
        let now = start + Duration::from_millis(u64::from(n));
        let _ = cache.process(&mut udp(0xc000_0000 | n, 9, 53), now);
    }
    let now = start + Duration::from_secs(20);
    let hits = (0..GOOD).filter(|n| cache.process(&mut good(*n), now).path == Path::Hit);
    assert_eq!(hits.count(), GOOD as usize);
}

/// A full house of established flows: a newcomer is judged all the same, and not cached.
#[test]
fn a_cache_full_of_established_flows_refuses_no_packet() {
    let now = Instant::from_secs(1);
    let mut cache = cache_with(Quotas {
        established: 1_000,
        ..Quotas::DEFAULT
    });
    for n in 0..ROOM as u32 {
        let mut there = good(n);
        let key = there.key.inverse().expect("an answer");
        let _ = cache.process(&mut there, now);
        let _ = cache.process(&mut ToyPacket { key, ..there }, now);
    }
    let outcome = cache.process(&mut udp(0xc000_0001, 9, 53), now);
    assert_eq!(
        (outcome.verdict, outcome.path),
        (Verdict::Accept, Path::Uncached(Uncached::Full))
    );
    let outcome = cache.process(&mut udp(0xc000_0001, 9, 54), now);
    assert_eq!(
        (outcome.verdict, outcome.path),
        (Verdict::Drop, Path::Uncached(Uncached::Full))
    );
}

/// Stale, forged and recycled cookies cost the lookup that they were to save, are counted, and give nobody another's destiny.
#[test]
fn cookies_are_hints() {
    let now = Instant::from_secs(1);
    let mut chance = SplitMix64(2);
    let (mut cache, _) = under(0, now, good);
    let cookie = cache
        .cookie(Origin::Received, &good(0).key)
        .expect("cached");
    let mut forged = 0;
    for n in 0..4_000u32 {
        let cookie = match n % 3 {
            0 => cookie,
            1 => FlowCookie {
                slot: chance.next() as u32 % (2 * ROOM as u32),
                ..cookie
            },
            _ => FlowCookie::from_bits(chance.next()),
        };
        let mut packet = ToyPacket {
            cookie: Some(cookie),
            ..udp(0xc000_0000 | n, 9, 54)
        };
        assert_eq!(cache.process(&mut packet, now).verdict, Verdict::Drop);
        forged += 1;
        assert_eq!(cache.stats().cookie_misses, forged);
    }
    assert_eq!(cache.stats().cookie_hits, 0);
    let mut honest = ToyPacket {
        cookie: Some(cookie),
        ..good(0)
    };
    assert_eq!(cache.process(&mut honest, now).path, Path::Hit);
    assert_eq!(cache.stats().cookie_hits, 1);
}

/// A cookie names one tenancy of a slot: it does not come back to life when the same flow gets the same slot again.
#[test]
fn a_cookie_ends_with_its_session() {
    let now = Instant::from_secs(1);
    let mut cache = cache();
    let cached = |cache: &mut Cache| {
        let _ = cache.process(&mut good(0), now);
        cache
            .cookie(Origin::Received, &good(0).key)
            .expect("cached")
    };
    let first = cached(&mut cache);
    assert!(cache.remove(Origin::Received, &good(0).key));
    let second = cached(&mut cache);
    assert_eq!(first.slot, second.slot);
    for (cookie, hits, misses) in [(first, 0, 1), (second, 1, 1)] {
        let mut packet = ToyPacket {
            cookie: Some(cookie),
            ..good(0)
        };
        assert_eq!(cache.process(&mut packet, now).path, Path::Hit);
        assert_eq!(
            (cache.stats().cookie_hits, cache.stats().cookie_misses),
            (hits, misses)
        );
    }
}

/// An attacker who knows the seed finds keys whose headers are all the same. They deepen the trie along the keys' own bits, where
/// nobody else's flows are; what finds no room any more is judged and not cached.
#[test]
fn a_known_seed_costs_depth_and_no_chain() {
    let [source, destination] = first_factor([1, 2]);
    let hostile = |n: u32| {
        let key = SevenTuple::new(source, destination, Protocol::UDP, n as u16, 53);
        ToyPacket::new(Tuple::V4(key))
    };
    let index = DualIndex::with_seed([1, 2], 1).expect("memory");
    let header = index.header(&hostile(0).key);
    assert!((0..5_000).all(|n| index.header(&hostile(n).key) == header));

    let now = Instant::from_secs(1);
    let (cache, lost) = under(5_000, now, hostile);
    assert_eq!(lost, 0);
    let slots = |packet: ToyPacket| cache.trace(Origin::Received, &packet.key).slots;
    let deepest = (0..5_000).map(|n| slots(hostile(n))).max();
    assert!(
        (3..=16).contains(&deepest.unwrap_or(0)),
        "{deepest:?}: port bits, and no more"
    );
    // A flow whose header begins as the flood's lies a node below it.
    assert!((0..GOOD).all(|n| slots(good(n)) <= 4));
    assert_eq!(cache.stats().packets(), u64::from(4 * GOOD / 2 + 2 * 5_000));
}

/// The mask of a key's first word in the index's hash, by which that word is turned into a factor of 0.
fn first_factor(seed: [u64; 2]) -> [Ipv4Addr; 2] {
    let mix = |mut z: u64| {
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let a = seed[0].wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = seed[1].wrapping_add(0xd1b5_4a32_d192_ed03);
    let mask = (mix(a) ^ mix(b).rotate_left(32)) | 1;
    [(mask >> 32) as u32, mask as u32].map(Ipv4Addr::from_bits)
}
