//! Rusty's seven-tuple plus zone: one type for both families, and the enum that holds either.
//!
//! `SRCIP/DSTIP/PROTO/SPT/DPT/IN/OUT` (Russell, netdev, July 2006), where IN and OUT are the two locality bits "source is
//! local" and "destination is local". [`SevenTuple`] is generic over the address, so an IPv4 dataplane stores and compares
//! 128 bits; [`Tuple`] is what a dual-stack dataplane hands around, while its structures still store each family at its own
//! width.

use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Endpoint, Family, Field, Fields, FlowKey, Key, Locality, Protocol, Zone, icmp_answer, tiles,
};

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
        Zone::of_low_bits(self.rest())
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
            zone: Zone::of_low_bits(rest),
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
