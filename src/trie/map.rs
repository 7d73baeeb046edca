//! A map from keys to values with stable handles: an [`LcIndex`] over a slab.
//!
//! Apart from the index because a flow cache brings a slab of its own; this is for everyone else who wants an LC-trie.

use alloc::vec::Vec;

use super::check::Stats;
use super::header::{Folded, HeaderHash};
use super::index::{Full, LcIndex, ReserveError};
use super::order::Cursor;
use crate::key::Key;

/// A name for an entry that stays good until that entry is removed, whatever else happens to the map.
///
/// A handle of a removed entry finds nothing, also after its place was given to another entry: places carry generations. A
/// place whose 2^32 generations are used up is given out no more, so no handle ever comes to mean another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    index: u32,
    generation: u32,
}

impl Handle {
    /// The place in the slab, below the capacity: what a NIC's cookie has room for.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How often the place has been given out before.
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The handle of these two numbers, as [`index`](Self::index) and [`generation`](Self::generation) gave them. Made-up
    /// numbers name nothing or an entry, never memory outside the map.
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }
}

/// An exact-match map: a dynamic LC-trie under hashed headers.
///
/// Costs are those of [`LcIndex`], and one more load to reach the value.
///
/// ```
/// use gufc::trie::LcTrie;
/// use core::net::Ipv4Addr;
///
/// let mut names = LcTrie::try_new([1, 2], 100)?;
/// let host = Ipv4Addr::new(192, 0, 2, 1);
/// let handle = names.insert(host, "printer")?.handle;
/// assert_eq!(names.find(&host), Some(&"printer"));
/// assert_eq!(names.by_handle(handle), Some((&host, &"printer")));
///
/// names.remove(&host);
/// names.insert(Ipv4Addr::new(192, 0, 2, 2), "scanner")?;
/// assert_eq!(names.by_handle(handle), None);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LcTrie<K: Key, V, H = Folded> {
    index: LcIndex<K, H>,
    records: Vec<Record<K, V>>,
    /// The first free record.
    free: u32,
}

#[derive(Clone, Debug)]
struct Record<K, V> {
    generation: u32,
    state: State<K, V>,
}

#[derive(Clone, Debug)]
enum State<K, V> {
    Used(K, V),
    /// The next free record.
    Free(u32),
}

const NONE: u32 = u32::MAX;

/// What [`LcTrie::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted<V> {
    /// The entry's handle; that of before if there was one.
    pub handle: Handle,
    /// The value that was there.
    pub replaced: Option<V>,
}

impl<K: Key, V> LcTrie<K, V> {
    /// A map for up to `capacity` entries, its hash seeded with `seed`. All memory is reserved here.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when `capacity` is above [`CAPACITY_MAX`](super::CAPACITY_MAX) or memory is short.
    pub fn try_new(seed: [u64; 2], capacity: usize) -> Result<Self, ReserveError> {
        Self::try_with_hash(Folded::new(seed), capacity)
    }
}

impl<K: Key, V, H: HeaderHash> LcTrie<K, V, H> {
    /// A map for up to `capacity` entries under a hash of the caller's own.
    ///
    /// # Errors
    ///
    /// As [`try_new`](LcTrie::try_new).
    pub fn try_with_hash(hash: H, capacity: usize) -> Result<Self, ReserveError> {
        let index = LcIndex::try_with_hash(hash, capacity)?;
        let mut records = Vec::new();
        records.try_reserve_exact(capacity)?;
        Ok(Self {
            index,
            records,
            free: NONE,
        })
    }

    /// Raises the capacity by `additional` entries; handles stay good. May copy all memory, see
    /// [`LcIndex::try_reserve`].
    ///
    /// # Errors
    ///
    /// As [`try_new`](LcTrie::try_new); the capacity is then unchanged.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        let capacity = self.capacity().saturating_add(additional);
        self.records
            .try_reserve_exact(capacity.saturating_sub(self.records.len()))?;
        self.index.try_reserve(additional)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Most entries.
    pub fn capacity(&self) -> usize {
        self.index.capacity()
    }

    /// The header of `key`, for the `_hashed` calls.
    #[inline]
    pub fn header(&self, key: &K) -> u64 {
        self.index.header(key)
    }

    /// The value of `key`.
    #[inline]
    pub fn find(&self, key: &K) -> Option<&V> {
        self.find_hashed(self.header(key), key)
    }

    /// The value of `key` whose header is known.
    #[inline]
    pub fn find_hashed(&self, header: u64, key: &K) -> Option<&V> {
        let id = self.index.find_hashed(header, key)?;
        self.value(id)
    }

    /// The value of `key`, to change it.
    #[inline]
    pub fn find_mut(&mut self, key: &K) -> Option<&mut V> {
        let id = self.index.find(key)?;
        self.value_mut(id)
    }

    /// Whether `key` is here.
    #[inline]
    pub fn contains(&self, key: &K) -> bool {
        self.index.find(key).is_some()
    }

    /// The values of `keys`, in order, into `values`; as many as the shorter of both has. Done in groups of 32, so that the
    /// cache misses of a group overlap.
    pub fn find_many<'a>(&'a self, keys: &[K], values: &mut [Option<&'a V>]) {
        const STAGE: usize = 32;
        for (keys, values) in keys.chunks(STAGE).zip(values.chunks_mut(STAGE)) {
            let mut ids = [None; STAGE];
            self.index.find_many(keys, &mut ids);
            for (value, id) in values.iter_mut().zip(ids) {
                *value = id.and_then(|id| self.value(id));
            }
        }
    }

    /// The handle of `key`.
    pub fn handle(&self, key: &K) -> Option<Handle> {
        self.handle_of(self.index.find(key)?)
    }

    /// The entry that `handle` names; `None` once it was removed. Cost: one load, no trie.
    #[inline]
    pub fn by_handle(&self, handle: Handle) -> Option<(&K, &V)> {
        let record = self.records.get(handle.index as usize)?;
        match &record.state {
            State::Used(key, value) if record.generation == handle.generation => Some((key, value)),
            _ => None,
        }
    }

    /// [`by_handle`](Self::by_handle), to change the value.
    #[inline]
    pub fn by_handle_mut(&mut self, handle: Handle) -> Option<(&K, &mut V)> {
        let record = self.records.get_mut(handle.index as usize)?;
        match &mut record.state {
            State::Used(key, value) if record.generation == handle.generation => Some((key, value)),
            _ => None,
        }
    }

    /// Stores `value` under `key`; handle and former value.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing was changed and `value` is dropped. See [`entry`](Self::entry) to keep it.
    pub fn insert(&mut self, key: K, value: V) -> Result<Inserted<V>, Full> {
        match self.entry(key) {
            Entry::Occupied(entry) => Ok(Inserted {
                handle: entry.handle,
                replaced: Some(core::mem::replace(entry.value, value)),
            }),
            Entry::Vacant(entry) => match entry.insert(value) {
                Ok(handle) => Ok(Inserted {
                    handle,
                    replaced: None,
                }),
                Err(_) => Err(Full),
            },
            Entry::Full => Err(Full),
        }
    }

    /// The place of `key`, found or to be filled. The header is computed once for what follows.
    ///
    /// ```
    /// use gufc::trie::{Entry, LcTrie};
    /// use core::net::Ipv4Addr;
    ///
    /// let mut packets = LcTrie::try_new([1, 2], 2)?;
    /// for last in [1, 2, 1, 3, 1] {
    ///     match packets.entry(Ipv4Addr::new(10, 0, 0, last)) {
    ///         Entry::Occupied(mut entry) => *entry.value_mut() += 1,
    ///         Entry::Vacant(entry) => { entry.insert(1).ok(); }
    ///         Entry::Full => {} // 10.0.0.3 goes uncounted
    ///     }
    /// }
    /// assert_eq!(packets.find(&Ipv4Addr::new(10, 0, 0, 1)), Some(&3));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V, H> {
        let header = self.header(&key);
        let id = self.index.find_hashed(header, &key);
        if let Some(id) = id {
            return match self.records.get_mut(id as usize) {
                Some(Record {
                    generation,
                    state: State::Used(_, value),
                }) => Entry::Occupied(Occupied {
                    handle: Handle {
                        index: id,
                        generation: *generation,
                    },
                    value,
                }),
                _ => Entry::Full,
            };
        }
        if self.len() >= self.capacity() || !self.has_record() {
            return Entry::Full;
        }
        Entry::Vacant(Vacant {
            trie: self,
            header,
            key,
        })
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let id = self.index.remove(key)?;
        self.release(id).map(|(_, value)| value)
    }

    /// Takes the entry out that `handle` names.
    pub fn remove_handle(&mut self, handle: Handle) -> Option<(K, V)> {
        let key = *self.by_handle(handle)?.0;
        self.index.remove(&key)?;
        self.release(handle.index)
    }

    /// Keeps the entries for which `keep` says so. Cost: O(records).
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for id in 0..self.records.len() as u32 {
            if let Some(Record {
                state: State::Used(key, value),
                ..
            }) = self.records.get_mut(id as usize)
            {
                if !keep(key, value) {
                    let key = *key;
                    self.index.remove(&key);
                    self.release(id);
                }
            }
        }
    }

    /// Takes all entries out. Those that the iterator has not yet given when it is dropped stay.
    pub fn drain(&mut self) -> Drain<'_, K, V, H> {
        Drain {
            trie: self,
            next: 0,
        }
    }

    /// All entries in the order of their handles' indexes.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &K, &V)> {
        self.records
            .iter()
            .enumerate()
            .filter_map(|(index, record)| {
                let handle = Handle {
                    index: index as u32,
                    generation: record.generation,
                };
                match &record.state {
                    State::Used(key, value) => Some((handle, key, value)),
                    State::Free(_) => None,
                }
            })
    }

    /// The entry after `cursor` in trie order; see [`LcIndex::next`]. The walk survives edits between its steps.
    pub fn next(&self, cursor: &mut Cursor<K>) -> Option<(Handle, &K, &V)> {
        let (_, id) = self.index.next(cursor)?;
        let handle = self.handle_of(id)?;
        let (key, value) = self.by_handle(handle)?;
        Some((handle, key, value))
    }

    /// Removes everything; handles of before find nothing. Cost: O(records).
    pub fn clear(&mut self) {
        self.index.clear();
        for id in 0..self.records.len() as u32 {
            self.release(id);
        }
    }

    /// The index below: its shape, its work, its lookups.
    pub fn index(&self) -> &LcIndex<K, H> {
        &self.index
    }

    /// The shape of the trie; the slab of values is not counted.
    pub fn stats(&self) -> Stats {
        self.index.stats()
    }

    /// Whether all invariants hold.
    ///
    /// # Errors
    ///
    /// What is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        self.index.check()?;
        let mut used = 0;
        for (index, record) in self.records.iter().enumerate() {
            if let State::Used(key, _) = &record.state {
                used += 1;
                if self.index.find(key) != Some(index as u32) {
                    return Err("a record's key does not lead to it");
                }
            }
        }
        if used != self.len() {
            return Err("records and index differ in number");
        }
        let (mut at, mut free) = (self.free, 0);
        while let Some(record) = self.records.get(at as usize) {
            let State::Free(next) = record.state else {
                return Err("a used record is in the free list");
            };
            free += 1;
            if free > self.records.len() {
                return Err("the free list is a ring");
            }
            at = next;
        }
        let retired = self
            .records
            .iter()
            .filter(|record| record.generation == u32::MAX && !record.is_used())
            .count();
        if used + free + retired != self.records.len() {
            return Err("a record is lost");
        }
        Ok(())
    }

    fn value(&self, id: u32) -> Option<&V> {
        match &self.records.get(id as usize)?.state {
            State::Used(_, value) => Some(value),
            State::Free(_) => None,
        }
    }

    fn value_mut(&mut self, id: u32) -> Option<&mut V> {
        match &mut self.records.get_mut(id as usize)?.state {
            State::Used(_, value) => Some(value),
            State::Free(_) => None,
        }
    }

    fn handle_of(&self, id: u32) -> Option<Handle> {
        let record = self.records.get(id as usize)?;
        Some(Handle {
            index: id,
            generation: record.generation,
        })
    }

    fn has_record(&self) -> bool {
        self.free != NONE || self.records.len() < self.records.capacity()
    }

    /// Puts key and value into a free record.
    fn occupy(&mut self, key: K, value: V) -> Result<u32, V> {
        let free = self.free;
        if let Some(record) = self.records.get_mut(free as usize) {
            if let State::Free(next) = record.state {
                self.free = next;
            }
            record.state = State::Used(key, value);
            return Ok(free);
        }
        if self.records.len() == self.records.capacity() {
            return Err(value);
        }
        self.records.push(Record {
            generation: 0,
            state: State::Used(key, value),
        });
        Ok((self.records.len() - 1) as u32)
    }

    /// Frees a record; its generation rises, and at the last one it is never used again.
    fn release(&mut self, id: u32) -> Option<(K, V)> {
        let record = self.records.get_mut(id as usize)?;
        if !record.is_used() {
            return None;
        }
        let state = core::mem::replace(&mut record.state, State::Free(self.free));
        record.generation = record.generation.saturating_add(1);
        if record.generation == u32::MAX {
            record.state = State::Free(NONE);
        } else {
            self.free = id;
        }
        match state {
            State::Used(key, value) => Some((key, value)),
            State::Free(_) => None,
        }
    }
}

impl<K, V> Record<K, V> {
    fn is_used(&self) -> bool {
        matches!(self.state, State::Used(..))
    }
}

/// The place of a key in an [`LcTrie`].
#[derive(Debug)]
pub enum Entry<'a, K: Key, V, H = Folded> {
    /// The key is here.
    Occupied(Occupied<'a, V>),
    /// The key is not here, and may be.
    Vacant(Vacant<'a, K, V, H>),
    /// The key is not here, and there is no room for it.
    Full,
}

/// An entry that is here.
#[derive(Debug)]
pub struct Occupied<'a, V> {
    handle: Handle,
    value: &'a mut V,
}

impl<'a, V> Occupied<'a, V> {
    /// Its handle.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Its value.
    pub fn value(&self) -> &V {
        self.value
    }

    /// Its value, to change it.
    pub fn value_mut(&mut self) -> &mut V {
        self.value
    }

    /// Its value, for as long as the map is borrowed.
    pub fn into_mut(self) -> &'a mut V {
        self.value
    }
}

/// A key without an entry.
#[derive(Debug)]
pub struct Vacant<'a, K: Key, V, H = Folded> {
    trie: &'a mut LcTrie<K, V, H>,
    header: u64,
    key: K,
}

impl<K: Key, V, H: HeaderHash> Vacant<'_, K, V, H> {
    /// Fills it; the handle.
    ///
    /// # Errors
    ///
    /// The value, when headers are so uneven that the trie is full before its capacity ([`LcIndex::insert`]).
    pub fn insert(self, value: V) -> Result<Handle, V> {
        let Self { trie, header, key } = self;
        let id = trie.occupy(key, value)?;
        if let Err(Full) = trie.index.insert_hashed(header, &key, id) {
            return match trie.release(id) {
                Some((_, value)) => Err(value),
                // Unreachable: occupied above.
                None => Ok(Handle {
                    index: id,
                    generation: u32::MAX,
                }),
            };
        }
        let generation = trie
            .records
            .get(id as usize)
            .map_or(0, |record| record.generation);
        Ok(Handle {
            index: id,
            generation,
        })
    }
}

/// Iterator that empties an [`LcTrie`].
#[derive(Debug)]
pub struct Drain<'a, K: Key, V, H = Folded> {
    trie: &'a mut LcTrie<K, V, H>,
    next: u32,
}

impl<K: Key, V, H: HeaderHash> Iterator for Drain<'_, K, V, H> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        while (self.next as usize) < self.trie.records.len() {
            let id = self.next;
            self.next += 1;
            if let Some((key, value)) = self.trie.release(id) {
                self.trie.index.remove(&key);
                return Some((key, value));
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.trie.len(), Some(self.trie.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::trie::{Spread, ToyHash};
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        #[test]
        fn map_and_twin_agree(
            hash in 0u8..8,
            ops in proptest::collection::vec((0u8..10, 0u16..64, any::<u16>()), 0..300),
        ) {
            let mut map = LcTrie::try_with_hash(ToyHash::nth(hash), 40).unwrap();
            let mut twin: BTreeMap<Spread, (u16, Handle)> = BTreeMap::new();
            let mut dead = Vec::new();
            for (kind, key, value) in ops {
                let key = Spread(key * 16);
                match kind {
                    0..=3 => match map.insert(key, value) {
                        Ok(done) => {
                            let had = twin.insert(key, (value, done.handle));
                            prop_assert_eq!(done.replaced, had.map(|(value, _)| value));
                            if let Some((_, handle)) = had {
                                prop_assert_eq!(handle, done.handle);
                            }
                        }
                        Err(Full) => prop_assert_eq!((twin.len(), twin.contains_key(&key)), (40, false)),
                    },
                    4 | 5 => {
                        let had = twin.remove(&key);
                        prop_assert_eq!(map.remove(&key), had.map(|(value, _)| value));
                        dead.extend(had.map(|(_, handle)| handle));
                    }
                    6 => {
                        let had = twin.remove(&key);
                        let handle = had.map(|(_, handle)| handle);
                        prop_assert_eq!(map.handle(&key), handle);
                        if let (Some(handle), Some((value, _))) = (handle, had) {
                            prop_assert_eq!(map.remove_handle(handle), Some((key, value)));
                            dead.push(handle);
                        }
                    }
                    7 => match map.entry(key) {
                        Entry::Occupied(mut entry) => {
                            let had = twin.get_mut(&key);
                            prop_assert_eq!(had.as_ref().map(|(_, handle)| *handle), Some(entry.handle()));
                            prop_assert_eq!(had.map(|(v, _)| core::mem::replace(v, value)), Some(*entry.value()));
                            *entry.value_mut() = value;
                        }
                        Entry::Vacant(entry) => {
                            prop_assert!(!twin.contains_key(&key));
                            if let Ok(handle) = entry.insert(value) {
                                twin.insert(key, (value, handle));
                            }
                        }
                        Entry::Full => prop_assert_eq!((twin.len(), twin.contains_key(&key)), (40, false)),
                    },
                    _ if value % 16 == 0 => {
                        map.retain(|_, value| *value % 3 != 0);
                        dead.extend(twin.values().filter(|(v, _)| v % 3 == 0).map(|(_, h)| *h));
                        twin.retain(|_, (value, _)| *value % 3 != 0);
                    }
                    _ => {
                        if let Some(v) = map.find_mut(&key) {
                            *v = value;
                        }
                        if let Some((v, _)) = twin.get_mut(&key) {
                            *v = value;
                        }
                    }
                }
                map.check().unwrap();
                for (key, (value, handle)) in &twin {
                    prop_assert_eq!(map.find(key), Some(value));
                    prop_assert_eq!(map.by_handle(*handle), Some((key, value)));
                    prop_assert_eq!(map.find_hashed(map.header(key), key), Some(value));
                }
                let keys: Vec<Spread> = (0..64).map(|key| Spread(key * 16)).collect();
                let mut found = [None; 64];
                map.find_many(&keys, &mut found);
                for (key, found) in keys.iter().zip(found) {
                    prop_assert_eq!(found, twin.get(key).map(|(value, _)| value));
                }
                for handle in &dead {
                    prop_assert_eq!(map.by_handle(*handle), None);
                }
            }
            let mut all: Vec<_> = map.drain().collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(twin.into_iter().map(|(key, (value, _))| (key, value))));
            map.check().unwrap();
            prop_assert!(map.is_empty());
        }
    }

    #[test]
    fn a_worn_out_place_is_retired() {
        // Goal: no handle ever names a second entry. Method: start near the last generation.
        let mut map = LcTrie::try_new([1, 2], 1).unwrap();
        let key = core::net::Ipv4Addr::LOCALHOST;
        map.insert(key, 1).unwrap();
        map.records[0].generation = u32::MAX - 1;
        let last = map.handle(&key).unwrap();
        assert_eq!(map.remove(&key), Some(1));
        map.check().unwrap();
        assert_eq!(map.by_handle(last), None);
        if map.records.len() == map.records.capacity() {
            assert_eq!(map.insert(key, 2), Err(Full));
        }
    }
}
