//! Answers: resets and errors, and when to be silent.

use super::*;
use gufc::verdict::Answer;
use gufc::wire::build::ethernet;
use gufc::wire::{ANSWER_MAX, Link, Notice, Unanswered};

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
                assert!(frame.dont_fragment() && frame.traffic_class() == 0);
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
            let mut datagram = between_two(v6, Transport::udp(1, 2));
            datagram.traffic_class = 0x29;
            let bytes = datagram.with_payload(&vec![1; payload]).emit().unwrap();
            let mut error = answer(&bytes, Link::Ip, notice).unwrap();
            let header = if v6 { 40 } else { 20 };
            assert_eq!(error.len(), limit.min(header + 8 + bytes.len()));
            let class = if v6 { 0 } else { 0xc8 };
            assert_eq!(error[header + 8..], bytes[..error.len() - header - 8]);
            let [kind, code, rest @ ..] = head;
            assert_eq!(error[header..header + 2], [kind, code]);
            assert_eq!(error[header + 4..header + 8], rest);
            let frame: Frame = Frame::ip(&mut error, &Arrival::default()).unwrap();
            assert_eq!((frame.traffic_class(), frame.dont_fragment()), (class, v6));
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
