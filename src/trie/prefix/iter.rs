//! Ordered walks: all prefixes, those inside one, those that cover one; and cursors that survive edits.
//!
//! A walk goes from slot to slot: it gathers what lies in one, in order, and then looks for the slot behind it from the root.
//! So it needs no stack, and stands at an address rather than in the structure.

use core::fmt;

use super::bits::{Bits, Width};
use super::head::PrefixIndex;
use super::index::{BUCKET, Index, LEVELS_MAX, ROOT};
use super::lookup::{Found, Walk};
use super::prefix_type::{BitsOf, Prefix};
use super::slot::{Bucket, Cell, Slot, View};
use crate::key::Key;

/// As many as can cover one address, and one bucket.
const GATHERED_MAX: usize = LEVELS_MAX + 1 + BUCKET;

/// Prefixes in order, taken from both ends: first some that all cover one string, each by its length; then a bucket's.
#[derive(Clone, Copy)]
pub(super) struct Gathered<B> {
    /// Length and number of each.
    items: [(u8, u32); GATHERED_MAX],
    first: usize,
    end: usize,
    /// The string that those before `own` cover.
    covering: B,
    /// From here on each has bits of its own.
    own: usize,
    bits: [B; BUCKET],
}

impl<B: Bits> Gathered<B> {
    pub(super) fn new() -> Self {
        Self {
            items: [(0, 0); GATHERED_MAX],
            first: 0,
            end: 0,
            covering: B::default(),
            own: usize::MAX,
            bits: [B::default(); BUCKET],
        }
    }

    fn push(&mut self, len: u32, number: u32) {
        if let Some(place) = self.items.get_mut(self.end) {
            *place = (len as u8, number);
            self.end += 1;
        }
    }

    fn item(&self, at: usize) -> Option<(B, Found)> {
        let (len, number) = *self.items.get(at)?;
        let len = u32::from(len);
        let bits = match at.checked_sub(self.own) {
            Some(own) => *self.bits.get(own)?,
            None => self.covering,
        };
        Some((bits.first(len), Found { number, len }))
    }

    fn pop(&mut self) -> Option<(B, Found)> {
        if self.first == self.end {
            return None;
        }
        self.first += 1;
        self.item(self.first - 1)
    }

    fn pop_last(&mut self) -> Option<(B, Found)> {
        if self.first == self.end {
            return None;
        }
        self.end -= 1;
        self.item(self.end)
    }
}

impl<B: Bits> Index<B> {
    /// Adds the chain of a slot's cover, the shortest first, as far as it is not longer than `len`.
    fn gather_chain(&self, slot: Slot, len: u32, found: &mut Gathered<B>) {
        let from = found.end;
        let mut id = slot.cover().map_or(0, |cover| cover.id);
        while id != 0 {
            let record = self.record(id);
            if record.len <= len {
                found.push(record.len, record.number);
            }
            id = record.parent;
        }
        if let Some(chain) = found.items.get_mut(from..found.end) {
            chain.reverse();
        }
    }

    fn gather_bucket(&self, bucket: Bucket, path: B, depth: u32, found: &mut Gathered<B>) {
        let mut entries = [None; BUCKET];
        for (entry, cell) in entries.iter_mut().zip(self.cells_of(bucket)) {
            *entry = Some(self.entry(cell, path, depth));
        }
        entries.sort_unstable_by_key(|entry| entry.map(|entry| (entry.bits, entry.len)));
        found.own = found.end;
        for (own, entry) in entries.into_iter().flatten().enumerate() {
            if let Some(place) = found.bits.get_mut(own) {
                *place = entry.bits;
            }
            found.push(entry.len, entry.number);
        }
    }

    /// Gathers all that lies in the first slot that is not empty at or behind `at`, and on the way there, in order; gives
    /// where the next one begins. What began before `at` comes too.
    fn gather(&self, at: B, found: &mut Gathered<B>) -> Option<B> {
        *found = Gathered::new();
        let mut at = at;
        let (mut slot, mut depth) = (self.slot(ROOT), 0);
        loop {
            self.gather_chain(slot, B::WIDTH, found);
            match slot.view() {
                View::Empty => break,
                View::Bucket(bucket) => {
                    self.gather_bucket(bucket, at, depth, found);
                    break;
                }
                View::Node(node) => {
                    let agreed = self.agreeing(node, at, depth);
                    if agreed < node.skip {
                        if at.skip(depth + agreed).top() >> 63 == 1 {
                            break;
                        }
                        at = self.through(node, at, depth);
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
        found.covering = at;
        at.last(depth).next()
    }

    /// Gathers all that cover a prefix, the shortest first.
    fn gather_covering(&self, bits: B, len: u32, found: &mut Gathered<B>) {
        found.covering = bits;
        let (mut slot, mut depth) = (self.slot(ROOT), 0);
        loop {
            self.gather_chain(slot, len, found);
            if depth >= len {
                return;
            }
            match slot.view() {
                View::Empty => return,
                View::Bucket(bucket) => {
                    for cell in self.cells_of(bucket) {
                        let entry = self.entry(cell, bits, depth);
                        let own = Cell::new(bits.skip(depth).top(), cell.len(), cell.number);
                        let covers = if cell.is_long() {
                            entry.bits.common(bits) >= entry.len
                        } else {
                            own == cell
                        };
                        if entry.len <= len && covers {
                            found.push(entry.len, entry.number);
                        }
                    }
                    let from = found.end - found.end.min(bucket.count as usize);
                    if let Some(tail) = found.items.get_mut(from..found.end) {
                        tail.sort_unstable_by_key(|(len, _)| *len);
                    }
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

/// Prefixes in order, each with its number.
#[derive(Clone)]
pub struct Iter<'a, K: Key>
where
    K::Words: Width,
{
    index: &'a Index<BitsOf<K>>,
    cursor: Cursor<K>,
    /// Where the slot behind the gathered one begins.
    behind: Option<BitsOf<K>>,
    gathered: Gathered<BitsOf<K>>,
}

impl<'a, K: Key> Iter<'a, K>
where
    K::Words: Width,
{
    pub(super) fn new(index: &'a PrefixIndex<K>, cursor: Cursor<K>) -> Self {
        Self {
            index: &index.index,
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

impl<K: Key> Iterator for Iter<'_, K>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, u32);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some((bits, found)) = self.gathered.pop() {
                let prefix = Prefix::of(bits, found.len);
                if self.cursor.wants(&prefix) {
                    self.cursor.after = Some(prefix);
                    return Some((prefix, found.number));
                }
            }
            let within = self.cursor.within;
            let end = within.bits().last(u32::from(within.len));
            self.cursor.at = self.behind.filter(|at| *at <= end);
            self.behind = self.index.gather(self.cursor.at?, &mut self.gathered);
        }
    }
}

impl<K: Key> fmt::Debug for Iter<'_, K>
where
    K::Words: Width,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Iter").field(&self.cursor).finish()
    }
}

/// The prefixes that cover one, each with its number, the shortest first; from the back the longest first.
#[derive(Clone)]
pub struct Covering<K: Key>
where
    K::Words: Width,
{
    gathered: Gathered<BitsOf<K>>,
}

impl<K: Key> Covering<K>
where
    K::Words: Width,
{
    pub(super) fn new(index: &PrefixIndex<K>, prefix: Prefix<K>) -> Self {
        let mut gathered = Gathered::new();
        let len = u32::from(prefix.len);
        index
            .index
            .gather_covering(prefix.bits(), len, &mut gathered);
        Self { gathered }
    }
}

fn item<K: Key>((bits, found): (BitsOf<K>, Found)) -> (Prefix<K>, u32)
where
    K::Words: Width,
{
    (Prefix::of(bits, found.len), found.number)
}

impl<K: Key> Iterator for Covering<K>
where
    K::Words: Width,
{
    type Item = (Prefix<K>, u32);

    fn next(&mut self) -> Option<Self::Item> {
        self.gathered.pop().map(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.gathered.end - self.gathered.first;
        (left, Some(left))
    }
}

impl<K: Key> DoubleEndedIterator for Covering<K>
where
    K::Words: Width,
{
    fn next_back(&mut self) -> Option<Self::Item> {
        self.gathered.pop_last().map(item)
    }
}

impl<K: Key> ExactSizeIterator for Covering<K> where K::Words: Width {}

impl<K: Key> fmt::Debug for Covering<K>
where
    K::Words: Width,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
