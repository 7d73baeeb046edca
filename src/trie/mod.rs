//! From keys to numbers: the index of the flow cache, behind the interface that every key's index has.
//!
//! For now an ordered map stands behind it; the LC-trie takes its place without a change to its users.

use alloc::collections::BTreeMap;
use core::fmt;

use crate::key::{Address, FlowKey, SevenTuple, Tuple};

/// A key that says what indexes it: how a key type of a dataplane's own joins.
pub trait Indexed: FlowKey {
    /// Its index.
    type Index: KeyIndex<Self>;
}

/// From keys to numbers of the caller's choice.
pub trait KeyIndex<K>: fmt::Debug {
    /// An index of at most `capacity` keys, hashed under a secret seed.
    fn with_capacity(seed: [u64; 2], capacity: usize) -> Self;

    /// The number of a key.
    fn find(&self, key: &K) -> Option<u32>;

    /// The numbers of many keys; `found` is as long as `keys`.
    fn find_many(&self, keys: &[K], found: &mut [Option<u32>]);

    /// Gives a key a number, and gives back the one that it had.
    ///
    /// # Errors
    ///
    /// [`Full`].
    fn insert(&mut self, key: K, number: u32) -> Result<Option<u32>, Full>;

    /// Takes a key out.
    fn remove(&mut self, key: &K) -> Option<u32>;

    /// How many keys there are.
    fn len(&self) -> usize;

    /// Bytes that it has allocated.
    fn bytes(&self) -> usize;

    /// Whether there is no key.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// There are as many keys as the owner allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the index is full")
    }
}

impl core::error::Error for Full {}

/// An ordered map.
#[derive(Clone, Debug)]
pub struct OrderedIndex<K> {
    map: BTreeMap<K, u32>,
    capacity: usize,
}

impl<K: FlowKey> KeyIndex<K> for OrderedIndex<K> {
    fn with_capacity(_seed: [u64; 2], capacity: usize) -> Self {
        Self {
            map: BTreeMap::new(),
            capacity,
        }
    }

    fn find(&self, key: &K) -> Option<u32> {
        self.map.get(key).copied()
    }

    fn find_many(&self, keys: &[K], found: &mut [Option<u32>]) {
        for (key, found) in keys.iter().zip(found) {
            *found = self.find(key);
        }
    }

    fn insert(&mut self, key: K, number: u32) -> Result<Option<u32>, Full> {
        if self.map.len() >= self.capacity && !self.map.contains_key(&key) {
            return Err(Full);
        }
        Ok(self.map.insert(key, number))
    }

    fn remove(&mut self, key: &K) -> Option<u32> {
        self.map.remove(key)
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn bytes(&self) -> usize {
        self.map.len() * (size_of::<K>() + size_of::<u32>())
    }
}

impl<A: Address> Indexed for SevenTuple<A> {
    type Index = OrderedIndex<Self>;
}

impl Indexed for Tuple {
    type Index = OrderedIndex<Self>;
}
