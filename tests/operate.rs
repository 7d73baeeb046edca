//! In an operator's hands: listings that disturb nothing, deletes by filter, observers, sessions that survive a restart.

use std::cell::RefCell;
use std::rc::Rc;

use gufc::cache::{
    Config, Cursor, End, Filter as Sessions, FlowCache, ImportError, Segment, Trust,
};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::{FlowKey, Tuple};
use gufc::observe::Event;
use gufc::packet::Origin;
use gufc::pipeline::Observed;
use gufc::testing::prng::SplitMix64;
use gufc::testing::script::hooks;
use gufc::testing::toy::{Choices, ToyPacket, packet};
use gufc::time::{Duration, Instant};
use gufc::verdict::Path;
use proptest::prelude::*;

type Cache = FlowCache<Tuple, (Filter,)>;

fn rules() -> (Filter,) {
    let mut filter = Filter::new("filter", 4, 1, Policy::Accept);
    let rule = "udp dport 9 drop".parse().expect("a rule");
    let (_, _change) = filter.insert(Place::Last, rule).expect("room");
    (filter,)
}

fn cache(sessions: usize) -> Cache {
    let config = Config {
        sessions,
        ..Config::new([1, 2])
    };
    FlowCache::new(config, rules()).expect("a valid configuration")
}

fn there(host: u32, port: u16) -> ToyPacket {
    let [_, a, b, c] = host.to_be_bytes();
    let text = format!("udp 10.{a}.{b}.{c}:5000 > 192.0.2.1:{port}");
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn back(packet: ToyPacket) -> ToyPacket {
    let key = packet.key.inverse().expect("an answer");
    ToyPacket { key, ..packet }
}

fn send(cache: &mut Cache, mut packet: ToyPacket, now: Instant) -> Path {
    cache.process(&mut packet, now).path
}

/// Hosts 0 to 9 are half-open, 10 to 19 established, 20 to 29 denied.
fn peopled(now: Instant) -> Cache {
    let mut cache = cache(64);
    for host in 0..30 {
        let port = if host < 20 { 53 } else { 9 };
        let _ = send(&mut cache, there(host, port), now);
        if (10..20).contains(&host) {
            let _ = send(&mut cache, back(there(host, port)), now);
        }
    }
    cache
}

fn listed(cache: &Cache, filter: &Sessions<'_>, budget: usize, now: Instant) -> Vec<Tuple> {
    let (mut keys, mut next) = (Vec::new(), Some(Cursor::START));
    while let Some(cursor) = next {
        let before = keys.len();
        next = cache.dump(cursor, budget, filter, now, |one| keys.push(one.original));
        assert!(keys.len() - before <= budget);
    }
    keys
}

#[test]
fn a_listing_shows_what_its_filter_means() {
    let begin = Instant::from_secs(1);
    let mut cache = peopled(begin);
    let later = begin + Duration::from_secs(1);
    assert_eq!(send(&mut cache, there(3, 53), later), Path::Hit);
    let before = format!("{:?}", cache.stats());
    let count = |filter| {
        let all = [1, 7, usize::MAX].map(|budget| listed(&cache, &filter, budget, later));
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
        all[0].len()
    };
    let all = Sessions::ALL;
    assert_eq!(count(all), 30);
    for segment in Segment::ALL {
        let segment = Some(segment);
        assert_eq!(count(Sessions { segment, ..all }), 10);
    }
    let idle = Some(Duration::from_secs(1));
    assert_eq!(count(Sessions { idle, ..all }), 29);
    let prefix = Some("10.0.0.0/29".parse().expect("a prefix"));
    assert_eq!(count(Sessions { prefix, ..all }), 8);
    let prefix = Some("192.0.2.1/32".parse().expect("a prefix"));
    assert_eq!(count(Sessions { prefix, ..all }), 30);
    let zone = Some(Default::default());
    assert_eq!(count(Sessions { zone, ..all }), 30);
    let zone = gufc::key::Zone::new(7);
    assert_eq!(count(Sessions { zone, ..all }), 0);
    let origin = Some(Origin::Local);
    assert_eq!(count(Sessions { origin, ..all }), 0);
    let hook = Some("filter");
    assert_eq!(count(Sessions { hook, ..all }), 30);
    let hook = Some("no such hook");
    assert_eq!(count(Sessions { hook, ..all }), 0);
    assert_eq!(format!("{:?}", cache.stats()), before);
}

/// A listing beside traffic shows whoever is there all the time exactly once, and touches nobody's recency.
#[test]
fn a_listing_goes_on_beside_traffic() {
    let mut now = Instant::from_secs(1);
    let mut cache = peopled(now);
    let (mut seen, mut next) = (Vec::new(), Some(Cursor::START));
    let mut host = 100;
    while let Some(cursor) = next {
        next = cache.dump(cursor, 3, &Sessions::ALL, now, |one| {
            seen.push(one.original)
        });
        now = now + Duration::from_millis(1);
        for _ in 0..5 {
            host += 1;
            let _ = send(&mut cache, there(host, 53), now);
        }
        let _ = cache.remove(Origin::Received, &there(host - 1, 53).key);
    }
    for host in 0..30 {
        let key = there(host, if host < 20 { 53 } else { 9 }).key;
        assert_eq!(seen.iter().filter(|seen| **seen == key).count(), 1, "{key}");
    }
    let mut twin = peopled(Instant::from_secs(1));
    let later = Instant::from_secs(1) + Duration::from_secs(31);
    let ended = twin.maintain(later, 1_000);
    let mut listed_often = peopled(Instant::from_secs(1));
    for _ in 0..10 {
        let _ = listed(&listed_often, &Sessions::ALL, 1, Instant::from_secs(20));
    }
    assert_eq!(listed_often.maintain(later, 1_000), ended);
}

#[test]
fn a_delete_ends_what_its_filter_means() {
    let now = Instant::from_secs(1);
    let mut cache = peopled(now);
    let filter = Sessions {
        prefix: Some("10.0.0.0/28".parse().expect("a prefix")),
        segment: Some(Segment::Established),
        ..Sessions::ALL
    };
    let (mut ended, mut next) = (0, Some(Cursor::START));
    while let Some(cursor) = next {
        let step = cache.remove_where(cursor, 4, &filter, now);
        assert!(step.0 <= 4);
        (ended, next) = (ended + step.0, step.1);
    }
    assert_eq!((ended, cache.len()), (6, 24));
    assert_eq!(cache.stats().ended[End::Removed as usize], 6);
    assert_eq!(send(&mut cache, there(12, 53), now), Path::Miss);
    assert_eq!(send(&mut cache, there(17, 53), now), Path::Hit);
    assert_eq!(cache.check(), Ok(()));
}

/// What an observer is told adds up to the counters.
#[test]
fn an_observer_is_told_everything() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&log);
    let pipeline = Observed {
        hooks: rules(),
        observer: move |event: &Event| told.borrow_mut().push(*event),
    };
    let config = Config {
        sessions: 8,
        stay_provisional: Duration::ZERO,
        ..Config::new([1, 2])
    };
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(config, pipeline).expect("a valid configuration");
    let mut chance = SplitMix64(1);
    let mut now = Instant::from_secs(1);
    for _ in 0..500 {
        let there = there(chance.below(20) as u32, [53, 9][chance.below(2) as usize]);
        let mut packet = if chance.below(3) == 0 {
            back(there)
        } else {
            there
        };
        let _ = cache.process(&mut packet, now);
        now = now + Duration::from_millis(chance.below(500));
        if chance.below(50) == 0 {
            let rule = "tcp dport 1 drop".parse().expect("a rule");
            let edit = |observed: &mut Observed<(Filter,), _>| {
                let (filter,) = &mut observed.hooks;
                filter.replace(vec![rule], Policy::Accept)
            };
            cache.edit(edit).expect("room");
        }
    }
    let events = log.borrow();
    let count =
        |of: &dyn Fn(&Event) -> bool| events.iter().filter(|event| of(event)).count() as u64;
    let stats = cache.stats();
    assert_eq!(
        count(&|e| matches!(e, Event::Answered { .. })),
        stats.packets()
    );
    let is_hit = |e: &Event| {
        matches!(
            e,
            Event::Answered {
                path: Path::Hit,
                ..
            }
        )
    };
    assert_eq!(count(&is_hit), stats.hits);
    assert_eq!(count(&|e| matches!(e, Event::Begun { .. })), stats.begun);
    assert_eq!(count(&|e| matches!(e, Event::Edited { .. })), stats.commits);
    for end in End::ALL {
        let of = |e: &Event| matches!(e, Event::Ended { why, .. } if *why == end);
        assert_eq!(count(&of), stats.ended[end as usize], "{end:?}");
    }
    assert!(stats.commits > 0 && stats.ended[End::Evicted as usize] > 0);
    let counted = |e: &Event| match e {
        Event::Ended { packets, .. } => packets.iter().sum(),
        _ => 0,
    };
    let ended: u64 = events.iter().map(counted).sum();
    let left: u64 = cache
        .iter()
        .map(|one| one.packets.iter().sum::<u64>())
        .sum();
    let of_nobody: u64 = stats.uncached.iter().sum();
    assert_eq!(ended + left + of_nobody, stats.packets());
}

fn export(cache: &FlowCache<Tuple, impl gufc::pipeline::Pipeline>, now: Instant) -> Vec<u8> {
    let mut block = Vec::new();
    assert_eq!(
        cache.export(Cursor::START, usize::MAX, now, &mut block),
        None
    );
    block
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sessions of any pipeline come back exactly, whatever has happened to them before.
    #[test]
    fn what_is_exported_is_imported_exactly(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        let config = Config { sessions: 64, per_source: u32::MAX, ..Config::new([1, 2]) };
        let new = || FlowCache::<Tuple, _>::new(config.clone(), hooks(false)).expect("a valid configuration");
        let mut cache = new();
        let mut now = Instant::from_secs(1);
        let mut choices = Choices::new(&bytes);
        while !choices.is_empty() {
            let _ = cache.process(&mut packet(&mut choices), now);
            now = now + Duration::from_millis(u64::from(choices.byte()));
        }
        let block = export(&cache, now);
        let mut other = new();
        let imported = other.import(&block, Trust::Trust, now).expect("a sound block");
        prop_assert_eq!((imported.begun, imported.refused), (cache.len(), 0));
        prop_assert_eq!(other.check(), Ok(()));
        prop_assert_eq!(export(&other, now), block.clone());
        let again = other.import(&block, Trust::Trust, now).expect("a sound block");
        prop_assert_eq!((again.begun, again.known), (0, cache.len()));
    }

    /// A block with a wrong byte, or one too few or too many, is refused whole.
    #[test]
    fn damage_is_refused_whole(at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<prop::sample::Index>()) {
        let now = Instant::from_secs(1);
        let block = export(&peopled(now), now);
        let mut damaged = block.clone();
        damaged[at.index(block.len())] ^= 1 << bit;
        let mut long = block.clone();
        long.push(0);
        for bad in [&damaged, &block[..cut.index(block.len())], &long] {
            let mut cache = cache(64);
            prop_assert!(cache.import(bad, Trust::Trust, now).is_err());
            prop_assert!(cache.is_empty());
        }
    }
}

/// Established flows stay established where the export is trusted, and every packet is judged by the rules of here and now.
#[test]
fn imported_sessions_are_judged_anew() {
    let now = Instant::from_secs(5);
    let block = export(&peopled(now), now);
    for trust in [Trust::Trust, Trust::Reevaluate] {
        let mut cache = cache(256);
        let drop_all = |(filter,): &mut (Filter,)| filter.replace(Vec::new(), Policy::Drop);
        cache.edit(drop_all).expect("room");
        cache.import(&block, trust, now).expect("a sound block");
        let established = cache
            .iter()
            .filter(|one| one.segment == Segment::Established)
            .count();
        assert_eq!(established, if trust == Trust::Trust { 10 } else { 0 });
        for host in 0..30 {
            let port = if host < 20 { 53 } else { 9 };
            let outcome = cache.process(&mut there(host, port), now);
            assert!(!outcome.verdict.is_accept());
            assert!(!outcome.path.is_cached());
            let outcome = cache.process(&mut there(host, port), now);
            assert!(outcome.path.is_cached() && !outcome.verdict.is_accept());
        }
        assert_eq!((cache.len(), cache.check()), (30, Ok(())));
    }
    assert_eq!(
        cache(1).import(b"gufc\x02", Trust::Trust, now),
        Err(ImportError::Damaged)
    );
    assert_eq!(
        cache(1).import(b"gufc\x02\x00", Trust::Trust, now),
        Err(ImportError::Version(2))
    );
}

/// However much there is to do, `maintain` ends no more than its budget says, and all that has idled out is ended after going round
/// once, no sooner and no later; sessions that are not idle stay.
#[test]
fn maintain_never_exceeds_its_budget() {
    let begin = Instant::from_secs(1);
    for budget in [0, 1, 7, 64, 1_000] {
        let ends = Rc::new(RefCell::new(0));
        let told = Rc::clone(&ends);
        let pipeline = Observed {
            hooks: rules(),
            observer: move |event: &Event| {
                *told.borrow_mut() += usize::from(matches!(event, Event::Ended { .. }));
            },
        };
        let config = Config {
            sessions: 640,
            ..Config::new([1, 2])
        };
        let mut cache: FlowCache<Tuple, _> =
            FlowCache::new(config, pipeline).expect("a valid configuration");
        for host in 0..640 {
            let _ = cache.process(&mut there(host, 53), begin);
        }
        let later = begin + Duration::from_secs(31);
        // Every tenth has just had a packet.
        for host in (0..640).step_by(10) {
            let _ = cache.process(&mut back(there(host, 53)), begin + Duration::from_secs(29));
        }
        let (mut ended, mut calls) = (0, 0);
        while calls * budget < 640 && calls < 1_000 {
            let now = cache.maintain(later, budget);
            ended += now;
            calls += 1;
            assert!(now <= budget);
            assert_eq!(*ends.borrow(), ended, "told as it says");
            assert_eq!(cache.len(), 640 - ended);
        }
        assert_eq!(ended, if budget == 0 { 0 } else { 576 }, "{budget}");
        assert_eq!(cache.check(), Ok(()));
    }
}

/// A reply that comes first after a restart finds its session.
#[test]
fn replies_find_imported_sessions() {
    let now = Instant::from_secs(5);
    let block = export(&peopled(now), now);
    let mut cache = cache(64);
    cache
        .import(&block, Trust::Trust, now)
        .expect("a sound block");
    assert_eq!(send(&mut cache, back(there(12, 53)), now), Path::Revisited);
    assert_eq!(send(&mut cache, back(there(12, 53)), now), Path::Hit);
    assert_eq!(send(&mut cache, there(12, 53), now), Path::Revisited);
    assert_eq!(send(&mut cache, there(12, 53), now), Path::Hit);
    assert_eq!((cache.len(), cache.check()), (30, Ok(())));
}

/// Many sessions, in bounded steps with traffic between them, come back exactly. `GUFC_SESSIONS` says how many.
#[test]
fn many_sessions_move_in_bounded_steps() {
    let sessions = std::env::var("GUFC_SESSIONS").map_or(5_000, |n| n.parse().expect("a number"));
    let now = Instant::from_secs(5);
    let config = Config {
        sessions: sessions as usize,
        ..Config::new([1, 2])
    };
    let new =
        || -> Cache { FlowCache::new(config.clone(), rules()).expect("a valid configuration") };
    let (mut old, mut new) = (new(), new());
    for host in 0..sessions {
        assert_eq!(send(&mut old, there(host, 53), now), Path::Miss);
    }
    let begun = std::time::Instant::now();
    let (mut blocks, mut next) = (Vec::new(), Some(Cursor::START));
    while let Some(cursor) = next {
        let mut block = Vec::new();
        next = old.export(cursor, 1_000, now, &mut block);
        let imported = new
            .import(&block, Trust::Trust, now)
            .expect("a sound block");
        assert_eq!(imported.refused, 0);
        blocks.extend(block);
        assert_eq!(send(&mut old, there(7, 53), now), Path::Hit);
    }
    let took = begun.elapsed();
    assert_eq!(new.len(), sessions as usize);
    let (mut again, mut next) = (Vec::new(), Some(Cursor::START));
    while let Some(cursor) = next {
        next = new.export(cursor, 1_000, now, &mut again);
    }
    assert!(
        again == blocks,
        "what was imported is exported again, to the byte"
    );
    let mut shown = 0;
    let mut next = Some(Cursor::START);
    while let Some(cursor) = next {
        next = new.dump(cursor, 1_000, &Sessions::ALL, now, |_| shown += 1);
        let _ = send(&mut old, there(7, 53), now);
    }
    assert_eq!(shown, sessions);
    println!(
        "{sessions} sessions, {} bytes, out and in in {took:?}",
        blocks.len()
    );
}
