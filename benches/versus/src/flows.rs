//! Flows and the order in which their packets come: made from a seed, so that every run sees the same.

use std::net::{Ipv4Addr, Ipv6Addr};

use gufc::key::{Address, Protocol, SevenTuple};

/// SplitMix64.
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (u128::from(self.next()) * bound as u128 >> 64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// An address family's made-up hosts: clients in one site's networks, servers all over the world.
pub trait Hosts: Address {
    const NAME: &'static str;
    fn client(n: u64) -> Self;
    fn server(n: u64) -> Self;
}

impl Hosts for Ipv4Addr {
    const NAME: &'static str = "v4";
    fn client(n: u64) -> Self {
        Self::from_bits(10 << 24 | (n % 50_000) as u32)
    }
    fn server(n: u64) -> Self {
        Self::from_bits(Draw(n % 20_000).next() as u32)
    }
}

impl Hosts for Ipv6Addr {
    const NAME: &'static str = "v6";
    fn client(n: u64) -> Self {
        Self::from_bits(0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(n % 50_000))
    }
    fn server(n: u64) -> Self {
        Self::from_bits(0x2a00 << 112 | u128::from(Draw(n % 20_000).next()))
    }
}

/// `count` different flows: a client with a high port to a server's port 443 or 53.
pub fn flows<A: Hosts>(count: usize, seed: u64) -> Vec<SevenTuple<A>> {
    let mut draw = Draw(seed);
    let mut seen = std::collections::HashSet::with_capacity(count);
    let mut flows = Vec::with_capacity(count);
    while flows.len() < count {
        let x = draw.next();
        let (protocol, port) = if x % 8 == 0 {
            (Protocol::UDP, 53)
        } else {
            (Protocol::TCP, 443)
        };
        let flow = SevenTuple::new(
            A::client(draw.next()),
            A::server(draw.next()),
            protocol,
            1024 + (draw.next() % 64_512) as u16,
            port,
        );
        if seen.insert(flow) {
            flows.push(flow);
        }
    }
    flows
}

/// `length` indexes below `count`, each as likely.
pub fn uniform(count: usize, length: usize) -> Vec<usize> {
    let mut draw = Draw(11);
    (0..length).map(|_| draw.below(count)).collect()
}

/// `length` indexes below `count`; the k-th most frequent comes with a frequency proportional to 1/k.
pub fn zipf(count: usize, length: usize) -> Vec<usize> {
    let mut sums = Vec::with_capacity(count);
    let mut sum = 0.0;
    for k in 1..=count {
        sum += 1.0 / k as f64;
        sums.push(sum);
    }
    let mut draw = Draw(13);
    (0..length)
        .map(|_| {
            let x = draw.unit() * sum;
            sums.partition_point(|&s| s < x).min(count - 1)
        })
        .collect()
}
