//! Shards for threads: each with its end of the ring, and the door through which a thread reaches all their hooks.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::one::{Placed, Shard};
use super::ring::{Control, Subscriber};
use crate::epoch::Change;
use crate::key::FlowKey;
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::time::Instant;
use crate::trie::Indexed;

/// An edit that every shard applies to its own hooks. It must do the same on each: that depends on the hooks' rules alone, which
/// are equal, and not on their traffic.
///
/// ```
/// use gufc::hooks::filter::{Filter, Place};
/// use gufc::shard::Edit;
///
/// let rule: gufc::hooks::filter::Rule = "tcp dport 23 drop".parse()?;
/// let edit: Edit<(Filter,)> = Edit::new(move |(filter,): &mut (Filter,)| {
///     filter.insert(Place::First, rule.clone()).ok().map(|(_, change)| change)
/// });
/// # let _ = edit;
/// # Ok::<(), gufc::hooks::filter::ParseRuleError>(())
/// ```
pub struct Edit<H>(Arc<Apply<H>>);

type Apply<H> = dyn Fn(&mut H) -> Option<Change> + Send + Sync;

impl<H> Edit<H> {
    /// The edit that this closure does. `None` says that it cannot be done and that the hooks are as they were; shards count that
    /// ([`ShardStats`](super::ShardStats)). Find out before, on hooks of your own, whether it can.
    pub fn new(apply: impl Fn(&mut H) -> Option<Change> + Send + Sync + 'static) -> Self {
        Self(Arc::new(apply))
    }

    /// Does it; `None`, and nothing done, where it cannot be.
    pub fn apply(&self, hooks: &mut H) -> Option<Change> {
        (self.0)(hooks)
    }
}

impl<H> Clone for Edit<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A shard and its end of the ring: what a thread owns.
pub struct SharedShard<K: FlowKey + Indexed, H: Pipeline> {
    shard: Shard<K, H>,
    subscriber: Subscriber<Edit<H>>,
}

/// Puts shards on one ring of `capacity` edits: the handle for any thread, and each shard for the thread that polls its queue.
pub fn shards<K: FlowKey + Indexed, H: Pipeline>(
    shards: Vec<Shard<K, H>>,
    capacity: usize,
) -> (Control<Edit<H>>, Vec<SharedShard<K, H>>) {
    let (control, subscribers) = Control::new(shards.len(), capacity);
    let shared = shards.into_iter().zip(subscribers);
    let shared = shared
        .map(|(shard, subscriber)| SharedShard { shard, subscriber })
        .collect();
    (control, shared)
}

impl<K: FlowKey + Indexed, H: Pipeline> SharedShard<K, H> {
    /// The shard.
    pub const fn shard(&self) -> &Shard<K, H> {
        &self.shard
    }

    /// The shard, to maintain it, or to give it what others hand over. Call [`catch_up`](Self::catch_up) first.
    pub const fn shard_mut(&mut self) -> &mut Shard<K, H> {
        &mut self.shard
    }

    /// Applies the edits published since; how many. Before each burst, and now and then where no packets come. Cost: one load
    /// when there are none. Never waits.
    pub fn catch_up(&mut self) -> usize {
        let shard = &mut self.shard;
        self.subscriber.catch_up(|edit, _| apply(shard, edit))
    }

    /// Catches up, then processes a burst; `done` gets each packet and what became of it, in order.
    pub fn process_burst<P: Packet<Key = K>>(
        &mut self,
        packets: &mut [P],
        now: Instant,
        done: impl FnMut(&mut P, Placed<K>),
    ) where
        H: Walk<P>,
    {
        self.catch_up();
        self.shard.process_burst(packets, now, done);
    }

    /// No packets for a while: edits become visible without this shard. See [`Subscriber::park`].
    pub fn park(&mut self) {
        self.subscriber.park();
    }

    /// The end of [`park`](Self::park).
    pub fn wake(&mut self) -> usize {
        let shard = &mut self.shard;
        self.subscriber.wake(|edit, _| apply(shard, edit))
    }
}

fn apply<K: FlowKey + Indexed, H: Pipeline>(shard: &mut Shard<K, H>, edit: &Edit<H>) {
    // Whether it could be done is in the shard's counters.
    let _ = shard.edit(|hooks| edit.apply(hooks).ok_or(()));
}
