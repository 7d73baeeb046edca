//! Prefixes to values, with handles: the index, and a slab beside it.

use alloc::vec::Vec;

use super::bits::Width;
use super::check::Stats;
use super::head::PrefixIndex;
use super::prefix_type::Prefix;
use super::{Full, ReserveError, Work};
use crate::key::Key;

/// Prefixes of keys, each with a value.
///
/// A [`PrefixIndex`] whose numbers are those of values in a slab: a value stays in its place while its prefix is there, and a
/// [`Handle`] finds it without a walk. Cost: as the index, and one cache line for the value.
///
/// ```
/// use gufc::trie::prefix::{Prefix, PrefixTrie};
/// use core::net::Ipv4Addr;
///
/// let mut names = PrefixTrie::try_new(1_000)?;
/// let net = Prefix::new(Ipv4Addr::new(10, 0, 0, 0), 8).unwrap();
/// names.insert(net, "ours")?;
/// let handle = names.handle(net).unwrap();
/// assert_eq!(names.longest(Ipv4Addr::new(10, 1, 2, 3)), Some((net, &"ours")));
/// assert_eq!(names.remove(net), Some("ours"));
/// assert_eq!(names.get_by(handle), None);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PrefixTrie<K: Key, V>
where
    K::Words: Width,
{
    index: PrefixIndex<K>,
    places: Vec<Place<K, V>>,
    /// Places without a value.
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Place<K, V> {
    /// Meaningless without a value.
    prefix: Prefix<K>,
    /// Changes when the value goes.
    generation: u32,
    value: Option<V>,
}

/// The name of a prefix and its value: holds while the prefix is there, whatever else comes and goes.
///
/// A place in the slab must be given to 2^32 other prefixes before an old handle names one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    place: u32,
    generation: u32,
}

impl<K: Key, V> PrefixTrie<K, V>
where
    K::Words: Width,
{
    /// A trie for up to `capacity` prefixes.
    ///
    /// # Errors
    ///
    /// As [`PrefixIndex::try_new`].
    pub fn try_new(capacity: usize) -> Result<Self, ReserveError> {
        let mut trie = Self {
            index: PrefixIndex::try_new(capacity)?,
            places: Vec::new(),
            free: Vec::new(),
        };
        trie.reserve_places()?;
        Ok(trie)
    }

    /// As [`PrefixIndex::try_reserve`].
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new).
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        self.index.try_reserve(additional)?;
        self.reserve_places()
    }

    fn reserve_places(&mut self) -> Result<(), ReserveError> {
        let wanted = self.index.capacity();
        let more = wanted.saturating_sub(self.places.len());
        self.places.try_reserve_exact(more)?;
        let more = wanted.saturating_sub(self.free.len());
        Ok(self.free.try_reserve_exact(more)?)
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be.
    pub fn capacity(&self) -> usize {
        self.index.capacity()
    }

    /// The index, from prefixes to places in the slab: its walks, its subtrees and its size.
    pub fn index(&self) -> &PrefixIndex<K> {
        &self.index
    }

    /// The value in a place that [`index`](Self::index) has named.
    #[inline]
    pub fn at(&self, number: u32) -> Option<&V> {
        self.places.get(number as usize)?.value.as_ref()
    }

    /// Gives a prefix a value, and gives back the one that it had.
    ///
    /// # Errors
    ///
    /// As [`PrefixIndex::insert`].
    pub fn insert(&mut self, prefix: Prefix<K>, value: V) -> Result<Option<V>, Full> {
        if let Some(old) = self.get_mut(prefix) {
            return Ok(Some(core::mem::replace(old, value)));
        }
        let number = match self.free.last() {
            Some(number) => *number,
            None => self.places.len() as u32,
        };
        self.index.insert(prefix, number)?;
        self.free.pop();
        match self.places.get_mut(number as usize) {
            Some(place) => {
                place.prefix = prefix;
                place.value = Some(value);
            }
            // Reserved for every prefix: does not reallocate.
            None => self.places.push(Place {
                prefix,
                generation: 0,
                value: Some(value),
            }),
        }
        Ok(None)
    }

    /// Takes a prefix out.
    pub fn remove(&mut self, prefix: Prefix<K>) -> Option<V> {
        let number = self.index.remove(prefix)?;
        let place = self.places.get_mut(number as usize)?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(number);
        place.value.take()
    }

    /// Takes all out. Cost: O(places used).
    pub fn clear(&mut self) {
        self.index.clear();
        for (number, place) in self.places.iter_mut().enumerate() {
            if place.value.take().is_some() {
                place.generation = place.generation.wrapping_add(1);
                self.free.push(number as u32);
            }
        }
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Prefix<K>) -> Option<&V> {
        self.at(self.index.get(prefix)?)
    }

    /// The value of exactly this prefix, to change.
    pub fn get_mut(&mut self, prefix: Prefix<K>) -> Option<&mut V> {
        let number = self.index.get(prefix)?;
        self.places.get_mut(number as usize)?.value.as_mut()
    }

    /// The longest prefix that `key` has, and its value.
    #[inline]
    pub fn longest(&self, key: K) -> Option<(Prefix<K>, &V)> {
        let (prefix, number) = self.index.longest(key)?;
        Some((prefix, self.at(number)?))
    }

    /// The longest prefix that `key` has, and its value to change.
    pub fn longest_mut(&mut self, key: K) -> Option<(Prefix<K>, &mut V)> {
        let (prefix, number) = self.index.longest(key)?;
        let value = self.places.get_mut(number as usize)?.value.as_mut()?;
        Some((prefix, value))
    }

    /// As [`PrefixIndex::longest_many`].
    pub fn longest_many<'a>(&'a self, keys: &[K], found: &mut [Option<(Prefix<K>, &'a V)>]) {
        const STAGE: usize = 32;
        for (keys, found) in keys.chunks(STAGE).zip(found.chunks_mut(STAGE)) {
            let mut numbers = [None; STAGE];
            self.index.longest_many(keys, &mut numbers);
            for (place, number) in found.iter_mut().zip(numbers).take(keys.len()) {
                *place = number.and_then(|(prefix, number)| Some((prefix, self.at(number)?)));
            }
        }
    }

    /// As [`PrefixIndex::covering`].
    pub fn covering(&self, prefix: Prefix<K>) -> impl DoubleEndedIterator<Item = (Prefix<K>, &V)> {
        let covering = self.index.covering(prefix);
        covering.filter_map(|(prefix, number)| Some((prefix, self.at(number)?)))
    }

    /// All prefixes in order.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix<K>, &V)> {
        let all = self.index.iter();
        all.filter_map(|(prefix, number)| Some((prefix, self.at(number)?)))
    }

    /// As [`PrefixIndex::within`].
    pub fn within(&self, prefix: Prefix<K>) -> impl Iterator<Item = (Prefix<K>, &V)> {
        let within = self.index.within(prefix);
        within.filter_map(|(prefix, number)| Some((prefix, self.at(number)?)))
    }

    /// The handle of exactly this prefix.
    pub fn handle(&self, prefix: Prefix<K>) -> Option<Handle> {
        let place = self.index.get(prefix)?;
        let generation = self.places.get(place as usize)?.generation;
        Some(Handle { place, generation })
    }

    /// The prefix and value that a handle names, if they are still there. Cost: O(1), no walk.
    pub fn get_by(&self, handle: Handle) -> Option<(Prefix<K>, &V)> {
        let place = self.places.get(handle.place as usize)?;
        let value = place.value.as_ref()?;
        (place.generation == handle.generation).then_some((place.prefix, value))
    }

    /// The value that a handle names, to change.
    pub fn get_by_mut(&mut self, handle: Handle) -> Option<&mut V> {
        let place = self.places.get_mut(handle.place as usize)?;
        if place.generation == handle.generation {
            place.value.as_mut()
        } else {
            None
        }
    }

    /// Takes the prefix that a handle names out.
    pub fn remove_by(&mut self, handle: Handle) -> Option<(Prefix<K>, V)> {
        let (prefix, _) = self.get_by(handle)?;
        Some((prefix, self.remove(prefix)?))
    }

    /// As [`PrefixIndex::work`].
    pub fn work(&self) -> Work {
        self.index.work()
    }

    /// As [`PrefixIndex::stats`], with the slab's bytes.
    pub fn stats(&self) -> Stats {
        let mut stats = self.index.stats();
        stats.bytes_reserved += self.places.capacity() * size_of::<Place<K, V>>();
        stats.bytes_reserved += self.free.capacity() * size_of::<u32>();
        stats.bytes_touched += self.places.len() * size_of::<Place<K, V>>();
        stats.bytes_touched += self.free.len() * size_of::<u32>();
        stats
    }

    /// Tests every invariant. Cost: O(everything).
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        self.index.check()?;
        if self.len() + self.free.len() != self.places.len() {
            return Err("places are miscounted");
        }
        for (prefix, number) in &self.index {
            match self.places.get(number as usize) {
                Some(place) if place.value.is_some() && place.prefix == prefix => {}
                _ => return Err("a prefix's place is not its own"),
            }
        }
        Ok(())
    }
}
