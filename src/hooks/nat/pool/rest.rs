//! What lies between lent and free: ports and blocks at rest, and subscribers who have nothing and are remembered for their rate.
//!
//! Apart because both are queues by time, which a choice wakes first.

use core::net::IpAddr;

use super::{Pool, Subscriber};
use crate::time::Instant;

/// Subscribers without ports whose rate is remembered; of more the oldest is forgotten early.
const IDLE_MAX: usize = 65_536;

/// What rests until it may be lent again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resting {
    Port {
        address: usize,
        space: usize,
        port: u16,
    },
    Block(u32),
}

impl Pool {
    /// Forgets a subscriber who has nothing; where there is a rate, only when the second of his last opening is over, or too
    /// many others wait for that.
    pub(super) fn forget(&mut self, subscriber: IpAddr) {
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
    pub(super) fn rest(&mut self, one: Resting, now: Instant) {
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
    pub(super) fn wake(&mut self, now: Instant) {
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

    pub(super) fn free_again(&mut self, one: Resting) {
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
}
