//! Where connections are kept: slots with generations, lists by worth, and an index from tuples to slots.
//!
//! Apart because it knows nothing of protocols: it hands out places and finds them, and what is put out first is a matter of
//! lists whose ends are at hand.
//!
//! ```text
//!  prints: tuple -> slot, direction       hot[slot]  64 bytes, what a cached packet touches
//!                                         cold[slot] the rest
//!                                         lists      Pending, Unreplied, Replied, Closing, Kept: oldest first
//! ```

use alloc::vec::Vec;

use super::connection::{Cold, Hot, Rank, Traffic};
use super::prints::Prints;
use super::{ConnId, Status, Trackable};
use crate::hook::Direction;
use crate::trie::{Folded, ReserveError};

/// Connections whose places in the index are read ahead together: a burst of first packets.
const WARM_MAX: usize = 32;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
    length: u32,
}

#[derive(Debug)]
pub(super) struct Table<K: Trackable> {
    hot: Vec<Hot>,
    cold: Vec<Cold<K>>,
    /// As long as `hot` where traffic is accounted, else empty.
    traffic: Vec<[Traffic; 2]>,
    prints: Prints,
    hash: Folded,
    /// Moves with every tuple that is made known.
    publications: u64,
    free: u32,
    lists: [List; Rank::COUNT],
    capacity: u32,
    length: u32,
    accounting: bool,
    /// Connections whose slot was freed and that nobody has asked for yet; `None` where nobody wants to know.
    pub(super) ended: Option<Vec<ConnId>>,
}

impl<K: Trackable> Table<K> {
    /// All memory is reserved here.
    pub(super) fn try_new(
        capacity: u32,
        seed: [u64; 2],
        accounting: bool,
    ) -> Result<Self, ReserveError> {
        let slots = capacity as usize;
        let (mut hot, mut cold, mut traffic) = (Vec::new(), Vec::new(), Vec::new());
        hot.try_reserve_exact(slots)?;
        cold.try_reserve_exact(slots)?;
        if accounting {
            traffic.try_reserve_exact(slots)?;
        }
        Ok(Self {
            hot,
            cold,
            traffic,
            prints: Prints::try_new(slots.saturating_mul(2))?,
            hash: Folded::new(seed),
            publications: 0,
            free: NONE,
            lists: [List {
                oldest: NONE,
                newest: NONE,
                length: 0,
            }; Rank::COUNT],
            capacity,
            length: 0,
            accounting,
            ended: None,
        })
    }

    /// Connections in slots.
    pub(super) fn len(&self) -> u32 {
        self.length
    }

    /// Bytes reserved for connections and their index.
    pub(super) fn reserved_bytes(&self) -> usize {
        self.hot.capacity() * size_of::<Hot>()
            + self.cold.capacity() * size_of::<Cold<K>>()
            + self.traffic.capacity() * size_of::<[Traffic; 2]>()
            + self.prints.reserved_bytes()
    }

    /// Bytes that [`reserved_bytes`](Self::reserved_bytes) says of a table like that.
    pub(super) fn bytes_for(capacity: u32, accounting: bool) -> usize {
        let slots = capacity as usize;
        let traffic = usize::from(accounting) * size_of::<[Traffic; 2]>();
        slots * (size_of::<Hot>() + size_of::<Cold<K>>() + traffic)
            + Prints::bytes_for(slots.saturating_mul(2))
    }

    pub(super) fn is_full(&self) -> bool {
        self.length >= self.capacity
    }

    /// Slots that have ever been used.
    pub(super) fn slots(&self) -> u32 {
        self.hot.len() as u32
    }

    pub(super) fn rank_length(&self, rank: Rank) -> u32 {
        self.lists[rank as usize].length
    }

    pub(super) fn oldest(&self, rank: Rank) -> Option<u32> {
        let slot = self.lists[rank as usize].oldest;
        (slot != NONE).then_some(slot)
    }

    /// A slot for a new connection; `None` when full. Cost: O(1).
    pub(super) fn allocate(&mut self, hot: Hot, cold: Cold<K>) -> Option<ConnId> {
        if self.is_full() {
            return None;
        }
        let slot = if self.free == NONE {
            let slot = self.hot.len() as u32;
            self.hot.push(Hot::default());
            self.cold.push(cold);
            if self.accounting {
                self.traffic.push([Traffic::default(); 2]);
            }
            slot
        } else {
            let slot = self.free;
            self.free = self.cold[slot as usize].next;
            slot
        };
        let at = slot as usize;
        let generation = self.hot[at].generation.wrapping_add(1);
        self.hot[at] = Hot { generation, ..hot };
        self.cold[at] = cold;
        if let Some(traffic) = self.traffic.get_mut(at) {
            *traffic = [Traffic::default(); 2];
        }
        self.length += 1;
        self.link(slot, cold.rank);
        Some(ConnId { slot, generation })
    }

    /// Gives a slot back. Its tuples are out of the index. Cost: O(1).
    pub(super) fn release(&mut self, slot: u32) {
        self.unlink(slot);
        let at = slot as usize;
        if let Some(ended) = &mut self.ended {
            let generation = self.hot[at].generation;
            ended.push(ConnId { slot, generation });
        }
        self.hot[at].generation = self.hot[at].generation.wrapping_add(1);
        self.cold[at].next = self.free;
        self.free = slot;
        self.length -= 1;
    }

    /// Whether the slot has a tenant.
    pub(super) fn is_used(&self, slot: u32) -> bool {
        self.hot
            .get(slot as usize)
            .is_some_and(|hot| hot.generation & 1 == 1)
    }

    pub(super) fn slot_of(&self, id: ConnId) -> Option<u32> {
        let hot = self.hot.get(id.slot as usize)?;
        (hot.generation == id.generation && id.generation & 1 == 1).then_some(id.slot)
    }

    pub(super) fn id_of(&self, slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: self.hot[slot as usize].generation,
        }
    }

    #[inline]
    pub(super) fn hot_of(&self, id: ConnId) -> Option<&Hot> {
        self.hot
            .get(id.slot as usize)
            .filter(|hot| hot.generation == id.generation)
    }

    #[inline]
    pub(super) fn hot_of_mut(&mut self, id: ConnId) -> Option<&mut Hot> {
        self.hot
            .get_mut(id.slot as usize)
            .filter(|hot| hot.generation == id.generation)
    }

    pub(super) fn hot(&self, slot: u32) -> &Hot {
        &self.hot[slot as usize]
    }

    pub(super) fn hot_mut(&mut self, slot: u32) -> &mut Hot {
        &mut self.hot[slot as usize]
    }

    pub(super) fn cold(&self, slot: u32) -> &Cold<K> {
        &self.cold[slot as usize]
    }

    pub(super) fn cold_mut(&mut self, slot: u32) -> &mut Cold<K> {
        &mut self.cold[slot as usize]
    }

    pub(super) fn traffic(&self, slot: u32) -> [Traffic; 2] {
        self.traffic.get(slot as usize).copied().unwrap_or_default()
    }

    #[inline]
    pub(super) fn account(&mut self, slot: u32, direction: Direction, packets: u64, bytes: u64) {
        if let Some(traffic) = self.traffic.get_mut(slot as usize) {
            let one = &mut traffic[direction as usize];
            one.packets += packets;
            one.bytes += bytes;
        }
    }

    /// Who has this tuple, and in which direction. Cost: one index look-up and one connection read.
    pub(super) fn find(&self, tuple: &K) -> Option<(u32, Direction)> {
        let number = self
            .prints
            .find(tuple.digest(&self.hash), has(&self.cold, tuple))?;
        let direction = if number & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        };
        Some((number >> 1, direction))
    }

    pub(super) fn trace(&self, tuple: &K) -> crate::trie::Trace {
        self.prints.trace(tuple.digest(&self.hash))
    }

    /// Reads ahead what finding these tuples and making them known will read of the index, for the first 32 connections.
    pub(super) fn warm(&self, tuples: impl Iterator<Item = [K; 2]>) -> u64 {
        let mut prints = [0; 2 * WARM_MAX];
        let mut count = 0;
        for (print, tuple) in prints.iter_mut().zip(tuples.flatten()) {
            *print = tuple.digest(&self.hash);
            count += 1;
        }
        self.prints.warm(prints.get(..count).unwrap_or(&[]))
    }

    /// Moves with every tuple that is made known.
    pub(super) fn publications(&self) -> u64 {
        self.publications
    }

    /// Makes a slot known by its tuple of `direction`; false when the index has no room.
    pub(super) fn publish(&mut self, slot: u32, direction: Direction) -> bool {
        self.publications += 1;
        let tuple = self.cold[slot as usize].tuples[direction as usize];
        let number = slot << 1 | direction as u32;
        self.prints
            .insert(tuple.digest(&self.hash), number, has(&self.cold, &tuple))
    }

    /// Takes a slot's tuples out of the index, where they are its own.
    pub(super) fn withdraw(&mut self, slot: u32) {
        if self.cold[slot as usize].status.contains(Status::CONFIRMED) {
            self.unpublish(slot);
        }
    }

    /// The same, whether or not the connection is confirmed.
    pub(super) fn unpublish(&mut self, slot: u32) {
        for tuple in self.cold[slot as usize].tuples {
            self.prints
                .remove(tuple.digest(&self.hash), |number| number >> 1 == slot);
        }
    }

    /// Moves a connection to the end of another list. Cost: O(1).
    pub(super) fn rank(&mut self, slot: u32, rank: Rank) {
        if self.cold[slot as usize].rank != rank {
            self.unlink(slot);
            self.link(slot, rank);
        }
    }

    fn link(&mut self, slot: u32, rank: Rank) {
        let list = &mut self.lists[rank as usize];
        let previous = list.newest;
        list.newest = slot;
        list.length += 1;
        if previous == NONE {
            list.oldest = slot;
        } else {
            self.cold[previous as usize].next = slot;
        }
        let cold = &mut self.cold[slot as usize];
        cold.rank = rank;
        cold.previous = previous;
        cold.next = NONE;
    }

    fn unlink(&mut self, slot: u32) {
        let Cold {
            rank,
            previous,
            next,
            ..
        } = self.cold[slot as usize];
        let list = &mut self.lists[rank as usize];
        list.length -= 1;
        if previous == NONE {
            list.oldest = next;
        }
        if next == NONE {
            list.newest = previous;
        }
        if previous != NONE {
            self.cold[previous as usize].next = next;
        }
        if next != NONE {
            self.cold[next as usize].previous = previous;
        }
    }

    /// Whether the parts agree with one another; for tests. Cost: O(capacity).
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let used = (0..self.slots()).filter(|slot| self.is_used(*slot)).count();
        if used != self.length as usize {
            return Err("as many slots are used as are counted");
        }
        let mut listed = 0;
        for (rank, list) in self.lists.iter().enumerate() {
            let (mut previous, mut slot, mut length) = (NONE, list.oldest, 0);
            while slot != NONE {
                let cold = self.cold(slot);
                if cold.rank as usize != rank || cold.previous != previous || !self.is_used(slot) {
                    return Err("a list is linked both ways and has its own members");
                }
                length += 1;
                if length > list.length {
                    return Err("a list is as long as it says");
                }
                previous = slot;
                slot = cold.next;
            }
            if length != list.length || previous != list.newest {
                return Err("a list ends where it says");
            }
            listed += length;
        }
        if listed != self.length {
            return Err("every connection is in one list");
        }
        let mut published = 0;
        for slot in (0..self.slots()).filter(|slot| self.is_used(*slot)) {
            let tuples = self.cold(slot).tuples;
            let own = |tuple: &K| self.find(tuple).is_some_and(|(n, _)| n == slot);
            published += usize::from(own(&tuples[0]));
            published += usize::from(tuples[0] != tuples[1] && own(&tuples[1]));
        }
        if published != self.prints.len() {
            return Err("the index names tuples of living connections only");
        }
        self.prints.check()
    }
}

/// Whether a number's connection has this tuple, in the direction that the number says.
#[inline]
fn has<'a, K: Trackable>(cold: &'a [Cold<K>], tuple: &'a K) -> impl Fn(u32) -> bool + Copy + 'a {
    move |number| {
        let one = cold.get((number >> 1) as usize);
        one.is_some_and(|one| one.tuples[(number & 1) as usize] == *tuple)
    }
}
