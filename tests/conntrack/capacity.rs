//! A full table: who goes, who stays, and what it costs; and what is told of it.

use gufc::hook::{Caching, Class, Context, Direction, HookSet, Judgement};
use gufc::hooks::conntrack::{Config, Confirmation, Conntrack, News, Reason, Status, TimeoutClass};
use gufc::interest::Scratch;
use gufc::key::{Tuple, Zone};
use gufc::packet::Origin;
use gufc::pipeline::{Pipeline, Walk};
use gufc::time::{Duration, Instant};
use gufc::verdict::Verdict;

use super::story::{Told, pass, secs, segment, tracker};

fn client(n: u32) -> [Tuple; 2] {
    let [_, b, c, d] = n.to_be_bytes();
    let text = |a: &str, b: &str| format!("tcp {a} > {b}").parse().expect("a tuple");
    let own = format!("10.{b}.{c}.{d}:1000");
    [text(&own, "192.0.2.2:80"), text("192.0.2.2:80", &own)]
}

fn open(tracker: &mut Conntrack<Tuple>, n: u32, now: Instant) -> bool {
    let [out, back] = client(n);
    for (key, told) in [
        (out, "S 0:0 w900 l0"),
        (back, "SA 0:1 w900 l0"),
        (out, "A 1:1 w900 l0"),
    ] {
        if pass(tracker, &Told::tcp(key, segment(told)), now).drop {
            return false;
        }
    }
    let (id, _) = tracker.find(&out, now).expect("open");
    tracker
        .connection(id)
        .expect("open")
        .status()
        .contains(Status::ASSURED)
}

#[test]
fn syn_flood_leaves_the_established_alone() {
    let capacity = 1000;
    let mut tracker = tracker(Config::new(capacity, [1, 2]));
    for n in 0..500 {
        assert!(open(&mut tracker, n, secs(1)));
    }
    // Twenty times what there is room for, with a client now and then between the forged.
    for n in 0..20_000 {
        let [out, _] = client(1_000_000 + n);
        let tracked = pass(
            &mut tracker,
            &Told::tcp(out, segment("S 5:0 w900 l0")),
            secs(2),
        );
        assert!(!tracked.drop && tracked.class == Class::New);
        if n % 100 == 0 {
            assert!(
                open(&mut tracker, 1000 + n, secs(2)),
                "a handshake completes"
            );
        }
        assert!(tracker.len() <= capacity as usize);
    }
    for n in 0..500 {
        assert!(
            tracker.find(&client(n)[0], secs(2)).is_some(),
            "{n} survives"
        );
    }
    assert_eq!(tracker.early_dropped(), 500 + 20_000 + 200 - 1000);
}

/// Maintenance between a first packet and its verdict leaves the connection alone; and more end at once than are ended together.
#[test]
fn maintenance_ends_what_is_over_and_nothing_that_waits() {
    let mut tracker = tracker(Config::new(200, [1, 2]));
    for n in 0..150 {
        assert!(open(&mut tracker, n, secs(1)));
    }
    let [out, _] = client(1000);
    let first = Told::tcp(out, segment("S 5:0 w900 l0"));
    let waiting = tracker.track(&first, secs(2)).connection.expect("a place");
    assert_eq!(tracker.maintain(secs(2), 200).expired, 0);
    let done = tracker.maintain(Instant::NEVER, 200);
    assert_eq!((done.examined, done.expired), (151, 150));
    assert_eq!(tracker.confirm(waiting, secs(3)), Confirmation::Confirmed);
    assert_eq!(tracker.len(), 1);
}

#[test]
fn full_of_the_assured_is_full() {
    let mut tracker = tracker(Config::new(4, [1, 2]));
    for n in 0..4 {
        assert!(open(&mut tracker, n, secs(1)));
    }
    let [out, _] = client(9);
    let syn = Told::tcp(out, segment("S 5:0 w900 l0"));
    let tracked = tracker.track(&syn, secs(2));
    assert!(tracked.drop && tracked.connection.is_none());
    assert_eq!((tracker.count(Reason::Full), tracker.len()), (1, 4));
    // One that closes makes room.
    let fin = Told::tcp(client(2)[0], segment("FA 1:1 w900 l0"));
    pass(&mut tracker, &fin, secs(3));
    assert!(!pass(&mut tracker, &syn, secs(3)).drop);
    assert!(tracker.find(&client(2)[0], secs(3)).is_none());
}

#[test]
fn expired_make_room_first() {
    let mut tracker = tracker(Config::new(4, [1, 2]));
    assert!(open(&mut tracker, 0, secs(1)));
    let udp = |n: u32| Told::of(&format!("udp 10.0.0.{n}:5 > 192.0.2.2:53"));
    for n in 1..=3 {
        pass(&mut tracker, &udp(n), secs(u64::from(n) * 20));
    }
    pass(&mut tracker, &udp(9), secs(62));
    assert_eq!(
        tracker.early_dropped(),
        0,
        "the first datagram's had expired"
    );
    assert!(tracker.find(&udp(2).key, secs(62)).is_some());
}

#[test]
fn a_refused_connection_leaves_nothing() {
    let mut config = Config::new(4, [1, 2]);
    config.per_source_max = Some(2);
    config.news_capacity = 8;
    let mut tracker = tracker(config);
    let udp = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    for _ in 0..10 {
        let tracked = tracker.track(&udp, secs(1));
        assert_eq!(tracked.class, Class::New);
        let id = tracked.connection.expect("pending");
        assert!(
            tracker.find(&udp.key, secs(1)).is_none(),
            "not in the table"
        );
        tracker.refuse(id);
        assert!(tracker.connection(id).is_none());
        assert_eq!(tracker.confirm(id, secs(1)), Confirmation::Unknown);
        tracker.check().expect("sound");
    }
    assert_eq!((tracker.len(), tracker.next_news()), (0, None));
    // One that nobody decides about is refused in time.
    for _ in 0..100 {
        let _ = tracker.track(&udp, secs(1));
        assert!(tracker.len() <= 2, "no more than its source may have");
    }
}

#[test]
fn undecided_connections_are_bounded() {
    let mut config = Config::new(100, [1, 2]);
    config.pending_max = 3;
    let mut tracker = tracker(config);
    for n in 1..50 {
        let _ = tracker.track(
            &Told::of(&format!("udp 10.0.0.{n}:5 > 192.0.2.2:53")),
            secs(1),
        );
        assert_eq!(tracker.len(), n.min(3));
    }
}

#[test]
fn sources_are_limited() {
    let mut config = Config::new(100, [1, 2]);
    config.per_source_max = Some(3);
    let mut tracker = tracker(config);
    let udp = |port: u32| Told::of(&format!("udp 10.0.0.1:{port} > 192.0.2.2:53"));
    for port in 1..=3 {
        assert!(!pass(&mut tracker, &udp(port), secs(1)).drop);
    }
    let tracked = tracker.track(&udp(4), secs(1));
    assert!(tracked.drop);
    assert_eq!(tracked.reason, Some(Reason::SourceLimit));
    let other = Told::of("udp 10.0.0.2:1 > 192.0.2.2:53");
    assert!(!pass(&mut tracker, &other, secs(1)).drop, "another source");
    let (id, _) = tracker.find(&udp(2).key, secs(1)).expect("there");
    tracker.delete(id);
    assert!(
        !pass(&mut tracker, &udp(4), secs(1)).drop,
        "one left, one comes"
    );
    // Expiry counts too.
    assert_eq!(tracker.maintain(secs(100), 1000).expired, 4);
    assert!(!pass(&mut tracker, &udp(5), secs(100)).drop);
}

#[test]
fn maintenance_is_bounded_and_tells() {
    let mut config = Config::new(100, [1, 2]);
    config.news_capacity = 10;
    config.accounting = true;
    let mut tracker = tracker(config);
    for n in 1..=10 {
        pass(
            &mut tracker,
            &Told::of(&format!("udp 10.0.0.{n}:5 > 192.0.2.2:53")),
            secs(1),
        );
    }
    pass(
        &mut tracker,
        &Told::of("udp 10.0.0.99:5 > 192.0.2.2:53"),
        secs(1),
    );
    assert_eq!(tracker.news_lost(), 1);
    for _ in 0..10 {
        assert_eq!(tracker.next_news().map(|item| item.news), Some(News::NEW));
    }
    assert_eq!(tracker.maintain(secs(30), 100).expired, 0);
    let done = tracker.maintain(secs(31), 4);
    assert_eq!((done.examined, done.expired, tracker.len()), (4, 4, 7));
    let item = tracker.next_news().expect("told");
    assert_eq!((item.news, item.traffic[0].packets), (News::DESTROY, 1));
    assert_eq!(tracker.maintain(secs(31), 100).expired, 7);
    assert!(tracker.is_empty());
}

#[test]
fn races_are_resolved() {
    let now = secs(1);
    let mut config = Config::new(100, [1, 2]);
    config.accounting = true;
    let mut tracker = tracker(config);
    let one = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let race = |tracker: &mut Conntrack<Tuple>, a: &Told, b: &Told| {
        let first = tracker.track(a, now).connection.expect("pending");
        let second = tracker.track(b, now).connection.expect("pending");
        assert_eq!(tracker.confirm(first, now), Confirmation::Confirmed);
        (first, second)
    };
    // The same flow twice.
    let (winner, loser) = race(&mut tracker, &one, &one);
    assert_eq!(tracker.confirm(loser, now), Confirmation::Merged(winner));
    let traffic = tracker
        .connection(winner)
        .expect("there")
        .traffic(Direction::Original);
    assert_eq!(traffic.packets, 2);
    tracker.delete(winner);
    // Both ends at once.
    let (winner, loser) = race(&mut tracker, &one, &one.answered());
    assert_eq!(tracker.confirm(loser, now), Confirmation::Merged(winner));
    tracker.delete(winner);
    // The same flow, translated two ways: only the answer to the second is kept, for one packet.
    let first = tracker.track(&one, now).connection.expect("pending");
    let second = tracker.track(&one, now).connection.expect("pending");
    let other: Tuple = "udp 192.0.2.9:53 > 10.0.0.1:5".parse().expect("a tuple");
    assert!(tracker.set_reply(second, other));
    assert_eq!(tracker.confirm(first, now), Confirmation::Confirmed);
    assert!(!tracker.set_reply(first, other), "too late");
    assert_eq!(tracker.confirm(second, now), Confirmation::ReplyOnly);
    let answer = Told {
        key: other,
        ..one.clone()
    };
    let tracked = tracker.track(&answer, now);
    assert_eq!(tracked.connection, Some(second));
    assert!(tracked.news.contains(News::DESTROY));
    assert!(
        tracker.connection(second).is_some(),
        "readable while its packet is under way"
    );
    assert_eq!(tracker.track(&one, now).connection, Some(first));
    assert!(tracker.connection(second).is_none());
    tracker.check().expect("sound");
    // TCP does not bear it.
    let syn = Told::tcp(client(1)[0], segment("S 0:0 w900 l0"));
    let (_, loser) = race(&mut tracker, &syn, &syn);
    assert_eq!(tracker.confirm(loser, now), Confirmation::Clash);
    assert!(!Confirmation::Clash.is_accept());
    tracker.check().expect("sound");
}

#[test]
fn zones_are_tables_of_their_own() {
    use gufc::hooks::conntrack::Template;
    let zone = |id| Zone::new(id).expect("a zone");
    let mut tracker = tracker(Config::new(100, [1, 2]));
    let one = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    // Two networks with the same addresses, one outside: the second needs another port there.
    let inside = |n| Template {
        zones: Some([zone(n), zone(0)]),
        ..Template::default()
    };
    let first = tracker
        .track_with(&one, secs(1), &inside(1))
        .connection
        .expect("pending");
    assert_eq!(tracker.confirm(first, secs(1)), Confirmation::Confirmed);
    let tracked = tracker.track_with(&one, secs(1), &inside(2));
    assert_eq!(tracked.class, Class::New, "not the first network's");
    let second = tracked.connection.expect("pending");
    let taken: Tuple = "udp 192.0.2.2:53 > 10.0.0.1:5".parse().expect("a tuple");
    assert!(tracker.is_taken(&taken, second, secs(1)));
    let free: Tuple = "udp 192.0.2.2:53 > 10.0.0.1:6".parse().expect("a tuple");
    assert!(!tracker.is_taken(&free, second, secs(1)));
    assert!(tracker.set_reply(second, free));
    assert_eq!(tracker.confirm(second, secs(1)), Confirmation::Confirmed);
    for (key, id) in [(taken, first), (free, second)] {
        let answer = Told { key, ..one.clone() };
        let tracked = tracker.track_with(&answer, secs(1), &inside(7));
        assert_eq!(tracked.connection, Some(id));
        assert_eq!(tracked.direction, Some(Direction::Reply));
    }
}

#[test]
fn owners_marks_labels_and_timeouts() {
    let mut tracker = tracker(Config::new(100, [1, 2]));
    let one = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let id = pass(&mut tracker, &one, secs(1)).connection.expect("there");
    assert!(tracker.set_mark(id, 0xff12, 0x00ff));
    assert!(!tracker.set_mark(id, 0x12, 0xff), "no change");
    assert_eq!(tracker.track(&one, secs(1)).mark, 0x12);
    assert!(tracker.set_label(id, 1 << 100, u128::MAX));
    assert_eq!(tracker.connection(id).expect("there").label(), 1 << 100);
    tracker.set_timeout(id, Duration::from_secs(5), true, secs(1));
    let _ = tracker.track(&one, secs(5));
    let view = tracker.connection(id).expect("there");
    assert_eq!(view.timeout_class(), TimeoutClass::Custom);
    assert!(tracker.find(&one.key, secs(5)).is_some());
    assert!(
        tracker.find(&one.key, secs(6)).is_none(),
        "traffic did not prolong it"
    );
}

/// Two first packets of one flow are judged before either gets its verdict: the second loses as in Linux, TCP by being
/// dropped, UDP by becoming a packet of the winner.
#[test]
fn the_loser_of_a_race_through_the_hook_is_dropped_or_merged() {
    let now = secs(1);
    let syn = Told::tcp(client(1)[0], segment("S 0:0 w900 l0"));
    let datagram = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    for (packet, loses) in [(&syn, Verdict::Drop), (&datagram, Verdict::Accept)] {
        let mut hooks = (tracker(Config::new(100, [1, 2])),);
        let mut scratch = Scratch::new();
        let mut flights: Vec<_> = (0..2)
            .map(|_| {
                let (mut packet, mut context) =
                    (packet.clone(), Context::new(now, Origin::Received));
                let mut destiny = <(Conntrack<Tuple>,) as Pipeline>::Destiny::default();
                let judged = hooks.judge(
                    &mut packet,
                    &mut context,
                    &mut destiny,
                    HookSet::ALL,
                    &mut scratch,
                );
                assert_eq!(judged, Judgement::Continue);
                (packet, context, destiny)
            })
            .collect();
        let verdicts: Vec<_> = flights
            .iter_mut()
            .map(|(packet, context, destiny)| {
                let verdict = hooks.settle(&*packet, context, Verdict::Accept, destiny);
                (verdict, context.caching == Caching::Allowed)
            })
            .collect();
        assert_eq!(verdicts, [(Verdict::Accept, true), (loses, false)]);
        assert_eq!(hooks.0.len(), 1, "the winner alone is left");
        let Some(one) = hooks.0.iter().next() else {
            continue;
        };
        assert!(one.status().contains(Status::CONFIRMED));
        hooks.0.check().expect("sound");
    }
}
