//! Every reason for which a packet is invalid, unbelieved or dropped: a story that comes to it, and the counter that says so.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, Help, Helper, Mode, Reason};
use gufc::key::Tuple;
use gufc::packet::Fragment;

use super::story::{Told, line, pass, secs, segment, tracker};

const OPEN: [&str; 3] = [
    "> S 1000:0 w32792 l0",
    "< SA 5000:1001 w65535 l0",
    "> A 1001:5001 w65535 l0",
];

fn lines(more: &[&str]) -> Vec<Told> {
    OPEN.iter().chain(more).map(|text| line(text)).collect()
}

fn icmp(kind: u8, to: &str) -> Told {
    Told::of(&format!("icmp 203.0.113.9 > {to} id 9 type {kind} code 0"))
        .with(&[kind, 0, 0, 0, 0, 9, 0, 0])
}

/// An SCTP packet of one chunk.
fn sctp(answers: bool, tag: u32, kind: u8, word: u32) -> Told {
    let key = Told::of("sctp 10.0.0.1:5 > 192.0.2.2:6");
    let key = if answers { key.answered() } else { key };
    let mut bytes = vec![0, 5, 0, 6];
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([kind, 0, 0, 8]);
    bytes.extend(word.to_be_bytes());
    key.with(&bytes)
}

/// Quotes the segment of the opener with this sequence number.
fn quoting(seq: u32) -> Told {
    let mut bytes = vec![3, 4, 0, 0, 0, 0, 5, 0];
    bytes.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    bytes.extend([10, 0, 0, 1, 192, 0, 2, 2, 0x03, 0xe8, 0, 80]);
    bytes.extend(seq.to_be_bytes());
    Told::of("icmp 203.0.113.5 > 10.0.0.1 type 3 code 4")
        .with(&bytes)
        .quoting("tcp 10.0.0.1:1000 > 192.0.2.2:80")
}

/// Packets whose last comes to `reason` and no other does.
fn story(reason: Reason, config: &mut Config) -> Vec<Told> {
    let udp = |n: u32| Told::of(&format!("udp 10.0.0.1:{n} > 192.0.2.2:53"));
    match reason {
        Reason::Malformed => vec![
            Told {
                hop_limit: 64,
                ..Told::of("icmpv6 fe80::1 > 2001:db8::1 type 137 code 0")
            }
            .with(&[137, 0, 0, 0]),
        ],
        Reason::Fragment => vec![Told {
            fragment: Fragment::First,
            ..udp(1)
        }],
        Reason::Checksum => vec![Told {
            intact: false,
            ..udp(1)
        }],
        Reason::TcpFlags => vec![line("> SF 1:0 w100 l0")],
        Reason::TcpNew => vec![line("> R 1:0 w100 l0")],
        Reason::TcpState => lines(&["< S 5000:0 w65535 l0"]),
        Reason::TcpAboveWindow => lines(&["> A 900000:5001 w65535 l0"]),
        Reason::TcpAckUnsent => lines(&["< A 5001:1500 w65535 l0"]),
        Reason::TcpReset => lines(&["< R 1:0 w0 l0"]),
        Reason::IcmpType => vec![icmp(0, "10.0.0.1")],
        Reason::IcmpUnknown => vec![icmp(3, "10.0.0.1").quoting("udp 10.0.0.1:1 > 192.0.2.2:53")],
        Reason::IcmpMisdirected => {
            vec![
                udp(1),
                icmp(3, "10.0.0.66").quoting("udp 10.0.0.1:1 > 192.0.2.2:53"),
            ]
        }
        Reason::IcmpSequence => {
            config.mode = Mode::Hardened;
            let mut story = lines(&[]);
            story.push(quoting(777_777));
            story
        }
        Reason::SctpChunks => vec![sctp(false, 1, 0, 1)],
        // Only a heartbeat has been seen; an opening from the other side has no place there.
        Reason::SctpState => vec![sctp(false, 7, 4, 1), sctp(true, 0, 1, 9)],
        Reason::SctpTag => vec![
            sctp(false, 0, 1, 0x11),
            sctp(true, 0x11, 2, 0x22),
            sctp(false, 0x99, 10, 0),
        ],
        Reason::GrePayload => {
            vec![Told::of("gre 10.0.0.1 > 192.0.2.2").with(&[0x20, 1, 8, 0, 0, 4, 0, 9])]
        }
        Reason::TcpIgnored => lines(&["> S 77777:0 w30000 l0"]),
        Reason::TcpOvershoot => lines(&["> A 70000:5001 w65535 l100"]),
        Reason::TcpBelowWindow => lines(&[
            "> A 1001:5001 w65535 l60000",
            "< A 5001:61001 w65535 l0",
            "> A 61001:5001 w65535 l60000",
            "< A 5001:121001 w65535 l0",
            "> A 1001:5001 w65535 l100",
        ]),
        Reason::TcpAckOld => lines(&[
            "> A 1001:5001 w65535 l60000",
            "< A 5001:61001 w65535 l0",
            "> A 61001:5001 w65535 l60000",
            "< A 5001:1001 w65535 l0",
        ]),
        Reason::TcpChallenge => lines(&[
            "> FA 1001:5001 w65535 l0",
            "< FA 5001:1002 w65535 l0",
            "> S 200000:0 w65535 l0 ws7 sk",
            "< A 5002:1002 w65535 l0",
        ]),
        Reason::TcpResetUnproven => {
            config.mode = Mode::Hardened;
            lines(&["> FA 1001:5001 w65535 l0", "< R 5050:0 w0 l0"])
        }
        // On a path whose tag nobody has named.
        Reason::SctpHeartbeat => vec![
            sctp(false, 0, 1, 0x11),
            sctp(true, 0x11, 2, 0x22),
            sctp(false, 0x22, 10, 0),
            sctp(true, 0x11, 11, 0),
            sctp(false, 0x99, 4, 0),
        ],
        Reason::Full => {
            config.capacity = 1;
            let mut story = lines(&[]);
            story.push(udp(1));
            story
        }
        Reason::SourceLimit => {
            config.per_source_max = Some(1);
            vec![udp(1), udp(2)]
        }
        // What helpers refuse is told below.
        _ => Vec::new(),
    }
}

#[test]
fn every_reason_has_a_story_and_a_counter() {
    let mut told = 0;
    for reason in Reason::ALL {
        let mut config = Config::new(16, [1, 2]);
        config.news_capacity = 64;
        let story = story(reason, &mut config);
        let Some(last) = story.len().checked_sub(1) else {
            continue;
        };
        told += 1;
        let mut tracker = tracker(config);
        for (number, packet) in story.iter().enumerate() {
            let tracked = pass(&mut tracker, packet, secs(1));
            if number < last {
                // What an SYN that passes unbelieved prepares is a reason of its own.
                let expected = match reason {
                    Reason::TcpChallenge if number == 5 => Some(Reason::TcpIgnored),
                    _ => None,
                };
                assert_eq!(tracked.reason, expected, "{reason}: packet {number}");
                continue;
            }
            assert_eq!(tracked.reason, Some(reason));
            let (invalid, dropped) = kind(reason);
            assert_eq!(tracked.class == Class::Invalid, invalid, "{reason}");
            assert_eq!(tracked.drop, dropped, "{reason}");
            assert_eq!(tracked.direction.is_none(), invalid, "{reason}");
        }
        assert_eq!(tracker.count(reason), 1, "{reason}");
        let all: u64 = Reason::ALL.map(|reason| tracker.count(reason)).iter().sum();
        assert_eq!(all, 1 + u64::from(reason == Reason::TcpChallenge));
        assert!(!reason.as_str().is_empty());
    }
    // Those of helpers have theirs elsewhere: two below, two where packets are translated.
    assert_eq!(told, Reason::COUNT - 4);
}

/// Whether packets of a reason are invalid, and whether they are dropped.
fn kind(reason: Reason) -> (bool, bool) {
    match reason {
        Reason::Full | Reason::SourceLimit => (true, true),
        Reason::TcpIgnored
        | Reason::TcpOvershoot
        | Reason::TcpBelowWindow
        | Reason::TcpAckOld
        | Reason::TcpChallenge
        | Reason::TcpResetUnproven
        | Reason::SctpHeartbeat => (false, false),
        _ => (true, false),
    }
}

/// The two reasons of helpers.
#[test]
fn helpers_count_what_they_refuse() {
    let mut config = Config::new(16, [1, 2]);
    config.expectations_max = 0;
    let mut tracker: Conntrack<Tuple> = tracker(config);
    let out = Told::of("tcp 10.0.0.1:1000 > 192.0.2.2:21");
    let mut id = None;
    for (packet, words) in [
        (&out, "S 0:0 w9000 l0"),
        (&out.answered(), "SA 0:1 w9000 l0"),
        (&out, "A 1:1 w9000 l0"),
    ] {
        id = pass(
            &mut tracker,
            &Told::tcp(packet.key, segment(words)),
            secs(1),
        )
        .connection;
    }
    assert!(tracker.assign(id.expect("open"), Helper::Ftp));
    let mut seq = 1;
    for (text, wanted) in [
        ("USER x\r\n", Help::Nothing),
        ("PORT 10,0,", Help::Drop(Reason::HelperPartial)),
        (
            "PORT 10,0,0,1,8,1\r\n",
            Help::Drop(Reason::HelperExpectation),
        ),
    ] {
        let mut bytes = vec![0; 20];
        bytes.extend(text.as_bytes());
        let words = format!("PA {seq}:1 w9000 l{}", text.len());
        let packet = Told::tcp(out.key, segment(&words)).with(&bytes);
        let tracked = pass(&mut tracker, &packet, secs(1));
        assert_eq!(tracked.direction, Some(Direction::Original));
        assert_eq!(tracker.help(&packet, &tracked, secs(1)), wanted, "{text}");
        if wanted == Help::Nothing {
            seq += text.len();
        }
    }
    for reason in [Reason::HelperPartial, Reason::HelperExpectation] {
        assert_eq!(tracker.count(reason), 1, "{reason}");
    }
}
