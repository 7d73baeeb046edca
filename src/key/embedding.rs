//! IPv4 addresses inside IPv6 addresses (RFC 6052), and which ICMP message says in one family what another says in the
//! other (RFC 7915): what a translator between the families needs to name a flow.
//!
//! Apart from the translation of bytes because a hook decides with names alone.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Cidr, Endpoint, Family, FlowKey, Protocol};

/// An IPv6 prefix whose addresses have an IPv4 address in them, by RFC 6052 section 2.2.
///
/// Bits 64 to 71 (the octet `u`) are always zero, and the IPv4 address goes around them:
///
/// ```text
///  length  0       32      40      48      56      64  72  80  88  96  104     128
///      32  | prefix| a b c d                       | u | suffix                |
///      40  | prefix        | a b c                 | u | d | suffix            |
///      48  | prefix                | a b           | u | c d   | suffix        |
///      56  | prefix                        | a     | u | b c d     | suffix    |
///      64  | prefix                                | u | a b c d       | suffix|
///      96  | prefix                                                | a b c d   |
/// ```
///
/// ```
/// use gufc::key::Embedding;
///
/// let server = Embedding::WELL_KNOWN.embed("192.0.2.33".parse()?);
/// assert_eq!(server, "64:ff9b::c000:221".parse::<core::net::Ipv6Addr>()?);
/// assert_eq!(Embedding::WELL_KNOWN.extract(server), Some("192.0.2.33".parse()?));
///
/// let own: Embedding = "2001:db8:100::/40".parse()?;
/// assert_eq!(own.embed("192.0.2.33".parse()?).to_string(), "2001:db8:1c0:2:21::");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Embedding {
    prefix: u128,
    length: u8,
}

/// Bits 64 to 71.
const OCTET_U: u128 = 0xff << 56;

impl Embedding {
    /// `64:ff9b::/96`. It must not stand for addresses that are not global, such as `10.0.0.1` (RFC 6052 section 3.1); that is
    /// its user's to see to.
    pub const WELL_KNOWN: Self = Self {
        prefix: 0x0064_ff9b << 96,
        length: 96,
    };

    /// The prefix of `length` bits that `address` begins with.
    ///
    /// `None` unless `length` is 32, 40, 48, 56, 64 or 96, and bits 64 to 71 of the prefix are zero. Cost: O(1).
    pub const fn new(address: Ipv6Addr, length: u8) -> Option<Self> {
        if !matches!(length, 32 | 40 | 48 | 56 | 64 | 96) {
            return None;
        }
        let prefix = address.to_bits() >> (128 - length as u32) << (128 - length as u32);
        if prefix & OCTET_U != 0 {
            return None;
        }
        Some(Self { prefix, length })
    }

    /// The prefix.
    pub const fn prefix(&self) -> Cidr {
        Cidr::from_bits(Family::V6, self.prefix, self.length)
    }

    /// The IPv6 address that stands for `address`; its suffix is zero. Cost: a few shifts.
    pub const fn embed(&self, address: Ipv4Addr) -> Ipv6Addr {
        let bits = address.to_bits() as u128;
        if self.length == 96 {
            return Ipv6Addr::from_bits(self.prefix | bits);
        }
        // Where it would stand if there were no octet `u`; what lies behind bit 64 moves on by eight.
        let plain = bits << (96 - self.length as u32);
        let (high, low) = (plain >> 64 << 64, plain << 64 >> 64);
        Ipv6Addr::from_bits(self.prefix | high | low >> 8)
    }

    /// The IPv4 address in `address`. The suffix is not looked at (RFC 6052 section 2.3).
    ///
    /// `None` for an address that does not begin with the prefix, or whose octet `u` is not zero. Cost: a few shifts.
    pub const fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = address.to_bits();
        if (bits ^ self.prefix) >> (128 - self.length as u32) != 0 || bits & OCTET_U != 0 {
            return None;
        }
        if self.length == 96 {
            return Some(Ipv4Addr::from_bits(bits as u32));
        }
        let plain = bits >> 64 << 64 | bits << 72 >> 64;
        Some(Ipv4Addr::from_bits(
            (plain >> (96 - self.length as u32)) as u32,
        ))
    }

    /// The address in the other family: embedded, or extracted.
    pub const fn cross(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(address) => Some(IpAddr::V6(self.embed(address))),
            IpAddr::V6(address) => match self.extract(address) {
                Some(address) => Some(IpAddr::V4(address)),
                None => None,
            },
        }
    }
}

impl fmt::Display for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix().fmt(f)
    }
}

/// Why text is no [`Embedding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseEmbeddingError;

impl fmt::Display for ParseEmbeddingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 with bits 64 to 71 zero")
    }
}

impl core::error::Error for ParseEmbeddingError {}

impl core::str::FromStr for Embedding {
    type Err = ParseEmbeddingError;

    fn from_str(text: &str) -> Result<Self, ParseEmbeddingError> {
        let prefix: Cidr = text.parse().map_err(|_| ParseEmbeddingError)?;
        match prefix.address() {
            IpAddr::V6(address) => Self::new(address, prefix.len()).ok_or(ParseEmbeddingError),
            IpAddr::V4(_) => Err(ParseEmbeddingError),
        }
    }
}

/// The key that a packet of `key` has once it is translated to the other family, between `source` and `destination`: ports
/// and identifier kept, ICMP's protocol, type and code those of the other family.
///
/// `None` where the addresses are not both of the other family, where `K` cannot hold it, and where the ICMP message has no
/// counterpart. Cost: O(1).
///
/// ```
/// use gufc::key::{Embedding, FlowKey, Tuple, crossed};
///
/// let ping: Tuple = "icmpv6 2001:db8::1 > 64:ff9b::c000:221 id 7 type 128 code 0".parse()?;
/// let server = Embedding::WELL_KNOWN.cross(ping.destination().address).unwrap();
/// let outside = crossed(&ping, "198.51.100.1".parse()?, server).unwrap();
/// assert_eq!(outside.to_string(), "icmp 198.51.100.1 > 192.0.2.33 id 7 type 8 code 0");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub fn crossed<K: FlowKey>(key: &K, source: IpAddr, destination: IpAddr) -> Option<K> {
    let fields = key.fields();
    if Family::align(source).0 == fields.family {
        return None;
    }
    let end = match fields.protocol {
        protocol if protocol.is_icmp() => {
            let [kind, code] = fields.destination_port.to_be_bytes();
            let (kind, code) = icmp_counterpart(protocol, kind, code)?;
            u16::from_be_bytes([kind, code])
        }
        _ => fields.destination_port,
    };
    key.with(
        Endpoint::new(source, fields.source_port),
        Endpoint::new(destination, end),
    )
}

/// Type and code of the message of the other family that says the same (RFC 7915 sections 4.2 and 5.2): ICMP's for ICMPv6,
/// ICMPv6's for ICMP.
///
/// `None` for what has no counterpart and is dropped. Of a parameter problem the pointer decides, too, and the translation of
/// the packet may still be refused. Cost: O(1).
pub const fn icmp_counterpart(protocol: Protocol, kind: u8, code: u8) -> Option<(u8, u8)> {
    match protocol {
        Protocol::ICMP => icmp_to_icmpv6(kind, code),
        Protocol::ICMPV6 => icmpv6_to_icmp(kind, code),
        _ => None,
    }
}

const fn icmp_to_icmpv6(kind: u8, code: u8) -> Option<(u8, u8)> {
    Some(match (kind, code) {
        // Echo.
        (8, _) => (128, code),
        (0, _) => (129, code),
        // Destination unreachable: no route, unknown next header, no port, too big, prohibited.
        (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => (1, 0),
        (3, 2) => (4, 1),
        (3, 3) => (1, 4),
        (3, 4) => (2, 0),
        (3, 9 | 10 | 13 | 15) => (1, 1),
        // Time exceeded.
        (11, _) => (3, code),
        // Parameter problem.
        (12, 0 | 2) => (4, 0),
        _ => return None,
    })
}

const fn icmpv6_to_icmp(kind: u8, code: u8) -> Option<(u8, u8)> {
    Some(match (kind, code) {
        (128, _) => (8, code),
        (129, _) => (0, code),
        (1, 0 | 2 | 3) => (3, 1),
        (1, 1) => (3, 10),
        (1, 4) => (3, 3),
        (2, _) => (3, 4),
        (3, _) => (11, code),
        (4, 0) => (12, 0),
        (4, 1) => (3, 2),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6052 section 2.4, tables 2 and 3.
    #[test]
    fn rfc_6052_examples() {
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let embedding: Embedding = prefix.parse().unwrap();
            let address: Ipv6Addr = address.parse().unwrap();
            let inner = Ipv4Addr::new(192, 0, 2, 33);
            assert_eq!(embedding.embed(inner), address, "{prefix}");
            assert_eq!(embedding.extract(address), Some(inner), "{prefix}");
            assert_eq!(embedding.prefix(), prefix.parse().unwrap());
        }
    }

    #[test]
    fn lengths_and_octet_u() {
        for length in 0..=255 {
            let made = Embedding::new(Ipv6Addr::LOCALHOST, length).is_some();
            assert_eq!(made, [32, 40, 48, 56, 64, 96].contains(&length), "{length}");
        }
        assert!(
            "2001:db8::100:0:0:0/96".parse::<Embedding>().is_err(),
            "octet u"
        );
        assert!(
            "2001:db8:0:0:ff::/96".parse::<Embedding>().is_ok(),
            "bits 72 to 79"
        );
        assert!("10.0.0.0/8".parse::<Embedding>().is_err());
        let embedding: Embedding = "2001:db8::/64".parse().unwrap();
        let stray = Ipv6Addr::from_bits(embedding.embed(Ipv4Addr::LOCALHOST).to_bits() | 1 << 56);
        assert_eq!(embedding.extract(stray), None);
        assert_eq!(embedding.extract(Ipv6Addr::LOCALHOST), None);
    }

    proptest! {
        /// Extracting is the reverse of embedding, whatever the suffix; octet by octet as section 2.2 draws it.
        #[test]
        fn embeds_and_extracts(address: u32, prefix: u128, length in prop::sample::select(&[32u8, 40, 48, 56, 64, 96][..]), suffix: u128) {
            let embedding = Embedding::new((prefix & !OCTET_U).into(), length).unwrap();
            let inner = Ipv4Addr::from_bits(address);
            let outer = embedding.embed(inner);
            prop_assert_eq!(embedding.extract(outer), Some(inner));
            let mut octets = [0; 16];
            octets[..usize::from(length) / 8].copy_from_slice(&(prefix & !OCTET_U).to_be_bytes()[..usize::from(length) / 8]);
            let mut at = usize::from(length) / 8;
            for octet in inner.octets() {
                if at == 8 {
                    at += 1;
                }
                octets[at] = octet;
                at += 1;
            }
            prop_assert_eq!(outer.octets(), octets);
            let tail = if at >= 16 { 0 } else { u128::MAX >> (8 * at) };
            let stray = Ipv6Addr::from_bits(outer.to_bits() | suffix & tail & !OCTET_U);
            prop_assert_eq!(embedding.extract(stray), Some(inner));
        }
    }
}
