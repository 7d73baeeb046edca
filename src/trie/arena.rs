//! Where slots and cells lie: blocks of a power of two in one reserved arena, kept by a buddy allocator.
//!
//! Apart because the bound on wasted memory is proved here alone. A block's address is a multiple of its size, so a node's
//! block falls into the blocks of its two halves without a move, and a freed block joins its free buddy at once (Knowlton 1965).
//! Free blocks are chained through their own items. Both heads of the trie keep their slots here, and the raw head its cells.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Largest block of any arena: `2^ORDER_MAX` items.
const ORDER_MAX: u32 = 13;
/// Smallest block: two items, which is what a free one's chain takes.
pub(super) const ORDER_MIN: u32 = 1;

const NONE: u32 = u32::MAX;

/// What lies in an arena: something that a free block can be chained through.
pub(super) trait Item: Copy + Default {
    /// The first two items of a free block of `2^order` with these neighbours.
    fn chain(order: u32, previous: u32, next: u32) -> [Self; 2];
    /// Reads them; `None` for a block in use.
    fn chained(block: [Self; 2]) -> Option<(u32, u32, u32)>;
}

/// How the items lie in memory.
pub(super) trait Store: Default {
    type Item: Item;
    fn reserve(&mut self, items: usize) -> Result<(), TryReserveError>;
    fn len(&self) -> usize;
    /// Adds default items up to `len`, a whole largest block more than before, within what is reserved.
    fn grow(&mut self, len: usize);
    fn clear(&mut self);
    fn get(&self, index: u32) -> Self::Item;
    fn set(&mut self, index: u32, item: Self::Item);
    /// Bytes reserved, and of these, bytes ever touched.
    fn bytes(&self) -> (usize, usize);
}

/// One after the other.
impl<I: Item> Store for Vec<I> {
    type Item = I;
    fn reserve(&mut self, items: usize) -> Result<(), TryReserveError> {
        self.try_reserve_exact(items.saturating_sub(self.len()))
    }
    fn len(&self) -> usize {
        self.len()
    }
    fn grow(&mut self, len: usize) {
        self.resize(len, I::default());
    }
    fn clear(&mut self) {
        self.clear();
    }
    #[inline]
    fn get(&self, index: u32) -> I {
        self.as_slice()
            .get(index as usize)
            .copied()
            .unwrap_or_default()
    }
    #[inline]
    fn set(&mut self, index: u32, item: I) {
        if let Some(place) = self.as_mut_slice().get_mut(index as usize) {
            *place = item;
        }
    }
    fn bytes(&self) -> (usize, usize) {
        (
            self.capacity() * size_of::<I>(),
            self.len() * size_of::<I>(),
        )
    }
}

/// An arena that never grows past what was reserved.
#[derive(Clone, Debug)]
pub(super) struct Arena<S> {
    /// The items.
    pub(super) store: S,
    items_max: usize,
    /// Order of the largest block here.
    order_max: u32,
    /// First free block of each order.
    first: [u32; ORDER_MAX as usize + 1],
    /// Free blocks of each order.
    counts: [u32; ORDER_MAX as usize + 1],
    used: usize,
}

impl<S: Store> Arena<S> {
    /// An empty arena whose largest blocks have `2^order_max` items, `order_max` at most 13.
    pub(super) fn new(order_max: u32) -> Self {
        Self {
            store: S::default(),
            items_max: 0,
            order_max,
            first: [NONE; ORDER_MAX as usize + 1],
            counts: [0; ORDER_MAX as usize + 1],
            used: 0,
        }
    }

    /// Makes room for `items` in all, rounded up to whole largest blocks.
    pub(super) fn reserve(&mut self, items: usize) -> Result<(), TryReserveError> {
        let items = items.next_multiple_of(1 << self.order_max);
        self.store.reserve(items)?;
        self.items_max = self.items_max.max(items);
        Ok(())
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> S::Item {
        self.store.get(index)
    }

    #[inline]
    pub(super) fn set(&mut self, index: u32, item: S::Item) {
        self.store.set(index, item);
    }

    /// A block of `2^order` default items; `None` when there is none. Cost: O(`2^order`).
    pub(super) fn allocate(&mut self, order: u32) -> Option<u32> {
        let base = self.take(order)?;
        self.used += 1 << order;
        for index in base..base + (1 << order) {
            self.set(index, S::Item::default());
        }
        Some(base)
    }

    /// Gives a block, or a half that it was split into, back. Cost: O([`ORDER_MAX`]).
    pub(super) fn free(&mut self, base: u32, order: u32) {
        self.used -= 1 << order;
        let (mut base, mut order) = (base, order);
        while order < self.order_max {
            let buddy = base ^ 1 << order;
            match self.chained(buddy) {
                Some((found, previous, next)) if found == order => {
                    self.unlink(order, previous, next);
                    self.set(buddy, S::Item::default());
                }
                _ => break,
            }
            base &= !(1 << order);
            order += 1;
        }
        self.link(base, order);
    }

    /// Items that are not in use.
    pub(super) fn room(&self) -> usize {
        self.items_max - self.used
    }

    /// Blocks of `2^order` items that could be had, one after the other.
    pub(super) fn blocks(&self, order: u32) -> usize {
        let fresh = (self.items_max - self.store.len()) >> order;
        let freed = (order..=self.order_max)
            .map(|larger| (self.counts[larger as usize] as usize) << (larger - order));
        fresh + freed.sum::<usize>()
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Bytes reserved, and of these, bytes ever touched.
    pub(super) fn bytes(&self) -> (usize, usize) {
        self.store.bytes()
    }

    pub(super) fn clear(&mut self) {
        self.store.clear();
        self.first = [NONE; ORDER_MAX as usize + 1];
        self.counts = [0; ORDER_MAX as usize + 1];
        self.used = 0;
    }

    /// Whether the lists are sound and account for every item that is not in use.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let mut free = 0;
        for order in ORDER_MIN..=self.order_max {
            let (mut at, mut before, mut count) = (self.first[order as usize], NONE, 0);
            while at != NONE {
                match self.chained(at) {
                    Some((found, previous, next)) if (found, previous) == (order, before) => {
                        (before, at) = (at, next);
                    }
                    _ => return Err("list of free blocks is broken"),
                }
                free += 1 << order;
                count += 1;
                if free > self.store.len() {
                    return Err("list of free blocks is a ring");
                }
            }
            if count != self.counts[order as usize] {
                return Err("free blocks are miscounted");
            }
        }
        if free + self.used == self.store.len() {
            Ok(())
        } else {
            Err("items leaked")
        }
    }

    fn take(&mut self, order: u32) -> Option<u32> {
        let at = *self.first.get(order as usize)?;
        if at != NONE {
            let (_, previous, next) = self.chained(at)?;
            self.unlink(order, previous, next);
            return Some(at);
        }
        if order < self.order_max {
            let base = self.take(order + 1)?;
            self.link(base + (1 << order), order);
            return Some(base);
        }
        let base = self.store.len();
        if base + (1 << order) > self.items_max {
            return None;
        }
        // Reserved for `items_max`: does not reallocate.
        self.store.grow(base + (1 << order));
        Some(base as u32)
    }

    fn link(&mut self, at: u32, order: u32) {
        let next = self.first[order as usize];
        self.rechain(next, |(_, after)| (at, after));
        self.chain(at, order, NONE, next);
        self.first[order as usize] = at;
        self.counts[order as usize] += 1;
    }

    fn unlink(&mut self, order: u32, previous: u32, next: u32) {
        if previous == NONE {
            self.first[order as usize] = next;
        }
        self.rechain(previous, |(before, _)| (before, next));
        self.rechain(next, |(_, after)| (previous, after));
        self.counts[order as usize] -= 1;
    }

    /// Changes the neighbours of the free block at `at`, if there is one.
    fn rechain(&mut self, at: u32, change: impl FnOnce((u32, u32)) -> (u32, u32)) {
        if at == NONE {
            return;
        }
        if let Some((order, previous, next)) = self.chained(at) {
            let (previous, next) = change((previous, next));
            self.chain(at, order, previous, next);
        }
    }

    fn chain(&mut self, at: u32, order: u32, previous: u32, next: u32) {
        let [first, second] = S::Item::chain(order, previous, next);
        self.set(at, first);
        self.set(at + 1, second);
    }

    fn chained(&self, at: u32) -> Option<(u32, u32, u32)> {
        S::Item::chained([self.get(at), self.get(at + 1)])
    }
}

impl<I: Item> Arena<Vec<I>> {
    /// The items of a block.
    pub(super) fn block(&self, base: u32, order: u32) -> &[I] {
        let base = base as usize;
        self.store
            .as_slice()
            .get(base..base + (1 << order))
            .unwrap_or(&[])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Fills an arena with blocks of all orders, and gives them back in another order.
    pub(in crate::trie) fn exercise<S: Store>() {
        let mut arena: Arena<S> = Arena::new(4);
        arena.reserve(16 * 8).unwrap();
        for round in 0..4u32 {
            let mut blocks = Vec::new();
            for step in 0.. {
                let order = 1 + (step * 7 + round) % 4;
                match arena.allocate(order) {
                    Some(base) => blocks.push((base, order)),
                    None => break,
                }
                arena.check().unwrap();
            }
            let half = blocks.len() / 2;
            blocks.rotate_left(half);
            for (base, order) in blocks {
                // A block may be given back in halves.
                if order > ORDER_MIN && base % 3 == 0 {
                    arena.free(base + (1 << (order - 1)), order - 1);
                    arena.free(base, order - 1);
                } else {
                    arena.free(base, order);
                }
                arena.check().unwrap();
            }
            assert_eq!((arena.used(), arena.room(), arena.blocks(4)), (0, 128, 8));
        }
    }
}
