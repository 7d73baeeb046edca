//! What the owner of a pool decides, and why it lends nothing.
//!
//! Apart from the allocator because rules, mappings and owners read it, and only the allocator changes anything.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::key::{Cidr, Embedding, Ports, Protocol};
use crate::time::Duration;
use crate::verdict::Answer;

/// Who may send to an outside end (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// Anybody, while the mapping lives.
    #[default]
    EndpointIndependent,
    /// Those at an address that the subscriber has sent to.
    AddressDependent,
    /// Those at an address and port that the subscriber has sent to.
    AddressAndPortDependent,
}

/// How ports are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// Each by itself.
    #[default]
    Single,
    /// In blocks of `size` ports, of which a subscriber has at most `max` at once.
    Blocks {
        /// Ports in a block: 1 to 65,535.
        size: u16,
        /// Blocks of one subscriber.
        max: u8,
    },
    /// In blocks that follow from the subscriber's address (RFC 7422).
    Deterministic {
        /// Where subscribers' addresses are.
        inside: Cidr,
    },
}

/// What the owner of a pool decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The outside addresses, of one family: those of another than the first are left out.
    pub addresses: Vec<IpAddr>,
    /// The ports that are lent, of each address; also the ICMP identifiers.
    pub ports: Ports,
    /// The protocols that ports are lent for. ICMPv6 is ICMP here. 8 KiB each for each address.
    pub protocols: Vec<Protocol>,
    /// Ports that are never lent, since this machine uses them itself.
    pub reserved: Vec<(IpAddr, Ports)>,
    /// Where subscribers are: what they send to outside ends of the pool is turned back, with an outside source.
    pub inside: Vec<Cidr>,
    /// For subscribers of IPv6 and outside addresses of IPv4: the prefix that IPv4's hosts have inside (NAT64, RFC 6146). Such a
    /// pool serves the rules that say `nat64`, and no others.
    pub prefix64: Option<Embedding>,
    /// Who may send to an outside end.
    pub filtering: Filtering,
    /// How ports are handed out.
    pub allocation: Allocation,
    /// Ports of one subscriber at once, of all protocols together.
    pub quota: Option<u32>,
    /// Ports that one subscriber may open within a second.
    pub rate: Option<u32>,
    /// How long a freed port or block rests before another subscriber gets it.
    pub quarantine: Duration,
    /// Ports or blocks that may rest at once; of more the oldest is woken early.
    pub quarantine_max: usize,
    /// Whether the inside port is kept where it is free.
    pub keep_port: bool,
    /// Whether an even port stays even and an odd one odd, where one is free.
    pub keep_parity: bool,
    /// What a subscriber is told whose first packet got no port, for whatever reason; `None`: nothing. RFC 6888 (requirement 11) and
    /// RFC 6146 (section 3.5.1.1) ask for "host unreachable", which ends no attempt to connect; RFC 5508 (requirement 8) asks for
    /// [`Answer::AdminProhibited`], after which hosts may give up.
    pub answer: Option<Answer>,
}

impl PoolConfig {
    /// Ports 1024 to 65535 of these addresses for TCP, UDP and ICMP, anybody may answer, ports kept where free, parity kept, none
    /// at rest, and "host unreachable" for who gets none.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            ports: Ports {
                first: 1024,
                last: 65_535,
            },
            protocols: Vec::from([Protocol::TCP, Protocol::UDP, Protocol::ICMP]),
            reserved: Vec::new(),
            inside: Vec::new(),
            prefix64: None,
            filtering: Filtering::EndpointIndependent,
            allocation: Allocation::Single,
            quota: None,
            rate: None,
            quarantine: Duration::ZERO,
            quarantine_max: 65_536,
            keep_port: true,
            keep_parity: true,
            answer: Some(Answer::HostUnreachable),
        }
    }
}

/// Why no port was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PoolError {
    /// The subscriber's address, or the blocks that he may have, have no free port.
    Exhausted,
    /// The subscriber has as many as he may have.
    Quota,
    /// The subscriber opens ports faster than he may.
    Rate,
    /// The pool has no ports for the protocol.
    Protocol,
    /// The subscriber's address has no block.
    Outsider,
}

impl PoolError {
    pub(super) const COUNT: usize = 5;
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "no port is free",
            Self::Quota => "the subscriber has as many ports as he may have",
            Self::Rate => "the subscriber opens ports too fast",
            Self::Protocol => "the pool has no ports for the protocol",
            Self::Outsider => "the subscriber's address is none of the pool's",
        })
    }
}

impl core::error::Error for PoolError {}
