//! Why a packet's payload could not be exchanged.

use core::fmt;

/// Why [`Packet::splice`](super::Packet::splice) refused. The packet is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unspliceable {
    /// This type of packet cannot change its payload.
    Unsupported,
    /// It is neither TCP nor UDP.
    Protocol,
    /// It is a fragment, defective, or not there in full: its checksum or its length could not follow.
    Incomplete,
    /// The bytes to exchange are not all in the payload.
    Range,
    /// No room before the packet for a longer one.
    Room,
    /// Longer than its length field can say.
    TooLong,
}

impl fmt::Display for Unspliceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "the packet's type cannot change its payload",
            Self::Protocol => "neither TCP nor UDP",
            Self::Incomplete => "not the whole packet",
            Self::Range => "not in the payload",
            Self::Room => "no room before the packet",
            Self::TooLong => "longer than a packet can be",
        })
    }
}

impl core::error::Error for Unspliceable {}
