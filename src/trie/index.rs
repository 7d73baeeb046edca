//! The hashed head: an exact-match index from keys to ids, growing and shrinking one slot at a time.
//!
//! Apart from the edits (`edit`) because this file is what a packet runs: two loads for a hit, one for most misses.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;

use super::arena::Arena;
use super::bits::Bits;
use super::cells::{Cell, Cells, PAGE};
use super::header::{Folded, HeaderHash};
use super::slot::{BITS_MAX, Child, Node, Slot, View, tag};
use crate::key::Key;

/// Keys to 32-bit ids that the caller chooses: exact match under a hashed header.
///
/// The id is typically an index into a slab of the caller's; ids need not differ from each other. Key and id lie side by
/// side, so a hit touches one slot and one cell and nothing else.
///
/// | operation | cost |
/// |---|---|
/// | find | expected 1 slot and 1 cell (a miss: 1 slot); never more than 8 cells and 64 + `K::BITS` slots, whatever the headers |
/// | insert, remove | expected O(1); at most [`MOVES_MAX`](super::MOVES_MAX) slots and cells moved |
/// | memory | see [`reserved_bytes`](Self::reserved_bytes) |
///
/// ```
/// use gufc::key::{Protocol, SevenTuple};
/// use gufc::trie::LcIndex;
/// use core::net::Ipv4Addr;
///
/// let mut index = LcIndex::try_new([1, 2], 1000)?;
/// let flow = SevenTuple::new(Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(192, 0, 2, 1), Protocol::TCP, 40000, 80);
/// assert_eq!(index.insert(&flow, 7)?, None);
/// assert_eq!(index.find(&flow), Some(7));
/// assert_eq!(index.insert(&flow, 8)?, Some(7));
/// assert_eq!(index.remove(&flow), Some(8));
/// assert!(index.is_empty());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LcIndex<K: Key, H = Folded> {
    /// The root's children. Child `i` of a root of `2^b + s` slots stands for headers whose lowest `b + 1` bits are `i`, or,
    /// where there is no such child yet, whose lowest `b` bits are `i`: the root inflates by one slot at a time.
    pub(super) root: Vec<Slot>,
    /// The lowest bits that number the root's slots: the smallest `2^k - 1` that is at least `root.len() - 1`.
    pub(super) mask: usize,
    /// The children of the nodes below the root.
    pub(super) nodes: Arena<Vec<Slot>>,
    pub(super) cells: Cells<K>,
    pub(super) len: usize,
    pub(super) capacity: usize,
    /// Entries a slot of the root above which it grows.
    pub(super) load: usize,
    /// The slot of the root that was last looked over for slack.
    pub(super) hand: usize,
    pub(super) hash: H,
    pub(super) work: Work,
}

/// Slots and cells moved by edits since the beginning: what growth, shrinking and splitting cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Slots written because an entry's or a node's place changed.
    pub slots: u64,
    /// Cells copied from one block to another.
    pub cells: u64,
}

impl Work {
    /// Slots and cells together.
    pub const fn moves(self) -> u64 {
        self.slots + self.cells
    }
}

/// The structure has no room for one more entry; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for one more entry")
    }
}

impl core::error::Error for Full {}

/// Why memory could not be reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReserveError {
    /// More entries than 32-bit indexes can number: [`CAPACITY_MAX`].
    TooMany,
    /// The allocator refused.
    Memory(TryReserveError),
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "more than {CAPACITY_MAX} entries"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReserveError {}

impl From<TryReserveError> for ReserveError {
    fn from(error: TryReserveError) -> Self {
        Self::Memory(error)
    }
}

/// Most entries that an index can be made for: 2^30.
pub const CAPACITY_MAX: usize = 1 << 30;

/// The root grows when it has more than this many entries a slot.
///
/// Slots that were split in the current round hold half as many as those that were not, so the fullest hold twice the
/// average at the end of a round; eight fit in a bucket. The module's documentation derives the rest.
const LOAD: usize = 2;

/// The same for more than [`LARGE`] entries, where slots that do not fit in a core's caches cost more than nodes do.
const LOAD_LARGE: usize = 3;

/// The entries a slot of the root above which it grows, for `capacity` entries.
fn load(capacity: usize) -> usize {
    if capacity > LARGE { LOAD_LARGE } else { LOAD }
}

/// What each arena must hold for `capacity` entries: slots of the root, slots of nodes, pages of cells.
///
/// * Root: one slot for [`load`] entries.
/// * Nodes: two slots for each overflowing slot, expected 1 in 30 at most; a quarter of the root is kept.
/// * Cells: the free cells of buckets' blocks, after long removing and inserting expected 0.42 for each entry at two entries a
///   slot, 0.31 at three; a half is kept, and some pages that fragmentation can hold back.
fn arenas(capacity: usize) -> (usize, usize, usize) {
    let root = capacity / load(capacity) + 1;
    let nodes = root / 4 + 256;
    let pages = (capacity + capacity / 2).div_ceil(PAGE) + 16;
    (root, nodes, pages)
}

/// Entries above which a table is taken to outgrow the caches of a core.
const LARGE: usize = if cfg!(test) { 400 } else { 1 << 15 };

/// Entries up to which slots and cells are taken to lie in a core's own cache (some 40 bytes each).
const SMALL: usize = if cfg!(test) { 200 } else { 1 << 15 };

/// One burst's worth of lookups kept in flight together.
const STAGE: usize = 32;

impl<K: Key> LcIndex<K> {
    /// An index for up to `capacity` entries under the default hash seeded with `seed`.
    ///
    /// Memory for all of them is reserved here and nowhere else: no later operation allocates. On systems that hand out
    /// memory page by page it is in use only as far as entries have reached.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when `capacity` is above [`CAPACITY_MAX`] or memory is short.
    pub fn try_new(seed: [u64; 2], capacity: usize) -> Result<Self, ReserveError> {
        Self::try_with_hash(Folded::new(seed), capacity)
    }
}

impl<K: Key, H: HeaderHash> LcIndex<K, H> {
    /// Bytes that an index for `capacity` entries reserves: what [`reserved_bytes`](Self::reserved_bytes) says of one. An allocator
    /// may round up.
    pub fn bytes_for(capacity: usize) -> usize {
        let (root, nodes, pages) = arenas(capacity);
        let nodes = nodes.next_multiple_of(1 << BITS_MAX);
        (root + nodes) * size_of::<Slot>() + Cells::<K>::bytes_for(pages)
    }

    /// An index for up to `capacity` entries under a hash of the caller's own.
    ///
    /// # Errors
    ///
    /// As [`try_new`](LcIndex::try_new).
    pub fn try_with_hash(hash: H, capacity: usize) -> Result<Self, ReserveError> {
        const { assert!(K::BITS <= 0xff00, "node positions are 16 bits") };
        let mut index = Self {
            root: Vec::new(),
            mask: 0,
            nodes: Arena::new(BITS_MAX),
            cells: Cells::empty(K::from_words(K::Words::default())),
            len: 0,
            capacity: 0,
            load: LOAD,
            hand: 0,
            hash,
            work: Work::default(),
        };
        index.reserve_total(capacity)?;
        index.root.push(Slot::EMPTY);
        Ok(index)
    }

    /// Raises the capacity by `additional` entries.
    ///
    /// The one operation whose cost is not bounded by a constant: the allocator may copy all memory. It happens only when
    /// asked for. Existing entries keep their places.
    ///
    /// # Errors
    ///
    /// As [`try_new`](LcIndex::try_new); the capacity is then unchanged.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        self.reserve_total(self.capacity.saturating_add(additional))
    }

    fn reserve_total(&mut self, capacity: usize) -> Result<(), ReserveError> {
        if capacity > CAPACITY_MAX {
            return Err(ReserveError::TooMany);
        }
        let (root, nodes, pages) = arenas(capacity);
        self.root
            .try_reserve_exact(root.saturating_sub(self.root.len()))?;
        self.nodes.reserve(nodes)?;
        self.cells.reserve(pages)?;
        self.capacity = capacity;
        self.load = load(capacity);
        Ok(())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most entries that the index may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What edits have moved so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Bytes reserved for [`capacity`](Self::capacity) entries, all parts counted.
    pub fn reserved_bytes(&self) -> usize {
        self.root.capacity() * size_of::<Slot>() + self.nodes.bytes().0 + self.cells.bytes().0
    }

    /// Bytes of the reserved ones that were ever touched: what an operating system has really handed out, page rounding
    /// aside.
    pub fn touched_bytes(&self) -> usize {
        self.root.len() * size_of::<Slot>() + self.nodes.bytes().1 + self.cells.bytes().1
    }

    /// The header of `key` in this index, for the `_hashed` calls: hash once, use often.
    #[inline]
    pub fn header(&self, key: &K) -> u64 {
        self.hash.header(key)
    }

    /// The header of all keys of which a NIC's hash is `hash`, if this index's headers are made of such hashes.
    #[inline]
    pub fn header_of_nic(&self, hash: u32) -> Option<u64> {
        self.hash.header_of_nic(hash)
    }

    /// The id of `key`. Cost: expected one slot and one cell.
    #[inline]
    pub fn find(&self, key: &K) -> Option<u32> {
        self.find_hashed(self.header(key), key)
    }

    /// The id of `key`, whose [`header`](Self::header) is `header`; with another header the answer is `None` or right.
    #[inline]
    pub fn find_hashed(&self, header: u64, key: &K) -> Option<u32> {
        let slot = *self.root.get(self.root_index(header))?;
        let matches = slot.matches(tag(header));
        if matches != 0 {
            let place = (matches.trailing_zeros() / 8) as usize;
            let cell = self.cells.get(slot.base() as usize + place)?;
            if cell.key == *key {
                return Some(cell.id);
            }
        } else if !slot.is_node() {
            return None;
        }
        self.find_slow(header, key)
    }

    /// The ids of `keys`, in order, into `ids`; as many as the shorter of both has.
    ///
    /// Equal to [`find`](Self::find) for each, but done stage by stage over groups of 32, so that the cache misses of a
    /// group overlap. Any length is fine; 32 and more get the most from it. A table so small that nothing misses is searched
    /// key by key, which is then faster.
    #[inline]
    pub fn find_many(&self, keys: &[K], ids: &mut [Option<u32>]) {
        if self.len <= SMALL {
            for (key, id) in keys.iter().zip(ids) {
                *id = self.find(key);
            }
            return;
        }
        for (keys, ids) in keys.chunks(STAGE).zip(ids.chunks_mut(STAGE)) {
            let mut headers = [0; STAGE];
            for (header, key) in headers.iter_mut().zip(keys) {
                *header = self.header(key);
            }
            self.find_group(&headers, keys, ids);
        }
    }

    /// [`find_many`](Self::find_many) with headers that the caller has already; as many as the shortest slice has.
    #[inline]
    pub fn find_many_hashed(&self, headers: &[u64], keys: &[K], ids: &mut [Option<u32>]) {
        let groups = headers.chunks(STAGE).zip(keys.chunks(STAGE));
        for ((headers, keys), ids) in groups.zip(ids.chunks_mut(STAGE)) {
            self.find_group(headers, keys, ids);
        }
    }

    /// Reads what inserting or removing keys with these headers is going to read, side by side, so that the cache misses overlap;
    /// what it gives means nothing. A table so small that nothing misses is left alone. Cost: one slot, one cell and its page each.
    #[inline]
    pub(crate) fn warm_many_hashed(&self, headers: &[u64]) -> u64 {
        if self.len <= SMALL {
            return 0;
        }
        let mut read = 0;
        for headers in headers.chunks(STAGE) {
            let mut slots = [Slot::EMPTY; STAGE];
            for (slot, &header) in slots.iter_mut().zip(headers) {
                *slot = self.slot(self.root_at(header));
            }
            for slot in slots.iter().filter(|slot| !slot.is_node()) {
                read ^= self.cells.warm(slot.base());
            }
        }
        read
    }

    /// At most [`STAGE`] lookups side by side.
    #[inline]
    fn find_group(&self, headers: &[u64], keys: &[K], ids: &mut [Option<u32>]) {
        // Where each lookup goes on: its candidate cell, or one of these two.
        const MISS: u32 = u32::MAX;
        const SLOW: u32 = u32::MAX - 1;
        let mut candidates = [MISS; STAGE];
        let mut indexes = [0u32; STAGE];
        for (index, &header) in indexes.iter_mut().zip(headers.iter().take(keys.len())) {
            *index = self.root_index(header) as u32;
        }
        // A load whose value is wanted by nobody is all that safe code has for a prefetch: so few instructions each that the
        // whole group's loads are under way at once.
        let touched = indexes.iter().take(keys.len()).fold(0, |touched, &index| {
            touched ^ self.root.get(index as usize).map_or(0, |slot| slot.word)
        });
        core::hint::black_box(touched);
        let stage = candidates.iter_mut().zip(indexes).zip(headers);
        for ((candidate, index), &header) in stage.take(keys.len()) {
            let slot = self
                .root
                .get(index as usize)
                .copied()
                .unwrap_or(Slot::EMPTY);
            let matches = slot.matches(tag(header));
            let hit = slot.base().wrapping_add(matches.trailing_zeros() / 8);
            let none = if slot.is_node() { SLOW } else { MISS };
            *candidate = if matches != 0 { hit } else { none };
        }
        let touched = candidates
            .iter()
            .take(keys.len())
            .fold(0, |touched, &cell| {
                touched ^ self.cells.get(cell as usize).map_or(0, |cell| cell.id)
            });
        core::hint::black_box(touched);
        let lookups = candidates.iter().zip(headers).zip(keys);
        for (((&candidate, &header), key), id) in lookups.zip(ids) {
            *id = match self.cells.get(candidate as usize) {
                Some(cell) if cell.key == *key => Some(cell.id),
                None if candidate == MISS => None,
                _ => self.find_slow(header, key),
            };
        }
    }

    /// Lookup without shortcuts: all candidates of a bucket, all levels.
    #[cold]
    #[inline(never)]
    fn find_slow(&self, header: u64, key: &K) -> Option<u32> {
        let place = self.locate(header, key)?;
        Some(self.cells.get(place.cell)?.id)
    }

    /// The subtree that `key` belongs to: what a NIC can carry in place of the hash ([`find_from`](Self::find_from)).
    #[inline]
    pub fn subtree(&self, key: &K) -> Subtree {
        let header = self.header(key);
        Subtree(header as u32 & Subtree::PATH | ((header >> 57) as u32) << Subtree::PATH_BITS)
    }

    /// The id of `key`, looked for in `subtree` alone, without hashing; `None` when it is not there, be it elsewhere or not.
    ///
    /// Cost: as [`find_hashed`](Self::find_hashed) where the subtree is one bucket (98 % of them); otherwise the key is
    /// hashed after all.
    ///
    /// ```
    /// use gufc::trie::{LcIndex, Subtree};
    /// use core::net::Ipv4Addr;
    ///
    /// let mut index = LcIndex::try_new([1, 2], 10)?;
    /// let key = Ipv4Addr::new(192, 0, 2, 1);
    /// index.insert(&key, 1)?;
    /// let cookie: u32 = index.subtree(&key).to_bits();
    /// assert_eq!(index.find_from(Subtree::from_bits(cookie), &key), Some(1));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[inline]
    pub fn find_from(&self, subtree: Subtree, key: &K) -> Option<u32> {
        let known =
            u64::from(subtree.0 & Subtree::PATH) | u64::from(subtree.0 >> Subtree::PATH_BITS) << 57;
        let in_reach = self.mask <= Subtree::PATH as usize;
        if in_reach && !self.slot(self.root_at(known)).is_node() {
            return self.find_hashed(known, key);
        }
        let header = self.header(key);
        (self.subtree(key) == subtree).then(|| self.find_hashed(header, key))?
    }

    /// Whether `key` is here, and how much was read to find out.
    pub fn trace(&self, key: &K) -> Trace {
        let header = self.header(key);
        let mut trace = Trace::default();
        let mut at = self.root_at(header);
        let bits = Bits::new(header, key.words());
        loop {
            let slot = self.slot(at);
            trace.slots += 1;
            match slot.view() {
                View::Empty => return trace,
                View::Node(node) => at = child(node, &bits),
                View::Bucket(bucket) => {
                    let mut matches = slot.matches(tag(header));
                    while matches != 0 {
                        trace.cells += 1;
                        let place = (matches.trailing_zeros() / 8) as usize;
                        let cell = self.cells.get(bucket.base as usize + place);
                        if cell.is_some_and(|cell| cell.key == *key) {
                            trace.found = true;
                            return trace;
                        }
                        matches &= matches - 1;
                    }
                    return trace;
                }
            }
        }
    }

    #[inline]
    pub(super) fn root_index(&self, header: u64) -> usize {
        let index = header as usize & self.mask;
        // All ones where the slot of the longer index is not there yet. Written as arithmetic because which of both it is
        // cannot be predicted, and a compiler given an `if` here has been seen to branch.
        let missing = (self.root.len().wrapping_sub(1).wrapping_sub(index) as isize
            >> (isize::BITS - 1)) as usize;
        index & !(missing & !(self.mask >> 1))
    }

    #[inline]
    pub(super) fn root_at(&self, header: u64) -> At {
        At::Root(self.root_index(header))
    }

    #[inline]
    pub(super) fn slot(&self, at: At) -> Slot {
        match at {
            At::Root(index) => self.root.get(index).copied().unwrap_or(Slot::EMPTY),
            At::Node(index) => self.nodes.get(index),
        }
    }

    /// The entry of `key`: its slot, its place in the bucket, its cell.
    #[inline]
    pub(super) fn locate(&self, header: u64, key: &K) -> Option<Place> {
        let at = self.root_at(header);
        let slot = self.slot(at);
        if slot.is_node() {
            return self.locate_below(slot, header, key);
        }
        self.locate_in(at, slot, header, key)
    }

    /// [`locate`](Self::locate) under a node of the root.
    #[cold]
    #[inline(never)]
    fn locate_below(&self, mut slot: Slot, header: u64, key: &K) -> Option<Place> {
        let bits = Bits::new(header, key.words());
        let mut at = self.root_at(header);
        while let View::Node(node) = slot.view() {
            at = child(node, &bits);
            slot = self.slot(at);
        }
        self.locate_in(at, slot, header, key)
    }

    /// [`locate`](Self::locate) in a slot that has no node.
    #[inline]
    fn locate_in(&self, at: At, slot: Slot, header: u64, key: &K) -> Option<Place> {
        let mut matches = slot.matches(tag(header));
        while matches != 0 {
            let place = (matches.trailing_zeros() / 8) as usize;
            let cell = slot.base() as usize + place;
            if self.cells.get(cell)?.key == *key {
                return Some(Place { at, place, cell });
            }
            matches &= matches - 1;
        }
        None
    }

    /// The string of an entry.
    pub(super) fn bits_of(&self, cell: &Cell<K>) -> Bits<K::Words> {
        Bits::new(self.hash.header(&cell.key), cell.key.words())
    }
}

/// A part of the header's space, small enough that a lookup can begin there: 25 bits of path and a tag of 7.
///
/// It names a place among all possible headers, not in the structure: it never goes stale, needs no generation, and a wrong
/// one costs a miss. That is what makes it fit to be a cookie of 32 bits which a NIC returns with each packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subtree(u32);

impl Subtree {
    const PATH_BITS: u32 = 25;
    const PATH: u32 = (1 << Self::PATH_BITS) - 1;

    /// As a number, for a cookie.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From the number of [`to_bits`](Self::to_bits), or any other.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// How much a lookup read ([`LcIndex::trace`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Slots: one for each level.
    pub slots: u32,
    /// Cells: candidates whose tag matched.
    pub cells: u32,
    /// Whether the key was found.
    pub found: bool,
}

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Root(usize),
    Node(Child),
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) at: At,
    pub(super) place: usize,
    pub(super) cell: usize,
}

/// The child of `node` that the string leads to.
#[inline]
pub(super) fn child<W: Copy + AsRef<[u64]> + Ord>(node: Node, bits: &Bits<W>) -> At {
    At::Node(node.base + bits.take(node.position, node.bits) as u32)
}
