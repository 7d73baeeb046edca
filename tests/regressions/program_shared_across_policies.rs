//! The filter shared one program between a flow that passed under policy accept and one that was denied under policy drop,
//! because both matched the same rules; when the policy went back, the denied flow passed hooks that had never been asked.

use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Filter, Policy};
use gufc::key::{Pattern, Tuple};
use gufc::testing::hooks::ToyMarker;
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;

#[test]
fn a_flow_that_was_denied_reaches_the_hooks_behind() {
    let hooks = (
        Filter::new("filter", 1, 1, Policy::Accept),
        ToyMarker::new(Pattern::ANY, false),
    );
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks).expect("a cache");
    let now = Instant::from_secs(1);
    let packet = |text: &str| ToyPacket::new(text.parse::<Tuple>().expect("a tuple"));
    let _ = cache.process(&mut packet("udp 10.0.0.1:1 > 10.0.0.2:2"), now);
    let _ = cache
        .edit(|(filter, _)| filter.replace(Vec::new(), Policy::Drop))
        .expect("room");
    let _ = cache.process(&mut packet("udp 10.0.0.3:1 > 10.0.0.2:2"), now);
    let _ = cache
        .edit(|(filter, _)| filter.replace(Vec::new(), Policy::Accept))
        .expect("room");
    assert_eq!(
        cache
            .process(&mut packet("udp 10.0.0.3:1 > 10.0.0.2:2"), now)
            .mark,
        0x100
    );
}
