//! The wire of a smoltcp stack in a test: packets that wait for it, and packets that it has sent.

use std::collections::VecDeque;

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
