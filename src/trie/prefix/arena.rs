//! Where slots and cells lie: blocks of a power of two in one reserved arena, kept by a buddy allocator.
//!
//! Apart because the bound on wasted memory is proved here alone. A block's address is a multiple of its size, so a node's
//! block falls into the blocks of its two halves without a move, and a freed block joins its free buddy at once (Knowlton 1965).
//! Free blocks are chained through their own items.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use super::slot::Item;

/// Largest block: `2^ORDER_MAX` items.
pub(super) const ORDER_MAX: u32 = 13;

const NONE: u32 = u32::MAX;

/// An arena that never grows past what was reserved.
#[derive(Clone, Debug)]
pub(super) struct Arena<T> {
    items: Vec<T>,
    items_max: usize,
    /// Order of the largest block here.
    order_max: u32,
    /// First free block of each order.
    first: [u32; ORDER_MAX as usize + 1],
    /// Free blocks of each order.
    counts: [u32; ORDER_MAX as usize + 1],
    used: usize,
}

impl<T: Item> Arena<T> {
    /// An empty arena whose largest blocks have `2^order_max` items.
    pub(super) const fn new(order_max: u32) -> Self {
        Self {
            items: Vec::new(),
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
        self.items
            .try_reserve_exact(items.saturating_sub(self.items.len()))?;
        self.items_max = self.items_max.max(items);
        Ok(())
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> T {
        self.items.get(index as usize).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, index: u32, item: T) {
        if let Some(place) = self.items.get_mut(index as usize) {
            *place = item;
        }
    }

    /// The items of a block.
    #[inline]
    pub(super) fn block(&self, base: u32, order: u32) -> &[T] {
        let base = base as usize;
        self.items.get(base..base + (1 << order)).unwrap_or(&[])
    }

    pub(super) fn block_mut(&mut self, base: u32, order: u32) -> &mut [T] {
        let base = base as usize;
        self.items
            .get_mut(base..base + (1 << order))
            .unwrap_or(&mut [])
    }

    /// A block of `2^order` default items; `None` when there is none. Cost: O(`2^order`).
    pub(super) fn allocate(&mut self, order: u32) -> Option<u32> {
        let base = self.take(order)?;
        self.used += 1 << order;
        self.block_mut(base, order).fill(T::default());
        Some(base)
    }

    /// Gives a block, or a half that it was split into, back. Cost: O([`ORDER_MAX`]).
    pub(super) fn free(&mut self, base: u32, order: u32) {
        self.used -= 1 << order;
        let (mut base, mut order) = (base, order);
        while order < self.order_max {
            let buddy = base ^ 1 << order;
            match T::chained(self.block(buddy, T::ORDER_MIN)) {
                Some((found, previous, next)) if found == order => {
                    self.unlink(order, previous, next);
                    self.block_mut(buddy, T::ORDER_MIN).fill(T::default());
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
        let fresh = (self.items_max - self.items.len()) >> order;
        let freed = (order..=self.order_max)
            .map(|larger| (self.counts[larger as usize] as usize) << (larger - order));
        fresh + freed.sum::<usize>()
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Bytes reserved, and of these, bytes ever touched.
    pub(super) fn bytes(&self) -> (usize, usize) {
        (
            self.items.capacity() * size_of::<T>(),
            self.items.len() * size_of::<T>(),
        )
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.first = [NONE; ORDER_MAX as usize + 1];
        self.counts = [0; ORDER_MAX as usize + 1];
        self.used = 0;
    }

    /// Whether the lists are sound and account for every item that is not in use.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let mut free = 0;
        for order in T::ORDER_MIN..=self.order_max {
            let (mut at, mut before, mut count) = (self.first[order as usize], NONE, 0);
            while at != NONE {
                match T::chained(self.block(at, T::ORDER_MIN)) {
                    Some((found, previous, next)) if (found, previous) == (order, before) => {
                        (before, at) = (at, next);
                    }
                    _ => return Err("list of free blocks is broken"),
                }
                free += 1 << order;
                count += 1;
                if free > self.items.len() {
                    return Err("list of free blocks is a ring");
                }
            }
            if count != self.counts[order as usize] {
                return Err("free blocks are miscounted");
            }
        }
        if free + self.used == self.items.len() {
            Ok(())
        } else {
            Err("items leaked")
        }
    }

    fn take(&mut self, order: u32) -> Option<u32> {
        let at = *self.first.get(order as usize)?;
        if at != NONE {
            let (_, previous, next) = T::chained(self.block(at, T::ORDER_MIN))?;
            self.unlink(order, previous, next);
            return Some(at);
        }
        if order < self.order_max {
            let base = self.take(order + 1)?;
            self.link(base + (1 << order), order);
            return Some(base);
        }
        let base = self.items.len();
        if base + (1 << order) > self.items_max {
            return None;
        }
        // Reserved for `items_max`: does not reallocate.
        self.items.resize(base + (1 << order), T::default());
        Some(base as u32)
    }

    fn link(&mut self, at: u32, order: u32) {
        let next = self.first[order as usize];
        self.rechain(next, |(_, after)| (at, after));
        T::chain(self.block_mut(at, T::ORDER_MIN), order, NONE, next);
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
        let block = self.block_mut(at, T::ORDER_MIN);
        if let Some((order, previous, next)) = T::chained(block) {
            let (previous, next) = change((previous, next));
            T::chain(block, order, previous, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trie::prefix::slot::{Cell, Slot};

    fn exercise<T: Item>() {
        let mut arena: Arena<T> = Arena::new(4);
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
                if order > T::ORDER_MIN && base % 3 == 0 {
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

    #[test]
    fn buddies_join_until_all_is_whole() {
        exercise::<Slot>();
        exercise::<Cell>();
    }
}
