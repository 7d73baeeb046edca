//! The slow pool: a map of lent ports and lists of blocks and of what rests, searched from end to end.
//!
//! It draws nothing: the port or block that the real pool chose is looked at, and remembered where it was legal.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::hooks::nat::{Allocation, Block, Deterministic, PoolConfig, PoolError};
use crate::key::{Endpoint, Family, Ports, Protocol};
use crate::time::Instant;

/// A lent port: protocol, address, port.
type Outside = (u8, IpAddr, u16);

/// The pool's twin.
#[derive(Clone, Debug)]
pub struct LinearPool {
    pub(super) config: PoolConfig,
    /// Who has what.
    lent: BTreeMap<Outside, IpAddr>,
    /// Taken out by the owner.
    reserved: Vec<Outside>,
    /// Ports at rest.
    ports: VecDeque<(Instant, Outside)>,
    /// Blocks: who has them, in the order in which he got them.
    pub(super) blocks: Vec<(IpAddr, Block)>,
    /// Blocks at rest; both lists end early as one.
    resting: VecDeque<(Instant, Block)>,
    /// Openings of a subscriber in this second.
    opened: BTreeMap<IpAddr, (u64, u32)>,
    /// Address of a subscriber: once chosen, always that.
    paired: BTreeMap<IpAddr, IpAddr>,
}

impl LinearPool {
    /// All free.
    pub fn new(config: PoolConfig) -> Self {
        Self {
            config,
            lent: BTreeMap::new(),
            reserved: Vec::new(),
            ports: VecDeque::new(),
            blocks: Vec::new(),
            resting: VecDeque::new(),
            opened: BTreeMap::new(),
            paired: BTreeMap::new(),
        }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Option<Family> {
        self.config
            .addresses
            .first()
            .map(|one| Family::align(*one).0)
    }

    /// Ports lent.
    pub fn lent(&self) -> usize {
        self.lent.len()
    }

    /// Ports of a subscriber.
    pub fn ports_of(&self, subscriber: IpAddr) -> usize {
        self.lent.values().filter(|who| **who == subscriber).count()
    }

    fn wake(&mut self, now: Instant) {
        self.ports.retain(|(until, _)| *until > now);
        self.resting.retain(|(until, _)| *until > now);
    }

    fn protocol(protocol: Protocol) -> u8 {
        match protocol {
            Protocol::ICMPV6 => Protocol::ICMP.0,
            other => other.0,
        }
    }

    fn is_free(&self, (protocol, address, port): Outside) -> bool {
        let outside = (protocol, address, port);
        self.config.ports.contains(port)
            && !self.lent.contains_key(&outside)
            && !self.reserved.contains(&outside)
            && !self.ports.iter().any(|(_, resting)| *resting == outside)
            && !self
                .config
                .reserved
                .iter()
                .any(|(own, ports)| *own == address && ports.contains(port))
    }

    fn free(&self, protocol: u8, address: IpAddr, ports: Ports) -> Vec<u16> {
        (ports.first..=ports.last)
            .filter(|port| self.is_free((protocol, address, *port)))
            .collect()
    }

    /// Every block of an address.
    pub(super) fn all_blocks(&self, address: IpAddr) -> Vec<Block> {
        let Allocation::Blocks { size, .. } = self.config.allocation else {
            return Vec::new();
        };
        let all: Vec<u16> = (self.config.ports.first..=self.config.ports.last).collect();
        all.chunks_exact(usize::from(size.max(1)))
            .map(|chunk| Block {
                address,
                ports: Ports {
                    first: chunk[0],
                    last: chunk[chunk.len() - 1],
                },
            })
            .collect()
    }

    /// Looks at what a call of `open` gave; `address` is whom the pool says that the subscriber is paired with, `is_of_use` what
    /// the caller said of ports.
    ///
    /// # Errors
    ///
    /// What it should have given.
    #[expect(clippy::too_many_arguments, reason = "what the caller knows, once")]
    pub fn opened(
        &mut self,
        subscriber: IpAddr,
        protocol: Protocol,
        wanted: u16,
        now: Instant,
        address: Option<IpAddr>,
        got: Result<(Endpoint, Option<Block>), PoolError>,
        is_of_use: impl Fn(Endpoint) -> bool,
    ) -> Result<(), String> {
        self.wake(now);
        let free = |twin: &Self, space, address, ports| {
            let mut free = twin.free(space, address, ports);
            free.retain(|port| is_of_use(Endpoint::new(address, *port)));
            free
        };
        let expected = |what: &str| {
            Err(format!(
                "{subscriber} {wanted}: expected {what}, got {got:?}"
            ))
        };
        let refused = |why: PoolError| match got {
            Err(got) if got == why => Ok(()),
            _ => expected(&format!("{why:?}")),
        };
        if !self
            .config
            .protocols
            .iter()
            .any(|own| own.0 == Self::protocol(protocol))
        {
            return refused(PoolError::Protocol);
        }
        let space = Self::protocol(protocol);
        let second = now.nanos() / 1_000_000_000;
        let opened = self.opened.get(&subscriber).filter(|(at, _)| *at == second);
        let opened = opened.map_or(0, |(_, count)| *count);
        if self
            .config
            .quota
            .is_some_and(|max| self.ports_of(subscriber) >= max as usize)
        {
            return refused(PoolError::Quota);
        }
        if self.config.rate.is_some_and(|max| opened >= max) {
            return refused(PoolError::Rate);
        }
        let Some(address) = address else {
            return refused(PoolError::Exhausted);
        };
        if *self.paired.entry(subscriber).or_insert(address) != address {
            return expected("the address that he had");
        }
        let mut fresh = false;
        let candidates = match self.config.allocation {
            Allocation::Single => free(self, space, address, self.config.ports),
            Allocation::Deterministic { inside } => {
                let addresses = self.config.addresses.len();
                let scheme = Deterministic::new(inside, addresses, self.config.ports);
                let Some((number, ports)) = scheme.and_then(|own| own.block_of(subscriber)) else {
                    return refused(PoolError::Outsider);
                };
                if self.config.addresses.get(number) != Some(&address) {
                    return expected("the address that follows from his own");
                }
                free(self, space, address, ports)
            }
            Allocation::Blocks { max, .. } => {
                let own = self.blocks.iter().filter(|(who, _)| *who == subscriber);
                let own: Vec<Block> = own.map(|(_, block)| *block).collect();
                let mut of_own = own
                    .iter()
                    .map(|block| free(self, space, address, block.ports));
                match of_own.find(|free| !free.is_empty()) {
                    Some(free) => free,
                    None if own.len() >= usize::from(max) => return refused(PoolError::Quota),
                    None => {
                        fresh = true;
                        let taken = |block: &Block| {
                            self.blocks.iter().any(|(_, other)| other == block)
                                || self.resting.iter().any(|(_, other)| other == block)
                        };
                        let all = self.all_blocks(address).into_iter();
                        let blocks: Vec<Block> = all
                            .filter(|block| !taken(block))
                            .filter(|block| !free(self, space, address, block.ports).is_empty())
                            .collect();
                        match got {
                            // Which one was chosen.
                            Ok((_, Some(block))) if blocks.contains(&block) => {
                                free(self, space, address, block.ports)
                            }
                            Ok(_) if blocks.is_empty() => return expected("no block"),
                            Ok(_) => return expected("a block that nobody has"),
                            Err(_) if blocks.is_empty() => Vec::new(),
                            Err(_) => return expected("a block"),
                        }
                    }
                }
            }
        };
        if candidates.is_empty() {
            return refused(PoolError::Exhausted);
        }
        let Ok((outside, block)) = got else {
            return expected("a port");
        };
        let port = outside.port;
        let same_parity = |port: &u16| port % 2 == wanted % 2;
        if outside.address != address || !candidates.contains(&port) {
            return expected("a free port of his");
        }
        if self.config.keep_port && candidates.contains(&wanted) {
            if port != wanted {
                return expected("the same port");
            }
        } else if self.config.keep_parity
            && candidates.iter().any(same_parity)
            && !same_parity(&port)
        {
            return expected("the same parity");
        }
        if fresh != block.is_some() {
            return expected("a block exactly when he got one");
        }
        if let Some(block) = block {
            self.blocks.push((subscriber, block));
        }
        self.lent.insert((space, address, port), subscriber);
        self.opened.insert(subscriber, (second, opened + 1));
        Ok(())
    }

    /// What closing must give.
    pub fn close(
        &mut self,
        subscriber: IpAddr,
        protocol: Protocol,
        outside: Endpoint,
        now: Instant,
    ) -> Option<Option<Block>> {
        let space = Self::protocol(protocol);
        let key = (space, outside.address, outside.port);
        if self.lent.get(&key) != Some(&subscriber) {
            return None;
        }
        self.lent.remove(&key);
        match self.config.allocation {
            Allocation::Single => {
                self.rest(now, |twin, until| twin.ports.push_back((until, key)));
                Some(None)
            }
            Allocation::Deterministic { .. } => Some(None),
            Allocation::Blocks { .. } => {
                let block = self.blocks.iter().position(|(_, block)| {
                    block.address == outside.address && block.ports.contains(outside.port)
                });
                let block = block?;
                let ports = self.blocks[block].1.ports;
                let used = |(_, address, port): &Outside| {
                    *address == outside.address && ports.contains(*port)
                };
                if self.lent.keys().any(used) {
                    return Some(None);
                }
                let (_, block) = self.blocks.remove(block);
                self.rest(now, |twin, until| twin.resting.push_back((until, block)));
                Some(Some(block))
            }
        }
    }

    fn rest(&mut self, now: Instant, push: impl FnOnce(&mut Self, Instant)) {
        if self.config.quarantine.is_zero() || self.config.quarantine_max == 0 {
            return;
        }
        if self.ports.len() + self.resting.len() >= self.config.quarantine_max {
            self.ports.pop_front();
            self.resting.pop_front();
        }
        push(self, now + self.config.quarantine);
    }

    /// What reserving must give.
    pub fn reserve(&mut self, protocol: Protocol, outside: Endpoint) -> bool {
        let key = (Self::protocol(protocol), outside.address, outside.port);
        let own = self.config.addresses.contains(&outside.address)
            && self.config.ports.contains(outside.port)
            && self.config.protocols.iter().any(|own| own.0 == key.0);
        let free = !own || self.is_free(key);
        if own && free {
            self.reserved.push(key);
        }
        free
    }

    /// Undoes a successful [`reserve`](Self::reserve).
    pub fn restore(&mut self, protocol: Protocol, outside: Endpoint) {
        let key = (Self::protocol(protocol), outside.address, outside.port);
        self.reserved.retain(|other| *other != key);
    }
}
