//! Ordered walks: all prefixes, those inside one, those that cover one; and cursors that survive edits.
//!
//! A walk goes from slot to slot: it gathers what lies in one, in order, and then looks for the slot behind it from the root.
//! So it needs no stack, and stands at an address rather than in the structure.

use core::fmt;

use super::bits::{Bits, Width};
use super::index::{BUCKET, Id, Index, LEVELS_MAX, ROOT};
use super::lookup::Walk;
use super::slot::{Bucket, Node, Slot, View};
use super::{BitsOf, Prefix, PrefixTrie};
use crate::key::Key;

/// As many as can cover one address, and one bucket.
const GATHERED_MAX: usize = LEVELS_MAX + 1 + BUCKET;

/// Numbers of prefixes in the order of the prefixes, taken from both ends.
#[derive(Clone)]
pub(super) struct Gathered {
    ids: [Id; GATHERED_MAX],
    first: usize,
    end: usize,
}

impl Gathered {
    const fn new() -> Self {
        Self {
            ids: [0; GATHERED_MAX],
            first: 0,
            end: 0,
        }
    }

    fn clear(&mut self) {
        (self.first, self.end) = (0, 0);
    }

    fn push(&mut self, id: Id) {
        if let Some(place) = self.ids.get_mut(self.end) {
            *place = id;
            self.end += 1;
        }
    }

    fn pop(&mut self) -> Option<Id> {
        let id = *self.ids.get(self.first..self.end)?.first()?;
        self.first += 1;
        Some(id)
    }

    fn pop_last(&mut self) -> Option<Id> {
        let id = *self.ids.get(self.first..self.end)?.last()?;
        self.end -= 1;
        Some(id)
    }

    fn tail(&mut self, from: usize) -> &mut [Id] {
        self.ids.get_mut(from..self.end).unwrap_or(&mut [])
    }
}

impl<B: Bits> Index<B> {
    /// Adds the chain of a slot's cover, the shortest first.
    fn gather_chain(&self, slot: Slot, found: &mut Gathered) {
        let from = found.end;
        let mut id = slot.cover().map_or(0, |cover| cover.id);
        while id != 0 {
            found.push(id);
            id = self.record(id).parent;
        }
        found.tail(from).reverse();
    }

    fn gather_bucket(&self, bucket: Bucket, found: &mut Gathered) {
        let from = found.end;
        for cell in self.bucket(bucket.base, bucket.order) {
            if cell.id() != 0 {
                found.push(cell.id());
            }
        }
        found.tail(from).sort_unstable_by_key(|id| {
            let record = self.record(*id);
            (record.bits, record.len())
        });
    }

    /// Gathers all that lies in the first slot that is not empty at or behind `at`, and on the way there, in order; gives
    /// where the next one begins. What began before `at` comes too.
    fn gather(&self, at: B, found: &mut Gathered) -> Option<B> {
        let mut at = at;
        let (mut slot, mut depth) = (self.slot(ROOT), 0);
        loop {
            self.gather_chain(slot, found);
            match slot.view() {
                View::Empty => break,
                View::Bucket(bucket) => {
                    self.gather_bucket(bucket, found);
                    break;
                }
                View::Node(node) => {
                    let agreed = self.agreeing(node, at, depth);
                    if agreed < node.skip {
                        if at.skip(depth + agreed).top() >> 63 == 1 {
                            break;
                        }
                        at = self.first_of(node, at, depth);
                    }
                    let inner = depth + node.skip + node.bits;
                    let mut index = Self::child(node, at, depth) - node.base;
                    let from = index;
                    let child = loop {
                        let child = self.slot(node.base + index);
                        if !child.is_empty() || child.cover_word() != 0 || index + 1 == node.size()
                        {
                            break child;
                        }
                        index += 1;
                    };
                    if index != from {
                        at = at
                            .with(inner - node.bits, node.bits, index.into())
                            .first(inner);
                    }
                    (slot, depth) = (child, inner);
                }
            }
        }
        at.last(depth).next()
    }

    /// The lowest string in a node of a slot of `depth` that has `at`.
    fn first_of(&self, node: Node, at: B, depth: u32) -> B {
        if node.long {
            self.record(node.skipped).bits.first(depth + node.skip)
        } else {
            let skipped = u64::from(node.skipped) >> (32 - node.skip);
            at.with(depth, node.skip, skipped).first(depth + node.skip)
        }
    }

    /// Gathers all that cover a prefix, the shortest first.
    fn gather_covering(&self, bits: B, len: u32, found: &mut Gathered) {
        let (mut slot, mut depth) = (self.slot(ROOT), 0);
        loop {
            let from = found.end;
            self.gather_chain(slot, found);
            while found.end > from && self.record(found.ids[found.end - 1]).len() > len {
                found.end -= 1;
            }
            if depth >= len {
                return;
            }
            match slot.view() {
                View::Empty => return,
                View::Bucket(bucket) => {
                    let from = found.end;
                    for cell in self.bucket(bucket.base, bucket.order) {
                        let record = self.record(cell.id());
                        if cell.id() != 0
                            && record.len() <= len
                            && record.bits.common(bits) >= record.len()
                        {
                            found.push(cell.id());
                        }
                    }
                    found
                        .tail(from)
                        .sort_unstable_by_key(|id| self.record(*id).len());
                    return;
                }
                View::Node(node) => {
                    if self.agreeing(node, bits, depth).min(len - depth) < node.skip {
                        return;
                    }
                    slot = self.slot(Self::child(node, bits, depth));
                    depth += node.skip + node.bits;
                }
            }
        }
    }

    /// The deepest slot that holds all of a prefix, and a lookup that has come to it.
    pub(super) fn descend(&self, bits: B, len: u32) -> (Slot, Walk<B>) {
        let mut slot = self.slot(ROOT);
        let mut walk = Walk::new(bits);
        while let View::Node(node) = slot.view() {
            let depth = walk.depth + node.skip + node.bits;
            if depth > len || self.agreeing(node, bits, walk.depth) < node.skip {
                break;
            }
            walk.pass(slot);
            slot = self.slot(Self::child(node, bits, walk.depth));
            walk.depth = depth;
        }
        (slot, walk)
    }
}

/// A place in the order of prefixes that edits do not disturb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<K: Key>
where
    K::Words: Width,
{
    within: Prefix<K>,
    /// Nothing before it is left to be seen; `None` at the end.
    at: Option<BitsOf<K>>,
    /// The last one seen.
    after: Option<Prefix<K>>,
}

impl<K: Key> Cursor<K>
where
    K::Words: Width,
{
    /// Before the first of the prefixes that `prefix` covers.
    pub fn within(prefix: Prefix<K>) -> Self {
        Self {
            within: prefix,
            at: Some(prefix.bits()),
            after: None,
        }
    }

    fn wants(&self, prefix: &Prefix<K>) -> bool {
        self.within.covers(prefix) && self.after.is_none_or(|after| *prefix > after)
    }
}

/// Prefixes in order, each with its value.
pub struct Iter<'a, K: Key, V>
where
    K::Words: Width,
{
    trie: &'a PrefixTrie<K, V>,
    cursor: Cursor<K>,
    /// Where the slot behind the gathered one begins.
    behind: Option<BitsOf<K>>,
    gathered: Gathered,
}

impl<'a, K: Key, V> Iter<'a, K, V>
where
    K::Words: Width,
{
    pub(super) fn new(trie: &'a PrefixTrie<K, V>, cursor: Cursor<K>) -> Self {
        Self {
            trie,
            cursor,
            behind: cursor.at,
            gathered: Gathered::new(),
        }
    }

    /// Where the walk stands: behind the last prefix that it gave.
    pub fn cursor(&self) -> Cursor<K> {
        self.cursor
    }
}

impl<'a, K: Key, V> Iterator for Iter<'a, K, V>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let index = &self.trie.index;
        loop {
            while let Some(id) = self.gathered.pop() {
                let record = index.record(id);
                let prefix = Prefix::of(record.bits, record.len());
                if self.cursor.wants(&prefix) {
                    self.cursor.after = Some(prefix);
                    return Some((prefix, self.trie.value(id)?));
                }
            }
            let end = self
                .cursor
                .within
                .bits()
                .last(u32::from(self.cursor.within.len));
            self.cursor.at = self.behind.filter(|at| *at <= end);
            let at = self.cursor.at?;
            self.gathered.clear();
            self.behind = index.gather(at, &mut self.gathered);
        }
    }
}

impl<K: Key, V> Clone for Iter<'_, K, V>
where
    K::Words: Width,
{
    fn clone(&self) -> Self {
        Self {
            gathered: self.gathered.clone(),
            ..*self
        }
    }
}

impl<K: Key, V> fmt::Debug for Iter<'_, K, V>
where
    K::Words: Width,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Iter").field(&self.cursor).finish()
    }
}

/// The prefixes that cover one, the shortest first; from the back the longest first.
pub struct Covering<'a, K: Key, V>
where
    K::Words: Width,
{
    trie: &'a PrefixTrie<K, V>,
    gathered: Gathered,
}

impl<'a, K: Key, V> Covering<'a, K, V>
where
    K::Words: Width,
{
    pub(super) fn new(trie: &'a PrefixTrie<K, V>, prefix: Prefix<K>) -> Self {
        let mut gathered = Gathered::new();
        let len = u32::from(prefix.len);
        trie.index
            .gather_covering(prefix.bits(), len, &mut gathered);
        Self { trie, gathered }
    }

    fn item(&self, id: Id) -> Option<(Prefix<K>, &'a V)> {
        let record = self.trie.index.record(id);
        Some((Prefix::of(record.bits, record.len()), self.trie.value(id)?))
    }
}

impl<'a, K: Key, V> Iterator for Covering<'a, K, V>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.gathered.pop()?;
        self.item(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.gathered.end - self.gathered.first;
        (left, Some(left))
    }
}

impl<K: Key, V> DoubleEndedIterator for Covering<'_, K, V>
where
    K::Words: Width,
{
    fn next_back(&mut self) -> Option<Self::Item> {
        let id = self.gathered.pop_last()?;
        self.item(id)
    }
}

impl<K: Key, V> ExactSizeIterator for Covering<'_, K, V> where K::Words: Width {}

impl<K: Key, V> Clone for Covering<'_, K, V>
where
    K::Words: Width,
{
    fn clone(&self) -> Self {
        Self {
            gathered: self.gathered.clone(),
            ..*self
        }
    }
}

impl<K: Key, V> fmt::Debug for Covering<'_, K, V>
where
    K::Words: Width,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes = self.clone().map(|(prefix, _)| prefix);
        f.debug_list().entries(prefixes).finish()
    }
}
