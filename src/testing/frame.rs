//! What every frame promises, whatever its bytes: called by the fuzz target, by property tests and on kept samples.
//!
//! [`frame`] takes any bytes. The first few choose the circumstances and a rewrite, the rest is the frame. It panics where a
//! law of [`Packet`] is broken; the slow twin of rewriting is [`recompute`].

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::key::{Endpoint, Family, FlowKey, Protocol, Tuple};
use crate::packet::{Fragment, Packet, Rewrite};
use crate::verdict::Answer;
use crate::wire::{ANSWER_MAX, Arrival, Checksums, Frame, Link, Notice, Unanswered};

/// Bytes of `data` that choose the circumstances.
pub const CHOICES: usize = 12;

/// Parses `data` and does to it all that can be done to a frame.
pub fn frame(data: &[u8]) {
    let Some((choices, bytes)) = data.split_first_chunk::<CHOICES>() else {
        return;
    };
    let [how, ttl, mss, ports @ .., end] = choices;
    let link = match how & 3 {
        0 => Link::Ip,
        1 => Link::Ethernet,
        2 => Link::Cooked,
        _ => Link::Cooked2,
    };
    let checksums = match how >> 2 & 3 {
        0 | 1 => Checksums::Full,
        2 => Checksums::Partial,
        _ => Checksums::Offloaded,
    };
    let mut arrival = Arrival::default().with_checksums(checksums);
    if how & 0x10 != 0 {
        arrival = arrival.cut_short();
    }
    let mut bytes = bytes.to_vec();
    if how & 0x20 != 0 {
        mend(&mut bytes, [0, 14, 16, 20][usize::from(how & 3)]);
    }
    let before = bytes.clone();
    let Ok(mut frame) = Frame::<Tuple>::parse(link, &mut bytes, &arrival) else {
        assert_eq!(bytes, before, "reading changes nothing");
        return;
    };
    read_all(&frame);
    answers(&frame);
    let to = changed(&frame.key(), ports, *end);
    rewrites(&mut frame, &to);
    let quoted = frame.quoted();
    let bytes_before = frame.packet().to_vec();
    let intact = frame.is_intact();
    if let Some(quoted) = quoted {
        let to = changed(&quoted, ports, *end);
        if frame.rewrite_quoted(&Rewrite::between(&quoted, &to)) {
            assert_eq!(
                frame.quoted(),
                Some(to),
                "the quoted packet has the new ends"
            );
            assert!(frame.rewrite_quoted(&Rewrite::between(&to, &quoted)));
            assert_eq!(
                frame.quoted(),
                Some(quoted),
                "and can be given the old ones"
            );
        } else {
            assert_eq!(frame.packet(), bytes_before, "a refusal changes nothing");
        }
    } else {
        assert!(!frame.rewrite_quoted(&Rewrite::between(&to, &to)));
    }
    assert_eq!(frame.is_intact(), intact);
    frame.set_hop_limit(*ttl);
    assert_eq!(frame.hop_limit(), *ttl);
    let bytes_before = frame.packet().to_vec();
    if !frame.clamp_mss(u16::from(*mss) * 16) {
        assert_eq!(frame.packet(), bytes_before);
    } else if let Some(segment) = frame.segment() {
        assert!(segment.options.mss.is_some());
    }
    assert_eq!(frame.is_intact(), intact, "checksums as right as before");
    if let Some(segment) = frame.segment().filter(|_| frame.defect().is_none()) {
        assert!(frame.renumber(&segment));
        assert_eq!(frame.segment(), Some(segment));
    }
    splices(&mut frame, ports);
}

/// Exchanges a few bytes anywhere for fewer, as many, or more.
fn splices(frame: &mut Frame<'_>, choices: &[u8; 8]) {
    let [from, length, size, rest @ ..] = choices;
    let before = frame.packet().to_vec();
    let (intact, key) = (frame.is_intact(), frame.key());
    let at = before.len() - frame.transport().len();
    let from = usize::from(*from) % (frame.transport().len() + 2);
    let to = from + usize::from(*length) % 9;
    let new = &rest[..usize::from(*size) % (rest.len() + 1)];
    if frame.splice(from..to, new).is_err() {
        assert_eq!(frame.packet(), before, "a refusal changes nothing");
        return;
    }
    assert_eq!(&frame.packet()[at + from..][..new.len()], new);
    assert_eq!(frame.packet()[at + from + new.len()..], before[at + to..]);
    assert_eq!(frame.packet().len() as u32, frame.length());
    assert_eq!(frame.is_intact(), intact);
    let arrival = *frame.arrival();
    let mut bytes = frame.packet().to_vec();
    let read = Frame::<Tuple>::ip(&mut bytes, &arrival).expect("still a packet");
    assert_eq!(read.key(), key);
    assert_eq!(read.defect(), None);
}

/// Makes the checksum of an IPv4 header at `at` right: few bytes that chance gives would get past it.
pub fn mend(bytes: &mut [u8], at: usize) {
    let Some(packet) = bytes.get_mut(at..) else {
        return;
    };
    let header = usize::from(packet.first().unwrap_or(&0) & 15) * 4;
    if header >= 20 && packet.len() >= header && packet[0] >> 4 == 4 {
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = !slow_sum(&packet[..header]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Calls every reading method, twice where it answers something.
fn read_all(frame: &Frame<'_>) {
    assert_eq!(frame.key(), frame.key());
    assert_eq!(frame.quoted(), frame.quoted());
    assert_eq!(frame.segment(), frame.segment());
    let key = frame.key();
    assert_eq!(key.protocol(), frame.protocol());
    assert_eq!(key.fields().family, frame.family());
    assert!(frame.packet().len() as u32 <= frame.length());
    assert!(frame.transport().len() as u32 <= frame.transport_length());
    assert_eq!(frame.piece().is_some(), frame.fragment().is_part());
    assert!(frame.vlan().len() <= 2 && frame.link_length() <= 22);
    if frame.defect().is_none() && frame.protocol() == Protocol::TCP {
        assert_eq!(frame.segment().is_some(), !frame.fragment().is_part());
    }
    if let Some(segment) = frame.segment() {
        assert_eq!(segment.flags, frame.tcp_flags());
        let header = 20 + u32::from(segment.options.length);
        assert_eq!(header + segment.payload, frame.transport_length());
    }
    let _ = (
        frame.traffic_class(),
        frame.dont_fragment(),
        frame.is_intact(),
    );
}

/// A key that `key` may be rewritten to, chosen by a few bytes.
fn changed(key: &Tuple, ports: &[u8; 8], end: u8) -> Tuple {
    let [s0, s1, d0, d1, a0, a1, a2, a3] = *ports;
    let (source, destination) = (key.source(), key.destination());
    let change = |address: IpAddr, a: u8, b: u8| match address {
        IpAddr::V4(address) => {
            IpAddr::from((address.to_bits() ^ u32::from_be_bytes([a, 0, 0, b])).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::from(a) << 112 | u128::from(b);
            IpAddr::from((address.to_bits() ^ mask).to_be_bytes())
        }
    };
    let protocol = key.protocol();
    // What stands for ports changes only where there is some; an ICMP message keeps its type, and changes its identifier
    // only if it has one.
    let [s, d] = match protocol {
        Protocol::ICMP | Protocol::ICMPV6 => {
            let [kind, code] = destination.port.to_be_bytes();
            let id = match crate::key::icmp_answer(protocol, kind) {
                Some(_) => u16::from_be_bytes([s0, s1]),
                None => 0,
            };
            [id, u16::from_be_bytes([kind, code ^ end])]
        }
        protocol if protocol.has_ports() => {
            [u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])]
        }
        _ => [0, 0],
    };
    key.with(
        Endpoint::new(change(source.address, a0, a1), s),
        Endpoint::new(change(destination.address, a2, a3), d),
    )
    .unwrap_or(*key)
}

/// Rewrites to `to`, compares with the slow twin, and goes back.
fn rewrites(frame: &mut Frame<'_>, to: &Tuple) {
    let from = frame.key();
    let (before, intact) = (frame.packet().to_vec(), frame.is_intact());
    let (fragment, defect, quoted) = (frame.fragment(), frame.defect(), frame.quoted());
    // Its checksum is the wrong zero, and becomes right by any change.
    let zero = frame.transport().iter().all(|byte| *byte == 0);
    frame.rewrite(&Rewrite::between(&from, &from));
    assert_eq!(frame.key(), from);
    frame.rewrite(&Rewrite::between(&from, to));
    let has_ends = has_ends(frame);
    let expected = if has_ends {
        *to
    } else {
        let bare = |end: Endpoint| Endpoint::new(end.address, 0);
        to.with(bare(to.source()), bare(to.destination()))
            .unwrap_or(*to)
    };
    assert_eq!(frame.key(), expected);
    assert!(
        frame.is_intact() == intact || zero,
        "a checksum is as right as before"
    );
    assert_eq!((frame.fragment(), frame.defect()), (fragment, defect));
    // A redirect quotes only while its code is 0, and the code may have changed.
    let redirect = frame.protocol() == Protocol::ICMPV6 && frame.transport().first() == Some(&137);
    assert!(redirect || frame.quoted().is_some() == quoted.is_some());

    let mut copy = frame.packet().to_vec();
    let mut arrival = *frame.arrival();
    arrival.cut = true;
    let again = Frame::<Tuple>::ip(&mut copy, &arrival).expect("still a packet");
    assert_eq!(again.key(), expected, "the bytes say what the key says");
    assert_eq!(again.defect(), defect);

    let plain = fragment != Fragment::First && fragment != Fragment::Later && defect.is_none();
    if plain && intact && frame.arrival().checksums == Checksums::Full && !frame.arrival().cut {
        let mut slow = before.clone();
        let at = before.len() - frame.transport().len();
        if recompute(&mut slow, at, &expected) {
            assert!(
                same(frame.packet(), &slow, at, frame.protocol()),
                "as computed in full"
            );
        }
    }
    frame.rewrite(&Rewrite::between(&expected, &from));
    assert_eq!(frame.key(), from, "and back");
}

/// Whether the frame has ports, or what stands for them.
fn has_ends(frame: &Frame<'_>) -> bool {
    let needed = match frame.protocol() {
        protocol if protocol.has_ports() => 4,
        protocol if protocol.is_icmp() => 8,
        _ => return false,
    };
    frame.fragment() != Fragment::Later && frame.transport().len() >= needed
}

/// Whether two packets are equal, the two forms of zero in a checksum counting as one.
fn same(a: &[u8], b: &[u8], transport: usize, protocol: Protocol) -> bool {
    let at = transport
        + match protocol {
            Protocol::TCP => 16,
            Protocol::UDP | Protocol::UDP_LITE => 6,
            _ => 2,
        };
    let zero =
        |bytes: &[u8], at: usize| matches!(bytes.get(at..at + 2), Some([0, 0] | [0xff, 0xff]));
    a.len() == b.len()
        && (0..a.len()).all(|i| {
            a[i] == b[i]
                || [10, at]
                    .iter()
                    .any(|at| (i == *at || i == at + 1) && zero(a, *at) && zero(b, *at))
        })
}

/// The slow twin: puts the ends of `to` into the packet, whose transport header lies at `at`, and computes every checksum in
/// full, word by word. False for packets whose checksum it does not compute (a routing header, a source route, a length of
/// UDP's own).
pub fn recompute(packet: &mut [u8], at: usize, to: &Tuple) -> bool {
    let fields = to.fields();
    let octets = |bits: u128| match fields.family {
        Family::V4 => ((bits >> 96) as u32).to_be_bytes().to_vec(),
        Family::V6 => bits.to_be_bytes().to_vec(),
    };
    let mut pseudo: Vec<u8> = [octets(fields.source), octets(fields.destination)].concat();
    match fields.family {
        Family::V4 => {
            if packet[0] & 15 != 5 {
                return false;
            }
            packet[12..20].copy_from_slice(&pseudo);
            packet[10..12].copy_from_slice(&[0, 0]);
            let sum = !slow_sum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Family::V6 => {
            if packet[6] == 43 || at > 40 {
                return false;
            }
            packet[8..40].copy_from_slice(&pseudo);
        }
    }
    let transport = &mut packet[at..];
    let mut length = transport.len();
    let (source, destination) = (
        fields.source_port.to_be_bytes(),
        fields.destination_port.to_be_bytes(),
    );
    let place = match fields.protocol {
        Protocol::TCP => 16,
        Protocol::UDP | Protocol::UDP_LITE => 6,
        Protocol::ICMP | Protocol::ICMPV6 => 2,
        _ => return fields.protocol != Protocol::SCTP,
    };
    if fields.protocol.is_icmp() {
        transport[..2].copy_from_slice(&destination);
        if crate::key::icmp_answer(fields.protocol, destination[0]).is_some() {
            transport[4..6].copy_from_slice(&source);
        }
    } else {
        transport[..2].copy_from_slice(&source);
        transport[2..4].copy_from_slice(&destination);
    }
    if fields.protocol == Protocol::ICMP {
        pseudo.clear();
    } else {
        pseudo.extend((length as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, fields.protocol.0]);
    }
    if matches!(fields.protocol, Protocol::UDP | Protocol::UDP_LITE) {
        let stated = usize::from(u16::from_be_bytes([transport[4], transport[5]]));
        if fields.protocol == Protocol::UDP && (stated != length || transport[6..8] == [0, 0]) {
            return transport[6..8] == [0, 0];
        }
        if stated != 0 {
            length = stated;
        }
    }
    transport[place..place + 2].copy_from_slice(&[0, 0]);
    let sum = !slow_sum(&[&pseudo, &transport[..length]].concat());
    transport[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// One's-complement sum by its definition.
fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Asks for every answer: each is a whole and intact packet to the frame's sender, and errors among them get no answer.
fn answers(frame: &Frame<'_>) {
    let from: IpAddr = match frame.family() {
        Family::V4 => [192, 0, 2, 1].into(),
        Family::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    let sender = frame.key().source().address;
    for notice in [
        Notice::Rejected(Answer::TcpReset),
        Notice::Rejected(Answer::AdminProhibited),
        Notice::HopLimitExceeded,
        Notice::TooBig { mtu: 1280 },
    ] {
        let mut out = [0; ANSWER_MAX];
        match frame.answer(notice, from, &mut out) {
            Err(Unanswered::Room | Unanswered::Family) => panic!("there is room enough"),
            Err(_) => continue,
            Ok(length) => {
                let answer =
                    Frame::<Tuple>::ip(&mut out[..length], &Arrival::default()).expect("a packet");
                assert_eq!(answer.key().destination().address, sender);
                assert_eq!(answer.defect(), None);
                assert!(answer.is_intact());
                let mut more = [0; ANSWER_MAX];
                match notice {
                    Notice::Rejected(Answer::TcpReset) => {
                        let reset = answer.answer(notice, sender, &mut more);
                        assert!(reset.is_err(), "a reset for a reset");
                    }
                    _ => {
                        assert!(
                            answer.answer(notice, sender, &mut more).is_err(),
                            "an error for an error"
                        );
                        // A later fragment has no quotable ends, nor has a chain of extension headers that is longer than
                        // an answer may quote.
                        let reach = frame.packet().len() - frame.transport().len();
                        let quotable = answer.transport().len() - 8;
                        let whole = quotable == frame.packet().len();
                        if frame.fragment() == Fragment::Whole
                            && frame.link_length() == 0
                            && (whole || reach + 8 <= quotable)
                        {
                            let quoted = answer
                                .quoted()
                                .map(|quoted| (quoted.source(), quoted.destination()));
                            let key = frame.key();
                            assert_eq!(quoted, Some((key.source(), key.destination())));
                        }
                    }
                }
            }
        }
        for short in [0, 19, 30, 47, 60] {
            let _ = frame.answer(notice, from, &mut out[..short]);
        }
    }
}
