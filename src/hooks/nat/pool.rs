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

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use super::bits::{Bits, Parity};
use super::deterministic::Deterministic;
use super::dice::Dice;
use crate::key::{Cidr, Embedding, Endpoint, Family, Ports, Protocol};
use crate::time::{Duration, Instant};
use crate::trie::ReserveError;
use crate::verdict::Answer;

/// Who may send to an outside end (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// Anybody, while the mapping lives.
    #[default]
    EndpointIndependent,
    /// Those at an address that the subscriber has sent to.
    AddressDependent,
    /// Those at an address and port that the subscriber has sent to.
    AddressAndPortDependent,
}

/// How ports are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// Each by itself.
    #[default]
    Single,
    /// In blocks of `size` ports, of which a subscriber has at most `max` at once.
    Blocks {
        /// Ports in a block: 1 to 65,535.
        size: u16,
        /// Blocks of one subscriber.
        max: u8,
    },
    /// In blocks that follow from the subscriber's address (RFC 7422).
    Deterministic {
        /// Where subscribers' addresses are.
        inside: Cidr,
    },
}

/// What the owner of a pool decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The outside addresses, of one family: those of another than the first are left out.
    pub addresses: Vec<IpAddr>,
    /// The ports that are lent, of each address; also the ICMP identifiers.
    pub ports: Ports,
    /// The protocols that ports are lent for. ICMPv6 is ICMP here. 8 KiB each for each address.
    pub protocols: Vec<Protocol>,
    /// Ports that are never lent, since this machine uses them itself.
    pub reserved: Vec<(IpAddr, Ports)>,
    /// Where subscribers are: what they send to outside ends of the pool is turned back, with an outside source.
    pub inside: Vec<Cidr>,
    /// For subscribers of IPv6 and outside addresses of IPv4: the prefix that IPv4's hosts have inside (NAT64, RFC 6146). Such a
    /// pool serves the rules that say `nat64`, and no others.
    pub prefix64: Option<Embedding>,
    /// Who may send to an outside end.
    pub filtering: Filtering,
    /// How ports are handed out.
    pub allocation: Allocation,
    /// Ports of one subscriber at once, of all protocols together.
    pub quota: Option<u32>,
    /// Ports that one subscriber may open within a second.
    pub rate: Option<u32>,
    /// How long a freed port or block rests before another subscriber gets it.
    pub quarantine: Duration,
    /// Ports or blocks that may rest at once; of more the oldest is woken early.
    pub quarantine_max: usize,
    /// Whether the inside port is kept where it is free.
    pub keep_port: bool,
    /// Whether an even port stays even and an odd one odd, where one is free.
    pub keep_parity: bool,
    /// What a subscriber is told whose first packet got no port, for whatever reason; `None`: nothing. RFC 6888 (requirement 11) and
    /// RFC 6146 (section 3.5.1.1) ask for "host unreachable", which ends no attempt to connect; RFC 5508 (requirement 8) asks for
    /// [`Answer::AdminProhibited`], after which hosts may give up.
    pub answer: Option<Answer>,
}

impl PoolConfig {
    /// Ports 1024 to 65535 of these addresses for TCP, UDP and ICMP, anybody may answer, ports kept where free, parity kept, none
    /// at rest, and "host unreachable" for who gets none.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            ports: Ports {
                first: 1024,
                last: 65_535,
            },
            protocols: Vec::from([Protocol::TCP, Protocol::UDP, Protocol::ICMP]),
            reserved: Vec::new(),
            inside: Vec::new(),
            prefix64: None,
            filtering: Filtering::EndpointIndependent,
            allocation: Allocation::Single,
            quota: None,
            rate: None,
            quarantine: Duration::ZERO,
            quarantine_max: 65_536,
            keep_port: true,
            keep_parity: true,
            answer: Some(Answer::HostUnreachable),
        }
    }
}

/// Why no port was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PoolError {
    /// The subscriber's address, or the blocks that he may have, have no free port.
    Exhausted,
    /// The subscriber has as many as he may have.
    Quota,
    /// The subscriber opens ports faster than he may.
    Rate,
    /// The pool has no ports for the protocol.
    Protocol,
    /// The subscriber's address has no block.
    Outsider,
}

impl PoolError {
    const COUNT: usize = 5;
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "no port is free",
            Self::Quota => "the subscriber has as many ports as he may have",
            Self::Rate => "the subscriber opens ports too fast",
            Self::Protocol => "the pool has no ports for the protocol",
            Self::Outsider => "the subscriber's address is none of the pool's",
        })
    }
}

impl core::error::Error for PoolError {}

/// Subscribers without ports whose rate is remembered; of more the oldest is forgotten early.
const IDLE_MAX: usize = 65_536;

/// Free ports in turn that may be of no use.
const USELESS_MAX: u32 = 16;

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

/// What rests until it may be lent again.
#[derive(Clone, Copy, Debug)]
enum Resting {
    Port {
        address: usize,
        space: usize,
        port: u16,
    },
    Block(u32),
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

    /// A port from the blocks that the subscriber has.
    fn in_blocks(
        &mut self,
        subscriber: IpAddr,
        space: usize,
        wanted: u16,
        is_of_use: &dyn Fn(Endpoint) -> bool,
    ) -> Option<Lent> {
        let own = self.subscribers.get(&subscriber)?;
        let address = own.address;
        let blocks = own.blocks.clone();
        for block in blocks {
            let ports = self.ports_of_block(block);
            if let Some(port) = self.find(address, space, ports, wanted, is_of_use) {
                self.hold(address, space, port);
                let outside = Endpoint::new(*self.config.addresses.get(address)?, port);
                return Some(Lent {
                    outside,
                    block: None,
                });
            }
        }
        None
    }

    /// Gives a subscriber one more block of his address.
    fn take_block(
        &mut self,
        subscriber: IpAddr,
        space: usize,
        max: u8,
        is_of_use: &dyn Fn(Endpoint) -> bool,
    ) -> Result<(usize, Ports, Option<u32>), PoolError> {
        let held = self.subscribers.get(&subscriber);
        if held.is_some_and(|one| one.blocks.len() >= usize::from(max)) {
            return Err(PoolError::Quota);
        }
        let address = self.paired(subscriber);
        let number = self.free_block(address, space, is_of_use);
        let number = number.ok_or(PoolError::Exhausted)?;
        if let Some(bits) = self.free_blocks.get_mut(address) {
            bits.take(number);
        }
        let block = address as u32 * self.per_address + u32::from(number);
        if let Some(place) = self.blocks.get_mut(block as usize) {
            *place = Some((subscriber, 0));
        }
        let one = self.subscribers.entry(subscriber).or_default();
        one.address = address;
        one.blocks.push(block);
        Ok((address, self.ports_of_block(block), Some(block)))
    }

    /// A drawn block of an address that nobody has, with a port that is free and of use: others may be reserved whole.
    fn free_block(
        &mut self,
        address: usize,
        space: usize,
        is_of_use: &dyn Fn(Endpoint) -> bool,
    ) -> Option<u16> {
        let per_address = self.per_address.max(1);
        let last = (per_address - 1) as u16;
        let mut start = (self.dice.draw() as u32 % per_address) as u16;
        let all = Ports { first: 0, last };
        for _ in 0..self.free_blocks.get(address)?.len() {
            let blocks = self.free_blocks.get(address)?;
            let number = blocks.find(all, start, Parity::Any, &mut self.looked)?;
            let ports = self.ports_of_block(address as u32 * per_address + u32::from(number));
            let any = self.find_from(address, space, ports, ports.first, Parity::Any, is_of_use);
            if any.is_some() {
                return Some(number);
            }
            start = if number == last { 0 } else { number + 1 };
        }
        None
    }

    /// Marks a port as lent.
    fn hold(&mut self, address: usize, space: usize, port: u16) {
        if let Some(bits) = self.free.get_mut(address).and_then(|s| s.get_mut(space)) {
            bits.take(port);
        }
        if let Some(bits) = self.held.get_mut(address).and_then(|s| s.get_mut(space)) {
            bits.give(port);
        }
        let block = self.block_at(address, port);
        if let Some(Some(Some((_, used)))) = block.map(|b| self.blocks.get_mut(b as usize)) {
            *used += 1;
        }
    }

    fn return_block(&mut self, block: u32, now: Instant) {
        let Some(Some((subscriber, _))) = self.blocks.get(block as usize).copied() else {
            return;
        };
        if let Some(place) = self.blocks.get_mut(block as usize) {
            *place = None;
        }
        if let Some(one) = self.subscribers.get_mut(&subscriber) {
            one.blocks.retain(|other| *other != block);
        }
        self.forget(subscriber);
        self.rest(Resting::Block(block), now);
    }

    /// A free port of one address among `ports`: the wanted one, or a drawn one.
    fn find(
        &mut self,
        address: usize,
        space: usize,
        ports: Ports,
        wanted: u16,
        is_of_use: &dyn Fn(Endpoint) -> bool,
    ) -> Option<u16> {
        if self.config.keep_port && ports.contains(wanted) {
            let own = *self.config.addresses.get(address)?;
            let bits = self.free.get(address)?.get(space)?;
            if bits.is_free(wanted) && is_of_use(Endpoint::new(own, wanted)) {
                return Some(wanted);
            }
        }
        let size = u32::from(ports.last) - u32::from(ports.first) + 1;
        let start = ports.first + (self.dice.draw() as u32 % size) as u16;
        if self.config.keep_parity {
            let same = Parity::of(wanted);
            let port = self.find_from(address, space, ports, start, same, is_of_use);
            if port.is_some() {
                return port;
            }
        }
        self.find_from(address, space, ports, start, Parity::Any, is_of_use)
    }

    /// The first free port of use at or behind `start`, going round. Gives up after [`USELESS_MAX`] that are of no use.
    fn find_from(
        &mut self,
        address: usize,
        space: usize,
        ports: Ports,
        mut start: u16,
        parity: Parity,
        is_of_use: &dyn Fn(Endpoint) -> bool,
    ) -> Option<u16> {
        let own = *self.config.addresses.get(address)?;
        let bits = self.free.get(address)?.get(space)?;
        for _ in 0..USELESS_MAX {
            let port = bits.find(ports, start, parity, &mut self.looked)?;
            if is_of_use(Endpoint::new(own, port)) {
                return Some(port);
            }
            start = if port >= ports.last {
                ports.first
            } else {
                port + 1
            };
        }
        None
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

    /// Forgets a subscriber who has nothing; where there is a rate, only when the second of his last opening is over, or too
    /// many others wait for that.
    fn forget(&mut self, subscriber: IpAddr) {
        let Some(one) = self.subscribers.get(&subscriber) else {
            return;
        };
        if !one.is_idle() {
            return;
        }
        if self.config.rate.is_none() || one.opened == 0 {
            self.subscribers.remove(&subscriber);
            return;
        }
        self.idle.push_back((one.second, subscriber));
        if self.idle.len() > IDLE_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((second, who)) = self.idle.pop_front() {
            let over = |one: &Subscriber| one.is_idle() && one.second == second;
            if self.subscribers.get(&who).is_some_and(over) {
                self.subscribers.remove(&who);
            }
        }
    }

    /// Lets a port or block rest.
    fn rest(&mut self, one: Resting, now: Instant) {
        if self.config.quarantine.is_zero() || self.config.quarantine_max == 0 {
            self.free_again(one);
            return;
        }
        if self.resting.len() >= self.config.quarantine_max {
            if let Some((_, oldest)) = self.resting.pop_front() {
                self.free_again(oldest);
                self.woken_early += 1;
            }
        }
        self.resting.push_back((now + self.config.quarantine, one));
    }

    /// Frees what has rested long enough. Cost: O(1) for each, once.
    fn wake(&mut self, now: Instant) {
        let second = now.nanos() / 1_000_000_000;
        while self.idle.front().is_some_and(|(last, _)| *last < second) {
            self.forget_oldest();
        }
        while let Some((until, one)) = self.resting.front().copied() {
            if until > now {
                return;
            }
            self.resting.pop_front();
            self.free_again(one);
        }
    }

    fn free_again(&mut self, one: Resting) {
        match one {
            Resting::Port {
                address,
                space,
                port,
            } => {
                if let Some(bits) = self.free.get_mut(address).and_then(|s| s.get_mut(space)) {
                    bits.give(port);
                }
            }
            Resting::Block(block) => {
                let per = self.per_address.max(1);
                if let Some(bits) = self.free_blocks.get_mut((block / per) as usize) {
                    bits.give((block % per) as u16);
                }
            }
        }
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

    fn ports_of_block(&self, block: u32) -> Ports {
        let size = match self.config.allocation {
            Allocation::Blocks { size, .. } => u32::from(size.max(1)),
            _ => 1,
        };
        let first = u32::from(self.config.ports.first) + block % self.per_address.max(1) * size;
        Ports {
            first: first as u16,
            last: (first + size - 1) as u16,
        }
    }

    fn block_at(&self, address: usize, port: u16) -> Option<u32> {
        let Allocation::Blocks { size, .. } = self.config.allocation else {
            return None;
        };
        let distance = u32::from(port.checked_sub(self.config.ports.first)?);
        let number = distance / u32::from(size.max(1));
        (number < self.per_address).then(|| address as u32 * self.per_address + number)
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
