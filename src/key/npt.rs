//! Prefix translation between IPv6 networks that leaves every checksum right (NPTv6, RFC 6296).
//!
//! Apart from other address translation because it has no state, no ports, and touches no transport header: one 16-bit word
//! of the address takes up what the prefix changes in the one's-complement sum.

use core::net::{IpAddr, Ipv6Addr};

use super::{Cidr, Family};

/// An internal and an external prefix, mapped to one another, address by address.
///
/// ```text
///  longer of the two prefixes   the word that is adjusted
///  up to 48 bits                bits 48 to 63, the subnet: 0xffff cannot be mapped
///  49 to 64 bits                the first of bits 64, 80, 96, 112 that is not 0xffff: an identifier of ones cannot be mapped
/// ```
///
/// # Laws
///
/// * `inbound(outbound(a)?) == a` wherever the adjusted word of `a` is not 0xffff, which is all that `outbound` maps.
/// * The one's-complement sum of the address does not change, so neither does any checksum over it.
///
/// ```
/// use gufc::key::PrefixTranslation;
/// use core::net::Ipv6Addr;
///
/// // RFC 6296 section 3.1 and appendix B.
/// let site = PrefixTranslation::new("fd01:203:405::/48".parse()?, "2001:db8:1::/48".parse()?).unwrap();
/// let inside: Ipv6Addr = "fd01:203:405:1::1234".parse()?;
/// let outside = site.outbound(inside).unwrap();
/// assert_eq!(outside.to_string(), "2001:db8:1:d550::1234");
/// assert_eq!(site.inbound(outside), Some(inside));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixTranslation {
    internal: u128,
    external: u128,
    /// Bits that both prefixes have: the longer length.
    length: u8,
    /// What an outbound address's word gains.
    adjustment: u16,
}

impl PrefixTranslation {
    /// The mapping between two prefixes. The shorter is taken to be as long as the longer, its further bits zero (RFC 6296
    /// section 3.7).
    ///
    /// `None` unless both are of IPv6 and at most 64 bits long. Cost: O(1).
    pub const fn new(internal: Cidr, external: Cidr) -> Option<Self> {
        let length = if internal.len() > external.len() {
            internal.len()
        } else {
            external.len()
        };
        let (IpAddr::V6(internal), IpAddr::V6(external)) = (internal.address(), external.address())
        else {
            return None;
        };
        if length > 64 {
            return None;
        }
        let (internal, external) = (internal.to_bits(), external.to_bits());
        Some(Self {
            internal,
            external,
            length,
            adjustment: add(sum(internal), !sum(external)),
        })
    }

    /// The internal prefix, as long as the longer of the two.
    pub const fn internal(&self) -> Cidr {
        Cidr::from_bits(Family::V6, self.internal, self.length)
    }

    /// The external prefix, as long as the longer of the two.
    pub const fn external(&self) -> Cidr {
        Cidr::from_bits(Family::V6, self.external, self.length)
    }

    /// What is added to the adjusted word of an outbound address, in one's complement: the sum of the internal prefix less
    /// that of the external one.
    pub const fn adjustment(&self) -> u16 {
        self.adjustment
    }

    /// The external address of an internal one.
    ///
    /// `None` for an address outside the internal prefix, and where every word that could be adjusted is 0xffff: such a packet
    /// is dropped (RFC 6296 sections 3.4 and 3.5). Cost: O(1).
    pub const fn outbound(&self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        self.map(address, self.internal, self.external, self.adjustment)
    }

    /// The internal address of an external one; `None` as for [`outbound`](Self::outbound). Cost: O(1).
    pub const fn inbound(&self, address: Ipv6Addr) -> Option<Ipv6Addr> {
        self.map(address, self.external, self.internal, !self.adjustment)
    }

    const fn map(
        &self,
        address: Ipv6Addr,
        from: u128,
        to: u128,
        adjustment: u16,
    ) -> Option<Ipv6Addr> {
        let host = match self.length {
            0 => u128::MAX,
            length => u128::MAX >> length,
        };
        let bits = address.to_bits();
        if (bits ^ from) & !host != 0 {
            return None;
        }
        let Some(at) = word_to_adjust(bits, self.length) else {
            return None;
        };
        let word = match add((bits >> at) as u16, adjustment) {
            0xffff => 0,
            word => word,
        };
        let rest = bits & host & !(0xffff << at);
        Some(Ipv6Addr::from_bits(to | rest | (word as u128) << at))
    }
}

/// How far to the right of the address's end the word lies that takes the adjustment; `None` where it is 0xffff.
const fn word_to_adjust(bits: u128, length: u8) -> Option<u32> {
    if length <= 48 {
        return if (bits >> 64) as u16 == 0xffff {
            None
        } else {
            Some(64)
        };
    }
    let mut at = 48;
    loop {
        if (bits >> at) as u16 != 0xffff {
            return Some(at);
        }
        if at == 0 {
            return None;
        }
        at -= 16;
    }
}

/// One's-complement sum of an address's words.
const fn sum(bits: u128) -> u16 {
    let mut total = 0;
    let mut at = 0;
    while at < 128 {
        total = add(total, (bits >> at) as u16);
        at += 16;
    }
    total
}

/// One's-complement addition.
const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn between(internal: &str, external: &str) -> PrefixTranslation {
        PrefixTranslation::new(internal.parse().unwrap(), external.parse().unwrap()).unwrap()
    }

    #[test]
    fn named_addresses() {
        let site = between("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(site.adjustment(), 0xd54f);
        let subnet = between("fd01:203:405:1::/64", "2001:db8:1:2::/64");
        assert_eq!(subnet.adjustment(), 0xd54e);
        for (map, inside, outside) in [
            (site, "fd01:203:405:1::1234", "2001:db8:1:d550::1234"),
            (subnet, "fd01:203:405:1:abcd:0:0:1", "2001:db8:1:2:811c::1"),
            (
                subnet,
                "fd01:203:405:1:ffff:0:0:1",
                "2001:db8:1:2:ffff:d54e:0:1",
            ),
        ] {
            let (inside, outside) = (inside.parse().unwrap(), outside.parse().unwrap());
            assert_eq!(map.outbound(inside), Some(outside));
            assert_eq!(map.inbound(outside), Some(inside));
        }
    }

    #[test]
    fn ones_cannot_be_mapped() {
        let site = between("fd01:203:405::/48", "2001:db8:1::/48");
        assert_eq!(site.outbound("fd01:203:405:ffff::1".parse().unwrap()), None);
        assert_eq!(site.inbound("2001:db8:1:ffff::1".parse().unwrap()), None);
        let subnet = between("fd01:203:405:1::/64", "2001:db8:1:2::/64");
        let ones = "fd01:203:405:1:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(subnet.outbound(ones), None);
        assert_eq!(
            subnet.outbound("fd01:203:406:1::1".parse().unwrap()),
            None,
            "not inside"
        );
    }

    #[test]
    fn lengths() {
        let new = |a: &str, b: &str| PrefixTranslation::new(a.parse().unwrap(), b.parse().unwrap());
        assert!(new("2001:db8::/65", "fd00::/64").is_none());
        assert!(new("10.0.0.0/8", "fd00::/64").is_none());
        let uneven = between("fd00::/48", "2001:db8:0:100::/56");
        assert_eq!(uneven.internal(), "fd00::/56".parse().unwrap());
        assert_eq!(uneven.external().len(), 56);
    }

    /// A /48 in full: every subnet but 0xffff goes out to a subnet of its own, and comes back.
    #[test]
    fn every_subnet_of_a_site() {
        let site = between("fd01:203:405::/48", "2001:db8:1::/48");
        let mut seen = alloc::vec![false; 0x1_0000];
        for subnet in 0..=0xffffu16 {
            let inside = Ipv6Addr::new(0xfd01, 0x203, 0x405, subnet, 0, 0, 0, 1);
            let outside = site.outbound(inside);
            assert_eq!(outside.is_some(), subnet != 0xffff);
            if let Some(outside) = outside {
                let [.., to, _, _, _, _] = outside.segments();
                assert!(to != 0xffff && !core::mem::replace(&mut seen[usize::from(to)], true));
                assert_eq!(site.inbound(outside), Some(inside));
            }
        }
    }

    proptest! {
        /// Whatever the prefixes: the sum stays, and the way back leads back.
        #[test]
        fn neutral_and_reversible(
            internal: u128, external: u128, a in 0u8..=64, b in 0u8..=64,
            words in prop::array::uniform8(prop_oneof![Just(0u16), Just(0xffff), any::<u16>()]),
        ) {
            let prefix = |bits, length| Cidr::from_bits(Family::V6, bits, length);
            let map = PrefixTranslation::new(prefix(internal, a), prefix(external, b)).unwrap();
            let host = u128::MAX.checked_shr(a.max(b).into()).unwrap_or(0);
            let IpAddr::V6(network) = map.internal().address() else { unreachable!() };
            let inside = Ipv6Addr::from_bits(network.to_bits() | Ipv6Addr::from(words).to_bits() & host);
            if let Some(outside) = map.outbound(inside) {
                prop_assert!(map.external().contains(outside.into()));
                // 0x0000 and 0xffff are one number.
                prop_assert_eq!(sum(outside.to_bits()) % 0xffff, sum(inside.to_bits()) % 0xffff);
                prop_assert_eq!(map.inbound(outside), Some(inside));
            }
        }
    }
}
