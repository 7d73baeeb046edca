//! Remote handles: flows whose replies land here though they live elsewhere.

use alloc::vec::Vec;

use super::homes::ShardId;
use crate::cookie::FlowCookie;
use crate::time::{Duration, Instant};
use crate::trie::{Indexed, KeyIndex, ReserveError};

/// Where a flow lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The shard.
    pub shard: ShardId,
    /// Its entry there, as it was when announced: slot and generation are verified on arrival, and the key. Where the entry has
    /// gone, the shard is still the right one.
    pub cookie: Option<FlowCookie>,
}

/// What a shard tells the home of a reply's tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement<K> {
    /// Whom to tell.
    pub to: ShardId,
    /// The reply's key, as it will arrive.
    pub reply: K,
    /// Where to hand it.
    pub remote: Remote,
}

/// The flows of others whose replies hash here.
///
/// Bounded: when it is full the oldest that has been idle long enough makes room, and if there is none within eight looks, the
/// announcement is refused and counted; its replies are then judged here, as flows of their own.
#[derive(Debug)]
pub struct Remotes<K: Indexed> {
    index: K::Index,
    places: Vec<Option<(K, Remote, Instant)>>,
    free: Vec<u32>,
    capacity: usize,
    idle: Duration,
    hand: usize,
    refused: u64,
}

/// Places looked at for one that has been idle.
const LOOKS: usize = 8;

impl<K: Indexed> Remotes<K> {
    /// Room for `capacity` flows, each kept for at least `idle` after its last packet. Connections that outlive that start over,
    /// so take the longest lifetime that matters.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when memory is short.
    pub fn try_new(seed: [u64; 2], capacity: usize, idle: Duration) -> Result<Self, ReserveError> {
        Ok(Self {
            index: K::Index::with_seed(seed, capacity)?,
            places: Vec::new(),
            free: Vec::new(),
            capacity,
            idle,
            hand: 0,
            refused: 0,
        })
    }

    /// Flows known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Announcements refused because there was no room.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Where the flow of this key lives, if that was announced. Cost: one lookup; none where nothing was.
    pub fn find(&mut self, key: &K, now: Instant) -> Option<Remote> {
        if self.is_empty() {
            return None;
        }
        let id = self.index.find(key)?;
        let (_, remote, last) = self.places.get_mut(id as usize)?.as_mut()?;
        *last = now.max(*last);
        Some(*remote)
    }

    /// Takes an announcement in; a later one for the same key replaces it. False, and counted, when there is no room.
    pub fn learn(&mut self, key: K, remote: Remote, now: Instant) -> bool {
        if let Some(id) = self.index.find(&key) {
            if let Some(place) = self.places.get_mut(id as usize) {
                *place = Some((key, remote, now));
            }
            return true;
        }
        if self.len() >= self.capacity {
            for _ in 0..LOOKS {
                self.expire_next(now);
            }
        }
        if self.len() >= self.capacity {
            self.refused += 1;
            return false;
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.places.push(None);
                self.places.len() as u32 - 1
            }
        };
        if self.index.insert(&key, id).is_err() {
            self.free.push(id);
            self.refused += 1;
            return false;
        }
        if let Some(place) = self.places.get_mut(id as usize) {
            *place = Some((key, remote, now));
        }
        true
    }

    /// Forgets a flow.
    pub fn forget(&mut self, key: &K) {
        if let Some(id) = self.index.remove(key) {
            if let Some(place) = self.places.get_mut(id as usize) {
                *place = None;
                self.free.push(id);
            }
        }
    }

    /// Looks at the next `budget` places and forgets those that have been idle. Cost: O(budget).
    pub fn maintain(&mut self, now: Instant, budget: usize) {
        for _ in 0..budget.min(self.places.len()) {
            self.expire_next(now);
        }
    }

    fn expire_next(&mut self, now: Instant) {
        if self.places.is_empty() {
            return;
        }
        let at = self.hand % self.places.len();
        self.hand = at + 1;
        if let Some(Some((key, _, last))) = self.places.get(at) {
            if now - *last >= self.idle {
                let key = *key;
                self.forget(&key);
            }
        }
    }
}
