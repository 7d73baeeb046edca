//! Many flows that nobody sent: how evenly a hash spreads clients of one site over queues.

use std::net::Ipv4Addr;

use gufc::key::{FlowKey, Protocol, SevenTuple};
use gufc::nic::{Indirection, Rss};

/// How many of `flows` fall to each queue. Clients of a /16, servers anywhere, high ports to port 443: few bits of the tuple vary
/// much, as in the field.
pub(crate) fn spread(rss: &Rss, queues: u16, flows: u32) -> Vec<u64> {
    let table = Indirection::equal(7, queues);
    let mut counts = vec![0; usize::from(queues)];
    let mut state = 0x2006_u64;
    let mut draw = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    for _ in 0..flows {
        let (a, b) = (draw(), draw());
        let client = Ipv4Addr::from_bits(0x0a14_0000 | (a & 0xffff) as u32);
        let server = Ipv4Addr::from_bits(b as u32);
        let port = 0x8000 | (a >> 16) as u16;
        let flow = SevenTuple::new(client, server, Protocol::TCP, port, 443);
        let queue = table.queue(rss.hash(&flow.fields()));
        if let Some(count) = counts.get_mut(queue.index()) {
            *count += 1;
        }
    }
    counts
}
