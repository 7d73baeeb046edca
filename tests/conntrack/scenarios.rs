//! Stories that other trackers' suites tell, as far as a library without sockets can play them.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, TcpPhase, TimeoutClass, Timeouts};
use gufc::key::Tuple;
use gufc::time::Instant;

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

/// OPTE: a SYN after the end, from either side, opens anew; the answers to it are established.
#[test]
fn finished_connections_block_no_opening() {
    let close = [
        "> FA 1001:5001 w8760 l0",
        "< FA 5001:1002 w8760 l0",
        "> A 1002:5002 w8760 l0",
    ];
    for (syn, syn_ack) in [
        ("> S 70000:0 w8760 l0", "< SA 90000:70001 w8760 l0"),
        ("< S 70000:0 w8760 l0", "> SA 90000:70001 w8760 l0"),
    ] {
        let mut tracker = tracker(Config::new(8, [1, 2]));
        play(&mut tracker, secs(1), &OPEN);
        play(&mut tracker, secs(2), &close);
        assert_eq!(phase(&tracker, secs(2)), Some(TcpPhase::TimeWait));
        let opened = pass(&mut tracker, &line(syn), secs(3));
        let expected = (Class::New, Some(Direction::Original));
        assert_eq!((opened.class, opened.direction), expected, "{syn}");
        let answered = pass(&mut tracker, &line(syn_ack), secs(3));
        assert_eq!(answered.direction, Some(Direction::Reply), "{syn_ack}");
        assert_eq!(tracker.len(), 1);
    }
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

/// NPF's third exchange: FIN both ways with repetitions, each of them valid.
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
}
