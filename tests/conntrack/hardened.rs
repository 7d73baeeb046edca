//! What hardened mode does otherwise, one test each: the same packets in both modes.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, Mode, Reason, TcpPhase, Tracked};
use gufc::key::Tuple;
use gufc::time::Instant;

use super::story::{Told, line, pass, secs, tcp_key, tracker};

const NOW: Instant = Instant::from_secs(1);

const OPEN: [&str; 5] = [
    "> S 1000:0 w32792 l0",
    "< SA 5000:1001 w65535 l0",
    "> A 1001:5001 w65535 l0",
    "< PA 5001:1001 w65535 l10",
    "> A 1001:5011 w65535 l0",
];

fn play(mode: Mode, lines: &[&str]) -> (Conntrack<Tuple>, Tracked) {
    let mut config = Config::new(8, [1, 2]);
    config.mode = mode;
    let mut tracker = tracker(config);
    let mut last = Tracked::UNTRACKED;
    for text in lines {
        last = pass(&mut tracker, &line(text), NOW);
    }
    (tracker, last)
}

fn phase(tracker: &Conntrack<Tuple>) -> Option<TcpPhase> {
    let (id, _) = tracker.find(&tcp_key(Direction::Original), NOW)?;
    tracker.connection(id)?.tcp_phase()
}

fn after(more: &[&'static str]) -> Vec<&'static str> {
    OPEN.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn two_blind_packets_do_not_kill() {
    let lines = after(&["> S 9000000:0 w65535 l0", "< RA 0:9000001 w0 l0"]);
    let (linux, _) = play(Mode::Linux, &lines);
    assert_eq!(phase(&linux), Some(TcpPhase::Close));
    let (hardened, last) = play(Mode::Hardened, &lines);
    assert_eq!(phase(&hardened), Some(TcpPhase::Established));
    assert_eq!(last.reason, Some(Reason::TcpResetUnproven));
    assert_ne!(
        last.class,
        Class::Invalid,
        "it passes: a client that did reopen hears of it"
    );
}

#[test]
fn refused_segments_plant_nothing() {
    let lines = [
        "> S 0:0 w65535 l0 ws8 sk",
        "< SA 145824453:643160523 w240 l0 ws0",
    ];
    let planted = |mode| {
        let (tracker, last) = play(mode, &lines);
        assert_eq!(last.class, Class::Invalid);
        let (id, _) = tracker
            .find(&tcp_key(Direction::Original), NOW)
            .expect("open");
        let one = tracker.connection(id).expect("open");
        one.tcp_side(Direction::Reply).expect("TCP").end
    };
    assert_eq!(planted(Mode::Linux), 145_824_454);
    assert_eq!(planted(Mode::Hardened), 0);
}

#[test]
fn errors_quote_what_was_sent() {
    let quoting = |seq: u32| {
        let mut bytes = vec![3, 4, 0, 0, 0, 0, 5, 0];
        bytes.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        bytes.extend([10, 0, 0, 1, 192, 0, 2, 2, 0x03, 0xe8, 0, 80]);
        bytes.extend(seq.to_be_bytes());
        Told::of("icmp 203.0.113.5 > 10.0.0.1 type 3 code 4")
            .with(&bytes)
            .quoting("tcp 10.0.0.1:1000 > 192.0.2.2:80")
    };
    for (seq, linux, hardened) in [
        (1000, Class::Related, Class::Related),
        (1001, Class::Related, Class::Related),
        (1002, Class::Related, Class::Invalid),
        (0x8000_0000, Class::Related, Class::Invalid),
        (1001u32.wrapping_sub(65_536), Class::Related, Class::Invalid),
    ] {
        for (mode, wanted) in [(Mode::Linux, linux), (Mode::Hardened, hardened)] {
            let (mut tracker, _) = play(mode, &OPEN);
            let tracked = tracker.track(&quoting(seq), NOW);
            assert_eq!(tracked.class, wanted, "{mode:?} {seq}");
        }
    }
}

#[test]
fn resets_while_closing_are_exact() {
    let fin = "> FA 1001:5011 w65535 l0";
    let cases: [(&[&str], _, _); 5] = [
        // Exact: what the other end has acknowledged.
        (&[fin, "< R 5011:0 w0 l0"], TcpPhase::Close, None),
        // In the window and not exact.
        (
            &[fin, "< R 5050:0 w0 l0"],
            TcpPhase::FinWait,
            Some(Reason::TcpResetUnproven),
        ),
        // Too old.
        (
            &[fin, "< R 4000:0 w0 l0"],
            TcpPhase::FinWait,
            Some(Reason::TcpReset),
        ),
        // After the end none is believed (RFC 1337).
        (
            &[
                fin,
                "< FA 5011:1002 w65535 l0",
                "> A 1002:5012 w65535 l0",
                "< R 5012:0 w0 l0",
            ],
            TcpPhase::TimeWait,
            Some(Reason::TcpResetUnproven),
        ),
        (
            &[fin, "< R 5011:0 w0 l0", "< R 77:0 w0 l0"],
            TcpPhase::Close,
            Some(Reason::TcpResetUnproven),
        ),
    ];
    for (more, wanted, reason) in cases {
        let lines: Vec<&str> = OPEN.iter().chain(more).copied().collect();
        let (hardened, last) = play(Mode::Hardened, &lines);
        assert_eq!(
            (phase(&hardened), last.reason),
            (Some(wanted), reason),
            "{more:?}"
        );
        let (linux, last) = play(Mode::Linux, &lines);
        assert_eq!((phase(&linux), last.reason), (Some(TcpPhase::Close), None));
    }
    assert_eq!(secs(1), NOW);
}

#[test]
fn otherwise_the_modes_agree() {
    let lines = after(&[
        "< A 5011:1001 w65535 l1000",
        "> A 1001:6011 w65535 l0",
        "< R 0:0 w0 l0",
        "< R 1000000:0 w0 l0",
        "> FA 1001:6011 w65535 l0",
        "< FA 6011:1002 w65535 l0",
        "> A 1002:6012 w65535 l0",
        "> S 70000:0 w65535 l0",
    ]);
    for end in 1..=lines.len() {
        let (linux, one) = play(Mode::Linux, &lines[..end]);
        let (hardened, other) = play(Mode::Hardened, &lines[..end]);
        assert_eq!(one, other);
        assert_eq!(phase(&linux), phase(&hardened));
    }
}
