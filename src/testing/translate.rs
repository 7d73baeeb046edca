//! Translation between the families: its slow twin, and what it promises whatever the bytes.
//!
//! [`slow`] takes a packet apart by its bytes, builds the other family's with [`Datagram`], and sums everything in full.
//! [`translate`] takes any bytes; the first few choose the circumstances.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::frame::{mend, recompute};
use crate::key::{Endpoint, Family, FlowKey, Protocol, Tuple, crossed, icmp_counterpart};
use crate::packet::{Fragment, Mtus, Packet, Translation, Untranslatable};
use crate::wire::build::{Datagram, Transport};
use crate::wire::{Arrival, Checksums, Frame, HEADROOM};

/// Bytes of `data` that choose the circumstances.
pub const CHOICES: usize = 8;

/// The packet translated to the ends of `to`, its quotation to those of `quoted`, every checksum computed in full.
///
/// For intact packets that are no fragments, and ICMP errors that quote a whole packet and neither MTU, pointer nor extensions.
pub fn slow(packet: &[u8], to: &Tuple, quoted: Option<&Tuple>, identification: u16) -> Vec<u8> {
    anew(packet, to, quoted, identification, true)
}

/// [`slow`]; `sums` says whether a UDP datagram without a checksum gets one, as it does unless it is quoted.
fn anew(
    packet: &[u8],
    to: &Tuple,
    quoted: Option<&Tuple>,
    identification: u16,
    sums: bool,
) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (class, hop_limit, number, at, atomic) = if packet[0] >> 4 == 4 {
        let at = usize::from(packet[0] & 15) * 4;
        (packet[1], packet[8], packet[9], at, None)
    } else {
        let (mut next, mut at, mut atomic) = (packet[6], 40, None);
        while matches!(next, 0 | 43 | 44 | 60) {
            if next == 44 {
                atomic = Some(word(at + 6));
            }
            next = packet[at];
            at += match next {
                _ if atomic.is_some() => 8,
                _ => (usize::from(packet[at + 1]) + 1) * 8,
            };
        }
        ((word(0) >> 4) as u8, packet[7], next, at, atomic)
    };
    let mut body = packet[at..].to_vec();
    let icmp = Protocol(number).is_icmp();
    let number = to.protocol();
    if icmp {
        let old = if number == Protocol::ICMP {
            Protocol::ICMPV6
        } else {
            Protocol::ICMP
        };
        let (kind, code) = icmp_counterpart(old, body[0], body[1]).expect("a counterpart");
        if let Some(quoted) = quoted {
            let inner = anew(&body[8..], quoted, None, 0, false);
            body.truncate(8);
            body[4..].fill(0);
            body.extend(inner);
            body.truncate(1280 - 40);
        }
        body[..2].copy_from_slice(&[kind, code]);
    }
    if sums && number == Protocol::UDP && body[6..8] == [0, 0] && packet[0] >> 4 == 4 {
        // Anything but "no checksum".
        body[6] = 1;
    }
    let transport = match (number, to.source().port, to.destination().port) {
        (Protocol::SCTP, source, destination) => {
            let tag = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
            body.drain(..12);
            Transport::Sctp {
                source,
                destination,
                tag,
            }
        }
        _ => Transport::Other(number),
    };
    let total = 20 + packet.len() - at;
    let mut datagram = Datagram::new(to.source().address, to.destination().address, transport);
    datagram.hop_limit = hop_limit;
    datagram.traffic_class = class;
    datagram.dont_fragment = atomic.is_none() && total > 1260;
    datagram.identification = match atomic {
        Some(identification) => identification.into(),
        None if total > 1260 => 0,
        None => identification.into(),
    };
    let mut bytes = datagram.with_payload(&body).emit().expect("it fits");
    let at = if bytes[0] >> 4 == 4 { 20 } else { 40 };
    if number != Protocol::SCTP {
        recompute(&mut bytes, at, to);
    }
    bytes
}

/// Addresses that a translation goes to.
fn target(family: Family, choice: u8) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => (
            [0x0064, 0xff9b, 0, 0, 0, 0, 0xc000, choice.into()].into(),
            [0x2001, 0xdb8, 0, 0xffff, choice.into(), 0, 0, 1].into(),
        ),
        Family::V6 => ([198, 51, 100, choice].into(), [192, 0, 2, 33].into()),
    }
}

/// The key that a packet of `key` is to have.
fn aim(key: &Tuple, swap: bool, choice: u8, port: u16) -> Option<Tuple> {
    let (mut source, mut destination) = target(key.fields().family, choice);
    if swap {
        core::mem::swap(&mut source, &mut destination);
    }
    let to = crossed(key, source, destination).or_else(|| {
        key.with(
            Endpoint::new(source, key.source().port),
            Endpoint::new(destination, key.destination().port),
        )
    })?;
    let mut end = to.source();
    if key.protocol().has_ports() && key.source().port != 0 {
        end.port ^= port;
    }
    to.with(end, to.destination())
}

/// Translates whatever packet `data` holds, and back, and checks what must hold.
pub fn translate(data: &[u8]) {
    let Some((choices, bytes)) = data.split_first_chunk::<CHOICES>() else {
        return;
    };
    let [how, choice, p0, p1, i0, i1, m4, m6] = *choices;
    let mut bytes = bytes.to_vec();
    if how & 1 != 0 {
        mend(&mut bytes, 0);
        mend_error(&mut bytes);
    }
    let checksums = match how >> 1 & 3 {
        0 | 1 => Checksums::Full,
        2 => Checksums::Partial,
        _ => Checksums::Offloaded,
    };
    let mut arrival = Arrival::default().with_checksums(checksums);
    if how & 8 != 0 {
        arrival = arrival.cut_short();
    }
    arrival.fragmentable = how & 64 != 0;
    let room = if how & 16 != 0 {
        usize::from(choice) % HEADROOM
    } else {
        HEADROOM
    };
    let mut buffer = vec![0xa5; room];
    buffer.extend(&bytes);
    let before = buffer.clone();
    let Ok(old) = Frame::<Tuple>::ip(&mut bytes, &arrival) else {
        let tuple: Tuple = "tcp 10.0.0.1:1 > 10.0.0.2:2".parse().expect("a key");
        let order = Translation::between(&tuple, &tuple);
        let range = room..before.len();
        let found = crate::wire::translate(&mut buffer, range, &arrival, &order);
        assert!(
            matches!(found, Err(Untranslatable::Malformed(_))),
            "{found:?}"
        );
        assert_eq!(buffer, before);
        return;
    };
    let from = old.key();
    let Some(to) = aim(&from, false, choice, u16::from_be_bytes([p0, p1])) else {
        return;
    };
    let mut order = Translation::between(&from, &to);
    order.quoted = old
        .quoted()
        .and_then(|key| aim(&key, true, choice, u16::from_be_bytes([p0, p1])));
    order.identification = u16::from_be_bytes([i0, i1]);
    if how & 32 != 0 {
        let mtu = |m: u8| 1200 + u32::from(m) * 8;
        order.mtu = Mtus {
            v4: mtu(m4),
            v6: mtu(m6),
            lowest_v6: mtu(m6 / 2),
        };
    }
    let mut twin = buffer.clone();
    let end = room + old.packet().len();
    let found = crate::wire::translate(&mut buffer, room..before.len(), &arrival, &order);
    let mut frame = Frame::<Tuple>::with_headroom(&mut twin, room, &arrival).expect("as above");
    let same = frame.translate(&order);
    assert_eq!(same.err(), found.clone().err(), "a frame and bare bytes");
    let range = match found {
        Ok(range) => range,
        Err(why) => {
            assert_eq!(buffer, before, "a refusal changes nothing: {why}");
            let too_long = matches!(
                why,
                Untranslatable::TooBig { .. } | Untranslatable::MustFragment { .. }
            );
            assert!(!(too_long && arrival.fragmentable), "it will be cut");
            assert_eq!(frame.key(), from);
            assert_eq!(twin, before);
            return;
        }
    };
    assert_eq!(range.end, end);
    assert_eq!(frame.packet(), &buffer[range.clone()]);
    assert_eq!(buffer[end..], before[end..], "what lies behind it stays");
    let mut copy = buffer[range.clone()].to_vec();
    let new = Frame::<Tuple>::ip(&mut copy, &arrival).expect("a packet");
    assert_eq!(new.key(), frame.key());
    assert_eq!(new.defect(), None);
    assert_eq!(new.key(), to, "it has the new ends");
    assert_eq!(
        new.family() as u8 ^ old.family() as u8,
        Family::V4 as u8 ^ Family::V6 as u8
    );
    assert_eq!(
        (new.hop_limit(), new.traffic_class()),
        (old.hop_limit(), old.traffic_class())
    );
    assert_eq!(new.fragment().is_part(), old.fragment().is_part());
    let place = |frame: &Frame<'_>| {
        frame
            .piece()
            .map(|piece| (piece.offset, piece.more, piece.identification as u16))
    };
    assert_eq!(place(&new), place(&old));
    if order.quoted.is_some() {
        assert_eq!(new.quoted(), order.quoted, "and so has the quoted packet");
        assert!(new.length() <= 1280);
        assert!(new.is_intact());
        return;
    }
    if !new.protocol().is_icmp() || old.quoted().is_none() {
        assert_eq!(new.transport_length(), old.transport_length());
    }
    // Data that are all zero sum up to the wrong zero, and are right after any change.
    let zero = old.transport().iter().all(|byte| *byte == 0);
    if old.fragment() != Fragment::Later && new.transport().get(4).is_some() && !arrival.cut {
        assert!(
            zero || new.is_intact() == old.is_intact(),
            "as right as before"
        );
    }
    // And back: the transport is what it was.
    let unsummed = old.protocol() == Protocol::UDP && old.transport().get(6..8) == Some(&[0, 0]);
    if arrival.cut || unsummed {
        // It would have to be summed, and may not be there.
        return;
    }
    let mut back = Translation::between(&to, &from);
    // A long fragment from IPv6 would have to be cut up before it goes back.
    back.mtu.lowest_v6 = u32::MAX;
    let again = crate::wire::translate(&mut buffer, range, &arrival, &back).expect("the way back");
    let mut copy = buffer[again].to_vec();
    let again = Frame::<Tuple>::ip(&mut copy, &arrival).expect("a packet");
    assert_eq!(again.key(), from);
    let checksum = match old.protocol() {
        Protocol::TCP => 16,
        Protocol::UDP | Protocol::UDP_LITE | Protocol(33) => 6,
        Protocol::ICMP | Protocol::ICMPV6 => 2,
        _ => usize::MAX - 1,
    };
    let part = old.fragment() == Fragment::Later;
    for (i, (a, b)) in again.transport().iter().zip(old.transport()).enumerate() {
        // The two zeros of a checksum are one.
        let free = !part && (i == checksum || i == checksum + 1);
        assert!(
            a == b || free && (zero || old.is_intact() == again.is_intact()),
            "byte {i}"
        );
    }
}

/// Makes the checksum of an ICMP message right: few that chance gives would be.
fn mend_error(bytes: &mut [u8]) {
    let Ok(frame) = Frame::<Tuple>::ip(bytes, &Arrival::default()) else {
        return;
    };
    let (key, at) = (frame.key(), frame.packet().len() - frame.transport().len());
    let end = frame.packet().len();
    if !key.protocol().is_icmp() || frame.fragment().is_part() || end < at + 8 || frame.is_intact()
    {
        return;
    }
    let (source, destination) = (key.source().address, key.destination().address);
    let old = &bytes[at..end];
    let transport = Transport::Icmp {
        kind: old[0],
        code: old[1],
        rest: [old[4], old[5], old[6], old[7]],
    };
    let right = Datagram::new(source, destination, transport)
        .with_payload(&old[8..])
        .emit();
    if let Ok(right) = right {
        let from = right.len() - (end - at);
        let sum = [right[from + 2], right[from + 3]];
        bytes[at + 2..at + 4].copy_from_slice(&sum);
    }
}
