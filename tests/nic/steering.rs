//! Filters, cookies and offloads, one fact a test.

use gufc::cache::{Config, FlowCache};
use gufc::cookie::FlowCookie;
use gufc::hook::Views;
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::{FlowKey, Pattern, Protocol, SevenTuple, Tuple};
use gufc::nic::{
    Driver, Facts, Fault, Faults, Indirection, Intake, Life, Mark, Nic, NicConfig, Queue, Refusal,
    Rss, RssKey, ShortCookie, Told, Unhelped, Width,
};
use gufc::packet::Origin;
use gufc::shard::Control;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::verdict::{Path, Verdict};

type Cache = FlowCache<Tuple, (Filter,)>;

fn cache() -> Cache {
    let filter = Filter::new("filter", 10, 1, Policy::Accept);
    FlowCache::new(Config::new([1, 2]), (filter,)).expect("a valid configuration")
}

fn nic(config: NicConfig, faults: Faults) -> Nic<Tuple, ToyPacket> {
    let table = Indirection::equal(7, config.queues);
    Nic::new(config, Rss::new(RssKey::symmetric(0x6d5a)), table, faults)
}

fn flow(n: u16) -> Tuple {
    SevenTuple::new(
        core::net::Ipv4Addr::new(10, 0, 0, 1),
        core::net::Ipv4Addr::new(192, 0, 2, 1),
        Protocol::TCP,
        n,
        80,
    )
    .into()
}

const CALM: Faults = Faults::new([0, 0]);
const PATIENCE: Duration = Duration::from_millis(5);

fn at(millis: u64) -> Instant {
    Instant::from_millis(1_000 + millis)
}

/// Goal: flows forwarded past software are withdrawn when an edit touches them, and only those; until the NIC has confirmed, the
/// barrier says that the edit is not visible, and it is not: such a packet goes by the rules before.
#[test]
fn an_edit_is_visible_when_the_nic_has_given_back_what_it_touches() {
    let mut cache = cache();
    let mut nic = nic(NicConfig::new(1), CALM);
    let mut driver = Driver::new(Width::Bits24, 100, 10, PATIENCE);
    // The control handle of a dataplane whose one shard drives the NIC.
    let (control, mut subscribers) = Control::new(1, 4);
    let subscriber = &mut subscribers[0];
    let mut pairs = Vec::new();
    for n in [1, 2] {
        let there = ToyPacket::new(flow(n));
        let back = ToyPacket::new(flow(n).inverse().expect("an answer"));
        for packet in [there, back, there, back] {
            let _ = cache.process(&mut packet.clone(), at(0));
        }
        let able = cache
            .lend(Origin::Received, &flow(n))
            .expect("plain in both directions");
        let id = driver.offload(&mut nic, able.flows, able.views, at(0));
        pairs.push(id.expect("room"));
    }
    driver.tick(&mut nic, at(1), 10);
    let send = |nic: &mut Nic<_, _>, n, now| {
        nic.receive(&flow(n), Facts::default(), ToyPacket::new(flow(n)), now)
    };
    assert!(matches!(send(&mut nic, 1, at(2)), Intake::Forwarded(..)));
    assert!(matches!(send(&mut nic, 2, at(2)), Intake::Forwarded(..)));

    // The edit: published, taken by the shard, applied, and not yet acknowledged.
    let generation = control
        .publish("tcp sport 1 drop")
        .expect("room in the ring");
    let (taken, rule) = subscriber.take().expect("published");
    let rule = rule.parse().expect("a rule");
    let mut change = None;
    let edited = cache.edit(|(filter,)| {
        let (id, touched) = filter.insert(Place::First, rule)?;
        change = Some(touched.clone());
        Ok::<_, gufc::hooks::filter::EditError>((id, touched))
    });
    assert!(edited.is_ok());
    let change = change.expect("edited");
    assert_eq!(driver.publish(&mut nic, &change, taken, at(3)), 1);
    assert!(!driver.is_visible(taken) && !control.is_visible(generation));
    // The NIC has not heard of it: the packet passes that the new rule drops, and nobody has promised otherwise.
    assert!(matches!(send(&mut nic, 1, at(3)), Intake::Forwarded(..)));

    driver.tick(&mut nic, at(4), 10);
    assert!(driver.is_visible(taken));
    subscriber.acknowledge(taken);
    assert!(control.is_visible(generation));
    assert_eq!(send(&mut nic, 1, at(5)), Intake::Queued(Queue(0)));
    let mut packet = nic.poll(Queue(0)).expect("queued").packet;
    let outcome = cache.process(&mut packet, at(5));
    assert_eq!(outcome.verdict, Verdict::Drop);
    // The flow that the edit does not touch was not disturbed.
    assert!(matches!(send(&mut nic, 2, at(5)), Intake::Forwarded(..)));
    assert_eq!(driver.stats().withdrawn_by_edit, 1);

    // What was forwarded is credited, the last packets too.
    let mut credited = Vec::new();
    let mut ended = Vec::new();
    driver.collect(&mut nic, |_, told| match told {
        Told::Forwarded(flow, tally) => credited.push((*flow, tally.packets)),
        Told::Ended(flows) => ended.push(flows[0]),
    });
    assert_eq!(ended, [flow(1)]);
    assert_eq!(credited, [(flow(1), 2), (flow(2), 2)]);
    driver.collect(&mut nic, |_, told| panic!("{told:?} twice"));
    assert_eq!(driver.offload_of(&flow(1)), None);
    assert_eq!(driver.offload_of(&flow(2)), Some(pairs[1]));
}

/// A control packet leaves the offload before it is forwarded, and the pair with it.
#[test]
fn a_reset_is_software_s() {
    let mut nic = nic(NicConfig::new(1), CALM);
    let mut driver: Driver<Tuple> = Driver::new(Width::Bits24, 100, 10, PATIENCE);
    let (there, back) = (flow(1), flow(1).inverse().expect("an answer"));
    let views = [there, back].map(|key| gufc::hook::Views::between(key, key));
    driver
        .offload(&mut nic, [there, back], views, at(0))
        .expect("room");
    driver.tick(&mut nic, at(1), 10);
    let reset = Facts {
        control: true,
        ..Facts::default()
    };
    let packet = ToyPacket::new(there);
    let sent = nic.receive(&there, reset, packet, at(2));
    assert_eq!(sent, Intake::Queued(Queue(0)));
    let after = nic.receive(&back, Facts::default(), packet, at(2));
    assert_eq!(after, Intake::Queued(Queue(0)), "the other direction too");
    driver.tick(&mut nic, at(3), 10);
    driver.tick(&mut nic, at(4), 10);
    driver.collect(&mut nic, |_, _| {});
    assert_eq!((driver.offload_of(&there), nic.filters()), (None, 0));
}

/// A cookie is quarantined until every packet that may bear it has been delivered, however late.
#[test]
fn a_number_is_not_given_again_while_a_packet_bears_it() {
    let mut nic = nic(NicConfig::new(1), CALM);
    let mut driver = Driver::new(Width::Bits16, 1, 0, PATIENCE);
    let names = |slot| gufc::cookie::FlowCookie {
        slot,
        generation: 0,
    };
    let first = driver
        .mark(&mut nic, flow(1), None, names(1), at(0))
        .expect("room");
    driver.tick(&mut nic, at(1), 10);
    nic.receive(&flow(1), Facts::default(), ToyPacket::new(flow(1)), at(1));
    assert!(driver.unmark(&mut nic, &flow(1), at(2)));
    driver.tick(&mut nic, at(3), 10);
    assert_eq!(driver.cookies().life(first), Life::Quarantined);
    let refused = driver.mark(&mut nic, flow(2), None, names(2), at(3));
    assert_eq!(refused, Err(Unhelped::Full));
    let late = nic.poll(Queue(0)).expect("it waits since before");
    assert_eq!(late.cookie, first);
    assert_eq!(driver.resolve(late.cookie), Err(Refusal::Leaving));
    driver.tick(&mut nic, at(4), 10);
    let second = driver
        .mark(&mut nic, flow(2), None, names(2), at(4))
        .expect("free again");
    assert_ne!(first, second);
    assert_eq!(driver.resolve(first), Err(Refusal::Recycled));
    assert_eq!(driver.resolve(second), Ok(names(2)));
}

/// Every completion lost: the driver asks again, and comes to the truth once one gets through.
#[test]
fn a_lost_completion_is_asked_for_again() {
    let faults = Faults::new([1, 2]).with(Fault::LostCompletion, 200);
    let mut nic = nic(NicConfig::new(1), faults);
    let mut driver = Driver::new(Width::Bits32, 50, 0, PATIENCE);
    let names = gufc::cookie::FlowCookie {
        slot: 3,
        generation: 9,
    };
    let cookies: Vec<ShortCookie> = (0..50)
        .map(|n| {
            driver
                .mark(&mut nic, flow(n), None, names, at(0))
                .expect("room")
        })
        .collect();
    let mut now = 0;
    while cookies
        .iter()
        .any(|cookie| driver.cookies().life(*cookie) != Life::Live)
    {
        now += 10;
        driver.tick(&mut nic, at(now), 50);
        assert_eq!(driver.check(), Ok(()));
    }
    assert!(nic.faults().struck(Fault::LostCompletion) > 50 && driver.stats().retries > 50);
    assert_eq!(nic.filters(), 50);
    for n in 0..50 {
        assert!(driver.unmark(&mut nic, &flow(n), at(now)));
    }
    while !driver.cookies().is_empty() {
        now += 10;
        driver.tick(&mut nic, at(now), 50);
    }
    assert_eq!(nic.filters(), 0);
}

/// Filters are few, and age; commands and queues are bounded; each is counted, and the flows go on without.
#[test]
fn everything_is_bounded_and_counted() {
    let config = NicConfig {
        filters: 2,
        commands: 3,
        queue_capacity: 2,
        age: Duration::from_millis(100),
        ..NicConfig::new(1)
    };
    let mut nic = nic(config, CALM);
    let mut driver = Driver::new(Width::Bits24, 100, 0, PATIENCE);
    let names = gufc::cookie::FlowCookie {
        slot: 0,
        generation: 0,
    };
    for n in 0..3 {
        assert!(driver.mark(&mut nic, flow(n), None, names, at(0)).is_ok());
    }
    let busy = driver.mark(&mut nic, flow(3), None, names, at(0));
    assert_eq!((busy, nic.stats().busy), (Err(Unhelped::Busy), 1));
    driver.tick(&mut nic, at(1), 10);
    assert_eq!((nic.filters(), nic.stats().no_room), (2, 1));
    assert_eq!(driver.stats().marks_refused, 1);
    assert!(!driver.is_marked(&flow(2)));
    for _ in 0..3 {
        nic.receive(&flow(0), Facts::default(), ToyPacket::new(flow(0)), at(2));
    }
    assert_eq!((nic.stats().queued, nic.stats().overflows), (2, 1));
    while nic.poll(Queue(0)).is_some() {}
    for millis in [60, 120, 180, 240] {
        driver.tick(&mut nic, at(millis), 10);
    }
    assert_eq!((nic.filters(), nic.stats().aged), (0, 2));
    assert_eq!(driver.stats().unmarked, 2);
    assert!(driver.cookies().is_empty() && !driver.is_marked(&flow(0)));
}

/// A wide filter names a subtree, or a queue: its packets need no hash, and a wrong subtree costs a lookup.
#[test]
fn a_wide_filter_names_a_subtree() {
    let mut cache = cache();
    let mut nic = nic(NicConfig::new(4), CALM);
    let mut driver: Driver<Tuple> = Driver::new(Width::Bits24, 8, 0, PATIENCE);
    let key = flow(1);
    let names = cache.subtree_cookie(Origin::Received, &key);
    let cookie = driver
        .mark(&mut nic, key, Some(Queue(3)), names, at(0))
        .expect("room");
    nic.set_wide(vec![(
        Pattern {
            protocol: Some(Protocol::TCP),
            ..Pattern::ANY
        },
        Mark {
            queue: Some(Queue(2)),
            cookie,
        },
    )]);
    let mut process = |nic: &mut Nic<_, ToyPacket>, key: Tuple, queue| {
        nic.receive(&key, Facts::default(), ToyPacket::new(key), at(0));
        let received = nic.poll(queue).expect("steered");
        let mut packet = ToyPacket {
            cookie: driver.resolve(received.cookie).ok(),
            ..received.packet
        };
        cache.process(&mut packet, at(0)).path
    };
    // Before the exact filter is there, the wide one marks.
    assert_eq!(process(&mut nic, key, Queue(2)), Path::Miss);
    assert_eq!(process(&mut nic, key, Queue(2)), Path::Hit);
    // Another flow under the same mark: the subtree is not its own.
    assert_eq!(process(&mut nic, flow(2), Queue(2)), Path::Miss);
    assert_eq!(process(&mut nic, flow(2), Queue(2)), Path::Hit);
    let stats = cache.stats();
    assert_eq!((stats.cookie_hits, stats.cookie_misses), (1, 3));
}

/// The NIC refuses what it was asked twice, for it had been slow; then room comes before the second request does.
#[test]
fn what_was_asked_twice_is_forgotten_when_neither_request_can_come_to_anything() {
    let config = NicConfig {
        filters: 2,
        delay: Duration::from_millis(10),
        ..NicConfig::new(1)
    };
    let mut nic = nic(config, CALM);
    let mut driver = Driver::new(Width::Bits24, 10, 10, PATIENCE);
    let flows = |n| [flow(n), flow(n).inverse().expect("an answer")];
    let views = |n| flows(n).map(|flow| Views::between(flow, flow));
    let first = driver
        .offload(&mut nic, flows(1), views(1), at(0))
        .expect("room");
    driver.tick(&mut nic, at(10), 10);
    let _ = driver
        .offload(&mut nic, flows(2), views(2), at(20))
        .expect("room");
    let names = FlowCookie {
        slot: 4,
        generation: 0,
    };
    let cookie = driver
        .mark(&mut nic, flow(3), None, names, at(20))
        .expect("room");
    assert!(driver.withdraw(&mut nic, first, at(21)));
    for now in 22..120 {
        driver.tick(&mut nic, at(now), 10);
        driver.collect(&mut nic, |_, _| {});
        let mut send =
            |n| nic.receive(&flow(n), Facts::default(), ToyPacket::new(flow(n)), at(now));
        let (two, _) = (send(2), send(3));
        let marked = core::iter::from_fn(|| nic.poll(Queue(0)))
            .any(|received| received.packet.key == flow(3) && received.cookie == cookie);
        assert!(driver.offload_of(&flow(2)).is_some() || !matches!(two, Intake::Forwarded(..)));
        assert!(driver.is_marked(&flow(3)) || !marked, "at {now}");
    }
    assert!(driver.stats().retries > 0 && driver.stats().offloads_refused == 1);
    assert_eq!(
        (driver.offload_of(&flow(2)), driver.is_marked(&flow(3))),
        (None, false)
    );
    assert_eq!(nic.filters(), 0);
    driver.check().expect("in order");
}
