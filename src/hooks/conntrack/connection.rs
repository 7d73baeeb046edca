//! One connection in memory, and how the outside sees it.
//!
//! Apart because the layout is chosen: what a cached packet touches is one line, the rest lies elsewhere.
//!
//! ```text
//!  Hot, 64 bytes, one line                             Cold, by key type
//!  | TCP blocks 52 | generation 4 | clock 8 |          | tuples | born | master | mark | links | status | list |
//!
//!  clock: end of life, in 65,536 ns (48 bits) | class (8) | policy (4) | plain (1) | kind (3)
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

/// When a connection ends and by which rule, with its kind and policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(u64);

impl Clock {
    pub(super) fn new(class: TimeoutClass, policy: u8, kind: Kind) -> Self {
        Self((class as u64) << 8 | u64::from(policy & 0x0f) << 4 | kind as u64)
    }

    /// Lives until `end`, by the rule of `class`.
    pub(super) fn set(&mut self, end: Instant, class: TimeoutClass) {
        self.0 = end.nanos() >> 16 << 16 | (class as u64) << 8 | self.0 & 0xff;
    }

    /// [`set`](Self::set), unless that moves the end by less than `slack`.
    #[inline]
    pub(super) fn refresh(&mut self, end: Instant, class: TimeoutClass, slack: Duration) {
        if slack.is_zero() || self.class() != class || end - self.end() >= slack {
            self.set(end, class);
        }
    }

    pub(super) fn set_class(&mut self, class: TimeoutClass) {
        self.0 = self.0 & !0xff00 | (class as u64) << 8;
    }

    pub(super) fn end(self) -> Instant {
        Instant::from_nanos(self.0 >> 16 << 16)
    }

    pub(super) fn has_passed(self, now: Instant) -> bool {
        now >= self.end()
    }

    pub(super) fn class(self) -> TimeoutClass {
        TimeoutClass::from_number((self.0 >> 8) as u8)
    }

    pub(super) fn policy(self) -> u8 {
        (self.0 >> 4) as u8 & 0x0f
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
    /// Who announced it.
    pub(super) master: Option<ConnId>,
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
        self.cold.master
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
