//! What translation keeps of a connection beside the tracker, and who else is the same client.
//!
//! Apart because it must be in step with the tracker's slots: a record begins when the source of a connection is decided on
//! and ends when the tracker says that the connection has left its slot.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rules::RuleId;
use crate::hooks::conntrack::{ConnId, Trackable};
use crate::key::{Endpoint, Family, Locality};
use crate::packet::Interface;
use crate::trie::{KeyIndex, ReserveError};

const NONE: u32 = u32::MAX;

/// Connections of one client end that are looked at for one to take after.
const SAME_CLIENT_MAX: usize = 32;

/// What is kept of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<K> {
    id: ConnId,
    client: K,
    previous: u32,
    next: u32,
    /// Whether it is in the list of its client end: not when the index had no room.
    listed: bool,
    /// What it was masqueraded for: it must not leave by another interface.
    pub(super) masqueraded: Option<Interface>,
    /// The rules that decided: source, destination.
    pub(super) rules: [Option<RuleId>; 2],
    /// The mappings that it keeps alive: of its source, of its destination.
    pub(super) mappings: [Option<u32>; 2],
    /// Whom the inside end of the source's mapping talks to, where that is kept.
    pub(super) peer: Option<IpAddr>,
}

/// What is kept of all connections, by slot, with lists by client end.
#[derive(Debug)]
pub(super) struct Sides<K: Trackable> {
    sides: Vec<Option<Side<K>>>,
    /// From client end to the newest connection's slot.
    clients: K::Index,
    live: usize,
}

/// A client end as a key: the tuple without its destination.
pub(super) fn client<K: Trackable>(tuple: &K) -> Option<K> {
    let unspecified = match tuple.fields().family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Some(
        tuple
            .with(tuple.source(), Endpoint::new(unspecified, 0))?
            .at(Locality::default()),
    )
}

impl<K: Trackable> Sides<K> {
    /// All memory is reserved here.
    pub(super) fn try_new(capacity: u32, seed: [u64; 2]) -> Result<Self, ReserveError> {
        let slots = capacity as usize;
        let mut sides = Vec::new();
        sides.try_reserve_exact(slots)?;
        Ok(Self {
            sides,
            clients: K::Index::with_seed(seed, slots)?,
            live: 0,
        })
    }

    /// Connections that something is kept of.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        self.sides.capacity() * size_of::<Option<Side<K>>>() + self.clients.reserved_bytes()
    }

    /// Those with the same client end, newest first, at most 32.
    pub(super) fn of_client(&self, tuple: &K) -> impl Iterator<Item = ConnId> {
        let head = client(tuple).and_then(|client| self.clients.find(&client));
        let side = |slot: u32| self.sides.get(slot as usize)?.as_ref();
        core::iter::successors(head.and_then(side), move |one| side(one.next))
            .take(SAME_CLIENT_MAX)
            .map(|one| one.id)
    }

    /// Begins a record; the connection's source is decided on. `tuple` has its client end.
    pub(super) fn begin(&mut self, id: ConnId, tuple: &K) {
        let Some(client) = client(tuple) else {
            return;
        };
        let slot = id.to_bits() as u32;
        self.end_slot(slot);
        while self.sides.len() <= slot as usize {
            self.sides.push(None);
        }
        let (listed, next) = match self.clients.insert(&client, slot) {
            Ok(old) => (true, old.unwrap_or(NONE)),
            Err(_) => (false, NONE),
        };
        if let Some(Some(old)) = self.sides.get_mut(next as usize) {
            old.previous = slot;
        }
        if let Some(place) = self.sides.get_mut(slot as usize) {
            *place = Some(Side {
                id,
                client,
                previous: NONE,
                next,
                listed,
                masqueraded: None,
                rules: [None; 2],
                mappings: [None; 2],
                peer: None,
            });
            self.live += 1;
        }
    }

    /// Ends a record; what it was.
    pub(super) fn end(&mut self, id: ConnId) -> Option<Side<K>> {
        self.side(id)?;
        self.end_slot(id.to_bits() as u32)
    }

    fn end_slot(&mut self, slot: u32) -> Option<Side<K>> {
        let side = self.sides.get_mut(slot as usize)?.take()?;
        self.live -= 1;
        if side.listed {
            if side.previous != NONE {
                if let Some(Some(previous)) = self.sides.get_mut(side.previous as usize) {
                    previous.next = side.next;
                }
            } else if side.next == NONE {
                self.clients.remove(&side.client);
            } else {
                // It replaces an entry, so that there is room.
                let _ = self.clients.insert(&side.client, side.next);
            }
            if let Some(Some(next)) = self.sides.get_mut(side.next as usize) {
                next.previous = side.previous;
            }
        }
        Some(side)
    }

    pub(super) fn side(&self, id: ConnId) -> Option<&Side<K>> {
        let side = self.sides.get(id.to_bits() as u32 as usize)?.as_ref();
        side.filter(|side| side.id == id)
    }

    pub(super) fn side_mut(&mut self, id: ConnId) -> Option<&mut Side<K>> {
        let side = self.sides.get_mut(id.to_bits() as u32 as usize)?.as_mut();
        side.filter(|side| side.id == id)
    }

    /// Every record's connection.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Side<K>)> {
        self.sides.iter().flatten().map(|side| (side.id, side))
    }

    /// Whether lists and index agree; for tests.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let heads = self
            .iter()
            .filter(|(_, side)| side.listed && side.previous == NONE);
        let mut count = 0;
        for (id, side) in heads {
            count += 1;
            if self.clients.find(&side.client) != Some(id.to_bits() as u32) {
                return Err("the index names the newest connection of each client end");
            }
        }
        if count != self.clients.len() {
            return Err("the index names client ends of living connections only");
        }
        for (id, side) in self.iter() {
            if let Some(Some(next)) = self.sides.get(side.next as usize) {
                if next.previous != id.to_bits() as u32 || next.client != side.client {
                    return Err("a list of a client end holds together");
                }
            }
        }
        if self.iter().count() != self.live {
            return Err("records are counted");
        }
        Ok(())
    }
}
