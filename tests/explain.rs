//! Explained: what is cached for a flow, since when, what touched it, what its next packet meets, and which rule decides.

use gufc::cache::{Config, FlowCache, OnEdit};
use gufc::hooks::filter::{Filter, Place, Policy, RuleId};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::Origin;
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;

type Cache = FlowCache<Tuple, (Filter,)>;

const FLOW: &str = "tcp 10.0.0.1:4000 > 192.0.2.1:80";

fn packet() -> ToyPacket {
    ToyPacket::new(FLOW.parse::<Tuple>().expect("a tuple"))
}

fn back() -> ToyPacket {
    let there = packet();
    ToyPacket {
        key: there.key.inverse().expect("an answer"),
        ..there
    }
}

fn cache(regions: usize) -> Cache {
    let config = Config {
        regions,
        ..Config::new([1, 2])
    };
    let filter = Filter::new("filter", 1_000, 1, Policy::Drop);
    let mut cache = Cache::new(config, (filter,)).expect("a cache");
    insert(&mut cache, "tcp flags rst drop");
    insert(&mut cache, "udp dport 53 accept");
    insert(&mut cache, "meta length 1000-9000 log continue");
    insert(&mut cache, "tcp dport 80 accept");
    insert(&mut cache, "tcp sport 80 accept");
    insert(&mut cache, "drop");
    cache
}

fn insert(cache: &mut Cache, rule: &str) -> RuleId {
    let rule = rule.parse().expect("a rule");
    let (id, _) = cache
        .edit(|(filter,)| filter.insert(Place::Last, rule))
        .expect("room");
    id
}

fn explain(cache: &Cache) -> String {
    cache
        .explain(Origin::Received, &packet().key, Instant::from_secs(3))
        .to_string()
}

fn pass(cache: &mut Cache, mut packet: ToyPacket) {
    let _ = cache.process(&mut packet, Instant::from_secs(1));
}

#[test]
fn an_explanation_tells_the_whole_story() {
    let mut cache = cache(256);
    assert_eq!(explain(&cache), format!("{FLOW}: not cached\n"));
    pass(&mut cache, packet());
    let decides = "  filter: rule 0 may match: tcp flags rst drop; rule 2 may match: meta length 1000-9000 log continue; \
                   rule 3 decides: tcp dport 80 accept\n";
    let text = format!(
        "{FLOW}: cached, original direction, provisional, idle 2s\n  1 packets, 0 back\n  \
         stamp: generation 6 of 6: fresh\n{decides}"
    );
    assert_eq!(explain(&cache), text);

    // An edit that does not touch it, and two that do, one of them in the other direction.
    pass(&mut cache, back());
    insert(&mut cache, "udp dport 54 accept");
    let stamp = "  stamp: generation 6 of 7: no edit since touches it\n";
    assert!(explain(&cache).contains(stamp), "{}", explain(&cache));
    insert(&mut cache, "tcp dport 80 drop");
    insert(&mut cache, "tcp sport 80 drop");
    let text = format!(
        "{FLOW}: cached, original direction, established, idle 2s\n  1 packets, 1 back\n  \
         stamp: generation 6 of 9: stale, touched by\n    \
         generation 8, filter: proto tcp dport 80\n    \
         generation 9, filter: proto tcp sport 80 (reply direction)\n  \
         its next packet: filter to look again\n{decides}"
    );
    assert_eq!(explain(&cache), text);
    let explanation = cache.explain(Origin::Received, &packet().key, Instant::from_secs(3));
    let generations = explanation
        .edits()
        .map(|(generation, _)| generation.number());
    assert_eq!(generations.collect::<Vec<_>>(), [8, 9]);
    assert!(explanation.is_cached() && explanation.is_stale() && !explanation.is_forgotten());
    assert_eq!(explanation.stamp().map(|stamp| stamp.number()), Some(6));

    cache.on_edit("filter", OnEdit::Kill).expect("a hook");
    let kills = "  its next packet: ends the session and begins a new one\n";
    assert!(explain(&cache).contains(kills), "{}", explain(&cache));
    cache
        .on_edit("filter", OnEdit::Grandfather)
        .expect("a hook");
    let keeps = "  its next packet: keeps what filter said, being established\n";
    assert!(explain(&cache).contains(keeps), "{}", explain(&cache));
    pass(&mut cache, packet());
    let kept = "fresh\n  kept in spite of edits: the steps of filter\n";
    assert!(explain(&cache).contains(kept), "{}", explain(&cache));

    let late = cache.explain(Origin::Received, &packet().key, Instant::from_secs(9_999));
    assert!(
        late.to_string().contains("this one has idled out"),
        "{late}"
    );
}

#[test]
fn an_explanation_knows_what_it_has_forgotten() {
    let mut cache = cache(2);
    pass(&mut cache, packet());
    for port in 0..9 {
        insert(&mut cache, &format!("udp dport {port} accept"));
    }
    let far = "stamp: generation 6 of 15: no edit since touches it\n";
    assert!(explain(&cache).contains(far), "{}", explain(&cache));
    insert(&mut cache, "tcp dport 80 drop");
    for port in 0..2 {
        insert(&mut cache, &format!("udp dport {port} accept"));
    }
    let near = "stamp: generation 6 of 18: older than the region log, and edits came near it\n  \
                its next packet: filter to look again\n";
    assert!(explain(&cache).contains(near), "{}", explain(&cache));
}
