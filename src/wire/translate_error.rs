//! Translating ICMP errors: their type and code, what they point at, the packet that they quote, and extensions behind it.
//!
//! Apart from the translation of other packets because an error has two network headers to exchange, is rare and short, and so
//! is written anew, at most 1,280 bytes of it, rather than changed in place.
//!
//! ```text
//!  | type, code, checksum, 4 more | quoted packet, zeros up to the stated length | extensions (RFC 4884) |
//! ```

use super::layout::{Layout, be16, bytes_at, put_at};
use super::rewrite::Patch;
use super::translate::{DCCP, Facts, GROWTH, MTU_MIN_V4, MTU_MIN_V6, Order, dccp, query, write};
use super::{Checksums, checksum, ipv4, ipv6, quote};
use crate::key::{Family, Fields, Protocol, icmp_counterpart};
use crate::packet::{Fragment, Mtus, Untranslatable};

/// Bytes before the quoted packet.
const ICMP: usize = 8;
/// Bytes that a quotation with extensions behind it has at least (RFC 4884 section 3).
const EXTENDED_MIN: usize = 128;

/// Path MTUs that a router which states none may mean (RFC 1191 section 7.1).
const PLATEAUS: [u16; 10] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296];

/// A message in the making.
pub(super) struct Message {
    bytes: [u8; MTU_MIN_V6 as usize],
    length: usize,
    limit: usize,
}

impl Message {
    fn new(limit: usize) -> Self {
        Self {
            bytes: [0; MTU_MIN_V6 as usize],
            length: ICMP,
            limit,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// Bytes from `at` on.
    fn behind(&mut self, at: usize) -> &mut [u8] {
        self.bytes.get_mut(at..self.length).unwrap_or(&mut [])
    }

    /// Adds as much as fits.
    fn push(&mut self, bytes: &[u8]) {
        let at = self.length;
        self.length = (at + bytes.len()).min(self.limit);
        write(self.behind(at), bytes.iter());
    }

    /// Adds zeros, as many as fit.
    fn pad(&mut self, to: usize) {
        self.length = self.length.max(to.min(self.limit));
    }
}

/// The translation of the ICMP error in `packet`, with `kind` for its type and code.
#[inline(never)]
pub(super) fn error(
    packet: &[u8],
    layout: &Layout,
    kind: (u8, u8),
    checksums: Checksums,
    order: &Order,
) -> Result<Message, Untranslatable> {
    let message = packet.get(usize::from(layout.transport)..).unwrap_or(&[]);
    let length = layout.transport_length();
    if message.len() < length as usize {
        return Err(Untranslatable::Cut);
    }
    if checksums == Checksums::Full {
        let pseudo = match layout.family {
            Family::V4 => 0,
            Family::V6 => pseudo(packet, length),
        };
        if checksum::add(checksum::sum(message), pseudo) != 0xffff {
            return Err(Untranslatable::Corrupt);
        }
    }
    let (quoted, extensions) = split(message, layout.family);
    let inner = Inner::read(quoted, layout.family, order)?;
    let mut new = Message::new(MTU_MIN_V6 as usize - 40);
    let head = inner
        .facts
        .head_to(&inner.to, 0, inner.layout.transport_length())
        .map_err(|_| Untranslatable::Quotation)?;
    new.push(head.bytes());
    let begin = new.length;
    new.push(
        quoted
            .get(usize::from(inner.layout.transport)..)
            .unwrap_or(&[]),
    );
    let places = |bytes: &[u8], family| {
        let place = match family {
            Family::V4 => 12..20,
            Family::V6 => 8..40,
        };
        checksum::sum(bytes.get(place).unwrap_or(&[]))
    };
    let addresses = checksum::difference(
        places(quoted, layout.family),
        places(head.bytes(), order.to.family),
    );
    inner.carry(quoted, new.behind(begin), addresses);
    let units = extend(&mut new, extensions, order.to.family, kind);
    let rest = rest(message, layout.family, kind, units, &inner, &order.mtu)?;
    put_at(&mut new.bytes, 0, [kind.0, kind.1, 0, 0]);
    put_at(&mut new.bytes, 4, rest);
    let pseudo = match order.to.family {
        Family::V4 => 0,
        Family::V6 => pseudo_of(&order.to, new.length as u32),
    };
    let sum = match checksums {
        Checksums::Partial => pseudo,
        Checksums::Full | Checksums::Offloaded => {
            !checksum::add(checksum::sum(new.bytes()), pseudo)
        }
    };
    put_at(&mut new.bytes, 2, sum.to_be_bytes());
    Ok(new)
}

/// The quoted packet, read.
struct Inner {
    layout: Layout,
    facts: Facts,
    to: Fields,
    /// Type and code that it gets if it is an ICMP message.
    kind: Option<(u8, u8)>,
}

impl Inner {
    fn read(quoted: &[u8], family: Family, order: &Order) -> Result<Self, Untranslatable> {
        let quotation = Untranslatable::Quotation;
        let layout = match family {
            Family::V4 => ipv4::read(quoted).map_err(|_| quotation)?.layout,
            Family::V6 => ipv6::read(quoted).map_err(|_| quotation)?.layout,
        };
        let facts = Facts::read(quoted, &layout).ok_or(quotation)?;
        let to = order.quoted.ok_or(quotation)?;
        let transport = quoted
            .get(usize::from(layout.transport)..)
            .ok_or(quotation)?;
        let known = to.family != family && to.protocol == facts.protocol;
        if !known
            || layout.defect.is_some()
            || layout.routed
            || facts.passable(quoted, &layout).is_err()
        {
            return Err(quotation);
        }
        let icmp = layout.protocol.is_icmp();
        let has_ends = (icmp || layout.protocol.has_ports()) && layout.fragment != Fragment::Later;
        if has_ends && transport.len() < 8 || icmp && layout.fragment.is_part() {
            return Err(quotation);
        }
        let kind = match transport {
            [kind, code, ..] if icmp => {
                if quote::begin(transport, layout.protocol).is_some() {
                    return Err(Untranslatable::Nested);
                }
                Some(icmp_counterpart(layout.protocol, *kind, *code).ok_or(quotation)?)
            }
            _ => None,
        };
        Ok(Self {
            layout,
            facts,
            to,
            kind,
        })
    }

    /// Changes the quoted transport header, and its checksum as far as both are quoted.
    fn carry(&self, quoted: &[u8], transport: &mut [u8], addresses: u16) {
        let length = self.layout.transport_length();
        if let Some(kind) = self.kind {
            let pseudo = match self.layout.family {
                Family::V4 => pseudo_of(&self.to, length),
                Family::V6 => !pseudo(quoted, length),
            };
            query(transport, kind, &self.to, pseudo, Checksums::Full);
            return;
        }
        if self.layout.fragment == Fragment::Later {
            return;
        }
        let [s0, s1, d0, d1] = bytes_at(transport, 0).unwrap_or_default();
        let ports = checksum::add(
            checksum::difference(be16(s0, s1), self.to.source_port),
            checksum::difference(be16(d0, d1), self.to.destination_port),
        );
        let patch = Patch {
            to: self.to,
            changes_address: true,
            changes_port: true,
            addresses,
            ports,
        };
        let whole = (self.layout.fragment != Fragment::First).then_some(length);
        patch.transport(transport, addresses, Checksums::Full, whole);
        if self.layout.protocol == DCCP {
            dccp(transport, addresses, Checksums::Full);
        }
    }
}

/// What is quoted, and the extensions behind it if the message says where they begin (RFC 4884 section 4): in units of four
/// bytes in ICMP's byte 5, of eight in ICMPv6's byte 4.
fn split(message: &[u8], family: Family) -> (&[u8], Option<&[u8]>) {
    let behind = message.get(ICMP..).unwrap_or(&[]);
    let (kind, four, eight) = match message {
        [kind, _, _, _, eight, four, ..] => (*kind, *four, *eight),
        _ => return (behind, None),
    };
    let length = match (family, kind) {
        (Family::V4, 3 | 11 | 12) => usize::from(four) * 4,
        (Family::V6, 1 | 3) => usize::from(eight) * 8,
        _ => 0,
    };
    if length < EXTENDED_MIN {
        return (behind, None);
    }
    match (behind.get(..length), behind.get(length..)) {
        (Some(quoted), Some(extensions)) => (quoted, Some(extensions)),
        _ => (behind, None),
    }
}

/// Puts the extensions behind the quoted packet, where the new message can have some and they fit; gives the length of the
/// quotation in the new family's units, 0 without.
fn extend(new: &mut Message, extensions: Option<&[u8]>, to: Family, kind: (u8, u8)) -> u8 {
    let (possible, unit) = match (to, kind) {
        (Family::V4, (3 | 11, _)) => (true, 4),
        (Family::V6, (1 | 3, _)) => (true, 8),
        _ => (false, 1),
    };
    let quotation = (new.length - ICMP).max(EXTENDED_MIN).next_multiple_of(unit);
    match (extensions, u8::try_from(quotation / unit)) {
        (Some(extensions), Ok(units))
            if possible && ICMP + quotation + extensions.len() <= new.limit =>
        {
            new.pad(ICMP + quotation);
            new.push(extensions);
            units
        }
        _ => 0,
    }
}

/// The four bytes behind the checksum: a pointer, an MTU, or the length of the quotation.
fn rest(
    message: &[u8],
    family: Family,
    kind: (u8, u8),
    units: u8,
    inner: &Inner,
    mtu: &Mtus,
) -> Result<[u8; 4], Untranslatable> {
    let old = bytes_at::<4>(message, 4).unwrap_or_default();
    Ok(match (family, kind) {
        (Family::V4, (2, _)) => {
            let [_, _, a, b] = old;
            let path = path_mtu_v4(be16(a, b), inner.layout.length);
            mtu_to_v6(path, mtu).to_be_bytes()
        }
        (Family::V4, (4, 0)) => {
            let [pointer, ..] = old;
            let pointer = pointer_to_v6(pointer).ok_or(Untranslatable::IcmpPointer)?;
            [0, 0, 0, pointer]
        }
        // The protocol was unknown; in IPv6 that is the next header at 6.
        (Family::V4, (4, _)) => [0, 0, 0, 6],
        (Family::V4, _) => [units, 0, 0, 0],
        (Family::V6, (3, 4)) => {
            let fragment = inner.layout.fragment_at != 0;
            let [a, b] = mtu_to_v4(u32::from_be_bytes(old), fragment, mtu).to_be_bytes();
            [0, 0, a, b]
        }
        (Family::V6, (12, _)) => {
            let pointer = pointer_to_v4(u32::from_be_bytes(old));
            [pointer.ok_or(Untranslatable::IcmpPointer)?, 0, 0, 0]
        }
        (Family::V6, _) => [0, units, 0, 0],
    })
}

/// The MTU that a router states, or, where it states none, the next plateau below the packet's length (RFC 1191 section 5).
fn path_mtu_v4(stated: u16, length: u32) -> u32 {
    match stated {
        0 => PLATEAUS
            .iter()
            .map(|plateau| u32::from(*plateau))
            .find(|plateau| *plateau < length)
            .unwrap_or(MTU_MIN_V4),
        stated => u32::from(stated),
    }
}

/// Never below 1,280: a host would discard that (RFC 8201 section 4).
fn mtu_to_v6(path: u32, mtu: &Mtus) -> u32 {
    let near = mtu.v4.saturating_add(GROWTH).min(mtu.v6);
    (path + GROWTH).min(near).max(MTU_MIN_V6)
}

/// Less a fragment header, too, if the packet had one.
fn mtu_to_v4(path: u32, fragment: bool, mtu: &Mtus) -> u16 {
    let shrinkage = if fragment { GROWTH + 8 } else { GROWTH };
    let near = mtu.v6.saturating_sub(GROWTH).min(mtu.v4);
    let mtu = path.saturating_sub(shrinkage).min(near).max(MTU_MIN_V4);
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// Figure 3 of RFC 7915.
const fn pointer_to_v6(pointer: u8) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        2 | 3 => 4,
        8 => 7,
        9 => 6,
        12..=15 => 8,
        16..=19 => 24,
        _ => return None,
    })
}

/// Figure 6 of RFC 7915.
const fn pointer_to_v4(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}

/// The pseudo header's sum of the ICMPv6 message in an IPv6 packet.
pub(super) fn pseudo(packet: &[u8], length: u32) -> u16 {
    let address = |at| bytes_at::<16>(packet, at).unwrap_or_default().into();
    checksum::pseudo_v6(address(8), address(24), Protocol::ICMPV6, length)
}

/// The same between the ends of a key.
pub(super) fn pseudo_of(ends: &Fields, length: u32) -> u16 {
    let (source, destination) = (ends.source.into(), ends.destination.into());
    checksum::pseudo_v6(source, destination, Protocol::ICMPV6, length)
}
