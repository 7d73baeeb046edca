//! When an interested hook wants to see a packet of a flow again.
//!
//! Apart from the index because a trigger is tested against each packet of a cached flow, while a pattern is looked up once
//! for each flow: the one is a mask and a comparison on the hot path, the other a search.
//!
//! ```text
//!  15        9   8     7    6    5    4    3    2    1    0
//!  |  zero   | every | CWR| ECE| URG| ACK| PSH| RST| SYN| FIN|
//! ```
//!
//! Bits 0 to 7 are octet 13 of the TCP header (RFC 9293 section 3.1).

use core::fmt;

use crate::key::Pattern;

/// A set of reasons to be shown a packet of a flow that is already cached.
///
/// Two reasons need no bit. The *first packet* of a flow always reaches every hook with an interest in it, because it finds
/// no entry. The *first reply* does too: the reply direction is judged when its first packet comes.
///
/// ```
/// use gufc::interest::{Signals, Trigger};
///
/// let closing = Trigger::tcp(Trigger::FIN | Trigger::RST);
/// assert!(closing.fires(Signals::tcp(Trigger::RST | Trigger::ACK)));
/// assert!(!closing.fires(Signals::tcp(Trigger::ACK)));
/// assert!(!Trigger::NONE.fires(Signals::tcp(0xff)));
/// assert!((closing | Trigger::EVERY_PACKET).fires(Signals::PACKET));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trigger(u16);

impl Trigger {
    /// TCP FIN, as a flag bit for [`tcp`](Self::tcp).
    pub const FIN: u8 = 0x01;
    /// TCP SYN.
    pub const SYN: u8 = 0x02;
    /// TCP RST.
    pub const RST: u8 = 0x04;
    /// TCP PSH.
    pub const PSH: u8 = 0x08;
    /// TCP ACK.
    pub const ACK: u8 = 0x10;
    /// TCP URG.
    pub const URG: u8 = 0x20;
    /// TCP ECE.
    pub const ECE: u8 = 0x40;
    /// TCP CWR.
    pub const CWR: u8 = 0x80;

    /// Never again: what the hook said on the first packet of each direction holds for all that follow.
    pub const NONE: Self = Self(0);

    /// Every packet of the flow.
    pub const EVERY_PACKET: Self = Self(EVERY);

    /// A TCP segment with any of `flags` set. A flag that is clear is no reason.
    pub const fn tcp(flags: u8) -> Self {
        Self(flags as u16)
    }

    /// Either's reasons. `const` form of `|`.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every reason of `other` is one of these.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is no reason.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether a packet with these signals is one that the hook wants to see. Cost: one `and`, one comparison.
    pub const fn fires(self, signals: Signals) -> bool {
        self.0 & signals.0 != 0
    }

    /// Bits 0 to 7 the TCP flags from FIN to CWR, bit 8 any packet.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set with these bits; bits that mean nothing are dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & ALL)
    }
}

impl core::ops::BitOr for Trigger {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl core::ops::BitOrAssign for Trigger {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

/// Writes `none`, `every`, or the TCP flags as `tcp:FIN+RST`.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.covers(Self::EVERY_PACKET) {
            return f.write_str("every");
        }
        let mut joint = "tcp:";
        for (bit, name) in ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"]
            .iter()
            .enumerate()
        {
            if self.0 >> bit & 1 == 1 {
                write!(f, "{joint}{name}")?;
                joint = "+";
            }
        }
        if self.is_none() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

/// What a packet can fire: its TCP flags, if it has any, and always "a packet".
///
/// The default is [`PACKET`](Self::PACKET).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signals(u16);

impl Signals {
    /// A packet without TCP flags.
    pub const PACKET: Self = Self(EVERY);

    /// A TCP segment with these flags (octet 13 of its header).
    pub const fn tcp(flags: u8) -> Self {
        Self(flags as u16 | EVERY)
    }

    /// Bits 0 to 7 the TCP flags from FIN to CWR, bit 8 any packet.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::PACKET
    }
}

/// A hook's interest: in which flows, and when to be shown their later packets.
///
/// ```
/// use gufc::interest::{Interest, Trigger};
/// use gufc::key::{Pattern, Protocol};
///
/// let tracker = Interest {
///     pattern: Pattern { protocol: Some(Protocol::TCP), ..Pattern::ANY },
///     trigger: Trigger::tcp(Trigger::SYN | Trigger::FIN | Trigger::RST),
/// };
/// assert_eq!(tracker.to_string(), "proto tcp on tcp:FIN+SYN+RST");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interest {
    /// The flows.
    pub pattern: Pattern,
    /// Which of their packets, after the first in each direction.
    pub trigger: Trigger,
}

/// Writes `PATTERN on TRIGGER`.
impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.pattern, self.trigger)
    }
}

const EVERY: u16 = 0x100;
const ALL: u16 = 0x1ff;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// Over every trigger and every flag octet: fires exactly when a reason is there.
    #[test]
    fn fires_for_its_reasons_alone() {
        for bits in 0..=ALL {
            let trigger = Trigger::from_bits(bits);
            assert_eq!(trigger.fires(Signals::PACKET), bits & EVERY != 0);
            for flags in 0..=u8::MAX {
                let expected = bits & EVERY != 0 || bits as u8 & flags != 0;
                assert_eq!(trigger.fires(Signals::tcp(flags)), expected);
            }
        }
        assert_eq!(Trigger::from_bits(u16::MAX).bits(), ALL);
    }

    #[test]
    fn text() {
        assert_eq!(Trigger::NONE.to_string(), "none");
        assert_eq!(Trigger::EVERY_PACKET.to_string(), "every");
        assert_eq!(Trigger::tcp(0x82).to_string(), "tcp:SYN+CWR");
    }
}
