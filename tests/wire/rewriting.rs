//! Rewriting, by cases: vectors worked by hand, and the packets that need care.

use super::*;
use gufc::packet::Rewrite;
use gufc::testing::frame::mend;
use std::net::Ipv4Addr;

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
        mend(&mut bytes, 0);
        for pointer in [4, 8] {
            bytes[23] = pointer;
            mend(&mut bytes, 0);
            let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
            assert_eq!(
                frame.is_intact(),
                pointer == 4,
                "a used-up route is as none"
            );
        }
        bytes[23] = 4;
        mend(&mut bytes, 0);
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
    let sent = between_two(true, Transport::udp(5, 6)).emit().unwrap();
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

/// An echo reply that becomes all zeros: its checksum is the one that a full computation gives, and no other is accepted.
#[test]
fn all_zero_echo_reply() {
    let reply = |id| between_two(false, Transport::query(0, id, 0)).with_payload(&[0; 5]);
    let mut bytes = reply(5).emit().unwrap();
    let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    let key = frame.key();
    let to = key
        .with(
            Endpoint {
                port: 0,
                ..key.source()
            },
            key.destination(),
        )
        .unwrap();
    frame.rewrite(&Rewrite::between(&key, &to));
    assert!(frame.is_intact());
    assert_eq!(frame.packet(), reply(0).emit().unwrap());
    frame.rewrite(&Rewrite::between(&to, &key));
    assert_eq!(frame.packet(), reply(5).emit().unwrap());
}
