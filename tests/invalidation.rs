//! Exact invalidation: an edit makes only those cached flows do work that it could touch.

use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Filter, Place, Policy, Rule};
use gufc::key::Tuple;
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::Path;

const NOW: Instant = Instant::from_secs(1);

fn flow(n: u32) -> ToyPacket {
    let text = format!(
        "tcp 10.{}.{}.{}:4000 > 192.0.2.1:{}",
        n >> 16 & 255,
        n >> 8 & 255,
        n & 255,
        80 + n % 4
    );
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn rule(text: &str) -> Rule {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// With n flows cached, one rule edit costs each flow outside its region one box test, and each flow inside one recheck,
/// when its next packet comes; and nothing after that.
#[test]
fn an_edit_costs_the_others_one_test() {
    const FLOWS: u32 = 4_000;
    let config = Config {
        sessions: FLOWS as usize,
        ..Config::new([1, 2])
    };
    let hooks = (Filter::new("filter", 10, 1, Policy::Accept),);
    let mut cache: FlowCache<Tuple, _> = FlowCache::new(config, hooks).expect("a cache");
    for n in 0..FLOWS {
        assert_eq!(cache.process(&mut flow(n), NOW).path, Path::Miss);
    }
    let before = cache.stats().clone();
    let edited = rule("ip saddr 10.0.1.0/24 tcp dport 80 drop");
    let (id, _) = cache
        .edit(|(filter,)| filter.insert(Place::First, edited))
        .expect("room");

    let touched = |n: u32| n >> 8 == 1 && n % 4 == 0;
    for n in 0..FLOWS {
        let outcome = cache.process(&mut flow(n), NOW);
        let expected = if touched(n) {
            Path::Rechecked
        } else {
            Path::Restamped
        };
        assert_eq!(outcome.path, expected, "flow {n}");
        assert_eq!(outcome.verdict.is_accept(), !touched(n), "flow {n}");
    }
    let after = cache.stats().clone();
    assert_eq!(after.rechecked - before.rechecked, 64);
    assert_eq!(after.region_tests - before.region_tests, u64::from(FLOWS));
    assert_eq!(
        after.misses + after.revisited,
        before.misses + before.revisited,
        "no flow was judged again"
    );
    assert_eq!(
        cache.hooks().0.counter(id).map(|counter| counter.packets),
        Some(64)
    );

    for n in 0..FLOWS {
        assert_eq!(cache.process(&mut flow(n), NOW).path, Path::Hit);
    }
    assert_eq!(cache.stats().region_tests, after.region_tests);
}

/// A flow that slept through more edits than the log remembers is judged by the rules of now all the same.
#[test]
fn a_long_sleep_is_noticed() {
    let config = Config {
        regions: 4,
        ..Config::new([1, 2])
    };
    let hooks = (Filter::new("filter", 100, 1, Policy::Accept),);
    let mut cache: FlowCache<Tuple, _> = FlowCache::new(config, hooks).expect("a cache");
    let _ = cache.process(&mut flow(0), NOW);
    let block = rule("ip saddr 10.0.0.0 drop");
    let _ = cache
        .edit(|(filter,)| filter.insert(Place::First, block))
        .expect("room");
    for port in 0..4 {
        let other = rule(&format!("udp dport {port} drop"));
        let _ = cache
            .edit(|(filter,)| filter.insert(Place::Last, other))
            .expect("room");
    }
    let outcome = cache.process(&mut flow(0), NOW);
    assert_eq!(
        (outcome.verdict.is_accept(), outcome.path),
        (false, Path::Rechecked)
    );
    assert_eq!(cache.stats().log_lost, 1);
}

/// Replacing a set by one that differs in one rule touches the flows of that rule.
#[test]
fn replacing_a_set_touches_what_differs() {
    let set = |middle: &str| -> Vec<Rule> {
        ["udp dport 53 accept", middle, "tcp dport 81 accept"]
            .iter()
            .map(|text| rule(text))
            .collect()
    };
    let hooks = (Filter::new("filter", 10, 1, Policy::Accept),);
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks).expect("a cache");
    let replaced =
        cache.edit(|(filter,)| filter.replace(set("tcp dport 80 accept"), Policy::Accept));
    let _ = replaced.expect("room");
    let ids: Vec<_> = cache.hooks().0.rules().map(|(id, ..)| id).collect();
    for n in 0..4 {
        let _ = cache.process(&mut flow(n), NOW);
    }
    let replaced = cache.edit(|(filter,)| filter.replace(set("tcp dport 80 drop"), Policy::Accept));
    let _ = replaced.expect("room");
    let paths: Vec<_> = (0..4)
        .map(|n| cache.process(&mut flow(n), NOW).path)
        .collect();
    assert_eq!(
        paths,
        [
            Path::Rechecked,
            Path::Restamped,
            Path::Restamped,
            Path::Restamped
        ]
    );
    let now: Vec<_> = cache.hooks().0.rules().map(|(id, ..)| id).collect();
    assert_eq!(
        (ids[0], ids[2]),
        (now[0], now[2]),
        "what stayed kept its id"
    );
    assert_ne!(ids[1], now[1]);
}
