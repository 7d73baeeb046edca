//! Outside ends, lent and taken back: the allocator of a translator that serves many subscribers.
//!
//! Apart because it stands alone: it knows addresses, ports and subscribers, and nothing of packets or connections.
//!
//! ```text
//!  for each address and protocol      65,536 bits, a port each        bit set: free
//!                                      1,024 bits, a word each        bit set: the word has an even free port
//!                                      1,024 bits, a word each        bit set: the word has an odd free port
//!  a choice: a drawn start, then the next free port behind it, of the parity wanted: at most 18 words of the upper row and
//!  3 of the lower, however full the pool is; where no port has the parity, as many again for one of the other.
//!
//!  free ─ open ─► lent ─ close ─► resting (quarantine) ─► free
//! ```
//!
//! Three ways to hand out ports: any free one; blocks, which a subscriber takes as a whole, so that one line of a log names
//! him for hours; and blocks that follow from the subscriber's address alone ([`Deterministic`], RFC 7422), so that none is
//! needed.
//!
//! ```
//! use gufc::hooks::nat::{Pool, PoolConfig};
//! use gufc::key::Protocol;
//! use gufc::time::Instant;
//!
//! let mut pool = Pool::try_new(PoolConfig::new(vec!["192.0.2.1".parse()?]), [1, 2])?;
//! let subscriber = "10.0.0.2".parse()?;
//! let lent = pool.open(subscriber, Protocol::UDP, 4000, Instant::START)?;
//! assert_eq!(lent.outside.port, 4000);
//! assert_eq!(pool.lent(), 1);
//! pool.close(subscriber, Protocol::UDP, lent.outside, Instant::START);
//! assert_eq!(pool.lent(), 0);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod choice;
mod config;
mod rest;

pub use config::{Allocation, Filtering, PoolConfig, PoolError};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::bits::Bits;
use super::deterministic::Deterministic;
use super::dice::Dice;
use crate::key::{Endpoint, Family, Ports, Protocol};
use crate::time::Instant;
use crate::trie::ReserveError;
use rest::Resting;

/// A block of ports of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The address.
    pub address: IpAddr,
    /// The ports.
    pub ports: Ports,
}

/// A port that has been lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The outside end.
    pub outside: Endpoint,
    /// The block that the subscriber took for it: the line for the log.
    pub block: Option<Block>,
}

#[derive(Clone, Debug, Default)]
struct Subscriber {
    /// Number of his outside address.
    address: usize,
    /// Ports that he has.
    ports: u32,
    /// Numbers of his blocks.
    blocks: Vec<u32>,
    /// The second of his last opening, and openings in it.
    second: u64,
    opened: u32,
}

impl Subscriber {
    fn is_idle(&self) -> bool {
        self.ports == 0 && self.blocks.is_empty()
    }
}

/// The allocator.
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
    dice: Dice,
    deterministic: Option<Deterministic>,
    /// By address, then by protocol.
    free: Vec<Vec<Bits>>,
    /// Likewise: ports that somebody has.
    held: Vec<Vec<Bits>>,
    /// By address: free blocks.
    free_blocks: Vec<Bits>,
    /// By block: who has it, and ports of it in use.
    blocks: Vec<Option<(IpAddr, u32)>>,
    per_address: u32,
    subscribers: BTreeMap<IpAddr, Subscriber>,
    /// Subscribers without ports whose openings of a second are still counted, where there is a rate.
    idle: VecDeque<(u64, IpAddr)>,
    resting: VecDeque<(Instant, Resting)>,
    lent: usize,
    refused: [u64; PoolError::COUNT],
    woken_early: u64,
    looked: u64,
}

impl Pool {
    /// A pool with all ports free. The memory for ports is reserved here; a record for each subscriber who has ports comes
    /// to it.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when memory is short.
    pub fn try_new(mut config: PoolConfig, seed: [u64; 2]) -> Result<Self, ReserveError> {
        let is_v4 = config.addresses.first().is_some_and(IpAddr::is_ipv4);
        config.addresses.retain(|own| own.is_ipv4() == is_v4);
        let ports = config.ports;
        let width = u32::from(ports.last) - u32::from(ports.first) + 1;
        let per_address = match config.allocation {
            Allocation::Blocks { size, .. } => width / u32::from(size.max(1)),
            _ => 0,
        };
        let mut free = Vec::new();
        let mut held = Vec::new();
        let mut free_blocks = Vec::new();
        for address in &config.addresses {
            let mut bits = Bits::try_new(ports)?;
            for (_, ports) in config.reserved.iter().filter(|(own, _)| own == address) {
                for port in ports.first..=ports.last {
                    bits.take(port);
                }
            }
            free.push(config.protocols.iter().map(|_| bits.clone()).collect());
            let mut none = Bits::try_new(Ports { first: 0, last: 0 })?;
            none.take(0);
            held.push(config.protocols.iter().map(|_| none.clone()).collect());
            if per_address > 0 {
                let last = (per_address - 1) as u16;
                free_blocks.push(Bits::try_new(Ports { first: 0, last })?);
            }
        }
        let deterministic = match config.allocation {
            Allocation::Deterministic { inside } => {
                Deterministic::new(inside, config.addresses.len(), ports)
            }
            _ => None,
        };
        let blocks = per_address as usize * config.addresses.len();
        Ok(Self {
            dice: Dice::new(seed),
            deterministic,
            free,
            held,
            free_blocks,
            blocks: alloc::vec![None; blocks],
            per_address,
            subscribers: BTreeMap::new(),
            idle: VecDeque::new(),
            resting: VecDeque::new(),
            lent: 0,
            refused: [0; PoolError::COUNT],
            woken_early: 0,
            looked: 0,
            config,
        })
    }

    /// What it was made from.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// The family of its addresses; `None` where it has none. Rules that name it are for packets of this family only.
    pub fn family(&self) -> Option<Family> {
        let first = self.config.addresses.first()?;
        Some(Family::align(*first).0)
    }

    /// Ports lent now.
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// Ports and blocks at rest.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Subscribers who have ports. Cost: O(s) for s subscribers.
    pub fn subscribers(&self) -> usize {
        let all = self.subscribers.values();
        all.filter(|one| one.ports > 0).count()
    }

    /// Ports that a subscriber has.
    pub fn ports_of(&self, subscriber: IpAddr) -> u32 {
        self.subscribers.get(&subscriber).map_or(0, |one| one.ports)
    }

    /// How often a port was refused for a reason.
    pub fn refused(&self, reason: PoolError) -> u64 {
        self.refused[reason as usize]
    }

    /// Ports and blocks that had to end their rest early.
    pub fn woken_early(&self) -> u64 {
        self.woken_early
    }

    /// Words of the free lists that all choices have looked at.
    pub fn looked(&self) -> u64 {
        self.looked
    }

    /// The outside address that a subscriber has, or would get: he keeps one as long as he has ports, and gets the same
    /// again. `None` only where the pool has no address.
    pub fn address_of(&self, subscriber: IpAddr) -> Option<IpAddr> {
        self.config.addresses.get(self.paired(subscriber)).copied()
    }

    /// Who has the block of an outside port.
    pub fn subscriber_of(&self, outside: Endpoint) -> Option<IpAddr> {
        let address = self.number_of(outside.address)?;
        if let Some(deterministic) = &self.deterministic {
            return deterministic.subscriber_of(address, outside.port);
        }
        let block = self.block_at(address, outside.port)?;
        let owner = self.blocks.get(block as usize)?.as_ref();
        owner.map(|(subscriber, _)| *subscriber)
    }

    /// Lends a port to a subscriber whose own port is `wanted`.
    ///
    /// The port is `wanted` where that is free and kept; else a drawn one, of the same parity if there is one.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; nothing has changed but its count.
    ///
    /// Cost: O(log s) for s subscribers, and the look at the free ports, of at most `max` blocks.
    pub fn open(
        &mut self,
        subscriber: IpAddr,
        protocol: Protocol,
        wanted: u16,
        now: Instant,
    ) -> Result<Lent, PoolError> {
        self.open_where(subscriber, protocol, wanted, now, |_| true)
    }

    /// [`open`](Self::open), of a port that is of use: where the pool's addresses have other connections, a port may be free and
    /// yet clash with one of them at this peer.
    ///
    /// # Errors
    ///
    /// As `open`; [`PoolError::Exhausted`] also where 16 free ports in turn were of no use.
    pub fn open_where(
        &mut self,
        subscriber: IpAddr,
        protocol: Protocol,
        wanted: u16,
        now: Instant,
        is_of_use: impl Fn(Endpoint) -> bool,
    ) -> Result<Lent, PoolError> {
        self.wake(now);
        let result = self.choose(subscriber, protocol, wanted, now, &is_of_use);
        if let Err(reason) = result {
            self.refused[reason as usize] += 1;
        }
        result
    }

    fn choose(
        &mut self,
        subscriber: IpAddr,
        protocol: Protocol,
        wanted: u16,
        now: Instant,
        is_of_use: &dyn Fn(Endpoint) -> bool,
    ) -> Result<Lent, PoolError> {
        let space = self.space(protocol).ok_or(PoolError::Protocol)?;
        let second = now.nanos() / 1_000_000_000;
        if let Some(one) = self.subscribers.get(&subscriber) {
            if self.config.quota.is_some_and(|max| one.ports >= max) {
                return Err(PoolError::Quota);
            }
            let opened = if one.second == second { one.opened } else { 0 };
            if self.config.rate.is_some_and(|max| opened >= max) {
                return Err(PoolError::Rate);
            }
        } else if self.config.quota == Some(0) || self.config.rate == Some(0) {
            return Err(PoolError::Quota);
        }
        let (address, ports, block) = match self.config.allocation {
            Allocation::Single => (self.paired(subscriber), self.config.ports, None),
            Allocation::Deterministic { .. } => {
                let own = self.deterministic.as_ref();
                let block = own.and_then(|own| own.block_of(subscriber));
                let (address, ports) = block.ok_or(PoolError::Outsider)?;
                (address, ports, None)
            }
            Allocation::Blocks { max, .. } => {
                match self.in_blocks(subscriber, space, wanted, is_of_use) {
                    Some(lent) => return Ok(self.note(subscriber, lent, second)),
                    None => self.take_block(subscriber, space, max, is_of_use)?,
                }
            }
        };
        let port = self.find(address, space, ports, wanted, is_of_use);
        let Some(port) = port else {
            if let Some(block) = block {
                self.return_block(block, now);
            }
            return Err(PoolError::Exhausted);
        };
        self.hold(address, space, port);
        let own = self.config.addresses.get(address).copied();
        let own = own.ok_or(PoolError::Exhausted)?;
        let lent = Lent {
            outside: Endpoint::new(own, port),
            block: block.map(|_| Block {
                address: own,
                ports,
            }),
        };
        let paired = self.subscribers.entry(subscriber).or_default();
        paired.address = address;
        Ok(self.note(subscriber, lent, second))
    }

    /// Counts what a subscriber was lent.
    fn note(&mut self, subscriber: IpAddr, lent: Lent, second: u64) -> Lent {
        self.lent += 1;
        let one = self.subscribers.entry(subscriber).or_default();
        one.ports += 1;
        if one.second != second {
            (one.second, one.opened) = (second, 0);
        }
        one.opened += 1;
        lent
    }

    /// Takes a port back; it rests before another subscriber gets it. `None`, and no change, where it was not lent; else the
    /// block that went back with it, being its last: the line for the log.
    pub fn close(
        &mut self,
        subscriber: IpAddr,
        protocol: Protocol,
        outside: Endpoint,
        now: Instant,
    ) -> Option<Option<Block>> {
        let (address, space) = (self.number_of(outside.address)?, self.space(protocol)?);
        let port = outside.port;
        let one = self.subscribers.get_mut(&subscriber)?;
        let bits = self.held.get_mut(address)?.get_mut(space)?;
        if !bits.is_free(port) || one.address != address || one.ports == 0 {
            return None;
        }
        bits.take(port);
        one.ports -= 1;
        self.lent -= 1;
        let block = self.block_at(address, port);
        let owned = block.and_then(|block| self.blocks.get_mut(block as usize)?.as_mut());
        let mut returned = None;
        if let Some((_, used)) = owned {
            *used -= 1;
            let empty = *used == 0;
            // Within a subscriber's own block a port needs no rest.
            self.free.get_mut(address)?.get_mut(space)?.give(port);
            if let (true, Some(block)) = (empty, block) {
                returned = Some(Block {
                    address: outside.address,
                    ports: self.ports_of_block(block),
                });
                self.return_block(block, now);
            }
        } else if self.deterministic.is_some() {
            self.free.get_mut(address)?.get_mut(space)?.give(port);
        } else {
            let resting = Resting::Port {
                address,
                space,
                port,
            };
            self.rest(resting, now);
        }
        self.forget(subscriber);
        Some(returned)
    }

    /// Takes one port out of the pool for good, if it is the pool's and free; false where it is lent already. For static
    /// forwards.
    pub fn reserve(&mut self, protocol: Protocol, outside: Endpoint) -> bool {
        let place = self
            .number_of(outside.address)
            .zip(self.space(protocol))
            .and_then(|(address, space)| self.free.get_mut(address)?.get_mut(space));
        match place {
            Some(bits) if self.config.ports.contains(outside.port) => {
                let free = bits.is_free(outside.port);
                bits.take(outside.port);
                free
            }
            _ => true,
        }
    }

    /// Undoes [`reserve`](Self::reserve).
    pub fn restore(&mut self, protocol: Protocol, outside: Endpoint) {
        let place = self.number_of(outside.address).zip(self.space(protocol));
        if let Some((address, space)) = place {
            let held = self.held.get(address).and_then(|s| s.get(space));
            let is_held = held.is_some_and(|bits| bits.is_free(outside.port));
            if self.config.ports.contains(outside.port) && !is_held {
                self.free_again(Resting::Port {
                    address,
                    space,
                    port: outside.port,
                });
            }
        }
    }

    fn number_of(&self, address: IpAddr) -> Option<usize> {
        self.config.addresses.iter().position(|own| *own == address)
    }

    fn space(&self, protocol: Protocol) -> Option<usize> {
        let protocol = match protocol {
            Protocol::ICMPV6 => Protocol::ICMP,
            other => other,
        };
        self.config.protocols.iter().position(|p| *p == protocol)
    }

    /// The number of the address that a subscriber has, or would get.
    fn paired(&self, subscriber: IpAddr) -> usize {
        if let Some(one) = self.subscribers.get(&subscriber) {
            return one.address;
        }
        if let Some((address, _)) = self
            .deterministic
            .as_ref()
            .and_then(|d| d.block_of(subscriber))
        {
            return address;
        }
        let (_, bits) = Family::align(subscriber);
        let hash = self.dice.hash(&[(bits >> 64) as u64, bits as u64]);
        (hash % self.config.addresses.len().max(1) as u64) as usize
    }

    /// Whether the parts agree; for tests. Cost: O(ports).
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), &'static str> {
        let listed: u32 = self.subscribers.values().map(|one| one.ports).sum();
        if listed as usize != self.lent {
            return Err("every lent port has a subscriber");
        }
        let mut used = 0;
        for (number, block) in self.blocks.iter().enumerate() {
            if let Some((subscriber, count)) = block {
                used += *count as usize;
                let own = self.subscribers.get(subscriber);
                if !own.is_some_and(|one| one.blocks.contains(&(number as u32))) {
                    return Err("every block in use has a subscriber");
                }
            }
        }
        if self.per_address > 0 && used != self.lent {
            return Err("every lent port is counted in its block");
        }
        let held = self.held.iter().flatten().map(|bits| bits.len() as usize);
        if held.sum::<usize>() != self.lent {
            return Err("every lent port is held once");
        }
        let sets = self.free.iter().chain(&self.held).flatten();
        sets.chain(&self.free_blocks).try_for_each(Bits::check)
    }

    /// Ports that could be lent now, of one address and protocol; for tests.
    #[doc(hidden)]
    pub fn free(&self, address: IpAddr, protocol: Protocol) -> u32 {
        let spaces = self.number_of(address).and_then(|at| self.free.get(at));
        let bits = spaces
            .zip(self.space(protocol))
            .and_then(|(s, at)| s.get(at));
        bits.map_or(0, Bits::len)
    }
}
