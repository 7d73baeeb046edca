//! The window step is the whole procedure: same verdicts, same state, whatever the segments.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, Mode, Tracked};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::{Packet, Segment, SegmentOptions, Seq, TcpFlags};
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};
use proptest::prelude::*;

use super::story::{Told, pass, tcp_key, tracker};

/// Tracks as a cache would: by the step where it fits.
fn cached(tracker: &mut Conntrack<Tuple>, packet: &Told, now: Instant, steps: &mut u32) -> Tracked {
    let segment = packet.segment().expect("TCP");
    if let Some((id, direction)) = tracker.find(&packet.key(), now) {
        let before = dump(tracker);
        let fits = tracker.fits(id, direction, &segment, now);
        assert_eq!(before, dump(tracker), "asking changes nothing");
        if fits {
            *steps += 1;
            tracker.advance(id, direction, &segment, packet.length(), now);
            let connection = tracker.connection(id).expect("found");
            return Tracked {
                class: Class::Established,
                direction: Some(direction),
                connection: Some(id),
                status: connection.status(),
                mark: connection.mark(),
                ..Tracked::UNTRACKED
            };
        }
    }
    pass(tracker, packet, now)
}

pub(super) fn dump(tracker: &Conntrack<Tuple>) -> String {
    format!("{:?}", tracker.iter().collect::<Vec<_>>())
}

/// A segment near what the two ends are at: mostly plausible, some of it at an edge, some wild.
pub(super) fn near(chance: &mut SplitMix64, own: &mut Seq, peer: Seq) -> Segment {
    const EDGES: [i64; 12] = [0, 0, 0, 0, 1, -1, 100, -100, 4000, -4000, 66_000, -70_000];
    let edge = |chance: &mut SplitMix64| EDGES[chance.below(12) as usize] as u32;
    let flags = match chance.below(80) {
        0 => TcpFlags::SYN,
        1 => TcpFlags::SYN.union(TcpFlags::ACK),
        2 => TcpFlags::FIN.union(TcpFlags::ACK),
        3 => TcpFlags::RST,
        4 => TcpFlags::RST.union(TcpFlags::ACK),
        5..30 => TcpFlags::ACK.union(TcpFlags::PSH),
        _ => TcpFlags::ACK,
    };
    let payload = [0, 0, 1, 100, 1400, 5000][chance.below(6) as usize];
    let mut options = SegmentOptions::default();
    if flags.contains(TcpFlags::SYN) || chance.below(8) == 0 {
        options.length = 12;
        options.sack_permitted = true;
        options.window_scale = (chance.below(2) == 0).then(|| chance.below(16) as u8);
    }
    if chance.below(10) == 0 {
        options.length = 12;
        options.sack_blocks = 1;
        options.sack[0] = (peer, peer + edge(chance));
    }
    let segment = Segment {
        seq: *own + edge(chance),
        ack: peer + edge(chance),
        window: [0, 1, 500, 4000, 65_535][chance.below(5) as usize],
        flags,
        payload,
        options,
    };
    if chance.below(2) == 0 {
        *own = own.max(segment.end());
    }
    segment
}

fn run(seed: u64, mode: Mode, liberal: bool) -> u32 {
    let mut chance = SplitMix64(seed);
    let mut config = Config::new(8, [1, 2]);
    config.mode = mode;
    config.tcp.liberal = liberal;
    config.accounting = true;
    config.slack = Duration::from_millis(chance.below(2) * 500);
    let (mut whole, mut fast) = (tracker(config.clone()), tracker(config));
    let mut now = Instant::from_secs(1);
    let mut ends = [Seq(chance.next() as u32), Seq(chance.next() as u32)];
    let mut steps = 0;
    // Most runs begin with a handshake, so that there is something to lose.
    let mut opening = if chance.below(8) == 0 { 3 } else { 0 };
    for _ in 0..60 {
        let direction = match opening {
            0 | 2 => Direction::Original,
            1 => Direction::Reply,
            _ => Direction::BOTH[chance.below(2) as usize],
        };
        let [own, peer] = match direction {
            Direction::Original => [0, 1],
            Direction::Reply => [1, 0],
        };
        let peer_end = ends[peer];
        let mut segment = near(&mut chance, &mut ends[own], peer_end);
        if opening < 3 {
            segment.flags = [
                TcpFlags::SYN,
                TcpFlags::SYN.union(TcpFlags::ACK),
                TcpFlags::ACK,
            ][opening];
            segment.payload = 0;
            segment.seq = ends[own];
            segment.ack = ends[peer];
            segment.options.sack_blocks = 0;
            ends[own] = segment.end();
            opening += 1;
        }
        now = now + Duration::from_millis(chance.below(400));
        let packet = Told::tcp(tcp_key(direction), segment);
        let expected = pass(&mut whole, &packet, now);
        let got = cached(&mut fast, &packet, now, &mut steps);
        assert_eq!(
            Tracked {
                news: expected.news,
                ..got
            },
            expected,
            "{segment:?}"
        );
        assert_eq!(dump(&fast), dump(&whole), "after {segment:?}");
    }
    steps
}

proptest! {
    #[test]
    fn step_is_procedure(seed: u64, hardened: bool, liberal: bool) {
        let mode = if hardened { Mode::Hardened } else { Mode::Linux };
        run(seed, mode, liberal);
    }
}

#[test]
fn steps_are_taken() {
    let steps: u32 = (0..200).map(|seed| run(seed, Mode::Linux, false)).sum();
    assert!(steps > 600, "{steps} of 12,000 segments");
}

#[test]
fn names_that_name_nothing_fit_nothing() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let now = Instant::from_secs(1);
    let mut id = None;
    for text in ["> S 0:0 w900 l0", "< SA 0:1 w900 l0", "> A 1:1 w900 l0"] {
        id = pass(&mut tracker, &super::story::line(text), now).connection;
    }
    let id = id.expect("a connection");
    let plain = super::story::segment("A 1:1 w900 l10");
    assert!(tracker.fits(id, Direction::Original, &plain, now));
    let later = now + Duration::from_secs(432_001);
    assert!(
        !tracker.fits(id, Direction::Original, &plain, later),
        "expired"
    );
    assert!(tracker.delete(id));
    assert!(
        !tracker.fits(id, Direction::Original, &plain, now),
        "deleted"
    );
    assert_eq!(
        tcp_key(Direction::Original).inverse(),
        Some(tcp_key(Direction::Reply))
    );
}
