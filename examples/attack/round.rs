//! One round of an attack, timed.

use std::time::Instant as Clock;

use crate::attacks::Packets;
use crate::world::World;

/// Nanoseconds a packet of the connections, of newcomers, of the attacker.
pub(crate) fn play_round(world: &mut World, packets: &mut Packets, round: u32) -> [f64; 3] {
    let established = world.established(round);
    let newcomers = world.newcomers(round);
    let hostile = (0..512).map(|_| packets.next(world)).collect();
    // The attacker's come first: what they push out of the machine's caches is part of the cost.
    let [attack, hit, new] = [hostile, established, newcomers].map(|burst| {
        let count = burst.len() as f64;
        let began = Clock::now();
        for packet in burst {
            world.process(packet);
        }
        began.elapsed().as_nanos() as f64 / count
    });
    world.tick();
    [hit, new, attack]
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
