//! One rule: the flows that it matches, what it reads of each packet besides, and what it does.

use alloc::vec::Vec;

use super::name::Name;
use super::set::SetMatch;
use crate::hook::{Class, Context, Direction};
use crate::key::{Fields, FlowKey, Pattern, Ports, Zone};
use crate::packet::{Fragment, Interface, Packet, TcpFlags};
use crate::verdict::Answer;

/// A rule of a [`Filter`](super::Filter).
///
/// What it matches has two parts. The *flow* part ([`pattern`](Self::pattern) and [`except`](Self::except)) reads the key
/// alone: it is settled when a flow is cached. The *packet* part ([`conditions`](Self::conditions)) is what is left to test
/// for each packet: the residue.
///
/// Its text form reads like nftables' and is described [there](super#the-text-form).
///
/// ```
/// use gufc::hooks::filter::{Action, Rule};
///
/// let rule: Rule = "ip saddr 10.0.0.0/8 tcp dport 22 tcp flags syn counter accept".parse()?;
/// assert_eq!(rule.action, Action::Accept);
/// assert!(!rule.conditions.is_none(), "TCP flags differ from packet to packet");
/// assert_eq!(rule.to_string(), "ip saddr 10.0.0.0/8 tcp dport 22 tcp flags syn accept");
/// # Ok::<(), gufc::hooks::filter::ParseRuleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The flows.
    pub pattern: Pattern,
    /// Flows that it does not match though the pattern does: one box for each negated match.
    pub except: Vec<Pattern>,
    /// Sets that the flow's addresses and ports are looked up in; all tests must pass.
    pub sets: Vec<SetMatch>,
    /// What it reads of each packet.
    pub conditions: Conditions,
    /// The packet mark that it sets.
    pub set_mark: Option<u32>,
    /// Whether it wants packets logged.
    pub log: bool,
    /// What it does.
    pub action: Action,
    /// A word for people, at most 255 bytes in the text form.
    pub comment: Option<alloc::string::String>,
}

/// What a rule does with a packet that it matches. Every rule counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Go on with the next rule.
    #[default]
    Continue,
    /// The filter lets it pass; the hooks behind have their say.
    Accept,
    /// It ends, silently.
    Drop,
    /// It ends with an answer.
    Reject(Answer),
    /// Go on in this chain, and behind the rule when that chain is through.
    Jump(Name),
    /// Go on in this chain, and where the own chain was called from when that is through.
    Goto(Name),
    /// Go on where the own chain was called from; in the main chain, to the policy.
    Return,
}

impl Action {
    /// The chain that it goes to.
    pub const fn target(&self) -> Option<Name> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(*chain),
            _ => None,
        }
    }
}

/// The part of a rule that is tested for each packet; all that are given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// TCP flags.
    pub flags: Option<FlagTest>,
    /// Length of the packet from the network header on, both ends included.
    pub length: Option<(u32, u32)>,
    /// The interface that it arrived on.
    pub ingress: Option<Interface>,
    /// The interface that it is going to leave by.
    pub egress: Option<Interface>,
    /// The packet mark under a mask: `mark & mask == value`.
    pub mark: Option<Masked>,
    /// The connection's mark under a mask.
    pub track_mark: Option<Masked>,
    /// The packet's class in connection tracking, one of the set.
    pub classes: Option<Classes>,
    /// The packet's direction within its connection.
    pub direction: Option<Direction>,
    /// The connection's status bits.
    pub status: Option<StatusTest>,
    /// The zone of the packet's connection, which is that of its key; a packet without a connection fails.
    pub track_zone: Option<Zone>,
}

/// A number under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Masked {
    /// Bits that count.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

impl Masked {
    /// Whether `number` is such a one.
    pub const fn matches(self, number: u32) -> bool {
        number & self.mask == self.value
    }
}

/// A test of TCP flags; a packet of another protocol fails it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlagTest {
    /// Some flag of the set is on.
    Any(TcpFlags),
    /// The flags under the mask are exactly the value.
    Exactly {
        /// Flags that count.
        mask: TcpFlags,
        /// Those of them that are on.
        value: TcpFlags,
    },
}

impl FlagTest {
    /// Whether a segment with these flags passes.
    pub const fn passes(self, flags: TcpFlags) -> bool {
        match self {
            Self::Any(any) => flags.intersects(any),
            Self::Exactly { mask, value } => flags.matches(mask, value),
        }
    }
}

/// A test of a connection's status; a packet without a connection fails it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusTest {
    /// Bits that count.
    pub mask: u16,
    /// `None`: some bit that counts is on. Else exactly these are.
    pub value: Option<u16>,
}

impl StatusTest {
    /// Every status with its name in rules. The numbers are Linux' and the tracker's.
    pub const NAMES: [(u16, &'static str); 7] = [
        (1 << 0, "expected"),
        (1 << 1, "seen-reply"),
        (1 << 2, "assured"),
        (1 << 3, "confirmed"),
        (1 << 4, "snat"),
        (1 << 5, "dnat"),
        (1 << 9, "dying"),
    ];

    /// Whether a connection with this status passes.
    pub const fn passes(self, status: u16) -> bool {
        match self.value {
            None => status & self.mask != 0,
            Some(value) => status & self.mask == value,
        }
    }
}

/// A set of connection tracking classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Classes(u8);

impl Classes {
    /// Every class with its name in rules.
    pub const NAMES: [(Class, &'static str); 5] = [
        (Class::New, "new"),
        (Class::Established, "established"),
        (Class::Related, "related"),
        (Class::Invalid, "invalid"),
        (Class::Untracked, "untracked"),
    ];

    /// This set and one more class.
    #[must_use]
    pub const fn and(self, class: Class) -> Self {
        Self(self.0 | 1 << class as u8)
    }

    /// Whether the set has the class.
    pub const fn contains(self, class: Class) -> bool {
        self.0 & 1 << class as u8 != 0
    }
}

impl Conditions {
    /// Whether there is nothing to test.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every packet passes all tests of which `context` has the same track, or none does; `None` where that depends on the
    /// packet, or on what may change behind its back.
    pub(super) fn settled(&self, context: &Context) -> Option<bool> {
        let Self {
            flags,
            length,
            ingress,
            egress,
            mark,
            track_mark,
            classes,
            direction,
            status,
            track_zone,
        } = self;
        let track = context.track;
        let settled = classes.is_none_or(|set| track.is_some_and(|t| set.contains(t.class)))
            && direction.is_none_or(|way| track.is_some_and(|t| t.direction == Some(way)))
            && status.is_none_or(|test| {
                track.is_some_and(|t| t.direction.is_some() && test.passes(t.status))
            });
        let depends = flags.is_some()
            || length.is_some()
            || ingress.is_some()
            || egress.is_some()
            || mark.is_some()
            || track_mark.is_some()
            || track_zone.is_some();
        match (settled, depends) {
            (false, _) => Some(false),
            (true, false) => Some(true),
            (true, true) => None,
        }
    }

    /// Whether a packet passes all tests. Reads the packet's facts, and of the context the egress, the mark and the track.
    pub fn hold<P: Packet>(&self, packet: &P, context: &Context) -> bool {
        self.flags.is_none_or(|test| {
            packet
                .segment_flags()
                .is_some_and(|flags| test.passes(flags))
        }) && self
            .length
            .is_none_or(|(least, most)| (least..=most).contains(&packet.length()))
            && self
                .ingress
                .is_none_or(|interface| packet.ingress() == interface)
            && self
                .egress
                .is_none_or(|interface| context.egress.is_some_and(|e| e.interface == interface))
            && self.mark.is_none_or(|mark| mark.matches(context.mark))
            && self
                .track_mark
                .is_none_or(|mark| context.track.is_some_and(|t| mark.matches(t.mark)))
            && self
                .classes
                .is_none_or(|classes| context.track.is_some_and(|t| classes.contains(t.class)))
            && self
                .direction
                .is_none_or(|way| context.track.is_some_and(|t| t.direction == Some(way)))
            && self.status.is_none_or(|test| {
                let connection = context.track.filter(|t| t.direction.is_some());
                connection.is_some_and(|t| test.passes(t.status))
            })
            && self.track_zone.is_none_or(|zone| {
                let connected = context.track.is_some_and(|t| t.direction.is_some());
                connected && packet.key().fields().zone == zone
            })
    }
}

impl Rule {
    /// Whether it matches a flow, as far as the key tells without [`sets`](Self::sets).
    pub fn matches_flow(&self, flow: &Fields) -> bool {
        self.pattern.matches(flow) && !self.except.iter().any(|hole| hole.matches(flow))
    }

    /// Whether the flow part reads the transport header, so that a packet without one cannot match.
    pub fn reads_transport(&self) -> bool {
        let reads = |box_: &Pattern| {
            box_.source_ports != Ports::ALL || box_.destination_ports != Ports::ALL
        };
        reads(&self.pattern)
            || self.except.iter().any(reads)
            || self.sets.iter().any(|test| test.field.is_port())
    }

    /// Whether it ends the walk for every packet of a flow that it matches.
    pub fn is_final(&self) -> bool {
        let ends = matches!(
            self.action,
            Action::Accept | Action::Drop | Action::Reject(_)
        );
        ends && self.conditions.is_none()
    }
}

/// Whether the packet's transport header is there to be read.
pub(super) fn has_transport<P: Packet>(packet: &P) -> bool {
    packet.fragment() != Fragment::Later && packet.defect().is_none()
}

/// TCP flags of packets that have them.
trait SegmentFlags {
    fn segment_flags(&self) -> Option<TcpFlags>;
}

impl<P: Packet> SegmentFlags for P {
    fn segment_flags(&self) -> Option<TcpFlags> {
        use crate::key::Protocol;
        (self.key().protocol() == Protocol::TCP && has_transport(self)).then(|| self.tcp_flags())
    }
}
