//! Stories that other trackers' suites tell, as far as a library without sockets can play them.
//!
//! | suite | story | where |
//! |---|---|---|
//! | kernel packetdrill | `ack_loss_stall`, `inexact_rst`, `rst_invalid`, `syn_challenge_ack`, `synack_old`, `synack_reuse` | `vectors.txt` |
//! | kernel shell | `tcp_unreplied` | [`repeated_openings_do_not_live_on`] |
//! | | `icmp_related` | [`errors_of_routers_are_related_where_the_packet_passed`] |
//! | | `clash`, `reverse_clash` | `capacity::races_are_resolved` |
//! | | `sctp_collision` | `protocols::sctp_collision` |
//! | | `nft_nat_zones`, `zones_many`, `dump_flush` | [`overlapping_networks_share_an_outside`], `listing::deleted_by_words` |
//! | | `nft_flowtable`, `packetpath/flowtables` | `bypass`, `time::the_forwarder_calls_back` |
//! | | `nft_nat`, port shadow, `dnat_clash` | `tests/golden`, `tests/nic/nat` |
//! | NPF | (a) to (d) | [`npf`] |
//! | | its 17 translations | `tests/golden` |
//! | pf | forged resets, challenges | [`forged_segments_leave_it_open`] |
//! | | inner addresses of errors | `protocols::errors_belong_to_what_they_quote` |
//! | | one echo identifier of two clients | [`two_clients_may_choose_one_identifier`] |
//! | | SCTP states | `protocols::sctp_opens_and_closes` |
//! | VPP | reset, half-reopened, reopened, late SYN/ACK, data while closing | the tests with VPP in their names' comments |
//! | | limits of a source, least recent first | `capacity` |
//! | | trailing bytes of a link | [`trailing_bytes_of_a_link_do_not_matter`] |
//! | Open vSwitch | uncommitted, repeated, several zones, errors' direction | the tests with Open vSwitch in their comments |
//! | | fragments in and out of order, incomplete, overlapping, late | `fragments` |
//! | | mark and label under a mask, deletion by tuple, port and zone | `capacity::owners_marks_labels_and_timeouts`, `listing` |
//! | | FTP | `related::ftp_announces_both_ways` |
//! | OPTE | an opening after the end, a full table | [`finished_connections_block_no_opening`], `capacity` |
//! | smoltcp | two stacks through the tracker | `stacks` |
//!
//! Not played, for want of what they are about: `vrf`, `edemux`, `ipip_mtu`, bridges and IPsec (interfaces and sockets of a kernel);
//! `synproxy`, pf's `modulate` and `synproxy` and syncookies (the tracker sends nothing and shifts numbers only where data grows);
//! `resize` (capacity is given once); Open vSwitch's forced commit and limits of zones, libnetfilter_conntrack's creation of entries
//! (there is neither); TFTP, SIP and other helpers than FTP's; VPP's affinity and high availability events.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{
    Config, Confirmation, Conntrack, Reason, Status, TcpPhase, Template, TimeoutClass, Timeouts,
};
use gufc::key::{Tuple, Zone};
use gufc::packet::Packet;
use gufc::time::Instant;
use gufc::wire::{Arrival, Frame, checksum};

use super::story::{Told, line, pass, secs, tcp_key, tracker};

fn play(tracker: &mut Conntrack<Tuple>, now: Instant, lines: &[&str]) -> Class {
    lines.iter().fold(Class::Untracked, |_, text| {
        pass(tracker, &line(text), now).class
    })
}

fn phase(tracker: &Conntrack<Tuple>, now: Instant) -> Option<TcpPhase> {
    let (id, _) = tracker.find(&tcp_key(Direction::Original), now)?;
    tracker.connection(id)?.tcp_phase()
}

const OPEN: [&str; 3] = [
    "> S 1000:0 w8760 l0",
    "< SA 5000:1001 w8760 l0",
    "> A 1001:5001 w8760 l0",
];

const CLOSE: [&str; 3] = [
    "> FA 1001:5001 w8760 l0",
    "< FA 5001:1002 w8760 l0",
    "> A 1002:5002 w8760 l0",
];

/// Linux's `tcp_unreplied`: a client that keeps trying does not keep an unanswered connection, nor its translation, alive.
#[test]
fn repeated_openings_do_not_live_on() {
    let mut config = Config::new(8, [1, 2]);
    config.timeouts = vec![Timeouts::LINUX.with(TimeoutClass::TcpSynSent, 10)];
    let mut tracker = tracker(config);
    let mut ids = Vec::new();
    for second in 1..=21 {
        let tracked = pass(&mut tracker, &line(OPEN[0]), secs(second));
        assert_eq!(tracked.class, Class::New);
        ids.push(tracked.connection.expect("there"));
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "a new connection every ten seconds");
}

/// Linux's `icmp_related`: a router beyond says that the datagram is too large. The error is related where the datagram has passed, of
/// either family, and unknown elsewhere.
#[test]
fn errors_of_routers_are_related_where_the_packet_passed() {
    let cases = [
        (
            "icmp 10.0.0.1 > 198.51.100.2 type 8 code 0 id 7",
            [8, 0],
            "icmp 192.0.2.254 > 10.0.0.1 type 3 code 4",
            [3, 4],
        ),
        (
            "icmpv6 2001:db8::1 > 2001:db8:2::2 type 128 code 0 id 7",
            [128, 0],
            "icmpv6 2001:db8:1::254 > 2001:db8::1 type 2 code 0",
            [2, 0],
        ),
    ];
    for (query, [kind, code], error, [error_kind, error_code]) in cases {
        let ping = Told::of(query).with(&[kind, code, 0, 0, 0, 7, 0, 1]);
        let error = Told::of(error)
            .with(&[error_kind, error_code, 0, 0, 0, 0, 5, 0])
            .quoting(query);
        let mut passed = tracker(Config::new(8, [1, 2]));
        let id = pass(&mut passed, &ping, secs(1)).connection;
        let tracked = passed.track(&error, secs(1));
        assert_eq!((tracked.class, tracked.connection), (Class::Related, id));
        let mut elsewhere = tracker(Config::new(8, [1, 2]));
        let tracked = elsewhere.track(&error, secs(1));
        assert_eq!(tracked.reason, Some(Reason::IcmpUnknown));
        assert_eq!(elsewhere.len(), 0, "an error opens nothing");
    }
}

/// Linux's `nft_nat_zones` and `zones_many`: a hundred networks with the same client, each in a zone of its own, share one outside; none
/// meets another, and each answer finds its own.
#[test]
fn overlapping_networks_share_an_outside() {
    let zone = |id| Zone::new(id).expect("a zone");
    let mut tracker = tracker(Config::new(5_000, [1, 2]));
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let template = |n| Template {
        zones: Some([zone(n), zone(0)]),
        ..Template::default()
    };
    let outside = |n: u32| -> Tuple {
        let text = format!("udp 192.0.2.2:53 > 203.0.113.1:{}", 1_000 + n);
        text.parse().expect("a tuple")
    };
    let networks = 4_000;
    let mut ids = Vec::new();
    for n in 1..=networks {
        let tracked = tracker.track_with(&ask, secs(1), &template(n));
        assert_eq!(tracked.class, Class::New, "{n}");
        let id = tracked.connection.expect("pending");
        assert!(tracker.set_reply(id, outside(n)));
        assert!(!tracker.is_taken(&outside(n), id, secs(1)));
        assert_eq!(tracker.confirm(id, secs(1)), Confirmation::Confirmed);
        ids.push(id);
    }
    for n in 1..=networks {
        let answer = Told {
            key: outside(n),
            ..ask.clone()
        };
        let tracked = tracker.track(&answer, secs(1));
        assert_eq!(tracked.connection, Some(ids[n as usize - 1]));
        assert_eq!(tracked.direction, Some(Direction::Reply));
        let again = tracker.track_with(&ask, secs(1), &template(n));
        assert_eq!(again.connection, tracked.connection);
        assert_eq!(again.class, Class::Established);
    }
    tracker.check().expect("sound");
}

/// NPF's four exchanges, numbers and all. What is said otherwise is a difference between the bounds of NPF and of Linux, and is marked:
/// `!` invalid here and fine there, `?` the reverse.
#[test]
fn npf() {
    let exchanges: [(&str, &[&str]); 4] = [
        // NPF lets an acknowledgement of data that it has not seen pass, by up to 66,000 bytes; Linux does not (bound III).
        (
            "out of order acknowledgements",
            &[
                "> S 9999:0 w4096 l0",
                "< SA 9:10000 w2048 l0",
                "> A 10000:10 w4096 l0",
                "< A 10:10000 w2048 l0",
                "> A 10000:10 w4096 l1000",
                "> A 11000:10 w4096 l1000",
                "< A 10:12000 w2048 l0",
                "!< A 10:13000 w2048 l0",
                "> A 12000:10 w4096 l1000",
                "< A 10:11000 w1048 l0",
                "> A 14000:10 w4096 l1000",
                "< A 10:13000 w2048 l0",
            ],
        ),
        (
            "a retransmission after an acknowledgement out of order, and a lost one",
            &[
                "> S 9999:0 w1000 l0",
                "< SA 9:10000 w4000 l0",
                "> A 10000:10 w1000 l0",
                "> A 10000:10 w1000 l1000",
                "< A 10:11000 w4000 l0",
                "> A 11000:10 w1000 l1000",
                "> A 12000:10 w1000 l1000",
                "> A 13000:10 w1000 l1000",
                "> A 14000:10 w1000 l1000",
                "< A 10:15000 w4000 l0",
                "< A 10:15000 w2000 l0",
                "> A 12000:10 w1000 l1000",
            ],
        ),
        // A FIN without ACK is no segment that a stack sends: Linux refuses it. With ACK it is as in NPF.
        (
            "repeated FINs",
            &[
                "> S 999:0 w1000 l0",
                "< SA 9:1000 w2000 l0",
                "> A 1000:10 w1000 l0",
                "!< F 10:1000 w2000 l0",
                "!> F 1000:10 w1000 l0",
                "< FA 10:1000 w2000 l0",
                "> FA 1000:10 w1000 l0",
                "> A 1001:11 w1000 l0",
                "> FA 1000:11 w1000 l0",
                "> FA 1000:11 w1000 l0",
                "< A 11:1001 w2000 l0",
            ],
        ),
        // The last segment begins where the window ends: Linux asks where a segment begins (bound I), NPF where it ends.
        (
            "out of the window",
            &[
                "> S 9:0 w8760 l0",
                "< SA 9999:10 w1000 l0",
                "> A 10:10000 w8760 l0",
                "< A 10000:10 w1000 l1460",
                "< A 11460:10 w1000 l1460",
                "> A 10:12920 w8760 l0",
                "< A 12920:10 w1000 l1460",
                "> A 10:14380 w8760 l0",
                "< A 17300:10 w1000 l1460",
                "> A 10:14380 w8760 l0",
                "< A 18760:10 w1000 l1460",
                "> A 10:14380 w8760 l0",
                "< A 20220:10 w1000 l1460",
                "> A 10:14380 w8760 l0",
                "< A 21680:10 w1000 l1460",
                "> A 10:14380 w8760 l0",
                "< A 14380:10 w1000 l1460",
                "?< A 23140:10 w1000 l1460",
                // Beyond the window by more than a window they agree.
                "!< A 40000:10 w1000 l1460",
            ],
        ),
    ];
    for (name, lines) in exchanges {
        let mut tracker = tracker(Config::new(8, [1, 2]));
        for (number, text) in lines.iter().enumerate() {
            let refused = text.starts_with('!');
            let tracked = pass(
                &mut tracker,
                &line(text.trim_start_matches(['!', '?'])),
                secs(1),
            );
            assert_eq!(
                tracked.class == Class::Invalid,
                refused,
                "{name}, {number}: {text}: {:?}",
                tracked.reason
            );
        }
    }
}

/// Open vSwitch: the answer to a connection that was never confirmed belongs to nothing.
#[test]
fn answers_to_unconfirmed_connections_are_strangers() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let id = tracker.track(&ask, secs(1)).connection.expect("pending");
    let answer = tracker.track(&ask.answered(), secs(1));
    assert_eq!(
        (answer.class, answer.direction),
        (Class::New, Some(Direction::Original))
    );
    tracker.refuse(id);
    let syn_ack = pass(&mut tracker, &line(OPEN[1]), secs(1));
    assert_eq!(syn_ack.class, Class::Invalid, "a SYN/ACK opens nothing");
}

/// Open vSwitch: a query that is tracked again before it is answered is new again; one packet in two zones is two connections; an error
/// about the second direction's packet has the first direction.
#[test]
fn a_packet_may_be_tracked_again_and_in_several_zones() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let ping =
        Told::of("icmp 10.0.0.1 > 192.0.2.2 id 9 type 8 code 0").with(&[8, 0, 0, 0, 0, 9, 0, 0]);
    let ids: Vec<_> = (0..3)
        .map(|_| {
            let tracked = pass(&mut tracker, &ping, secs(1));
            assert_eq!(tracked.class, Class::New);
            tracked.connection
        })
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    let zone = Zone::new(9).expect("a zone");
    let elsewhere = Template {
        zones: Some([zone; 2]),
        ..Template::default()
    };
    let tracked = tracker.track_with(&ping, secs(1), &elsewhere);
    assert_eq!(tracked.class, Class::New);
    assert_ne!(tracked.connection, ids[0]);

    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let id = pass(&mut tracker, &ask, secs(1)).connection;
    pass(&mut tracker, &ask.answered(), secs(1));
    let error = Told::of("icmp 10.0.0.1 > 192.0.2.2 type 3 code 3")
        .with(&[3, 3, 0, 0, 0, 0, 0, 0])
        .quoting("udp 192.0.2.2:53 > 10.0.0.1:5");
    let tracked = tracker.track(&error, secs(1));
    assert_eq!(
        (tracked.class, tracked.direction, tracked.connection),
        (Class::Related, Some(Direction::Original), id)
    );
}

/// OPTE: a SYN after the end, from either side, opens anew; the answers to it are established.
#[test]
fn finished_connections_block_no_opening() {
    for (syn, syn_ack) in [
        ("> S 70000:0 w8760 l0", "< SA 90000:70001 w8760 l0"),
        ("< S 70000:0 w8760 l0", "> SA 90000:70001 w8760 l0"),
    ] {
        let mut tracker = tracker(Config::new(8, [1, 2]));
        play(&mut tracker, secs(1), &OPEN);
        play(&mut tracker, secs(2), &CLOSE);
        assert_eq!(phase(&tracker, secs(2)), Some(TcpPhase::TimeWait));
        let opened = pass(&mut tracker, &line(syn), secs(3));
        let expected = (Class::New, Some(Direction::Original));
        assert_eq!((opened.class, opened.direction), expected, "{syn}");
        let answered = pass(&mut tracker, &line(syn_ack), secs(3));
        assert_eq!(answered.direction, Some(Direction::Reply), "{syn_ack}");
        assert_eq!(tracker.len(), 1);
    }
}

/// OPTE: a reset connection, with a stray segment after the reset, does not block the next opening either. The reset came from the other
/// side, so the SYN passes unbelieved until its answer proves it.
#[test]
fn reset_connections_block_no_opening() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN);
    play(
        &mut tracker,
        secs(2),
        &["< R 5001:0 w0 l0", "> A 1001:5001 w8760 l0"],
    );
    assert_eq!(phase(&tracker, secs(2)), Some(TcpPhase::Close));
    let again = [
        ("> S 70000:0 w8760 l0", TcpPhase::Close),
        ("< SA 90000:70001 w8760 l0", TcpPhase::SynRecv),
        ("> A 70001:90001 w8760 l0", TcpPhase::Established),
    ];
    for (text, wanted) in again {
        let tracked = pass(&mut tracker, &line(text), secs(3));
        assert_ne!(tracked.class, Class::Invalid, "{text}");
        assert_eq!(phase(&tracker, secs(3)), Some(wanted), "{text}");
    }
}

/// OPTE and Linux differ: an answer that comes when its opening has expired opens nothing here.
#[test]
fn late_answers_to_expired_openings_are_invalid() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN[..1]);
    assert_eq!(play(&mut tracker, secs(121), &OPEN[1..2]), Class::Invalid);
    assert!(tracker.is_empty());
}

/// VPP: after a reset the connection soon ends, data or not, and a SYN opens anew.
#[test]
fn reset_connections_end() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN);
    play(&mut tracker, secs(2), &["< R 5001:0 w0 l0"]);
    assert_eq!(phase(&tracker, secs(11)), Some(TcpPhase::Close));
    assert_eq!(phase(&tracker, secs(12)), None, "ten seconds");
    assert_eq!(
        play(&mut tracker, secs(12), &["> S 9:0 w8760 l0"]),
        Class::New
    );
}

/// VPP: data behind a reset passes, and the connection still ends in the time of one that was reset.
#[test]
fn data_behind_a_reset_does_not_revive() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN);
    play(&mut tracker, secs(1_000), &["< R 5001:0 w0 l0"]);
    let data = "> A 1001:5001 w8760 l100";
    assert_eq!(play(&mut tracker, secs(1_005), &[data]), Class::Established);
    assert_eq!(phase(&tracker, secs(1_014)), Some(TcpPhase::Close));
    assert_eq!(phase(&tracker, secs(1_015)), None);
}

/// VPP: a connection that only one side opens again is half-open: it ends in that time, and its stray acknowledgement is invalid. One that
/// both sides open again lives.
#[test]
fn half_reopened_connections_end_and_reopened_ones_live() {
    for (syn, stray) in [
        ("> S 70000:0 w8760 l0", "> A 70001:5002 w8760 l0"),
        ("< S 70000:0 w8760 l0", "< A 70001:5002 w8760 l0"),
    ] {
        let mut tracker = tracker(Config::new(8, [1, 2]));
        play(&mut tracker, secs(1), &OPEN);
        play(&mut tracker, secs(2), &CLOSE);
        play(&mut tracker, secs(3), &[syn]);
        assert_eq!(play(&mut tracker, secs(4), &[stray]), Class::Invalid);
        assert_eq!(phase(&tracker, secs(122)), Some(TcpPhase::SynSent));
        assert_eq!(phase(&tracker, secs(123)), None);
    }
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN);
    play(&mut tracker, secs(2), &CLOSE);
    let reopen = [
        "< S 70000:0 w8760 l0",
        "> SA 90000:70001 w8760 l0",
        "< A 70001:90001 w8760 l0",
    ];
    assert_eq!(play(&mut tracker, secs(3), &reopen), Class::Established);
    assert_eq!(phase(&tracker, secs(400_000)), Some(TcpPhase::Established));
}

/// VPP: a SYN/ACK that is repeated, before or after the handshake is complete, changes nothing, and data passes much later.
#[test]
fn repeated_answers_change_nothing() {
    for late in [
        [OPEN[0], OPEN[1], OPEN[1], OPEN[2]],
        [OPEN[0], OPEN[1], OPEN[2], OPEN[1]],
    ] {
        let mut tracker = tracker(Config::new(8, [1, 2]));
        for text in late {
            assert_ne!(play(&mut tracker, secs(1), &[text]), Class::Invalid);
        }
        let data = ["> A 1001:5001 w8760 l100", "< A 5001:1101 w8760 l0"];
        assert_eq!(play(&mut tracker, secs(1), &data[..1]), Class::Established);
        assert_eq!(
            play(&mut tracker, secs(250), &data[1..]),
            Class::Established
        );
        assert_eq!(phase(&tracker, secs(250)), Some(TcpPhase::Established));
    }
}

/// VPP: data flows while the connection closes, from the side that has not said FIN; and what has ended is out of the table with the
/// next round of maintenance.
#[test]
fn data_flows_while_a_connection_closes() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN);
    play(
        &mut tracker,
        secs(2),
        &["> FA 1001:5001 w8760 l0", "< A 5001:1002 w8760 l0"],
    );
    let mut seq = 5_001;
    for second in (10..200).step_by(50) {
        let data = format!("< A {seq}:1002 w8760 l1000");
        seq += 1_000;
        let ack = format!("> A 1002:{seq} w8760 l0");
        let class = play(&mut tracker, secs(second), &[&data, &ack]);
        assert_eq!(class, Class::Established, "{second}");
    }
    assert_eq!(phase(&tracker, secs(200)), Some(TcpPhase::CloseWait));
    assert_eq!(tracker.maintain(secs(219), 8).expired, 0);
    assert_eq!(tracker.maintain(secs(220), 8).expired, 1);
    assert!(tracker.is_empty());
}

/// NPF's third exchange, with the acknowledgements that Linux asks of a FIN: both ways with repetitions, each of them valid.
#[test]
fn repeated_fins_are_valid() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN);
    let lines = [
        "> FA 1001:5001 w8760 l0",
        "> FA 1001:5001 w8760 l0",
        "< A 5001:1002 w8760 l0",
        "< FA 5001:1002 w8760 l0",
        "< FA 5001:1002 w8760 l0",
        "> A 1002:5002 w8760 l0",
    ];
    for end in 1..=lines.len() {
        assert_ne!(
            play(&mut tracker, secs(2), &lines[end - 1..end]),
            Class::Invalid
        );
    }
    assert_eq!(phase(&tracker, secs(2)), Some(TcpPhase::TimeWait));
}

/// pf: forged resets leave an open connection open; a forged SYN, too, and the challenge that it provokes passes.
#[test]
fn forged_segments_leave_it_open() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    play(&mut tracker, secs(1), &OPEN);
    for forged in ["< R 4000:0 w0 l0", "< R 90000:0 w0 l0", "> R 500:0 w0 l0"] {
        assert_eq!(
            play(&mut tracker, secs(2), &[forged]),
            Class::Invalid,
            "{forged}"
        );
    }
    let passes = ["> S 77777:0 w8760 l0", "< A 5001:1001 w8760 l0"];
    assert_eq!(play(&mut tracker, secs(3), &passes), Class::Established);
    assert_eq!(phase(&tracker, secs(3)), Some(TcpPhase::Established));
    // The real one closes.
    play(&mut tracker, secs(4), &["< R 5001:0 w0 l0"]);
    assert_eq!(phase(&tracker, secs(4)), Some(TcpPhase::Close));
}

/// pf: two clients that choose one echo identifier have a connection each.
#[test]
fn two_clients_may_choose_one_identifier() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    for client in ["10.0.0.1", "10.0.0.2"] {
        let ping = Told::of(&format!("icmp {client} > 192.0.2.2 id 9 type 8 code 0"))
            .with(&[8, 0, 0, 0, 0, 9, 0, 0]);
        assert_eq!(pass(&mut tracker, &ping, secs(1)).class, Class::New);
        let pong = ping.answered().with(&[0, 0, 0, 0, 0, 9, 0, 0]);
        let tracked = pass(&mut tracker, &pong, secs(1));
        assert_eq!(tracked.class, Class::Established);
    }
    assert_eq!(tracker.len(), 2);
}

/// VPP: an echo reply with bytes of padding behind it is the answer, its checksum right.
#[test]
fn trailing_bytes_of_a_link_do_not_matter() {
    let message = |kind: u8, from: [u8; 4], to: [u8; 4]| {
        let mut icmp = vec![kind, 0, 0, 0, 0, 9, 0, 1];
        let sum = !checksum::sum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0];
        bytes.extend(from);
        bytes.extend(to);
        let sum = !checksum::sum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(icmp);
        bytes.extend([0xaa; 18]);
        bytes
    };
    let (client, server) = ([10, 0, 0, 1], [192, 0, 2, 2]);
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let mut class = |mut bytes: Vec<u8>| {
        let frame: Frame<'_, Tuple> = Frame::ip(&mut bytes, &Arrival::default()).expect("IP");
        assert!(frame.is_intact());
        let tracked = tracker.track(&frame, secs(1));
        let id = tracked.connection.expect("tracked");
        assert!(tracker.confirm(id, secs(1)).is_accept());
        tracked.class
    };
    assert_eq!(class(message(8, client, server)), Class::New);
    assert_eq!(class(message(0, server, client)), Class::Established);
}

/// Open vSwitch: a zone may have lifetimes of its own.
#[test]
fn policies_give_other_lifetimes() {
    let mut config = Config::new(8, [1, 2]);
    config.timeouts = vec![Timeouts::LINUX, Timeouts::LINUX.with(TimeoutClass::Udp, 3)];
    let mut tracker = tracker(config);
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let brief = Template {
        policy: 1,
        mark: 7,
        ..Template::default()
    };
    let tracked = tracker.track_with(&ask, secs(1), &brief);
    let id = tracked.connection.expect("pending");
    assert_eq!(tracker.confirm(id, secs(1)), Confirmation::Confirmed);
    assert_eq!((tracked.mark, tracked.status), (7, Status::NONE));
    // What it is born with stays its own, whatever its later packets are tracked with.
    assert_eq!(tracker.track(&ask, secs(2)).connection, Some(id));
    assert!(tracker.find(&ask.key, secs(4)).is_some());
    assert!(tracker.find(&ask.key, secs(5)).is_none());
}
