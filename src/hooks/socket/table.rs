//! Which socket takes a flow: connected ones by their whole tuple, listening ones by how closely they are bound.
//!
//! Apart from the hook because it knows no packets.
//!
//! ```text
//!  tuple ── connected? ── yes ─────────────────────────────────────────────► that socket
//!             │ no
//!             ▼
//!  (zone, protocol, port) ── bound to the address? to any? ── of those: to the interface, to the family ─► by the flow's hash
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{BindError, Bound, Listen, SocketId};
use crate::key::{Cidr, Family, Fields, FlowKey, Pattern, Ports, Protocol, Zone};
use crate::packet::Interface;
use crate::trie::{Indexed, KeyIndex, ReserveError};
use crate::verdict::Consumer;

/// A place in the table; what a step names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u32);

/// Where listening sockets are looked for: those bound to an address, and under `None` those that are bound to none.
type Door = (Zone, Protocol, u16, Option<IpAddr>);

/// What is known of one socket.
#[derive(Clone, Debug)]
pub(super) struct Socket<K> {
    pub(super) place: Place<K>,
    pub(super) consumer: Consumer,
    pub(super) packets: u64,
    /// Whether the consumer runs the steps itself.
    pub(super) deferred: bool,
}

/// Where a socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<K> {
    Listening(Listen),
    /// To the flow that arrives under this key.
    Connected(K),
}

/// The answer of [`Table::find`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) slot: Option<Slot>,
    /// Whether it would be another for packets that arrive on other interfaces.
    pub(super) by_interface: bool,
}

#[derive(Debug)]
struct Cell<K> {
    generation: u32,
    socket: Option<Socket<K>>,
}

/// All sockets.
#[derive(Debug)]
pub(super) struct Table<K: FlowKey + Indexed> {
    cells: Vec<Cell<K>>,
    /// Cells without a socket that may be given out.
    free: Vec<u32>,
    len: usize,
    capacity: usize,
    listening: BTreeMap<Door, Vec<u32>>,
    connected: K::Index,
}

impl<K: FlowKey + Indexed> Table<K> {
    pub(super) fn try_new(capacity: usize, seed: [u64; 2]) -> Result<Self, ReserveError> {
        let (mut cells, mut free) = (Vec::new(), Vec::new());
        cells.try_reserve_exact(capacity)?;
        free.try_reserve_exact(capacity)?;
        Ok(Self {
            cells,
            free,
            len: 0,
            capacity,
            listening: BTreeMap::new(),
            connected: K::Index::with_seed(seed, capacity)?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn listen(
        &mut self,
        listen: Listen,
        consumer: Consumer,
    ) -> Result<SocketId, BindError> {
        if !listen.protocol.has_ports() || listen.port == 0 {
            return Err(BindError::Port);
        }
        if let Some(other) = self.conflict(&listen) {
            return Err(BindError::Taken(other));
        }
        let slot = self.put(Place::Listening(listen), consumer)?;
        let door = self.listening.entry(door(&listen)).or_default();
        door.push(slot);
        Ok(self.id(slot))
    }

    pub(super) fn connect(&mut self, key: K, consumer: Consumer) -> Result<SocketId, BindError> {
        if !key.protocol().has_ports() {
            return Err(BindError::Port);
        }
        if let Some(slot) = self.connected.find(&key) {
            return Err(BindError::Taken(self.id(slot)));
        }
        let slot = self.put(Place::Connected(key), consumer)?;
        if self.connected.insert(&key, slot).is_err() {
            self.take(slot);
            return Err(BindError::Full);
        }
        Ok(self.id(slot))
    }

    /// Takes a socket away; where it stood.
    pub(super) fn close(&mut self, id: SocketId) -> Option<Socket<K>> {
        self.get(id)?;
        let socket = self.take(id.index)?;
        match &socket.place {
            Place::Connected(key) => {
                self.connected.remove(key);
            }
            Place::Listening(listen) => {
                let door = door(listen);
                if let Some(sockets) = self.listening.get_mut(&door) {
                    sockets.retain(|slot| *slot != id.index);
                    if sockets.is_empty() {
                        self.listening.remove(&door);
                    }
                }
            }
        }
        Some(socket)
    }

    /// The socket that takes a flow whose packet arrives on `ingress`.
    ///
    /// Cost: two lookups for a connected socket; else O(log n) and the sockets bound to the same address and port.
    pub(super) fn find(&self, key: &K, ingress: Interface) -> Found {
        if let Some(slot) = self.connected.find(key) {
            return Found {
                slot: Some(Slot(slot)),
                by_interface: false,
            };
        }
        let fields = key.fields();
        let destination = fields.family.address(fields.destination);
        let mut by_interface = false;
        for address in [Some(destination), None] {
            let door = (
                fields.zone,
                fields.protocol,
                fields.destination_port,
                address,
            );
            let Some(door) = self.listening.get(&door) else {
                continue;
            };
            let best = self.best(door, &fields, ingress, &mut by_interface);
            if let Some((rank, count)) = best {
                // Equally good sockets share a port; a flow's hash says which of them is its own.
                let choice = ((self.connected.header(key) >> 32) * count as u64) >> 32;
                let slot = self
                    .ranked(door, &fields, ingress)
                    .filter(|(of, _)| *of == rank)
                    .nth(choice as usize);
                return Found {
                    slot: slot.map(|(_, slot)| Slot(slot)),
                    by_interface,
                };
            }
        }
        Found {
            slot: None,
            by_interface,
        }
    }

    /// The best rank behind a door, and how many have it.
    fn best(
        &self,
        door: &[u32],
        fields: &Fields,
        ingress: Interface,
        by_interface: &mut bool,
    ) -> Option<(Rank, usize)> {
        for (listen, _) in self.listeners(door) {
            *by_interface |= listen.interface.is_some() && takes(&listen.address, fields.family);
        }
        let rank = self.ranked(door, fields, ingress).map(|(rank, _)| rank);
        let best = rank.max()?;
        let equal = self
            .ranked(door, fields, ingress)
            .filter(|(rank, _)| *rank == best);
        Some((best, equal.count()))
    }

    /// The sockets behind a door that take a flow, with their ranks.
    fn ranked(
        &self,
        door: &[u32],
        fields: &Fields,
        ingress: Interface,
    ) -> impl Iterator<Item = (Rank, u32)> {
        let family = fields.family;
        self.listeners(door).filter_map(move |(listen, slot)| {
            let here = listen.interface.is_none_or(|bound| bound == ingress);
            let rank = Rank {
                to_interface: listen.interface.is_some(),
                to_family: listen.address != Bound::Any,
            };
            (here && takes(&listen.address, family)).then_some((rank, slot))
        })
    }

    fn listeners(&self, door: &[u32]) -> impl Iterator<Item = (&Listen, u32)> {
        door.iter()
            .filter_map(|slot| match &self.at(Slot(*slot))?.place {
                Place::Listening(listen) => Some((listen, *slot)),
                Place::Connected(_) => None,
            })
    }

    /// A socket that forbids another one: one that could take a flow of the other's, unless both share.
    fn conflict(&self, listen: &Listen) -> Option<SocketId> {
        let (zone, protocol, port) = (listen.zone, listen.protocol, listen.port);
        let others = self
            .listening
            .range((zone, protocol, port, None)..)
            .take_while(|(door, _)| (door.0, door.1, door.2) == (zone, protocol, port))
            .flat_map(|(_, sockets)| self.listeners(sockets));
        let mut others = others.filter(|(other, _)| {
            let addresses = match (other.address, listen.address) {
                (Bound::One(a), Bound::One(b)) => a == b,
                (Bound::Any, _) | (_, Bound::Any) => true,
                (a, b) => family(&a) == family(&b),
            };
            let interfaces = match (other.interface, listen.interface) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            };
            let share = other.share.is_some() && other.share == listen.share;
            addresses && interfaces && !share
        });
        others.next().map(|(_, slot)| self.id(slot))
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&Socket<K>> {
        let cell = self.cells.get(id.index as usize)?;
        cell.socket
            .as_ref()
            .filter(|_| cell.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket<K>> {
        let cell = self.cells.get_mut(id.index as usize)?;
        let live = cell.generation == id.generation;
        cell.socket.as_mut().filter(|_| live)
    }

    pub(super) fn at(&self, slot: Slot) -> Option<&Socket<K>> {
        self.cells.get(slot.0 as usize)?.socket.as_ref()
    }

    pub(super) fn at_mut(&mut self, slot: Slot) -> Option<&mut Socket<K>> {
        self.cells.get_mut(slot.0 as usize)?.socket.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketId, &Socket<K>)> {
        let cells = self.cells.iter().enumerate();
        cells.filter_map(|(index, cell)| Some((self.id(index as u32), cell.socket.as_ref()?)))
    }

    /// The name of the socket in a cell.
    pub(super) fn id_at(&self, index: u32) -> Option<SocketId> {
        self.at(Slot(index)).map(|_| self.id(index))
    }

    fn id(&self, index: u32) -> SocketId {
        SocketId {
            index,
            generation: self
                .cells
                .get(index as usize)
                .map_or(0, |cell| cell.generation),
        }
    }

    fn put(&mut self, place: Place<K>, consumer: Consumer) -> Result<u32, BindError> {
        let socket = Some(Socket {
            place,
            consumer,
            packets: 0,
            deferred: false,
        });
        if let Some(index) = self.free.pop() {
            if let Some(cell) = self.cells.get_mut(index as usize) {
                cell.socket = socket;
            }
            self.len += 1;
            return Ok(index);
        }
        if self.cells.len() == self.capacity {
            return Err(BindError::Full);
        }
        self.cells.push(Cell {
            generation: 0,
            socket,
        });
        self.len += 1;
        Ok(self.cells.len() as u32 - 1)
    }

    /// Empties a cell. One whose generations are used up is not given out again.
    fn take(&mut self, index: u32) -> Option<Socket<K>> {
        let cell = self.cells.get_mut(index as usize)?;
        let socket = cell.socket.take()?;
        self.len -= 1;
        if let Some(next) = cell.generation.checked_add(1) {
            cell.generation = next;
            self.free.push(index);
        }
        Some(socket)
    }
}

/// How closely a listening socket is bound, beyond its address: the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    to_interface: bool,
    to_family: bool,
}

fn door(listen: &Listen) -> Door {
    let address = match listen.address {
        Bound::One(address) => Some(address),
        Bound::Any | Bound::AnyOf(_) => None,
    };
    (listen.zone, listen.protocol, listen.port, address)
}

fn family(bound: &Bound) -> Option<Family> {
    match bound {
        Bound::Any => None,
        Bound::AnyOf(family) => Some(*family),
        Bound::One(address) => Some(Family::align(*address).0),
    }
}

fn takes(bound: &Bound, family_of_flow: Family) -> bool {
    family(bound).is_none_or(|family| family == family_of_flow)
}

/// The flows that a socket may take: what its coming and going touches.
pub(super) fn region<K: FlowKey>(place: &Place<K>) -> Pattern {
    match place {
        Place::Connected(key) => Pattern::exactly(&key.fields()),
        Place::Listening(listen) => Pattern {
            zone: Some(listen.zone),
            protocol: Some(listen.protocol),
            family: family(&listen.address),
            destination: match listen.address {
                Bound::One(address) => Some(Cidr::host(address)),
                _ => None,
            },
            destination_ports: Ports::one(listen.port),
            destination_local: Some(true),
            ..Pattern::ANY
        },
    }
}
