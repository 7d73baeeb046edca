//! How long connections live: two profiles, slack, and the two ways in which a forwarder that sees the packets in the tracker's place
//! keeps it informed.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, TcpPhase, TimeoutClass, Timeouts};
use gufc::key::Tuple;
use gufc::packet::Packet;
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};

use super::story::{Told, line, pass, secs, tcp_key, tracker};

fn open(tracker: &mut Conntrack<Tuple>, now: Instant) {
    for text in ["> S 0:0 w9000 l0", "< SA 0:1 w9000 l0", "> A 1:1 w9000 l0"] {
        pass(tracker, &line(text), now);
    }
}

fn end(tracker: &Conntrack<Tuple>, key: &Tuple, now: Instant) -> Option<Instant> {
    let (id, _) = tracker.find(key, now)?;
    tracker.connection(id).map(|one| one.end())
}

/// The second in which it ends; ends are rounded down by less than a millisecond.
fn end_second(tracker: &Conntrack<Tuple>, key: &Tuple, now: Instant) -> Option<u64> {
    let nanos = end(tracker, key, now)?.nanos();
    assert!((nanos + 999_999) % 1_000_000_000 < 1_000_000, "{nanos}");
    Some((nanos + 999_999) / 1_000_000_000)
}

/// Linux 6.18's defaults, every one.
#[test]
fn the_linux_profile() {
    let expected = [
        ("TcpSynSent", 120),
        ("TcpSynRecv", 60),
        ("TcpEstablished", 432_000),
        ("TcpFinWait", 120),
        ("TcpCloseWait", 60),
        ("TcpLastAck", 30),
        ("TcpTimeWait", 120),
        ("TcpClose", 10),
        ("TcpSynSent2", 120),
        ("TcpRetransmission", 300),
        ("TcpUnacknowledged", 300),
        ("Udp", 30),
        ("UdpStream", 120),
        ("Icmp", 30),
        ("Icmpv6", 30),
        ("Gre", 30),
        ("GreStream", 180),
        ("SctpClosed", 10),
        ("SctpCookieWait", 3),
        ("SctpCookieEchoed", 3),
        ("SctpEstablished", 210),
        ("SctpShutdownSent", 3),
        ("SctpShutdownReceived", 3),
        ("SctpShutdownAckSent", 3),
        ("SctpHeartbeatSent", 30),
        ("Generic", 600),
        ("Clash", 1),
        ("Custom", 0),
    ];
    let got = TimeoutClass::ALL.map(|class| (format!("{class:?}"), Timeouts::LINUX.seconds(class)));
    for ((name, seconds), (expected_name, expected)) in got.iter().zip(expected) {
        assert_eq!((name.as_str(), *seconds), (expected_name, expected));
    }
}

/// The RFC profile keeps what the RFCs ask of a translator at least: RFC 5382 REQ-5, RFC 7857 section 2.1, RFC 4787 REQ-5, RFC 5508
/// REQ-1; and no ceiling undercuts it. A connection lives by it.
#[test]
fn the_rfc_profile() {
    use TimeoutClass as C;
    let at_least = [
        (C::TcpEstablished, 7_440),
        (C::TcpUnacknowledged, 7_440),
        (C::TcpRetransmission, 240),
        (C::TcpSynSent, 240),
        (C::TcpSynRecv, 240),
        (C::TcpFinWait, 240),
        (C::TcpCloseWait, 240),
        (C::TcpLastAck, 240),
        (C::TcpTimeWait, 240),
        (C::TcpClose, 240),
        (C::Udp, 120),
        (C::UdpStream, 300),
        (C::Icmp, 60),
        (C::Icmpv6, 60),
    ];
    for (class, seconds) in at_least {
        assert!(Timeouts::RFC.seconds(class) >= seconds, "{class:?}");
    }
    let mut config = Config::new(8, [1, 2]);
    config.timeouts = vec![Timeouts::RFC];
    let mut tracker = tracker(config);
    open(&mut tracker, secs(1));
    let key = tcp_key(Direction::Original);
    assert_eq!(end_second(&tracker, &key, secs(1)), Some(7_441));
    pass(&mut tracker, &line("> A 1:1 w9000 l100"), secs(1));
    assert_eq!(
        end_second(&tracker, &key, secs(1)),
        Some(7_441),
        "data under way does not shorten it"
    );
    pass(&mut tracker, &line("< R 1:101 w0 l0"), secs(2));
    assert_eq!(end_second(&tracker, &key, secs(2)), Some(242));
}

/// Slack leaves refreshes out that move the end by less, and no others: a connection never lives longer than without it, and at most
/// the slack shorter. Anything but time passes by is the same.
#[test]
fn slack_takes_at_most_itself() {
    let slack = Duration::from_secs(5);
    let mut exact = Config::new(8, [1, 2]);
    exact.accounting = true;
    let mut lazy = exact.clone();
    lazy.slack = slack;
    let (mut exact, mut lazy) = (tracker(exact), tracker(lazy));
    let ask = Told::of("udp 10.0.0.1:5 > 192.0.2.2:53");
    let mut chance = SplitMix64(1);
    let mut now = secs(1);
    let (mut moved, mut last) = (0, None);
    for number in 0..2_000 {
        let packet = if chance.below(2) == 0 {
            ask.clone()
        } else {
            ask.answered()
        };
        let tracked = [&mut exact, &mut lazy].map(|tracker| pass(tracker, &packet, now));
        assert_eq!(tracked[0], tracked[1], "{number}");
        let ends = [&exact, &lazy].map(|tracker| end(tracker, &ask.key, now).expect("alive"));
        assert!(
            ends[1] <= ends[0] && ends[0] - ends[1] < slack,
            "{number}: {ends:?}"
        );
        moved += u32::from(last.is_some_and(|last| last != ends[1]));
        last = Some(ends[1]);
        now = now + Duration::from_millis(chance.below(1_000));
    }
    assert!(moved < 400, "{moved} of 2,000 packets wrote an end");
    assert!(moved > 100, "{moved}");
}

/// What both ways come to: the same answers as those of a tracker that saw every packet, and the same end of life.
struct Lent {
    whole: Conntrack<Tuple>,
    lender: Conntrack<Tuple>,
}

impl Lent {
    fn new() -> Self {
        let mut config = Config::new(8, [1, 2]);
        config.timeouts = vec![Timeouts::LINUX.with(TimeoutClass::TcpEstablished, 60)];
        let (mut whole, mut lender) = (tracker(config.clone()), tracker(config));
        open(&mut whole, secs(1));
        open(&mut lender, secs(1));
        Self { whole, lender }
    }

    fn ends(&self, now: Instant) -> [Option<Instant>; 2] {
        let key = tcp_key(Direction::Original);
        [&self.whole, &self.lender].map(|tracker| end(tracker, &key, now))
    }
}

/// The first way, *flush*: before the connection times out the tracker takes it back. Its next packet comes the slow way, and either
/// lends it out again or does not come.
#[test]
fn the_tracker_flushes() {
    let mut both = Lent::new();
    let key = tcp_key(Direction::Original);
    let packet = line("> A 1:1 w9000 l0");
    let segment = packet.segment().expect("TCP");
    let (mut outside, mut slow) = (0, 0);
    let mut lent = None;
    for second in 2..500 {
        let now = secs(second);
        // Half a lifetime is early enough.
        if second % 30 == 0 {
            if let Some(mut bypass) = lent.take() {
                assert!(both.lender.take_back(&mut bypass));
            }
        }
        assert_eq!(
            pass(&mut both.whole, &packet, now).class,
            Class::Established
        );
        match &mut lent {
            Some(bypass) => {
                outside += 1;
                assert!(gufc::hooks::conntrack::Bypass::advance(
                    bypass,
                    Direction::Original,
                    &segment,
                    packet.length(),
                    now
                ));
            }
            None => {
                slow += 1;
                assert_eq!(
                    pass(&mut both.lender, &packet, now).class,
                    Class::Established
                );
                let (id, _) = both.lender.find(&key, now).expect("alive");
                lent = both.lender.bypass(id, now);
                assert!(lent.is_some());
                let [whole, lender] = both.ends(now);
                assert_eq!(whole, lender);
            }
        }
    }
    assert_eq!((outside, slow), (481, 17));
}

/// The second way, *callback*: the forwarder keeps it as long as packets come, ages it out by itself, and says then what it knows. The
/// connection ends when it would have ended, be the report as late as it may; and a report in between keeps it alive.
#[test]
fn the_forwarder_calls_back() {
    let mut both = Lent::new();
    let key = tcp_key(Direction::Original);
    let (id, _) = both.lender.find(&key, secs(1)).expect("alive");
    let mut bypass = both.lender.bypass(id, secs(1)).expect("lent");
    let packet = line("> A 1:1 w9000 l0");
    let segment = packet.segment().expect("TCP");
    for second in 2..=200 {
        let now = secs(second);
        pass(&mut both.whole, &packet, now);
        assert!(bypass.advance(Direction::Original, &segment, packet.length(), now));
        if second % 50 == 0 {
            assert!(both.lender.take_back(&mut bypass), "now and then");
        }
    }
    // Idle for 30 seconds: it ages out, and its keeper is told.
    assert!(both.lender.take_back(&mut bypass));
    let [whole, lender] = both.ends(secs(230));
    assert_eq!(whole, lender);
    assert!(lender.is_some());
    assert_eq!(end_second(&both.lender, &key, secs(230)), Some(260));
    // Without state to report, hardware says when it saw the last packet: time is kept, windows are not.
    let (id, _) = both.lender.find(&key, secs(230)).expect("alive");
    assert!(both.lender.take_back_blind(id, secs(225)));
    assert_eq!(end_second(&both.lender, &key, secs(230)), Some(285));
    assert_eq!(
        both.lender.connection(id).and_then(|one| one.tcp_phase()),
        Some(TcpPhase::Established)
    );
    assert!(both.lender.bypass(id, secs(285)).is_none(), "too late");
}
