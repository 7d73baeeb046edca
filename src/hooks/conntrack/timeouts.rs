//! How long a connection lives after the packet that refreshed it, by what it is.
//!
//! Apart because it is data: two profiles, and every value can be set.

use crate::time::{Duration, Instant};

/// What a connection is, as far as its lifetime is concerned.
///
/// The value that a connection's lifetime was last set to is `timeouts.of(class)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum TimeoutClass {
    /// TCP, SYN seen.
    TcpSynSent,
    /// TCP, SYN and ACK seen.
    TcpSynRecv,
    /// TCP, open.
    TcpEstablished,
    /// TCP, first FIN seen.
    TcpFinWait,
    /// TCP, first FIN acknowledged.
    TcpCloseWait,
    /// TCP, second FIN seen.
    TcpLastAck,
    /// TCP, both FINs acknowledged.
    TcpTimeWait,
    /// TCP, reset.
    TcpClose,
    /// TCP, SYN seen from both sides.
    TcpSynSent2,
    /// TCP, a ceiling: one segment repeated, or a window of zero.
    TcpRetransmission,
    /// TCP, a ceiling: data that nobody has acknowledged, or a reset and a FIN that fit nowhere.
    TcpUnacknowledged,
    /// UDP and UDP-Lite, at first.
    Udp,
    /// UDP and UDP-Lite, packets both ways for more than two seconds.
    UdpStream,
    /// ICMP query.
    Icmp,
    /// ICMPv6 query.
    Icmpv6,
    /// GRE, at first.
    Gre,
    /// GRE, packets both ways.
    GreStream,
    /// SCTP, no association.
    SctpClosed,
    /// SCTP, INIT answered.
    SctpCookieWait,
    /// SCTP, cookie sent back.
    SctpCookieEchoed,
    /// SCTP, open.
    SctpEstablished,
    /// SCTP, SHUTDOWN from the opener.
    SctpShutdownSent,
    /// SCTP, SHUTDOWN from the other side.
    SctpShutdownReceived,
    /// SCTP, SHUTDOWN ACK seen.
    SctpShutdownAckSent,
    /// SCTP, a path that has only seen heartbeats.
    SctpHeartbeatSent,
    /// Every other protocol.
    Generic,
    /// The loser of a race whose reply alone is kept.
    Clash,
    /// A lifetime that the owner set on this connection; has no value in the table.
    Custom,
}

impl TimeoutClass {
    /// How many classes there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every class in order.
    pub const ALL: [Self; 28] = [
        Self::TcpSynSent,
        Self::TcpSynRecv,
        Self::TcpEstablished,
        Self::TcpFinWait,
        Self::TcpCloseWait,
        Self::TcpLastAck,
        Self::TcpTimeWait,
        Self::TcpClose,
        Self::TcpSynSent2,
        Self::TcpRetransmission,
        Self::TcpUnacknowledged,
        Self::Udp,
        Self::UdpStream,
        Self::Icmp,
        Self::Icmpv6,
        Self::Gre,
        Self::GreStream,
        Self::SctpClosed,
        Self::SctpCookieWait,
        Self::SctpCookieEchoed,
        Self::SctpEstablished,
        Self::SctpShutdownSent,
        Self::SctpShutdownReceived,
        Self::SctpShutdownAckSent,
        Self::SctpHeartbeatSent,
        Self::Generic,
        Self::Clash,
        Self::Custom,
    ];

    /// The class with this number; [`Custom`](Self::Custom) beyond the last.
    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .unwrap_or(Self::Custom)
    }
}

const _: () = {
    let mut i = 0;
    while i < TimeoutClass::COUNT {
        assert!(TimeoutClass::ALL[i] as usize == i, "ALL is in order");
        i += 1;
    }
};

/// A lifetime for each class, in whole seconds.
///
/// ```
/// use gufc::hooks::conntrack::{TimeoutClass, Timeouts};
///
/// let short = Timeouts::LINUX.with(TimeoutClass::Udp, 5);
/// assert_eq!(short.seconds(TimeoutClass::Udp), 5);
/// assert!(Timeouts::RFC.seconds(TimeoutClass::TcpEstablished) >= 7440);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts([u32; TimeoutClass::COUNT]);

impl Timeouts {
    /// What Linux 6.18 does by default.
    pub const LINUX: Self = Self([
        120, 60, 432_000, 120, 60, 30, 120, 10, 120, 300, 300, // TCP
        30, 120, // UDP
        30, 30, // ICMP, ICMPv6
        30, 180, // GRE
        10, 3, 3, 210, 3, 3, 3, 30,  // SCTP
        600, // generic
        1,   // clash
        0,
    ]);

    /// What the RFCs ask of a translator, where Linux asks less: TCP established at least 2 hours 4 minutes and 4 minutes in
    /// every other state (RFC 5382 REQ-5, RFC 7857 section 2), UDP 5 minutes, also one-way (RFC 4787 REQ-5), ICMP 60 seconds
    /// (RFC 5508 REQ-1), and no ceilings below the transitory 4 minutes.
    pub const RFC: Self = Self([
        240, 240, 7_440, 240, 240, 240, 240, 240, 240, 300, 7_440, // TCP
        300, 300, // UDP
        60, 60, // ICMP, ICMPv6
        300, 300, // GRE
        10, 10, 10, 7_440, 240, 240, 240, 60,  // SCTP
        600, // generic
        1,   // clash
        0,
    ]);

    /// Seconds for a class; 0 for [`TimeoutClass::Custom`].
    #[inline]
    pub const fn seconds(&self, class: TimeoutClass) -> u32 {
        self.0[class as usize]
    }

    /// The lifetime of a class.
    pub const fn of(&self, class: TimeoutClass) -> Duration {
        Duration::from_secs(self.seconds(class) as u64)
    }

    /// When a life ends that begins at `now`. The same as adding [`of`](Self::of), in 64 bits.
    #[inline]
    pub(super) const fn end(&self, now: Instant, class: TimeoutClass) -> Instant {
        let nanos = self.seconds(class) as u64 * 1_000_000_000;
        Instant::from_nanos(now.nanos().saturating_add(nanos))
    }

    /// The same with one class set to `seconds`.
    #[must_use]
    pub const fn with(mut self, class: TimeoutClass, seconds: u32) -> Self {
        self.0[class as usize] = seconds;
        self
    }

    /// `class`, or `ceiling` where that is shorter.
    pub(super) const fn at_most(&self, class: TimeoutClass, ceiling: TimeoutClass) -> TimeoutClass {
        if self.seconds(class) > self.seconds(ceiling) {
            ceiling
        } else {
            class
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::LINUX
    }
}
