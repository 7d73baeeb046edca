//! The socket hook: whose packets these are, against a list; behind the cache, against no cache.

use std::convert::Infallible;

use gufc::cache::{Config, Delivery, FlowCache};

use gufc::epoch::Change;
use gufc::hooks::conntrack::{Config as Tracking, Conntrack};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::hooks::socket::{Absent, BindError, Bound, Listen, SocketId, Sockets};
use gufc::key::{Family, FlowKey, Locality, Protocol, Tuple, Zone};
use gufc::packet::{Interface, Origin, TcpFlags};
use gufc::testing::linear_sockets::{LinearSockets, Twin};
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::{Choices, ToyPacket};
use gufc::testing::uncached::Uncached;
use gufc::time::{Duration, Instant};
use gufc::verdict::{Answer, Consumer, Path, Verdict};
use proptest::prelude::*;

const HERE: Locality = Locality {
    source: false,
    destination: true,
};

fn flow(text: &str) -> Tuple {
    text.parse::<Tuple>().expect("a tuple").at(HERE)
}

/// Every packet of a small world: two protocols, two zones, two remote ends, two addresses a family, two ports, two interfaces.
fn world() -> Vec<(Tuple, Interface)> {
    let mut world = Vec::new();
    for protocol in ["tcp", "udp"] {
        for [remote, a, b] in [
            ["192.0.2.1", "10.0.0.1", "10.0.0.2"],
            ["[2001:db8::1]", "[fd00::1]", "[fd00::2]"],
        ] {
            for local in [a, b] {
                for (from, port) in [(1000, 80), (1001, 80), (1000, 81)] {
                    let tuple = flow(&format!("{protocol} {remote}:{from} > {local}:{port}"));
                    for zone in 0..2 {
                        for interface in 1..=2 {
                            let zone = Zone::new(zone).expect("a zone");
                            world.push((tuple.in_zone(zone), Interface(interface)));
                        }
                    }
                }
            }
        }
    }
    world
}

/// A place to listen, and whether to share it.
fn listen(choices: &mut Choices<'_>) -> Listen {
    let address = match choices.below(5) {
        0 => Bound::Any,
        1 => Bound::AnyOf(Family::V4),
        2 => Bound::AnyOf(Family::V6),
        3 => Bound::One("10.0.0.1".parse().expect("an address")),
        _ => Bound::One("fd00::1".parse().expect("an address")),
    };
    let protocol = [Protocol::TCP, Protocol::UDP][usize::from(choices.below(2))];
    Listen {
        zone: Zone::new(u32::from(choices.below(4) / 3)).expect("a zone"),
        interface: (choices.below(3) == 0).then_some(Interface(1)),
        share: (choices.below(2) == 0).then_some(7),
        ..Listen::new(protocol, address, 80 + choices.below(4) / 3)
    }
}

/// One edit of both; what it touched.
fn edit(
    choices: &mut Choices<'_>,
    world: &[(Tuple, Interface)],
    sockets: &mut Sockets<Tuple>,
    twin: &mut LinearSockets,
) -> Change {
    let known: Vec<SocketId> = twin
        .0
        .iter()
        .map(|twin| match twin {
            Twin::Listens(id, _) | Twin::Connected(id, _) => *id,
        })
        .collect();
    match choices.below(5) {
        0 | 1 => {
            let place = listen(choices);
            let clash = twin.clash(&place, world);
            match sockets.listen(place, Consumer(choices.byte().into())) {
                Ok((id, change)) => {
                    assert!(!clash, "{place} clashes");
                    twin.0.push(Twin::Listens(id, place));
                    change
                }
                Err(BindError::Full) => Change::nothing(),
                Err(error) => {
                    assert!(
                        clash && matches!(error, BindError::Taken(_)),
                        "{place}: {error}"
                    );
                    Change::nothing()
                }
            }
        }
        2 => {
            let (key, _) = world[usize::from(choices.byte()) % world.len()];
            let taken = twin
                .0
                .iter()
                .any(|twin| matches!(twin, Twin::Connected(_, other) if *other == key));
            match sockets.connect(key, Consumer(choices.byte().into())) {
                Ok((id, change)) => {
                    assert!(!taken);
                    twin.0.push(Twin::Connected(id, key));
                    change
                }
                Err(error) => {
                    assert!(taken || error == BindError::Full);
                    Change::nothing()
                }
            }
        }
        _ => {
            let Some(id) = known.get(usize::from(choices.byte()) % known.len().max(1)) else {
                return Change::nothing();
            };
            twin.close(*id);
            let change = sockets.close(*id);
            assert_eq!(sockets.close(*id), None, "closed once");
            change.expect("it was open")
        }
    }
}

proptest! {
    /// After every edit each packet of the world goes to a socket that is bound as closely as any.
    #[test]
    fn the_closest_socket_takes_a_flow(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let world = world();
        let mut sockets = Sockets::<Tuple>::try_new(6, [1, 2], Absent::Accept).expect("memory");
        let mut twin = LinearSockets::default();
        let mut choices = Choices::new(&bytes);
        while !choices.is_empty() {
            let _ = edit(&mut choices, &world, &mut sockets, &mut twin);
            prop_assert_eq!(sockets.len(), twin.0.len());
            for (key, ingress) in &world {
                let best = twin.best(key, *ingress);
                match sockets.find(key, *ingress) {
                    Some(id) => prop_assert!(best.contains(&id), "{key} from {ingress:?}: {id}, not of {best:?}"),
                    None => prop_assert!(best.is_empty(), "{key} from {ingress:?}: none, but {best:?}"),
                }
            }
        }
    }

    /// With a cache and without: the same verdicts, consumers and counters, whatever is bound and closed in between.
    #[test]
    fn cached_and_uncached_agree(refuse: bool, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let world = world();
        let absent = if refuse { Absent::Refuse } else { Absent::Accept };
        let hooks = || {
            let mut filter = Filter::new("filter", 4, 1, Policy::Accept);
            let rule = "ip daddr 10.0.0.2 tcp dport 81 drop".parse().expect("a rule");
            let _ = filter.insert(Place::Last, rule).expect("room");
            (filter, Sockets::<Tuple>::try_new(6, [1, 2], absent).expect("memory"))
        };
        let config = Config { sessions: 24, regions: 4, ..Config::new([3, 4]) };
        let mut cache: FlowCache<Tuple, _> = FlowCache::new(config, hooks()).expect("memory");
        let mut plain = Uncached { hooks: hooks() };
        let mut choices = Choices::new(&bytes);
        while !choices.is_empty() {
            if choices.below(4) == 0 {
                let mut twins = [LinearSockets::default(), LinearSockets::default()];
                for (twin, sockets) in twins.iter_mut().zip([&cache.hooks().1, &plain.hooks.1]) {
                    for socket in sockets.iter() {
                        twin.0.push(match (socket.listens, socket.connected) {
                            (Some(listen), _) => Twin::Listens(socket.id, listen),
                            (_, Some(key)) => Twin::Connected(socket.id, key),
                            _ => unreachable!("a socket stands somewhere"),
                        });
                    }
                }
                let [one, two] = &mut twins;
                let mut copy = choices.clone();
                let done: Result<_, Infallible> =
                    cache.edit(|(_, sockets)| Ok(((), edit(&mut choices, &world, sockets, one))));
                let Ok(_) = done;
                let Ok(()) = plain.edit(|(_, sockets)| Ok::<_, Infallible>(((), edit(&mut copy, &world, sockets, two))));
                continue;
            }
            let (key, ingress) = world[usize::from(choices.byte()) % world.len()];
            let mut packet = ToyPacket { ingress, ..ToyPacket::new(key) };
            let now = Instant::from_secs(1);
            let (cached, uncached) = (cache.process(&mut packet.clone(), now), plain.process(&mut packet, now));
            prop_assert!(cached.agrees(&uncached), "{key} from {ingress:?}: {cached:?} {uncached:?}");
        }
        let state = |sockets: &Sockets<Tuple>| (sockets.iter().collect::<Vec<_>>(), sockets.unclaimed());
        prop_assert_eq!(state(&cache.hooks().1), state(&plain.hooks.1));
        prop_assert_eq!(cache.check(), Ok(()));
    }
}

#[test]
fn a_shared_port_spreads_flows() {
    let mut sockets = Sockets::<Tuple>::try_new(4, [1, 2], Absent::Accept).expect("memory");
    let place = Listen {
        share: Some(1),
        ..Listen::new(Protocol::TCP, Bound::Any, 80)
    };
    let ids: Vec<_> = (0..4)
        .map(|n| sockets.listen(place, Consumer(n)).expect("shared").0)
        .collect();
    assert_eq!(sockets.listen(place, Consumer(9)), Err(BindError::Full));
    let mut taken = [0; 4];
    for port in 1..=4000 {
        let key = flow(&format!("tcp 192.0.2.1:{port} > 10.0.0.1:80"));
        let id = sockets.find(&key, Interface(1)).expect("taken");
        taken[ids
            .iter()
            .position(|other| *other == id)
            .expect("one of them")] += 1;
    }
    // Four standard deviations of a fair choice.
    assert!(taken.iter().all(|n| (890..=1110).contains(n)), "{taken:?}");
}

#[test]
fn a_connection_moves_to_another_consumer_and_no_flow_is_touched() {
    let sockets = Sockets::<Tuple>::try_new(4, [1, 2], Absent::Refuse).expect("memory");
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([3, 4]), (sockets,)).expect("memory");
    let now = Instant::from_secs(1);
    let key = flow("tcp 192.0.2.1:1000 > 10.0.0.1:80");
    let refused = cache.process(&mut ToyPacket::new(key), now);
    assert_eq!(refused.verdict, Verdict::Reject(Answer::TcpReset));
    let refused = cache.process(&mut ToyPacket::new(key), now);
    assert_eq!(
        (refused.verdict, refused.path),
        (Verdict::Reject(Answer::TcpReset), Path::Hit)
    );

    let listening = Listen::new(Protocol::TCP, Bound::Any, 80);
    let (_, _) = cache
        .edit(|(sockets,)| sockets.listen(listening, Consumer(1)))
        .expect("bound");
    let outcome = cache.process(&mut ToyPacket::new(key), now);
    assert_eq!(
        (outcome.verdict, outcome.consumer),
        (Verdict::Accept, Some(Consumer(1)))
    );

    let (id, _) = cache
        .edit(|(sockets,)| sockets.connect(key, Consumer(2)))
        .expect("connected");
    let outcome = cache.process(&mut ToyPacket::new(key), now);
    assert_eq!(
        (outcome.consumer, outcome.path),
        (Some(Consumer(2)), Path::Rechecked)
    );

    cache
        .edit(|(sockets,)| {
            Ok::<_, Infallible>((sockets.set_consumer(id, Consumer(3)), Change::nothing()))
        })
        .expect("moved");
    let outcome = cache.process(&mut ToyPacket::new(key), now);
    assert_eq!(
        (outcome.consumer, outcome.path),
        (Some(Consumer(3)), Path::Hit)
    );
}

/// Miller's pre-lookup: the socket keeps the cookie of its flow, and what it sends skips the lookup.
#[test]
fn a_connected_socket_sends_without_a_lookup() {
    let sockets = Sockets::<Tuple>::try_new(4, [1, 2], Absent::Refuse).expect("memory");
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([3, 4]), (sockets,)).expect("memory");
    let now = Instant::from_secs(1);
    let key = flow("tcp 192.0.2.1:1000 > 10.0.0.1:80");
    let answer = key.inverse().expect("an inverse");
    cache
        .edit(|(sockets,)| sockets.connect(key, Consumer(2)))
        .expect("connected");
    let _ = cache.process(&mut ToyPacket::new(key), now);
    let cookie = cache
        .cookie(Origin::Local, &answer)
        .expect("the session answers");
    let mut sent = ToyPacket {
        origin: Origin::Local,
        cookie: Some(cookie),
        ..ToyPacket::new(answer)
    };
    assert_eq!(cache.process(&mut sent, now).path, Path::FirstReply);
    assert_eq!(cache.process(&mut sent, now).path, Path::Hit);
    assert_eq!(
        (cache.stats().cookie_hits, cache.stats().cookie_misses),
        (2, 0)
    );
}

type Stack = (Conntrack<Tuple>, Filter, Sockets<Tuple>);

/// Two sockets that listen, one that is connected, and a filter that reads packets.
fn stack() -> (Stack, Vec<SocketId>) {
    let tracker = Conntrack::try_new(Tracking::new(64, [1, 2])).expect("memory");
    let mut filter = Filter::new("filter", 4, 1, Policy::Accept);
    for rule in [
        "udp dport 80 meta length 1000-65535 drop",
        "ct state invalid drop",
    ] {
        let _ = filter
            .insert(Place::Last, rule.parse().expect("a rule"))
            .expect("room");
    }
    let mut sockets = Sockets::<Tuple>::try_new(8, [1, 2], Absent::Refuse).expect("memory");
    let mut ids = Vec::new();
    for (number, protocol) in [Protocol::TCP, Protocol::UDP].into_iter().enumerate() {
        let place = Listen::new(protocol, Bound::Any, 80);
        let (id, _) = sockets
            .listen(place, Consumer(number as u64))
            .expect("free");
        ids.push(id);
    }
    let key = flow("udp 192.0.2.1:1000 > 10.0.0.1:80");
    ids.push(sockets.connect(key, Consumer(2)).expect("free").0);
    ((tracker, filter, sockets), ids)
}

/// Steps that run where the packet came, and steps that its consumer runs later: the same verdicts, the same state of every hook.
#[test]
fn it_is_the_same_in_whose_context_steps_run() {
    let mut deferred = 0;
    for seed in 0..40 {
        let new = || {
            let config = Config {
                sessions: 32,
                regions: 4,
                idle_provisional: Duration::from_secs(20),
                ..Config::new([3, 4])
            };
            let (hooks, ids) = stack();
            let cache: FlowCache<Tuple, Stack> = FlowCache::new(config, hooks).expect("memory");
            (cache, ids)
        };
        let ((mut here, ids), (mut there, _)) = (new(), new());
        let mut chance = SplitMix64(seed);
        let mut now = Instant::from_secs(1);
        for round in 0..60 {
            now = now + Duration::from_millis(chance.below(2_000));
            // Which sockets want it changes, and no flow is touched by it. One closes or opens now and then.
            let which = ids[chance.below(3) as usize];
            let wants = chance.below(3) > 0;
            let deferring = |(.., sockets): &mut Stack| {
                Ok::<_, Infallible>((sockets.set_deferred(which, wants), Change::nothing()))
            };
            let _ = there.edit(deferring);
            if chance.below(8) == 0 {
                let rule =
                    ["tcp dport 80 counter", "udp sport 1001 drop"][chance.below(2) as usize];
                let edit = |(_, filter, _): &mut Stack| match filter.len() {
                    0..4 => filter
                        .insert(Place::First, rule.parse().expect("a rule"))
                        .map(|(_, change)| ((), change)),
                    _ => {
                        let first = filter.rules().next().expect("four").0;
                        filter.remove(first).map(|(_, change)| ((), change))
                    }
                };
                here.edit(edit).expect("room");
                there.edit(edit).expect("room");
            }
            let mut packets = Vec::new();
            for _ in 0..chance.below(12) {
                let text = ["tcp", "udp"][chance.below(2) as usize];
                let from = 1_000 + chance.below(4);
                let host = 1 + chance.below(2);
                let mut packet =
                    ToyPacket::new(flow(&format!("{text} 192.0.2.{host}:{from} > 10.0.0.1:80")));
                packet.length = [100, 1_400][chance.below(2) as usize];
                if text == "tcp" {
                    let flags = [TcpFlags::SYN, TcpFlags::ACK, TcpFlags::ACK, TcpFlags::RST];
                    packet.flags = flags[chance.below(4) as usize];
                }
                packets.push(packet);
            }
            let expected: Vec<_> = packets
                .iter()
                .map(|packet| here.process(&mut packet.clone(), now))
                .collect();
            let mut queues: [Vec<(usize, ToyPacket)>; 3] = Default::default();
            let check = |n: usize, outcome: gufc::verdict::Outcome| {
                let one: &gufc::verdict::Outcome = &expected[n];
                assert!(
                    outcome.agrees(one),
                    "seed {seed}, round {round}: {outcome:?} {one:?}"
                );
            };
            for (n, packet) in packets.iter().enumerate() {
                let mut own = *packet;
                match there.deliver(&mut own, now) {
                    Delivery::Processed(outcome) => check(n, outcome),
                    Delivery::Deferred {
                        consumer: Consumer(number),
                        cookie,
                    } => {
                        assert_eq!(own, *packet, "not touched");
                        own.cookie = Some(cookie);
                        queues[number as usize].push((n, own));
                        deferred += 1;
                    }
                }
            }
            let misses = there.stats().cookie_misses;
            for (consumer, queue) in queues.into_iter().enumerate() {
                for (n, mut packet) in queue {
                    let outcome = there.process(&mut packet, now);
                    assert!(
                        outcome
                            .consumer
                            .is_none_or(|one| one == Consumer(consumer as u64))
                    );
                    check(n, outcome);
                }
            }
            assert_eq!(there.stats().cookie_misses, misses, "no consumer looks up");
            assert_eq!(there.check(), Ok(()));
        }
        let state = |(tracker, filter, sockets): &Stack| {
            let sockets: Vec<_> = sockets.iter().map(|one| (one.id, one.packets)).collect();
            let rules: Vec<_> = filter.rules().map(|(id, _, count)| (id, count)).collect();
            (tracker.len(), rules, sockets)
        };
        assert_eq!(state(here.hooks()), state(there.hooks()), "seed {seed}");
        assert_eq!(there.stats().packets(), here.stats().packets());
    }
    assert!(deferred > 1_000, "{deferred}");
}

/// Sockets that share a port each take their flows, at the first packet and at every other.
#[test]
fn a_flow_of_a_shared_port_stays_with_its_socket() {
    let mut sockets = Sockets::<Tuple>::try_new(4, [1, 2], Absent::Refuse).expect("memory");
    let place = Listen {
        share: Some(1),
        ..Listen::new(Protocol::UDP, Bound::Any, 80)
    };
    for number in 0..4 {
        let _ = sockets.listen(place, Consumer(number)).expect("shared");
    }
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([3, 4]), (sockets,)).expect("memory");
    let now = Instant::from_secs(1);
    let mut taken = [0; 4];
    for port in 1..=400 {
        let key = flow(&format!("udp 192.0.2.1:{port} > 10.0.0.1:80"));
        let first = cache.process(&mut ToyPacket::new(key), now);
        let again = cache.process(&mut ToyPacket::new(key), now);
        assert_eq!((again.consumer, again.path), (first.consumer, Path::Hit));
        let Some(Consumer(number)) = first.consumer else {
            panic!("somebody's");
        };
        taken[number as usize] += 1;
    }
    assert!(taken.iter().all(|n| (60..=140).contains(n)), "{taken:?}");
}
