//! Freshness, exhaustively: every short story of packets both ways and edits of everything that an edit can reach (a rule, an
//! element of a set, a next hop, a translation, several at once, something else altogether), with logs that forget at once.
//!
//! The filter sees the destination translated, so an element names the inside host while packets name the outside one.

use gufc::cache::{Config, FlowCache, Stats};
use gufc::epoch::Change;
use gufc::hooks::filter::{Filter, Name, Place, Policy, Rule, Table};
use gufc::hooks::route::{NextHopId, Routes, Target};
use gufc::key::{Cidr, Family, Tuple};
use gufc::packet::Interface;
use gufc::testing::hooks::ToyNat;
use gufc::testing::toy::ToyPacket;
use gufc::testing::uncached::Uncached;
use gufc::time::Instant;

type Hooks = (ToyNat, Routes, Filter);

const NOW: Instant = Instant::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    There,
    Back,
    /// The inside host goes into the set that is dropped, or out.
    Element,
    /// The next hop moves to the other interface.
    NextHop,
    /// The translation goes, or comes.
    Translation,
    /// One transaction: an element of each set and a rule, in or out.
    Transaction,
    /// The other set gets an element or loses it: nobody here is in it.
    Elsewhere,
}

const STEPS: [Step; 7] = [
    Step::There,
    Step::Back,
    Step::Element,
    Step::NextHop,
    Step::Translation,
    Step::Transaction,
    Step::Elsewhere,
];

fn hooks() -> Hooks {
    let mut filter = Filter::new("filter", 10, 1, Policy::Accept);
    let table: Table = "set blocked {
            type ipv4_addr
            size 2
        }
        set other {
            type ipv4_addr
            size 2
        }
        chain main {
            ip daddr @blocked drop
            ip daddr @other drop
        }"
    .parse()
    .expect("a table");
    let _ = filter.commit(filter.diff(&table)).expect("room");
    let mut routes = Routes::try_new(4).expect("memory");
    let hop = routes.add_next_hop(Interface(1)).expect("room");
    let _ = routes
        .insert(Cidr::all(Family::V4), Target::Via(hop))
        .expect("room");
    (ToyNat { map: mapped() }, routes, filter)
}

fn mapped() -> Option<(core::net::IpAddr, core::net::IpAddr)> {
    let outside = "10.0.0.9".parse().expect("an address");
    let inside = "10.0.0.2".parse().expect("an address");
    Some((outside, inside))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn cidr(text: &str) -> Cidr {
    text.parse().expect("a prefix")
}

/// Puts an element in, or takes it out where it is.
fn toggle(filter: &mut Filter, set: &str, element: &str) -> Change {
    let (set, element) = (name(set), cidr(element));
    let ((), change) = filter
        .delete_element(set, element)
        .or_else(|_| filter.add_element(set, element))
        .expect("in or out");
    change
}

fn edit(step: Step, (nat, routes, filter): &mut Hooks) -> Result<((), Change), ()> {
    let change = match step {
        Step::There | Step::Back => Change::nothing(),
        Step::Element => toggle(filter, "blocked", "10.0.0.2/32"),
        Step::Elsewhere => toggle(filter, "other", "192.0.2.0/24"),
        Step::NextHop => {
            let hop = NextHopId(0);
            let at = routes.next_hop(hop).expect("it is there").interface;
            let to = Interface(3 - at.0);
            routes.move_next_hop(hop, to).expect("it is there").1
        }
        Step::Translation => {
            let map = if nat.map.is_some() { None } else { mapped() };
            let Ok(((), change)) = nat.set(map);
            change
        }
        Step::Transaction => {
            let rule: Rule = "udp sport 4000 ip daddr 10.0.0.2 drop"
                .parse()
                .expect("a rule");
            let standing = filter.rules().find(|(_, held, _)| **held == rule);
            let id = standing.map(|(id, ..)| id);
            let mut edits = filter.begin();
            let (blocked, other) = (name("blocked"), name("other"));
            match id {
                Some(id) => {
                    edits.remove(id);
                    edits.delete_element(blocked, cidr("10.0.0.0/30"));
                    edits.delete_element(other, cidr("192.0.2.7/32"));
                }
                None => {
                    edits.insert(Place::First, rule);
                    edits.add_element(blocked, cidr("10.0.0.0/30"));
                    edits.add_element(other, cidr("192.0.2.7/32"));
                }
            }
            filter.commit(edits).map_err(|_| ())?.1
        }
    };
    Ok(((), change))
}

/// Plays a story to the cache and to the hooks without one.
fn play(story: &[Step], regions: usize) -> Stats {
    let config = Config {
        sessions: 4,
        regions,
        ..Config::new([1, 2])
    };
    let mut cache: FlowCache<Tuple, Hooks> = FlowCache::new(config, hooks()).expect("a cache");
    let mut twin = Uncached { hooks: hooks() };
    let there: Tuple = "udp 10.0.0.1:4000 > 10.0.0.9:53".parse().expect("a tuple");
    let back: Tuple = "udp 10.0.0.2:53 > 10.0.0.1:4000".parse().expect("a tuple");
    for step in story {
        match step {
            Step::There | Step::Back => {
                let key = if *step == Step::There { there } else { back };
                let (mut got, mut expected) = (ToyPacket::new(key), ToyPacket::new(key));
                let outcome = cache.process(&mut got, NOW);
                let wanted = twin.process(&mut expected, NOW);
                assert!(
                    outcome.agrees(&wanted) && got.key == expected.key,
                    "{story:?}, {regions} regions, {step:?}: {outcome:?}, not {wanted:?}"
                );
            }
            _ => {
                let results = [
                    cache.edit(|hooks| edit(*step, hooks)).map(|_| ()),
                    twin.edit(|hooks| edit(*step, hooks)),
                ];
                assert_eq!(results, [Ok(()); 2], "{step:?}");
            }
        }
    }
    assert_eq!(cache.check(), Ok(()), "{story:?}");
    cache.stats().clone()
}

/// Every story of three steps between packets both ways, with logs of one region, three, and enough; and of four steps, with a
/// log of two.
#[test]
fn every_short_story_is_fresh() {
    let (mut lost, mut again) = (0, 0);
    for (steps, logs) in [(3, &[1, 3, 64][..]), (4, &[2])] {
        for number in 0..STEPS.len().pow(steps) {
            let digit = |place| STEPS[number / STEPS.len().pow(place) % STEPS.len()];
            let middle: Vec<Step> = (0..steps).map(digit).collect();
            let mut story = vec![Step::There, Step::Back];
            story.extend(&middle);
            story.extend([Step::There, Step::Back, Step::There]);
            // What edits that do not touch it do to a session: nothing.
            let indifferent = middle.iter().all(|step| {
                matches!(
                    step,
                    Step::There | Step::Back | Step::NextHop | Step::Elsewhere
                )
            });
            for regions in logs {
                let stats = play(&story, *regions);
                let looked = stats.rechecked + stats.revisited;
                if indifferent {
                    assert_eq!(looked, 0, "{story:?}, {regions} regions: {stats:?}");
                    assert_eq!(stats.misses, 1, "{story:?}, {regions} regions: {stats:?}");
                }
                lost += stats.log_lost;
                again += looked;
            }
        }
    }
    assert!(lost > 100 && again > 1_000, "{lost} {again}");
}
