//! Where the children lie: blocks of two, four, eight or sixteen slots, in one arena with a buddy allocator.
//!
//! Apart because the proof that nothing leaks needs nothing else. A block's address is a multiple of its size and a freed block joins
//! its free buddy at once, so the arena is whole again when the last node is gone. Free blocks are chained through their
//! own slots.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use super::slot::{Child, Slot};

/// Largest block: `2^BITS_MAX` slots. It bounds what one inflation moves.
pub(crate) const BITS_MAX: u32 = 4;

const NONE: u32 = u32::MAX;
/// In the first word of a free block: not a pattern that tags can have (each tag byte is 0 or at least 0x80).
const FREE: u64 = 0x0101_0101_0101_0100;

/// The arena of children. Never grows past what was reserved.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    slots: Vec<Slot>,
    slots_max: usize,
    /// First free block of `2^index` slots.
    free: [u32; BITS_MAX as usize + 1],
    used: usize,
}

impl Nodes {
    pub(crate) const fn empty() -> Self {
        Self {
            slots: Vec::new(),
            slots_max: 0,
            free: [NONE; BITS_MAX as usize + 1],
            used: 0,
        }
    }

    /// Bytes that so many slots take.
    pub(crate) const fn bytes_for(slots: usize) -> usize {
        slots.next_multiple_of(1 << BITS_MAX) * size_of::<Slot>()
    }

    /// Makes room for `slots` slots in all, rounded up to whole largest blocks.
    pub(crate) fn reserve(&mut self, slots: usize) -> Result<(), TryReserveError> {
        let slots = slots.next_multiple_of(1 << BITS_MAX);
        self.slots
            .try_reserve_exact(slots.saturating_sub(self.slots.len()))?;
        self.slots_max = self.slots_max.max(slots);
        Ok(())
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Slot {
        self.slots.get(index).copied().unwrap_or(Slot::EMPTY)
    }

    pub(crate) fn set(&mut self, index: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(index) {
            *place = slot;
        }
    }

    /// The children of a block.
    pub(crate) fn run(&self, base: Child, bits: u32) -> &[Slot] {
        let base = base as usize;
        self.slots.get(base..base + (1 << bits)).unwrap_or(&[])
    }

    /// `2^bits` empty slots; `None` when the arena is full. `bits` is 1 to [`BITS_MAX`]. Cost: O(`2^bits`).
    pub(crate) fn allocate(&mut self, bits: u32) -> Option<Child> {
        let base = self.take(bits)?;
        self.used += 1 << bits;
        if let Some(run) = self
            .slots
            .get_mut(base as usize..base as usize + (1 << bits))
        {
            run.fill(Slot::EMPTY);
        }
        Some(base)
    }

    /// Gives a block back. Cost: O(`BITS_MAX`).
    pub(crate) fn free(&mut self, base: Child, bits: u32) {
        self.used -= 1 << bits;
        let (mut base, mut bits) = (base, bits);
        while bits < BITS_MAX {
            let buddy = base ^ 1 << bits;
            if !self.is_free(buddy, bits) {
                break;
            }
            self.unlink(buddy, bits);
            self.set(buddy as usize, Slot::EMPTY);
            base &= !(1 << bits);
            bits += 1;
        }
        self.link(base, bits);
    }

    /// Slots that can still be had in whole largest blocks.
    pub(crate) fn room(&self) -> usize {
        let mut blocks = (self.slots_max - self.slots.len()) >> BITS_MAX;
        let mut at = self.free[BITS_MAX as usize];
        while at != NONE && blocks < 64 {
            blocks += 1;
            at = self.next(at);
        }
        blocks << BITS_MAX
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.free = [NONE; BITS_MAX as usize + 1];
        self.used = 0;
    }

    /// Bytes reserved, and of these, bytes ever touched.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (
            self.slots.capacity() * size_of::<Slot>(),
            self.slots.len() * size_of::<Slot>(),
        )
    }

    /// Whether the free lists are sound and account for every slot that is not in use.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut free = 0;
        for bits in 1..=BITS_MAX {
            let (mut at, mut before) = (self.free[bits as usize], NONE);
            while at != NONE {
                if !self.is_free(at, bits) || self.previous(at) != before {
                    return Err("list of free blocks is broken");
                }
                free += 1usize << bits;
                if free > self.slots.len() {
                    return Err("list of free blocks is a ring");
                }
                (before, at) = (at, self.next(at));
            }
        }
        if free + self.used != self.slots.len() {
            return Err("slots leaked");
        }
        Ok(())
    }

    fn take(&mut self, bits: u32) -> Option<Child> {
        let at = self.free[bits as usize];
        if at != NONE {
            self.unlink(at, bits);
            return Some(at);
        }
        if bits < BITS_MAX {
            let base = self.take(bits + 1)?;
            self.link(base + (1 << bits), bits);
            return Some(base);
        }
        let base = self.slots.len();
        if base + (1 << BITS_MAX) > self.slots_max {
            return None;
        }
        // Reserved for `slots_max`: does not reallocate.
        self.slots.resize(base + (1 << BITS_MAX), Slot::EMPTY);
        Some(base as u32)
    }

    // A free block's first slot: FREE + bits in the tags, next and previous in the word.

    fn is_free(&self, at: u32, bits: u32) -> bool {
        self.get(at as usize).tags == FREE + u64::from(bits)
    }

    fn next(&self, at: u32) -> u32 {
        self.get(at as usize).word as u32
    }

    fn previous(&self, at: u32) -> u32 {
        (self.get(at as usize).word >> 32) as u32
    }

    fn chain(&mut self, at: u32, bits: u32, previous: u32, next: u32) {
        self.set(
            at as usize,
            Slot {
                tags: FREE + u64::from(bits),
                word: u64::from(previous) << 32 | u64::from(next),
            },
        );
    }

    fn link(&mut self, at: u32, bits: u32) {
        let next = self.free[bits as usize];
        if next != NONE {
            self.chain(next, bits, at, self.next(next));
        }
        self.chain(at, bits, NONE, next);
        self.free[bits as usize] = at;
    }

    fn unlink(&mut self, at: u32, bits: u32) {
        let (previous, next) = (self.previous(at), self.next(at));
        if previous == NONE {
            self.free[bits as usize] = next;
        } else {
            self.chain(previous, bits, self.previous(previous), next);
        }
        if next != NONE {
            self.chain(next, bits, previous, self.next(next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buddies_join_until_all_is_whole() {
        let mut nodes = Nodes::empty();
        nodes.reserve(16 * 8).unwrap();
        for round in 0..4u32 {
            let mut blocks = Vec::new();
            for step in 0.. {
                let bits = 1 + (step * 7 + round) % BITS_MAX;
                match nodes.allocate(bits) {
                    Some(base) => blocks.push((base, bits)),
                    None => break,
                }
                nodes.check().unwrap();
            }
            let half = blocks.len() / 2;
            blocks.rotate_left(half);
            for (base, bits) in blocks {
                nodes.free(base, bits);
                nodes.check().unwrap();
            }
            assert_eq!((nodes.used(), nodes.room()), (0, 16 * 8));
        }
    }
}
