//! Groups of next hops: which one a flow takes, and that an edit moves as few flows as it can.
//!
//! A group is a ring of buckets, each of which names a member. A flow's hash names its bucket once and for all; which member
//! stands there is read with each packet, so editing a group touches no flow's entry. A member that goes gives its buckets to
//! the others, one that comes takes its share from them, and all other flows stay where they are (resilient next-hop groups).

use alloc::vec::Vec;

use super::NextHopId;
use crate::key::Fields;

/// Buckets in a group. Members beyond as many get none.
pub const BUCKETS: usize = 128;

/// Next hops that flows are spread over by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    members: Vec<(NextHopId, u16)>,
    buckets: [NextHopId; BUCKETS],
}

impl Group {
    /// A group of one member.
    pub(super) fn new(first: NextHopId, weight: u16) -> Self {
        Self {
            members: [(first, weight)].to_vec(),
            buckets: [first; BUCKETS],
        }
    }

    pub(super) fn members(&self) -> &[(NextHopId, u16)] {
        &self.members
    }

    pub(super) fn at(&self, bucket: u8) -> NextHopId {
        self.buckets[usize::from(bucket) % BUCKETS]
    }

    /// Adds a member or changes its weight. Cost: O([`BUCKETS`] and members).
    pub(super) fn set(&mut self, id: NextHopId, weight: u16) {
        match self.members.iter_mut().find(|(member, _)| *member == id) {
            Some((_, old)) => *old = weight,
            None => self.members.push((id, weight)),
        }
        self.level();
    }

    /// Takes a member out, unless it is the last.
    pub(super) fn remove(&mut self, id: NextHopId) -> bool {
        let at = self.members.iter().position(|(member, _)| *member == id);
        match at {
            Some(at) if self.members.len() > 1 => {
                self.members.remove(at);
                self.level();
                true
            }
            _ => false,
        }
    }

    /// Gives each member its share: those that have too many buckets lose the last of them, the others take these in order.
    fn level(&mut self) {
        let total: u64 = self
            .members
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .sum();
        let mut sum = 0_u64;
        let mut before = 0;
        let mut wanted = Vec::new();
        for (id, weight) in &self.members {
            // Shares of the running sum, so that they add up to all buckets.
            sum += u64::from(*weight);
            let until = (sum * BUCKETS as u64).checked_div(total).unwrap_or(0);
            wanted.push((*id, until - before));
            before = until;
        }
        let mut free = [false; BUCKETS];
        for (bucket, holder) in self.buckets.iter().enumerate() {
            match wanted.iter_mut().find(|(id, _)| id == holder) {
                Some((_, left)) if *left > 0 => *left -= 1,
                _ => free[bucket] = true,
            }
        }
        let mut takers = wanted.into_iter();
        let mut taker = takers.next();
        for (holder, _) in self.buckets.iter_mut().zip(free).filter(|(_, free)| *free) {
            while taker.is_some_and(|(_, left)| left == 0) {
                taker = takers.next();
            }
            if let Some((id, left)) = &mut taker {
                *holder = *id;
                *left -= 1;
            }
        }
    }
}

/// The bucket of a flow: the same for all its packets, spread evenly over all flows, and different with each seed.
///
/// Addresses and protocol count; ports only if asked, for fragments behind the first have none and would go another way.
pub(super) fn bucket(fields: &Fields, seed: u64, ports: bool) -> u8 {
    let mut hash = seed;
    let mut add = |word: u64| {
        // The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
        hash = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
    };
    for address in [fields.source, fields.destination] {
        add((address >> 64) as u64);
        add(address as u64);
    }
    let ports = if ports {
        u64::from(fields.source_port) << 16 | u64::from(fields.destination_port)
    } else {
        0
    };
    add(u64::from(fields.protocol.0) << 32 | ports);
    (hash >> 32) as u8 % BUCKETS as u8
}

const _: () = assert!(256 % BUCKETS == 0, "each bucket has as many hashes");

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(group: &Group) -> Vec<usize> {
        let of = |id| group.buckets.iter().filter(|holder| **holder == id).count();
        group.members.iter().map(|(id, _)| of(*id)).collect()
    }

    /// Goal: an edit moves the flows that it must, and no others. Method: count buckets that changed hands.
    #[test]
    fn edits_move_shares_only() {
        let mut group = Group::new(NextHopId(0), 1);
        for id in 1..4 {
            let before = group.buckets;
            group.set(NextHopId(id), 1);
            let moved = before
                .iter()
                .zip(&group.buckets)
                .filter(|(old, new)| old != new);
            assert_eq!(
                moved.count(),
                group.buckets.iter().filter(|b| b.0 == id).count()
            );
        }
        assert_eq!(shares(&group), [32; 4]);
        let before = group.buckets;
        assert!(group.remove(NextHopId(2)));
        for (old, new) in before.iter().zip(&group.buckets) {
            assert!(*old == *new || old.0 == 2);
        }
        group.set(NextHopId(3), 2);
        assert_eq!(shares(&group), [32, 32, 64]);
        assert!(group.remove(NextHopId(0)) && group.remove(NextHopId(1)));
        assert!(!group.remove(NextHopId(3)), "the last stays");
        assert_eq!(group.buckets, [NextHopId(3); BUCKETS]);
    }

    #[test]
    fn more_members_than_buckets() {
        let mut group = Group::new(NextHopId(0), 1);
        for id in 1..300 {
            group.set(NextHopId(id), 1);
        }
        assert_eq!(shares(&group).iter().sum::<usize>(), BUCKETS);
        group.set(NextHopId(299), 0);
        group.set(NextHopId(298), u16::MAX);
        assert_eq!(shares(&group).iter().sum::<usize>(), BUCKETS);
    }
}
