//! Mappings: outside ends that belong to inside ends, whoever these talk to.
//!
//! Apart from connections because a mapping outlives each of them and is shared by all of one inside end: that is what makes
//! translation independent of the peer's endpoint (RFC 4787 section 4.1).
//!
//! ```text
//!  inside end ──► mapping ──► outside end (from the pool, or fixed)
//!                 sessions: connections that keep it; with the last of them it ends, unless it is fixed
//!                 peers: addresses that its inside end talks to, where filtering depends on them
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::pool::{Filtering, Pool, PoolError};
use super::side::client;
use crate::hooks::conntrack::Trackable;
use crate::key::{Endpoint, FlowKey, Protocol};
use crate::time::Instant;
use crate::trie::{KeyIndex, ReserveError};

/// A pool of a translator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u32);

/// A mapping as it is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<K> {
    /// Its pool.
    pub pool: PoolId,
    /// The inside end, as the source of a key without a destination.
    pub inside: K,
    /// The outside end.
    pub outside: Endpoint,
    /// Connections that keep it.
    pub sessions: u32,
    /// Whether it stays without any: a port forward.
    pub fixed: bool,
}

impl<K: FlowKey> Mapping<K> {
    /// Its protocol.
    pub fn protocol(&self) -> Protocol {
        self.inside.protocol()
    }
}

/// All mappings of all pools.
#[derive(Debug)]
pub(super) struct Mappings<K: Trackable> {
    pools: Vec<Pool>,
    mappings: Vec<Option<Mapping<K>>>,
    free: Vec<u32>,
    by_inside: K::Index,
    by_outside: K::Index,
    peers: BTreeMap<(u32, IpAddr), u32>,
}

impl<K: Trackable> Mappings<K> {
    pub(super) fn try_new(seed: [u64; 2]) -> Result<Self, ReserveError> {
        Ok(Self {
            pools: Vec::new(),
            mappings: Vec::new(),
            free: Vec::new(),
            by_inside: K::Index::with_seed(seed, 0)?,
            by_outside: K::Index::with_seed(seed, 0)?,
            peers: BTreeMap::new(),
        })
    }

    /// Adds a pool; with the first, room for as many mappings as connections.
    pub(super) fn add_pool(
        &mut self,
        pool: Pool,
        capacity: usize,
        seed: [u64; 2],
    ) -> Result<PoolId, ReserveError> {
        if self.pools.is_empty() {
            self.by_inside = K::Index::with_seed(seed, capacity)?;
            self.by_outside = K::Index::with_seed(seed, capacity)?;
        }
        self.pools.push(pool);
        Ok(PoolId(self.pools.len() as u32 - 1))
    }

    pub(super) fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(id.0 as usize)
    }

    pub(super) fn is_unused(&self) -> bool {
        self.pools.is_empty()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Mapping<K>> {
        self.mappings.get(number as usize)?.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Mapping<K>> {
        self.mappings.iter().flatten()
    }

    /// The mapping of a tuple's source, made if there is none: then of an outside end that is of use.
    pub(super) fn of_inside(
        &mut self,
        id: PoolId,
        tuple: &K,
        now: Instant,
        is_of_use: impl Fn(Endpoint) -> bool,
    ) -> Result<u32, PoolError> {
        let inside = client(tuple).ok_or(PoolError::Protocol)?;
        if let Some(number) = self.by_inside.find(&inside) {
            if self.get(number).is_some_and(|mapping| mapping.pool == id) {
                return Ok(number);
            }
            // Another pool's: one inside end has one outside end.
            return Err(PoolError::Outsider);
        }
        let pool = self.pools.get_mut(id.0 as usize);
        let pool = pool.ok_or(PoolError::Outsider)?;
        let (source, protocol) = (tuple.source(), tuple.protocol());
        let lent = pool.open_where(source.address, protocol, source.port, now, is_of_use)?;
        let mapping = Mapping {
            pool: id,
            inside,
            outside: lent.outside,
            sessions: 0,
            fixed: false,
        };
        self.add(mapping).inspect_err(|_| {
            if let Some(pool) = self.pools.get_mut(id.0 as usize) {
                pool.close(source.address, protocol, lent.outside, now);
            }
        })
    }

    fn add(&mut self, mapping: Mapping<K>) -> Result<u32, PoolError> {
        let outside = outside_key(&mapping).ok_or(PoolError::Protocol)?;
        if self.by_outside.find(&outside).is_some() {
            return Err(PoolError::Exhausted);
        }
        let number = self.free.last().copied();
        let number = number.unwrap_or(self.mappings.len() as u32);
        if self.by_inside.insert(&mapping.inside, number).is_err() {
            return Err(PoolError::Exhausted);
        }
        if self.by_outside.insert(&outside, number).is_err() {
            self.by_inside.remove(&mapping.inside);
            return Err(PoolError::Exhausted);
        }
        if self.free.pop().is_some() {
            if let Some(place) = self.mappings.get_mut(number as usize) {
                *place = Some(mapping);
            }
        } else {
            self.mappings.push(Some(mapping));
        }
        Ok(number)
    }

    /// A fixed mapping. The port is nobody else's from now on.
    pub(super) fn forward(
        &mut self,
        id: PoolId,
        inside: &K,
        outside: Endpoint,
    ) -> Result<u32, PoolError> {
        let inside = client(inside).ok_or(PoolError::Protocol)?;
        if self.by_inside.find(&inside).is_some() {
            return Err(PoolError::Exhausted);
        }
        let pool = self.pools.get_mut(id.0 as usize);
        let pool = pool.ok_or(PoolError::Outsider)?;
        // Only a pool with a prefix gives an inside end of one family an outside end of the other.
        let crosses = inside.source().address.is_ipv4() != outside.address.is_ipv4();
        if crosses != pool.config().prefix64.is_some() {
            return Err(PoolError::Outsider);
        }
        if !pool.reserve(inside.protocol(), outside) {
            return Err(PoolError::Exhausted);
        }
        let mapping = Mapping {
            pool: id,
            inside,
            outside,
            sessions: 0,
            fixed: true,
        };
        self.add(mapping)
            .inspect_err(|_| self.restore(id, &inside, outside))
    }

    fn restore(&mut self, id: PoolId, inside: &K, outside: Endpoint) {
        if let Some(pool) = self.pools.get_mut(id.0 as usize) {
            pool.restore(inside.protocol(), outside);
        }
    }

    /// Takes a fixed mapping away; its connections go on.
    pub(super) fn unfix(&mut self, inside: &K, now: Instant) -> bool {
        let number = client(inside).and_then(|inside| self.by_inside.find(&inside));
        let Some(number) = number else { return false };
        let Some(Some(mapping)) = self.mappings.get_mut(number as usize) else {
            return false;
        };
        if !mapping.fixed || mapping.sessions > 0 {
            return false;
        }
        let mapping = *mapping;
        self.remove(number, now);
        self.restore(mapping.pool, &mapping.inside, mapping.outside);
        true
    }

    /// The mapping whose outside end a tuple's destination is.
    pub(super) fn of_outside(&self, tuple: &K) -> Option<u32> {
        if self.is_unused() || !tuple.protocol().has_ports() {
            return None;
        }
        let (source, destination) = (tuple.source(), tuple.destination());
        self.by_outside
            .find(&client(&tuple.with(destination, source)?)?)
    }

    /// Whether a packet from this address may open a connection to a mapping's inside end.
    pub(super) fn lets_in(&self, number: u32, from: IpAddr) -> bool {
        let Some(mapping) = self.get(number) else {
            return false;
        };
        let Some(pool) = self.pool(mapping.pool) else {
            return false;
        };
        mapping.fixed
            || match pool.config().filtering {
                Filtering::EndpointIndependent => true,
                Filtering::AddressAndPortDependent => false,
                Filtering::AddressDependent => {
                    // Another subscriber is known by his outside address.
                    let hidden = pool.config().inside.iter().any(|i| i.contains(from));
                    let from = if hidden {
                        pool.address_of(from)
                    } else {
                        Some(from)
                    };
                    from.is_some_and(|from| self.peers.contains_key(&(number, from)))
                }
            }
    }

    /// The pool that turns packets back: a mapping's, where a source is one of its subscribers.
    pub(super) fn hairpin(&self, number: u32, source: IpAddr) -> Option<PoolId> {
        let id = self.get(number)?.pool;
        let inside = &self.pool(id)?.config().inside;
        inside.iter().any(|one| one.contains(source)).then_some(id)
    }

    /// A connection keeps a mapping from now on; `peer` is whom its inside end talks to.
    pub(super) fn join(&mut self, number: u32, peer: Option<IpAddr>) {
        if let Some(Some(mapping)) = self.mappings.get_mut(number as usize) {
            mapping.sessions += 1;
            if let Some(peer) = peer {
                *self.peers.entry((number, peer)).or_insert(0) += 1;
            }
        }
    }

    /// A connection keeps a mapping no longer. The last one takes it along.
    pub(super) fn leave(&mut self, number: u32, peer: Option<IpAddr>, now: Instant) {
        if let Some(peer) = peer {
            if let Some(count) = self.peers.get_mut(&(number, peer)) {
                *count -= 1;
                if *count == 0 {
                    self.peers.remove(&(number, peer));
                }
            }
        }
        if let Some(Some(mapping)) = self.mappings.get_mut(number as usize) {
            mapping.sessions = mapping.sessions.saturating_sub(1);
        }
        self.end_if_unused(number, now);
    }

    /// Ends a mapping that nothing keeps, and gives its port back.
    pub(super) fn end_if_unused(&mut self, number: u32, now: Instant) {
        let Some(mapping) = self.get(number).copied() else {
            return;
        };
        if mapping.sessions == 0 && !mapping.fixed {
            self.remove(number, now);
            if let Some(pool) = self.pools.get_mut(mapping.pool.0 as usize) {
                let subscriber = mapping.inside.source().address;
                pool.close(subscriber, mapping.protocol(), mapping.outside, now);
            }
        }
    }

    fn remove(&mut self, number: u32, _: Instant) {
        let Some(Some(mapping)) = self.mappings.get_mut(number as usize).map(Option::take) else {
            return;
        };
        self.by_inside.remove(&mapping.inside);
        if let Some(outside) = outside_key(&mapping) {
            self.by_outside.remove(&outside);
        }
        self.free.push(number);
    }

    /// Whether the parts agree; for tests.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let live = self.iter().count();
        if live != self.by_inside.len() || live != self.by_outside.len() {
            return Err("every mapping is found by both its ends");
        }
        for (number, mapping) in self.mappings.iter().enumerate() {
            let Some(mapping) = mapping else { continue };
            let outside = outside_key(mapping).and_then(|key| self.by_outside.find(&key));
            if self.by_inside.find(&mapping.inside) != Some(number as u32)
                || outside != Some(number as u32)
            {
                return Err("a mapping is found by both its ends");
            }
            if mapping.sessions == 0 && !mapping.fixed {
                return Err("a mapping is kept by a connection");
            }
        }
        for (number, pool) in self.pools.iter().enumerate() {
            pool.check()?;
            let own = |one: &&Mapping<K>| one.pool.0 as usize == number && !one.fixed;
            if self.iter().filter(own).count() != pool.lent() {
                return Err("every port that is lent has a mapping");
            }
        }
        Ok(())
    }
}

/// The outside end of a mapping as a key.
fn outside_key<K: Trackable>(mapping: &Mapping<K>) -> Option<K> {
    // Of the outside end's family, whichever the inside end's is.
    let nobody = match mapping.outside.address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let nobody = Endpoint::new(nobody, 0);
    client(&mapping.inside.with(mapping.outside, nobody)?)
}
