//! What a flow is known by: its fields, whatever type of key they are kept in.

use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Protocol;

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

/// A table of addresses of its own: a VRF, a VLAN, a tenant. 0 to [`Zone::MAX`].
///
/// Equal tuples in different zones are different flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(u32);

impl Zone {
    /// The zone in the low bits of a tuple's last word.
    pub(super) const fn of_low_bits(word: u64) -> Self {
        Self(word as u32 & Self::MAX)
    }

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
