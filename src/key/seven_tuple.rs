//! Rusty's seven-tuple plus zone: one type for both families, and the enum that holds either.
//!
//! `SRCIP/DSTIP/PROTO/SPT/DPT/IN/OUT` (Russell, netdev, July 2006), where IN and OUT are the two locality bits "source is
//! local" and "destination is local". [`SevenTuple`] is generic over the address, so an IPv4 dataplane stores and compares
//! 128 bits; [`Tuple`] is what a dual-stack dataplane hands around, while its structures still store each family at its own
//! width.

use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::{Field, Key, tiles};

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4, 32-bit addresses.
    V4,
    /// IPv6, 128-bit addresses.
    V6,
}

impl Family {
    /// Bits in an address: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// An address as its family and its bits, left-aligned in a `u128`.
    pub const fn align(address: IpAddr) -> (Self, u128) {
        match address {
            IpAddr::V4(address) => (Self::V4, (address.to_bits() as u128) << 96),
            IpAddr::V6(address) => (Self::V6, address.to_bits()),
        }
    }

    /// The address of this family whose left-aligned bits these are.
    pub const fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

/// An IP protocol number (the IPv6 *upper-layer* protocol, not an extension header).
///
/// ```
/// use gufc::key::Protocol;
/// assert_eq!("tcp".parse(), Ok(Protocol::TCP));
/// assert_eq!("89".parse(), Ok(Protocol(89)));
/// assert_eq!(Protocol::ICMPV6.to_string(), "icmpv6");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, 1.
    pub const ICMP: Self = Self(1);
    /// TCP, 6.
    pub const TCP: Self = Self(6);
    /// UDP, 17.
    pub const UDP: Self = Self(17);
    /// Generic routing encapsulation, 47.
    pub const GRE: Self = Self(47);
    /// Encapsulating security payload, 50.
    pub const ESP: Self = Self(50);
    /// ICMPv6, 58.
    pub const ICMPV6: Self = Self(58);
    /// SCTP, 132.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite, 136.
    pub const UDP_LITE: Self = Self(136);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::ICMP, "icmp"),
        (Self::TCP, "tcp"),
        (Self::UDP, "udp"),
        (Self::GRE, "gre"),
        (Self::ESP, "esp"),
        (Self::ICMPV6, "icmpv6"),
        (Self::SCTP, "sctp"),
        (Self::UDP_LITE, "udplite"),
    ];

    /// Whether packets of the protocol begin with a source and a destination port.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP | Self::UDP_LITE)
    }

    /// Whether it is ICMP or ICMPv6, whose type and code stand in the place of the destination port.
    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(protocol, _)| protocol == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Protocol {
    type Err = ParseTupleError;

    fn from_str(text: &str) -> Result<Self, ParseTupleError> {
        match Self::NAMES.iter().find(|(_, name)| *name == text) {
            Some((protocol, _)) => Ok(*protocol),
            None => text
                .parse()
                .map(Self)
                .map_err(|_| ParseTupleError::Protocol),
        }
    }
}

/// A table of addresses of its own: a VRF, a VLAN, a tenant. 0 to [`Zone::MAX`].
///
/// Equal tuples in different zones are different flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(u32);

impl Zone {
    /// Bits in a zone.
    pub const BITS: u32 = 22;
    /// The largest zone, 4,194,303.
    pub const MAX: u32 = (1 << Self::BITS) - 1;

    /// Zone `id`; `None` above [`MAX`](Self::MAX).
    pub const fn new(id: u32) -> Option<Self> {
        if id <= Self::MAX {
            Some(Self(id))
        } else {
            None
        }
    }

    /// The zone's number.
    pub const fn id(self) -> u32 {
        self.0
    }
}

/// Rusty's IN and OUT: whether each end of the packet is an address of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// The source address is one of our own.
    pub source: bool,
    /// The destination address is one of our own.
    pub destination: bool,
}

impl Locality {
    /// Both bits, source in bit 1, destination in bit 0.
    pub const fn bits(self) -> u8 {
        (self.source as u8) << 1 | self.destination as u8
    }

    /// The locality with these two bits; higher bits are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        Self {
            source: bits & 2 != 0,
            destination: bits & 1 != 0,
        }
    }

    /// The locality of a packet that goes the other way.
    pub const fn inverse(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// One end of a flow: an address and a port (for ICMP see [`FlowKey`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port, or what stands in its place.
    pub port: u16,
}

impl Endpoint {
    /// The end at `address` and `port`.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self { address, port }
    }
}

/// A flow's fields, family-independent: what patterns are tested against.
///
/// Addresses are left-aligned ([`Family::align`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Family of both addresses.
    pub family: Family,
    /// Source address, left-aligned.
    pub source: u128,
    /// Destination address, left-aligned.
    pub destination: u128,
    /// Source port, or ICMP identifier.
    pub source_port: u16,
    /// Destination port, or ICMP `type << 8 | code`.
    pub destination_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Locality of both ends.
    pub locality: Locality,
    /// Zone.
    pub zone: Zone,
}

/// A key whose seven fields and zone can be read: what hooks, patterns and the cache know a flow by.
///
/// A dataplane with further key bits (a tunnel identifier, say) implements this for its own type; patterns then match on
/// the fields below and take all values of the further bits.
///
/// Where a protocol has no ports: ICMP and ICMPv6 have the identifier (0 where the message has none) as source port and
/// `type << 8 | code` as destination port; all others have 0 and 0.
///
/// # Laws
///
/// * `k.inverse()`, where it exists, has an inverse, and that is `k`.
/// * `k.with(s, d)` has the endpoints `s` and `d` and all else of `k`; `k.with(k's own endpoints)` is `k`. Where the addresses
///   are of the other family, ICMP's protocol number becomes the other family's.
pub trait FlowKey: Copy + Eq + Ord + Hash + fmt::Debug + 'static {
    /// All fields at once. Cost: O(1).
    fn fields(&self) -> Fields;

    /// The key of the answer: ends, ports and locality swapped, an ICMP request's type turned into its reply's.
    ///
    /// `None` for an ICMP message that nothing answers (an error, a router advertisement).
    fn inverse(&self) -> Option<Self>;

    /// The key with both ends replaced; `None` when an address is of a family that the key cannot hold.
    fn with(&self, source: Endpoint, destination: Endpoint) -> Option<Self>;

    /// The source end.
    fn source(&self) -> Endpoint {
        let fields = self.fields();
        Endpoint::new(fields.family.address(fields.source), fields.source_port)
    }

    /// The destination end.
    fn destination(&self) -> Endpoint {
        let fields = self.fields();
        Endpoint::new(
            fields.family.address(fields.destination),
            fields.destination_port,
        )
    }

    /// The protocol.
    fn protocol(&self) -> Protocol {
        self.fields().protocol
    }
}

/// An address type that a [`SevenTuple`] can be made of: `Ipv4Addr` or `Ipv6Addr`.
pub trait Address: Key + Into<IpAddr> + fmt::Display + private::Sealed {
    /// Words of a tuple: both addresses, then one word for all else.
    type Tuple: Copy + Eq + Ord + Hash + fmt::Debug + AsRef<[u64]> + AsMut<[u64]> + Default;
    /// Bits of a tuple.
    const TUPLE_BITS: u32;
    /// Fields of a tuple.
    const TUPLE_FIELDS: &'static [Field];
    /// The family.
    const FAMILY: Family;

    /// The words of a tuple from its addresses and its last word.
    fn join(source: Self, destination: Self, rest: u64) -> Self::Tuple;
    /// The reverse of [`join`](Self::join).
    fn split(words: &Self::Tuple) -> (Self, Self, u64);
    /// The address, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;
}

mod private {
    pub trait Sealed {}
    impl Sealed for core::net::Ipv4Addr {}
    impl Sealed for core::net::Ipv6Addr {}
}

/// The field table of a tuple with addresses of `bits` bits.
const fn tuple_fields(bits: u32) -> [Field; 8] {
    let at = 2 * bits;
    [
        Field {
            name: "source",
            offset: 0,
            width: bits,
        },
        Field {
            name: "destination",
            offset: bits,
            width: bits,
        },
        Field {
            name: "source_port",
            offset: at,
            width: 16,
        },
        Field {
            name: "destination_port",
            offset: at + 16,
            width: 16,
        },
        Field {
            name: "protocol",
            offset: at + 32,
            width: 8,
        },
        Field {
            name: "source_local",
            offset: at + 40,
            width: 1,
        },
        Field {
            name: "destination_local",
            offset: at + 41,
            width: 1,
        },
        Field {
            name: "zone",
            offset: at + 42,
            width: Zone::BITS,
        },
    ]
}

const _: () = assert!(tiles(&tuple_fields(32), 128) && tiles(&tuple_fields(128), 320));

impl Address for Ipv4Addr {
    type Tuple = [u64; 2];
    const TUPLE_BITS: u32 = 128;
    const TUPLE_FIELDS: &'static [Field] = &tuple_fields(32);
    const FAMILY: Family = Family::V4;

    fn join(source: Self, destination: Self, rest: u64) -> [u64; 2] {
        [
            u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()),
            rest,
        ]
    }

    fn split(&[addresses, rest]: &[u64; 2]) -> (Self, Self, u64) {
        (
            Self::from_bits((addresses >> 32) as u32),
            Self::from_bits(addresses as u32),
            rest,
        )
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }
}

impl Address for Ipv6Addr {
    type Tuple = [u64; 5];
    const TUPLE_BITS: u32 = 320;
    const TUPLE_FIELDS: &'static [Field] = &tuple_fields(128);
    const FAMILY: Family = Family::V6;

    fn join(source: Self, destination: Self, rest: u64) -> [u64; 5] {
        let ([s0, s1], [d0, d1]) = (source.words(), destination.words());
        [s0, s1, d0, d1, rest]
    }

    fn split(&[s0, s1, d0, d1, rest]: &[u64; 5]) -> (Self, Self, u64) {
        (Self::from_words([s0, s1]), Self::from_words([d0, d1]), rest)
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }
}

/// Source, destination, protocol, two ports, two locality bits, zone: 128 bits for IPv4, 320 for IPv6.
///
/// ```
/// use gufc::key::{FlowKey, Protocol, SevenTuple};
/// use core::net::Ipv4Addr;
///
/// let there = SevenTuple::new(Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(192, 0, 2, 1), Protocol::TCP, 40000, 80);
/// assert_eq!(there.to_string(), "tcp 10.0.0.2:40000 > 192.0.2.1:80");
/// assert_eq!(there.to_string().parse(), Ok(there));
/// assert_eq!(there.inverse().unwrap().to_string(), "tcp 192.0.2.1:80 > 10.0.0.2:40000");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SevenTuple<A: Address> {
    words: A::Tuple,
}

// Where each small field lies in the last word; the figure in `key/mod.rs` draws them.
const SOURCE_PORT: u32 = 48;
const DESTINATION_PORT: u32 = 32;
const PROTOCOL: u32 = 24;
const LOCALITY: u32 = 22;

impl<A: Address> SevenTuple<A> {
    /// The tuple of a flow between two ends that are not local, in zone 0.
    pub fn new(
        source: A,
        destination: A,
        protocol: Protocol,
        source_port: u16,
        destination_port: u16,
    ) -> Self {
        let rest = u64::from(source_port) << SOURCE_PORT
            | u64::from(destination_port) << DESTINATION_PORT
            | u64::from(protocol.0) << PROTOCOL;
        Self {
            words: A::join(source, destination, rest),
        }
    }

    /// The same flow in `zone`.
    #[must_use]
    pub fn in_zone(self, zone: Zone) -> Self {
        let (source, destination, rest) = A::split(&self.words);
        Self {
            words: A::join(
                source,
                destination,
                rest & !u64::from(Zone::MAX) | u64::from(zone.id()),
            ),
        }
    }

    /// The same flow with these locality bits.
    #[must_use]
    pub fn at(self, locality: Locality) -> Self {
        let (source, destination, rest) = A::split(&self.words);
        let rest = rest & !(3 << LOCALITY) | u64::from(locality.bits()) << LOCALITY;
        Self {
            words: A::join(source, destination, rest),
        }
    }

    /// Source address.
    pub fn source_address(&self) -> A {
        A::split(&self.words).0
    }

    /// Destination address.
    pub fn destination_address(&self) -> A {
        A::split(&self.words).1
    }

    fn rest(&self) -> u64 {
        A::split(&self.words).2
    }

    /// Source port, or ICMP identifier.
    pub fn source_port(&self) -> u16 {
        (self.rest() >> SOURCE_PORT) as u16
    }

    /// Destination port, or ICMP `type << 8 | code`.
    pub fn destination_port(&self) -> u16 {
        (self.rest() >> DESTINATION_PORT) as u16
    }

    /// Locality of both ends.
    pub fn locality(&self) -> Locality {
        Locality::from_bits((self.rest() >> LOCALITY) as u8)
    }

    /// Zone.
    pub fn zone(&self) -> Zone {
        Zone(self.rest() as u32 & Zone::MAX)
    }
}

impl<A: Address> Key for SevenTuple<A> {
    const BITS: u32 = A::TUPLE_BITS;
    const FIELDS: &'static [Field] = A::TUPLE_FIELDS;
    type Words = A::Tuple;

    fn words(&self) -> A::Tuple {
        self.words
    }

    fn from_words(words: A::Tuple) -> Self {
        Self { words }
    }
}

impl<A: Address> FlowKey for SevenTuple<A> {
    #[inline]
    fn fields(&self) -> Fields {
        let (source, destination, rest) = A::split(&self.words);
        Fields {
            family: A::FAMILY,
            source: Family::align(source.into()).1,
            destination: Family::align(destination.into()).1,
            source_port: (rest >> SOURCE_PORT) as u16,
            destination_port: (rest >> DESTINATION_PORT) as u16,
            protocol: Protocol((rest >> PROTOCOL) as u8),
            locality: Locality::from_bits((rest >> LOCALITY) as u8),
            zone: Zone(rest as u32 & Zone::MAX),
        }
    }

    fn inverse(&self) -> Option<Self> {
        let (source, destination, rest) = A::split(&self.words);
        let protocol = self.protocol();
        let (source_port, destination_port) = if protocol.is_icmp() {
            let [kind, code] = self.destination_port().to_be_bytes();
            (
                self.source_port(),
                u16::from_be_bytes([icmp_answer(protocol, kind)?, code]),
            )
        } else {
            (self.destination_port(), self.source_port())
        };
        let rest = rest & 0xffff_ffff
            | u64::from(source_port) << SOURCE_PORT
            | u64::from(destination_port) << DESTINATION_PORT;
        Some(
            Self {
                words: A::join(destination, source, rest),
            }
            .at(self.locality().inverse()),
        )
    }

    fn with(&self, source: Endpoint, destination: Endpoint) -> Option<Self> {
        let rest = self.rest() & 0xffff_ffff
            | u64::from(source.port) << SOURCE_PORT
            | u64::from(destination.port) << DESTINATION_PORT;
        Some(Self {
            words: A::join(A::of(source.address)?, A::of(destination.address)?, rest),
        })
    }

    fn protocol(&self) -> Protocol {
        Protocol((self.rest() >> PROTOCOL) as u8)
    }
}

/// The ICMP type that answers `kind`, both ways: echo, timestamp, information and address mask of ICMP (RFC 792, RFC 950),
/// echo of ICMPv6 (RFC 4443 section 4) and node information (RFC 4620). `None` for everything that has no answer.
pub const fn icmp_answer(protocol: Protocol, kind: u8) -> Option<u8> {
    Some(match (protocol, kind) {
        (Protocol::ICMP, 8) => 0,
        (Protocol::ICMP, 0) => 8,
        (Protocol::ICMP, 13) => 14,
        (Protocol::ICMP, 14) => 13,
        (Protocol::ICMP, 15) => 16,
        (Protocol::ICMP, 16) => 15,
        (Protocol::ICMP, 17) => 18,
        (Protocol::ICMP, 18) => 17,
        (Protocol::ICMPV6, 128) => 129,
        (Protocol::ICMPV6, 129) => 128,
        (Protocol::ICMPV6, 139) => 140,
        (Protocol::ICMPV6, 140) => 139,
        _ => return None,
    })
}

/// A seven-tuple of either family: the key of a dual-stack dataplane.
///
/// Structures store each family at its own width, so a mixed dataplane pays 320 bits for its IPv6 flows only; the enum
/// itself lives on the stack.
///
/// ```
/// use gufc::key::{FlowKey, Tuple};
///
/// let ping: Tuple = "icmpv6 2001:db8::1 > 2001:db8::2 id 7 type 128 code 0 zone 3".parse()?;
/// assert_eq!(ping.inverse().unwrap().to_string(), "icmpv6 2001:db8::2 > 2001:db8::1 id 7 type 129 code 0 zone 3");
/// # Ok::<(), gufc::key::ParseTupleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tuple {
    /// An IPv4 flow.
    V4(SevenTuple<Ipv4Addr>),
    /// An IPv6 flow.
    V6(SevenTuple<Ipv6Addr>),
}

impl Tuple {
    /// The tuple between two addresses of one family, not local, in zone 0; `None` when the families differ.
    pub fn new(source: Endpoint, destination: Endpoint, protocol: Protocol) -> Option<Self> {
        match (source.address, destination.address) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Some(Self::V4(SevenTuple::new(
                s,
                d,
                protocol,
                source.port,
                destination.port,
            ))),
            (IpAddr::V6(s), IpAddr::V6(d)) => Some(Self::V6(SevenTuple::new(
                s,
                d,
                protocol,
                source.port,
                destination.port,
            ))),
            _ => None,
        }
    }

    /// The same flow in `zone`.
    #[must_use]
    pub fn in_zone(self, zone: Zone) -> Self {
        match self {
            Self::V4(tuple) => Self::V4(tuple.in_zone(zone)),
            Self::V6(tuple) => Self::V6(tuple.in_zone(zone)),
        }
    }

    /// The same flow with these locality bits.
    #[must_use]
    pub fn at(self, locality: Locality) -> Self {
        match self {
            Self::V4(tuple) => Self::V4(tuple.at(locality)),
            Self::V6(tuple) => Self::V6(tuple.at(locality)),
        }
    }
}

impl From<SevenTuple<Ipv4Addr>> for Tuple {
    fn from(tuple: SevenTuple<Ipv4Addr>) -> Self {
        Self::V4(tuple)
    }
}

impl From<SevenTuple<Ipv6Addr>> for Tuple {
    fn from(tuple: SevenTuple<Ipv6Addr>) -> Self {
        Self::V6(tuple)
    }
}

impl FlowKey for Tuple {
    #[inline]
    fn fields(&self) -> Fields {
        match self {
            Self::V4(tuple) => tuple.fields(),
            Self::V6(tuple) => tuple.fields(),
        }
    }

    fn inverse(&self) -> Option<Self> {
        match self {
            Self::V4(tuple) => tuple.inverse().map(Self::V4),
            Self::V6(tuple) => tuple.inverse().map(Self::V6),
        }
    }

    /// Changes the family when both addresses are of the other one (NAT64), and ICMP's protocol number with it;
    /// [`crossed`](super::crossed) translates its type and code as well.
    fn with(&self, source: Endpoint, destination: Endpoint) -> Option<Self> {
        let fields = self.fields();
        let protocol = match (fields.family, fields.protocol, source.address) {
            (Family::V4, Protocol::ICMP, IpAddr::V6(_)) => Protocol::ICMPV6,
            (Family::V6, Protocol::ICMPV6, IpAddr::V4(_)) => Protocol::ICMP,
            (_, protocol, _) => protocol,
        };
        Some(
            Self::new(source, destination, protocol)?
                .in_zone(fields.zone)
                .at(fields.locality),
        )
    }

    fn protocol(&self) -> Protocol {
        match self {
            Self::V4(tuple) => tuple.protocol(),
            Self::V6(tuple) => tuple.protocol(),
        }
    }
}

/// As [`Display`](fmt::Display): a tuple says more than its words.
impl<A: Address> fmt::Debug for SevenTuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

impl<A: Address> fmt::Display for SevenTuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_tuple(f, &self.fields())
    }
}

/// `PROTO SRC[:PORT] > DST[:PORT] [id N type N code N] [local WHICH] [zone N]`; protocols without ports print none.
fn write_tuple(f: &mut fmt::Formatter<'_>, fields: &Fields) -> fmt::Result {
    let (source, destination) = (
        fields.family.address(fields.source),
        fields.family.address(fields.destination),
    );
    let ports = fields.protocol.has_ports()
        || (!fields.protocol.is_icmp() && fields.source_port | fields.destination_port != 0);
    write!(f, "{} ", fields.protocol)?;
    if !ports {
        write!(f, "{source} > {destination}")?;
    } else if fields.family == Family::V4 {
        write!(
            f,
            "{source}:{} > {destination}:{}",
            fields.source_port, fields.destination_port
        )?;
    } else {
        write!(
            f,
            "[{source}]:{} > [{destination}]:{}",
            fields.source_port, fields.destination_port
        )?;
    }
    if fields.protocol.is_icmp() {
        let [kind, code] = fields.destination_port.to_be_bytes();
        write!(f, " id {} type {kind} code {code}", fields.source_port)?;
    }
    match (fields.locality.source, fields.locality.destination) {
        (false, false) => {}
        (true, false) => f.write_str(" local source")?,
        (false, true) => f.write_str(" local destination")?,
        (true, true) => f.write_str(" local both")?,
    }
    if fields.zone.id() != 0 {
        write!(f, " zone {}", fields.zone.id())?;
    }
    Ok(())
}

/// Why a text is not a tuple: the part that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseTupleError {
    /// The protocol is neither a known name nor a number from 0 to 255.
    Protocol,
    /// The source end is not `address` or `address:port`.
    Source,
    /// No `>` between the ends.
    Arrow,
    /// The destination end is not `address` or `address:port`.
    Destination,
    /// The two ends are of different families, or not of the family asked for.
    Family,
    /// A word after the ends is unknown, or its value is missing or out of range.
    Option,
}

impl fmt::Display for ParseTupleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "expected a protocol: a name such as tcp, or a number from 0 to 255",
            Self::Source => {
                "expected the source: address or address:port, IPv6 with a port in brackets"
            }
            Self::Arrow => "expected > between source and destination",
            Self::Destination => {
                "expected the destination: address or address:port, IPv6 with a port in brackets"
            }
            Self::Family => "source and destination are not of the family expected",
            Self::Option => {
                "expected id, type, code, zone with a number, or local source, destination or both"
            }
        })
    }
}

impl core::error::Error for ParseTupleError {}

fn parse_endpoint(text: &str) -> Option<Endpoint> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Endpoint::new(address, 0));
    }
    let end: core::net::SocketAddr = text.parse().ok()?;
    Some(Endpoint::new(end.ip(), end.port()))
}

impl FromStr for Tuple {
    type Err = ParseTupleError;

    fn from_str(text: &str) -> Result<Self, ParseTupleError> {
        let mut words = text.split_whitespace();
        let protocol: Protocol = words.next().ok_or(ParseTupleError::Protocol)?.parse()?;
        let mut source = words
            .next()
            .and_then(parse_endpoint)
            .ok_or(ParseTupleError::Source)?;
        if words.next() != Some(">") {
            return Err(ParseTupleError::Arrow);
        }
        let mut destination = words
            .next()
            .and_then(parse_endpoint)
            .ok_or(ParseTupleError::Destination)?;
        let (mut locality, mut zone) = (Locality::default(), Zone::default());
        while let Some(word) = words.next() {
            let value = words.next().ok_or(ParseTupleError::Option)?;
            let number = || value.parse::<u32>().map_err(|_| ParseTupleError::Option);
            let byte =
                || number().and_then(|n| u8::try_from(n).map_err(|_| ParseTupleError::Option));
            match word {
                "id" if protocol.is_icmp() => {
                    source.port = u16::try_from(number()?).map_err(|_| ParseTupleError::Option)?;
                }
                "type" if protocol.is_icmp() => {
                    destination.port = u16::from_be_bytes([byte()?, destination.port as u8]);
                }
                "code" if protocol.is_icmp() => {
                    destination.port = u16::from_be_bytes([(destination.port >> 8) as u8, byte()?]);
                }
                "zone" => zone = Zone::new(number()?).ok_or(ParseTupleError::Option)?,
                "local" => {
                    locality = match value {
                        "source" => Locality {
                            source: true,
                            destination: false,
                        },
                        "destination" => Locality {
                            source: false,
                            destination: true,
                        },
                        "both" => Locality {
                            source: true,
                            destination: true,
                        },
                        _ => return Err(ParseTupleError::Option),
                    }
                }
                _ => return Err(ParseTupleError::Option),
            }
        }
        let tuple = Self::new(source, destination, protocol).ok_or(ParseTupleError::Family)?;
        Ok(tuple.at(locality).in_zone(zone))
    }
}

impl FromStr for SevenTuple<Ipv4Addr> {
    type Err = ParseTupleError;

    fn from_str(text: &str) -> Result<Self, ParseTupleError> {
        match text.parse()? {
            Tuple::V4(tuple) => Ok(tuple),
            Tuple::V6(_) => Err(ParseTupleError::Family),
        }
    }
}

impl FromStr for SevenTuple<Ipv6Addr> {
    type Err = ParseTupleError;

    fn from_str(text: &str) -> Result<Self, ParseTupleError> {
        match text.parse()? {
            Tuple::V6(tuple) => Ok(tuple),
            Tuple::V4(_) => Err(ParseTupleError::Family),
        }
    }
}
