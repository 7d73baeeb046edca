//! Bounded: how long sessions last, who makes room for whom, and that a full cache costs speed and never a packet.

use gufc::cache::{Config, End, FlowCache, Quotas, Segment};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::Origin;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::verdict::{Path, Uncached};

type Cache = FlowCache<Tuple, (Filter,)>;

fn cache(sessions: usize) -> Cache {
    let config = Config {
        sessions,
        evict_scan: 4,
        stay_provisional: Duration::ZERO,
        quotas: Quotas {
            established: 1_000,
            ..Quotas::DEFAULT
        },
        idle_denied: Duration::from_secs(2),
        idle_provisional: Duration::from_secs(4),
        idle_established: Duration::from_secs(16),
        ..Config::new([1, 2])
    };
    let mut filter = Filter::new("filter", 4, 1, Policy::Accept);
    let rule = "udp dport 9 drop".parse().expect("a rule");
    let (_, _change) = filter.insert(Place::Last, rule).expect("room");
    FlowCache::new(config, (filter,)).expect("a valid configuration")
}

fn there(host: u32, port: u16) -> ToyPacket {
    let text = format!(
        "udp 10.0.{}.{}:5000 > 192.0.2.1:{port}",
        host >> 8,
        host & 255
    );
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn back(packet: ToyPacket) -> ToyPacket {
    ToyPacket {
        key: packet.key.inverse().expect("an answer"),
        ..packet
    }
}

fn path(cache: &mut Cache, mut packet: ToyPacket, now: Instant) -> Path {
    cache.process(&mut packet, now).path
}

/// Each segment lasts as long as it is given, to the nanosecond, counted from its last packet.
#[test]
fn a_session_lasts_as_long_as_its_segment() {
    let short = Duration::from_nanos(1);
    for (port, replied, lasts, segment) in [
        (9, false, Duration::from_secs(2), Segment::Denied),
        (53, false, Duration::from_secs(4), Segment::Provisional),
        (53, true, Duration::from_secs(16), Segment::Established),
    ] {
        let mut cache = cache(8);
        let mut now = Instant::from_secs(1);
        assert_eq!(path(&mut cache, there(1, port), now), Path::Miss);
        if replied {
            assert_eq!(
                path(&mut cache, back(there(1, port)), now),
                Path::FirstReply
            );
        }
        assert_eq!(
            cache.iter().next().map(|listed| listed.segment),
            Some(segment)
        );
        let before = Instant::from_nanos((now + lasts).nanos() - short.as_nanos() as u64);
        assert_eq!(
            path(&mut cache, there(1, port), before),
            Path::Hit,
            "{segment:?}"
        );
        now = before + lasts;
        assert_eq!(
            path(&mut cache, there(1, port), now),
            Path::Miss,
            "{segment:?}"
        );
        assert_eq!(cache.stats().ended[End::Idle as usize], 1);
        assert_eq!((cache.len(), cache.check()), (1, Ok(())));
    }
}

/// Maintenance looks at as many slots as it may and ends what has idled out among them.
#[test]
fn maintenance_keeps_to_its_budget() {
    let mut cache = cache(8);
    for host in 0..8 {
        let _ = path(&mut cache, there(host, 53), Instant::from_secs(1));
    }
    let later = Instant::from_secs(60);
    assert_eq!(cache.maintain(later, 3), 3);
    assert_eq!(cache.len(), 5);
    assert_eq!(cache.maintain(later, 100), 5);
    assert_eq!((cache.len(), cache.check()), (0, Ok(())));
}

/// Established sessions make room for nobody; a newcomer to a cache full of them is judged each time, and gets its verdict.
#[test]
fn established_sessions_stay() {
    let mut cache = cache(4);
    let now = Instant::from_secs(1);
    for host in 0..4 {
        let _ = path(&mut cache, there(host, 53), now);
        let _ = path(&mut cache, back(there(host, 53)), now);
    }
    for host in 100..200 {
        let outcome = cache.process(&mut there(host, 53), now);
        assert!(outcome.verdict.is_accept());
        assert_eq!(outcome.path, Path::Uncached(Uncached::Full));
    }
    for host in 0..4 {
        assert_eq!(path(&mut cache, there(host, 53), now), Path::Hit);
    }
    assert_eq!((cache.len(), cache.check()), (4, Ok(())));
}

/// A scan of one-packet flows displaces others of its kind, and the established one among them stays.
#[test]
fn provisional_sessions_displace_one_another() {
    let mut cache = cache(4);
    let now = Instant::from_secs(1);
    let _ = path(&mut cache, there(0, 53), now);
    let _ = path(&mut cache, back(there(0, 53)), now);
    for host in 1..1_000 {
        assert_eq!(path(&mut cache, there(host, 53), now), Path::Miss);
    }
    assert_eq!(path(&mut cache, there(0, 53), now), Path::Hit);
    assert_eq!(cache.stats().ended[End::Evicted as usize], 996);
    assert_eq!((cache.len(), cache.check()), (4, Ok(())));
}

/// A denial is cached: its packets hit, and count for the rule that denies them.
#[test]
fn denials_are_cached() {
    let mut cache = cache(4);
    let now = Instant::from_secs(1);
    let paths: Vec<_> = (0..3).map(|_| path(&mut cache, there(1, 9), now)).collect();
    assert_eq!(paths, [Path::Miss, Path::Hit, Path::Hit]);
    assert_eq!(cache.stats().dropped, 3);
    let (_, _, counter) = cache.hooks().0.rules().next().expect("a rule");
    assert_eq!(counter.packets, 3);
    assert!(cache.remove(Origin::Received, &there(1, 9).key));
    assert!(!cache.remove(Origin::Received, &there(1, 9).key));
    assert_eq!(path(&mut cache, there(1, 9), now), Path::Miss);
}

/// Locally generated packets have an index of their own, with a capacity of its own.
#[test]
fn local_flows_have_their_own_room() {
    let config = Config {
        local: 2,
        ..Config::new([1, 2])
    };
    let filter = Filter::new("filter", 1, 1, Policy::Accept);
    let mut cache: Cache = FlowCache::new(config, (filter,)).expect("a valid configuration");
    let now = Instant::from_secs(1);
    let local = |host| {
        let text = format!("udp 10.0.0.{host}:5000 > 192.0.2.1:53 local source");
        let key: Tuple = text.parse().expect("a tuple");
        ToyPacket {
            origin: Origin::Local,
            ..ToyPacket::new(key)
        }
    };
    let paths: Vec<_> = (0..3)
        .map(|host| path(&mut cache, local(host), now))
        .collect();
    assert_eq!(
        paths,
        [Path::Miss, Path::Miss, Path::Uncached(Uncached::Full)]
    );
    assert_eq!(path(&mut cache, local(0), now), Path::Hit);
    // The answer arrives: it is found among the received.
    let answer = ToyPacket {
        origin: Origin::Received,
        ..back(local(0))
    };
    assert_eq!(path(&mut cache, answer, now), Path::FirstReply);
    assert_eq!(path(&mut cache, there(1, 53), now), Path::Miss);
    assert_eq!((cache.len(), cache.check()), (3, Ok(())));
}
