//! The raw head of the LC-trie: prefixes in key order, for routes, prefix sets and aggregated flows.
//!
//! Apart from the hashed head because the question is another: not "is this key here" but "which of the prefixes here that
//! this address has is the longest", and which cover it, and which lie inside.
//!
//! ```text
//!                       root: 2^b slots for the first b bits
//!   [ .  ][ 10.0/9  ][ 10.0/9 ][ bucket ][ node ] ...           in each slot: the longest prefix ("cover") that ends
//!            node                            |                  within the node, and what lies below
//!             |                              |  skip 3 bits
//!   [ 10.1/16 ][  ][ bucket ][ ]         [ ..][ ..]
//!                      |
//!        | - | - | /18 | /22 | /24 | /24 | /24 | /24 |          a bucket: up to eight longer prefixes in one cache line,
//!                                                               shortest first; the last that matches is the longest
//! ```
//!
//! Level compression: a node of `2^b` slots stands for `b` levels of the binary trie, and doubles or halves as its slots fill
//! and empty (`resize`). Path compression: bits that all prefixes below have in common, none of them ending there, are
//! skipped, and compared on the way down. Leaves are buckets, as in the hashed head: a cache line full of prefixes is tested
//! in less time than one more line takes to come.
//!
//! # No backtracking
//!
//! In Linux's trie a lookup that ends in the wrong leaf climbs back up to shorter prefixes, pruned by the longest suffix
//! below each node. Here a prefix that ends inside a node is known to every slot that it holds (controlled prefix expansion,
//! Srinivasan and Varghese 1999, but within one node), so that the way down has met all that cover the address, and the last
//! one met is the longest. The price is that a short prefix is written to up to `2^b` slots: that is what bounds a node's size.
//! The shorter ones of several that hold the same slot hang behind the longest in a chain, so that taking a prefix out finds
//! what it hid.
//!
//! # Sources
//!
//! Nilsson and Karlsson 1999 (level and path compression, prefix chains); Nilsson and Tikkanen 2002 (inflating and halving);
//! Olsson and Duyck in Linux's `fib_trie` (thresholds, skipped bits told by one exclusive-or, and the halving that one full
//! child vetoed); Srinivasan and Varghese 1999 (prefix expansion).

mod arena;
mod bits;
mod check;
mod cidr_map;
mod index;
mod iter;
mod lookup;
mod resize;
mod slot;
mod update;

#[cfg(test)]
mod tests;

pub use bits::{Bits, Width};
pub use check::Stats;
pub use cidr_map::{MapHandle, PrefixMap};
pub use index::CAPACITY_MAX;
pub use iter::{Covering, Cursor, Iter};

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;

use crate::key::Key;
use index::{Id, Index, Record};
use lookup::{Found, Walk};

/// A prefix of a [`Key`]: its first `len` bits. The others are zero.
///
/// Ordered as bit strings are: by bits, then the shorter first, so that a prefix stands before all that it covers.
///
/// ```
/// use gufc::trie::prefix::Prefix;
/// use core::net::Ipv4Addr;
///
/// let net = Prefix::new(Ipv4Addr::new(10, 1, 2, 3), 8).unwrap();
/// assert_eq!(net.to_string(), "10.0.0.0/8");
/// assert!(net.contains(Ipv4Addr::new(10, 9, 9, 9)));
/// assert!(Prefix::new(Ipv4Addr::UNSPECIFIED, 33).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<K> {
    first: K,
    len: u8,
}

impl<K: Key> Prefix<K>
where
    K::Words: Width,
{
    /// The prefix of `len` bits that `key` has; `None` when `len` is above `K::BITS`.
    pub fn new(key: K, len: u8) -> Option<Self> {
        (u32::from(len) <= K::BITS).then(|| Self::of(bits(key), u32::from(len)))
    }

    /// The prefix that only `key` has.
    pub fn host(key: K) -> Self {
        Self {
            first: key,
            len: K::BITS as u8,
        }
    }

    /// The lowest key that has the prefix.
    pub fn first(&self) -> K {
        self.first
    }

    /// The highest key that has the prefix.
    pub fn last(&self) -> K {
        K::from_words(Width::words(self.bits().last(u32::from(self.len))))
    }

    /// Length in bits.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix has a length and no contents"
    )]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether `key` begins with the prefix.
    pub fn contains(&self, key: K) -> bool {
        self.bits().common(bits(key)) >= u32::from(self.len)
    }

    /// Whether every key that has `other` has this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.first)
    }

    fn of(bits: BitsOf<K>, len: u32) -> Self {
        Self {
            first: K::from_words(Width::words(bits.first(len))),
            len: len as u8,
        }
    }

    fn bits(&self) -> BitsOf<K> {
        bits(self.first)
    }
}

impl<K: fmt::Display> fmt::Display for Prefix<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.len)
    }
}

type BitsOf<K> = <<K as Key>::Words as Width>::Bits;

fn bits<K: Key>(key: K) -> BitsOf<K>
where
    K::Words: Width,
{
    key.words().bits()
}

/// Prefixes of keys, each with a value: a dynamic LC-trie in key order.
///
/// Memory for `capacity` prefixes is reserved at the beginning and when asked for; no other operation allocates. With `l` the
/// number of levels, in practice 1 to 4 and never more than the key's bits:
///
/// | operation | cost |
/// |---|---|
/// | [`longest`](Self::longest) | `l` slots and at most one bucket of eight cells |
/// | [`get`](Self::get) | the same |
/// | [`insert`](Self::insert), [`remove`](Self::remove) | the same, and O(1) slots and cells amortised, at most [`MOVES_MAX`] |
/// | [`covering`](Self::covering), [`within`](Self::within) | the same, and O(1) for each prefix found |
///
/// ```
/// use gufc::trie::prefix::{Prefix, PrefixTrie};
/// use core::net::Ipv4Addr;
///
/// let mut routes = PrefixTrie::try_new(1_000)?;
/// let net = |a, b, len| Prefix::new(Ipv4Addr::new(a, b, 0, 0), len).unwrap();
/// routes.insert(net(10, 0, 8), "wide")?;
/// routes.insert(net(10, 1, 16), "narrow")?;
/// let hit = |last| routes.longest(last).map(|(_, value)| *value);
/// assert_eq!(hit(Ipv4Addr::new(10, 1, 2, 3)), Some("narrow"));
/// assert_eq!(hit(Ipv4Addr::new(10, 2, 2, 3)), Some("wide"));
/// assert_eq!(hit(Ipv4Addr::new(11, 2, 2, 3)), None);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PrefixTrie<K: Key, V>
where
    K::Words: Width,
{
    index: Index<BitsOf<K>>,
    values: Vec<Option<V>>,
}

/// The name of a prefix and its value: holds while the prefix is there, whatever else comes and goes.
///
/// After the prefix was removed and its number given to 2^24 others, an old handle may name one of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    id: u32,
    generation: u32,
}

/// Most slots and cells that one insertion or removal moves.
pub const MOVES_MAX: u64 =
    resize::LOOKS_MAX as u64 + (2 << index::BITS_MAX) + 4 * index::BUCKET as u64;

/// What edits have cost since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Slots and cells written.
    pub moved: u64,
    /// Slots looked at besides, to count them anew or to collapse them.
    pub tested: u64,
    /// Nodes doubled.
    pub inflated: u64,
    /// Nodes halved.
    pub halved: u64,
}

/// No room for one more prefix; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for one more prefix")
    }
}

impl core::error::Error for Full {}

/// Why memory could not be reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReserveError {
    /// More prefixes than can be numbered: [`CAPACITY_MAX`].
    TooMany,
    /// The allocator refused.
    Memory(TryReserveError),
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "more than {CAPACITY_MAX} prefixes"),
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

impl<K: Key, V> PrefixTrie<K, V>
where
    K::Words: Width,
{
    /// A trie for up to `capacity` prefixes.
    ///
    /// Some 100 bytes a prefix are reserved, of which a full table uses half; where the operating system hands memory out page by
    /// page the rest stays unused.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when `capacity` is above [`CAPACITY_MAX`] or memory is short.
    pub fn try_new(capacity: usize) -> Result<Self, ReserveError> {
        let mut trie = Self {
            index: Index::try_new(capacity)?,
            values: Vec::new(),
        };
        trie.reserve_values()?;
        Ok(trie)
    }

    /// Raises the capacity by `additional`. The allocator may copy all memory: the one cost here that no constant bounds.
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new); the capacity is then unchanged.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        self.index.try_reserve(additional)?;
        self.reserve_values()
    }

    fn reserve_values(&mut self) -> Result<(), ReserveError> {
        let wanted = self.index.capacity + 1;
        Ok(self
            .values
            .try_reserve_exact(wanted.saturating_sub(self.values.len()))?)
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.index.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be.
    pub fn capacity(&self) -> usize {
        self.index.capacity
    }

    /// Gives a prefix a value, and gives back the one that it had.
    ///
    /// # Errors
    ///
    /// [`Full`] when there are as many prefixes as the capacity allows. After many removals the same can come earlier, where
    /// nodes that have not halved yet hold the memory that a prefix far from all others would need.
    pub fn insert(&mut self, prefix: Prefix<K>, value: V) -> Result<Option<V>, Full> {
        let (id, new) = self.index.insert(prefix.bits(), u32::from(prefix.len))?;
        if self.values.len() <= id as usize {
            // Reserved for every number: does not reallocate.
            self.values.resize_with(id as usize + 1, || None);
        }
        let old = match self.values.get_mut(id as usize) {
            Some(place) => place.replace(value),
            None => None,
        };
        debug_assert_eq!(new, old.is_none());
        Ok(old)
    }

    /// Takes a prefix out.
    pub fn remove(&mut self, prefix: Prefix<K>) -> Option<V> {
        let id = self.index.remove(prefix.bits(), u32::from(prefix.len))?;
        self.values.get_mut(id as usize)?.take()
    }

    /// Takes all out. Cost: O(capacity used).
    pub fn clear(&mut self) {
        self.index.clear();
        self.values.clear();
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Prefix<K>) -> Option<&V> {
        self.value(self.find(prefix)?)
    }

    /// The value of exactly this prefix, to change.
    pub fn get_mut(&mut self, prefix: Prefix<K>) -> Option<&mut V> {
        let id = self.find(prefix)?;
        self.values.get_mut(id as usize)?.as_mut()
    }

    /// The longest prefix that `key` has, and its value.
    #[inline]
    pub fn longest(&self, key: K) -> Option<(Prefix<K>, &V)> {
        let bits = bits(key);
        self.entry(bits, self.index.longest(bits))
    }

    /// The value of the longest prefix that `key` has, to change.
    pub fn longest_mut(&mut self, key: K) -> Option<(Prefix<K>, &mut V)> {
        let bits = bits(key);
        let found = self.index.longest(bits);
        let value = self.values.get_mut(found.id as usize)?.as_mut()?;
        Some((Prefix::of(bits, found.len), value))
    }

    /// [`longest`](Self::longest) for each of `keys`, into the place of the same index in `found`; what is beyond the shorter
    /// of the two is left alone.
    ///
    /// Lookups go a level at a time, 32 together, so that the machine's caches are waited for together.
    pub fn longest_many<'a>(&'a self, keys: &[K], found: &mut [Option<(Prefix<K>, &'a V)>]) {
        const STAGE: usize = 32;
        for (keys, found) in keys.chunks(STAGE).zip(found.chunks_mut(STAGE)) {
            let mut strings = [BitsOf::<K>::default(); STAGE];
            let count = keys.len().min(found.len());
            for (string, key) in strings.iter_mut().zip(keys) {
                *string = bits(*key);
            }
            let strings = strings.get(..count).unwrap_or(&[]);
            self.index.longest_many(strings, |index, one| {
                if let (Some(place), Some(bits)) = (found.get_mut(index), strings.get(index)) {
                    *place = self.entry(*bits, one);
                }
            });
        }
    }

    /// All prefixes that cover `prefix`, itself included, the shortest first.
    pub fn covering(&self, prefix: Prefix<K>) -> Covering<'_, K, V> {
        Covering::new(self, prefix)
    }

    /// All prefixes in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.within(Prefix::of(BitsOf::<K>::default(), 0))
    }

    /// All prefixes that `prefix` covers, itself included, in order.
    pub fn within(&self, prefix: Prefix<K>) -> Iter<'_, K, V> {
        Iter::new(self, Cursor::within(prefix))
    }

    /// Goes on with an ordered walk where `cursor` stands, whatever was inserted and removed since.
    pub fn resume(&self, cursor: Cursor<K>) -> Iter<'_, K, V> {
        Iter::new(self, cursor)
    }

    /// The part of the trie that `prefix` covers, as a place to begin lookups from.
    pub fn subtree(&self, prefix: Prefix<K>) -> Subtree<'_, K, V> {
        let bits = prefix.bits();
        let (slot, walk) = self.index.descend(bits, u32::from(prefix.len));
        Subtree {
            trie: self,
            prefix,
            slot,
            walk,
        }
    }

    /// The handle of exactly this prefix.
    pub fn handle(&self, prefix: Prefix<K>) -> Option<Handle> {
        let id = self.find(prefix)?;
        let generation = self.index.record(id).generation();
        Some(Handle { id, generation })
    }

    /// The prefix and value that a handle names, if they are still there. Cost: O(1), no walk.
    pub fn get_by(&self, handle: Handle) -> Option<(Prefix<K>, &V)> {
        let record = self.named(handle)?;
        Some((
            Prefix::of(record.bits, record.len()),
            self.value(handle.id)?,
        ))
    }

    /// The value that a handle names, to change.
    pub fn get_by_mut(&mut self, handle: Handle) -> Option<&mut V> {
        self.named(handle)?;
        self.values.get_mut(handle.id as usize)?.as_mut()
    }

    /// Takes the prefix that a handle names out.
    pub fn remove_by(&mut self, handle: Handle) -> Option<(Prefix<K>, V)> {
        let record = self.named(handle)?;
        let prefix = Prefix::of(record.bits, record.len());
        Some((prefix, self.remove(prefix)?))
    }

    /// Slots and cells moved and tested by edits since the beginning.
    pub fn work(&self) -> Work {
        self.index.work
    }

    /// Shape and size. Cost: O(everything).
    pub fn stats(&self) -> Stats {
        let mut stats = self.index.stats();
        stats.bytes_reserved += self.values.capacity() * size_of::<Option<V>>();
        stats.bytes_touched += self.values.len() * size_of::<Option<V>>();
        stats
    }

    /// Tests every invariant. Cost: O(everything).
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        self.index.check()?;
        let held = self.values.iter().filter(|value| value.is_some()).count();
        if held != self.len() {
            return Err("values are miscounted");
        }
        Ok(())
    }

    fn find(&self, prefix: Prefix<K>) -> Option<Id> {
        self.index.find(prefix.bits(), u32::from(prefix.len))
    }

    fn named(&self, handle: Handle) -> Option<Record<BitsOf<K>>> {
        self.index
            .alive(handle.id)
            .filter(|record| record.generation() == handle.generation)
    }

    #[inline]
    fn value(&self, id: Id) -> Option<&V> {
        self.values.get(id as usize)?.as_ref()
    }

    #[inline]
    fn entry(&self, bits: BitsOf<K>, found: Found) -> Option<(Prefix<K>, &V)> {
        let value = self.value(found.id)?;
        Some((Prefix::of(bits, found.len), value))
    }
}

/// What a [`PrefixTrie`] holds below a prefix: lookups of addresses there save the levels above.
///
/// It knows the prefixes above too, so that its answers are the trie's.
#[derive(Debug)]
pub struct Subtree<'a, K: Key, V>
where
    K::Words: Width,
{
    trie: &'a PrefixTrie<K, V>,
    prefix: Prefix<K>,
    slot: slot::Slot,
    walk: Walk<BitsOf<K>>,
}

impl<'a, K: Key, V> Subtree<'a, K, V>
where
    K::Words: Width,
{
    /// The prefix that all of it has.
    pub fn prefix(&self) -> Prefix<K> {
        self.prefix
    }

    /// The longest prefix of the whole trie that `key` has; `None` for a key outside of the subtree's prefix.
    pub fn longest(&self, key: K) -> Option<(Prefix<K>, &'a V)> {
        if !self.prefix.contains(key) {
            return None;
        }
        let bits = bits(key);
        let walk = Walk {
            rest: bits.skip(self.walk.depth),
            ..self.walk
        };
        let found = self.trie.index.longest_from(self.slot, walk, bits);
        self.trie.entry(bits, found)
    }

    /// All prefixes in it, in order.
    pub fn iter(&self) -> Iter<'a, K, V> {
        self.trie.within(self.prefix)
    }
}

impl<K: Key, V> Clone for Subtree<'_, K, V>
where
    K::Words: Width,
{
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Key, V> Copy for Subtree<'_, K, V> where K::Words: Width {}

impl<'a, K: Key, V> IntoIterator for &Subtree<'a, K, V>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K: Key, V> IntoIterator for &'a PrefixTrie<K, V>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}
