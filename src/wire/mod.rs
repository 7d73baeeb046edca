//! Bytes as headers: [`Frame`] reads a packet once, keeps its flow's name ready, and rewrites it in place.
//!
//! The crate's own [`Packet`] over `&mut [u8]`, apart from the cache since a dataplane that has parsed its packets already
//! brings its own. Everything here is bounded: a link header has at most two tags, an IPv6 chain at most eight extension
//! headers, and nothing allocates. Bytes that make no packet are refused with a named [`Defect`]; no bytes panic.
//!
//! ```text
//!  bytes ─ link (Ethernet, tags, cooked, none) ─ IPv4 with options │ IPv6 with extensions ─ transport ─► key
//!            LinkTruncated, LinkTags, NotIp        Ipv4..., Ipv6...: no frame                 Tcp..., Udp...: a frame with a
//!                                                                                             defect
//! ```
//!
//! ```
//! use gufc::packet::{Packet, Rewrite};
//! use gufc::wire::{Arrival, Frame};
//!
//! // A UDP datagram, 10.0.0.1:1000 > 10.0.0.2:53, payload 2b d2.
//! let mut bytes = [
//!     0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0x66, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
//!     0x03, 0xe8, 0, 53, 0, 10, 0xbb, 0xe8, // UDP
//!     0x2b, 0xd2,
//! ];
//! let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default())?;
//! assert_eq!(frame.key().to_string(), "udp 10.0.0.1:1000 > 10.0.0.2:53");
//! assert!(frame.is_intact());
//!
//! let to = "udp 192.0.2.1:2000 > 10.0.0.2:53".parse()?;
//! frame.rewrite(&Rewrite::between(&frame.key(), &to));
//! assert_eq!(frame.key(), to);
//! // The sum comes out as zero, which in UDP would mean "no checksum".
//! assert_eq!(frame.transport()[6..8], [0xff, 0xff]);
//! assert!(frame.is_intact());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod answer;
mod arrival;
pub mod build;
pub mod checksum;
mod crc32c;
mod cut;
mod ipv4;
mod ipv6;
mod layout;
mod link;
mod quote;
mod reassembly;
mod rewrite;
mod splice;
mod translate;
mod translate_error;
mod transport;
mod verify;
mod window;

pub use answer::{ANSWER_MAX, Notice, Unanswered};
pub use arrival::{Arrival, Checksums};
pub use cut::Cut;
pub use link::Link;
pub use reassembly::{Limits, Losses, Reassembler, Reassembly, Refusal};
pub use translate::{HEADROOM, translate};

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cookie::FlowCookie;
use crate::key::{Family, FlowKey, Locality, Protocol, SevenTuple, Tuple};
use crate::packet::{
    Defect, Fragment, Interface, Origin, Packet, Rewrite, Segment, TcpFlags, Translation,
    Unspliceable, Untranslatable,
};
use layout::Layout;
use quote::Quote;
use window::Window;

/// A key that a packet's headers can give.
///
/// Implement it for a key of your own to have frames named by it.
pub trait FrameKey: FlowKey {
    /// The key of an IPv4 packet; `None` where the key holds no IPv4, and the frame is refused with [`Defect::NotIp`].
    fn of_v4(tuple: SevenTuple<Ipv4Addr>) -> Option<Self>;

    /// The key of an IPv6 packet; `None` where the key holds no IPv6.
    fn of_v6(tuple: SevenTuple<Ipv6Addr>) -> Option<Self>;
}

impl FrameKey for Tuple {
    fn of_v4(tuple: SevenTuple<Ipv4Addr>) -> Option<Self> {
        Some(Self::V4(tuple))
    }

    fn of_v6(tuple: SevenTuple<Ipv6Addr>) -> Option<Self> {
        Some(Self::V6(tuple))
    }
}

impl FrameKey for SevenTuple<Ipv4Addr> {
    fn of_v4(tuple: Self) -> Option<Self> {
        Some(tuple)
    }

    fn of_v6(_: SevenTuple<Ipv6Addr>) -> Option<Self> {
        None
    }
}

impl FrameKey for SevenTuple<Ipv6Addr> {
    fn of_v4(_: SevenTuple<Ipv4Addr>) -> Option<Self> {
        None
    }

    fn of_v6(tuple: Self) -> Option<Self> {
        Some(tuple)
    }
}

/// One packet over its bytes, read once: the key is ready, and every offset is known to be inside.
///
/// `Frame` (that is, `Frame<Tuple>`) takes both families; `Frame<SevenTuple<Ipv4Addr>>` refuses IPv6 with
/// [`Defect::NotIp`] and has a key of 128 bits. Bytes behind the packet's own length (Ethernet's padding) are left alone.
///
/// A fragment's key: the first has its ports, later ones have ports 0.
#[derive(Debug)]
pub struct Frame<'a, K = Tuple> {
    /// From the network header to the packet's end (or to where the bytes end, if they were cut).
    packet: Window<'a>,
    key: K,
    layout: Layout,
    arrival: Arrival,
    link: link::Header,
    flags: TcpFlags,
    defect: Option<Defect>,
}

impl<'a, K: FrameKey> Frame<'a, K> {
    /// Reads the packet behind a link header of the given kind.
    ///
    /// # Errors
    ///
    /// A [`Defect`] of the link or network header: without them there is no key. What is wrong with a transport header is in
    /// [`defect`](Packet::defect).
    ///
    /// Cost: O(1) for IPv4; O(extension headers), at most 8, for IPv6. Nothing is copied.
    #[inline]
    pub fn parse(link: Link, bytes: &'a mut [u8], arrival: &Arrival) -> Result<Self, Defect> {
        let link = link.read(bytes)?;
        let packet = bytes
            .get_mut(usize::from(link.length)..)
            .ok_or(Defect::LinkTruncated)?;
        match link.family {
            Family::V4 => Self::read_v4(link, packet, arrival),
            Family::V6 => Self::read_v6(link, packet, arrival),
        }
    }

    /// Reads an Ethernet frame with up to two VLAN tags.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    #[inline]
    pub fn ethernet(bytes: &'a mut [u8], arrival: &Arrival) -> Result<Self, Defect> {
        Self::parse(Link::Ethernet, bytes, arrival)
    }

    /// Reads a bare IP packet.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    #[inline]
    pub fn ip(bytes: &'a mut [u8], arrival: &Arrival) -> Result<Self, Defect> {
        Self::parse(Link::Ip, bytes, arrival)
    }

    /// Reads the bare IP packet that begins at `begin` of `buffer`; the bytes before it are room to
    /// [`translate`](Packet::translate) it in. [`HEADROOM`] bytes always suffice.
    ///
    /// ```
    /// use gufc::key::{Embedding, crossed};
    /// use gufc::packet::{Packet, Translation};
    /// use gufc::wire::build::{Datagram, Transport};
    /// use gufc::wire::{Arrival, Frame, HEADROOM};
    ///
    /// let ping = Datagram::new("192.0.2.33".parse()?, "198.51.100.1".parse()?, Transport::query(0, 7, 1));
    /// let mut buffer = vec![0; HEADROOM];
    /// buffer.extend(ping.emit()?);
    /// let mut frame: Frame = Frame::with_headroom(&mut buffer, HEADROOM, &Arrival::default())?;
    ///
    /// let from = frame.key();
    /// let to = crossed(&from, Embedding::WELL_KNOWN.embed("192.0.2.33".parse()?).into(), "2001:db8::7".parse()?).unwrap();
    /// frame.translate(&Translation::between(&from, &to))?;
    /// assert_eq!(frame.key().to_string(), "icmpv6 64:ff9b::c000:221 > 2001:db8::7 id 7 type 129 code 0");
    /// assert_eq!(frame.packet().len(), 48);
    /// assert!(frame.is_intact());
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse); [`Defect::LinkTruncated`] where `begin` lies behind the buffer.
    pub fn with_headroom(
        buffer: &'a mut [u8],
        begin: usize,
        arrival: &Arrival,
    ) -> Result<Self, Defect> {
        let bytes = buffer.get_mut(begin..).ok_or(Defect::LinkTruncated)?;
        // Read once over the packet alone, and then keep what was read with all of the buffer.
        let Frame {
            packet,
            key,
            layout,
            arrival,
            link,
            flags,
            defect,
        } = Frame::<K>::ip(bytes, arrival)?;
        let end = begin.saturating_add(packet.len());
        let buffer = buffer.get_mut(..end).ok_or(Defect::LinkTruncated)?;
        Ok(Self {
            packet: Window::behind(buffer, begin),
            key,
            layout,
            arrival,
            link,
            flags,
            defect,
        })
    }

    // Out of line, and apart from its sisters: merged, they share registers and stores, and all lose by it.
    #[inline(never)]
    fn read_v4(
        link: link::Header,
        packet: &'a mut [u8],
        arrival: &Arrival,
    ) -> Result<Self, Defect> {
        match ipv4::read_plain(packet) {
            Some(header) => Self::finish_v4(link, packet, header, arrival),
            None => Self::read_odd_v4(link, packet, arrival),
        }
    }

    #[inline(never)]
    fn read_odd_v4(
        link: link::Header,
        packet: &'a mut [u8],
        arrival: &Arrival,
    ) -> Result<Self, Defect> {
        let header = ipv4::read(packet)?;
        Self::finish_v4(link, packet, header, arrival)
    }

    #[inline(always)]
    fn finish_v4(
        link: link::Header,
        packet: &'a mut [u8],
        header: ipv4::Header,
        arrival: &Arrival,
    ) -> Result<Self, Defect> {
        let packet =
            trim(packet, header.layout.length, arrival.cut).ok_or(Defect::Ipv4TotalLength)?;
        if !ipv4::is_intact(packet, &header.layout) {
            return Err(Defect::Ipv4Checksum);
        }
        let transport = read_transport(packet, &header.layout);
        let tuple = SevenTuple::new(
            header.source,
            header.destination,
            header.layout.protocol,
            transport.source,
            transport.destination,
        );
        let tuple = tuple.at(arrival.locality).in_zone(arrival.zone);
        Ok(Self {
            packet: Window::of(packet),
            key: K::of_v4(tuple).ok_or(Defect::NotIp)?,
            layout: header.layout,
            arrival: *arrival,
            link,
            flags: transport.flags,
            defect: header.layout.defect.or(transport.defect),
        })
    }

    #[inline(never)]
    fn read_v6(
        link: link::Header,
        packet: &'a mut [u8],
        arrival: &Arrival,
    ) -> Result<Self, Defect> {
        let header = ipv6::read(packet)?;
        let packet =
            trim(packet, header.layout.length, arrival.cut).ok_or(Defect::Ipv6PayloadLength)?;
        let transport = read_transport(packet, &header.layout);
        let tuple = SevenTuple::new(
            header.source,
            header.destination,
            header.layout.protocol,
            transport.source,
            transport.destination,
        );
        let tuple = tuple.at(arrival.locality).in_zone(arrival.zone);
        Ok(Self {
            packet: Window::of(packet),
            key: K::of_v6(tuple).ok_or(Defect::NotIp)?,
            layout: header.layout,
            arrival: *arrival,
            link,
            flags: transport.flags,
            defect: header.layout.defect.or(transport.defect),
        })
    }

    /// The same frame with its locality bits worked out: `is_local` says whether an address is one of this machine's.
    ///
    /// ```
    /// use gufc::key::FlowKey;
    /// use gufc::packet::Packet;
    /// use gufc::wire::{Arrival, Frame};
    ///
    /// let mut bytes = [
    ///     0x45, 0, 0, 20, 0, 0, 0, 0, 64, 47, 0x66, 0xb9, 10, 0, 0, 1, 10, 0, 0, 2,
    /// ];
    /// let frame: Frame = Frame::ip(&mut bytes, &Arrival::default())?;
    /// let frame = frame.locate(|address| address.to_string() == "10.0.0.2");
    /// assert_eq!(frame.key().to_string(), "gre 10.0.0.1 > 10.0.0.2 local destination");
    /// # Ok::<(), gufc::packet::Defect>(())
    /// ```
    #[must_use]
    pub fn locate(mut self, is_local: impl Fn(IpAddr) -> bool) -> Self {
        let fields = self.key.fields();
        let locality = Locality {
            source: is_local(fields.family.address(fields.source)),
            destination: is_local(fields.family.address(fields.destination)),
        };
        self.arrival.locality = locality;
        if let Some(key) = rename(&fields, locality) {
            self.key = key;
        }
        self
    }

    /// The packet: network header, transport header and payload, without link header and padding.
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// IP version.
    pub fn family(&self) -> Family {
        self.layout.family
    }

    /// The transport protocol, as in the key.
    pub fn protocol(&self) -> Protocol {
        self.layout.protocol
    }

    /// The circumstances that the frame was read with.
    pub fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// VLAN identifiers of the link header, 0 to 4,095, outermost first.
    pub fn vlan(&self) -> &[u16] {
        self.link
            .vlan
            .get(..usize::from(self.link.tags))
            .unwrap_or(&[])
    }

    /// Bytes of the link header, 0 to 22.
    pub fn link_length(&self) -> usize {
        usize::from(self.link.length)
    }

    /// Whether the link header sends it to a group or to everybody.
    pub fn is_link_group(&self) -> bool {
        self.link.group
    }

    /// Type of service (IPv4) or traffic class (IPv6): six bits of differentiated services code point, two of congestion
    /// notification.
    pub fn traffic_class(&self) -> u8 {
        match (self.layout.family, self.packet()) {
            (Family::V4, [_, class, ..]) => *class,
            (Family::V6, [a, b, ..]) => a << 4 | b >> 4,
            _ => 0,
        }
    }

    /// Whether routers must not fragment it: always so in IPv6, and in IPv4 by the header's bit.
    pub fn dont_fragment(&self) -> bool {
        match self.layout.family {
            Family::V4 => {
                layout::word_at(&self.packet, 6).is_some_and(|word| word & ipv4::DONT_FRAGMENT != 0)
            }
            Family::V6 => true,
        }
    }

    /// For a fragment, what reassembly needs to know; `None` for a whole packet, atomic fragments included.
    pub fn piece(&self) -> Option<Piece> {
        if !self.layout.fragment.is_part() {
            return None;
        }
        let (identification, offset, more) = match self.layout.family {
            Family::V4 => ipv4::piece(&self.packet)?,
            Family::V6 => ipv6::piece(&self.packet, usize::from(self.layout.fragment_at))?,
        };
        Some(Piece {
            identification,
            offset,
            more,
        })
    }

    /// Where in an ICMP error the quoted packet begins, from the ICMP header on.
    fn quotation(&self) -> Option<usize> {
        let own = match self.layout.family {
            Family::V4 => Protocol::ICMP,
            Family::V6 => Protocol::ICMPV6,
        };
        if self.layout.protocol != own || self.layout.fragment == Fragment::Later {
            return None;
        }
        quote::begin(self.transport(), self.layout.protocol)
    }

    /// The locality of a quoted packet with these ends. It was sent by whom the error goes to; of its other end we know no
    /// more than that it is local if it is the error's own sender and that is.
    fn quoted_locality(&self, source: IpAddr, destination: IpAddr) -> Locality {
        let (outer, locality) = (self.key.fields(), self.arrival.locality);
        let (from, to) = (
            outer.family.address(outer.source),
            outer.family.address(outer.destination),
        );
        Locality {
            source: locality.destination && source == to,
            destination: locality.source && destination == from,
        }
    }
}

/// One fragment's place in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// What the fragments of one datagram have in common besides addresses and protocol: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// Bytes before this one in the datagram's payload, 0 to 65,528.
    pub offset: u32,
    /// Whether others follow.
    pub more: bool,
}

/// The packet without the bytes behind its own length; `None` where bytes are missing that should not.
#[inline]
fn trim(packet: &mut [u8], length: u32, cut: bool) -> Option<&mut [u8]> {
    if length as usize > packet.len() {
        return cut.then_some(packet);
    }
    packet.get_mut(..length as usize)
}

#[inline(always)]
fn read_transport(packet: &[u8], layout: &Layout) -> transport::Transport {
    let bytes = packet.get(usize::from(layout.transport)..).unwrap_or(&[]);
    transport::read(bytes, layout)
}

/// The key with other locality bits.
fn rename<K: FrameKey>(fields: &crate::key::Fields, locality: Locality) -> Option<K> {
    let (s, d) = (fields.source_port, fields.destination_port);
    match (
        fields.family.address(fields.source),
        fields.family.address(fields.destination),
    ) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let tuple = SevenTuple::new(source, destination, fields.protocol, s, d);
            K::of_v4(tuple.at(locality).in_zone(fields.zone))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let tuple = SevenTuple::new(source, destination, fields.protocol, s, d);
            K::of_v6(tuple.at(locality).in_zone(fields.zone))
        }
        _ => None,
    }
}

impl<K: FrameKey> Packet for Frame<'_, K> {
    type Key = K;

    fn key(&self) -> K {
        self.key
    }

    fn origin(&self) -> Origin {
        self.arrival.origin
    }

    fn ingress(&self) -> Interface {
        self.arrival.interface
    }

    fn length(&self) -> u32 {
        self.layout.length
    }

    fn fragment(&self) -> Fragment {
        self.layout.fragment
    }

    fn tcp_flags(&self) -> TcpFlags {
        self.flags
    }

    fn transport(&self) -> &[u8] {
        self.packet
            .get(usize::from(self.layout.transport)..)
            .unwrap_or(&[])
    }

    fn transport_length(&self) -> u32 {
        self.layout.transport_length()
    }

    /// `None` for fragments too: the segment is not there in full.
    fn segment(&self) -> Option<Segment> {
        if self.layout.protocol != Protocol::TCP || self.layout.fragment.is_part() {
            return None;
        }
        Segment::parse(self.transport(), self.transport_length()).ok()
    }

    /// The quoted ends are those of the packet as it was sent; four transport bytes are enough (eight for ICMP).
    fn quoted(&self) -> Option<K> {
        let begin = self.quotation()?;
        let quoted = self.transport().get(begin..)?;
        let zone = self.arrival.zone;
        match quote::read(quoted, self.layout.family == Family::V4)? {
            Quote::V4(_, tuple) => {
                let ends = (tuple.source_address(), tuple.destination_address());
                let locality = self.quoted_locality(ends.0.into(), ends.1.into());
                K::of_v4(tuple.at(locality).in_zone(zone))
            }
            Quote::V6(_, tuple) => {
                let ends = (tuple.source_address(), tuple.destination_address());
                let locality = self.quoted_locality(ends.0.into(), ends.1.into());
                K::of_v6(tuple.at(locality).in_zone(zone))
            }
        }
    }

    fn defect(&self) -> Option<Defect> {
        self.defect
    }

    fn is_intact(&self) -> bool {
        self.verify()
    }

    fn hop_limit(&self) -> u8 {
        let at = match self.layout.family {
            Family::V4 => 8,
            Family::V6 => 7,
        };
        self.packet.get(at).copied().unwrap_or(0)
    }

    fn hash(&self) -> Option<u32> {
        self.arrival.hash
    }

    fn cookie(&self) -> Option<FlowCookie> {
        self.arrival.cookie
    }

    /// Does nothing where the new key is of another family or protocol. Of a later fragment only the addresses change.
    /// SCTP's checksum takes O(log length) steps, and cannot follow in a first fragment, whose length is not the packet's.
    fn rewrite(&mut self, rewrite: &Rewrite<K>) {
        self.apply(rewrite);
    }

    /// Changes nothing where fewer than eight transport bytes are quoted: their checksum could not follow.
    fn rewrite_quoted(&mut self, rewrite: &Rewrite<K>) -> bool {
        self.apply_quoted(rewrite)
    }

    fn set_hop_limit(&mut self, hop_limit: u8) {
        self.put_hop_limit(hop_limit);
    }

    fn clamp_mss(&mut self, mss: u16) -> bool {
        self.lower_mss(mss)
    }

    /// A longer payload takes room before the packet, as of a frame that was read [with headroom](Frame::with_headroom); then a
    /// link header is not part of the frame afterwards. One that is not longer takes none. Cost: O(length).
    fn splice(&mut self, at: core::ops::Range<usize>, new: &[u8]) -> Result<(), Unspliceable> {
        self.exchange(at, new)
    }

    fn renumber(&mut self, segment: &Segment) -> bool {
        self.put_numbers(segment)
    }

    /// In place, where the frame was read [with headroom](Frame::with_headroom); IPv6 to IPv4 needs none. A link header is not
    /// part of the frame afterwards: the new one names another protocol. Cost: as for [`translate`].
    fn translate(&mut self, translation: &Translation<K>) -> Result<(), Untranslatable> {
        self.cross(translation)
    }
}
