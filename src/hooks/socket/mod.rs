//! The socket hook: which consumer of this machine takes a packet that is for it.
//!
//! It is the last of the lookups that one lookup replaces. A flow's step names a socket; what the socket's owner calls it, its
//! [`Consumer`], is a cell, so that handing a connection to another thread or queue touches no flow. Binding and closing
//! touch just the flows that the socket could take.
//!
//! ```text
//!  SYN     ─► listening socket, its consumer accepts      connect(key): from now on the connection's own socket
//!  data    ─► connected socket
//!  queue   ─► a consumer that wants to runs the steps itself (set_deferred, FlowCache::deliver)
//!  sending ─► the socket keeps the flow's cookie and spares the lookup (FlowCache::cookie)
//! ```
//!
//! Whose packet it is follows Linux (`inet_lookup`): a connected socket first; then those bound to the packet's address before
//! those bound to any; among these one bound to the interface, then one bound to the family alone. Sockets that are equally
//! close share the port (`SO_REUSEPORT`), and a keyed hash of the flow says which of them takes it.
//!
//! One packet has one consumer: what is sent to a group of hosts, and wanted by several sockets here, is for the dataplane to
//! multiply.
//!
//! Stand it behind the filter in the [pipeline](crate::pipeline): it judges at the same stage.
//!
//! ```
//! use gufc::hooks::socket::{Absent, Bound, Listen, Sockets};
//! use gufc::key::{Protocol, Tuple};
//! use gufc::packet::Interface;
//! use gufc::verdict::Consumer;
//!
//! let mut sockets: Sockets<Tuple> = Sockets::try_new(16, [1, 2], Absent::Refuse)?;
//! let web = Listen::new(Protocol::TCP, Bound::Any, 80);
//! let (listener, _change) = sockets.listen(web, Consumer(1))?;
//!
//! let flow: Tuple = "tcp 192.0.2.1:40000 > 198.51.100.7:80".parse()?;
//! assert_eq!(sockets.find(&flow, Interface(1)), Some(listener));
//! let (connection, _change) = sockets.connect(flow, Consumer(2))?;
//! assert_eq!(sockets.find(&flow, Interface(1)), Some(connection));
//! assert!(sockets.listen(web, Consumer(3)).is_err());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod table;

use core::fmt;
use core::net::IpAddr;

use crate::epoch::{Change, View};
use crate::hook::{Context, Hook, Judge, Judgement, Reach, Recheck, Rejudged, Stage};
use crate::interest::Trigger;
use crate::key::{Family, Fields, FlowKey, Protocol, Span, Zone};
use crate::packet::{Interface, Packet};
use crate::trie::{Indexed, ReserveError};
use crate::verdict::{Answer, By, Consumer, Verdict};
use table::{Found, Place, Slot, Table, region};

/// What the hook is called.
pub const NAME: &str = "socket";

/// A socket's name, good until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    index: u32,
    generation: u32,
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// The addresses that a socket listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// All of both families.
    Any,
    /// All of one family.
    AnyOf(Family),
    /// One.
    One(IpAddr),
}

/// Where a socket listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// The zone of the packets that it takes.
    pub zone: Zone,
    /// Its protocol, one that has ports.
    pub protocol: Protocol,
    /// Its addresses.
    pub address: Bound,
    /// Its port, not 0.
    pub port: u16,
    /// The only interface whose packets it takes; `None`: those of all.
    pub interface: Option<Interface>,
    /// Sockets that give the same number here may be bound to the same place, and share its flows.
    pub share: Option<u32>,
}

impl Listen {
    /// In zone 0, on all interfaces, not shared.
    pub fn new(protocol: Protocol, address: Bound, port: u16) -> Self {
        Self {
            zone: Zone::default(),
            protocol,
            address,
            port,
            interface: None,
            share: None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.protocol)?;
        match self.address {
            Bound::Any => f.write_str("*")?,
            Bound::AnyOf(Family::V4) => f.write_str("0.0.0.0")?,
            Bound::AnyOf(Family::V6) => f.write_str("[::]")?,
            Bound::One(IpAddr::V4(address)) => write!(f, "{address}")?,
            Bound::One(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        write!(f, ":{}", self.port)?;
        if let Some(Interface(number)) = self.interface {
            write!(f, " on interface {number}")?;
        }
        if let Some(number) = self.share {
            write!(f, " shared by {number}")?;
        }
        Ok(())
    }
}

/// Why a socket cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindError {
    /// This socket takes flows that the new one would take, and the two do not share.
    Taken(SocketId),
    /// As many sockets are bound as the table has room for.
    Full,
    /// The port is 0, or the protocol has none.
    Port,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(other) => write!(f, "socket {other} is bound there"),
            Self::Full => f.write_str("no room for another socket"),
            Self::Port => f.write_str("a socket needs a protocol with ports, and a port"),
        }
    }
}

impl core::error::Error for BindError {}

/// What becomes of a packet for this machine that no socket takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Absent {
    /// It is accepted without a [`Consumer`]: the dataplane's own stack will answer it.
    #[default]
    Accept,
    /// It is rejected: TCP with a reset, all else with "port unreachable".
    Refuse,
}

/// Where a socket of a listing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed<K> {
    /// Its name.
    pub id: SocketId,
    /// Where it listens; `None` if it is connected.
    pub listens: Option<Listen>,
    /// The key under which its packets arrive; `None` if it listens.
    pub connected: Option<K>,
    /// Who takes its packets.
    pub consumer: Consumer,
    /// How many packets it took.
    pub packets: u64,
    /// Whether its consumer runs the steps itself.
    pub deferred: bool,
}

/// The sockets of this machine, as a hook.
#[derive(Debug)]
pub struct Sockets<K: FlowKey + Indexed> {
    table: Table<K>,
    absent: Absent,
    unclaimed: u64,
}

impl<K: FlowKey + Indexed> Sockets<K> {
    /// No sockets, with room for `capacity`. The seed is a secret: whoever knows it chooses who of those that share a port takes
    /// his flows.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when `capacity` is too large or memory is short.
    pub fn try_new(capacity: usize, seed: [u64; 2], absent: Absent) -> Result<Self, ReserveError> {
        Ok(Self {
            table: Table::try_new(capacity, seed)?,
            absent,
            unclaimed: 0,
        })
    }

    /// Binds a listening socket.
    ///
    /// Touches the flows to its port and addresses. Cost: O(log n), and the sockets bound to the same port.
    ///
    /// # Errors
    ///
    /// [`BindError`]; nothing was changed.
    pub fn listen(
        &mut self,
        listen: Listen,
        consumer: Consumer,
    ) -> Result<(SocketId, Change), BindError> {
        let id = self.table.listen(listen, consumer)?;
        Ok((id, touches(&Place::<K>::Listening(listen))))
    }

    /// Binds a socket to one flow: `key` is what its packets arrive under, after translation, its source being the other end
    /// and its destination local.
    ///
    /// Touches that flow. Cost: O(1).
    ///
    /// # Errors
    ///
    /// [`BindError`]; nothing was changed.
    pub fn connect(&mut self, key: K, consumer: Consumer) -> Result<(SocketId, Change), BindError> {
        let id = self.table.connect(key, consumer)?;
        Ok((id, touches(&Place::Connected(key))))
    }

    /// Closes a socket; `None` when it is closed already.
    ///
    /// Touches the flows that it could take. Cost: as binding it.
    pub fn close(&mut self, id: SocketId) -> Option<Change> {
        Some(touches(&self.table.close(id)?.place))
    }

    /// Gives a socket another consumer, for the very next packet. No flow is touched. False when the socket is closed.
    pub fn set_consumer(&mut self, id: SocketId, consumer: Consumer) -> bool {
        let socket = self.table.get_mut(id);
        socket.map(|socket| socket.consumer = consumer).is_some()
    }

    /// Chooses whether the steps of a socket's packets have run when its consumer gets them, as at first, or are still to run in the
    /// consumer's context: [`FlowCache::deliver`](crate::cache::FlowCache::deliver) then gives them back as they came. Holds for
    /// the very next packet. No flow is touched. False when the socket is closed.
    pub fn set_deferred(&mut self, id: SocketId, deferred: bool) -> bool {
        let socket = self.table.get_mut(id);
        socket.map(|socket| socket.deferred = deferred).is_some()
    }

    /// The socket that takes a flow's packets from this interface.
    ///
    /// Cost: one lookup for a connected socket; else O(log n), and the sockets bound to the same address and port.
    pub fn find(&self, flow: &K, ingress: Interface) -> Option<SocketId> {
        let Slot(slot) = self.table.find(flow, ingress).slot?;
        self.table.id_at(slot)
    }

    /// What is known of a socket.
    pub fn get(&self, id: SocketId) -> Option<Listed<K>> {
        Some(listed(id, self.table.get(id)?))
    }

    /// All sockets, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Listed<K>> {
        self.table.iter().map(|(id, socket)| listed(id, socket))
    }

    /// Sockets bound.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packets for this machine, of protocols with ports, that no socket took.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed
    }

    /// Carries out a step.
    fn deliver(
        &mut self,
        slot: Option<Slot>,
        protocol: Protocol,
        context: &mut Context,
    ) -> Option<Verdict> {
        if let Some(socket) = slot.and_then(|slot| self.table.at_mut(slot)) {
            socket.packets += 1;
            context.consumer = Some(socket.consumer);
            return None;
        }
        self.unclaimed += 1;
        let refusal = self.refusal(protocol);
        if refusal.is_some() {
            context.by = By {
                hook: NAME,
                rule: None,
            };
        }
        refusal
    }

    /// What a packet that no socket takes ends with; `None` where it goes on.
    fn refusal(&self, protocol: Protocol) -> Option<Verdict> {
        match self.absent {
            Absent::Accept => None,
            Absent::Refuse if protocol == Protocol::TCP => Some(Verdict::Reject(Answer::TcpReset)),
            Absent::Refuse => Some(Verdict::Reject(Answer::PortUnreachable)),
        }
    }
}

fn listed<K: Copy>(id: SocketId, socket: &table::Socket<K>) -> Listed<K> {
    let (listens, connected) = match socket.place {
        Place::Listening(listen) => (Some(listen), None),
        Place::Connected(key) => (None, Some(key)),
    };
    Listed {
        id,
        listens,
        connected,
        consumer: socket.consumer,
        packets: socket.packets,
        deferred: socket.deferred,
    }
}

fn touches<K: FlowKey>(place: &Place<K>) -> Change {
    Change::nothing().touches(NAME, View::Routed, region(place))
}

/// What a flow keeps of the socket hook: whose its packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    slot: Option<Slot>,
    protocol: Protocol,
    /// The interface that this holds for, where it depends on it.
    ingress: Option<Interface>,
}

impl<K: FlowKey + Indexed> Hook for Sockets<K> {
    type Step = Step;

    fn name(&self) -> &'static str {
        NAME
    }

    /// Over all flows that are not for this machine, or of a protocol without ports, for it has no interest in them.
    fn reach(&self, _: &Fields, step: Option<&Step>, _: &mut Span) -> Reach {
        match step {
            None => Reach::Passes,
            Some(_) => Reach::Never,
        }
    }

    fn deferred(&self, step: &Step) -> Option<Consumer> {
        let socket = self.table.at(step.slot?)?;
        socket.deferred.then_some(socket.consumer)
    }

    fn describe(&self, step: &Step, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match step.slot.and_then(|slot| self.table.at(slot)) {
            None => f.write_str("no socket")?,
            Some(socket) => {
                let Consumer(consumer) = socket.consumer;
                match &socket.place {
                    Place::Listening(listen) => write!(f, "listening on {listen}")?,
                    Place::Connected(_) => f.write_str("connected")?,
                }
                write!(f, ", consumer {consumer}, {} packets", socket.packets)?;
            }
        }
        match step.ingress {
            Some(Interface(number)) => write!(f, ", from interface {number}"),
            None => Ok(()),
        }
    }
}

impl<K: FlowKey + Indexed, P: Packet<Key = K>> Judge<P> for Sockets<K> {
    fn have_interest(&self, flow: &K) -> Option<Trigger> {
        let fields = flow.fields();
        (fields.locality.destination && fields.protocol.has_ports()).then_some(Trigger::NONE)
    }

    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<Step>,
    ) -> Judgement {
        let (key, ingress) = (packet.key(), packet.ingress());
        let Found { slot, by_interface } = self.table.find(&key, ingress);
        let protocol = key.protocol();
        *step = Some(Step {
            slot,
            protocol,
            ingress: by_interface.then_some(ingress),
        });
        match self.deliver(slot, protocol, context) {
            None => Judgement::Continue,
            Some(verdict) => Judgement::Finish {
                verdict,
                constant: !by_interface,
            },
        }
    }

    #[inline]
    fn fits(&self, step: &Step, packet: &P, _: &Context) -> bool {
        step.ingress
            .is_none_or(|ingress| ingress == packet.ingress())
    }

    #[inline]
    fn run(&mut self, _: Stage, step: &Step, _: &mut P, context: &mut Context) -> Option<Verdict> {
        self.deliver(step.slot, step.protocol, context)
    }

    fn rejudge(&self, _: Stage, packet: &P, _: &Context, step: Option<&Step>) -> Option<Rejudged> {
        let key = packet.key();
        let Found { slot, .. } = self.table.find(&key, packet.ingress());
        Some(Rejudged {
            keeps: step.is_some_and(|step| step.slot == slot),
            verdict: match slot {
                None => self.refusal(key.protocol()),
                Some(_) => None,
            },
        })
    }

    fn recheck(&mut self, step: Option<&Step>, flow: &K) -> Recheck<Step> {
        let Some(old) = step else {
            return Recheck::Judge;
        };
        // Any interface will do for flows whose answer does not depend on it; the others are judged.
        let Found { slot, by_interface } = self.table.find(flow, Interface(0));
        if by_interface || old.ingress.is_some() {
            return Recheck::Judge;
        }
        if slot == old.slot {
            Recheck::Keep
        } else if self.absent == Absent::Refuse && slot.is_some() != old.slot.is_some() {
            // Whether packets reach the hooks behind changes.
            Recheck::Judge
        } else {
            Recheck::Replace(Some(Step { slot, ..*old }))
        }
    }
}
