//! Window tracking survives offload: a tracker whose connections are forwarded elsewhere for a while answers as one that has seen
//! every packet, and remembers the same.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Bypass, Config, Conntrack, Tracked};
use gufc::key::Tuple;
use gufc::packet::{Packet, Seq, TcpFlags};
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};

use super::fast::{dump, near};
use super::story::{Told, pass, tcp_key, tracker};

/// What a whole tracker says of a segment that the bypass forwards.
fn forwarded(tracker: &Conntrack<Tuple>, bypass: &Bypass, direction: Direction) -> Tracked {
    let connection = tracker.connection(bypass.id()).expect("lent out");
    Tracked {
        class: Class::Established,
        direction: Some(direction),
        connection: Some(bypass.id()),
        status: connection.status(),
        mark: connection.mark(),
        ..Tracked::UNTRACKED
    }
}

/// Goal: the same answers, packet by packet, and the same table whenever the state has come back. Method: one stream, plausible and
/// wild segments mixed, to two trackers; one of them lends its connection out whenever it can.
fn run(seed: u64) -> (u32, u32) {
    let mut chance = SplitMix64(seed);
    let mut config = Config::new(8, [1, 2]);
    config.accounting = true;
    config.slack = Duration::from_millis(chance.below(2) * 500);
    let (mut whole, mut lender) = (tracker(config.clone()), tracker(config));
    let mut now = Instant::from_secs(1);
    let mut ends = [Seq(chance.next() as u32), Seq(chance.next() as u32)];
    let mut lent: Option<Bypass> = None;
    let (mut outside, mut returned) = (0, 0);
    for number in 0..300 {
        let direction = match number {
            0 | 2 => Direction::Original,
            1 => Direction::Reply,
            _ => Direction::BOTH[chance.below(2) as usize],
        };
        let [own, peer] = [direction as usize, direction.reverse() as usize];
        let peer_end = ends[peer];
        let calm = number < 3 || chance.below(8) > 0;
        let mut segment = near(&mut chance, &mut ends[own], peer_end);
        if calm {
            // A handshake, so that there is something to lend; later mostly what goes on where the last segment ended.
            segment.flags = match number {
                0 => TcpFlags::SYN,
                1 => TcpFlags::SYN.union(TcpFlags::ACK),
                _ => TcpFlags::ACK,
            };
            segment.payload = if number < 3 { 0 } else { 100 };
            (segment.seq, segment.ack, segment.window) = (ends[own], peer_end, 65_535);
            segment.options.sack_blocks = 0;
            ends[own] = segment.end();
        }
        let packet = Told::tcp(tcp_key(direction), segment);
        now = now + Duration::from_millis(chance.below(1_000));
        let expected = pass(&mut whole, &packet, now);
        let segment = packet.segment().expect("TCP");
        let fits = lent
            .as_mut()
            .is_some_and(|bypass| bypass.advance(direction, &segment, packet.length(), now));
        let answer = if let (true, Some(bypass)) = (fits, &lent) {
            outside += 1;
            forwarded(&lender, bypass, direction)
        } else {
            if let Some(mut bypass) = lent.take() {
                returned += 1;
                assert!(lender.take_back(&mut bypass));
            }
            let answer = pass(&mut lender, &packet, now);
            assert_eq!(dump(&whole), dump(&lender), "seed {seed}, segment {number}");
            answer
        };
        let answer = Tracked {
            news: expected.news,
            ..answer
        };
        assert_eq!(answer, expected, "seed {seed}, segment {number}");
        if lent.is_none() && chance.below(3) == 0 {
            let found = lender.find(&packet.key(), now);
            lent = found.and_then(|(id, _)| lender.bypass(id, now));
        } else if let (Some(bypass), 0) = (&mut lent, chance.below(8)) {
            // Now and then what is known outside is told, and the bypass goes on.
            assert!(lender.take_back(bypass));
            assert_eq!(dump(&whole), dump(&lender), "seed {seed}, segment {number}");
        }
    }
    (outside, returned)
}

#[test]
fn a_connection_that_was_lent_out_is_as_if_it_had_not_been() {
    let (mut outside, mut returned) = (0, 0);
    for seed in 0..300 {
        let (one, two) = run(seed);
        outside += one;
        returned += two;
    }
    assert!(outside > 5_000 && returned > 500, "{outside} {returned}");
}

/// Nothing that is not an open, assured connection can be lent; and what is gone cannot come back.
#[test]
fn only_what_is_established_is_lent() {
    let mut tracker = tracker(Config::new(8, [1, 2]));
    let now = Instant::from_secs(1);
    let mut segment = near(&mut SplitMix64(1), &mut Seq(0), Seq(0));
    (segment.flags, segment.seq, segment.payload) = (TcpFlags::SYN, Seq(1), 0);
    pass(
        &mut tracker,
        &Told::tcp(tcp_key(Direction::Original), segment),
        now,
    );
    let (id, _) = tracker
        .find(&tcp_key(Direction::Original), now)
        .expect("opened");
    assert!(tracker.bypass(id, now).is_none());
    assert!(tracker.take_back_blind(id, now), "it is there");
}
