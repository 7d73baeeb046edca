//! Shifted sequence numbers: the tracker checks in the senders' own numbers, and what it says to write is the true shift.

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, News, Reason, Status};
use gufc::key::Tuple;
use gufc::packet::Seq;
use gufc::testing::prng::SplitMix64;
use proptest::prelude::*;

use super::story::{line, pass, secs, segment, tracker};

const OPEN: [&str; 3] = [
    "> S 1000:0 w8760 l0 sk",
    "< SA 5000:1001 w8760 l0 sk",
    "> A 1001:5001 w8760 l0",
];

fn opened() -> (Conntrack<Tuple>, gufc::hooks::conntrack::ConnId) {
    let mut config = Config::new(8, [1, 2]);
    config.news_capacity = 64;
    let mut tracker = tracker(config);
    let mut id = None;
    for text in OPEN {
        id = pass(&mut tracker, &line(text), secs(1)).connection;
    }
    (tracker, id.expect("a connection"))
}

#[test]
fn acknowledgements_of_what_was_added_are_valid() {
    // (by, what the server acknowledges of 20 bytes at 1001, whether it is valid)
    for (by, ack, valid) in [
        (0, 1021, true),
        (0, 1023, false),
        (2, 1023, true),
        (2, 1024, false),
        (-3, 1018, true),
        (-3, 1019, false),
    ] {
        let (mut tracker, id) = opened();
        pass(&mut tracker, &line("> A 1001:5001 w8760 l20"), secs(2));
        assert!(tracker.adjust(id, Direction::Original, Seq(1001), by));
        let tracked = pass(
            &mut tracker,
            &line(&format!("< A 5001:{ack} w8760 l0")),
            secs(2),
        );
        assert_eq!(tracked.class == Class::Established, valid, "{by} {ack}");
        if !valid {
            assert_eq!(tracked.reason, Some(Reason::TcpAckUnsent));
        }
        let shifted = tracker.connection(id).expect("there").status();
        assert_eq!(shifted.contains(Status::SEQ_ADJUST), by != 0);
    }
}

#[test]
fn selective_acknowledgements_are_shifted_too() {
    let (mut tracker, id) = opened();
    pass(&mut tracker, &line("> A 1001:5001 w8760 l20"), secs(2));
    assert!(tracker.adjust(id, Direction::Original, Seq(1001), 5));
    pass(&mut tracker, &line("> A 1021:5001 w8760 l100"), secs(2));
    let tell = "< A 5001:1026 w8760 l0 sack..1126";
    assert_eq!(
        pass(&mut tracker, &line(tell), secs(2)).class,
        Class::Established
    );
    let beyond = "< A 5001:1026 w8760 l0 sack..1127";
    assert_eq!(
        pass(&mut tracker, &line(beyond), secs(2)).class,
        Class::Invalid
    );
    let out = tracker
        .adjusted(
            id,
            Direction::Reply,
            &segment("A 5001:1026 w8760 l0 sack..1126"),
        )
        .expect("shifted");
    assert_eq!((out.ack, out.options.sack[0].1), (Seq(1021), Seq(1121)));
}

#[test]
fn repetitions_count_once_and_the_step_stays_away() {
    let (mut tracker, id) = opened();
    let plain = segment("A 1001:5001 w8760 l20");
    assert!(tracker.fits(id, Direction::Original, &plain, secs(2)));
    for _ in 0..3 {
        assert!(tracker.adjust(id, Direction::Original, Seq(1001), 7));
    }
    assert!(!tracker.fits(id, Direction::Original, &plain, secs(2)));
    let later = tracker.adjusted(id, Direction::Original, &segment("A 1021:5001 w1 l0"));
    assert_eq!(later.expect("shifted").seq, Seq(1028));
    let mut shifted = 0;
    while let Some(item) = tracker.next_news() {
        shifted += u32::from(item.news.contains(News::SEQ_ADJUST));
    }
    assert_eq!(shifted, 3);
    assert!(tracker.delete(id));
    assert!(!tracker.adjust(id, Direction::Original, Seq(1), 1));
    assert!(tracker.adjusted(id, Direction::Original, &plain).is_none());
}

proptest! {
    /// Whatever the changes: behind the last but one, every number is shifted by the sum of what was added before it, and
    /// acknowledgements are shifted back.
    #[test]
    fn shifts_are_sums(seed: u64) {
        let mut chance = SplitMix64(seed);
        let (mut tracker, id) = opened();
        let start = Seq(chance.next() as u32);
        let (mut at, mut sum) = (start, 0i32);
        let (mut last, mut before) = (start, 0i32);
        for _ in 0..chance.below(12) + 2 {
            let by = [1, -1, 7, -6, 30, -20][chance.below(6) as usize];
            assert!(tracker.adjust(id, Direction::Original, at, by));
            (last, before, sum) = (at, sum, sum + by);
            at = at + 200 + chance.below(500) as u32;
            // Numbers between the last change and the next, and those just before the last change.
            for (seq, shift) in [(at, sum), (last + 1, sum), (last, before), (last - 100, before)] {
                let mut out = segment("A 0:0 w1 l0");
                out.seq = seq;
                let out = tracker.adjusted(id, Direction::Original, &out).expect("shifted");
                assert_eq!(out.seq, seq + shift as u32);
                if seq == at || seq == last - 100 {
                    let mut back = segment("A 0:0 w1 l0");
                    back.ack = out.seq;
                    let back = tracker.adjusted(id, Direction::Reply, &back).expect("shifted");
                    assert_eq!(back.ack, seq);
                }
            }
        }
        let _ = (last, before);
    }
}
