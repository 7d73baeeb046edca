//! Which port a subscriber gets: from his blocks, from a new one, or from all of his address.
//!
//! Apart from the account of who has what, because a choice only looks for what is free.

use core::net::IpAddr;

use super::super::bits::Parity;
use super::{Allocation, Lent, Pool, PoolError, Resting};
use crate::key::{Endpoint, Ports};
use crate::time::Instant;

/// Free ports in turn that may be of no use.
const USELESS_MAX: u32 = 16;

impl Pool {
    /// A port from the blocks that the subscriber has.
    pub(super) fn in_blocks(
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
    pub(super) fn take_block(
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
    pub(super) fn hold(&mut self, address: usize, space: usize, port: u16) {
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

    pub(super) fn return_block(&mut self, block: u32, now: Instant) {
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
    pub(super) fn find(
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

    pub(super) fn ports_of_block(&self, block: u32) -> Ports {
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

    pub(super) fn block_at(&self, address: usize, port: u16) -> Option<u32> {
        let Allocation::Blocks { size, .. } = self.config.allocation else {
            return None;
        };
        let distance = u32::from(port.checked_sub(self.config.ports.first)?);
        let number = distance / u32::from(size.max(1));
        (number < self.per_address).then(|| address as u32 * self.per_address + number)
    }
}
