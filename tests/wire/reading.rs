//! Reading, by cases: each defect, each link, each chain has its name.

use super::*;
use gufc::key::SevenTuple;
use gufc::packet::{Defect, Fragment};
use gufc::testing::frame::mend;
use gufc::wire::Link;
use gufc::wire::build::ethernet;
use std::net::Ipv4Addr;

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
        mend(&mut bytes, 0);
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
    wrong[0] = 0x45;
    wrong[2..4].copy_from_slice(&[0, 19]);
    assert_eq!(parse(Link::Ip, &wrong), Err(Defect::Ipv4HeaderLength));
    wrong[0] = 0x54;
    assert_eq!(parse(Link::Ip, &wrong), Err(Defect::NotIp));
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
    // And one that the capture cut off.
    datagram.payload = vec![6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut bytes = datagram.emit().unwrap();
    let cut = Arrival::default().cut_short();
    let frame: Frame = Frame::ip(&mut bytes[..50], &cut).unwrap();
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
    let mut bytes = between_two(false, lite.clone()).emit().unwrap();
    bytes[26..28].copy_from_slice(&[0, 0]);
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert!(!frame.is_intact());
    // Even where the sum happens to be the zero that stands there.
    let mut datagram = between_two(false, lite).with_payload(&[0, 0]);
    let sum = datagram.emit().unwrap();
    datagram.payload = sum[26..28].to_vec();
    let mut bytes = datagram.emit().unwrap();
    assert_eq!(bytes[26..28], [0xff, 0xff]);
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
