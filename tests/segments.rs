//! Under pressure: segments and their quotas, who may displace whom, and what a source may have.

use gufc::cache::{Config, End, Eviction, FlowCache, OverBudget, Pace, Quotas, Segment};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::{FlowKey, Tuple};
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::verdict::{Path, Uncached};

type Cache = FlowCache<Tuple, (Filter,)>;

const ALL: [Eviction; 3] = [Eviction::Clock, Eviction::Sieve, Eviction::S3Fifo];

/// Packets to port 9 are denied.
fn cache(config: Config) -> Cache {
    let mut filter = Filter::new("filter", 4, 1, Policy::Accept);
    let rule = "udp dport 9 drop".parse().expect("a rule");
    let (_, _change) = filter.insert(Place::Last, rule).expect("room");
    FlowCache::new(config, (filter,)).expect("a valid configuration")
}

fn config(sessions: usize, eviction: Eviction) -> Config {
    Config {
        sessions,
        eviction,
        eviction_established: eviction,
        stay_provisional: Duration::ZERO,
        ..Config::new([1, 2])
    }
}

fn there(host: u32, port: u16) -> ToyPacket {
    let (high, low) = (host >> 8 & 255, host & 255);
    let text = format!("udp 10.0.{high}.{low}:5000 > 192.0.2.1:{port}");
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn send(cache: &mut Cache, mut packet: ToyPacket, now: Instant) -> Path {
    cache.process(&mut packet, now).path
}

/// A packet each way.
fn establish(cache: &mut Cache, host: u32, now: Instant) -> [Path; 2] {
    let there = there(host, 53);
    let back = ToyPacket {
        key: there.key.inverse().expect("an answer"),
        ..there
    };
    [send(cache, there, now), send(cache, back, now)]
}

fn count(cache: &Cache, segment: Segment) -> usize {
    cache.iter().filter(|one| one.segment == segment).count()
}

/// No mix of newcomers fills more of a segment than its quota, and all of them get their verdicts.
#[test]
fn segments_keep_their_quotas() {
    for eviction in ALL {
        let quotas = Quotas {
            denied: 125,
            provisional: 250,
            established: 500,
        };
        let mut cache = cache(Config {
            quotas,
            ..config(64, eviction)
        });
        let mut chance = SplitMix64(eviction as u64);
        let now = Instant::from_secs(1);
        for _ in 0..4_000 {
            let host = chance.next() as u32 % 512;
            match chance.next() % 3 {
                0 => {
                    let outcome = cache.process(&mut there(host, 9), now);
                    assert!(!outcome.verdict.is_accept());
                }
                1 => {
                    let outcome = cache.process(&mut there(host, 53), now);
                    assert!(outcome.verdict.is_accept());
                }
                _ => {
                    let _ = establish(&mut cache, host, now);
                }
            }
            assert_eq!(cache.check(), Ok(()));
        }
        let [denied, provisional, established] = Segment::ALL.map(|segment| count(&cache, segment));
        assert_eq!((denied, established), (8, 32), "{eviction:?}");
        // One may just have become established.
        assert!(provisional == 16 || provisional == 15, "{eviction:?}");
        assert!(cache.stats().ended[End::Evicted as usize] > 1_000);
    }
}

/// Whatever the policy, one-way floods displace each other; only flows that become established take an established one's place.
#[test]
fn only_established_flows_displace_established_ones() {
    for eviction in ALL {
        let mut cache = cache(config(64, eviction));
        let now = Instant::from_secs(1);
        for host in 0..44 {
            let _ = establish(&mut cache, host, now);
        }
        for host in 1_000..3_000 {
            let _ = send(&mut cache, there(host, 53), now);
            let _ = send(&mut cache, there(host, 9), now);
        }
        assert_eq!(count(&cache, Segment::Established), 44);
        for host in 0..44 {
            assert_eq!(send(&mut cache, there(host, 53), now), Path::Hit);
        }
        let _ = establish(&mut cache, 5_000, now);
        assert_eq!(count(&cache, Segment::Established), 45, "{eviction:?}");
        assert_eq!(send(&mut cache, there(5_000, 53), now), Path::Hit);
        assert_eq!(cache.check(), Ok(()));
    }
}

/// A provisional session stays as long as it is promised, to give its reply time; while all are young newcomers are judged and not
/// cached.
#[test]
fn provisional_sessions_stay_as_promised() {
    let stay = Duration::from_millis(50);
    for eviction in ALL {
        let mut cache = cache(Config {
            stay_provisional: stay,
            ..config(8, eviction)
        });
        let begin = Instant::from_secs(1);
        for host in 0..8 {
            assert_eq!(send(&mut cache, there(host, 53), begin), Path::Miss);
        }
        for millis in 0..=50 {
            let now = begin + Duration::from_millis(millis);
            let path = send(&mut cache, there(100, 53), now);
            assert_eq!(path, Path::Uncached(Uncached::Full), "{eviction:?}");
        }
        assert_eq!(cache.len(), 8);
        let later = begin + stay + Duration::from_millis(3);
        assert_eq!(send(&mut cache, there(100, 53), later), Path::Miss);
        assert_eq!((cache.len(), cache.check()), (8, Ok(())));
    }
}

/// A source has its share of half-open sessions and others have theirs; a reply gives it one back.
#[test]
fn a_source_has_its_share() {
    let mut cache = cache(Config {
        per_source: 4,
        ..config(64, Eviction::Clock)
    });
    let now = Instant::from_secs(1);
    for port in 100..104 {
        assert_eq!(send(&mut cache, there(1, port), now), Path::Miss);
    }
    for port in 104..300 {
        let path = send(&mut cache, there(1, port), now);
        assert_eq!(path, Path::Uncached(Uncached::SourceQuota));
    }
    assert_eq!(send(&mut cache, there(2, 100), now), Path::Miss);
    // Denials are not half-open.
    assert_eq!(send(&mut cache, there(1, 9), now), Path::Miss);
    let back = ToyPacket {
        key: there(1, 100).key.inverse().expect("an answer"),
        ..there(1, 100)
    };
    assert_eq!(send(&mut cache, back, now), Path::FirstReply);
    assert_eq!(send(&mut cache, there(1, 104), now), Path::Miss);
    assert_eq!((cache.len(), cache.check()), (7, Ok(())));
}

/// A zone has its share of all sessions and others have theirs; what ends makes room again.
#[test]
fn a_zone_has_its_share() {
    let mut cache = cache(Config {
        per_zone: 4,
        ..config(64, Eviction::Clock)
    });
    let begin = Instant::from_secs(1);
    let in_zone = |zone, host, port| {
        let packet = there(host, port);
        let zone = gufc::key::Zone::new(zone).expect("a zone");
        ToyPacket {
            key: packet.key.in_zone(zone),
            ..packet
        }
    };
    // Denied, half-open and established ones count alike.
    assert_eq!(send(&mut cache, in_zone(7, 1, 9), begin), Path::Miss);
    for host in 2..5 {
        assert_eq!(send(&mut cache, in_zone(7, host, 53), begin), Path::Miss);
    }
    for host in 5..200 {
        let mut packet = in_zone(7, host, 53);
        let outcome = cache.process(&mut packet, begin);
        assert_eq!(outcome.path, Path::Uncached(Uncached::ZoneQuota));
        assert!(outcome.verdict.is_accept());
    }
    assert_eq!(send(&mut cache, in_zone(8, 1, 53), begin), Path::Miss);
    let back = ToyPacket {
        key: in_zone(7, 2, 53).key.inverse().expect("an answer"),
        ..in_zone(7, 2, 53)
    };
    assert_eq!(send(&mut cache, back, begin), Path::FirstReply);
    let path = send(&mut cache, in_zone(7, 5, 53), begin);
    assert_eq!(path, Path::Uncached(Uncached::ZoneQuota));
    let later = begin + Duration::from_secs(31);
    assert_eq!(cache.maintain(later, 64), 4, "all but the established one");
    assert_eq!(send(&mut cache, in_zone(7, 5, 53), later), Path::Miss);
    assert_eq!((cache.len(), cache.check()), (2, Ok(())));
}

/// Over budget, a packet is judged without being cached, or left as it is for the caller to drop or keep: as the owner chose.
#[test]
fn over_budget_the_owner_chooses() {
    for over_budget in [OverBudget::Judge, OverBudget::Refuse] {
        let pace = Pace {
            per_second: 1,
            burst: 1,
        };
        let mut cache = cache(Config {
            misses: pace,
            reruns: pace,
            over_budget,
            ..config(64, Eviction::Clock)
        });
        let second = Instant::from_secs;
        for host in 0..2 {
            let path = send(&mut cache, there(host, 53), second(u64::from(host) + 1));
            assert_eq!(path, Path::Miss);
        }
        let counted = |cache: &Cache| -> u64 {
            let rules = cache.hooks().0.rules();
            rules.map(|(.., counter)| counter.packets).sum()
        };
        let outcome = cache.process(&mut there(5, 9), second(2));
        assert_eq!(outcome.path, Path::Uncached(Uncached::OverBudget));
        assert!(!outcome.verdict.is_accept());
        let judged = over_budget == OverBudget::Judge;
        assert_eq!(counted(&cache), u64::from(judged), "{over_budget:?}");
        assert_eq!(outcome.by.hook.is_empty(), !judged);
        // The same where an edit touches two sessions and one may be re-run.
        let edit = |(filter,): &mut (Filter,)| {
            let rule = "udp dport 53 counter".parse().expect("a rule");
            filter.insert(Place::First, rule)
        };
        let _ = cache.edit(edit).expect("room");
        assert_eq!(send(&mut cache, there(0, 53), second(3)), Path::Rechecked);
        let outcome = cache.process(&mut there(1, 53), second(3));
        assert_eq!(outcome.path, Path::Uncached(Uncached::OverBudget));
        assert_eq!(outcome.verdict.is_accept(), judged);
        // Handed in again later, it gets its verdict.
        assert_eq!(send(&mut cache, there(1, 53), second(4)), Path::Rechecked);
        assert_eq!(cache.check(), Ok(()));
    }
}

/// What is used stays, under each policy.
#[test]
fn busy_flows_outlast_a_scan_of_their_own_kind() {
    for eviction in ALL {
        let mut cache = cache(config(64, eviction));
        let now = Instant::from_secs(1);
        let mut lost = 0;
        for round in 0..500 {
            for busy in 0..8 {
                lost += u32::from(send(&mut cache, there(busy, 53), now) != Path::Hit);
            }
            for scan in 0..16 {
                let _ = send(&mut cache, there(1_000 + round * 16 + scan, 53), now);
            }
        }
        assert!(lost <= 8 * 2, "{eviction:?} lost {lost}");
    }
}
