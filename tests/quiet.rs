//! A quiet hit: no allocation, whatever the hooks. A binary of its own, for it counts what the allocator is asked for.

use gufc::cache::{Config, FlowCache};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::{Origin, Packet};
use gufc::testing::script::hooks;
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::Path;

#[test]
fn a_hit_allocates_nothing() {
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks(true)).expect("a valid configuration");
    let rules = [
        "tcp flags syn / syn,ack log continue",
        "meta length 1000-9000 drop",
        "ct state invalid drop",
    ];
    for rule in rules {
        let rule = rule.parse().expect("a rule");
        cache
            .edit(|(_, _, _, filter, ..)| filter.insert(gufc::hooks::filter::Place::Last, rule))
            .expect("room");
    }
    let now = Instant::from_secs(1);
    let there = ToyPacket::new(
        "tcp 10.0.0.1:1000 > 10.0.0.2:80"
            .parse::<Tuple>()
            .expect("a tuple"),
    );
    let back = ToyPacket {
        key: there.key.inverse().expect("an answer"),
        ..there
    };
    assert_eq!(cache.process(&mut there.clone(), now).path, Path::Miss);
    assert_eq!(cache.process(&mut back.clone(), now).path, Path::FirstReply);
    let cookie = cache.cookie(Origin::Received, &there.key());

    let measure = |cache: &mut FlowCache<Tuple, _>| {
        let mut paths = Vec::with_capacity(64);
        let allocated = allocation_counter::measure(|| {
            paths.push(cache.process(&mut there.clone(), now).path);
            paths.push(cache.process(&mut ToyPacket { cookie, ..there }, now).path);
            let mut burst = [there, back, there, back];
            cache.process_batch(&mut burst, now, |_, outcome| paths.push(outcome.path));
        });
        (allocated.count_total, paths)
    };
    assert_eq!(measure(&mut cache), (0, vec![Path::Hit; 6]));

    // So does a hit on an entry that an edit did not touch.
    let rule = "udp dport 53 accept".parse().expect("a rule");
    cache
        .edit(|(_, _, _, filter, ..)| filter.insert(gufc::hooks::filter::Place::First, rule))
        .expect("room");
    let (allocated, paths) = measure(&mut cache);
    assert_eq!((allocated, paths[0]), (0, Path::Restamped));

    // The counter counts.
    assert!(allocation_counter::measure(|| drop(core::hint::black_box(vec![1]))).count_total > 0);
}
