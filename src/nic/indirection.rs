//! The indirection table: the low bits of the hash choose a bucket, the bucket names a queue; load is moved by bucket.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// A receive queue's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue(pub u16);

impl Queue {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in an indirection table: the low bits of a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u16);

/// From buckets to queues. 2^`bits` buckets; NICs have 128 to 4,096 of them.
///
/// ```
/// use gufc::nic::{Bucket, Indirection, Queue};
///
/// let mut table = Indirection::equal(7, 4);
/// assert_eq!(table.queue(0x51cc_c178), Queue(0));
/// // Bucket 0x78 is loaded; one move relieves its queue.
/// let mut load = vec![1; 128];
/// load[0x78] = 100;
/// let moves = table.rebalance(&load, 4, 1);
/// assert_eq!((moves.len(), moves[0].from), (1, Queue(0)));
/// # assert_eq!(table.bucket(0x51cc_c178), Bucket(0x78));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indirection {
    queues: Box<[Queue]>,
    mask: u32,
}

/// One bucket given to another queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The bucket.
    pub bucket: Bucket,
    /// Where it was.
    pub from: Queue,
    /// Where it is now.
    pub to: Queue,
}

impl Indirection {
    /// A table of 2^`bits` buckets (`bits` 0 to 16, more is 16) dealt out to `queues` queues (at least 1) in turn.
    pub fn equal(bits: u32, queues: u16) -> Self {
        let buckets = 1u32 << bits.min(16);
        let queues = (0..buckets)
            .map(|bucket| Queue((bucket % u32::from(queues.max(1))) as u16))
            .collect();
        Self {
            queues,
            mask: buckets - 1,
        }
    }

    /// How many low bits of the hash choose a bucket.
    pub const fn bits(&self) -> u32 {
        self.mask.count_ones()
    }

    /// How many buckets there are.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// Never: a table has at least one bucket.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The bucket of a hash.
    #[inline]
    pub const fn bucket(&self, hash: u32) -> Bucket {
        Bucket((hash & self.mask) as u16)
    }

    /// The queue of a hash. Cost: one load.
    #[inline]
    pub fn queue(&self, hash: u32) -> Queue {
        self.queue_of(self.bucket(hash))
    }

    /// The queue of a bucket; queue 0 for a bucket that the table does not have.
    #[inline]
    pub fn queue_of(&self, bucket: Bucket) -> Queue {
        self.queues
            .get(usize::from(bucket.0))
            .copied()
            .unwrap_or_default()
    }

    /// Gives a bucket to a queue; where it was. `None` for a bucket that the table does not have.
    pub fn set(&mut self, bucket: Bucket, queue: Queue) -> Option<Queue> {
        let place = self.queues.get_mut(usize::from(bucket.0))?;
        Some(core::mem::replace(place, queue))
    }

    /// The buckets of a queue. Cost: O(buckets).
    pub fn buckets_of(&self, queue: Queue) -> impl Iterator<Item = Bucket> + '_ {
        let numbered = self.queues.iter().enumerate();
        numbered
            .filter(move |(_, of)| **of == queue)
            .map(|(bucket, _)| Bucket(bucket as u16))
    }

    /// How many buckets each of `queues` queues has.
    pub fn shares(&self, queues: u16) -> Vec<u64> {
        self.loads(&alloc::vec![1; self.len()], queues)
    }

    /// What each of `queues` queues bears, of the load of each bucket. Buckets beyond `load` bear nothing.
    pub fn loads(&self, load: &[u64], queues: u16) -> Vec<u64> {
        let mut sums = alloc::vec![0u64; usize::from(queues)];
        for (queue, load) in self.queues.iter().zip(load) {
            if let Some(sum) = sums.get_mut(queue.index()) {
                *sum = sum.saturating_add(*load);
            }
        }
        sums
    }

    /// Moves at most `moves` buckets, each from the most loaded queue to the least loaded, and each time the bucket that
    /// brings the two closest; stops when no move helps. What was moved.
    ///
    /// Every flow of a moved bucket changes its queue: that is the price, and why moves are few. One bucket's load cannot be
    /// split, so a single heavy flow stays where it is.
    ///
    /// Cost: O(buckets + queues) for each move.
    pub fn rebalance(&mut self, load: &[u64], queues: u16, moves: usize) -> Vec<Move> {
        let mut done = Vec::new();
        let mut sums = self.loads(load, queues);
        for _ in 0..moves {
            let busiest = (0..sums.len()).max_by_key(|queue| (sums[*queue], usize::MAX - *queue));
            let idlest = (0..sums.len()).min_by_key(|queue| (sums[*queue], *queue));
            let (Some(from), Some(to)) = (busiest, idlest) else {
                break;
            };
            let gap = sums[from] - sums[to];
            // A bucket of load w turns the gap into |gap - 2w|: it helps if 0 < w < gap.
            let best = self
                .buckets_of(Queue(from as u16))
                .filter_map(|bucket| Some((bucket, *load.get(usize::from(bucket.0))?)))
                .filter(|(_, weight)| 0 < *weight && *weight < gap)
                .min_by_key(|(bucket, weight)| (gap.abs_diff(weight.saturating_mul(2)), *bucket));
            let Some((bucket, weight)) = best else { break };
            sums[from] -= weight;
            sums[to] += weight;
            let (from, to) = (Queue(from as u16), Queue(to as u16));
            self.set(bucket, to);
            done.push(Move { bucket, from, to });
        }
        done
    }
}

/// Pearson's chi-square of counts against what `shares` let expect: 0 where there is nothing to compare. With `n` cells chance gives
/// `n - 1` on average, with a standard deviation of `sqrt(2 (n - 1))`.
///
/// The shares of queues are the [buckets](Indirection::shares) that they have: 128 buckets cannot be dealt out evenly to 6.
pub fn chi_square(counts: &[u64], shares: &[u64]) -> f64 {
    let (total, whole): (u64, u64) = (counts.iter().sum(), shares.iter().sum());
    if total == 0 || whole == 0 {
        return 0.0;
    }
    let square = |(count, share): (&u64, &u64)| {
        let expected = total as f64 * *share as f64 / whole as f64;
        let off = *count as f64 - expected;
        if *share == 0 {
            0.0
        } else {
            off * off / expected
        }
    };
    counts.iter().zip(shares).map(square).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rebalancing_narrows_and_ends() {
        let mut state = [1, 2];
        for queues in [1u16, 2, 3, 8] {
            for round in 0..50u64 {
                let mut table = Indirection::equal(6, queues);
                let load: Vec<u64> = (0..64)
                    .map(|_| super::super::draw(&mut state) % (1 + round * round))
                    .collect();
                let spread = |table: &Indirection| {
                    let sums = table.loads(&load, queues);
                    sums.iter().max().unwrap_or(&0) - sums.iter().min().unwrap_or(&0)
                };
                let (before, total) = (spread(&table), load.iter().sum::<u64>());
                let mut all = 0;
                loop {
                    let moves = table.rebalance(&load, queues, 1);
                    if moves.is_empty() {
                        break;
                    }
                    all += 1;
                    assert!(all < 1_000, "it ends");
                    assert_eq!(moves[0].to, table.queue_of(moves[0].bucket));
                }
                assert!(spread(&table) <= before);
                // Where it ends, no bucket of the busiest queue is lighter than the gap.
                assert_eq!(table.loads(&load, queues).iter().sum::<u64>(), total);
                if queues > 1 {
                    assert!(spread(&table) <= *load.iter().max().unwrap_or(&0));
                }
            }
        }
    }

    #[test]
    fn chi_square_of_an_even_spread_is_nothing() {
        assert_eq!(chi_square(&[5, 5, 5], &[1; 3]), 0.0);
        assert_eq!(chi_square(&[0, 10], &[1; 2]), 10.0);
        assert_eq!(chi_square(&[10, 20], &[1, 2]), 0.0);
        assert_eq!(chi_square(&[], &[]), 0.0);
    }
}
