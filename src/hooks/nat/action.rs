//! What a rule does to a connection: which end it changes, and to what.
//!
//! Apart because it is plain data: rules are made of it, and the choice of a tuple reads it.

use core::net::IpAddr;

use super::mapping::PoolId;
use crate::hooks::conntrack::Status;
use crate::key::{Cidr, Family, Ports};

/// Which end of a connection is changed, as its original direction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

impl End {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }

    /// The status bit that says that this end of a connection is changed.
    pub(super) const fn bit(self) -> Status {
        match self {
            Self::Source => Status::SRC_NAT,
            Self::Destination => Status::DST_NAT,
        }
    }

    /// The status bit that says that this end has been decided on.
    pub(super) const fn done(self) -> Status {
        match self {
            Self::Source => Status::SRC_NAT_DONE,
            Self::Destination => Status::DST_NAT_DONE,
        }
    }
}

/// What an end may be changed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Range {
    /// First and last address, of one family and in order; `None` leaves the address.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Ports, or ICMP identifiers; `None` changes them only to avoid a clash.
    pub ports: Option<Ports>,
    /// The new port keeps the old one's distance from this port: `base` becomes the first of `ports`.
    pub base: Option<u16>,
    /// Whether the port is drawn even where the old one would do.
    pub random: bool,
    /// Whether a client gets the same address of several whatever its destination.
    pub persistent: bool,
}

impl Range {
    /// One address.
    pub const fn address(address: IpAddr) -> Self {
        Self {
            addresses: Some((address, address)),
            ports: None,
            base: None,
            random: false,
            persistent: false,
        }
    }

    /// The same with these ports.
    #[must_use]
    pub const fn with_ports(self, ports: Ports) -> Self {
        Self {
            ports: Some(ports),
            ..self
        }
    }

    /// Whether an address is in it; every address is where none is given.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.is_none_or(|(first, last)| {
            let (family, bits) = Family::align(address);
            let ((low_family, low), (_, high)) = (Family::align(first), Family::align(last));
            family == low_family && (low..=high).contains(&bits)
        })
    }
}

/// What a rule does with the connections that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// The end stays, except that a source port is changed where it must be to avoid a clash. No further rule is asked.
    Leave(End),
    /// The end becomes one of these.
    Change(End, Range),
    /// The source becomes the address of the interface that the packet leaves by.
    Masquerade {
        /// As in [`Range`].
        ports: Option<Ports>,
        /// As in [`Range`].
        random: bool,
    },
    /// The destination becomes the address of the interface that the packet came in by.
    Redirect {
        /// As in [`Range`].
        ports: Option<Ports>,
    },
    /// The source becomes an outside end of a pool: the same for all that the inside end sends.
    Pool(PoolId),
    /// Both ends become IPv4: the source an outside end of a pool that has a [prefix](super::PoolConfig::prefix64), the
    /// destination what it has behind that prefix (RFC 6146).
    Nat64(PoolId),
    /// The prefix of the address becomes this one; the rest of it stays.
    Netmap(End, Cidr),
}

impl Action {
    /// The end that it is about.
    pub const fn end(&self) -> End {
        match *self {
            Self::Leave(end) | Self::Change(end, _) | Self::Netmap(end, _) => end,
            Self::Masquerade { .. } | Self::Pool(_) => End::Source,
            Self::Redirect { .. } | Self::Nat64(_) => End::Destination,
        }
    }
}
