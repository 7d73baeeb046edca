//! A change of a packet's family: what a translator between IPv4 and IPv6 is told, and why it may refuse.
//!
//! Apart from [`Rewrite`] because the packet's headers change their length, and because much of what one family can say the
//! other cannot.

use core::fmt;

use super::{Defect, Rewrite};
use crate::key::FlowKey;

/// How a packet of one direction of a flow becomes one of the other family (RFC 7915): for
/// [`Packet::translate`](super::Packet::translate).
///
/// [`crossed`](crate::key::crossed) makes the key to translate to. The hop limit is kept; who forwards the packet lowers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<K> {
    /// From the key that the packet has to the key that it gets. Of an ICMP message only the addresses and the identifier
    /// count: its type and code follow from those it has.
    pub rewrite: Rewrite<K>,
    /// For an ICMP error, the key that the quoted packet gets, as it was sent.
    pub quoted: Option<K>,
    /// IPv4's identification for a packet that routers may fragment and that has none yet: one that comes from IPv6 without a
    /// fragment header and is at most 1,260 bytes long. Such packets should differ in it (RFC 6864 section 4).
    pub identification: u16,
    /// How long packets may be on either side.
    pub mtu: Mtus,
}

impl<K: FlowKey> Translation<K> {
    /// The translation from the key `from` to the key `to` of the other family, identification 0, lengths unlimited.
    /// Cost: O(1).
    pub fn between(from: &K, to: &K) -> Self {
        Self {
            rewrite: Rewrite::between(from, to),
            quoted: None,
            identification: 0,
            mtu: Mtus::default(),
        }
    }
}

/// How long packets may be on either side of a translator. For a translation values below 1,280 (IPv6) and 68 (IPv4) count as these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtus {
    /// Bytes of the longest packet on the next link of the IPv4 side.
    pub v4: u32,
    /// Bytes of the longest packet on the next link of the IPv6 side.
    pub v6: u32,
    /// Bytes of the longest IPv6 packet that every path of the IPv6 side takes: an IPv4 packet that may be fragmented has to
    /// be, down to this. 1,280 unless the network is known to do better.
    pub lowest_v6: u32,
}

impl Mtus {
    /// What every path takes.
    pub const MIN: Self = Self {
        v4: 1260,
        v6: 1280,
        lowest_v6: 1280,
    };

    /// Those of links that all take packets of `mtu` bytes.
    pub const fn both(mtu: u32) -> Self {
        Self {
            v4: mtu,
            v6: mtu,
            lowest_v6: 1280,
        }
    }

    /// Bytes of the longest packet of a family that fits the other side unfragmented: what the sender of a longer one is told.
    /// From IPv6 a packet may be 20 bytes longer than IPv4's MTU, and is never told less than 1,280; from IPv4 it has to be 20
    /// bytes shorter than IPv6's.
    pub const fn told(&self, family: crate::key::Family) -> u32 {
        match family {
            crate::key::Family::V4 => {
                let v6 = if self.v6 < 1280 { 1280 } else { self.v6 };
                v6 - 20
            }
            crate::key::Family::V6 => {
                let v4 = self.v4.saturating_add(20);
                if v4 < 1280 { 1280 } else { v4 }
            }
        }
    }
}

/// Both links take everything; the lowest is 1,280.
impl Default for Mtus {
    fn default() -> Self {
        Self {
            v4: u32::MAX,
            v6: u32::MAX,
            lowest_v6: 1280,
        }
    }
}

/// Why a packet cannot be translated to the other family. It is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Untranslatable {
    /// This type of packet cannot change its family.
    Unsupported,
    /// Too few bytes before the packet for the longer headers.
    Room,
    /// The key to translate to is not of the other family, or not of the protocol that the packet's becomes.
    Target,
    /// The packet is defective.
    Malformed(Defect),
    /// It is source-routed and not at its last hop (RFC 7915 sections 4.1 and 5.1). ICMP 3/5 or ICMPv6 4/0 answers it.
    SourceRoute {
        /// Offset of the routing header's "segments left", 0 in IPv4.
        pointer: u16,
    },
    /// An authentication header covers the addresses, and would be wrong.
    Authentication,
    /// IGMP, ICMP of the other family, or an extension header of IPv6 as protocol of an IPv4 packet or behind a fragment
    /// header.
    Protocol,
    /// An ICMP message that says nothing in the other family.
    IcmpMessage,
    /// A parameter problem of a field that the other family does not have.
    IcmpPointer,
    /// A fragment of an ICMP message: its checksum covers what is not there (RFC 7915 section 1.2).
    IcmpFragment,
    /// An ICMP error that quotes an ICMP error (RFC 7915 section 4.3).
    Nested,
    /// An ICMP error whose quoted packet cannot be read or translated, or for which no key was given.
    Quotation,
    /// An ICMP error whose checksum is wrong.
    Corrupt,
    /// Bytes are missing that a checksum has to be computed over.
    Cut,
    /// The first fragment of an IPv4 UDP datagram without a checksum, which IPv6 demands (RFC 7915 section 4.5).
    UdpChecksum,
    /// An IPv4 packet that may be fragmented and has to be: the fragments can be translated.
    MustFragment {
        /// Bytes of the longest IPv4 fragment that can be.
        mtu: u32,
    },
    /// It may not be fragmented, and does not fit the other side.
    TooBig {
        /// Bytes of the longest packet that would, in the packet's own family: what its sender is told.
        mtu: u32,
    },
    /// The other family's length field cannot say its length.
    TooLong,
}

impl fmt::Display for Untranslatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "the packet's type cannot change its family",
            Self::Room => "no room before the packet",
            Self::Target => "the new key is of the wrong family or protocol",
            Self::Malformed(defect) => return defect.fmt(f),
            Self::SourceRoute { .. } => "source-routed",
            Self::Authentication => "authenticated addresses",
            Self::Protocol => "a protocol of one family only",
            Self::IcmpMessage => "an ICMP message of one family only",
            Self::IcmpPointer => "a problem with a field of one family only",
            Self::IcmpFragment => "a fragment of an ICMP message",
            Self::Nested => "an ICMP error about an ICMP error",
            Self::Quotation => "the quoted packet cannot be translated",
            Self::Corrupt => "the ICMP checksum is wrong",
            Self::Cut => "bytes are missing",
            Self::UdpChecksum => "a fragment of a datagram without checksum",
            Self::MustFragment { mtu } => return write!(f, "must be fragmented to {mtu} bytes"),
            Self::TooBig { mtu } => return write!(f, "longer than {mtu} bytes"),
            Self::TooLong => "longer than a packet can be",
        })
    }
}

impl core::error::Error for Untranslatable {}
