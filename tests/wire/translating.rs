//! Translation between IPv4 and IPv6: against a slow twin, there and back, and the tables of RFC 7915 row by row.

use super::*;
use gufc::key::{Embedding, crossed, icmp_counterpart};
use gufc::packet::{Defect, Fragment, Mtus, Translation, Untranslatable};
use gufc::testing::translate::{CHOICES, slow, translate as check};
use gufc::wire::{HEADROOM, translate};

fn v4(last: u8) -> IpAddr {
    [198, 51, 100, last].into()
}

fn v6(last: u16) -> IpAddr {
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into()
}

/// The key on the other side.
fn across(key: &Tuple) -> Option<Tuple> {
    match key {
        Tuple::V4(_) => crossed(key, v6(1), v6(2)),
        Tuple::V6(_) => crossed(key, v4(1), v4(2)),
    }
}

/// Translates a packet, with a quotation the other way round.
fn to_other(packet: &[u8], mtu: Mtus) -> Result<Vec<u8>, Untranslatable> {
    let mut bytes = packet.to_vec();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    let from = frame.key();
    // A key for what has no counterpart, too: the packet has to be refused for itself.
    let to = across(&from).unwrap_or_else(|| {
        let (s, d) = if packet[0] >> 4 == 4 {
            (v6(1), v6(2))
        } else {
            (v4(1), v4(2))
        };
        from.with(Endpoint::new(s, 0), Endpoint::new(d, 0)).unwrap()
    });
    let mut order = Translation::between(&from, &to);
    order.quoted = frame.quoted().and_then(|key| across(&key));
    order.identification = 0x7777;
    order.mtu = mtu;
    translate_with(packet, &order)
}

fn translate_with(packet: &[u8], order: &Translation<Tuple>) -> Result<Vec<u8>, Untranslatable> {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend(packet);
    let end = buffer.len();
    let range = translate(&mut buffer, HEADROOM..end, &Arrival::default(), order)?;
    assert_eq!(range.end, end);
    Ok(buffer[range].to_vec())
}

fn other(packet: &[u8]) -> Result<Vec<u8>, Untranslatable> {
    to_other(packet, Mtus::default())
}

fn emit(source: IpAddr, destination: IpAddr, transport: Transport, payload: &[u8]) -> Vec<u8> {
    Datagram::new(source, destination, transport)
        .with_payload(payload)
        .emit()
        .unwrap()
}

/// An ICMP error in the family of `from` that quotes `quoted`.
fn error(kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    let icmp = Transport::Icmp { kind, code, rest };
    if quoted[0] >> 4 == 4 {
        emit(v4(9), v4(1), icmp, quoted)
    } else {
        emit(v6(9), v6(1), icmp, quoted)
    }
}

fn quotable(family: u8) -> Vec<u8> {
    if family == 4 {
        emit(v4(1), v4(2), Transport::udp(4000, 53), b"quoted")
    } else {
        emit(v6(1), v6(2), Transport::udp(4000, 53), b"quoted")
    }
}

/// Type, code and the four bytes behind the checksum of a translated error.
fn says(packet: &[u8]) -> (u8, u8, [u8; 4]) {
    let mut bytes = packet.to_vec();
    let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
    assert!(frame.is_intact());
    let [kind, code, _, _, a, b, c, d, ..] = *frame.transport() else {
        panic!("too short")
    };
    (kind, code, [a, b, c, d])
}

fn kind_of(packet: &[u8]) -> (u8, u8) {
    let (kind, code, _) = says(packet);
    (kind, code)
}

proptest! {
    /// What the fast way makes of a packet is what building it anew makes, bit for bit.
    #[test]
    fn equals_a_packet_built_anew(datagram in datagram(), port in port()) {
        let packet = datagram.emit().unwrap();
        let from = key_of(&datagram);
        let Some(to) = across(&from) else { return Ok(()) };
        let to = if from.protocol().has_ports() {
            to.with(Endpoint { port, ..to.source() }, to.destination()).unwrap()
        } else {
            to
        };
        let mut order = Translation::between(&from, &to);
        order.identification = 0x4321;
        let authenticated = datagram.extensions.iter().any(|(number, _)| *number == 51);
        let behind = datagram.extensions.windows(2).any(|pair| pair[0].0 == 44);
        match translate_with(&packet, &order) {
            Ok(found) => {
                let v6 = datagram.source.is_ipv6();
                prop_assert!(!(v6 && (authenticated || behind)));
                prop_assert_eq!(found, slow(&packet, &to, None, 0x4321));
            }
            Err(Untranslatable::Authentication) => prop_assert!(authenticated),
            Err(Untranslatable::Protocol) => prop_assert!(behind),
            Err(Untranslatable::SourceRoute { .. }) => prop_assert!(!datagram.options.is_empty()),
            Err(why) => prop_assert!(false, "{}", why),
        }
    }

    /// So it is for errors, and the packet in them.
    #[test]
    fn errors_equal_errors_built_anew(datagram in datagram(), kind in 0usize..5, port in port()) {
        let inner = datagram.emit().unwrap();
        let from = key_of(&datagram);
        let Some(quoted) = across(&from) else { return Ok(()) };
        let quoted = if from.protocol().has_ports() {
            quoted.with(Endpoint { port, ..quoted.source() }, quoted.destination()).unwrap()
        } else {
            quoted
        };
        let (kind, code) = if inner[0] >> 4 == 4 {
            [(3, 0), (3, 1), (3, 3), (3, 13), (11, 0)][kind]
        } else {
            [(1, 0), (1, 1), (1, 4), (3, 0), (3, 1)][kind]
        };
        let packet = error(kind, code, [0; 4], &inner);
        let mut bytes = packet.clone();
        let from = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).unwrap().key();
        let to = across(&from).unwrap();
        let mut order = Translation::between(&from, &to);
        order.quoted = Some(quoted);
        order.identification = 0x7777;
        match translate_with(&packet, &order) {
            Ok(found) => prop_assert_eq!(found, slow(&packet, &to, Some(&quoted), 0x7777)),
            Err(Untranslatable::Quotation) => {
                prop_assert!(!datagram.extensions.is_empty() || !datagram.options.is_empty());
            }
            Err(why) => prop_assert!(false, "{}", why),
        }
    }

    /// IPv4 to IPv6 and back are the same bytes, where the IPv4 packet has no options and its identification is 0 or not used.
    #[test]
    fn there_and_back(datagram in datagram(), large: bool) {
        let mut datagram = datagram;
        datagram.options.clear();
        datagram.extensions.clear();
        if large {
            datagram.payload.resize(1300, 7);
        }
        datagram.dont_fragment = large;
        let unsummed = matches!(datagram.transport, Transport::Udp { checksum: false, .. });
        let from = key_of(&datagram);
        let (Some(to), false) = (across(&from), unsummed) else { return Ok(()) };
        let packet = datagram.emit().unwrap();
        let there = translate_with(&packet, &Translation::between(&from, &to)).unwrap();
        let back = translate_with(&there, &Translation::between(&to, &from)).unwrap();
        prop_assert_eq!(back, packet);
    }

    /// Fragments translated one by one and put together are the whole translated.
    #[test]
    fn fragments_translate_apart(datagram in datagram()) {
        let mut datagram = datagram;
        datagram.dont_fragment = false;
        datagram.identification = 0x1234_5678;
        datagram.options.clear();
        datagram.extensions.clear();
        datagram.payload.resize(200, 7);
        let from = key_of(&datagram);
        let Some(to) = across(&from) else { return Ok(()) };
        let order = Translation::between(&from, &to);
        let header = if datagram.source.is_ipv4() { 20 } else { 48 };
        let mut together = Vec::new();
        for piece in datagram.fragments(header + 88).unwrap() {
            let found = translate_with(&piece, &order);
            match &datagram.transport {
                Transport::Icmp { .. } => {
                    prop_assert_eq!(found, Err(Untranslatable::IcmpFragment));
                    return Ok(());
                }
                Transport::Udp { checksum: false, .. } if together.is_empty() && header == 20 => {
                    prop_assert_eq!(found, Err(Untranslatable::UdpChecksum));
                    return Ok(());
                }
                _ => {}
            }
            let mut found = found.unwrap();
            let frame: Frame = Frame::ip(&mut found, &Arrival::default()).unwrap();
            let place = frame.piece().unwrap();
            prop_assert_eq!(place.offset as usize, together.len());
            prop_assert_eq!(place.identification, 0x5678);
            prop_assert_eq!(frame.fragment(), if together.is_empty() { Fragment::First } else { Fragment::Later });
            together.extend(frame.transport());
        }
        let whole = translate_with(&datagram.emit().unwrap(), &order).unwrap();
        prop_assert!(whole.ends_with(&together));
    }

    #[test]
    fn laws_hold(packet in packet(), choices: [u8; CHOICES], cut in 0usize..200) {
        let mut data = choices.to_vec();
        data.extend(&packet[..packet.len().saturating_sub(cut.saturating_sub(100))]);
        check(&data);
    }

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
        let mut data = choices.to_vec();
        data[0] |= 1;
        data.extend(packet);
        check(&data);
    }
}

/// RFC 7915 section 4.2: every type and code of ICMP; those that are not here have no counterpart.
#[test]
fn icmp_to_icmpv6() {
    let rows: &[(u8, &[u8], u8, u8)] = &[
        (3, &[0, 1, 5, 6, 7, 8, 11, 12], 1, 0),
        (3, &[2], 4, 1),
        (3, &[3], 1, 4),
        (3, &[4], 2, 0),
        (3, &[9, 10, 13, 15], 1, 1),
        (11, &[0], 3, 0),
        (11, &[1], 3, 1),
        (12, &[0, 2], 4, 0),
    ];
    for kind in 0..=255 {
        for code in 0..=20 {
            let expected = rows
                .iter()
                .find(|(k, codes, ..)| *k == kind && codes.contains(&code))
                .map(|(.., k, c)| (*k, *c));
            let expected = match kind {
                8 => Some((128, code)),
                0 => Some((129, code)),
                11 if code > 1 => Some((3, code)),
                _ => expected,
            };
            assert_eq!(
                icmp_counterpart(Protocol::ICMP, kind, code),
                expected,
                "{kind}/{code}"
            );
            let found = match kind {
                0 | 8 => other(&emit(
                    v4(1),
                    v4(2),
                    Transport::Icmp {
                        kind,
                        code,
                        rest: [0, 7, 0, 1],
                    },
                    b"x",
                )),
                _ => other(&error(kind, code, [1, 0, 5, 220], &quotable(4))),
            };
            match expected {
                Some((k, c)) => assert_eq!(kind_of(&found.unwrap()), (k, c), "{kind}/{code}"),
                None => assert_eq!(found, Err(Untranslatable::IcmpMessage), "{kind}/{code}"),
            }
        }
    }
}

/// RFC 7915 section 5.2.
#[test]
fn icmpv6_to_icmp() {
    for kind in 0..=255 {
        for code in 0..=8 {
            let expected = match (kind, code) {
                (128, _) => Some((8, code)),
                (129, _) => Some((0, code)),
                (1, 0 | 2 | 3) => Some((3, 1)),
                (1, 1) => Some((3, 10)),
                (1, 4) => Some((3, 3)),
                (2, _) => Some((3, 4)),
                (3, _) => Some((11, code)),
                (4, 0) => Some((12, 0)),
                (4, 1) => Some((3, 2)),
                _ => None,
            };
            assert_eq!(
                icmp_counterpart(Protocol::ICMPV6, kind, code),
                expected,
                "{kind}/{code}"
            );
            let found = match kind {
                128 | 129 => other(&emit(
                    v6(1),
                    v6(2),
                    Transport::Icmp {
                        kind,
                        code,
                        rest: [0, 7, 0, 1],
                    },
                    b"x",
                )),
                _ => other(&error(kind, code, [0, 0, 0, 1], &quotable(6))),
            };
            match expected {
                Some((k, c)) => assert_eq!(kind_of(&found.unwrap()), (k, c), "{kind}/{code}"),
                None => assert_eq!(found, Err(Untranslatable::IcmpMessage), "{kind}/{code}"),
            }
        }
    }
}

/// Figures 3 and 6 of RFC 7915.
#[test]
fn pointers() {
    let to_v6 = |pointer: u8| match pointer {
        0 | 1 => Some(u32::from(pointer)),
        2 | 3 => Some(4),
        8 => Some(7),
        9 => Some(6),
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    };
    for pointer in 0..=255u8 {
        let found = other(&error(12, 0, [pointer, 0, 0, 0], &quotable(4)));
        match to_v6(pointer) {
            Some(expected) => assert_eq!(says(&found.unwrap()), (4, 0, expected.to_be_bytes())),
            None => assert_eq!(found, Err(Untranslatable::IcmpPointer), "{pointer}"),
        }
    }
    let to_v4 = |pointer: u32| match pointer {
        0 | 1 => Some(pointer as u8),
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    };
    for pointer in (0..300).chain([0x0100_0000, u32::MAX]) {
        let found = other(&error(4, 0, pointer.to_be_bytes(), &quotable(6)));
        match to_v4(pointer) {
            Some(expected) => assert_eq!(says(&found.unwrap()), (12, 0, [expected, 0, 0, 0])),
            None => assert_eq!(found, Err(Untranslatable::IcmpPointer), "{pointer}"),
        }
    }
    // Protocol unreachable points at the next header, whatever it said.
    assert_eq!(
        says(&other(&error(3, 2, [9; 4], &quotable(4))).unwrap()),
        (4, 1, [0, 0, 0, 6])
    );
    assert_eq!(
        says(&other(&error(4, 1, [0, 0, 0, 40], &quotable(6))).unwrap()),
        (3, 2, [0; 4])
    );
}

/// "Fragmentation needed" and "packet too big": the smallest of what is said and what the near links take, and plateaus.
#[test]
fn mtus() {
    let limits = Mtus {
        v4: 1400,
        v6: 1500,
        lowest_v6: 1280,
    };
    let big = emit(v4(1), v4(2), Transport::udp(4000, 53), &[0; 1500 - 28]);
    for (stated, limits, expected) in [
        (1400u16, Mtus::default(), 1420u32),
        (1480, limits, 1420),
        (1480, Mtus { v4: 9000, ..limits }, 1500),
        (65535, Mtus::default(), 65555),
        (576, Mtus::default(), 1280),
        (0, Mtus::default(), 1512),
        (0, limits, 1420),
    ] {
        let [a, b] = stated.to_be_bytes();
        let found = to_other(&error(3, 4, [0, 0, a, b], &big), limits).unwrap();
        assert_eq!(says(&found), (2, 0, expected.to_be_bytes()), "{stated}");
    }
    for (stated, limits, expected) in [
        (1500u32, Mtus::default(), 1480u16),
        (1280, Mtus::default(), 1260),
        (1500, limits, 1400),
        (1500, Mtus { v6: 1300, ..limits }, 1280),
        (10, Mtus::default(), 68),
        (u32::MAX, Mtus::default(), 65535),
    ] {
        let found = to_other(&error(2, 0, stated.to_be_bytes(), &quotable(6)), limits).unwrap();
        let [a, b] = expected.to_be_bytes();
        assert_eq!(says(&found), (3, 4, [0, 0, a, b]), "{stated}");
    }
    let mut datagram = Datagram::new(v6(1), v6(2), Transport::udp(4000, 53)).with_payload(b"q");
    datagram.extensions = vec![(44, vec![0; 6])];
    let fragmented = error(2, 0, 1300u32.to_be_bytes(), &datagram.emit().unwrap());
    assert_eq!(
        says(&other(&fragmented).unwrap()).2,
        [0, 0, 4, 248],
        "1,272: the fragment header goes, too"
    );
}

/// What has to be fragmented, and what is too big (RFC 7915 sections 4 and 5).
#[test]
fn lengths() {
    let packet = |length: usize, dont_fragment| {
        let mut datagram =
            Datagram::new(v4(1), v4(2), Transport::udp(1, 2)).with_payload(&vec![0; length - 28]);
        datagram.dont_fragment = dont_fragment;
        datagram.emit().unwrap()
    };
    let limits = Mtus {
        v4: 1400,
        v6: 1500,
        lowest_v6: 1280,
    };
    assert_eq!(to_other(&packet(1260, false), limits).unwrap().len(), 1280);
    assert_eq!(
        to_other(&packet(1261, false), limits),
        Err(Untranslatable::MustFragment { mtu: 1252 })
    );
    assert_eq!(to_other(&packet(1480, true), limits).unwrap().len(), 1500);
    assert_eq!(
        to_other(&packet(1481, true), limits),
        Err(Untranslatable::TooBig { mtu: 1480 })
    );
    let v6 = |length: usize| emit(v6(1), v6(2), Transport::udp(1, 2), &vec![0; length - 48]);
    assert_eq!(to_other(&v6(1420), limits).unwrap().len(), 1400);
    assert_eq!(
        to_other(&v6(1421), limits),
        Err(Untranslatable::TooBig { mtu: 1420 })
    );
    assert_eq!(other(&v6(65_555)).unwrap().len(), 65_535);
    assert_eq!(other(&v6(65_556)), Err(Untranslatable::TooLong));
    // "Don't fragment" above 1,260 bytes, an identification up to there.
    assert_eq!(other(&v6(1280)).unwrap()[4..8], [0x77, 0x77, 0, 0]);
    assert_eq!(other(&v6(1281)).unwrap()[4..8], [0, 0, 0x40, 0]);
    // The fragments that are asked for can be translated, and fit.
    let whole = Datagram::new(v4(1), v4(2), Transport::udp(1, 2)).with_payload(&[0; 4000]);
    for piece in whole.fragments(1252).unwrap() {
        let mut bytes = piece.clone();
        let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        let order = Translation::between(&frame.key(), &across(&frame.key()).unwrap());
        assert!(translate_with(&piece, &order).unwrap().len() <= 1280);
    }
}

/// Everything else that is refused, by name.
#[test]
fn refusals() {
    let mut routed = Datagram::new(v4(1), v4(2), Transport::udp(1, 2));
    routed.options = vec![131, 7, 4, 10, 0, 0, 1];
    assert_eq!(
        other(&routed.emit().unwrap()),
        Err(Untranslatable::SourceRoute { pointer: 0 })
    );
    // The pointer is beyond the option: the route has been taken.
    routed.options = vec![131, 7, 8, 10, 0, 0, 1];
    assert!(other(&routed.emit().unwrap()).is_ok());
    let mut routed = Datagram::new(v6(1), v6(2), Transport::udp(1, 2));
    routed.extensions = vec![(0, vec![]), (43, vec![4, 1])];
    assert_eq!(
        other(&routed.emit().unwrap()),
        Err(Untranslatable::SourceRoute { pointer: 51 })
    );
    routed.extensions = vec![(0, vec![]), (43, vec![4, 0]), (60, vec![])];
    let found = other(&routed.emit().unwrap()).unwrap();
    assert_eq!(
        (found.len(), found[9]),
        (28, 17),
        "extension headers are skipped"
    );

    let bare = |protocol| Transport::Other(Protocol(protocol));
    for protocol in [2, 0, 43, 44, 60, 58] {
        assert_eq!(
            other(&emit(v4(1), v4(2), bare(protocol), &[0; 20])),
            Err(Untranslatable::Protocol),
            "{protocol}"
        );
    }
    for protocol in [1, 2] {
        assert_eq!(
            other(&emit(v6(1), v6(2), bare(protocol), &[0; 20])),
            Err(Untranslatable::Protocol),
            "{protocol}"
        );
    }
    assert_eq!(
        other(&emit(v4(1), v4(2), bare(51), &[0; 20])),
        Err(Untranslatable::Authentication)
    );
    assert!(
        other(&emit(v4(1), v4(2), bare(50), &[0; 20])).is_ok(),
        "ESP passes"
    );

    let inner = error(3, 1, [0; 4], &quotable(4));
    assert_eq!(
        other(&error(11, 0, [0; 4], &inner)),
        Err(Untranslatable::Nested)
    );
    let mut corrupt = error(11, 0, [0; 4], &quotable(4));
    *corrupt.last_mut().unwrap() ^= 1;
    assert_eq!(other(&corrupt), Err(Untranslatable::Corrupt));
    assert_eq!(
        other(&error(11, 0, [0; 4], &quotable(4)[..24])),
        Err(Untranslatable::Quotation)
    );
    let short = emit(v4(1), v4(2), bare(6), &[0; 8]);
    assert_eq!(
        other(&short),
        Err(Untranslatable::Malformed(Defect::TcpTruncated))
    );

    let packet = quotable(4);
    let key: Tuple = "udp 198.51.100.1:4000 > 198.51.100.2:53".parse().unwrap();
    let same = Translation::between(&key, &key);
    assert_eq!(translate_with(&packet, &same), Err(Untranslatable::Target));
    let order = Translation::between(&key, &across(&key).unwrap());
    for room in 0..24 {
        let mut buffer = vec![0; room];
        buffer.extend(&packet);
        let end = buffer.len();
        let found = translate(&mut buffer, room..end, &Arrival::default(), &order);
        assert_eq!(
            found,
            if room < 20 {
                Err(Untranslatable::Room)
            } else {
                Ok(room - 20..end)
            }
        );
    }
}

/// Extensions of ICMP errors (RFC 4884): their offset is kept right, in the units of either family.
#[test]
fn extensions_follow() {
    let extension = [0x20, 0, 0xdf, 0xff, 1, 2, 3, 4];
    let mut quoted = quotable(4);
    quoted.resize(128, 0);
    let packet = error(11, 0, [0, 32, 0, 0], &[&quoted[..], &extension].concat());
    let found = other(&packet).unwrap();
    // 128 less 20 plus 40 is 148, which is padded to 152.
    assert_eq!(says(&found), (3, 0, [19, 0, 0, 0]));
    assert_eq!(found.len(), 40 + 8 + 152 + 8);
    assert!(found.ends_with(&extension));
    let mut quoted = quotable(6);
    quoted.resize(160, 0);
    let packet = error(1, 4, [20, 0, 0, 0], &[&quoted[..], &extension].concat());
    let found = other(&packet).unwrap();
    assert_eq!(says(&found), (3, 3, [0, 35, 0, 0]));
    assert_eq!(found.len(), 20 + 8 + 140 + 8);
    assert!(found.ends_with(&extension));
    // Where the other message has none, they go.
    let mut quoted = quotable(4);
    quoted.resize(128, 0);
    let packet = error(12, 0, [1, 32, 0, 0], &[&quoted[..], &extension].concat());
    assert_eq!(other(&packet).unwrap().len(), 40 + 8 + 148);
}

/// An error of any length becomes one of at most 1,280 bytes, with a right checksum.
#[test]
fn long_errors_are_cut() {
    for length in [548, 1232, 1240, 1472, 4000] {
        let inner = emit(v4(1), v4(2), Transport::udp(1, 2), &vec![3; length]);
        let found = other(&error(3, 1, [0; 4], &inner)).unwrap();
        assert_eq!(found.len(), (length + 96).min(1280));
        assert_eq!(says(&found), (1, 0, [0; 4]));
    }
}

/// A translated packet is its key's: the embedded addresses of RFC 6052 on one side, real ones on the other.
#[test]
fn frames_change_their_family_on_the_way() {
    let well_known = Embedding::WELL_KNOWN;
    let syn = Tcp {
        flags: TcpFlags::SYN,
        ..Tcp::new(40000, 443)
    };
    let server = well_known.embed([192, 0, 2, 33].into());
    let mut buffer = emit(v6(7), server.into(), syn.into(), b"");
    let mut frame: Frame = Frame::with_headroom(&mut buffer, 0, &Arrival::default()).unwrap();
    let from = frame.key();
    let real = well_known.cross(server.into()).unwrap();
    let to = crossed(&from, v4(1), real).unwrap();
    let to = to
        .with(
            Endpoint {
                port: 1024,
                ..to.source()
            },
            to.destination(),
        )
        .unwrap();
    frame.translate(&Translation::between(&from, &to)).unwrap();
    frame.set_hop_limit(63);
    assert_eq!(frame.key(), to);
    assert_eq!(frame.packet().len(), 40);
    assert!(frame.is_intact());
    assert_eq!(frame.tcp_flags(), TcpFlags::SYN);
    assert_eq!(frame.segment().unwrap().flags, TcpFlags::SYN);
    // The same frame goes back in the room that it made.
    frame.translate(&Translation::between(&to, &from)).unwrap();
    assert_eq!((frame.key(), frame.packet().len()), (from, 60));
    assert!(frame.is_intact());
}
