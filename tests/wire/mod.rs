//! Frames: what is built reads back, rewriting keeps every checksum right, and no bytes panic.
//!
//! Method: packets from small domains are built, read, cut at every length, damaged, and handed to `testing::frame`, which
//! checks the laws of `Packet` and compares rewriting with a full computation; then cases by name.

mod answers;
mod laws;
mod reading;
mod rewriting;
mod translating;

use gufc::key::{Endpoint, FlowKey, Protocol, Tuple};
use gufc::packet::{Packet, SegmentOptions, Seq, TcpFlags};
use gufc::wire::build::{Datagram, Tcp, Transport};
use gufc::wire::{Arrival, Checksums, Frame, checksum};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

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
