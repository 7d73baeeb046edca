//! Prefixes to numbers: the index that everything with prefixes is made of.

use super::bits::{Bits, Width};
use super::check::Stats;
use super::index::Index;
use super::iter::{Covering, Cursor, Iter};
use super::lookup::{Found, STAGE, Walk};
use super::prefix_type::{BitsOf, Prefix, bits};
use super::slot::Slot;
use super::{Full, ReserveError, Work};
use crate::key::Key;

/// Prefixes of keys, each with a number of the caller's choice: a dynamic LC-trie in key order.
///
/// The number is typically an index into a table of the caller's, say of next hops; numbers need not differ. It lies beside
/// the prefix, so that a lookup touches nothing else.
///
/// Memory for `capacity` prefixes is reserved at the beginning and when asked for; no other operation allocates. With `l` the
/// number of levels, in practice 1 to 4 (IPv4) or 3 to 8 (IPv6) and never more than the key's bits:
///
/// | operation | cost |
/// |---|---|
/// | [`longest`](Self::longest) | `l` slots and at most one line of eight cells |
/// | [`get`](Self::get) | the same |
/// | [`insert`](Self::insert), [`remove`](Self::remove) | the same, and O(1) slots and cells amortised, at most [`MOVES_MAX`](super::MOVES_MAX) |
/// | [`covering`](Self::covering), [`within`](Self::within) | the same, and O(1) for each prefix found |
///
/// ```
/// use gufc::trie::prefix::{Prefix, PrefixIndex};
/// use core::net::Ipv4Addr;
///
/// let mut routes = PrefixIndex::try_new(1_000)?;
/// let net = |a, b, len| Prefix::new(Ipv4Addr::new(a, b, 0, 0), len).unwrap();
/// routes.insert(net(10, 0, 8), 1)?;
/// routes.insert(net(10, 1, 16), 2)?;
/// let hit = |last| routes.longest(last).map(|(_, number)| number);
/// assert_eq!(hit(Ipv4Addr::new(10, 1, 2, 3)), Some(2));
/// assert_eq!(hit(Ipv4Addr::new(10, 2, 2, 3)), Some(1));
/// assert_eq!(hit(Ipv4Addr::new(11, 2, 2, 3)), None);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PrefixIndex<K: Key>
where
    K::Words: Width,
{
    pub(super) index: Index<BitsOf<K>>,
}

impl<K: Key> PrefixIndex<K>
where
    K::Words: Width,
{
    /// An index for up to `capacity` prefixes.
    ///
    /// Some 90 bytes a prefix are reserved (more for IPv6), of which a full table uses a fifth; where the operating system hands
    /// memory out page by page the rest stays unused.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when `capacity` is above [`CAPACITY_MAX`](super::CAPACITY_MAX) or memory is short.
    pub fn try_new(capacity: usize) -> Result<Self, ReserveError> {
        Ok(Self {
            index: Index::try_new(capacity)?,
        })
    }

    /// Raises the capacity by `additional`. The allocator may copy all memory: the one cost here that no constant bounds.
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new); the capacity is then unchanged.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        self.index.try_reserve(additional)
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

    /// Gives a prefix a number, and gives back the one that it had.
    ///
    /// # Errors
    ///
    /// [`Full`] when there are as many prefixes as the capacity allows. After many removals the same can come earlier, where
    /// nodes that have not halved yet hold the memory that a prefix far from all others would need.
    pub fn insert(&mut self, prefix: Prefix<K>, number: u32) -> Result<Option<u32>, Full> {
        self.index
            .insert(prefix.bits(), u32::from(prefix.len), number)
    }

    /// Takes a prefix out.
    pub fn remove(&mut self, prefix: Prefix<K>) -> Option<u32> {
        self.index.remove(prefix.bits(), u32::from(prefix.len))
    }

    /// Takes all out, and keeps the memory.
    pub fn clear(&mut self) {
        self.index.clear();
    }

    /// The number of exactly this prefix.
    pub fn get(&self, prefix: Prefix<K>) -> Option<u32> {
        let spot = self.index.find(prefix.bits(), u32::from(prefix.len))?;
        Some(self.index.number(spot))
    }

    /// The longest prefix that `key` has, and its number.
    #[inline]
    pub fn longest(&self, key: K) -> Option<(Prefix<K>, u32)> {
        let bits = bits(key);
        entry(bits, self.index.longest(bits))
    }

    /// [`longest`](Self::longest) for each of `keys`, into the place of the same index in `found`; what is beyond the shorter
    /// of the two is left alone.
    ///
    /// Lookups go a level at a time, 32 together, so that the machine's caches are waited for together.
    pub fn longest_many(&self, keys: &[K], found: &mut [Option<(Prefix<K>, u32)>]) {
        for (keys, found) in keys.chunks(STAGE).zip(found.chunks_mut(STAGE)) {
            let mut strings = [BitsOf::<K>::default(); STAGE];
            for (string, key) in strings.iter_mut().zip(keys) {
                *string = bits(*key);
            }
            self.index
                .longest_stage(&strings, keys.len(), |lane, result| {
                    if let (Some(place), Some(bits)) = (found.get_mut(lane), strings.get(lane)) {
                        *place = entry(*bits, result);
                    }
                });
        }
    }

    /// All prefixes that cover `prefix`, itself included, the shortest first; from the back the longest first.
    pub fn covering(&self, prefix: Prefix<K>) -> Covering<K> {
        Covering::new(self, prefix)
    }

    /// All prefixes in order.
    pub fn iter(&self) -> Iter<'_, K> {
        self.within(Prefix::of(BitsOf::<K>::default(), 0))
    }

    /// All prefixes that `prefix` covers, itself included, in order.
    pub fn within(&self, prefix: Prefix<K>) -> Iter<'_, K> {
        Iter::new(self, Cursor::within(prefix))
    }

    /// Goes on with an ordered walk where `cursor` stands, whatever was inserted and removed since.
    pub fn resume(&self, cursor: Cursor<K>) -> Iter<'_, K> {
        Iter::new(self, cursor)
    }

    /// The part of the trie that `prefix` covers, as a place to begin lookups from.
    pub fn subtree(&self, prefix: Prefix<K>) -> Subtree<'_, K> {
        let (slot, walk) = self.index.descend(prefix.bits(), u32::from(prefix.len));
        Subtree {
            index: self,
            prefix,
            slot,
            walk,
        }
    }

    /// Slots and cells moved and tested by edits since the beginning.
    pub fn work(&self) -> Work {
        self.index.work
    }

    /// Shape and size. Cost: O(everything).
    pub fn stats(&self) -> Stats {
        self.index.stats()
    }

    /// Tests every invariant. Cost: O(everything).
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        self.index.check()
    }
}

#[inline(always)]
pub(super) fn entry<K: Key>(bits: BitsOf<K>, found: Found) -> Option<(Prefix<K>, u32)>
where
    K::Words: Width,
{
    // All of it is made whether it is wanted or not, so that nothing need be guessed.
    let prefix = Prefix::of(bits, found.len);
    found.some().map(|found| (prefix, found.number))
}

impl<'a, K: Key> IntoIterator for &'a PrefixIndex<K>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, u32);
    type IntoIter = Iter<'a, K>;

    fn into_iter(self) -> Iter<'a, K> {
        self.iter()
    }
}

/// What a [`PrefixIndex`] holds below a prefix: lookups of addresses there save the levels above.
///
/// It knows the prefixes above too, so that its answers are the whole index's.
#[derive(Clone, Copy, Debug)]
pub struct Subtree<'a, K: Key>
where
    K::Words: Width,
{
    index: &'a PrefixIndex<K>,
    prefix: Prefix<K>,
    slot: Slot,
    walk: Walk<BitsOf<K>>,
}

impl<'a, K: Key> Subtree<'a, K>
where
    K::Words: Width,
{
    /// The prefix that all of it has.
    pub fn prefix(&self) -> Prefix<K> {
        self.prefix
    }

    /// The longest prefix of the whole index that `key` has; `None` for a key outside of the subtree's prefix.
    pub fn longest(&self, key: K) -> Option<(Prefix<K>, u32)> {
        if !self.prefix.contains(key) {
            return None;
        }
        let bits = bits(key);
        let walk = Walk {
            rest: bits.skip(self.walk.depth),
            ..self.walk
        };
        let found = self.index.index.longest_from(self.slot, walk, bits);
        entry(bits, found)
    }

    /// All prefixes in it, in order.
    pub fn iter(&self) -> Iter<'a, K> {
        self.index.within(self.prefix)
    }
}

impl<'a, K: Key> IntoIterator for &Subtree<'a, K>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, u32);
    type IntoIter = Iter<'a, K>;

    fn into_iter(self) -> Iter<'a, K> {
        self.iter()
    }
}
