//! Frames: what is built reads back, rewriting keeps every checksum right, and no bytes panic.
//!
//! Method: packets from small domains are built, read, cut at every length, damaged, and handed to `testing::frame`, which
//! checks the laws of `Packet` and compares rewriting with a full computation.

use gufc::key::{Endpoint, FlowKey, Protocol, SevenTuple, Tuple, Zone};
use gufc::packet::{Defect, Fragment, Interface, Packet, Rewrite, SegmentOptions, Seq, TcpFlags};
use gufc::testing::frame::{CHOICES, frame as check};
use gufc::verdict::Answer;
use gufc::wire::build::{Datagram, Tcp, Transport, ethernet};
use gufc::wire::{ANSWER_MAX, Arrival, Checksums, Frame, Link, Notice, Unanswered, checksum};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};

/// Few addresses, the awkward ones among them.
fn ends() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = prop::sample::select(
        &[
            "10.0.0.1",
            "0.0.255.255",
            "192.0.2.1",
            "224.0.0.1",
            "255.255.255.255",
        ][..],
    );
    let v6 = prop::sample::select(
        &[
            "2001:db8::1",
            "fe80::1",
            "ff02::1",
            "::",
            "ffff:ffff:ffff:ffff::",
        ][..],
    );
    prop_oneof![
        (v4.clone(), v4).prop_map(|(s, d)| (s.parse().unwrap(), d.parse().unwrap())),
        (v6.clone(), v6).prop_map(|(s, d)| (s.parse().unwrap(), d.parse().unwrap())),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(53), Just(0xffff), any::<u16>()]
}

fn options() -> impl Strategy<Value = SegmentOptions> {
    (
        any::<Option<u16>>(),
        any::<Option<u8>>(),
        any::<bool>(),
        prop_oneof![
            vec(any::<(u32, u32)>(), 0..=2).prop_map(|sack| (sack, None)),
            any::<Option<(u32, u32)>>().prop_map(|stamps| (Vec::new(), stamps)),
        ],
    )
        .prop_map(|(mss, window_scale, sack_permitted, (sack, timestamps))| {
            let mut options = SegmentOptions {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                sack_blocks: sack.len() as u8,
                ..SegmentOptions::default()
            };
            for (place, (left, right)) in options.sack.iter_mut().zip(sack) {
                *place = (Seq(left), Seq(right));
            }
            options.length = u8::from(mss.is_some()) * 4
                + u8::from(window_scale.is_some()) * 4
                + u8::from(sack_permitted) * 4
                + u8::from(timestamps.is_some()) * 12
                + if options.sack_blocks > 0 {
                    4 + options.sack_blocks * 8
                } else {
                    0
                };
            options
        })
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        4 => (port(), port(), any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>(), options()).prop_map(
            |(source, destination, seq, ack, flags, window, options)| {
                let (seq, ack, flags) = (Seq(seq), Seq(ack), TcpFlags(flags));
                Transport::Tcp(Tcp { source, destination, seq, ack, flags, window, options })
            }
        ),
        3 => (port(), port(), any::<bool>())
            .prop_map(|(source, destination, checksum)| Transport::Udp { source, destination, checksum }),
        1 => (port(), port(), prop_oneof![Just(0), Just(8)])
            .prop_map(|(source, destination, coverage)| Transport::UdpLite { source, destination, coverage }),
        2 => (prop::sample::select(&[0, 8, 13, 17, 128, 129, 133][..]), port(), port())
            .prop_map(|(kind, id, sequence)| Transport::query(kind, id, sequence)),
        1 => (port(), port(), any::<u32>())
            .prop_map(|(source, destination, tag)| Transport::Sctp { source, destination, tag }),
        1 => (any::<Option<u32>>(), any::<bool>())
            .prop_map(|(key, checksum)| Transport::Gre { carries: 0x0800, key, checksum }),
        1 => Just(Transport::Other(Protocol(89))),
    ]
}

/// IPv6 extension headers, as a datagram has them.
type Extensions = Vec<(u8, Vec<u8>)>;
/// IPv4 options or IPv6 extension headers that the parser steps over.
type Extras = (Vec<u8>, Extensions);

fn extras() -> impl Strategy<Value = Extras> {
    let options = prop_oneof![3 => Just(vec![]), 1 => Just(vec![1, 7, 7, 4, 0, 0, 0, 0]), 1 => Just(vec![148, 4, 0, 0])];
    let body = vec(0u8..3, 0..20);
    let extensions = prop_oneof![
        3 => Just(vec![]),
        1 => body.clone().prop_map(|hop| vec![(0, hop)]),
        1 => body.clone().prop_map(|rest| vec![(60, rest)]),
        1 => body.clone().prop_map(|auth| vec![(0, vec![]), (51, auth)]),
        1 => Just(vec![(43, vec![4, 0]), (44, vec![0; 6]), (60, vec![])]),
    ];
    (options, extensions)
}

fn datagram() -> impl Strategy<Value = Datagram> {
    (
        ends(),
        transport(),
        extras(),
        any::<[u8; 2]>(),
        any::<bool>(),
        vec(any::<u8>(), 0..40),
    )
        .prop_map(
            |(
                (source, destination),
                transport,
                (options, extensions),
                [hop, class],
                dont_fragment,
                payload,
            )| {
                let mut datagram =
                    Datagram::new(source, destination, transport).with_payload(&payload);
                datagram.hop_limit = hop;
                datagram.traffic_class = class;
                datagram.dont_fragment = dont_fragment;
                datagram.options = options;
                datagram.extensions = extensions;
                datagram
            },
        )
}

/// A packet, or an ICMP error that quotes (some of) it.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    (datagram(), any::<bool>(), 0usize..80).prop_map(|(datagram, error, quoted)| {
        let bytes = datagram.emit().unwrap();
        if !error {
            return bytes;
        }
        let kind = if datagram.source.is_ipv4() { 3 } else { 1 };
        let quoted = &bytes[..bytes.len().min(20 + quoted)];
        Datagram::new(
            datagram.destination,
            datagram.source,
            Transport::error(kind, 1),
        )
        .with_payload(quoted)
        .emit()
        .unwrap()
    })
}

/// The key that a datagram should have.
fn key_of(datagram: &Datagram) -> Tuple {
    let family = if datagram.source.is_ipv4() {
        gufc::key::Family::V4
    } else {
        gufc::key::Family::V6
    };
    let protocol = datagram.transport.protocol(family);
    let (source, destination) = match &datagram.transport {
        Transport::Tcp(tcp) => (tcp.source, tcp.destination),
        Transport::Udp {
            source,
            destination,
            ..
        }
        | Transport::UdpLite {
            source,
            destination,
            ..
        }
        | Transport::Sctp {
            source,
            destination,
            ..
        } => (*source, *destination),
        Transport::Icmp { kind, code, rest } => {
            let query: &[u8] = if datagram.source.is_ipv4() {
                &[0, 8, 13, 14, 15, 16, 17, 18]
            } else {
                &[128, 129, 139, 140]
            };
            let id = if query.contains(kind) {
                u16::from_be_bytes([rest[0], rest[1]])
            } else {
                0
            };
            (id, u16::from_be_bytes([*kind, *code]))
        }
        _ => (0, 0),
    };
    Tuple::new(
        Endpoint::new(datagram.source, source),
        Endpoint::new(datagram.destination, destination),
        protocol,
    )
    .unwrap()
}

proptest! {
    /// What is built reads back, bare and behind Ethernet with tags and padding.
    #[test]
    fn built_packets_read_back(datagram in datagram(), vlan in vec(0u16..4096, 0..=2), padding in 0usize..20) {
        let built = datagram.emit().unwrap();
        let mut bytes = ethernet([2; 6], [4; 6], &vlan, &built);
        bytes.resize(bytes.len() + padding, 0xee);
        let zone = Zone::new(77).unwrap();
        let frame: Frame = Frame::ethernet(&mut bytes, &Arrival::on(Interface(3)).in_zone(zone)).unwrap();
        prop_assert_eq!(frame.packet(), &built[..]);
        let key = match key_of(&datagram) {
            Tuple::V4(key) => Tuple::V4(key.in_zone(zone)),
            Tuple::V6(key) => Tuple::V6(key.in_zone(zone)),
        };
        prop_assert_eq!(frame.key(), key);
        prop_assert_eq!(frame.vlan(), &vlan[..]);
        prop_assert_eq!(frame.ingress(), Interface(3));
        prop_assert_eq!(frame.length() as usize, built.len());
        prop_assert_eq!(frame.hop_limit(), datagram.hop_limit);
        prop_assert_eq!(frame.traffic_class(), datagram.traffic_class);
        prop_assert_eq!(frame.dont_fragment(), datagram.dont_fragment || datagram.source.is_ipv6());
        prop_assert_eq!(frame.defect(), None);
        prop_assert!(frame.is_intact());
        let atomic = datagram.source.is_ipv6() && datagram.extensions.iter().any(|(number, _)| *number == 44);
        prop_assert_eq!(frame.fragment(), if atomic { Fragment::Atomic } else { Fragment::Whole });
        prop_assert!(frame.transport().ends_with(&datagram.payload));
        match &datagram.transport {
            Transport::Tcp(tcp) => {
                let segment = frame.segment().unwrap();
                prop_assert_eq!((segment.seq, segment.ack, segment.flags), (tcp.seq, tcp.ack, tcp.flags));
                prop_assert_eq!((segment.window, segment.options), (tcp.window, tcp.options));
                prop_assert_eq!(segment.payload as usize, datagram.payload.len());
                prop_assert_eq!(frame.tcp_flags(), tcp.flags);
            }
            _ => prop_assert_eq!((frame.segment(), frame.tcp_flags()), (None, TcpFlags::NONE)),
        }
    }

    /// One flipped bit in what a checksum covers is noticed; then rewriting does not hide it.
    #[test]
    fn damage_is_noticed_and_kept(datagram in datagram(), at in any::<prop::sample::Index>(), bit in 0u32..8, port in port()) {
        let mut bytes = datagram.emit().unwrap();
        let covered = !matches!(
            datagram.transport,
            Transport::Udp { checksum: false, .. }
                | Transport::UdpLite { .. }
                | Transport::Gre { checksum: false, .. }
                | Transport::Other(_)
        );
        let header = {
            let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
            frame.packet().len() - frame.transport().len()
        };
        prop_assume!(covered && bytes.len() > header + 4);
        // Not the ports and lengths, whose damage may make another packet of it.
        let at = header + 4 + at.index(bytes.len() - header - 4);
        let is_length = matches!(datagram.transport, Transport::Udp { .. }) && at < header + 8
            || matches!(datagram.transport, Transport::Tcp(_)) && at == header + 12
            || matches!(datagram.transport, Transport::Icmp { .. }) && at < header + 6;
        prop_assume!(!is_length);
        bytes[at] ^= 1 << bit;
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        prop_assert!(!frame.is_intact());
        let key = frame.key();
        if key.protocol().has_ports() {
            let to = key.with(Endpoint { port, ..key.source() }, key.destination()).unwrap();
            frame.rewrite(&Rewrite::between(&key, &to));
            prop_assert!(!frame.is_intact());
        }
    }

    /// The laws hold for any packet, any choice of rewrite, whole or cut short.
    #[test]
    fn laws_hold(packet in packet(), choices: [u8; CHOICES], cut in 0usize..200) {
        let mut data = choices.to_vec();
        data[0] &= 0x1c;
        data.extend(&packet[..packet.len().saturating_sub(cut.saturating_sub(100))]);
        check(&data);
    }

    /// They hold for damaged packets too. IPv4 headers are made right again, or nothing would get past them.
    #[test]
    fn laws_hold_for_damaged_packets(
        packet in packet(),
        choices: [u8; CHOICES],
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut packet = packet;
        for (at, value) in damage {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        mend(&mut packet);
        let mut data = choices.to_vec();
        data[0] &= 0x1c;
        data.extend(packet);
        check(&data);
    }

    #[test]
    fn laws_hold_for_any_bytes(data in vec(any::<u8>(), 0..120)) {
        check(&data);
    }

    /// Any sequence of rewrites leaves right checksums, and the way back leaves the very bytes.
    #[test]
    fn rewrites_keep_checksums(
        datagram in datagram(),
        steps in vec((ends(), port(), port()), 1..5),
        partial: bool,
    ) {
        let mut bytes = datagram.emit().unwrap();
        let original = bytes.clone();
        let checksums = if partial { Checksums::Partial } else { Checksums::Full };
        if partial && !uncover(&mut bytes) {
            return Ok(());
        }
        let start = bytes.clone();
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default().with_checksums(checksums)).unwrap();
        let first = frame.key();
        for ((source, destination), s, d) in steps {
            let key = frame.key();
            let (s, d) = if key.protocol().has_ports() {
                (s, d)
            } else if key.source().port != 0 {
                (s, key.destination().port)
            } else {
                (key.source().port, key.destination().port)
            };
            if let Some(to) = key.with(Endpoint::new(source, s), Endpoint::new(destination, d)) {
                if to.fields().family == key.fields().family {
                    frame.rewrite(&Rewrite::between(&key, &to));
                    prop_assert_eq!(frame.key(), to);
                    prop_assert!(frame.is_intact());
                    if partial {
                        let mut completed = frame.packet().to_vec();
                        complete(&mut completed);
                        let completed: Frame = Frame::ip(&mut completed, &Arrival::default()).unwrap();
                        prop_assert!(completed.is_intact(), "the device's sum makes it right");
                    }
                }
            }
        }
        frame.rewrite(&Rewrite::between(&frame.key(), &first));
        if !partial {
            prop_assert_eq!(frame.packet(), &original[..]);
        }
        prop_assert_eq!(frame.packet().len(), start.len());
    }

    /// Fragments are told apart; their addresses can be rewritten each on its own, and put together they are right again.
    #[test]
    fn fragments_rewrite_apart(datagram in datagram(), port in port()) {
        prop_assume!(!matches!(datagram.transport, Transport::Sctp { .. }));
        let mut datagram = datagram;
        datagram.dont_fragment = false;
        datagram.identification = 0x1234;
        datagram.payload.resize(200, 7);
        datagram.extensions.retain(|(number, _)| *number != 44);
        let mtu = datagram.emit().unwrap().len() - 200 + 88;
        let mut pieces = datagram.fragments(mtu).unwrap();
        prop_assert!(pieces.len() > 1);
        let from = key_of(&datagram);
        let moved = |end: Endpoint| match end.address {
            IpAddr::V4(_) => Endpoint::new("203.0.113.9".parse().unwrap(), end.port),
            IpAddr::V6(_) => Endpoint::new("2001:db8:9::9".parse().unwrap(), end.port),
        };
        let mut source = moved(from.source());
        if from.protocol().has_ports() {
            source.port = port;
        }
        let to = from.with(source, from.destination()).unwrap();
        let rewrite = Rewrite::between(&from, &to);
        let mut together = Vec::new();
        let mut expected = 0;
        for bytes in &mut pieces {
            let mut frame: Frame = Frame::ip(bytes, &Arrival::default()).unwrap();
            let piece = frame.piece().unwrap();
            prop_assert_eq!((piece.identification, piece.offset), (0x1234, expected));
            prop_assert_eq!(frame.fragment(), if expected == 0 { Fragment::First } else { Fragment::Later });
            prop_assert_eq!(frame.segment(), None);
            expected += frame.transport().len() as u32;
            frame.rewrite(&rewrite);
            prop_assert_eq!(frame.key().source().address, to.source().address);
            together.extend(frame.transport());
            prop_assert_eq!(frame.defect(), None);
            if !piece.more {
                prop_assert_eq!(together.len(), expected as usize);
            }
        }
        let mut rewritten = datagram.clone();
        rewritten.source = to.source().address;
        match &mut rewritten.transport {
            Transport::Tcp(Tcp { source, .. })
            | Transport::Udp { source, .. }
            | Transport::UdpLite { source, .. } => *source = to.source().port,
            _ => {}
        }
        let whole = rewritten.emit().unwrap();
        prop_assert!(whole.ends_with(&together), "as if built with the new ends");
    }
}

/// Makes an IPv4 header checksum right.
fn mend(packet: &mut [u8]) {
    if packet.first().is_some_and(|first| first >> 4 == 4) {
        let header = usize::from(packet[0] & 15) * 4;
        if header >= 20 && packet.len() >= header {
            packet[10..12].copy_from_slice(&[0, 0]);
            let sum = checksum::checksum(&packet[..header]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// Where the checksum of a packet lies, its pseudo header's sum, and where its transport header begins; `None` for protocols
/// that hardware does not sum up.
fn partial(packet: &[u8]) -> Option<(usize, u16, usize)> {
    let mut copy = packet.to_vec();
    let arrival = Arrival::default().with_checksums(Checksums::Offloaded);
    let frame: Frame = Frame::ip(&mut copy, &arrival).ok()?;
    let transport = frame.packet().len() - frame.transport().len();
    let length = frame.transport_length();
    let at = match frame.protocol() {
        Protocol::TCP => 16,
        Protocol::UDP => 6,
        _ => return None,
    };
    let key = frame.key();
    let sum = match (key.source().address, key.destination().address) {
        (IpAddr::V4(s), IpAddr::V4(d)) => checksum::pseudo_v4(s, d, key.protocol(), length),
        (IpAddr::V6(s), IpAddr::V6(d)) => checksum::pseudo_v6(s, d, key.protocol(), length),
        _ => return None,
    };
    Some((transport + at, sum, transport))
}

/// Leaves the pseudo header's sum in place of the checksum.
fn uncover(packet: &mut [u8]) -> bool {
    let Some((at, sum, _)) = partial(packet) else {
        return false;
    };
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// What the hardware does: sums the transport up, the field included, and puts the complement there.
fn complete(packet: &mut [u8]) {
    if let Some((at, _, transport)) = partial(packet) {
        let sum = match checksum::checksum(&packet[transport..]) {
            0 => 0xffff,
            sum => sum,
        };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// One packet of each kind.
fn samples() -> Vec<Datagram> {
    let (s4, d4): (IpAddr, IpAddr) = ([10, 0, 0, 2].into(), [198, 51, 100, 7].into());
    let (s6, d6): (IpAddr, IpAddr) = (
        "2001:db8::2".parse().unwrap(),
        "2001:db8:1::7".parse().unwrap(),
    );
    let syn = Tcp {
        flags: TcpFlags::SYN,
        options: SegmentOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 0)),
            ..SegmentOptions::default()
        },
        ..Tcp::new(40000, 80)
    };
    let transports = [
        Transport::Tcp(syn),
        Transport::udp(1000, 53),
        Transport::UdpLite {
            source: 1,
            destination: 2,
            coverage: 8,
        },
        Transport::query(8, 77, 1),
        Transport::query(128, 77, 1),
        Transport::Sctp {
            source: 5,
            destination: 6,
            tag: 7,
        },
        Transport::Gre {
            carries: 0x0800,
            key: Some(9),
            checksum: true,
        },
        Transport::Other(Protocol::ESP),
    ];
    let mut samples = Vec::new();
    for transport in transports {
        let plain = Datagram::new(s4, d4, transport.clone()).with_payload(b"payload");
        let mut dressed = Datagram::new(s6, d6, transport.clone()).with_payload(b"payload");
        samples.push(plain.clone());
        samples.push(dressed.clone());
        let quoted = plain.emit().unwrap();
        samples.push(Datagram::new(d4, s4, Transport::error(11, 0)).with_payload(&quoted));
        let quoted = dressed.emit().unwrap();
        samples.push(Datagram::new(d6, s6, Transport::error(3, 0)).with_payload(&quoted));
        dressed.extensions = vec![
            (0, vec![]),
            (43, vec![4, 1]),
            (44, vec![0; 6]),
            (51, vec![0; 14]),
            (60, vec![1; 20]),
        ];
        samples.push(dressed);
        let mut optional = plain;
        optional.options = vec![131, 7, 4, 192, 0, 2, 1, 1];
        samples.push(optional);
    }
    samples
}

/// Every sample cut at every length, with its length fields as they were and adjusted, on every link: a named defect or a
/// frame that keeps the laws.
#[test]
fn truncations_are_named() {
    for sample in samples() {
        let packet = sample.emit().unwrap();
        for length in 0..packet.len() {
            let mut cut = packet[..length].to_vec();
            let found = Frame::<Tuple>::ip(&mut cut, &Arrival::default()).map(|frame| frame.key());
            let expected = match (packet[0] >> 4, length) {
                (_, 0) => Defect::LinkTruncated,
                (4, 1..20) => Defect::Ipv4Truncated,
                (4, _) if length < usize::from(packet[0] & 15) * 4 => Defect::Ipv4Truncated,
                (4, _) => Defect::Ipv4TotalLength,
                (_, 1..40) => Defect::Ipv6Truncated,
                _ => Defect::Ipv6PayloadLength,
            };
            assert_eq!(found, Err(expected));
            let mut adjusted = packet[..length].to_vec();
            if packet[0] >> 4 == 4 && length >= 20 {
                adjusted[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            } else if length >= 40 {
                adjusted[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
            }
            mend(&mut adjusted);
            for (how, bytes) in [
                (0u8, &packet[..length]),
                (0x10, &packet[..length]),
                (0, &adjusted),
                (4, &adjusted),
            ] {
                let mut data = vec![how, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
                data.extend(bytes);
                check(&data);
            }
            let framed = ethernet([2; 6], [4; 6], &[1, 2], &packet);
            let mut data = vec![1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
            data.extend(&framed[..length]);
            check(&data);
        }
    }
}

/// Each transport header cut short leaves a frame with its own defect, and its ports where they are there.
#[test]
fn transport_defects_are_named() {
    let address = |last| IpAddr::from([192, 0, 2, last]);
    let cases = [
        (Protocol::TCP, 19, Some(Defect::TcpTruncated)),
        (Protocol::TCP, 3, Some(Defect::TcpTruncated)),
        (Protocol::UDP, 7, Some(Defect::UdpTruncated)),
        (Protocol::UDP_LITE, 7, Some(Defect::UdpTruncated)),
        (Protocol::ICMP, 7, Some(Defect::IcmpTruncated)),
        (Protocol::SCTP, 11, Some(Defect::SctpTruncated)),
        (Protocol::SCTP, 12, None),
        (Protocol::GRE, 3, Some(Defect::GreTruncated)),
        (Protocol::ESP, 0, None),
    ];
    for (protocol, length, defect) in cases {
        let payload = [0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let datagram = Datagram::new(address(1), address(2), Transport::Other(protocol));
        let mut bytes = datagram.with_payload(&payload[..length]).emit().unwrap();
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(frame.defect(), defect, "{protocol} {length}");
        let ports = (frame.key().source().port, frame.key().destination().port);
        let readable = protocol.has_ports() && length >= 4;
        assert_eq!(ports, if readable { (1, 2) } else { (0, 0) });
    }
    for (at, value, defect) in [
        (32, 0x40, Defect::TcpHeaderLength),
        (32, 0xf0, Defect::TcpHeaderLength),
    ] {
        let datagram = Datagram::new(address(1), address(2), Tcp::new(1, 2));
        let mut bytes = datagram.emit().unwrap();
        bytes[at] = value;
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!((frame.defect(), frame.segment()), (Some(defect), None));
    }
    for (transport, value, defect) in [
        (Transport::udp(1, 2), 7, Some(Defect::UdpLength)),
        (Transport::udp(1, 2), 9, Some(Defect::UdpLength)),
        (
            Transport::UdpLite {
                source: 1,
                destination: 2,
                coverage: 0,
            },
            1,
            Some(Defect::UdpLength),
        ),
        (
            Transport::UdpLite {
                source: 1,
                destination: 2,
                coverage: 0,
            },
            9,
            Some(Defect::UdpLength),
        ),
        (
            Transport::UdpLite {
                source: 1,
                destination: 2,
                coverage: 0,
            },
            8,
            None,
        ),
    ] {
        let mut bytes = Datagram::new(address(1), address(2), transport)
            .emit()
            .unwrap();
        bytes[25] = value;
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(frame.defect(), defect);
    }
}

/// Extension chains: what is followed, and what is refused by name though the addresses are known.
#[test]
fn extension_chains() {
    let (s, d): (IpAddr, IpAddr) = (
        "2001:db8::2".parse().unwrap(),
        "2001:db8:1::7".parse().unwrap(),
    );
    let none = || vec![];
    let cases: [(Extensions, Option<Defect>, u8); 8] = [
        (
            vec![(0, none()), (60, none()), (43, none()), (60, none())],
            None,
            6,
        ),
        (vec![(60, none()); 8], None, 6),
        (vec![(60, none()); 9], Some(Defect::Ipv6ExtensionChain), 60),
        (
            vec![(60, none()), (0, none())],
            Some(Defect::Ipv6ExtensionChain),
            0,
        ),
        (
            vec![(44, vec![0; 6]), (44, vec![0; 6])],
            Some(Defect::Ipv6ExtensionChain),
            44,
        ),
        (vec![(51, vec![0; 10])], None, 6),
        (vec![(50, none())], None, 50),
        (vec![(59, none())], None, 59),
    ];
    for (extensions, defect, protocol) in cases {
        let mut datagram = Datagram::new(s, d, Tcp::new(1, 2));
        datagram.extensions = extensions.clone();
        let mut bytes = datagram.emit().unwrap();
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(
            (frame.defect(), frame.protocol().0),
            (defect, protocol),
            "{extensions:?}"
        );
        assert_eq!(frame.key().source().port, if protocol == 6 { 1 } else { 0 });
    }
    // A header that says more than there is.
    let mut datagram = Datagram::new(s, d, Transport::Other(Protocol(60)));
    datagram.payload = vec![6, 9, 0, 0, 0, 0, 0, 0];
    let mut bytes = datagram.emit().unwrap();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert_eq!(frame.defect(), Some(Defect::Ipv6Extension));
}

/// Fragments beyond 65,535 bytes, and IPv6 fragments of odd length that others follow.
#[test]
fn fragments_out_of_range() {
    let mut datagram = Datagram::new(
        [10, 0, 0, 1].into(),
        [10, 0, 0, 2].into(),
        Transport::Other(Protocol::UDP),
    );
    datagram.payload = vec![0; 64];
    let mut bytes = datagram.emit().unwrap();
    for (word, defect) in [
        (0x1fffu16, Some(Defect::FragmentRange)),
        (0x1ff5, None),
        (0x1ff6, Some(Defect::FragmentRange)),
    ] {
        bytes[6..8].copy_from_slice(&word.to_be_bytes());
        mend(&mut bytes);
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(
            (frame.defect(), frame.fragment()),
            (defect, Fragment::Later),
            "{word:#x}"
        );
        assert_eq!(frame.key().source().port, 0);
    }
    let mut datagram = Datagram::new(
        "::1".parse().unwrap(),
        "::2".parse().unwrap(),
        Transport::udp(1, 2),
    );
    datagram.payload = vec![0; 3];
    datagram.extensions = vec![(44, vec![0, 1, 0, 0, 0, 9])];
    let mut bytes = datagram.emit().unwrap();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert_eq!(
        (frame.defect(), frame.fragment()),
        (Some(Defect::FragmentRange), Fragment::First)
    );
}

/// Worked by hand, as are the sums in the module's own tests: a SYN whose source is rewritten.
#[test]
fn tcp_vector() {
    let syn = Tcp {
        seq: Seq(0x0102_0304),
        flags: TcpFlags::SYN,
        window: 64240,
        ..Tcp::new(40000, 443)
    };
    let mut bytes = Datagram::new([192, 168, 1, 10].into(), [198, 51, 100, 7].into(), syn)
        .emit()
        .unwrap();
    assert_eq!(bytes[36..38], [0x27, 0x03]);
    let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    let to = "tcp 203.0.113.5:61234 > 198.51.100.7:443".parse().unwrap();
    let rewrite = Rewrite::between(&frame.key(), &to);
    assert_eq!(checksum::add(rewrite.addresses, rewrite.ports), 0xcd45);
    frame.rewrite(&rewrite);
    assert_eq!(frame.transport()[16..18], [0x59, 0xbd]);
    assert!(frame.is_intact());
}

/// An error about a translated flow is translated back: outer ends, quoted ends, and all four checksums.
#[test]
fn quoted_packets_rewrite() {
    let inside: IpAddr = [10, 0, 0, 2].into();
    let outside: IpAddr = [203, 0, 113, 5].into();
    let server: IpAddr = [198, 51, 100, 7].into();
    let router: IpAddr = [192, 0, 2, 99].into();
    for quoted_bytes in [28, 31, 40, 60] {
        for transport in [
            Transport::udp(61234, 53),
            Tcp::new(61234, 53).into(),
            Transport::query(8, 61234, 3),
        ] {
            let payload = [9; 32];
            let sent = Datagram::new(outside, server, transport.clone()).with_payload(&payload);
            let quoted = sent.emit().unwrap();
            let mut bytes = Datagram::new(router, outside, Transport::error(3, 1))
                .with_payload(&quoted[..quoted_bytes])
                .emit()
                .unwrap();
            let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
            let seen = frame.quoted().unwrap();
            assert_eq!(seen.source(), Endpoint::new(outside, 61234));
            let to = seen
                .with(Endpoint::new(inside, 1000), seen.destination())
                .unwrap();
            assert!(frame.rewrite_quoted(&Rewrite::between(&seen, &to)));
            assert_eq!(frame.quoted(), Some(to));
            assert!(frame.is_intact());
            // The quotation is byte for byte what the inside host would have built; a checksum that is cut off is no matter.
            let transport = match transport {
                Transport::Tcp(tcp) => Tcp {
                    source: 1000,
                    ..tcp
                }
                .into(),
                Transport::Udp { destination, .. } => Transport::udp(1000, destination),
                _ => Transport::query(8, 1000, 3),
            };
            let original = Datagram::new(inside, server, transport.clone())
                .with_payload(&payload)
                .emit()
                .unwrap();
            let expected = &original[..quoted_bytes];
            assert_eq!(
                frame.transport()[8..],
                *expected,
                "{transport:?} {quoted_bytes}"
            );
        }
    }
}

/// Four quoted transport bytes name a flow; with fewer than eight nothing is rewritten.
#[test]
fn short_quotations() {
    let sent = Datagram::new(
        [10, 0, 0, 2].into(),
        [10, 0, 0, 3].into(),
        Transport::udp(5, 6),
    )
    .emit()
    .unwrap();
    for (length, named, changed) in [
        (23, false, false),
        (24, true, false),
        (27, true, false),
        (28, true, true),
    ] {
        let mut bytes = Datagram::new(
            [10, 0, 0, 3].into(),
            [10, 0, 0, 2].into(),
            Transport::error(3, 3),
        )
        .with_payload(&sent[..length])
        .emit()
        .unwrap();
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(frame.quoted().is_some(), named);
        let (from, to) = (
            "udp 10.0.0.2:5 > 10.0.0.3:6".parse().unwrap(),
            "udp 10.0.0.9:7 > 10.0.0.3:6".parse().unwrap(),
        );
        assert_eq!(frame.rewrite_quoted(&Rewrite::between(&from, &to)), changed);
        assert!(frame.is_intact());
    }
}

/// A redirect of ICMPv6 quotes in an option, behind others.
#[test]
fn redirects_quote_in_an_option() {
    let (host, peer): (IpAddr, IpAddr) = (
        "2001:db8::2".parse().unwrap(),
        "2001:db8:1::7".parse().unwrap(),
    );
    let sent = Datagram::new(host, peer, Transport::udp(5, 6))
        .emit()
        .unwrap();
    let mut payload = vec![0; 32];
    payload.extend([2, 1, 0, 0, 0, 0, 0, 0]);
    payload.extend([4, 7, 0, 0, 0, 0, 0, 0]);
    payload.extend(&sent);
    let redirect = |code| {
        Datagram::new(
            "fe80::1".parse().unwrap(),
            host,
            Transport::error(137, code),
        )
        .with_payload(&payload)
    };
    let mut bytes = redirect(0).emit().unwrap();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert_eq!(
        frame.quoted(),
        Some("udp [2001:db8::2]:5 > [2001:db8:1::7]:6".parse().unwrap())
    );
    let mut bytes = redirect(1).emit().unwrap();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert_eq!(frame.quoted(), None);
}

/// The segment size option is lowered wherever it stands, at odd offsets too, and only in a SYN.
#[test]
fn mss_is_clamped() {
    for nops in 0..4 {
        let mut payload = vec![
            0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x70, 2, 0xff, 0xff, 0, 0, 0, 0,
        ];
        payload.extend(vec![1; nops]);
        payload.extend([2, 4, 0x05, 0xb4]);
        payload.resize(28, 0);
        let mut bytes = Datagram::new(
            [10, 0, 0, 1].into(),
            [10, 0, 0, 2].into(),
            Transport::Other(Protocol::TCP),
        )
        .with_payload(&payload)
        .emit()
        .unwrap();
        let sum = checksum::add(
            checksum::sum(&payload),
            checksum::pseudo_v4(
                Ipv4Addr::new(10, 0, 0, 1),
                Ipv4Addr::new(10, 0, 0, 2),
                Protocol::TCP,
                28,
            ),
        );
        bytes[36..38].copy_from_slice(&(!sum).to_be_bytes());
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert!(frame.is_intact());
        assert!(!frame.clamp_mss(1460));
        assert!(frame.clamp_mss(1452));
        assert_eq!(frame.segment().unwrap().options.mss, Some(1452));
        assert!(frame.is_intact(), "{nops}");
        assert!(!frame.clamp_mss(1452));
    }
}

/// A key of one family refuses the other's packets; the links refuse what they must.
#[test]
fn families_and_links() {
    let v6 = Datagram::new(
        "::1".parse().unwrap(),
        "::2".parse().unwrap(),
        Transport::udp(1, 2),
    )
    .emit()
    .unwrap();
    let v4 = Datagram::new(
        [10, 0, 0, 1].into(),
        [10, 0, 0, 2].into(),
        Transport::udp(1, 2),
    )
    .emit()
    .unwrap();
    let arrival = Arrival::default();
    type V4 = SevenTuple<Ipv4Addr>;
    assert_eq!(
        Frame::<V4>::ip(&mut v6.clone(), &arrival).map(|f| f.key()),
        Err(Defect::NotIp)
    );
    let key = Frame::<V4>::ip(&mut v4.clone(), &arrival).map(|f| f.key());
    assert_eq!(key, Ok("udp 10.0.0.1:1 > 10.0.0.2:2".parse().unwrap()));

    let parse = |link, bytes: &[u8]| {
        Frame::<Tuple>::parse(link, &mut bytes.to_vec(), &arrival).map(|f| f.key().to_string())
    };
    let three = ethernet([2; 6], [4; 6], &[1, 2, 3], &v4);
    assert_eq!(parse(Link::Ethernet, &three), Err(Defect::LinkTags));
    let mut arp = ethernet([2; 6], [4; 6], &[], &v4);
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(parse(Link::Ethernet, &arp), Err(Defect::NotIp));
    arp[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(parse(Link::Ethernet, &arp), Err(Defect::Ipv6Truncated));
    arp.resize(80, 0);
    assert_eq!(parse(Link::Ethernet, &arp), Err(Defect::Ipv6Version));
    let sll = [
        &[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 0x86, 0xdd][..],
        &v6,
    ]
    .concat();
    assert_eq!(
        parse(Link::Cooked, &sll),
        Ok("udp [::1]:1 > [::2]:2".into())
    );
    let sll2 = [
        &[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0][..],
        &v4,
    ]
    .concat();
    assert_eq!(
        parse(Link::Cooked2, &sll2),
        Ok("udp 10.0.0.1:1 > 10.0.0.2:2".into())
    );
    for link in [Link::Ethernet, Link::Cooked, Link::Cooked2, Link::Ip] {
        assert_eq!(parse(link, &[]), Err(Defect::LinkTruncated));
    }
    let mut wrong = v4.clone();
    wrong[10] ^= 1;
    assert_eq!(parse(Link::Ip, &wrong), Err(Defect::Ipv4Checksum));
    wrong[0] = 0x44;
    assert_eq!(parse(Link::Ip, &wrong), Err(Defect::Ipv4HeaderLength));
    wrong[0] = 0x54;
    assert_eq!(parse(Link::Ip, &wrong), Err(Defect::NotIp));
}

/// A packet of 10.0.0.1 and 10.0.0.2, or of 2001:db8::1 and ::2.
fn between_two(v6: bool, transport: impl Into<Transport>) -> Datagram {
    let (source, destination): (IpAddr, IpAddr) = if v6 {
        (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        )
    } else {
        ([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
    };
    Datagram::new(source, destination, transport)
}

/// Worked by hand: UDP's computed zero is sent as all ones, and its "no checksum" stays.
#[test]
fn udp_zero() {
    let plain = between_two(false, Transport::udp(1000, 53)).with_payload(&[0x2b, 0xd2]);
    let to = "udp 192.0.2.1:2000 > 10.0.0.2:53".parse().unwrap();
    let mut bytes = plain.emit().unwrap();
    assert_eq!(bytes[26..28], [0xbb, 0xe8]);
    let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    frame.rewrite(&Rewrite::between(&frame.key(), &to));
    assert_eq!(frame.transport()[6..8], [0xff, 0xff]);
    let zero = between_two(false, Transport::udp(1000, 53)).with_payload(&[0xe7, 0xba]);
    assert_eq!(zero.emit().unwrap()[26..28], [0xff, 0xff]);

    let mut bytes = plain.emit().unwrap();
    bytes[26..28].copy_from_slice(&[0, 0]);
    let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    frame.rewrite(&Rewrite::between(&frame.key(), &to));
    assert_eq!(frame.transport()[6..8], [0, 0]);
}

/// The checksum of a source-routed packet has the last hop's address in it: rewriting the header's destination must not
/// change it, rewriting the source must. What arrives at the last hop is intact.
#[test]
fn source_routes() {
    let last6: IpAddr = "2001:db8:f::f".parse().unwrap();
    let last4: IpAddr = [203, 0, 113, 77].into();
    for transport in [
        Transport::udp(5, 6),
        Tcp::new(5, 6).into(),
        Transport::query(128, 5, 6),
    ] {
        let mut at_last = between_two(true, transport.clone()).with_payload(b"abc");
        at_last.destination = last6;
        let mut segments = vec![0, 1, 0, 0, 0, 0];
        segments.extend([0; 16]);
        at_last.extensions = vec![(43, segments)];
        let mut bytes = at_last.emit().unwrap();
        bytes[38] = 0x77; // the header names a hop instead
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert!(frame.is_intact(), "not ours to say");
        let key = frame.key();
        let other = |text: &str, end: Endpoint| Endpoint::new(text.parse().unwrap(), end.port);
        let to = key
            .with(
                other("2001:db8:a::a", key.source()),
                other("2001:db8:b::b", key.destination()),
            )
            .unwrap();
        frame.rewrite(&Rewrite::between(&key, &to));
        at_last.source = to.source().address;
        let expected = at_last.emit().unwrap();
        assert_eq!(
            frame.transport(),
            &expected[expected.len() - frame.transport().len()..]
        );
    }
    for route in [131, 137] {
        let mut at_last = between_two(false, Transport::udp(5, 6)).with_payload(b"abc");
        at_last.destination = last4;
        at_last.options = vec![1, route, 7, 4, 1, 2, 3, 4];
        let mut bytes = at_last.emit().unwrap();
        bytes[16..20].copy_from_slice(&[10, 9, 8, 7]);
        mend(&mut bytes);
        for pointer in [4, 8] {
            bytes[23] = pointer;
            mend(&mut bytes);
            let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
            assert_eq!(
                frame.is_intact(),
                pointer == 4,
                "a used-up route is as none"
            );
        }
        bytes[23] = 4;
        mend(&mut bytes);
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        let to = "udp 192.0.2.9:5 > 192.0.2.10:6".parse().unwrap();
        frame.rewrite(&Rewrite::between(&frame.key(), &to));
        at_last.source = [192, 0, 2, 9].into();
        let expected = at_last.emit().unwrap();
        assert_eq!(frame.transport(), &expected[28..]);
    }
}

/// SCTP: "no checksum" stays, and so does one that cannot follow since it covers other fragments too.
#[test]
fn sctp_checksums_that_stay() {
    let sctp = Transport::Sctp {
        source: 5,
        destination: 6,
        tag: 7,
    };
    let datagram = between_two(false, sctp).with_payload(&[3; 64]);
    let mut whole = datagram.emit().unwrap();
    whole[28..32].copy_from_slice(&[0; 4]);
    let mut first = datagram.fragments(60).unwrap().swap_remove(0);
    for bytes in [&mut whole, &mut first] {
        let before = bytes[28..32].to_vec();
        let mut frame: Frame = Frame::ip(bytes, &Arrival::default()).unwrap();
        let to = "sctp 10.0.0.1:50 > 10.0.0.2:6".parse().unwrap();
        frame.rewrite(&Rewrite::between(&frame.key(), &to));
        assert_eq!(frame.key(), to);
        assert_eq!(frame.transport()[8..12], before);
    }
}

/// What is not a SYN keeps its segment size option.
#[test]
fn mss_only_in_a_syn() {
    let mut tcp = Tcp::new(1, 2);
    tcp.options.mss = Some(1460);
    tcp.flags = TcpFlags::ACK;
    let mut bytes = between_two(false, tcp).emit().unwrap();
    let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert!(!frame.clamp_mss(1000));
    assert_eq!(frame.segment().unwrap().options.mss, Some(1460));
}

/// Quotations that cannot be named, or whose checksum cannot follow.
#[test]
fn odd_quotations() {
    // A TCP header that ends behind its checksum, and before its end: the checksum is left alone.
    let sent = between_two(false, Tcp::new(5, 6)).emit().unwrap();
    let mut bytes = between_two(false, Transport::error(3, 1))
        .with_payload(&sent[..38])
        .emit()
        .unwrap();
    let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    let quoted = frame.quoted().unwrap();
    let to = "tcp 192.0.2.1:9 > 10.0.0.2:6".parse().unwrap();
    assert!(frame.rewrite_quoted(&Rewrite::between(&quoted, &to)));
    assert!(frame.is_intact());
    assert_eq!(frame.transport()[8 + 36..], sent[36..38]);
    // An extension chain that is malformed, a later fragment, the other family.
    let mut chain = between_two(true, Transport::udp(5, 6));
    chain.extensions = vec![(60, vec![]), (0, vec![])];
    let mut quotes = vec![(true, chain.emit().unwrap())];
    let mut later = between_two(true, Transport::udp(5, 6));
    later.extensions = vec![(44, vec![0, 8, 0, 0, 0, 1])];
    quotes.push((true, later.emit().unwrap()));
    quotes.push((true, sent.clone()));
    let mut later = sent.clone();
    later[7] = 1;
    quotes.push((false, later));
    for (v6, quoted) in quotes {
        let mut bytes = between_two(v6, Transport::error(3, 0))
            .with_payload(&quoted)
            .emit()
            .unwrap();
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(frame.quoted(), None);
    }
    // Messages that are no errors quote nothing, whatever they hold; nor do ICMP's types in ICMPv6's packets.
    for (v6, kind) in [(false, 8), (false, 6), (true, 128), (true, 137)] {
        let mut bytes = between_two(v6, Transport::error(kind, 0))
            .with_payload(&sent)
            .emit()
            .unwrap();
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(frame.quoted(), None, "{kind}");
    }
    let mut strange = between_two(true, Transport::Other(Protocol::ICMP));
    strange.payload = [&[3, 1, 0, 0, 0, 0, 0, 0][..], &sent].concat();
    let mut bytes = strange.emit().unwrap();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert_eq!(frame.quoted(), None);
}

/// The quoted packet's locality: its sender is whom the error goes to.
#[test]
fn quoted_locality() {
    let sent = between_two(false, Transport::udp(5, 6)).emit().unwrap();
    let mut error = between_two(false, Transport::error(3, 3)).with_payload(&sent);
    std::mem::swap(&mut error.source, &mut error.destination);
    let mut bytes = error.emit().unwrap();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    let ours = |last: u8| move |address: IpAddr| address == IpAddr::from([10, 0, 0, last]);
    let frame = frame.locate(ours(1));
    let quoted = frame.quoted().unwrap().to_string();
    assert_eq!(quoted, "udp 10.0.0.1:5 > 10.0.0.2:6 local source");
    let frame = frame.locate(ours(2));
    let quoted = frame.quoted().unwrap().to_string();
    assert_eq!(quoted, "udp 10.0.0.1:5 > 10.0.0.2:6 local destination");
}

/// A fragment header's offset that reaches too far, and an extension header that reaches into the link's padding.
#[test]
fn ipv6_ranges() {
    let mut datagram = between_two(true, Transport::Other(Protocol::UDP)).with_payload(&[0; 16]);
    for (offset, defect) in [
        (0xfff8u16, Some(Defect::FragmentRange)),
        (0xfff0, Some(Defect::FragmentRange)),
        (0xffe8, None),
    ] {
        let [o0, o1] = offset.to_be_bytes();
        datagram.extensions = vec![(44, vec![o0, o1, 0, 0, 0, 1])];
        let mut bytes = datagram.emit().unwrap();
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!(frame.defect(), defect, "{offset:#x}");
    }
    let mut datagram = between_two(true, Transport::Other(Protocol(60)));
    datagram.payload = vec![6, 1, 0, 0, 0, 0, 0, 0];
    let mut bytes = datagram.emit().unwrap();
    bytes.resize(bytes.len() + 40, 0);
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert_eq!(frame.defect(), Some(Defect::Ipv6Extension));
}

/// Checksums that are not ours to judge, those that are missing and must not be, and UDP's two readings of its length.
#[test]
fn what_intact_means() {
    let datagram = between_two(false, Tcp::new(1, 2)).with_payload(b"payload");
    let mut bytes = datagram.emit().unwrap();
    bytes[36] ^= 1;
    for (arrival, intact) in [
        (Arrival::default(), false),
        (Arrival::default().with_checksums(Checksums::Partial), true),
        (
            Arrival::default().with_checksums(Checksums::Offloaded),
            true,
        ),
    ] {
        let frame: Frame = Frame::ip(&mut bytes, &arrival).unwrap();
        assert_eq!(frame.is_intact(), intact);
    }
    let short = bytes.len() - 1;
    let cut = Arrival::default().cut_short();
    let frame: Frame = Frame::ip(&mut bytes[..short], &cut).unwrap();
    assert!(frame.is_intact(), "not all of it is here");
    assert_eq!(
        (frame.transport().len(), frame.transport_length()),
        (26, 27)
    );
    assert_eq!(
        frame.segment().unwrap().payload,
        7,
        "by the header, not by the bytes"
    );

    let lite = Transport::UdpLite {
        source: 1,
        destination: 2,
        coverage: 0,
    };
    let mut bytes = between_two(false, lite).emit().unwrap();
    bytes[26..28].copy_from_slice(&[0, 0]);
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert!(!frame.is_intact());

    // Eight bytes more than UDP says, which do not sum to zero.
    let mut datagram = between_two(true, Transport::udp(1, 2)).with_payload(b"abcd");
    let proper = datagram.emit().unwrap();
    datagram.payload.extend(*b"surplus!");
    let mut whole = datagram.emit().unwrap();
    whole[44..46].copy_from_slice(&[0, 12]);
    let sum = checksum::add(0xffff - 20, 12);
    let fixed = checksum::update(
        u16::from_be_bytes([whole[46], whole[47]]),
        checksum::add(sum, 0),
    );
    whole[46..48].copy_from_slice(&fixed.to_be_bytes());
    let mut surplus = whole.clone();
    surplus[46..48].copy_from_slice(&proper[46..48]);
    let mut wrong = whole.clone();
    wrong[46] ^= 1;
    for (mut bytes, intact) in [(whole, true), (surplus, true), (wrong, false)] {
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!((frame.defect(), frame.is_intact()), (None, intact));
    }
}

/// What a packet gets for an answer.
fn answer(bytes: &[u8], link: Link, notice: Notice) -> Result<Vec<u8>, Unanswered> {
    let mut bytes = bytes.to_vec();
    let frame: Frame = Frame::parse(link, &mut bytes, &Arrival::default()).unwrap();
    let from: IpAddr = match frame.key().source().address {
        IpAddr::V4(_) => [192, 0, 2, 1].into(),
        IpAddr::V6(_) => "2001:db8:ff::1".parse().unwrap(),
    };
    let mut out = [0; ANSWER_MAX];
    let length = frame.answer(notice, from, &mut out)?;
    Ok(out[..length].to_vec())
}

/// Resets continue the numbers of what they answer (RFC 9293 section 3.10.7.1).
#[test]
fn resets() {
    let reset = Notice::Rejected(Answer::TcpReset);
    let none = TcpFlags::NONE;
    let (syn, ack, fin, rst) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST);
    let rows = [
        // flags, payload | seq, ack, flags of the reset
        (syn, 0, Ok((0, 1001, rst.union(ack)))),
        (syn.union(fin), 5, Ok((0, 1007, rst.union(ack)))),
        (none, 5, Ok((0, 1005, rst.union(ack)))),
        (ack, 5, Ok((2000, 0, rst))),
        (syn.union(ack), 0, Ok((2000, 0, rst))),
        (rst, 0, Err(Unanswered::Reset)),
        (rst.union(ack), 0, Err(Unanswered::Reset)),
    ];
    for v6 in [false, true] {
        for (flags, payload, expected) in rows {
            let (seq, ack) = (Seq(1000), Seq(2000));
            let tcp = Tcp {
                seq,
                ack,
                flags,
                ..Tcp::new(40000, 80)
            };
            let bytes = between_two(v6, tcp)
                .with_payload(&vec![1; payload])
                .emit()
                .unwrap();
            let found = answer(&bytes, Link::Ip, reset).map(|mut bytes| {
                let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
                let segment = frame.segment().unwrap();
                assert!(frame.is_intact());
                assert_eq!(
                    (frame.key().source().port, frame.key().destination().port),
                    (80, 40000)
                );
                (segment.seq.0, segment.ack.0, segment.flags)
            });
            assert_eq!(found, expected);
        }
    }
    let udp = between_two(false, Transport::udp(1, 2)).emit().unwrap();
    assert_eq!(answer(&udp, Link::Ip, reset), Err(Unanswered::NotTcp));
}

/// Errors have the right type, quote as much as they may, and are not sent where that is forbidden.
#[test]
fn errors() {
    let prohibited = Notice::Rejected(Answer::AdminProhibited);
    let too_big = Notice::TooBig { mtu: 1400 };
    for (v6, notice, head, limit) in [
        (false, prohibited, [3, 13, 0, 0, 0, 0], 576),
        (false, Notice::HopLimitExceeded, [11, 0, 0, 0, 0, 0], 576),
        (false, too_big, [3, 4, 0, 0, 0x05, 0x78], 576),
        (true, prohibited, [1, 1, 0, 0, 0, 0], 1280),
        (true, Notice::HopLimitExceeded, [3, 0, 0, 0, 0, 0], 1280),
        (true, too_big, [2, 0, 0, 0, 0x05, 0x78], 1280),
    ] {
        for payload in [0, 100, 1400] {
            let bytes = between_two(v6, Transport::udp(1, 2))
                .with_payload(&vec![1; payload])
                .emit()
                .unwrap();
            let mut error = answer(&bytes, Link::Ip, notice).unwrap();
            let header = if v6 { 40 } else { 20 };
            assert_eq!(error.len(), limit.min(header + 8 + bytes.len()));
            assert_eq!(error[header + 8..], bytes[..error.len() - header - 8]);
            let [kind, code, rest @ ..] = head;
            assert_eq!(error[header..header + 2], [kind, code]);
            assert_eq!(error[header + 4..header + 8], rest);
            let frame: Frame = Frame::ip(&mut error, &Arrival::default()).unwrap();
            assert!(frame.is_intact());
            assert_eq!(
                frame.key().destination().address,
                between_two(v6, Tcp::new(1, 2)).source
            );
        }
    }
    let group = |v6: bool| {
        let mut datagram = between_two(v6, Transport::udp(1, 2));
        datagram.destination = if v6 {
            "ff02::1".parse().unwrap()
        } else {
            [224, 0, 0, 1].into()
        };
        datagram.emit().unwrap()
    };
    let from = |address: IpAddr| {
        let mut datagram = between_two(address.is_ipv6(), Transport::udp(1, 2));
        datagram.source = address;
        datagram.emit().unwrap()
    };
    let plain = between_two(false, Transport::udp(1, 2)).with_payload(&[7; 64]);
    let on_link = |first| ethernet([first; 6], [4; 6], &[], &plain.emit().unwrap());
    let mut later = plain.fragments(60).unwrap().swap_remove(1);
    let mut corrupt = plain.emit().unwrap();
    corrupt[40] ^= 1;
    let error = |v6, kind| between_two(v6, Transport::error(kind, 0)).emit().unwrap();
    for (bytes, link, notice, expected) in [
        (group(false), Link::Ip, prohibited, Some(Unanswered::Group)),
        (group(true), Link::Ip, prohibited, Some(Unanswered::Group)),
        (group(false), Link::Ip, too_big, Some(Unanswered::Group)),
        (group(true), Link::Ip, too_big, None),
        (on_link(2), Link::Ethernet, prohibited, None),
        (
            on_link(0xff),
            Link::Ethernet,
            prohibited,
            Some(Unanswered::Group),
        ),
        (
            from([0; 4].into()),
            Link::Ip,
            prohibited,
            Some(Unanswered::Source),
        ),
        (
            from([255; 4].into()),
            Link::Ip,
            prohibited,
            Some(Unanswered::Source),
        ),
        (
            from("::".parse().unwrap()),
            Link::Ip,
            prohibited,
            Some(Unanswered::Source),
        ),
        (
            std::mem::take(&mut later),
            Link::Ip,
            prohibited,
            Some(Unanswered::Fragment),
        ),
        (corrupt, Link::Ip, prohibited, Some(Unanswered::Corrupt)),
        (
            error(false, 3),
            Link::Ip,
            prohibited,
            Some(Unanswered::Error),
        ),
        (error(false, 8), Link::Ip, prohibited, None),
        (
            error(false, 40),
            Link::Ip,
            prohibited,
            Some(Unanswered::Error),
        ),
        (
            error(true, 1),
            Link::Ip,
            prohibited,
            Some(Unanswered::Error),
        ),
        (error(true, 128), Link::Ip, prohibited, None),
        (
            error(true, 137),
            Link::Ip,
            prohibited,
            Some(Unanswered::Error),
        ),
    ] {
        assert_eq!(answer(&bytes, link, notice).err(), expected, "{bytes:02x?}");
    }
    // The other family's address, and a buffer that is too short.
    let mut bytes = plain.emit().unwrap();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    let mut out = [0; 60];
    let wrong = frame.answer(prohibited, "::1".parse().unwrap(), &mut out);
    assert_eq!(wrong, Err(Unanswered::Family));
    let right = [192, 0, 2, 1].into();
    assert_eq!(frame.answer(prohibited, right, &mut out), Ok(60));
    assert_eq!(
        frame.answer(prohibited, right, &mut out[..55]),
        Err(Unanswered::Room)
    );
    assert_eq!(frame.answer(prohibited, right, &mut out[..56]), Ok(56));
}

/// The tag type of old switches, and who the link header is for.
#[test]
fn links_say_more() {
    let packet = between_two(false, Transport::udp(1, 2)).emit().unwrap();
    for kind in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
        let mut bytes = ethernet([3; 6], [4; 6], &[0xfff], &packet);
        bytes[12..14].copy_from_slice(&kind);
        let frame: Frame = Frame::ethernet(&mut bytes, &Arrival::default()).unwrap();
        assert_eq!((frame.vlan(), frame.is_link_group()), (&[0xfff][..], true));
        assert_eq!(frame.link_length(), 18);
    }
}
