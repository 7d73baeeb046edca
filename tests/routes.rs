//! Routes behind the cache: a route edit touches the flows under its prefix, and an edited cell none.

use gufc::cache::{Config, FlowCache};
use gufc::epoch::Change;
use gufc::hooks::route::{NextHop, NextHopId, Options, Route, RouteError, Routes, Target};
use gufc::key::{Tuple, Zone};
use gufc::packet::Interface;
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::{Answer, Outcome, Path, Uncached, Verdict};

const NOW: Instant = Instant::from_secs(1);

type Cache = FlowCache<Tuple, (Routes,)>;

/// Three next hops on interfaces 1, 2 and 3; 10/8 by the first, 10.1/16 by the second.
fn cache(options: Options) -> Cache {
    let mut routes = Routes::with_options(100, 100, 10, options).expect("memory");
    for interface in 1..=3 {
        routes.add_next_hop(Interface(interface)).expect("room");
    }
    for text in ["10.0.0.0/8 via 0", "10.1.0.0/16 via 1"] {
        let _fresh = routes.add(route(text)).expect("room");
    }
    FlowCache::new(Config::new([1, 2]), (routes,)).expect("a cache")
}

fn route(text: &str) -> Route {
    text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn to(destination: &str) -> ToyPacket {
    let text = format!("udp 192.0.2.1:4000 > {destination}:53");
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn send(cache: &mut Cache, packet: ToyPacket) -> Outcome {
    cache.process(&mut packet.clone(), NOW)
}

fn interface(outcome: &Outcome) -> Option<u32> {
    outcome.egress.map(|egress| egress.interface.0)
}

fn edit<T>(cache: &mut Cache, change: impl FnOnce(&mut Routes) -> Result<(T, Change), RouteError>) {
    cache.edit(|(routes,)| change(routes)).expect("an edit");
}

#[test]
fn an_edit_touches_the_flows_under_its_prefix() {
    let mut cache = cache(Options::default());
    let [under, shielded, apart] = ["10.2.0.1", "10.1.0.1", "11.0.0.1"].map(to);
    for packet in [under, shielded, apart] {
        assert_eq!(send(&mut cache, packet).path, Path::Miss);
    }
    edit(&mut cache, |routes| {
        routes.insert(route("10.0.0.0/8 via 2").prefix, Target::Via(NextHopId(2)))
    });
    let outcome = send(&mut cache, under);
    assert_eq!(
        (outcome.path, interface(&outcome)),
        (Path::Rechecked, Some(3))
    );
    // Looked at once, for the longer prefix is not in the region; its step is kept.
    let outcome = send(&mut cache, shielded);
    assert_eq!(
        (outcome.path, interface(&outcome)),
        (Path::Rechecked, Some(2))
    );
    let outcome = send(&mut cache, apart);
    assert_eq!(
        (outcome.path, outcome.verdict),
        (Path::Restamped, Verdict::Reject(Answer::NoRoute))
    );
    for packet in [under, shielded, apart] {
        assert_eq!(send(&mut cache, packet).path, Path::Hit);
    }
    // The same route again is no edit.
    edit(&mut cache, |routes| {
        routes.insert(route("10.0.0.0/8 via 2").prefix, Target::Via(NextHopId(2)))
    });
    assert!(matches!(
        send(&mut cache, under).path,
        Path::Hit | Path::Restamped
    ));
}

#[test]
fn a_longer_route_takes_its_flows_and_gives_them_back() {
    let mut cache = cache(Options::default());
    let packet = to("10.1.2.3");
    assert_eq!(interface(&send(&mut cache, packet)), Some(2));
    edit(&mut cache, |routes| routes.add(route("10.1.2.0/24 via 2")));
    assert_eq!(interface(&send(&mut cache, packet)), Some(3));
    edit(&mut cache, |routes| {
        routes.remove(route("10.1.2.0/24 via 2").prefix)
    });
    assert_eq!(interface(&send(&mut cache, packet)), Some(2));
    edit(&mut cache, |routes| {
        routes.remove(route("10.1.0.0/16 via 1").prefix)
    });
    assert_eq!(interface(&send(&mut cache, packet)), Some(1));
}

#[test]
fn an_edited_cell_touches_no_flow() {
    let mut cache = cache(Options::default());
    let packet = to("10.0.0.1");
    assert_eq!(interface(&send(&mut cache, packet)), Some(1));
    let moved = NextHop {
        interface: Interface(9),
        gateway: Some("192.0.2.254".parse().expect("an address")),
        link: Some([0, 0, 0x5e, 0, 0x53, 1]),
    };
    edit(&mut cache, |routes| {
        routes.move_next_hop(NextHopId(0), moved)
    });
    let outcome = send(&mut cache, packet);
    assert_eq!((outcome.path, interface(&outcome)), (Path::Hit, Some(9)));
    assert_eq!(cache.hooks().0.next_hop(NextHopId(0)), Some(&moved));
}

/// Goal: a member that goes moves its flows alone, and no entry is touched. Method: a thousand flows over three members.
#[test]
fn a_group_moves_the_flows_of_the_member_that_goes() {
    let mut cache = cache(Options::default());
    let mut group = None;
    edit(&mut cache, |routes| {
        let id = routes.add_group(NextHopId(0))?;
        group = Some(id);
        let (_, one) = routes.set_member(id, NextHopId(1), 1)?;
        let (_, two) = routes.set_member(id, NextHopId(2), 2)?;
        let (_, route) = routes.insert(route("172.16.0.0/12 via 0").prefix, Target::Group(id))?;
        Ok(((), one.and(two).and(route)))
    });
    let group = group.expect("a group");
    let flows: Vec<_> = (0..1000)
        .map(|n| to(&format!("172.16.{}.{}", n >> 8, n & 255)))
        .collect();
    let before: Vec<_> = flows
        .iter()
        .map(|flow| interface(&send(&mut cache, *flow)))
        .collect();
    for (member, share) in [(1, 250), (2, 250), (3, 500)] {
        let count = before
            .iter()
            .filter(|taken| **taken == Some(member))
            .count();
        assert!(count.abs_diff(share) < 100, "member {member} has {count}");
    }
    edit(&mut cache, |routes| {
        routes.remove_member(group, NextHopId(1))
    });
    for (flow, before) in flows.iter().zip(&before) {
        let outcome = send(&mut cache, *flow);
        assert_eq!(outcome.path, Path::Hit);
        if *before == Some(2) {
            assert_ne!(interface(&outcome), Some(2));
        } else {
            assert_eq!(interface(&outcome), *before);
        }
    }
    let refused = cache.edit(|(routes,)| {
        let _two = routes.remove_member(group, NextHopId(0))?;
        routes.remove_member(group, NextHopId(2))
    });
    assert_eq!(refused.err(), Some(RouteError::Member(NextHopId(2))));
}

#[test]
fn denials_say_why_and_end_when_a_route_comes() {
    let mut cache = cache(Options {
        no_route: None,
        ..Options::default()
    });
    for (text, verdict) in [
        ("10.3.0.0/16 blackhole", Verdict::Drop),
        (
            "10.4.0.0/16 prohibit",
            Verdict::Reject(Answer::AdminProhibited),
        ),
        (
            "10.5.0.0/16 unreachable",
            Verdict::Reject(Answer::HostUnreachable),
        ),
    ] {
        edit(&mut cache, |routes| routes.add(route(text)));
        let destination = route(text).prefix.address().to_string();
        for path in [Path::Miss, Path::Hit] {
            let outcome = send(&mut cache, to(&destination));
            assert_eq!((outcome.verdict, outcome.path), (verdict, path), "{text}");
            assert_eq!((outcome.by.hook, outcome.egress), ("route", None));
        }
        edit(&mut cache, |routes| routes.remove(route(text).prefix));
        assert_eq!(interface(&send(&mut cache, to(&destination))), Some(1));
    }
    assert_eq!(send(&mut cache, to("8.8.8.8")).verdict, Verdict::Drop);
}

#[test]
fn a_zone_with_a_table_of_its_own_sees_no_other() {
    let mut cache = cache(Options::default());
    let zone = Zone::new(7).expect("a zone");
    let mut packet = to("10.0.0.1");
    packet.key = packet.key.in_zone(zone);
    let main = to("10.0.0.1");
    assert_eq!(interface(&send(&mut cache, packet)), Some(1));
    assert_eq!(interface(&send(&mut cache, main)), Some(1));
    edit(&mut cache, |routes| routes.add_table(zone, 10, 10));
    assert_eq!(
        send(&mut cache, packet).verdict,
        Verdict::Reject(Answer::NoRoute)
    );
    edit(&mut cache, |routes| {
        routes.add(route("0.0.0.0/0 via 2 zone 7"))
    });
    assert_eq!(interface(&send(&mut cache, packet)), Some(3));
    let outcome = send(&mut cache, main);
    assert_eq!(
        (outcome.path, interface(&outcome)),
        (Path::Restamped, Some(1))
    );
    let texts: Vec<_> = cache
        .hooks()
        .0
        .iter()
        .map(|route| route.to_string())
        .collect();
    assert_eq!(
        texts,
        [
            "10.0.0.0/8 via 0",
            "10.1.0.0/16 via 1",
            "0.0.0.0/0 via 2 zone 7"
        ]
    );
    edit(&mut cache, |routes| routes.remove_table(zone));
    assert_eq!(interface(&send(&mut cache, packet)), Some(1));
    let refused = cache.edit(|(routes,)| routes.add(route("0.0.0.0/0 via 2 zone 7")));
    assert_eq!(refused.err(), Some(RouteError::Zone(zone)));
}

#[test]
fn forwarded_packets_lose_a_hop_and_spent_ones_end() {
    let mut cache = cache(Options {
        decrement: true,
        ..Options::default()
    });
    let mut spent = to("10.0.0.1");
    spent.hop_limit = 1;
    let outcome = send(&mut cache, spent);
    assert_eq!(outcome.verdict, Verdict::Drop);
    assert_eq!(outcome.path, Path::Uncached(Uncached::PacketDependent));
    for path in [Path::Miss, Path::Hit] {
        let mut packet = to("10.0.0.1");
        assert_eq!(cache.process(&mut packet, NOW).path, path);
        assert_eq!(packet.hop_limit, 63);
    }
    let outcome = send(&mut cache, spent);
    assert_eq!(
        (outcome.verdict, outcome.path),
        (Verdict::Drop, Path::Revisited)
    );
    let outcome = send(&mut cache, to("10.0.0.1"));
    assert_eq!(
        (outcome.verdict, interface(&outcome)),
        (Verdict::Accept, Some(1))
    );
}

#[test]
fn refused_edits_change_nothing() {
    let mut routes = Routes::try_new(1).expect("memory");
    let hop = routes.add_next_hop(Interface(1)).expect("room");
    assert_eq!(routes.add_next_hop(Interface(2)), Err(RouteError::Full));
    let prefix = route("10.0.0.0/8 via 0").prefix;
    let missing = NextHopId(5);
    assert_eq!(
        routes.insert(prefix, Target::Via(missing)).err(),
        Some(RouteError::NoSuchNextHop(missing))
    );
    assert!(routes.is_empty());
    let _first = routes.insert(prefix, Target::Via(hop)).expect("room");
    let another = route("11.0.0.0/8 blackhole");
    assert_eq!(routes.add(another).err(), Some(RouteError::Full));
    assert_eq!(
        routes.remove(another.prefix).err(),
        Some(RouteError::NoSuchRoute(another.prefix))
    );
    assert_eq!(
        (routes.len(), routes.get(prefix)),
        (1, Some(Target::Via(hop)))
    );
}
