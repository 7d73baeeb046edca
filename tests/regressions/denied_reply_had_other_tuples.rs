//! A reply was translated, then denied by the filter; the session's keys did not foretell the translation, so later edits
//! were tested against a tuple that the filter had never seen, and one that touched the flow was missed.

use core::net::Ipv4Addr;

use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::Tuple;
use gufc::testing::hooks::ToyNat;
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::Verdict;

#[test]
fn an_edit_is_tested_against_the_tuple_that_the_filter_saw() {
    let [public, private] = [Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 2)];
    let nat = ToyNat {
        map: Some((public.into(), private.into())),
    };
    let hooks = (nat, Filter::new("filter", 4, 1, Policy::Accept));
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks).expect("a cache");
    let now = Instant::from_secs(1);
    let packet = |text: &str| ToyPacket::new(text.parse::<Tuple>().expect("a tuple"));
    // Sent by the public address itself, so nothing is translated on the way there.
    let _ = cache.process(&mut packet("udp 10.0.0.9:1 > 10.0.0.1:2"), now);
    let _ = cache
        .edit(|(_, filter)| filter.replace(Vec::new(), Policy::Drop))
        .expect("room");
    let back = "udp 10.0.0.1:2 > 10.0.0.9:1";
    assert_eq!(cache.process(&mut packet(back), now).verdict, Verdict::Drop);
    let rule = "ip daddr 10.0.0.2 accept".parse().expect("a rule");
    let (id, _) = cache
        .edit(|(_, filter)| filter.insert(Place::Last, rule))
        .expect("room");
    let outcome = cache.process(&mut packet(back), now);
    assert_eq!(
        (outcome.verdict, outcome.by.rule),
        (Verdict::Accept, Some(id.0))
    );
}
