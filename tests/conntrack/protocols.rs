//! UDP, ICMP, GRE, SCTP and the rest, as stories.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, Reason, SctpPhase, Status, TimeoutClass};
use gufc::key::Tuple;
use gufc::time::Instant;

use super::story::{Told, pass, secs, tracker};

fn class_of(tracker: &Conntrack<Tuple>, key: &Tuple, now: Instant) -> (TimeoutClass, bool) {
    let (id, _) = tracker.find(key, now).expect("a connection");
    let one = tracker.connection(id).expect("found");
    (one.timeout_class(), one.status().contains(Status::ASSURED))
}

#[test]
fn udp_becomes_a_stream() {
    for name in ["udp", "udplite"] {
        let mut tracker = tracker(Config::new(8, [1, 2]));
        let ask = Told::of(&format!("{name} 10.0.0.1:5 > 192.0.2.2:53"));
        let answer = ask.answered();
        // (packet, second, class of packet, timeout class, assured)
        let new = (Class::New, TimeoutClass::Udp, false);
        let story = [
            (&ask, 10, new),
            (&ask, 11, new),
            // The first reply never makes a stream, however late.
            (&answer, 14, (Class::Established, TimeoutClass::Udp, false)),
            (
                &ask,
                14,
                (Class::Established, TimeoutClass::UdpStream, true),
            ),
        ];
        for (packet, second, (class, timeout, assured)) in story {
            let tracked = pass(&mut tracker, packet, secs(second));
            assert_eq!(tracked.class, class);
            assert_eq!(
                class_of(&tracker, &ask.key, secs(second)),
                (timeout, assured)
            );
        }
    }
}

#[test]
fn short_udp_exchanges_stay_short() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    for packet in [&ask, &ask.answered(), &ask, &ask.answered()] {
        pass(&mut tracker, packet, secs(10));
    }
    // Exactly two seconds after the first is not more than two.
    pass(&mut tracker, &ask, secs(12));
    assert_eq!(
        class_of(&tracker, &ask.key, secs(12)),
        (TimeoutClass::Udp, false)
    );
}

#[test]
fn icmp_queries_and_strays() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let echo = |kind: u8, id: u16| {
        let [a, b] = id.to_be_bytes();
        Told::of(&format!(
            "icmp 10.0.0.1 > 192.0.2.2 id {id} type {kind} code 0"
        ))
        .with(&[kind, 0, 0, 0, a, b, 0, 1])
    };
    assert_eq!(
        tracker.track(&echo(0, 7), secs(1)).reason,
        Some(Reason::IcmpType)
    );
    assert_eq!(
        tracker.track(&echo(19, 7), secs(1)).reason,
        Some(Reason::IcmpType)
    );
    assert_eq!(pass(&mut tracker, &echo(8, 7), secs(1)).class, Class::New);
    let reply = echo(8, 7).answered().with(&[0, 0, 0, 0, 0, 7, 0, 1]);
    for _ in 0..2 {
        let tracked = pass(&mut tracker, &reply, secs(1));
        assert_eq!(
            tracked.direction,
            Some(Direction::Reply),
            "a repeated answer is one, too"
        );
    }
    assert_eq!(
        pass(&mut tracker, &echo(8, 8), secs(1)).class,
        Class::New,
        "another query"
    );
    assert_eq!(
        pass(&mut tracker, &echo(8, 7), secs(1)).class,
        Class::Established
    );
}

#[test]
fn errors_belong_to_what_they_quote() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let error = |to: &str, quoted: &str| {
        Told::of(&format!("icmp 203.0.113.9 > {to} type 3 code 3"))
            .with(&[3, 3, 0, 0, 0, 0, 0, 0])
            .quoting(quoted)
    };
    let about = error("10.0.0.1", "udp 10.0.0.1:5 > 192.0.2.2:53");
    assert_eq!(
        tracker.track(&about, secs(1)).reason,
        Some(Reason::IcmpUnknown)
    );
    let id = pass(&mut tracker, &ask, secs(1)).connection;
    let tracked = tracker.track(&about, secs(20));
    assert_eq!(
        (tracked.class, tracked.direction),
        (Class::Related, Some(Direction::Reply))
    );
    assert_eq!(tracked.connection, id);
    assert!(
        tracker.find(&ask.key, secs(31)).is_none(),
        "an error does not prolong"
    );
    let back = error("192.0.2.2", "udp 192.0.2.2:53 > 10.0.0.1:5");
    assert_eq!(
        tracker.track(&back, secs(20)).direction,
        Some(Direction::Original)
    );
    let stray = error("10.0.0.66", "udp 10.0.0.1:5 > 192.0.2.2:53");
    assert_eq!(
        tracker.track(&stray, secs(20)).reason,
        Some(Reason::IcmpMisdirected)
    );
    let of_error = error("10.0.0.1", "icmp 10.0.0.1 > 192.0.2.2 type 3 code 3");
    assert_eq!(
        tracker.track(&of_error, secs(20)).reason,
        Some(Reason::IcmpUnknown)
    );
}

#[test]
fn neighbours_are_not_tracked() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    for kind in [130, 131, 132, 133, 134, 135, 136, 143, 151, 152] {
        let packet = Told::of(&format!("icmpv6 fe80::1 > fe80::2 type {kind} code 0"))
            .with(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            tracker.track(&packet, secs(1)).class,
            Class::Untracked,
            "{kind}"
        );
    }
    let other =
        Told::of("icmpv6 fe80::1 > fe80::2 type 153 code 0").with(&[153, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(tracker.track(&other, secs(1)).class, Class::Invalid);
    assert!(tracker.is_empty());
}

#[test]
fn icmpv6_queries_and_errors() {
    let mut tracker = tracker(Config::new(16, [1, 2]));
    let message = |kind: u8, id: u8| {
        Told::of(&format!(
            "icmpv6 2001:db8::1 > 2001:db8::2 id {id} type {kind} code 0"
        ))
        .with(&[kind, 0, 0, 0, 0, id, 0, 1])
    };
    // Echo and node information; nothing else opens a connection, and no reply does.
    for (kind, answer) in [(128, 129), (139, 140)] {
        let ask = message(kind, 7);
        assert_eq!(pass(&mut tracker, &ask, secs(1)).class, Class::New);
        assert_eq!(
            class_of(&tracker, &ask.key, secs(1)),
            (TimeoutClass::Icmpv6, false)
        );
        let reply = ask.answered().with(&[answer, 0, 0, 0, 0, 7, 0, 1]);
        let tracked = pass(&mut tracker, &reply, secs(1));
        assert_eq!(tracked.direction, Some(Direction::Reply), "{answer}");
        let stray = tracker.track(&message(answer, 9), secs(1));
        assert_eq!(stray.reason, Some(Reason::IcmpType), "{answer}");
    }
    for kind in [138, 141, 144, 155, 200, 255] {
        let tracked = tracker.track(&message(kind, 1), secs(1));
        assert_eq!(tracked.reason, Some(Reason::IcmpType), "{kind}");
    }
    // Errors: the four that are named, and every other number below 128.
    let error = |kind: u8, quoted: &str| {
        Told::of(&format!(
            "icmpv6 2001:db8::9 > 2001:db8::1 type {kind} code 0"
        ))
        .with(&[kind, 0, 0, 0, 0, 0, 0, 0])
        .quoting(quoted)
    };
    let known = "icmpv6 2001:db8::1 > 2001:db8::2 id 7 type 128 code 0";
    let unknown = "icmpv6 2001:db8::1 > 2001:db8::2 id 8 type 128 code 0";
    for kind in [0, 1, 2, 3, 4, 100, 127] {
        let tracked = tracker.track(&error(kind, known), secs(1));
        assert_eq!(tracked.class, Class::Related, "{kind}");
        let tracked = tracker.track(&error(kind, unknown), secs(1));
        assert_eq!(tracked.reason, Some(Reason::IcmpUnknown), "{kind}");
    }
    tracker.check().expect("sound");
}

/// A redirect counts as an error where a neighbour sends it and quotes (RFC 4861 section 8.1).
#[test]
fn redirects_come_from_neighbours() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let known = "icmpv6 2001:db8::1 > 2001:db8::2 id 7 type 128 code 0";
    let ask = Told::of(known).with(&[128, 0, 0, 0, 0, 7, 0, 1]);
    pass(&mut tracker, &ask, secs(1));
    let redirect = |from: &str, hop_limit: u8, option: [u8; 2]| {
        let mut bytes = vec![137, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([0; 32]);
        bytes.extend(option);
        let packet = Told::of(&format!("icmpv6 {from} > 2001:db8::1 type 137 code 0"));
        Told {
            hop_limit,
            ..packet.with(&bytes).quoting(known)
        }
    };
    let fine = redirect("fe80::9", 255, [4, 9]);
    assert_eq!(tracker.track(&fine, secs(1)).class, Class::Related);
    for wrong in [
        redirect("fe80::9", 254, [4, 9]),
        redirect("2001:db8::9", 255, [4, 9]),
        redirect("fe80::9", 255, [2, 1]),
        redirect("fe80::9", 255, [4, 0]),
    ] {
        let tracked = tracker.track(&wrong, secs(1));
        assert_eq!(tracked.reason, Some(Reason::Malformed));
    }
}

#[test]
fn gre_and_its_calls() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let plain = Told::of("gre 10.0.0.1 > 192.0.2.2").with(&[0, 0, 8, 0]);
    let story = [
        (&plain, (TimeoutClass::Gre, false)),
        (&plain.answered(), (TimeoutClass::Gre, false)),
        (&plain, (TimeoutClass::GreStream, true)),
    ];
    for (packet, wanted) in story {
        pass(&mut tracker, packet, secs(1));
        assert_eq!(class_of(&tracker, &plain.key, secs(1)), wanted);
    }
    let call =
        |call: u8| Told::of("gre 10.0.0.1 > 192.0.2.2").with(&[0x20, 1, 0x88, 0x0b, 0, 4, 0, call]);
    for n in 1..=3 {
        assert_eq!(
            pass(&mut tracker, &call(n), secs(1)).class,
            Class::New,
            "each call is one"
        );
    }
    let odd = Told::of("gre 10.0.0.1 > 192.0.2.2").with(&[0x20, 1, 0x08, 0x00, 0, 4, 0, 9]);
    assert_eq!(
        tracker.track(&odd, secs(1)).reason,
        Some(Reason::GrePayload)
    );
}

#[test]
fn others_are_one_flow_for_each_pair() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let esp = Told::of("esp 10.0.0.1 > 192.0.2.2");
    assert_eq!(pass(&mut tracker, &esp, secs(1)).class, Class::New);
    assert_eq!(
        pass(&mut tracker, &esp.answered(), secs(1)).class,
        Class::Established
    );
    assert_eq!(
        class_of(&tracker, &esp.key, secs(1)),
        (TimeoutClass::Generic, false)
    );
}

/// An SCTP packet: tag, then chunks of kind, flags and first word.
fn sctp(key: &Told, tag: u32, chunks: &[(u8, u8, u32)]) -> Told {
    let mut bytes = vec![0, 5, 0, 6];
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    for (kind, flags, word) in chunks {
        bytes.extend([*kind, *flags, 0, 8]);
        bytes.extend(word.to_be_bytes());
    }
    key.clone().with(&bytes)
}

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;

#[test]
fn sctp_opens_and_closes() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let out = Told::of("sctp 10.0.0.1:5 > 192.0.2.2:6");
    let back = out.answered();
    let phase = |tracker: &Conntrack<Tuple>| {
        let (id, _) = tracker.find(&out.key, secs(1)).expect("there");
        tracker
            .connection(id)
            .expect("there")
            .sctp_phase()
            .expect("SCTP")
    };
    // Each side's packets carry the tag that the other chose in INIT and INIT ACK.
    let (mine, theirs) = (0x11, 0x22);
    let story = [
        (sctp(&out, 0, &[(INIT, 0, mine)]), None, SctpPhase::Closed),
        (
            sctp(&back, mine, &[(INIT_ACK, 0, theirs)]),
            None,
            SctpPhase::CookieWait,
        ),
        (
            sctp(&out, theirs, &[(ECHO, 0, 0)]),
            None,
            SctpPhase::CookieEchoed,
        ),
        (
            sctp(&out, 0x99, &[(ECHO, 0, 0)]),
            Some(Reason::SctpTag),
            SctpPhase::CookieEchoed,
        ),
        (
            sctp(&back, mine, &[(COOKIE_ACK, 0, 0)]),
            None,
            SctpPhase::Established,
        ),
        (
            sctp(&out, theirs, &[(0, 3, 1)]),
            None,
            SctpPhase::Established,
        ),
        (
            sctp(&out, 0x99, &[(0, 3, 1)]),
            Some(Reason::SctpTag),
            SctpPhase::Established,
        ),
        (
            sctp(&back, 0x99, &[(6, 0, 0)]),
            Some(Reason::SctpTag),
            SctpPhase::Established,
        ),
        (
            sctp(&back, mine, &[(INIT, 0, 1), (0, 0, 0)]),
            Some(Reason::SctpChunks),
            SctpPhase::Established,
        ),
        (
            sctp(&out, theirs, &[(7, 0, 0)]),
            None,
            SctpPhase::ShutdownSent,
        ),
        (
            sctp(&back, mine, &[(8, 0, 0)]),
            None,
            SctpPhase::ShutdownAckSent,
        ),
        (sctp(&out, theirs, &[(14, 0, 0)]), None, SctpPhase::Closed),
    ];
    for (at, (packet, reason, wanted)) in story.iter().enumerate() {
        let tracked = pass(&mut tracker, packet, secs(1));
        assert_eq!(
            (tracked.reason, phase(&tracker)),
            (*reason, *wanted),
            "packet {at}"
        );
    }
    assert!(
        class_of(&tracker, &out.key, secs(1)).1,
        "assured since it was open"
    );
}

#[test]
fn sctp_out_of_the_blue() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let out = Told::of("sctp 10.0.0.1:5 > 192.0.2.2:6");
    for chunks in [
        &[][..],
        &[(0, 3, 1)],
        &[(6, 0, 0)],
        &[(COOKIE_ACK, 0, 0)],
        &[(14, 0, 0)],
        &[(INIT, 0, 5), (0, 0, 0)],
    ] {
        let tracked = tracker.track(&sctp(&out, 9, chunks), secs(1));
        assert_eq!(tracked.reason, Some(Reason::SctpChunks), "{chunks:?}");
    }
    assert!(tracker.is_empty());
}

#[test]
fn sctp_collision() {
    // Both sides open; the answer to the delayed first INIT comes late and with another tag.
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let out = Told::of("sctp 10.0.0.1:5 > 192.0.2.2:6");
    let back = out.answered();
    let story = [
        (sctp(&out, 0, &[(INIT, 0, 1)]), None),
        (sctp(&back, 0, &[(INIT, 0, 2)]), Some(Reason::SctpChunks)),
        (sctp(&out, 2, &[(INIT_ACK, 0, 1)]), None),
        (sctp(&back, 1, &[(ECHO, 0, 0)]), None),
        (sctp(&out, 2, &[(COOKIE_ACK, 0, 0)]), None),
        (sctp(&back, 1, &[(INIT_ACK, 0, 77)]), Some(Reason::SctpTag)),
        (sctp(&out, 2, &[(0, 3, 1)]), None),
    ];
    for (at, (packet, reason)) in story.iter().enumerate() {
        let tracked = pass(&mut tracker, packet, secs(1));
        assert_eq!(tracked.reason, *reason, "packet {at}");
    }
}
