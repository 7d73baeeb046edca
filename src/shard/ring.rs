//! The ring of transactions: published by any thread, applied by each shard in its own time, and known to have been.
//!
//! Apart from the shards because it knows nothing of caches: it is the whole of what threads share, and small enough to be
//! model-checked as it stands (`tests/loom`).
//!
//! ```text
//!   published ───────────────────────────────┐
//!   ring      | 5 | 6 | 7 | 8 |              8
//!   applied     shard 0: 8      shard 1: 6        visible: 6, the least that is not parked
//! ```
//!
//! * The publisher writes a slot, then moves `published`. It never writes a slot that some shard has still to read, so a shard
//!   finds the slot's lock free of writers and takes it without waiting.
//! * A shard reads `published` once a burst: one load of a line that nobody writes while there are no edits. It applies what is new,
//!   then stores how far it has come.
//! * A generation is visible when every shard has come so far. A *parked* shard processes nothing, so it need not have; it looks
//!   again when it wakes, before its first packet.
//!
//! The order of those two looks (the publisher: publish, then see who is parked; the shard: be no longer parked, then see what is
//! published) is what makes parking safe: a sequentially consistent fence stands between the two halves of each. All else is
//! release and acquire, and the packet path has no fence.

use alloc::vec::Vec;

use super::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, RwLock, fence};
use crate::epoch::Generation;

/// The transaction was not published: some shard is a whole ring behind. It comes back, to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog<T>(pub T);

struct Shared<T> {
    slots: Vec<RwLock<Option<Arc<T>>>>,
    published: AtomicU64,
    shards: Vec<Progress>,
    /// Held by one publisher at a time; never by a shard.
    publishing: Mutex<()>,
    backlogs: AtomicU64,
}

/// How far a shard has come. On a cache line of its own, so that shards do not slow one another.
#[repr(align(128))]
struct Progress {
    applied: AtomicU64,
    parked: AtomicBool,
}

/// The handle by which any thread publishes transactions to all shards. Clones are the same handle.
///
/// ```
/// use gufc::shard::Control;
///
/// let (control, mut shards) = Control::new(2, 8);
/// let generation = control.publish("drop telnet").unwrap();
/// assert!(!control.is_visible(generation));
/// for shard in &mut shards {
///     assert_eq!(shard.catch_up(|edit, _| assert_eq!(*edit, "drop telnet")), 1);
/// }
/// assert!(control.is_visible(generation));
/// ```
pub struct Control<T>(Arc<Shared<T>>);

impl<T> Clone for Control<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Control<T> {
    /// A handle, and a subscriber for each of `shards` shards. The ring holds `capacity` transactions, at least 1.
    pub fn new(shards: usize, capacity: usize) -> (Self, Vec<Subscriber<T>>) {
        let shared = Arc::new(Shared {
            slots: (0..capacity.max(1)).map(|_| RwLock::new(None)).collect(),
            published: AtomicU64::new(0),
            shards: (0..shards)
                .map(|_| Progress {
                    applied: AtomicU64::new(0),
                    parked: AtomicBool::new(false),
                })
                .collect(),
            publishing: Mutex::new(()),
            backlogs: AtomicU64::new(0),
        });
        let subscribers = (0..shards)
            .map(|shard| Subscriber {
                shared: Arc::clone(&shared),
                shard,
                taken: 0,
            })
            .collect();
        (Self(shared), subscribers)
    }

    /// Publishes a transaction; its generation. Shards apply transactions in the order of generations.
    ///
    /// Whether it can be applied is best found out before, on hooks of one's own: a shard cannot answer.
    ///
    /// # Errors
    ///
    /// [`Backlog`] when a shard, parked or not, is a whole ring behind; counted.
    ///
    /// Cost: O(shards). May wait for another publisher, never for a shard.
    pub fn publish(&self, transaction: T) -> Result<Generation, Backlog<T>> {
        let shared = &*self.0;
        let _turn = match shared.publishing.lock() {
            Ok(turn) => turn,
            // A publisher has panicked: what it had published it had published whole.
            Err(poisoned) => poisoned.into_inner(),
        };
        let next = shared.published.load(Ordering::Relaxed) + 1;
        let capacity = shared.slots.len() as u64;
        let behind = |shard: &Progress| shard.applied.load(Ordering::Acquire) + capacity < next;
        if shared.shards.iter().any(behind) {
            shared.backlogs.fetch_add(1, Ordering::Relaxed);
            return Err(Backlog(transaction));
        }
        let Some(slot) = shared.slots.get((next % capacity) as usize) else {
            return Err(Backlog(transaction));
        };
        let transaction = Some(Arc::new(transaction));
        // All shards have taken what was in the slot, so nobody reads it.
        match slot.write() {
            Ok(mut slot) => *slot = transaction,
            Err(poisoned) => *poisoned.into_inner() = transaction,
        }
        shared.published.store(next, Ordering::Release);
        Ok(Generation::from_number(next))
    }

    /// Whether no shard can judge a packet by rules older than this generation any more.
    ///
    /// Once it has been true nothing is judged by older rules, though it may be false for the moment in which a parked shard
    /// wakes and catches up.
    ///
    /// Cost: two loads for each shard.
    pub fn is_visible(&self, generation: Generation) -> bool {
        fence(Ordering::SeqCst);
        self.0.shards.iter().all(|shard| {
            shard.applied.load(Ordering::Acquire) >= generation.number()
                || shard.parked.load(Ordering::Acquire)
        })
    }

    /// The last generation published.
    pub fn generation(&self) -> Generation {
        Generation::from_number(self.0.published.load(Ordering::Acquire))
    }

    /// Transactions refused because a shard was a whole ring behind.
    pub fn backlogs(&self) -> u64 {
        self.0.backlogs.load(Ordering::Relaxed)
    }
}

/// A shard's end of the ring. A shard that is given up parks it by dropping.
pub struct Subscriber<T> {
    shared: Arc<Shared<T>>,
    shard: usize,
    /// The last generation that was handed to the shard.
    taken: u64,
}

impl<T> Subscriber<T> {
    /// Applies all that was published since, in order, and lets it be known; how many there were. Between two bursts.
    ///
    /// Cost: one load when there is nothing. Never waits.
    pub fn catch_up(&mut self, mut apply: impl FnMut(&T, Generation)) -> usize {
        let mut applied = 0;
        while let Some((generation, transaction)) = self.take() {
            apply(&transaction, generation);
            self.acknowledge(generation);
            applied += 1;
        }
        applied
    }

    /// The next transaction, for a subscriber that has more to do before it can [acknowledge](Self::acknowledge) it: one that
    /// drives a NIC, say, and has offloaded flows to withdraw first.
    pub fn take(&mut self) -> Option<(Generation, Arc<T>)> {
        if self.taken >= self.shared.published.load(Ordering::Acquire) {
            return None;
        }
        let next = self.taken + 1;
        let slot = (next % self.shared.slots.len() as u64) as usize;
        // No writer comes to a slot that this shard has not acknowledged. Should the lock refuse all the same, the next burst
        // tries again, and until then the generation is not visible.
        let transaction = self.shared.slots.get(slot)?.try_read().ok()?.clone()?;
        self.taken = next;
        Some((Generation::from_number(next), transaction))
    }

    /// This shard judges by this generation from now on, and nothing of it does by older rules.
    pub fn acknowledge(&mut self, generation: Generation) {
        let applied = generation.number().min(self.taken);
        if let Some(progress) = self.shared.shards.get(self.shard) {
            progress.applied.store(applied, Ordering::Release);
        }
    }

    /// The shard processes no packets until it [wakes](Self::wake): nobody has to wait for it to see an edit. It still holds up
    /// the ring.
    pub fn park(&mut self) {
        if let Some(progress) = self.shared.shards.get(self.shard) {
            progress.parked.store(true, Ordering::Release);
        }
    }

    /// The end of [`park`](Self::park): applies what was published meanwhile, before the first packet.
    pub fn wake(&mut self, mut apply: impl FnMut(&T, Generation)) -> usize {
        let applied = self.catch_up(&mut apply);
        if let Some(progress) = self.shared.shards.get(self.shard) {
            progress.parked.store(false, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        applied + self.catch_up(apply)
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        // A shard that is gone neither judges nor reads.
        if let Some(progress) = self.shared.shards.get(self.shard) {
            progress.parked.store(true, Ordering::Release);
            progress.applied.store(u64::MAX / 2, Ordering::Release);
        }
    }
}
