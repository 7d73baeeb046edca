//! A session whose packets the NIC forwarded looked idle and made room for another; what was forwarded after that was credited to
//! nobody, and the hooks' counts fell behind those of the packets.

use gufc::cache::{Config, End, FlowCache};
use gufc::hook::Tally;
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::Origin;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};

fn flow(n: u16) -> Tuple {
    let text = format!("udp 10.0.0.1:{n} > 10.0.0.2:53");
    text.parse().expect("a tuple")
}

/// A cache of four sessions with a rule that counts, and the first of some flows lent.
fn lent() -> (FlowCache<Tuple, (Filter,)>, [Tuple; 2]) {
    let mut filter = Filter::new("filter", 4, 1, Policy::Accept);
    let rule = "accept".parse().expect("a rule");
    let _ = filter.insert(Place::Last, rule).expect("room");
    let config = Config {
        sessions: 4,
        idle_established: Duration::from_secs(5),
        ..Config::new([1, 2])
    };
    let mut cache = FlowCache::new(config, (filter,)).expect("a cache");
    converse(&mut cache, 1, Instant::from_secs(1));
    let lent = cache.lend(Origin::Received, &flow(1)).expect("plain");
    (cache, lent.flows)
}

fn converse(cache: &mut FlowCache<Tuple, (Filter,)>, n: u16, now: Instant) {
    let back = flow(n).inverse().expect("an answer");
    for key in [flow(n), back] {
        let _ = cache.process(&mut ToyPacket::new(key), now);
    }
}

fn counted(cache: &FlowCache<Tuple, (Filter,)>) -> u64 {
    let (filter,) = cache.hooks();
    filter.rules().map(|(.., counter)| counter.packets).sum()
}

#[test]
fn what_was_forwarded_is_credited_after_the_session_made_room() {
    let (mut cache, flows) = lent();
    let now = Instant::from_secs(2);
    (2..9).for_each(|n| converse(&mut cache, n, now));
    assert!(cache.stats().ended[End::Evicted as usize] > 0);
    assert_eq!(cache.cookie(Origin::Received, &flow(1)), None, "displaced");
    let before = counted(&cache);
    let tally = Tally {
        packets: 1_000,
        bytes: 64_000,
        last: now,
    };
    for flow in flows {
        assert!(cache.credit(Origin::Received, &flow, &tally));
    }
    assert_eq!(counted(&cache), before + 2_000);
    cache.check().expect("in order");

    // Once it is taken back the books are closed, and it may be lent again.
    assert_eq!(cache.lend(Origin::Received, &flow(1)), None);
    assert!(cache.take_back(&flows) && !cache.take_back(&flows));
    assert!(!cache.credit(Origin::Received, &flow(1), &tally));
    converse(&mut cache, 1, now);
    converse(&mut cache, 1, now);
    assert!(cache.lend(Origin::Received, &flow(1)).is_some());
    cache.check().expect("in order");
}

#[test]
fn a_lent_session_does_not_idle_out() {
    let (mut cache, flows) = lent();
    converse(&mut cache, 2, Instant::from_secs(1));
    let later = Instant::from_secs(60);
    assert_eq!(cache.maintain(later, 10), 1, "the other");
    let _ = cache.process(&mut ToyPacket::new(flow(1)), later);
    assert_eq!(cache.len(), 1);
    assert_eq!(cache.stats().ended[End::Idle as usize], 1);
    assert!(cache.take_back(&flows));
    assert_eq!(cache.maintain(Instant::from_secs(120), 10), 1);
    assert_eq!(cache.check(), Ok(()));
}
