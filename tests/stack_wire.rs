//! The wire of a smoltcp stack in a test: packets that wait for it, and packets that it has sent; and the network between two of
//! them, which loses, repeats and reorders.

use std::collections::{BTreeMap, VecDeque};

use gufc::testing::prng::SplitMix64;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// What a stack has received and not read, and has sent.
pub(crate) struct Wire {
    /// Not yet read.
    pub(crate) incoming: VecDeque<Vec<u8>>,
    /// Sent.
    pub(crate) outgoing: Vec<Vec<u8>>,
    /// The longest packet.
    pub(crate) mtu: usize,
}

impl Wire {
    pub(crate) fn new(mtu: usize) -> Self {
        Self {
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            mtu,
        }
    }
}

pub(crate) struct Received(Vec<u8>);

pub(crate) struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Received(packet), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// A network that loses some packets, delivers some twice, and each of them after a while of its own.
pub(crate) struct Network<T> {
    /// Of a hundred packets, so many.
    loss: u64,
    repeat: u64,
    /// The longest delay, in milliseconds.
    spread: u64,
    /// By the time of their arrival.
    under_way: BTreeMap<(u64, u64), T>,
    number: u64,
}

impl<T: Clone> Network<T> {
    /// One that does each of the three less than so much.
    pub(crate) fn new(chance: &mut SplitMix64, [loss, repeat, spread]: [u64; 3]) -> Self {
        Self {
            loss: chance.below(loss),
            repeat: chance.below(repeat),
            spread: chance.below(spread) + 1,
            under_way: BTreeMap::new(),
            number: 0,
        }
    }

    pub(crate) fn send(&mut self, chance: &mut SplitMix64, now: u64, packet: &T) {
        let copies = match chance.below(100) {
            n if n < self.loss => 0,
            n if n < self.loss + self.repeat => 2,
            _ => 1,
        };
        for _ in 0..copies {
            self.number += 1;
            let when = now + chance.below(self.spread);
            self.under_way.insert((when, self.number), packet.clone());
        }
    }

    /// What has arrived by now, one after the other.
    pub(crate) fn receive(&mut self, now: u64) -> Option<T> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
    /// When the next packet arrives; `None` where none is under way.
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        self.under_way.keys().next().map(|(when, _)| *when)
    }
}
