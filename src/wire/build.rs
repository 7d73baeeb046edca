//! Building packets from their parts, with lengths and checksums worked out: the reverse of [`Frame`](super::Frame).
//!
//! For tests, examples and the odd packet that a user sends; it allocates, and speed is no concern. The parser's tests rest on
//! it: what is built reads back as it was meant.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::{checksum, crc32c};
use crate::key::{Family, Protocol};
use crate::packet::{SegmentOptions, Seq, TcpFlags};

/// An IP packet in parts.
///
/// ```
/// use gufc::packet::Packet;
/// use gufc::wire::build::{Datagram, Transport};
/// use gufc::wire::{Arrival, Frame};
///
/// let udp = Transport::udp(5353, 53);
/// let query = Datagram::new("2001:db8::1".parse()?, "2001:db8::53".parse()?, udp).with_payload(b"?");
/// let mut bytes = query.emit()?;
/// let frame: Frame = Frame::ip(&mut bytes, &Arrival::default())?;
/// assert_eq!(frame.key().to_string(), "udp [2001:db8::1]:5353 > [2001:db8::53]:53");
/// assert!(frame.is_intact());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// Identification: 16 bits in IPv4; in IPv6 for fragments only.
    pub identification: u32,
    /// IPv4's "don't fragment" bit.
    pub dont_fragment: bool,
    /// IPv4 options, 0 to 40 bytes, padded to a multiple of 4 with "end of options".
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and what follows its two first bytes, padded with zeros.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// The transport header.
    pub transport: Transport,
    /// What follows it.
    pub payload: Vec<u8>,
}

/// A transport header in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Whether there is a checksum; else it is 0.
        checksum: bool,
    },
    /// UDP-Lite.
    UdpLite {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Bytes that the checksum covers, header included; 0 for all.
        coverage: u16,
    },
    /// ICMP or ICMPv6, by the packet's family.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes behind the checksum: identifier and sequence number, or what the type makes of them.
        rest: [u8; 4],
    },
    /// SCTP's common header; the payload holds the chunks.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Verification tag.
        tag: u32,
    },
    /// GRE version 0.
    Gre {
        /// What it carries, as an Ethernet type.
        carries: u16,
        /// The key, if there is one.
        key: Option<u32>,
        /// Whether there is a checksum.
        checksum: bool,
    },
    /// No header: the payload is all there is.
    Other(Protocol),
}

/// A TCP header in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgement number.
    pub ack: Seq,
    /// Flags.
    pub flags: TcpFlags,
    /// Window, unscaled.
    pub window: u16,
    /// Options. Their [`length`](SegmentOptions::length) is worked out.
    pub options: SegmentOptions,
}

impl Tcp {
    /// A header between two ports with no flags, no options and a window of 65,535.
    pub fn new(source: u16, destination: u16) -> Self {
        Self {
            source,
            destination,
            seq: Seq(0),
            ack: Seq(0),
            flags: TcpFlags::NONE,
            window: 65_535,
            options: SegmentOptions::default(),
        }
    }
}

impl From<Tcp> for Transport {
    fn from(tcp: Tcp) -> Self {
        Self::Tcp(tcp)
    }
}

impl Transport {
    /// UDP with a checksum.
    pub fn udp(source: u16, destination: u16) -> Self {
        Self::Udp {
            source,
            destination,
            checksum: true,
        }
    }

    /// An ICMP or ICMPv6 message with an identifier and a sequence number.
    pub fn query(kind: u8, identifier: u16, sequence: u16) -> Self {
        let [i0, i1] = identifier.to_be_bytes();
        let [s0, s1] = sequence.to_be_bytes();
        Self::Icmp {
            kind,
            code: 0,
            rest: [i0, i1, s0, s1],
        }
    }

    /// An ICMP or ICMPv6 error; the payload is the packet that it quotes.
    pub fn error(kind: u8, code: u8) -> Self {
        Self::Icmp {
            kind,
            code,
            rest: [0; 4],
        }
    }

    /// The protocol in a packet of this family.
    pub fn protocol(&self, family: Family) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::TCP,
            Self::Udp { .. } => Protocol::UDP,
            Self::UdpLite { .. } => Protocol::UDP_LITE,
            Self::Icmp { .. } => match family {
                Family::V4 => Protocol::ICMP,
                Family::V6 => Protocol::ICMPV6,
            },
            Self::Sctp { .. } => Protocol::SCTP,
            Self::Gre { .. } => Protocol::GRE,
            Self::Other(protocol) => *protocol,
        }
    }
}

/// Why parts make no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BuildError {
    /// Source and destination are of different families.
    Families,
    /// IP or TCP options, or an extension header, do not fit their header.
    Options,
    /// The packet is longer than its length field can say, 65,535 bytes.
    TooLong,
    /// The MTU leaves no room for a fragment.
    Mtu,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Families => "source and destination are of different families",
            Self::Options => "options do not fit their header",
            Self::TooLong => "longer than a packet can be",
            Self::Mtu => "the MTU leaves no room for a fragment",
        })
    }
}

impl core::error::Error for BuildError {}

/// A fragment's place: bytes before it, and whether others follow.
type Place = (u32, bool);

impl Datagram {
    /// A packet with a hop limit of 64, no options and no payload.
    pub fn new(source: IpAddr, destination: IpAddr, transport: impl Into<Transport>) -> Self {
        Self {
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            identification: 0,
            dont_fragment: false,
            options: Vec::new(),
            extensions: Vec::new(),
            transport: transport.into(),
            payload: Vec::new(),
        }
    }

    /// The same with this payload.
    #[must_use]
    pub fn with_payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The bytes of the packet, from its network header on. Cost: a few passes over the payload.
    ///
    /// # Errors
    ///
    /// Where the parts do not fit together.
    pub fn emit(&self) -> Result<Vec<u8>, BuildError> {
        self.wrap(&self.body()?, None)
    }

    /// The packet in fragments of at most `mtu` bytes; a single whole packet where it fits.
    ///
    /// # Errors
    ///
    /// Where the parts do not fit together, or `mtu` leaves no room for eight bytes of payload.
    pub fn fragments(&self, mtu: usize) -> Result<Vec<Vec<u8>>, BuildError> {
        let body = self.body()?;
        let whole = self.wrap(&body, None)?;
        if whole.len() <= mtu {
            return Ok(alloc::vec![whole]);
        }
        let header = self.wrap(&[], Some((0, true)))?.len();
        let room = mtu.saturating_sub(header) & !7;
        if room == 0 {
            return Err(BuildError::Mtu);
        }
        let last = body.len().saturating_sub(1) / room;
        body.chunks(room)
            .enumerate()
            .map(|(i, piece)| self.wrap(piece, Some(((i * room) as u32, i < last))))
            .collect()
    }

    /// Transport header and payload.
    fn body(&self) -> Result<Vec<u8>, BuildError> {
        let mut body = self.transport_header()?;
        let header = body.len();
        body.extend_from_slice(&self.payload);
        let length = u16::try_from(body.len()).map_err(|_| BuildError::TooLong)?;
        match &self.transport {
            Transport::Tcp(_) => self.sum_into(&mut body, 16, usize::from(length))?,
            Transport::Udp { checksum, .. } => {
                put(&mut body, 4, &length.to_be_bytes());
                if *checksum {
                    self.sum_into(&mut body, 6, usize::from(length))?;
                }
            }
            Transport::UdpLite { coverage, .. } => {
                let covered = match coverage {
                    0 => length,
                    8.. if *coverage <= length => *coverage,
                    _ => return Err(BuildError::Options),
                };
                self.sum_into(&mut body, 6, usize::from(covered))?;
            }
            Transport::Icmp { .. } => self.sum_into(&mut body, 2, usize::from(length))?,
            Transport::Sctp { .. } => {
                let crc = crc32c::crc32c(&[&body]);
                put(&mut body, 8, &crc.to_le_bytes());
            }
            Transport::Gre { checksum: true, .. } if header >= 8 => {
                let sum = checksum::checksum(&body);
                put(&mut body, 4, &sum.to_be_bytes());
            }
            Transport::Gre { .. } | Transport::Other(_) => {}
        }
        Ok(body)
    }

    /// The transport header with its checksum, and UDP's length, still 0.
    fn transport_header(&self) -> Result<Vec<u8>, BuildError> {
        let mut head = Vec::new();
        let mut words = |words: &[u16]| {
            for word in words {
                head.extend_from_slice(&word.to_be_bytes());
            }
        };
        let halves = |value: u32| [(value >> 16) as u16, value as u16];
        match &self.transport {
            Transport::Tcp(tcp) => {
                let options = tcp_options(&tcp.options);
                if options.len() > 40 {
                    return Err(BuildError::Options);
                }
                words(&[tcp.source, tcp.destination]);
                words(&halves(tcp.seq.0));
                words(&halves(tcp.ack.0));
                let offset = (5 + options.len() as u16 / 4) << 12;
                words(&[offset | u16::from(tcp.flags.0), tcp.window, 0, 0]);
                head.extend_from_slice(&options);
            }
            Transport::Udp {
                source,
                destination,
                ..
            } => words(&[*source, *destination, 0, 0]),
            Transport::UdpLite {
                source,
                destination,
                coverage,
            } => words(&[*source, *destination, *coverage, 0]),
            Transport::Icmp { kind, code, rest } => {
                head.extend_from_slice(&[*kind, *code, 0, 0]);
                head.extend_from_slice(rest);
            }
            Transport::Sctp {
                source,
                destination,
                tag,
            } => {
                words(&[*source, *destination]);
                words(&halves(*tag));
                words(&[0, 0]);
            }
            Transport::Gre {
                carries,
                key,
                checksum,
            } => {
                let flags = u16::from(*checksum) << 15 | u16::from(key.is_some()) << 13;
                words(&[flags, *carries]);
                if *checksum {
                    words(&[0, 0]);
                }
                if let Some(key) = key {
                    words(&halves(*key));
                }
            }
            Transport::Other(_) => {}
        }
        Ok(head)
    }

    /// Puts the checksum of the first `covered` bytes, with the pseudo header where the protocol has one, at `at`.
    fn sum_into(&self, body: &mut [u8], at: usize, covered: usize) -> Result<(), BuildError> {
        let length = body.len() as u32;
        let pseudo = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                match self.transport.protocol(Family::V4) {
                    Protocol::ICMP => 0,
                    protocol => checksum::pseudo_v4(source, destination, protocol, length),
                }
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let protocol = self.transport.protocol(Family::V6);
                checksum::pseudo_v6(source, destination, protocol, length)
            }
            _ => return Err(BuildError::Families),
        };
        let sum = checksum::sum(body.get(..covered).unwrap_or(body));
        let sum = match (!checksum::add(sum, pseudo), &self.transport) {
            (0, Transport::Udp { .. } | Transport::UdpLite { .. }) => 0xffff,
            (sum, _) => sum,
        };
        put(body, at, &sum.to_be_bytes());
        Ok(())
    }

    /// Puts the network header before `body`; as a fragment, if `place` says so.
    fn wrap(&self, body: &[u8], place: Option<Place>) -> Result<Vec<u8>, BuildError> {
        let mut packet = match (self.source, self.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => self.header_v4(body.len(), place)?,
            (IpAddr::V6(_), IpAddr::V6(_)) => self.header_v6(body.len(), place)?,
            _ => return Err(BuildError::Families),
        };
        packet.extend_from_slice(body);
        Ok(packet)
    }

    fn header_v4(&self, body: usize, place: Option<Place>) -> Result<Vec<u8>, BuildError> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        if options.len() > 40 {
            return Err(BuildError::Options);
        }
        let header = 20 + options.len();
        let length = u16::try_from(header + body).map_err(|_| BuildError::TooLong)?;
        let (offset, more) = place.unwrap_or((0, false));
        let fragment =
            u16::from(self.dont_fragment) << 14 | u16::from(more) << 13 | (offset / 8) as u16;
        let mut head = Vec::new();
        head.extend_from_slice(&[0x40 | (header / 4) as u8, self.traffic_class]);
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&(self.identification as u16).to_be_bytes());
        head.extend_from_slice(&fragment.to_be_bytes());
        let protocol = self.transport.protocol(Family::V4);
        head.extend_from_slice(&[self.hop_limit, protocol.0, 0, 0]);
        head.extend_from_slice(&octets(self.source));
        head.extend_from_slice(&octets(self.destination));
        head.extend_from_slice(&options);
        let sum = checksum::checksum(&head);
        put(&mut head, 10, &sum.to_be_bytes());
        Ok(head)
    }

    fn header_v6(&self, body: usize, place: Option<Place>) -> Result<Vec<u8>, BuildError> {
        // Each header with its number; a fragment header comes last.
        let mut chain = Vec::new();
        for (number, rest) in &self.extensions {
            chain.push((*number, extension(*number, rest)?));
        }
        if let Some((offset, more)) = place {
            let mut header = alloc::vec![0, 0];
            header.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
            header.extend_from_slice(&self.identification.to_be_bytes());
            chain.push((44, header));
        }
        let last = self.transport.protocol(Family::V6).0;
        let numbers: Vec<u8> = chain.iter().map(|(number, _)| *number).collect();
        let mut following = numbers.into_iter().chain([last]);
        let first = following.next().unwrap_or(last);
        let size: usize = chain.iter().map(|(_, header)| header.len()).sum();
        let length = u16::try_from(size + body).map_err(|_| BuildError::TooLong)?;
        let mut head = Vec::new();
        let class = self.traffic_class;
        head.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0]);
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&[first, self.hop_limit]);
        head.extend_from_slice(&octets(self.source));
        head.extend_from_slice(&octets(self.destination));
        for ((_, mut header), next) in chain.into_iter().zip(following) {
            put(&mut header, 0, &[next]);
            head.extend_from_slice(&header);
        }
        Ok(head)
    }
}

/// An Ethernet frame around a packet, with VLAN tags, outermost first: the outer of two is 802.1ad's.
pub fn ethernet(destination: [u8; 6], source: [u8; 6], vlan: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    for (i, id) in vlan.iter().enumerate() {
        let kind: u16 = if i + 1 < vlan.len() { 0x88a8 } else { 0x8100 };
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.extend_from_slice(&(id & 0x0fff).to_be_bytes());
    }
    let kind: u16 = match packet.first().map(|first| first >> 4) {
        Some(6) => 0x86dd,
        _ => 0x0800,
    };
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(packet);
    frame
}

/// TCP options in the order that common stacks send them, each padded to four bytes where it is customary.
fn tcp_options(options: &SegmentOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mss) = options.mss {
        bytes.extend_from_slice(&[2, 4]);
        bytes.extend_from_slice(&mss.to_be_bytes());
    }
    if options.sack_permitted {
        bytes.extend_from_slice(&[1, 1, 4, 2]);
    }
    if let Some((value, echo)) = options.timestamps {
        bytes.extend_from_slice(&[1, 1, 8, 10]);
        bytes.extend_from_slice(&value.to_be_bytes());
        bytes.extend_from_slice(&echo.to_be_bytes());
    }
    if let Some(shift) = options.window_scale {
        bytes.extend_from_slice(&[1, 3, 3, shift]);
    }
    let blocks = options.sack_ranges();
    if !blocks.is_empty() {
        bytes.extend_from_slice(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
        for (left, right) in blocks {
            bytes.extend_from_slice(&left.0.to_be_bytes());
            bytes.extend_from_slice(&right.0.to_be_bytes());
        }
    }
    bytes
}

/// An extension header with its first byte still 0, padded to its unit.
fn extension(number: u8, rest: &[u8]) -> Result<Vec<u8>, BuildError> {
    // The authentication header counts in units of 4, less 2, and is padded to 8 in IPv6 all the same.
    let mut header = alloc::vec![0, 0];
    header.extend_from_slice(rest);
    header.resize(header.len().next_multiple_of(8), 0);
    let size = match number {
        44 if header.len() != 8 => return Err(BuildError::Options),
        44 => 0,
        51 => header.len() / 4 - 2,
        _ => header.len() / 8 - 1,
    };
    let size = u8::try_from(size).map_err(|_| BuildError::Options)?;
    put(&mut header, 1, &[size]);
    Ok(header)
}

/// An address's bytes.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Writes `new` at `at`, where it fits.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}
