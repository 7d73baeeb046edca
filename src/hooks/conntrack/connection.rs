//! One connection in memory, and how the outside sees it.
//!
//! Apart because the layout is chosen: what a cached packet touches is one line, the rest lies elsewhere.
//!
//! ```text
//!  Hot, 64 bytes, one line                             Cold, by key type
//!  | TCP blocks 52 | generation 4 | clock 8 |          | tuples | born | mark | links | status | list |
//!
//!  clock: end of life, in 524,288 ns (45 bits) | class (5) | brief (6) | policy (4) | plain (1) | kind (3)
//!
//!  brief: five status bits that a plain connection may have, and whether it has a mark, so that its packets need not read Cold
//! ```

use core::fmt;

use super::tcp::{self, TcpState};
use super::{Status, TcpPhase, TimeoutClass};
use crate::hook::Direction;
use crate::key::{FlowKey, Protocol};
use crate::time::{Duration, Instant};

/// The name of a connection: a slot, and which of its successive tenants. A name outlives its connection and then names
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl ConnId {
    /// The name as one number, for [`Track::connection`](crate::hook::Track::connection).
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// The reverse of [`to_bits`](Self::to_bits).
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            slot: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// Which procedure judges a connection's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Generic,
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
    Gre,
    Sctp,
}

impl Kind {
    pub(super) const fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::TCP => Self::Tcp,
            Protocol::UDP | Protocol::UDP_LITE => Self::Udp,
            Protocol::ICMP => Self::Icmp,
            Protocol::ICMPV6 => Self::Icmpv6,
            Protocol::GRE => Self::Gre,
            Protocol::SCTP => Self::Sctp,
            _ => Self::Generic,
        }
    }

    const ALL: [Self; 7] = [
        Self::Generic,
        Self::Tcp,
        Self::Udp,
        Self::Icmp,
        Self::Icmpv6,
        Self::Gre,
        Self::Sctp,
    ];
}

/// When a connection ends and by which rule, with its kind and policy, and a brief of its status.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(u64);

/// The lowest bit of each part.
const END: u32 = 19;
const CLASS: u32 = 14;
const BRIEF: u32 = 8;
const POLICY: u32 = 4;

const _: () = assert!(TimeoutClass::COUNT <= 1 << (END - CLASS));

/// The status bits that every plain connection has.
const PLAIN: Status = Status::ASSURED
    .union(Status::SEEN_REPLY)
    .union(Status::CONFIRMED);
/// Those that it may have, in the order of the brief's bits.
const MAY_HAVE: [Status; 5] = [
    Status::EXPECTED,
    Status::SRC_NAT,
    Status::DST_NAT,
    Status::SRC_NAT_DONE,
    Status::DST_NAT_DONE,
];
/// In the brief: the connection's mark is not zero.
const MARKED: u64 = 1 << MAY_HAVE.len() << BRIEF;

impl Clock {
    /// What an end is rounded down by, at most.
    pub(super) const ROUNDING: Duration = Duration::from_nanos((1 << END) - 1);

    pub(super) fn new(class: TimeoutClass, policy: u8, kind: Kind) -> Self {
        Self((class as u64) << CLASS | u64::from(policy & 0x0f) << POLICY | kind as u64)
    }

    /// Lives until `end`, by the rule of `class`.
    #[inline]
    pub(super) fn set(&mut self, end: Instant, class: TimeoutClass) {
        let kept = self.0 & ((1 << CLASS) - 1);
        self.0 = end.nanos() >> END << END | (class as u64) << CLASS | kept;
    }

    /// Lives as long as `other`, by the same rule.
    pub(super) fn set_as(&mut self, other: Self) {
        self.set(other.end(), other.class());
    }

    /// Notes the status and mark of a connection that [is plain](Self::is_plain), or may become so.
    pub(super) fn set_brief(&mut self, status: Status, mark: u32) {
        let status = u64::from(status.0);
        // The reverse of what [`plain_status`](Self::plain_status) does.
        let bits = status & 1 | status >> 3 & 0b110 | status >> 4 & 0b1_1000;
        let brief = bits << BRIEF | if mark == 0 { 0 } else { MARKED };
        self.0 = self.0 & !(0x3f << BRIEF) | brief;
    }

    /// The status of a plain connection.
    #[inline]
    pub(super) fn plain_status(self) -> Status {
        let brief = (self.0 >> BRIEF) as u16;
        // EXPECTED is bit 0 of both; two bits of translation go to 4 and 5, two to 7 and 8.
        let moved = brief & 1 | (brief & 0b110) << 3 | (brief & 0b1_1000) << 4;
        Status(PLAIN.0 | moved)
    }

    /// Whether the mark of a plain connection is not zero.
    #[inline]
    pub(super) fn is_marked(self) -> bool {
        self.0 & MARKED != 0
    }

    /// [`set`](Self::set), unless that moves the end by less than `slack`.
    #[inline]
    pub(super) fn refresh(&mut self, end: Instant, class: TimeoutClass, slack: Duration) {
        if slack.is_zero() || self.class() != class || end - self.end() >= slack {
            self.set(end, class);
        }
    }

    pub(super) fn set_class(&mut self, class: TimeoutClass) {
        self.0 = self.0 & !(0x1f << CLASS) | (class as u64) << CLASS;
    }

    pub(super) fn end(self) -> Instant {
        Instant::from_nanos(self.0 >> END << END)
    }

    pub(super) fn has_passed(self, now: Instant) -> bool {
        now >= self.end()
    }

    pub(super) fn class(self) -> TimeoutClass {
        TimeoutClass::from_number((self.0 >> CLASS) as u8 & 0x1f)
    }

    pub(super) fn policy(self) -> u8 {
        (self.0 >> POLICY) as u8 & 0x0f
    }

    pub(super) fn kind(self) -> Kind {
        Kind::ALL
            .get((self.0 & 0x07) as usize)
            .copied()
            .unwrap_or(Kind::Generic)
    }

    /// Whether the window step may decide packets of the connection.
    #[inline]
    pub(super) fn is_plain(self) -> bool {
        self.0 & 0x08 != 0
    }

    pub(super) fn set_plain(&mut self, plain: bool) {
        self.0 = self.0 & !0x08 | u64::from(plain) << 3;
    }
}

/// What a cached packet touches.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Hot {
    /// For SCTP see [`sctp`](super::sctp); unused for other protocols.
    pub(super) tcp: TcpState,
    /// Even: the slot is free. Odd: it has a tenant.
    pub(super) generation: u32,
    pub(super) clock: Clock,
}

const _: () = assert!(size_of::<Hot>() == 64);

impl Default for Hot {
    fn default() -> Self {
        Self {
            tcp: TcpState::default(),
            generation: 0,
            clock: Clock::new(TimeoutClass::Generic, 0, Kind::Generic),
        }
    }
}

/// Which of the lists of [`Table`](super::table::Table) a connection is in: what it is worth when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Rank {
    /// Tracked, neither confirmed nor refused.
    Pending,
    /// No reply yet.
    Unreplied,
    /// Replied, not assured.
    Replied,
    /// Assured, and closing.
    Closing,
    /// Assured.
    Kept,
}

impl Rank {
    pub(super) const COUNT: usize = 5;
}

/// What a cached packet does not touch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cold<K> {
    /// Original, reply: as packets of either direction arrive.
    pub(super) tuples: [K; 2],
    pub(super) born: Instant,
    pub(super) mark: u32,
    pub(super) previous: u32,
    /// In a list, or the next free slot.
    pub(super) next: u32,
    pub(super) status: Status,
    pub(super) rank: Rank,
}

/// Packets and bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that refreshed the connection.
    pub packets: u64,
    /// Their bytes, from the network header on.
    pub bytes: u64,
}

/// What a direction of a TCP connection is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSide {
    /// The highest sequence number behind a segment that it sent.
    pub end: u32,
    /// The highest sequence number that it may send.
    pub limit: u32,
    /// The largest window that it offered, scaled; 0 when nothing is known.
    pub window: u32,
    /// The highest acknowledgement that it sent.
    pub acked: Option<u32>,
    /// Its window scale shift in force, 0 to 14.
    pub scale: u8,
    /// Bits of the list in [`NAMES`](Self::NAMES).
    pub flags: u8,
}

impl TcpSide {
    /// Each flag with its name.
    pub const NAMES: [(u8, &'static str); 6] = [
        (tcp::SCALES, "WINDOW_SCALE"),
        (tcp::SACKS, "SACK_PERM"),
        (tcp::CLOSE_INIT, "CLOSE_INIT"),
        (tcp::LIBERAL, "BE_LIBERAL"),
        (tcp::UNACKED, "DATA_UNACKNOWLEDGED"),
        (tcp::ACKED, "MAXACK_SET"),
    ];
}

/// A connection as it is at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a, K> {
    pub(super) id: ConnId,
    pub(super) hot: &'a Hot,
    pub(super) cold: &'a Cold<K>,
    pub(super) traffic: [Traffic; 2],
    pub(super) label: u128,
    pub(super) master: Option<ConnId>,
    pub(super) lifetime: Duration,
}

impl<K: FlowKey> Connection<'_, K> {
    /// Its name.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Its tuple as packets of `direction` arrive, without locality.
    pub fn tuple(&self, direction: Direction) -> &K {
        &self.cold.tuples[direction as usize]
    }

    /// Its transport protocol.
    pub fn protocol(&self) -> Protocol {
        self.tuple(Direction::Original).protocol()
    }

    /// Its status bits.
    pub fn status(&self) -> Status {
        self.cold.status
    }

    /// Its mark.
    pub fn mark(&self) -> u32 {
        self.cold.mark
    }

    /// Its label.
    pub fn label(&self) -> u128 {
        self.label
    }

    /// When its first packet came.
    pub fn born(&self) -> Instant {
        self.cold.born
    }

    /// Who announced it, if anybody did. The name may outlive the connection.
    pub fn master(&self) -> Option<ConnId> {
        self.master
    }

    /// What its lifetime was last set by.
    pub fn timeout_class(&self) -> TimeoutClass {
        self.hot.clock.class()
    }

    /// What its lifetime was last set to; zero for [`TimeoutClass::Custom`].
    pub fn timeout(&self) -> Duration {
        self.lifetime
    }

    /// When it ends unless a packet refreshes it; before confirmation it has no end.
    pub fn end(&self) -> Instant {
        if self.cold.status.contains(Status::CONFIRMED) {
            self.hot.clock.end()
        } else {
            Instant::NEVER
        }
    }

    /// Packets and bytes of a direction; zero where accounting is off.
    pub fn traffic(&self, direction: Direction) -> Traffic {
        self.traffic[direction as usize]
    }

    /// The state of a TCP connection.
    pub fn tcp_phase(&self) -> Option<TcpPhase> {
        (self.hot.clock.kind() == Kind::Tcp).then(|| self.hot.tcp.phase())
    }

    /// The state of its protocol, as listings name it; `None` where the protocol has none.
    pub fn state_name(&self) -> Option<&'static str> {
        let tcp = self.tcp_phase().map(TcpPhase::as_str);
        tcp.or_else(|| self.sctp_phase().map(super::SctpPhase::as_str))
    }

    /// What a direction of a TCP connection is known for.
    pub fn tcp_side(&self, direction: Direction) -> Option<TcpSide> {
        if self.hot.clock.kind() != Kind::Tcp {
            return None;
        }
        let state = &self.hot.tcp;
        let (own, flags) = (state.side(direction), state.flags(direction));
        Some(TcpSide {
            end: own.end.0,
            limit: state.side(direction.reverse()).grant.0,
            window: own.window,
            acked: (flags & tcp::ACKED != 0).then_some(own.acked.0),
            scale: state.scale(direction),
            flags,
        })
    }

    /// How often the last acknowledgement or data segment of a TCP connection has been repeated, modulo 256.
    pub fn tcp_repetitions(&self) -> Option<u8> {
        (self.hot.clock.kind() == Kind::Tcp).then_some(self.hot.tcp.repeats)
    }

    /// The state of an SCTP association.
    pub fn sctp_phase(&self) -> Option<super::SctpPhase> {
        (self.hot.clock.kind() == Kind::Sctp).then(|| super::sctp::phase(&self.hot.tcp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connections_status_is_read_from_its_clock() {
        for bits in 0..1 << MAY_HAVE.len() {
            let mut status = PLAIN;
            for (bit, one) in MAY_HAVE.into_iter().enumerate() {
                if bits >> bit & 1 == 1 {
                    status.set(one);
                }
            }
            for mark in [0, 1, u32::MAX] {
                let mut clock = Clock::new(TimeoutClass::Custom, 15, Kind::Sctp);
                clock.set_brief(Status(u16::MAX), 1);
                clock.set_brief(status, mark);
                clock.set(Instant::NEVER, TimeoutClass::Udp);
                assert_eq!(clock.plain_status(), status);
                assert_eq!(clock.is_marked(), mark != 0);
                let rest = (
                    clock.policy(),
                    clock.kind(),
                    clock.class(),
                    clock.is_plain(),
                );
                assert_eq!(rest, (15, Kind::Sctp, TimeoutClass::Udp, false));
                assert!(!clock.has_passed(Instant::from_nanos(u64::MAX - (1 << END))));
            }
        }
    }
}
