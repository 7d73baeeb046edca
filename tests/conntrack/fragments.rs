//! Reassembly: any order gives the datagram, nothing else does, and nothing costs more than it may.

use gufc::hook::Class;
use gufc::hooks::conntrack::{Config, Reason};
use gufc::key::Tuple;
use gufc::packet::{Fragment, Mtus, Packet};
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};
use gufc::wire::build::{BuildError, Datagram, Transport};
use gufc::wire::{Arrival, Cut, Frame, Limits, Reassembler, Reassembly, Refusal, checksum};
use proptest::prelude::*;

use super::story::tracker;

const NOW: Instant = Instant::from_secs(1);

fn v4(source: u8, id: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, source, 192, 0, 2, 2,
    ];
    bytes[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    let sum = !checksum::sum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// With a destination options header before the fragment header, or none.
fn v6(options: bool, id: u32, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, 0, if options { 60 } else { 44 }, 64];
    bytes.extend(
        "2001:db8::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    bytes.extend(
        "2001:db8::2"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    if options {
        bytes.extend([44, 0, 1, 4, 0, 0, 0, 0]);
    }
    bytes.extend([253, 0]);
    bytes.extend((offset | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    let length = bytes.len() as u16 - 40;
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[derive(Debug, PartialEq)]
enum Got {
    Whole,
    Queued,
    Complete(Vec<u8>),
    Discarded(Refusal),
}

fn push(reassembler: &mut Reassembler, bytes: &[u8], now: Instant) -> Got {
    let mut bytes = bytes.to_vec();
    let frame: Frame<'_, Tuple> = Frame::ip(&mut bytes, &Arrival::default()).expect("a frame");
    let got = match reassembler.push(&frame, now) {
        Reassembly::Whole => Got::Whole,
        Reassembly::Queued => Got::Queued,
        Reassembly::Complete(bytes) => Got::Complete(bytes.to_vec()),
        Reassembly::Discarded(refusal) => Got::Discarded(refusal),
    };
    reassembler.check().expect("sound");
    got
}

proptest! {
    /// Cut a datagram anywhere, send the pieces in any order with repetitions: the last new one completes it.
    #[test]
    fn any_order(seed: u64, family in 0..3u8) {
        let mut chance = SplitMix64(seed);
        let size = 1 + chance.below(700) as usize;
        let payload = chance.bytes(size);
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < payload.len() {
            let end = (at + 8 * (1 + chance.below(20) as usize)).min(payload.len());
            let more = end < payload.len();
            let part = &payload[at..end];
            pieces.push(match family {
                0 => v4(1, 7, at as u16, more, part),
                _ => v6(family == 2, 7, at as u16, more, part),
            });
            at = end;
        }
        prop_assume!(pieces.len() > 1);
        for at in (1..pieces.len()).rev() {
            pieces.swap(at, chance.below(at as u64 + 1) as usize);
        }
        let mut reassembler = Reassembler::new(Limits::default());
        let last = pieces.len() - 1;
        for (at, piece) in pieces.iter().enumerate() {
            let got = push(&mut reassembler, piece, NOW);
            if at < last {
                prop_assert_eq!(got, Got::Queued);
                prop_assert_eq!(push(&mut reassembler, piece, NOW), Got::Queued, "again");
                continue;
            }
            let Got::Complete(mut bytes) = got else {
                return Err(TestCaseError::fail("not complete"));
            };
            let frame: Frame<'_, Tuple> = Frame::ip(&mut bytes, &Arrival::default()).expect("whole");
            prop_assert_eq!((frame.fragment(), frame.defect()), (Fragment::Whole, None));
            prop_assert_eq!(frame.transport(), &payload[..]);
            prop_assert_eq!(frame.protocol().0, 253);
        }
        prop_assert!(reassembler.is_empty() && reassembler.held_bytes() == 0);
    }

    /// Whatever comes, what is kept stays within its limits.
    #[test]
    fn anything(seed: u64) {
        let mut chance = SplitMix64(seed);
        let limits = Limits {
            datagrams_max: 4,
            per_source_max: 2,
            bytes_max: 400,
            gaps_max: 2,
            ..Limits::default()
        };
        let mut reassembler = Reassembler::new(limits);
        let mut now = NOW;
        for _ in 0..100 {
            let (offset, size) = (8 * chance.below(12) as u16, chance.below(40) as usize);
            let more = chance.below(3) > 0;
            let payload = chance.bytes(size);
            let bytes = if chance.below(4) == 0 {
                v6(chance.below(2) == 0, chance.below(3) as u32, offset, more, &payload)
            } else {
                v4(chance.below(3) as u8, chance.below(3) as u16, offset, more, &payload)
            };
            push(&mut reassembler, &bytes, now);
            now = now + Duration::from_secs(chance.below(9));
        }
    }
}

proptest! {
    /// What came in pieces leaves in the same pieces, to the byte, whatever order they came in; through a narrower link in smaller ones
    /// that are the same datagram.
    #[test]
    fn datagrams_leave_as_they_came(seed: u64, v6: bool, size in 600..4_000usize, mtu in 100..600usize, options in 0..3usize) {
        let mut chance = SplitMix64(seed);
        let [from, to] = if v6 { ["2001:db8::1", "2001:db8::2"] } else { ["10.0.0.1", "192.0.2.2"] };
        let [from, to] = [from, to].map(|text| text.parse().expect("an address"));
        let payload = chance.bytes(size);
        let mut large = Datagram::new(from, to, Transport::udp(5, 53)).with_payload(&payload);
        large.identification = chance.next() as u32 & if v6 { u32::MAX } else { 0xffff };
        large.hop_limit = chance.next() as u8;
        // Hop-by-hop options stand in every fragment; so does an IPv4 option whose first bit is set.
        match (v6, options) {
            (true, 1..) => large.extensions.push((0, vec![1, 4, 0, 0, 0, 0])),
            (false, 1) => large.options = vec![0x94, 4, 0, 0],
            _ => {}
        }
        let came = large.fragments(mtu).expect("pieces");
        let mut order: Vec<usize> = (0..came.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, chance.below(at as u64 + 1) as usize);
        }
        let mut reassembler = Reassembler::new(Limits::default());
        let mut whole = None;
        for at in order {
            if let Got::Complete(bytes) = push(&mut reassembler, &came[at], NOW) {
                whole = Some(bytes);
            }
        }
        let whole = whole.expect("complete");
        let cut = reassembler.cut();
        prop_assert_eq!(cut.identification, large.identification);
        prop_assert_eq!(cut.fragments(&whole, &Mtus::both(9_000)).expect("room"), came);
        let narrow = cut.fragments(&whole, &Mtus::both(90)).expect("room");
        prop_assert!(narrow.iter().all(|piece| piece.len() <= 90));
        let mut again = None;
        let limits = Limits { gaps_max: 200, ..Limits::default() };
        let mut other = Reassembler::new(limits);
        for piece in &narrow {
            if let Got::Complete(bytes) = push(&mut other, piece, NOW) {
                again = Some(bytes);
            }
        }
        prop_assert_eq!(again, Some(whole.clone()));
        prop_assert_eq!(cut.fragments(&whole, &Mtus::both(27)).is_err(), true, "no room");
        prop_assert_eq!(cut.fragments(&whole[..10], &Mtus::both(1)).is_err(), true, "no header");
    }
}

/// Behind the hooks a packet that is too long for its link is cut, unless its sender, or its family, said that it must not be.
#[test]
fn packets_in_one_piece_are_cut_where_they_may_be() {
    let ends = [
        ("192.0.2.1", "198.51.100.1"),
        ("2001:db8::1", "2001:db8::2"),
    ];
    for (number, dont_fragment) in [(0, false), (0, true), (1, false)] {
        let [from, to] = [ends[number].0, ends[number].1].map(|end| end.parse().expect("one"));
        let mut large = Datagram::new(from, to, Transport::udp(5, 53)).with_payload(&[7; 1400]);
        large.dont_fragment = dont_fragment;
        large.identification = 99;
        let mut bytes = large.emit().expect("a packet");
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).expect("a packet");
        let cut = Cut::of(&frame);
        let cuttable = number == 0 && !dont_fragment;
        assert_eq!(cut.is_fragmentable(), cuttable);
        let narrow = cut.fragments(&bytes, &Mtus::both(600));
        match cuttable {
            true => assert_eq!(narrow, large.fragments(600)),
            false => assert_eq!(narrow, Err(BuildError::Mtu)),
        }
        let wide = cut.fragments(&bytes, &Mtus::both(1500));
        assert_eq!(wide, Ok(vec![bytes]), "where it fits it stays as it is");
    }
    // A fragment that was never put together is not cut again.
    let large = Datagram::new(
        ends[0].0.parse().expect("one"),
        ends[0].1.parse().expect("one"),
        Transport::udp(5, 53),
    );
    for mut piece in large
        .with_payload(&[7; 2400])
        .fragments(1400)
        .expect("pieces")
    {
        let frame: Frame = Frame::ip(&mut piece, &Arrival::default()).expect("a packet");
        let cut = Cut::of(&frame);
        assert!(!cut.is_fragmentable());
        assert!(cut.fragments(&piece, &Mtus::both(600)).is_err());
    }
}

#[test]
fn overlaps_discard_everything() {
    let mut reassembler = Reassembler::new(Limits::default());
    let part = |offset, more, size| v4(1, 7, offset, more, &vec![9; size]);
    assert_eq!(push(&mut reassembler, &part(0, true, 80), NOW), Got::Queued);
    assert_eq!(
        push(&mut reassembler, &part(72, false, 96), NOW),
        Got::Discarded(Refusal::Overlap)
    );
    assert!(reassembler.is_empty());
    assert_eq!(
        push(&mut reassembler, &part(80, false, 88), NOW),
        Got::Queued
    );
    assert_eq!(
        push(&mut reassembler, &part(160, true, 16), NOW),
        Got::Discarded(Refusal::Inconsistent)
    );
    assert_eq!(
        push(&mut reassembler, &part(80, true, 7), NOW),
        Got::Discarded(Refusal::Malformed)
    );
    assert_eq!(push(&mut reassembler, &part(0, true, 80), NOW), Got::Queued);
    assert!(matches!(
        push(&mut reassembler, &part(80, false, 4), NOW),
        Got::Complete(_)
    ));
    assert_eq!(push(&mut reassembler, &part(0, false, 4), NOW), Got::Whole);
    assert_eq!(reassembler.losses().refused, 3);
}

#[test]
fn fragments_wait_so_long_and_no_longer() {
    let mut reassembler = Reassembler::new(Limits::default());
    let (first, last) = (v4(1, 7, 0, true, &[1; 8]), v4(1, 7, 8, false, &[2; 8]));
    push(&mut reassembler, &first, NOW);
    let late = NOW + Duration::from_secs(30);
    assert_eq!(
        push(&mut reassembler, &last, late),
        Got::Queued,
        "the first is gone"
    );
    assert_eq!(reassembler.losses().expired, 1);
    let early = late + Duration::from_secs(29);
    assert!(matches!(
        push(&mut reassembler, &first, early),
        Got::Complete(_)
    ));
}

#[test]
fn a_spraying_source_displaces_its_own() {
    let limits = Limits {
        per_source_max: 4,
        ..Limits::default()
    };
    let mut reassembler = Reassembler::new(limits);
    push(&mut reassembler, &v4(2, 1, 0, true, &[1; 8]), NOW);
    for id in 0..1000 {
        push(&mut reassembler, &v4(1, id, 0, true, &[1; 8]), NOW);
    }
    assert_eq!(
        (reassembler.len(), reassembler.losses().displaced),
        (5, 996)
    );
    let last = v4(2, 1, 8, false, &[2; 8]);
    assert!(matches!(
        push(&mut reassembler, &last, NOW),
        Got::Complete(_)
    ));
}

/// In front of the tracker: a datagram is one packet with ports, in whatever order its fragments come, and its answer belongs to it. Without
/// it each fragment is invalid; what overlaps or never completes leaves no connection.
#[test]
fn datagrams_in_pieces_are_tracked_by_their_ports() {
    for (client, server) in [("10.0.0.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let [client, server] = [client, server].map(|text| text.parse().expect("an address"));
        let datagram = |from, to, ports: [u16; 2]| {
            let mut one = Datagram::new(from, to, Transport::udp(ports[0], ports[1]));
            one.identification = 77;
            let one = one.with_payload(&[9; 3_000]);
            one.fragments(576).expect("pieces")
        };
        let mut chance = SplitMix64(5);
        let mut tracker = tracker(Config::new(8, [1, 2]));
        let mut reassembler = Reassembler::new(Limits::default());
        for (mut pieces, class) in [
            (datagram(client, server, [5, 53]), Class::New),
            (datagram(server, client, [53, 5]), Class::Established),
        ] {
            assert!(pieces.len() >= 6);
            for at in (1..pieces.len()).rev() {
                pieces.swap(at, chance.below(at as u64 + 1) as usize);
            }
            let last = pieces.len() - 1;
            for (number, piece) in pieces.iter_mut().enumerate() {
                let frame: Frame<'_, Tuple> =
                    Frame::ip(piece, &Arrival::default()).expect("a frame");
                let bare = tracker.track(&frame, NOW);
                assert_eq!(bare.reason, Some(Reason::Fragment), "by itself");
                match reassembler.push(&frame, NOW) {
                    Reassembly::Queued => assert!(number < last),
                    Reassembly::Complete(bytes) => {
                        assert_eq!(number, last);
                        let frame: Frame<'_, Tuple> =
                            Frame::ip(bytes, &Arrival::default()).expect("a frame");
                        let tracked = tracker.track(&frame, NOW);
                        assert_eq!(tracked.class, class, "{:?}", tracked.reason);
                        let id = tracked.connection.expect("tracked");
                        assert!(tracker.confirm(id, NOW).is_accept());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(tracker.len(), 1);
        // A piece that overlaps by eight bytes ends its datagram.
        let mut pieces = datagram(client, server, [6, 53]);
        let mut longer = datagram(client, server, [6, 53]).remove(1);
        let frame: Frame<'_, Tuple> =
            Frame::ip(&mut pieces[0], &Arrival::default()).expect("a frame");
        assert_eq!(reassembler.push(&frame, NOW), Reassembly::Queued);
        let at = if client.is_ipv4() { 7 } else { 43 };
        longer[at] -= if client.is_ipv4() { 1 } else { 8 };
        if client.is_ipv4() {
            longer[10..12].fill(0);
            let sum = !checksum::sum(&longer[..20]);
            longer[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let frame: Frame<'_, Tuple> = Frame::ip(&mut longer, &Arrival::default()).expect("a frame");
        assert_eq!(
            reassembler.push(&frame, NOW),
            Reassembly::Discarded(Refusal::Overlap)
        );
        assert!(reassembler.is_empty());
        assert_eq!(tracker.len(), 1);
    }
}
