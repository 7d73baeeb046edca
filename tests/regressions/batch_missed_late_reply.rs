//! A burst was looked up ahead; an earlier packet of it let a session, denied until then, be found by its replies; the reply
//! later in the burst was taken for the first packet of a flow, for only sessions begun and ended had been watched.

use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::{FlowKey, Tuple};
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::Path;

#[test]
fn a_reply_in_the_burst_finds_the_session() {
    let hooks = (Filter::new("filter", 1, 1, Policy::Accept),);
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks).expect("a cache");
    let now = Instant::from_secs(1);
    let there = ToyPacket::new(
        "udp 10.0.0.1:1 > 10.0.0.2:2"
            .parse::<Tuple>()
            .expect("a tuple"),
    );
    let back = ToyPacket {
        key: there.key.inverse().expect("an answer"),
        ..there
    };
    let drop = "drop".parse().expect("a rule");
    let (id, _) = cache
        .edit(|(filter,)| filter.insert(Place::Last, drop))
        .expect("room");
    let _ = cache.process(&mut there.clone(), now);
    let _ = cache.edit(|(filter,)| filter.remove(id)).expect("there");
    let mut paths = Vec::new();
    cache.process_batch(&mut [there, back], now, |_, outcome| {
        paths.push(outcome.path)
    });
    assert_eq!(paths, [Path::Revisited, Path::FirstReply]);
    assert_eq!(cache.check(), Ok(()));
}
