//! Whose flow is it: from hash buckets to shards.

use alloc::boxed::Box;
use core::fmt;

use crate::nic::{Bucket, Indirection};

/// A shard's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From the low bits of a flow's hash to the shard that it lives in.
///
/// It begins as a copy of the NIC's indirection table, and differs from it once that is changed: queues may move at any time,
/// homes only when the state of their flows moves, or is given up. All shards hold equal tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homes {
    homes: Box<[ShardId]>,
}

impl Homes {
    /// Each bucket's home is the shard of its queue.
    pub fn of_queues(table: &Indirection) -> Self {
        let homes = (0..table.len())
            .map(|bucket| ShardId(table.queue_of(Bucket(bucket as u16)).0))
            .collect();
        Self { homes }
    }

    /// The home of flows with this hash. Cost: one load.
    #[inline]
    pub fn of(&self, hash: u32) -> ShardId {
        // The table's length is a power of two.
        let bucket = hash as usize & self.homes.len().wrapping_sub(1);
        self.homes.get(bucket).copied().unwrap_or_default()
    }

    /// Moves the home of a bucket; where it was. What the old home knows of the bucket's flows stays behind: they start over.
    pub fn set(&mut self, bucket: Bucket, home: ShardId) -> Option<ShardId> {
        let place = self.homes.get_mut(usize::from(bucket.0))?;
        Some(core::mem::replace(place, home))
    }
}
