//! Translating packets between IPv4 and IPv6 in place (RFC 7915): the wire half of NAT64 and of stateless translation.
//!
//! Apart from rewriting because the network header is exchanged for another one, of another length. The payload stays where it
//! is, and the headers are written before it: the packet's end is fixed, its begin moves.
//!
//! ```text
//!  IPv4 to IPv6   | headroom   [ IPv4, options ][ transport, payload ]|
//!                 | [ IPv6 ][ fragment header? ][ transport, payload ]|      begins 20 bytes earlier, 28 with fragment header
//!
//!  an error       | headroom [ IPv4 ][ ICMP 8 ][ IPv4 ][ transport ... ]|
//!                 | [ IPv6 ][ ICMPv6 8 ][ IPv6 ][ transport ...        ]|    up to HEADROOM bytes earlier
//! ```
//!
//! Ordinary packets cost what their headers cost, whatever their length, as every checksum changes by a difference. Only a UDP
//! datagram without a checksum and ICMP errors are summed in full.

use core::ops::Range;

use super::layout::{DATAGRAM_MAX, Layout, be16, bytes_at, put_at, word_at};
use super::rewrite::{Patch, fix};
use super::translate_error::{error, pseudo, pseudo_of};
use super::{Arrival, Checksums, Frame, FrameKey, checksum, ipv4, ipv6, trim};
use crate::key::{Endpoint, Family, Fields, FlowKey, Protocol, icmp_counterpart};
use crate::packet::{Defect, Fragment, Mtus, Translation, Untranslatable};

/// Bytes before a packet that always suffice to translate it: two IPv6 headers for IPv4 ones, a fragment header in the quoted
/// packet, and the padding of a quotation with extensions behind it.
pub const HEADROOM: usize = 56;

/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER: u32 = 8;
/// An IPv4 packet that was IPv6 may be fragmented up to this length (RFC 7915 section 5.1).
const FRAGMENTABLE_MAX: u32 = 1260;
/// IPv6's smallest MTU.
pub(super) const MTU_MIN_V6: u32 = 1280;
/// IPv4's.
pub(super) const MTU_MIN_V4: u32 = 68;
/// Its checksum includes a pseudo header, and lies where UDP's does (RFC 4340 section 9.1).
pub(super) const DCCP: Protocol = Protocol(33);
/// IPv6's authentication and routing headers.
const AUTHENTICATION: u8 = 51;
const ROUTING: u8 = 43;
/// The difference of the two header sizes.
pub(super) const GROWTH: u32 = 20;

/// Translates the packet at `packet` of `buffer` to the other family, and says where it lies afterwards: it ends where it
/// ended, and begins earlier or later.
///
/// [`Frame::with_headroom`](super::Frame::with_headroom) does the same for a packet on its way through hooks. `arrival` counts
/// as for a frame: whose business the checksums are, and whether bytes may be missing.
///
/// ```
/// use gufc::key::{Embedding, FlowKey, crossed};
/// use gufc::packet::{Packet, Translation};
/// use gufc::wire::build::{Datagram, Transport};
/// use gufc::wire::{Arrival, Frame, HEADROOM, translate};
///
/// // A query of an IPv6 host to 192.0.2.53, behind a translator that has 198.51.100.1.
/// let query = Datagram::new("2001:db8::7".parse()?, "64:ff9b::192.0.2.53".parse()?, Transport::udp(4000, 53));
/// let mut buffer = [0; HEADROOM + 60];
/// let packet = query.with_payload(b"0123456789ab").emit()?;
/// buffer[HEADROOM..].copy_from_slice(&packet);
///
/// let from = Frame::<gufc::key::Tuple>::ip(&mut buffer[HEADROOM..], &Arrival::default())?.key();
/// let server = Embedding::WELL_KNOWN.cross(from.destination().address).unwrap();
/// let to = crossed(&from, "198.51.100.1".parse()?, server).unwrap();
/// let outside = translate(&mut buffer, HEADROOM..HEADROOM + 60, &Arrival::default(), &Translation::between(&from, &to))?;
/// assert_eq!(outside.len(), 40);
///
/// let frame: Frame = Frame::ip(&mut buffer[outside.clone()], &Arrival::default())?;
/// assert_eq!(frame.key().to_string(), "udp 198.51.100.1:4000 > 192.0.2.53:53");
/// assert!(frame.is_intact());
///
/// // Back again: the very same bytes.
/// let inside = translate(&mut buffer, outside, &Arrival::default(), &Translation::between(&to, &from))?;
/// assert_eq!(buffer[inside], packet);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Errors
///
/// Why the packet cannot be translated; then nothing has changed.
///
/// Cost: O(1) for IPv4, O(extension headers) for IPv6, whatever the payload; SCTP's checksum takes O(log length) steps. One
/// pass over a UDP datagram that has no checksum and comes from IPv4; two over an ICMP error, which is cut to 1,280 bytes.
pub fn translate<K: FlowKey>(
    buffer: &mut [u8],
    packet: Range<usize>,
    arrival: &Arrival,
    translation: &Translation<K>,
) -> Result<Range<usize>, Untranslatable> {
    let malformed = Untranslatable::Malformed;
    let bytes = buffer
        .get_mut(packet.clone())
        .ok_or(malformed(Defect::LinkTruncated))?;
    let (layout, short) = match bytes.first().map(|first| first >> 4) {
        Some(4) => {
            let layout = ipv4::read(bytes).map_err(malformed)?.layout;
            if !ipv4::is_intact(bytes, &layout) {
                return Err(malformed(Defect::Ipv4Checksum));
            }
            (layout, Defect::Ipv4TotalLength)
        }
        Some(6) => {
            let layout = ipv6::read(bytes).map_err(malformed)?.layout;
            (layout, Defect::Ipv6PayloadLength)
        }
        _ => return Err(malformed(Defect::NotIp)),
    };
    let length = trim(bytes, layout.length, arrival.cut)
        .ok_or(malformed(short))?
        .len();
    let transport = bytes.get(usize::from(layout.transport)..length);
    let found = super::transport::read(transport.unwrap_or(&[]), &layout);
    let defect = layout.defect.or(found.defect);
    let end = packet.start.saturating_add(length);
    let Some(buffer) = buffer.get_mut(..end) else {
        return Err(malformed(short));
    };
    let begin = cross(
        buffer,
        packet.start,
        &layout,
        defect,
        arrival,
        &Order::of(translation),
    )?;
    Ok(begin..end)
}

impl<K: FrameKey> Frame<'_, K> {
    /// [`Packet::translate`](crate::packet::Packet::translate).
    pub(super) fn cross(&mut self, translation: &Translation<K>) -> Result<(), Untranslatable> {
        let order = Order::of(translation);
        let (buffer, begin) = self.packet.buffer();
        let (layout, arrival) = (&self.layout, &self.arrival);
        let begin = cross(buffer, begin, layout, self.defect, arrival, &order)?;
        self.packet.set_begin(begin);
        // What was written can be read.
        let Some(layout) = (match order.to.family {
            Family::V4 => ipv4::read(&self.packet).ok().map(|header| header.layout),
            Family::V6 => ipv6::read(&self.packet).ok().map(|header| header.layout),
        }) else {
            return Ok(());
        };
        let transport = super::read_transport(&self.packet, &layout);
        self.layout = layout;
        self.defect = layout.defect.or(transport.defect);
        self.flags = transport.flags;
        self.arrival.locality = order.to.locality;
        self.arrival.zone = order.to.zone;
        self.link = super::link::Header::default();
        let end = |bits, port| Endpoint::new(order.to.family.address(bits), port);
        let to = translation.rewrite.to;
        let (source, destination) = (order.to.source, order.to.destination);
        self.key = to
            .with(
                end(source, transport.source),
                end(destination, transport.destination),
            )
            .unwrap_or(to);
        Ok(())
    }
}

/// A [`Translation`] in fields.
pub(super) struct Order {
    pub(super) to: Fields,
    pub(super) quoted: Option<Fields>,
    /// Checksum difference of the addresses.
    addresses: u16,
    ports: u16,
    changes_port: bool,
    identification: u16,
    pub(super) mtu: Mtus,
}

impl Order {
    pub(super) fn of<K: FlowKey>(translation: &Translation<K>) -> Self {
        let Mtus { v4, v6, lowest_v6 } = translation.mtu;
        Self {
            to: translation.rewrite.to.fields(),
            quoted: translation.quoted.map(|key| key.fields()),
            addresses: translation.rewrite.addresses,
            ports: translation.rewrite.ports,
            changes_port: translation.rewrite.changes_port,
            identification: translation.identification,
            mtu: Mtus {
                v4: v4.max(MTU_MIN_V4),
                v6: v6.max(MTU_MIN_V6),
                lowest_v6: lowest_v6.max(MTU_MIN_V6),
            },
        }
    }
}

/// Translates the packet that begins at `begin` and ends with `buffer`; gives where it begins then.
pub(super) fn cross(
    buffer: &mut [u8],
    begin: usize,
    layout: &Layout,
    defect: Option<Defect>,
    arrival: &Arrival,
    order: &Order,
) -> Result<usize, Untranslatable> {
    let packet = buffer.get(begin..).unwrap_or(&[]);
    let checksums = arrival.checksums;
    let mut facts = Facts::read(packet, layout).ok_or(Untranslatable::Target)?;
    facts.fragmentable = arrival.fragmentable;
    if order.to.family == layout.family || order.to.protocol != facts.protocol {
        return Err(Untranslatable::Target);
    }
    if let Some(defect) = defect {
        return Err(Untranslatable::Malformed(defect));
    }
    if layout.routed {
        let pointer = segments_left(packet, layout);
        return Err(Untranslatable::SourceRoute { pointer });
    }
    facts.passable(packet, layout)?;
    let transport = packet.get(usize::from(layout.transport)..).unwrap_or(&[]);
    let icmp = layout.protocol.is_icmp();
    if icmp && layout.fragment.is_part() {
        return Err(Untranslatable::IcmpFragment);
    }
    let message = match transport {
        [kind, code, ..] if icmp => {
            let counterpart = icmp_counterpart(layout.protocol, *kind, *code);
            Some(counterpart.ok_or(Untranslatable::IcmpMessage)?)
        }
        _ => None,
    };
    if let (Some(kind), Some(8)) = (message, super::quote::begin(transport, layout.protocol)) {
        let new = error(packet, layout, kind, checksums, order)?;
        let head = facts.head(order, new.bytes().len() as u32)?;
        let end = buffer.len();
        let start = end
            .checked_sub(new.bytes().len() + head.bytes().len())
            .ok_or(Untranslatable::Room)?;
        let place = buffer.get_mut(start..).unwrap_or(&mut []);
        write(place, head.bytes().iter().chain(new.bytes()));
        return Ok(start);
    }
    let length = layout.transport_length();
    facts.fits(order, length)?;
    let head = facts.head(order, length)?;
    let at = begin + usize::from(layout.transport);
    let start = at
        .checked_sub(head.bytes().len())
        .ok_or(Untranslatable::Room)?;
    let pseudo = match (message, layout.family) {
        (None, _) => 0,
        (_, Family::V4) => pseudo_of(&order.to, length),
        (_, Family::V6) => !pseudo(packet, length),
    };
    let transport = buffer.get_mut(at..).unwrap_or(&mut []);
    match message {
        Some(kind) => query(transport, kind, &order.to, pseudo, checksums),
        None => carry(transport, layout, checksums, order)?,
    }
    let place = buffer.get_mut(start..at).unwrap_or(&mut []);
    write(place, head.bytes().iter());
    Ok(start)
}

/// What the new network header says of the old one.
pub(super) struct Facts {
    class: u8,
    hop_limit: u8,
    /// The protocol in the other family.
    pub(super) protocol: Protocol,
    dont_fragment: bool,
    /// Whether it will be cut where it is too long.
    fragmentable: bool,
    /// Identification, offset in bytes, and whether more follow, where the packet has a fragment header or is a fragment.
    piece: Option<(u32, u32, bool)>,
}

impl Facts {
    pub(super) fn read(packet: &[u8], layout: &Layout) -> Option<Self> {
        let (class, hop_limit) = match layout.family {
            Family::V4 => {
                let [_, class, _, _, _, _, _, _, hop_limit] = bytes_at(packet, 0)?;
                (class, hop_limit)
            }
            Family::V6 => {
                let [a, b, _, _, _, _, _, hop_limit] = bytes_at(packet, 0)?;
                (a << 4 | b >> 4, hop_limit)
            }
        };
        let (dont_fragment, piece) = match layout.family {
            Family::V4 => {
                let word = word_at(packet, 6)?;
                let part = layout.fragment.is_part();
                let piece = if part { ipv4::piece(packet) } else { None };
                (word & ipv4::DONT_FRAGMENT != 0, piece)
            }
            Family::V6 if layout.fragment_at != 0 => {
                (false, ipv6::piece(packet, usize::from(layout.fragment_at)))
            }
            Family::V6 => (true, None),
        };
        Some(Self {
            class,
            hop_limit,
            protocol: counterpart(layout.protocol, layout.family),
            dont_fragment,
            fragmentable: false,
            piece,
        })
    }

    /// Refuses what must not appear behind a header of the other family.
    pub(super) fn passable(&self, packet: &[u8], layout: &Layout) -> Result<(), Untranslatable> {
        if let Some((_, offset, more)) = self.piece {
            let length = layout.transport_length();
            if more && length % 8 != 0 {
                return Err(Untranslatable::Malformed(Defect::FragmentRange));
            }
            if offset + length > DATAGRAM_MAX - ipv4::HEADER as u32 {
                return Err(Untranslatable::TooLong);
            }
        }
        let mut authenticated = layout.protocol == Protocol(AUTHENTICATION);
        if layout.family == Family::V6 && usize::from(layout.transport) > ipv6::HEADER {
            walk(packet, layout, |number, _, _| {
                authenticated |= number == AUTHENTICATION;
            });
        }
        if authenticated {
            return Err(Untranslatable::Authentication);
        }
        // Between a fragment header and the transport header nothing may stand (RFC 7915 section 5.1.1).
        let behind = layout.fragment_at != 0
            && layout.transport != layout.fragment_at.saturating_add(FRAGMENT_HEADER as u16);
        match (layout.family, layout.protocol) {
            _ if behind => Err(Untranslatable::Protocol),
            (Family::V4, Protocol::ICMPV6) | (Family::V6, Protocol::ICMP) => {
                Err(Untranslatable::Protocol)
            }
            // IGMP, and IPv6's extension headers.
            (_, Protocol(2 | 0 | 43 | 44 | 60)) => Err(Untranslatable::Protocol),
            _ => Ok(()),
        }
    }

    /// Whether a packet with `length` bytes behind the new header fits the other side.
    fn fits(&self, order: &Order, length: u32) -> Result<(), Untranslatable> {
        let mtu = &order.mtu;
        if self.fragmentable {
            return Ok(());
        }
        match order.to.family {
            Family::V6 => {
                let header = self.header(Family::V6) as u32;
                if !self.dont_fragment && header + length > mtu.lowest_v6 {
                    // Each fragment will have a fragment header.
                    let mtu = mtu.lowest_v6 - GROWTH - FRAGMENT_HEADER;
                    return Err(Untranslatable::MustFragment { mtu });
                }
                if header + length > mtu.v6 {
                    let mtu = (mtu.v6 - header).saturating_add(ipv4::HEADER as u32);
                    return Err(Untranslatable::TooBig { mtu });
                }
            }
            Family::V4 => {
                let total = length + ipv4::HEADER as u32;
                if self.piece.is_none() && total > FRAGMENTABLE_MAX && total > mtu.v4 {
                    let mtu = mtu.v4.saturating_add(GROWTH).max(MTU_MIN_V6);
                    return Err(Untranslatable::TooBig { mtu });
                }
            }
        }
        Ok(())
    }

    /// Bytes of the new header.
    fn header(&self, to: Family) -> usize {
        match (to, self.piece) {
            (Family::V4, _) => ipv4::HEADER,
            (Family::V6, None) => ipv6::HEADER,
            (Family::V6, Some(_)) => ipv6::HEADER + FRAGMENT_HEADER as usize,
        }
    }

    /// The new header, with `length` bytes behind it.
    pub(super) fn head(&self, order: &Order, length: u32) -> Result<Head, Untranslatable> {
        self.head_to(&order.to, order.identification, length)
    }

    pub(super) fn head_to(
        &self,
        to: &Fields,
        identification: u16,
        length: u32,
    ) -> Result<Head, Untranslatable> {
        let (class, hop_limit) = (self.class, self.hop_limit);
        let mut head = Head {
            bytes: [0; 48],
            length: self.header(to.family),
        };
        let bytes = &mut head.bytes;
        match to.family {
            Family::V4 => {
                let total = u16::try_from(length + ipv4::HEADER as u32)
                    .map_err(|_| Untranslatable::TooLong)?;
                let (identification, word) = match self.piece {
                    Some((identification, offset, more)) => (
                        identification as u16,
                        u16::from(more) << 13 | (offset / 8) as u16,
                    ),
                    None if u32::from(total) > FRAGMENTABLE_MAX && !self.fragmentable => {
                        (0, ipv4::DONT_FRAGMENT)
                    }
                    None => (identification, 0),
                };
                put_at(bytes, 0, [0x45, class]);
                put_at(bytes, 2, total.to_be_bytes());
                put_at(bytes, 4, identification.to_be_bytes());
                put_at(bytes, 6, word.to_be_bytes());
                put_at(bytes, 8, [hop_limit, self.protocol.0]);
                put_at(bytes, 12, ((to.source >> 96) as u32).to_be_bytes());
                put_at(bytes, 16, ((to.destination >> 96) as u32).to_be_bytes());
                let sum = bytes.first_chunk::<20>().map_or(0, checksum::sum_20);
                put_at(bytes, 10, (!sum).to_be_bytes());
            }
            Family::V6 => {
                let payload = length + self.header(to.family) as u32 - ipv6::HEADER as u32;
                let payload = u16::try_from(payload).map_err(|_| Untranslatable::TooLong)?;
                put_at(bytes, 0, [0x60 | class >> 4, class << 4]);
                put_at(bytes, 4, payload.to_be_bytes());
                let mut next = self.protocol.0;
                if let Some((identification, offset, more)) = self.piece {
                    put_at(bytes, 40, [next, 0]);
                    put_at(bytes, 42, (offset as u16 | u16::from(more)).to_be_bytes());
                    put_at(bytes, 44, identification.to_be_bytes());
                    next = 44;
                }
                put_at(bytes, 6, [next, hop_limit]);
                put_at(bytes, 8, to.source.to_be_bytes());
                put_at(bytes, 24, to.destination.to_be_bytes());
            }
        }
        Ok(head)
    }
}

/// A network header that has been built.
pub(super) struct Head {
    bytes: [u8; 48],
    length: usize,
}

impl Head {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// Writes to `place` as much as fits. Not `copy_from_slice`, which has a panic for lengths that differ.
pub(super) fn write<'a>(place: &mut [u8], bytes: impl Iterator<Item = &'a u8>) {
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// The protocol's number in the other family.
fn counterpart(protocol: Protocol, from: Family) -> Protocol {
    match (from, protocol) {
        (Family::V4, Protocol::ICMP) => Protocol::ICMPV6,
        (Family::V6, Protocol::ICMPV6) => Protocol::ICMP,
        _ => protocol,
    }
}

/// Where the first routing header with segments left has their number; 0 in IPv4.
fn segments_left(packet: &[u8], layout: &Layout) -> u16 {
    let mut found = 0;
    walk(packet, layout, |number, at, left| {
        if number == ROUTING && left != 0 && found == 0 {
            found = (at + 3) as u16;
        }
    });
    found
}

/// Calls `each` with number, place and fourth byte of every extension header of an IPv6 packet.
fn walk(packet: &[u8], layout: &Layout, mut each: impl FnMut(u8, usize, u8)) {
    let mut at = ipv6::HEADER;
    let Some([mut next]) = bytes_at(packet, 6) else {
        return;
    };
    if layout.family == Family::V4 {
        return;
    }
    for _ in 0..ipv6::HEADERS_MAX {
        let Some([following, words, _, left]) = bytes_at(packet, at) else {
            return;
        };
        if at >= usize::from(layout.transport) {
            return;
        }
        each(next, at, left);
        at += match next {
            44 => 8,
            AUTHENTICATION => (usize::from(words) + 2) * 4,
            _ => (usize::from(words) + 1) * 8,
        };
        next = following;
    }
}

/// Changes the ports and the checksum of a transport that is no ICMP.
fn carry(
    transport: &mut [u8],
    layout: &Layout,
    checksums: Checksums,
    order: &Order,
) -> Result<(), Untranslatable> {
    if layout.fragment == Fragment::Later {
        return Ok(());
    }
    let length = layout.transport_length();
    let unsummed = checksums == Checksums::Full
        && layout.family == Family::V4
        && layout.protocol == Protocol::UDP
        && word_at(transport, 6) == Some(0);
    if unsummed && layout.fragment == Fragment::First {
        return Err(Untranslatable::UdpChecksum);
    }
    if unsummed && transport.len() < length as usize {
        return Err(Untranslatable::Cut);
    }
    let patch = Patch {
        to: order.to,
        changes_address: true,
        changes_port: order.changes_port,
        addresses: order.addresses,
        ports: order.ports,
    };
    let whole = (layout.fragment != Fragment::First).then_some(length);
    patch.transport(transport, order.addresses, checksums, whole);
    if layout.protocol == DCCP {
        dccp(transport, order.addresses, checksums);
    }
    if unsummed {
        // Its own length, which bytes of the packet may follow.
        let covered = word_at(transport, 4).unwrap_or(0);
        let sum = checksum::sum(transport.get(..usize::from(covered)).unwrap_or(&[]));
        let (source, destination) = (order.to.source.into(), order.to.destination.into());
        let pseudo = checksum::pseudo_v6(source, destination, Protocol::UDP, covered.into());
        let sum = match !checksum::add(sum, pseudo) {
            0 => 0xffff,
            sum => sum,
        };
        put_at(transport, 6, sum.to_be_bytes());
    }
    Ok(())
}

pub(super) fn dccp(transport: &mut [u8], pseudo: u16, checksums: Checksums) {
    let Some(old) = word_at(transport, 6) else {
        return;
    };
    let new = match checksums {
        Checksums::Full => checksum::update(old, pseudo),
        Checksums::Partial => checksum::add(old, pseudo),
        Checksums::Offloaded => old,
    };
    put_at(transport, 6, new.to_be_bytes());
}

/// Changes type, code and identifier of an ICMP message that quotes nothing, and its checksum, which has a pseudo header in
/// IPv6 only: `pseudo` is what that adds to the sum.
pub(super) fn query(
    message: &mut [u8],
    (kind, code): (u8, u8),
    ends: &Fields,
    pseudo: u16,
    checksums: Checksums,
) {
    let Some([k, c, s0, s1, i0, i1, ..]) = message.first_chunk_mut::<8>() else {
        return;
    };
    let types = checksum::difference(be16(*k, *c), be16(kind, code));
    let identifiers = checksum::difference(be16(*i0, *i1), ends.source_port);
    [*k, *c] = [kind, code];
    [*i0, *i1] = ends.source_port.to_be_bytes();
    if checksums == Checksums::Partial {
        [*s0, *s1] = checksum::add(be16(*s0, *s1), pseudo).to_be_bytes();
        return;
    }
    let change = checksum::add(pseudo, checksum::add(types, identifiers));
    fix(message, ends.protocol, 0, change, checksums);
}
