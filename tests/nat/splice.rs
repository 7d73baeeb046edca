//! Payloads that change their length, and TCP numbers that follow: every checksum as if computed afresh.

use gufc::key::Tuple;
use gufc::packet::{Packet, SegmentOptions, Seq, TcpFlags, Unspliceable};
use gufc::wire::build::{Datagram, Tcp, Transport};
use gufc::wire::{Arrival, Frame, HEADROOM};
use proptest::prelude::*;

fn packet(v6: bool, tcp: bool, options: SegmentOptions, payload: &[u8]) -> Vec<u8> {
    let transport = if tcp {
        let mut header = Tcp::new(40_000, 21);
        header.seq = Seq(0xffff_fff0);
        header.ack = Seq(77);
        header.flags = TcpFlags::ACK | TcpFlags::PSH;
        header.options = options;
        Transport::from(header)
    } else {
        Transport::udp(5060, 5060)
    };
    let (source, destination) = if v6 {
        ("2001:db8::1", "2001:db8::2")
    } else {
        ("10.0.0.2", "192.0.2.1")
    };
    let datagram = Datagram::new(
        source.parse().expect("an address"),
        destination.parse().expect("an address"),
        transport,
    );
    datagram.with_payload(payload).emit().expect("a packet")
}

fn sacks(blocks: usize, timestamps: bool) -> SegmentOptions {
    let mut options = SegmentOptions {
        sack_blocks: blocks as u8,
        timestamps: timestamps.then_some((1, 2)),
        ..SegmentOptions::default()
    };
    for (number, block) in options.sack.iter_mut().take(blocks).enumerate() {
        *block = (
            Seq(1000 * number as u32 + 500),
            Seq(1000 * number as u32 + 900),
        );
    }
    options
}

fn roomy(bytes: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0xee; HEADROOM];
    buffer.extend(bytes);
    buffer
}

proptest! {
    /// What is built with the new payload is what splicing makes of the old one.
    #[test]
    fn splicing_is_building_anew(
        v6: bool, tcp: bool, blocks in 0usize..4, payload in prop::collection::vec(any::<u8>(), 0..60),
        new in prop::collection::vec(any::<u8>(), 0..50), from in 0usize..61, to in 0usize..61,
    ) {
        let options = if tcp { sacks(blocks, false) } else { SegmentOptions::default() };
        let old = packet(v6, tcp, options, &payload);
        let (from, to) = (from.min(to).min(payload.len()), from.max(to).min(payload.len()));
        let mut wanted = payload[..from].to_vec();
        wanted.extend(&new);
        wanted.extend(&payload[to..]);
        let wanted = packet(v6, tcp, options, &wanted);
        let mut buffer = roomy(&old);
        let mut frame = Frame::<Tuple>::with_headroom(&mut buffer, HEADROOM, &Arrival::default()).expect("a packet");
        let header = frame.transport().len() - payload.len();
        let key = frame.key();
        prop_assert_eq!(frame.splice(header + from..header + to, &new), Ok(()));
        prop_assert_eq!(frame.packet(), &wanted[..]);
        prop_assert!(frame.is_intact());
        prop_assert_eq!(frame.key(), key);
        prop_assert_eq!(frame.length() as usize, wanted.len());
        let mut bytes = frame.packet().to_vec();
        let read = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("still a packet");
        prop_assert_eq!(read.segment(), frame.segment());
    }

    /// A damaged packet stays damaged.
    #[test]
    fn damage_is_kept(v6: bool, tcp: bool, damage in 1u16..0xffff, new in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut old = packet(v6, tcp, SegmentOptions::default(), b"PORT 10,0,0,2,4,1\r\n");
        let at = old.len() - 10;
        let word = u16::from_be_bytes([old[at], old[at + 1]]);
        // Another word, also to a one's-complement sum.
        let other = (u32::from(word) % 0xffff + u32::from(damage) % 0xfffe + 1) % 0xffff;
        prop_assume!(other % 0xffff != u32::from(word) % 0xffff);
        old[at..at + 2].copy_from_slice(&(other as u16).to_be_bytes());
        let mut buffer = roomy(&old);
        let mut frame = Frame::<Tuple>::with_headroom(&mut buffer, HEADROOM, &Arrival::default()).expect("a packet");
        prop_assert!(!frame.is_intact());
        let header = frame.transport().len() - 19;
        prop_assert_eq!(frame.splice(header + 5..header + 6, &new), Ok(()));
        prop_assert!(!frame.is_intact());
    }

    /// Numbers are those asked for, blocks at odd offsets included, and the checksum is right.
    #[test]
    fn renumbering(v6: bool, blocks in 0usize..4, odd: bool, seq: u32, ack: u32, edges in prop::array::uniform8(any::<u32>())) {
        let old = packet(v6, true, sacks(blocks, blocks < 3), b"x");
        let mut bytes = old.clone();
        let at = if v6 { 40 } else { 20 };
        if odd && blocks > 0 {
            // Two fillers before the option become one behind it.
            let header = usize::from(bytes[at + 12] >> 4) * 4;
            let options = &mut bytes[at + 20..at + header];
            if options[0] == 1 {
                options.rotate_left(1);
            }
        }
        let mut frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
        let mut segment = frame.segment().expect("a segment");
        prop_assert_eq!(usize::from(segment.options.sack_blocks), blocks);
        let was_intact = frame.is_intact();
        segment.seq = Seq(seq);
        segment.ack = Seq(ack);
        for (number, (left, right)) in segment.options.sack.iter_mut().take(blocks).enumerate() {
            (*left, *right) = (Seq(edges[2 * number]), Seq(edges[2 * number + 1]));
        }
        prop_assert!(frame.renumber(&segment));
        prop_assert_eq!(frame.segment(), Some(segment));
        prop_assert_eq!(frame.is_intact(), was_intact);
    }
}

#[test]
fn what_cannot_be_spliced_is_as_it_was() {
    let old = packet(false, true, SegmentOptions::default(), b"hello");
    let tight = |at: core::ops::Range<usize>, new: &[u8]| {
        let mut bytes = old.clone();
        let mut frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
        let result = frame.splice(at, new);
        assert_eq!(frame.packet() == old, result.is_err());
        assert!(frame.is_intact());
        result
    };
    assert_eq!(tight(20..25, b"longer"), Err(Unspliceable::Room));
    assert_eq!(tight(19..25, b"hello"), Err(Unspliceable::Range));
    assert_eq!(tight(20..26, b"hello"), Err(Unspliceable::Range));
    assert_eq!(tight(20..25, b"other"), Ok(()));
    assert_eq!(tight(20..25, b""), Ok(()));
    // Too long for its field, however much room there is.
    let mut buffer = vec![0; 70_000];
    let begin = buffer.len() - old.len();
    buffer[begin..].copy_from_slice(&old);
    let mut frame =
        Frame::<Tuple>::with_headroom(&mut buffer, begin, &Arrival::default()).expect("a packet");
    assert_eq!(
        frame.splice(20..25, &[0; 65_496]),
        Err(Unspliceable::TooLong)
    );
    assert_eq!(frame.splice(20..25, &[0; 65_495]), Ok(()));
    assert!(frame.is_intact());
    let ping = Datagram::new(
        "10.0.0.2".parse().expect("an address"),
        "192.0.2.1".parse().expect("an address"),
        Transport::query(8, 1, 1),
    );
    let mut bytes = ping.with_payload(b"abc").emit().expect("a packet");
    let mut frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    assert_eq!(frame.splice(8..9, b"x"), Err(Unspliceable::Protocol));
    assert!(!frame.renumber(&gufc::packet::Segment {
        seq: Seq(1),
        ack: Seq(1),
        window: 1,
        flags: TcpFlags::ACK,
        payload: 0,
        options: SegmentOptions::default(),
    }));
}

/// A shorter payload leaves a link header where it was.
#[test]
fn ethernet_frames_shrink_in_place() {
    let old = packet(true, false, SegmentOptions::default(), b"a longer payload");
    let mut bytes = gufc::wire::build::ethernet([2; 6], [3; 6], &[7], &old);
    let mut frame = Frame::<Tuple>::ethernet(&mut bytes, &Arrival::default()).expect("a frame");
    assert_eq!(frame.splice(10..17, b"-"), Ok(()));
    let length = frame.packet().len();
    assert_eq!(
        &frame.transport()[8..],
        b"a -payload"[..].to_vec().as_slice()
    );
    let frame =
        Frame::<Tuple>::ethernet(&mut bytes[..18 + length], &Arrival::default()).expect("a frame");
    assert!(frame.is_intact());
}
