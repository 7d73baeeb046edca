//! Walking the entries: a plain iterator, and a cursor that survives edits because the trie's order is that of its strings.
//!
//! Apart because a cursor is a position among all possible entries, not a place in the structure: a hash table cannot offer
//! that.

use core::fmt;

use super::bits::Bits;
use super::cells::Cell;
use super::header::HeaderHash;
use super::index::{At, LcIndex, child};
use super::slot::{Slot, View};
use crate::key::Key;

/// A position in trie order: before all entries, or just after the entry of some key, be it still there or not.
///
/// Trie order is that of headers (lowest bit first), then keys. It does not depend on the trie's shape, so growth, removal
/// and insertion between two steps neither skip nor repeat an entry that is there throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<K> {
    after: Option<(u64, K)>,
}

impl<K> Cursor<K> {
    /// Before all entries.
    pub const fn new() -> Self {
        Self { after: None }
    }

    pub(super) fn key(&self) -> Option<&K> {
        self.after.as_ref().map(|(_, key)| key)
    }

    pub(super) fn map<L>(self, into: impl FnOnce(K) -> L) -> Cursor<L> {
        Cursor {
            after: self.after.map(|(header, key)| (header, into(key))),
        }
    }
}

impl<K: Key> Cursor<K> {
    /// Just after where `key` is or would be.
    pub fn after<H: HeaderHash>(index: &LcIndex<K, H>, key: &K) -> Self {
        Self {
            after: Some((index.header(key), *key)),
        }
    }
}

impl<K> Default for Cursor<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, H: HeaderHash> LcIndex<K, H> {
    /// The entry after `cursor`, which then stands just after that entry; `None` at the end, and the cursor stays.
    ///
    /// Cost: expected O(1); at most the empty slots on the way and O(64 + `K::BITS`).
    ///
    /// ```
    /// use gufc::trie::{Cursor, LcIndex};
    /// use core::net::Ipv4Addr;
    ///
    /// let mut index = LcIndex::try_new([1, 2], 100)?;
    /// for host in 0..100 {
    ///     index.insert(&Ipv4Addr::from_bits(host), host)?;
    /// }
    /// // Removes half of the entries while walking over them.
    /// let (mut cursor, mut seen) = (Cursor::new(), 0);
    /// while let Some((key, id)) = index.next(&mut cursor) {
    ///     seen += 1;
    ///     if id % 2 == 0 {
    ///         index.remove(&key);
    ///     }
    /// }
    /// assert_eq!((seen, index.len()), (100, 50));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn next(&self, cursor: &mut Cursor<K>) -> Option<(K, u32)> {
        let cell = match cursor.after {
            None => self.least_from(0)?,
            Some((header, key)) => {
                let bits = Bits::new(header, key.words());
                let slot = self.slot(self.root_at(header));
                match self.successor(slot, &bits) {
                    Some(cell) => cell,
                    None => self.least_from(self.slot_after(header.reverse_bits())?)?,
                }
            }
        };
        cursor.after = Some((self.header(&cell.key), cell.key));
        Some((cell.key, cell.id))
    }

    /// All entries, in no particular order. Cost: O(entries + slots).
    pub fn iter(&self) -> Iter<'_, K, H> {
        Iter {
            index: self,
            root: 0,
            state: State::Slot,
            left: self.len,
        }
    }

    /// The least entry in the root's slots from the one that holds position `turned` on. Positions are headers turned
    /// around.
    fn least_from(&self, turned: u64) -> Option<Cell<K>> {
        let mut turned = turned;
        loop {
            let slot = self.slot(self.root_at(turned.reverse_bits()));
            if let Some(cell) = self.least(slot) {
                return Some(cell);
            }
            turned = self.slot_after(turned)?;
        }
    }

    /// Where the slot after the one that holds position `turned` begins.
    fn slot_after(&self, turned: u64) -> Option<u64> {
        let low = turned.reverse_bits() as usize & self.mask >> 1;
        let twin = low + self.mask.div_ceil(2);
        let bits = self.mask.count_ones();
        // A slot without a twin stands for both values of the mask's highest bit.
        let width = if twin < self.root.len() {
            bits
        } else {
            bits.saturating_sub(1)
        };
        if width == 0 {
            return None;
        }
        let step = 1u64 << (64 - width);
        (turned & !(step - 1)).checked_add(step)
    }

    fn least(&self, slot: Slot) -> Option<Cell<K>> {
        let mut slot = slot;
        while let View::Node(node) = slot.view() {
            slot = *self
                .nodes
                .block(node.base, node.bits)
                .iter()
                .find(|slot| !slot.is_empty())?;
        }
        self.least_above(slot, None)
    }

    /// The least entry of a bucket, above `bits` if given.
    fn least_above(&self, slot: Slot, bits: Option<&Bits<K::Words>>) -> Option<Cell<K>> {
        let View::Bucket(bucket) = slot.view() else {
            return None;
        };
        self.cells
            .run(bucket.base, bucket.count)
            .iter()
            .map(|cell| (self.bits_of(cell), cell))
            .filter(|(other, _)| bits.is_none_or(|bits| other > bits))
            .min_by_key(|(other, _)| *other)
            .map(|(_, cell)| *cell)
    }

    /// The least entry under `slot` that is above `bits`.
    fn successor(&self, slot: Slot, bits: &Bits<K::Words>) -> Option<Cell<K>> {
        let near = self.bits_of(&self.near(slot, bits)?);
        let differ = bits.first_difference(&near).unwrap_or(u32::MAX);
        let mut slot = slot;
        // The nearest subtree that is wholly above.
        let mut above = Slot::EMPTY;
        while let View::Node(node) = slot.view() {
            if node.position > differ {
                // All below lies on one side of `bits`.
                return self.least(if near > *bits { slot } else { above });
            }
            let At::Node(index) = child(node, bits) else {
                return None;
            };
            let place = (index - node.base) as usize;
            let after = self.nodes.block(node.base, node.bits).get(place + 1..)?;
            if let Some(&next) = after.iter().find(|slot| !slot.is_empty()) {
                above = next;
            }
            slot = self.nodes.get(index);
        }
        self.least_above(slot, Some(bits))
            .or_else(|| self.least(above))
    }
}

/// Iterator over all entries of an [`LcIndex`].
pub struct Iter<'a, K: Key, H> {
    index: &'a LcIndex<K, H>,
    root: usize,
    state: State<K>,
    left: usize,
}

/// Where the iterator is in the root's slot `root`.
enum State<K> {
    /// At its beginning.
    Slot,
    /// It is a bucket: the next cell, and how many are left.
    Bucket(u32, usize),
    /// It is a node: the entry before.
    Node(Cell<K>),
}

impl<K: Key, H: HeaderHash> Iterator for Iter<'_, K, H> {
    type Item = (K, u32);

    fn next(&mut self) -> Option<(K, u32)> {
        loop {
            let slot = *self.index.root.get(self.root)?;
            let found = match (&self.state, slot.view()) {
                (State::Slot, View::Bucket(bucket)) => {
                    self.state = State::Bucket(bucket.base, bucket.count);
                    continue;
                }
                (&State::Bucket(cell, left), _) if left > 0 => {
                    self.state = State::Bucket(cell + 1, left - 1);
                    self.index.cells.get(cell as usize).copied()
                }
                (State::Slot, View::Node(_)) => self.index.least(slot),
                (State::Node(before), _) => self.index.successor(slot, &self.index.bits_of(before)),
                _ => None,
            };
            match found {
                None => {
                    self.root += 1;
                    self.state = State::Slot;
                }
                Some(cell) => {
                    if slot.is_node() {
                        self.state = State::Node(cell);
                    }
                    self.left = self.left.saturating_sub(1);
                    return Some((cell.key, cell.id));
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K: Key, H: HeaderHash> ExactSizeIterator for Iter<'_, K, H> {}

impl<K: Key, H> fmt::Debug for Iter<'_, K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("left", &self.left).finish()
    }
}

impl<'a, K: Key, H: HeaderHash> IntoIterator for &'a LcIndex<K, H> {
    type Item = (K, u32);
    type IntoIter = Iter<'a, K, H>;

    fn into_iter(self) -> Iter<'a, K, H> {
        self.iter()
    }
}
