//! IP protocol numbers, and which ICMP type answers which.

use core::fmt;
use core::str::FromStr;

use super::ParseTupleError;

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
