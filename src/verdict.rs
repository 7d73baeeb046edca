//! What befalls a packet, who said so, and how the answer was found.

use core::fmt;

use crate::packet::Interface;

/// What befalls a packet.
///
/// ```
/// use gufc::verdict::{Answer, Verdict};
/// assert_eq!(Verdict::Reject(Answer::TcpReset).to_string(), "reject with tcp reset");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It goes on: to the egress that the outcome names, or to a local consumer where its destination is local.
    #[default]
    Accept,
    /// It ends here, silently.
    Drop,
    /// It ends here and its sender is told: the caller builds the answer and sends it. The answer is to the packet as it came, so
    /// a caller whose hooks translate keeps the bytes of before.
    Reject(Answer),
}

impl Verdict {
    /// Whether the packet goes on.
    pub const fn is_accept(self) -> bool {
        matches!(self, Self::Accept)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reject(answer) => write!(f, "reject with {answer}"),
        }
    }
}

/// The answer to a rejected packet. [`wire`](crate::wire) can build each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Answer {
    /// A TCP reset (RFC 9293 section 3.10.7.1); for other protocols the caller sends nothing.
    TcpReset,
    /// ICMP 3/3, ICMPv6 1/4.
    PortUnreachable,
    /// ICMP 3/1, ICMPv6 1/3.
    HostUnreachable,
    /// ICMP 3/0, ICMPv6 1/0.
    NoRoute,
    /// ICMP 3/13, ICMPv6 1/1.
    AdminProhibited,
    /// ICMP 3/4, ICMPv6 2/0: it does not fit what is behind. No rule says this; a translator between IPv4 and IPv6 does, and
    /// [`Mtus::told`](crate::packet::Mtus::told) is the length that its sender is to be told.
    TooBig,
}

impl Answer {
    /// Every answer that a rule can give, with its name.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::TcpReset, "tcp reset"),
        (Self::PortUnreachable, "port-unreachable"),
        (Self::HostUnreachable, "host-unreachable"),
        (Self::NoRoute, "no-route"),
        (Self::AdminProhibited, "admin-prohibited"),
    ];

    /// Type and code of the ICMP message (first) and ICMPv6 message (second); `None` for a TCP reset.
    pub const fn icmp(self) -> Option<([u8; 2], [u8; 2])> {
        match self {
            Self::TcpReset => None,
            Self::PortUnreachable => Some(([3, 3], [1, 4])),
            Self::HostUnreachable => Some(([3, 1], [1, 3])),
            Self::NoRoute => Some(([3, 0], [1, 0])),
            Self::AdminProhibited => Some(([3, 13], [1, 1])),
            Self::TooBig => Some(([3, 4], [2, 0])),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(answer, _)| answer == self) {
            Some((_, name)) => f.write_str(name),
            None => match self {
                Self::TooBig => f.write_str("too-big"),
                _ => f.write_str("unknown"),
            },
        }
    }
}

/// Who decided: a hook by name, and which of its rules, if it was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct By {
    /// The hook's name; empty when no hook had a say.
    pub hook: &'static str,
    /// The rule, in the hook's own numbering; `None` for a default policy or a hook without rules.
    pub rule: Option<u32>,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.hook, self.rule) {
            ("", _) => f.write_str("no hook"),
            (hook, None) => f.write_str(hook),
            (hook, Some(rule)) => write!(f, "{hook} rule {rule}"),
        }
    }
}

/// Where an accepted packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Egress {
    /// The interface.
    pub interface: Interface,
    /// The next hop, in the route hook's own numbering; its link address is looked up there, so that a neighbour may move
    /// without any flow being touched.
    pub next_hop: u32,
}

/// Who takes an accepted packet that is for this machine: the number that its owner gave the socket, or the queue, when it was
/// bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Consumer(pub u64);

/// How a packet's answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// A fresh entry ran its destiny.
    Hit,
    /// An entry older than the last edit; no edit since touched it; it ran its destiny.
    Restamped,
    /// An edit touched the entry, its hooks looked again and kept or changed their steps; it ran its destiny.
    Rechecked,
    /// An edit touched the entry; the budget of re-runs was used up, and the hooks that were edited have slack: it ran the
    /// destiny of before the edit.
    Stale,
    /// Its flow has no entry of its own; an aggregate, an entry that stands for many flows, ran its destiny.
    Aggregated,
    /// A hook asked to see this packet of a cached flow, or could not decide it from its step; hooks judged it.
    Revisited,
    /// The first packet of a direction of a cached session; hooks judged it and it is cached now.
    FirstReply,
    /// No entry; hooks judged it and it is cached now, by itself or with the flows around it.
    Miss,
    /// Hooks judged it and it is not cached.
    Uncached(Uncached),
}

impl Path {
    /// Whether the packet was answered by running a destiny, without any hook judging it.
    pub const fn is_cached(self) -> bool {
        matches!(
            self,
            Self::Hit | Self::Restamped | Self::Rechecked | Self::Stale | Self::Aggregated
        )
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit => f.write_str("hit"),
            Self::Restamped => f.write_str("hit, restamped"),
            Self::Rechecked => f.write_str("hit, rechecked"),
            Self::Stale => f.write_str("hit, stale"),
            Self::Aggregated => f.write_str("hit, aggregate"),
            Self::Revisited => f.write_str("revisited"),
            Self::FirstReply => f.write_str("first reply"),
            Self::Miss => f.write_str("miss"),
            Self::Uncached(why) => write!(f, "uncached: {why}"),
        }
    }
}

/// Why a packet was judged without leaving an entry behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Uncached {
    /// A fragment has not the whole datagram's key.
    Fragment,
    /// Its transport header is defective ([`Packet::defect`](crate::packet::Packet::defect)).
    Defective,
    /// The verdict held for this packet and not for every packet of its flow, and hooks behind it were not asked.
    PacketDependent,
    /// A hook said "do slow path": each packet of the flow is judged.
    SlowPath,
    /// A hook refused to have the flow cached.
    Refused,
    /// No room, and nobody could be evicted.
    Full,
    /// The packet was rewritten in a way whose reply has no name.
    Irreversible,
    /// The budget was used up: of re-runs for flows that an edit touched, or of flows that begin.
    OverBudget,
    /// Its source has as many half-open sessions as one may have.
    SourceQuota,
    /// Its zone has as many sessions as one may have.
    ZoneQuota,
}

impl Uncached {
    /// How many reasons there are: the length of a table that counts them by `reason as usize`.
    pub const COUNT: usize = Self::ALL.len();

    /// Every reason in order.
    pub const ALL: [Self; 10] = [
        Self::Fragment,
        Self::Defective,
        Self::PacketDependent,
        Self::SlowPath,
        Self::Refused,
        Self::Full,
        Self::Irreversible,
        Self::OverBudget,
        Self::SourceQuota,
        Self::ZoneQuota,
    ];
}

impl fmt::Display for Uncached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fragment => "fragment",
            Self::Defective => "defective",
            Self::PacketDependent => "verdict of this packet only",
            Self::SlowPath => "do slow path",
            Self::Refused => "refused by a hook",
            Self::Full => "cache full",
            Self::Irreversible => "no reply tuple",
            Self::OverBudget => "over budget",
            Self::SourceQuota => "source has its share",
            Self::ZoneQuota => "zone has its share",
        })
    }
}

const _: () = {
    let mut i = 0;
    while i < Uncached::COUNT {
        assert!(
            Uncached::ALL[i] as usize == i,
            "ALL lists the reasons in order"
        );
        i += 1;
    }
};

/// Everything that is known about one packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the verdict is still to be carried out"]
pub struct Outcome {
    /// What befalls it.
    pub verdict: Verdict,
    /// Who decided.
    pub by: By,
    /// Where it leaves, if a route was found.
    pub egress: Option<Egress>,
    /// Who takes it, if a consumer was found.
    pub consumer: Option<Consumer>,
    /// The packet mark that hooks left on it.
    pub mark: u32,
    /// Whether some rule wants it logged.
    pub log: bool,
    /// How the answer was found.
    pub path: Path,
}

impl Outcome {
    /// Whether two outcomes do the same to the packet, however they were found.
    pub fn agrees(&self, other: &Self) -> bool {
        Self {
            path: other.path,
            ..*self
        } == *other
    }
}
