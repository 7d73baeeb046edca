//! Ports that follow from an address: deterministic translation (RFC 7422), which needs no log.
//!
//! Apart because it is arithmetic, with an inverse.
//!
//! ```text
//!  I subscribers, O outside addresses:  R = I / O, rounded up to a power of two;  P = ports / R
//!  subscriber i:  outside address i / R,  ports  first + P * (i mod R)  and the P - 1 behind
//! ```
//!
//! Who knows the scheme can tell a subscriber from a port, and guess his ports: that is what it is for, and its weakness.

use core::net::IpAddr;

use crate::key::{Cidr, Ports};

/// The scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deterministic {
    inside: Cidr,
    addresses: usize,
    ports: Ports,
    /// Subscribers that share an address: a power of two.
    ratio: u64,
    /// Ports of each.
    each: u32,
}

impl Deterministic {
    /// The scheme of the subscribers in `inside` behind so many `addresses`, with `ports` of each. `None` where a subscriber
    /// would get no port, or there are more than 2^32 subscribers.
    ///
    /// ```
    /// use gufc::hooks::nat::Deterministic;
    /// use gufc::key::Ports;
    ///
    /// // 128 subscribers behind 2 addresses: 64 share one, with 1,008 ports each.
    /// let scheme = Deterministic::new("100.64.0.0/25".parse()?, 2, Ports { first: 1024, last: 65_535 });
    /// let scheme = scheme.ok_or("ports")?;
    /// assert_eq!(scheme.block_of("100.64.0.63".parse()?), Some((0, Ports { first: 64_528, last: 65_535 })));
    /// assert_eq!(scheme.block_of("100.64.0.64".parse()?), Some((1, Ports { first: 1024, last: 2031 })));
    /// assert_eq!(scheme.subscriber_of(1, 2031), "100.64.0.64".parse().ok());
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn new(inside: Cidr, addresses: usize, ports: Ports) -> Option<Self> {
        let host_bits = inside.family().bits().checked_sub(inside.len())?;
        if host_bits > 32 || addresses == 0 {
            return None;
        }
        let subscribers = 1u64 << host_bits;
        let ratio = subscribers.div_ceil(addresses as u64).next_power_of_two();
        let width = u32::from(ports.last) - u32::from(ports.first) + 1;
        let each = (u64::from(width) / ratio) as u32;
        (each > 0).then_some(Self {
            inside,
            addresses,
            ports,
            ratio,
            each,
        })
    }

    /// The number of a subscriber's outside address, and his ports. `None` for an address outside of the prefix.
    pub fn block_of(&self, subscriber: IpAddr) -> Option<(usize, Ports)> {
        use crate::key::Family;
        if !self.inside.contains(subscriber) {
            return None;
        }
        let (family, bits) = Family::align(subscriber);
        let index = ((bits & !self.inside.mask()) >> (128 - u32::from(family.bits()))) as u64;
        let address = (index / self.ratio) as usize;
        let first = u32::from(self.ports.first) + self.each * (index % self.ratio) as u32;
        let ports = Ports {
            first: first as u16,
            last: (first + self.each - 1) as u16,
        };
        (address < self.addresses).then_some((address, ports))
    }

    /// Who has a port of an outside address, by its number. `None` for a port that nobody has.
    pub fn subscriber_of(&self, address: usize, port: u16) -> Option<IpAddr> {
        let distance = u32::from(port.checked_sub(self.ports.first)?);
        let place = u64::from(distance / self.each);
        if place >= self.ratio || address >= self.addresses {
            return None;
        }
        let index = (address as u64).checked_mul(self.ratio)? + place;
        let family = self.inside.family();
        let host = u128::from(index) << (128 - u32::from(family.bits()));
        let found = family.address(self.inside.bits() | host);
        let inside = host & self.inside.mask() == 0;
        inside.then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports of each for a ratio, as RFC 7422's sharing ratios give them.
    #[test]
    fn ratios() {
        let ports = Ports {
            first: 1024,
            last: 65_535,
        };
        for (len, each) in [
            (28, 4032),
            (27, 2016),
            (26, 1008),
            (25, 504),
            (24, 252),
            (23, 126),
            (22, 63),
        ] {
            let inside = Cidr::new("10.0.0.0".parse().expect("an address"), len).expect("a prefix");
            let scheme = Deterministic::new(inside, 1, ports).expect("ports");
            assert_eq!(scheme.each, each);
        }
        let inside = "10.0.0.0/22".parse().expect("a prefix");
        let scheme = Deterministic::new(inside, 1, ports).expect("ports");
        let block = scheme.block_of("10.0.0.100".parse().expect("an address"));
        assert_eq!(
            block,
            Some((
                0,
                Ports {
                    first: 7324,
                    last: 7386
                }
            ))
        );
    }

    /// Every subscriber gets what nobody else has, and is found by each of his ports.
    #[test]
    fn blocks_are_disjoint_and_name_their_subscriber() {
        let ports = Ports {
            first: 1000,
            last: 1050,
        };
        for addresses in 1..5 {
            for len in 27..=32 {
                let inside = Cidr::new("10.0.0.0".parse().expect("an address"), len);
                let inside = inside.expect("a prefix");
                let Some(scheme) = Deterministic::new(inside, addresses, ports) else {
                    continue;
                };
                let mut seen = alloc::collections::BTreeSet::new();
                for host in 0..1u32 << (32 - len) {
                    let subscriber = IpAddr::from((0x0a00_0000 + host).to_be_bytes());
                    let (address, block) = scheme.block_of(subscriber).expect("a block");
                    for port in block.first..=block.last {
                        assert!(ports.contains(port) && seen.insert((address, port)));
                        assert_eq!(scheme.subscriber_of(address, port), Some(subscriber));
                    }
                }
            }
        }
    }
}
