//! Sets of rules as bits, by the nibbles of ports and protocol.
//!
//! Apart from the buckets because it knows nothing of where rules lie: bit i of a word is the i-th of whatever is counted.

use super::super::rule::{Flow, Rule};

pub(super) type Groups = [[u64; 16]; 10];

/// Whether a rule admits exactly the flows that have its nibbles: it asks for nothing else, and its port ranges are whole blocks.
pub(super) fn is_exact(rule: &Rule) -> bool {
    let whole = |(first, width): (u16, u16)| {
        let last = first.wrapping_add(width);
        // Nibbles below the one where the ends part must run from 0 to 15.
        let below = match (first ^ last).checked_ilog2() {
            None => 0,
            Some(bit) => (1u16 << (bit / 4 * 4)) - 1,
        };
        first & below == 0 && last & below == below
    };
    rule.asks_protocol_at_most() && whole(rule.source_ports()) && whole(rule.destination_ports())
}

/// The nibbles that a rule admits, a set for each group.
pub(super) fn nibbles(rule: &Rule) -> [u16; 10] {
    let mut sets = [u16::MAX; 10];
    let (ports, protocol) = sets.split_at_mut(8);
    let sides = [rule.destination_ports(), rule.source_ports()];
    for (side, (first, width)) in ports.chunks_mut(4).zip(sides) {
        let last = first.wrapping_add(width);
        let mut shift = 12;
        for set in side {
            let (from, to) = (first >> shift & 15, last >> shift & 15);
            *set = (u16::MAX >> (15 - to)) & (u16::MAX << from);
            if from != to {
                break;
            }
            shift -= 4;
        }
    }
    if let (Some(value), [high, low]) = (rule.protocol(), protocol) {
        *high = 1 << (value >> 4);
        *low = 1 << (value & 15);
    }
    sets
}

/// The nibbles of a flow.
pub(super) fn nibbles_of(flow: &Flow) -> [u8; 10] {
    let (d, s, p) = (flow.destination_port, flow.source_port, flow.protocol());
    let nibble = |port: u16, shift: u32| (port >> shift & 15) as u8;
    [
        nibble(d, 12),
        nibble(d, 8),
        nibble(d, 4),
        nibble(d, 0),
        nibble(s, 12),
        nibble(s, 8),
        nibble(s, 4),
        nibble(s, 0),
        p >> 4,
        p & 15,
    ]
}

pub(super) fn mark(groups: &mut Groups, nibbles: &[u16; 10], at: usize) {
    for (group, set) in groups.iter_mut().zip(nibbles) {
        for (value, word) in group.iter_mut().enumerate() {
            *word |= u64::from(set >> value & 1) << at;
        }
    }
}

pub(super) fn erase(groups: &mut Groups, at: usize) {
    for word in groups.iter_mut().flatten() {
        *word &= !(1 << at);
    }
}

/// Makes a chunk's bit in a summary what the chunk says.
pub(super) fn summarize(summary: &mut Groups, groups: &Groups, at: usize) {
    for (mine, theirs) in summary.iter_mut().flatten().zip(groups.iter().flatten()) {
        *mine = *mine & !(1 << at) | u64::from(*theirs != 0) << at;
    }
}

#[inline]
pub(super) fn intersect(groups: &Groups, nibbles: &[u8; 10]) -> u64 {
    groups
        .iter()
        .zip(nibbles)
        .fold(u64::MAX, |all, (group, &nibble)| {
            all & group[usize::from(nibble & 15)]
        })
}
