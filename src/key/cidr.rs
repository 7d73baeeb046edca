//! An address prefix, `192.0.2.0/24` or `2001:db8::/32`: the one prefix type of rules, routes and regions.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::Family;

/// An address prefix of either family. Host bits are always zero.
///
/// The bits are kept left-aligned in a `u128` whatever the family, so that a test is one mask and one comparison.
///
/// ```
/// use gufc::key::Cidr;
///
/// let net: Cidr = "10.0.0.0/8".parse()?;
/// assert!(net.contains("10.1.2.3".parse()?));
/// assert!(net.covers(&"10.9.0.0/16".parse()?));
/// assert!("10.0.0.1/8".parse::<Cidr>().is_err());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    family: Family,
    bits: u128,
    len: u8,
}

impl Cidr {
    /// The prefix of `len` bits that contains `address`; its host bits are cleared.
    ///
    /// `None` when `len` is above the family's 32 or 128.
    pub const fn new(address: IpAddr, len: u8) -> Option<Self> {
        let (family, bits) = Family::align(address);
        if len > family.bits() {
            return None;
        }
        Some(Self {
            family,
            bits: bits & mask(len),
            len,
        })
    }

    /// The prefix that holds `address` alone.
    pub const fn host(address: IpAddr) -> Self {
        let (family, bits) = Family::align(address);
        Self {
            family,
            bits,
            len: family.bits(),
        }
    }

    /// The prefix of length 0: every address of the family.
    pub const fn all(family: Family) -> Self {
        Self {
            family,
            bits: 0,
            len: 0,
        }
    }

    /// The prefix of `len` bits from left-aligned `bits`; lengths above the family's are cut to it.
    pub const fn from_bits(family: Family, bits: u128, len: u8) -> Self {
        let len = if len > family.bits() {
            family.bits()
        } else {
            len
        };
        Self {
            family,
            bits: bits & mask(len),
            len,
        }
    }

    /// The family of its addresses.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The prefix's bits, left-aligned: the first bit of the address is bit 127.
    pub const fn bits(&self) -> u128 {
        self.bits
    }

    /// The left-aligned mask: `len` ones, then zeros.
    pub const fn mask(&self) -> u128 {
        mask(self.len)
    }

    /// Length of the prefix in bits.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix has a length and no contents"
    )]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// The lowest address of the prefix.
    pub const fn address(&self) -> IpAddr {
        self.family.address(self.bits)
    }

    /// Whether `address` is of the family and begins with the prefix. Cost: one mask, one comparison.
    pub const fn contains(&self, address: IpAddr) -> bool {
        let (family, bits) = Family::align(address);
        self.holds(family, bits)
    }

    /// [`contains`](Self::contains) for an address already aligned ([`Family::align`]).
    #[inline]
    pub const fn holds(&self, family: Family, bits: u128) -> bool {
        self.family as u8 == family as u8 && (bits ^ self.bits) & mask(self.len) == 0
    }

    /// Whether every address of `other` is in this prefix.
    pub const fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.holds(other.family, other.bits)
    }

    /// Whether some address is in both: prefixes nest or are apart.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// `len` ones from the top, then zeros.
#[inline]
const fn mask(len: u8) -> u128 {
    if len == 0 {
        0
    } else {
        u128::MAX << (128 - len as u32)
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

impl From<Ipv4Addr> for Cidr {
    fn from(address: Ipv4Addr) -> Self {
        Self::host(address.into())
    }
}

impl From<Ipv6Addr> for Cidr {
    fn from(address: Ipv6Addr) -> Self {
        Self::host(address.into())
    }
}

impl TryFrom<(IpAddr, u8)> for Cidr {
    type Error = ParseCidrError;

    /// The prefix of that length, refusing host bits.
    fn try_from((address, len): (IpAddr, u8)) -> Result<Self, ParseCidrError> {
        let prefix = Self::new(address, len).ok_or(ParseCidrError::Length)?;
        if prefix.bits != Family::align(address).1 {
            Err(ParseCidrError::HostBits)
        } else {
            Ok(prefix)
        }
    }
}

/// Writes `address/len`, or the address alone for a host.
impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == self.family.bits() {
            write!(f, "{}", self.address())
        } else {
            write!(f, "{}/{}", self.address(), self.len)
        }
    }
}

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseCidrError {
    /// The part before the slash is not an address.
    Address,
    /// The length is not a number of the family's range.
    Length,
    /// Bits behind the prefix are set: `10.0.0.1/8`.
    HostBits,
}

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an IPv4 or IPv6 address",
            Self::Length => "prefix length out of range (0 to 32 for IPv4, 0 to 128 for IPv6)",
            Self::HostBits => "bits behind the prefix length are set",
        })
    }
}

impl core::error::Error for ParseCidrError {}

/// Reads `address` or `address/len`.
impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseCidrError::Address)?;
        match len {
            None => Ok(Self::host(address)),
            Some(len) if len.bytes().all(|b| b.is_ascii_digit()) => {
                Self::try_from((address, len.parse().map_err(|_| ParseCidrError::Length)?))
            }
            Some(_) => Err(ParseCidrError::Length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_round_trips() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "192.0.2.1",
            "::/0",
            "2001:db8::/32",
            "2001:db8::1",
        ] {
            assert_eq!(
                text.parse::<Cidr>().map(|c| c.to_string()).as_deref(),
                Ok(text)
            );
        }
    }

    #[test]
    fn text_refused() {
        for (text, error) in [
            ("10.0.0.0/33", ParseCidrError::Length),
            ("10.0.0.0/+8", ParseCidrError::Length),
            ("10.0.0.0/", ParseCidrError::Length),
            ("10.0.0/8", ParseCidrError::Address),
            ("10.0.0.1/8", ParseCidrError::HostBits),
            ("2001:db8::1/32", ParseCidrError::HostBits),
            ("", ParseCidrError::Address),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text}");
        }
    }

    #[test]
    fn families_are_apart() {
        let v4 = Cidr::all(Family::V4);
        assert!(!v4.contains(Ipv6Addr::LOCALHOST.into()));
        assert!(!v4.overlaps(&Cidr::all(Family::V6)));
    }
}
