//! Blocks of small records in chunks that never move.
//!
//! Apart from `Vec` because a growing `Vec` copies everything it holds at once; here growth allocates one chunk. A block
//! stands for a node's children or a pair's rules, and grows by moving to a wider block.
//!
//! ```text
//!  reference, 32 bits:  | chunk                    | offset 7 |
//!  chunk:               | block of 2 | free | block of 12 | block of 5 | free ... up to 128 records
//!  free places:         a bit each; a run of them is found by shifting the bits over themselves
//! ```
//!
//! Free lists by size would keep what a grown block leaves behind for blocks of that size alone, and cost a third of the
//! memory of a set of prefixes; a chunk's free places join of themselves.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a pool holds: plain records.
pub(super) trait Pooled: Copy {
    /// What an unused place holds.
    const BLANK: Self;
}

/// Records in blocks of consecutive places.
#[derive(Debug)]
pub(super) struct Pool<R> {
    chunks: Vec<Box<[R; CHUNK]>>,
    space: Vec<Space>,
    /// Chunks that have, or had, a run of 2^k free places, for each k.
    lists: [Vec<u32>; LISTS],
}

/// What is free in a chunk.
#[derive(Clone, Copy, Debug)]
struct Space {
    free: u128,
    /// The lists that name the chunk, a bit each.
    listed: u8,
}

/// Records in a chunk.
const CHUNK: usize = 128;
const SHIFT: u32 = CHUNK.trailing_zeros();
const LISTS: usize = 8;
/// Sizes of blocks in records: an eighth apart, or one.
const SIZES: [u8; 23] = [
    1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128,
];
/// Chunks looked at for a run that is no power of two.
const TRIES: usize = 8;
/// No block.
pub(super) const NONE: u32 = u32::MAX;

impl<R: Pooled> Pool<R> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            space: Vec::new(),
            lists: [const { Vec::new() }; LISTS],
        }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<R>()
            + self.chunks.capacity() * size_of::<usize>()
            + self.space.capacity() * size_of::<Space>()
            + self
                .lists
                .iter()
                .map(|list| list.capacity() * 4)
                .sum::<usize>()
    }

    /// The record at a place; `BLANK` for a place that is none.
    #[inline]
    pub(super) fn at(&self, place: u32) -> R {
        match self.chunks.get((place >> SHIFT) as usize) {
            Some(chunk) => chunk[place as usize % CHUNK],
            None => R::BLANK,
        }
    }

    #[inline]
    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut R> {
        let chunk = self.chunks.get_mut((place >> SHIFT) as usize)?;
        Some(&mut chunk[place as usize % CHUNK])
    }

    /// The `count` records of a block, which never crosses a chunk.
    #[inline]
    pub(super) fn block(&self, base: u32, count: usize) -> &[R] {
        let from = base as usize % CHUNK;
        self.chunks
            .get((base >> SHIFT) as usize)
            .and_then(|chunk| chunk.get(from..from + count))
            .unwrap_or(&[])
    }

    fn block_mut(&mut self, base: u32, count: usize) -> &mut [R] {
        let from = base as usize % CHUNK;
        self.chunks
            .get_mut((base >> SHIFT) as usize)
            .and_then(|chunk| chunk.get_mut(from..from + count))
            .unwrap_or(&mut [])
    }

    /// Puts `record` at position `at` of a block of `count` records, which may move. Cost: O(count) copies.
    pub(super) fn insert(&mut self, base: &mut u32, count: usize, at: usize, record: R) {
        let room = Self::room(count + 1);
        if count == 0 || room != Self::room(count) {
            let wider = self.allocate(room);
            for i in 0..count {
                let moved = self.at(*base + i as u32);
                self.put(wider + i as u32 + u32::from(i >= at), moved);
            }
            self.discard(*base, count);
            *base = wider;
        } else if let Some(behind) = self.block_mut(*base, count + 1).get_mut(at..) {
            let last = behind.len().saturating_sub(1);
            behind.copy_within(..last, last.min(1));
        }
        self.put(*base + at as u32, record);
    }

    /// Takes the record at position `at` out of a block of `count` records, which may move. Cost: O(count) copies.
    pub(super) fn remove(&mut self, base: &mut u32, count: usize, at: usize) {
        if let Some(behind) = self.block_mut(*base, count).get_mut(at..) {
            let first = behind.len().min(1);
            behind.copy_within(first.., 0);
        }
        if count <= 1 {
            self.discard(*base, count);
            *base = NONE;
        } else if Self::room(count - 1) != Self::room(count) {
            let narrower = self.allocate(Self::room(count - 1));
            for i in 0..count as u32 - 1 {
                let moved = self.at(*base + i);
                self.put(narrower + i, moved);
            }
            self.discard(*base, count);
            *base = narrower;
        }
    }

    /// Frees a block of `count` records.
    pub(super) fn discard(&mut self, base: u32, count: usize) {
        let index = base >> SHIFT;
        let taken = run(Self::room(count)) << (base % CHUNK as u32);
        if let Some(space) = self.space.get_mut(index as usize) {
            space.free |= taken;
        }
        self.list(index);
    }

    fn put(&mut self, place: u32, record: R) {
        if let Some(at) = self.at_mut(place) {
            *at = record;
        }
    }

    /// A block of `room` free places, 1 to 128.
    fn allocate(&mut self, room: usize) -> u32 {
        let sure = room.next_power_of_two().trailing_zeros() as usize;
        let index = loop {
            // A chunk of the list below may do as well, and keeps the longer runs whole.
            let below = self.lists.get(sure.wrapping_sub(1)).map_or(&[][..], |l| l);
            let fits = |index: &&u32| {
                let space = self.space.get(**index as usize);
                space.is_some_and(|space| runs(space.free, room) != 0)
            };
            if let Some(&index) = below.iter().rev().take(TRIES).find(fits) {
                break index;
            }
            let Some(list) = (sure..LISTS).find(|&k| !self.lists[k].is_empty()) else {
                self.chunks.push(Box::new([R::BLANK; CHUNK]));
                self.space.push(Space {
                    free: u128::MAX,
                    listed: 0,
                });
                break self.chunks.len() as u32 - 1;
            };
            let Some(index) = self.lists[list].pop() else {
                continue;
            };
            if let Some(space) = self.space.get_mut(index as usize) {
                space.listed &= !(1 << list);
                if runs(space.free, room) != 0 {
                    break index;
                }
            }
            // Its run has been used since; it is listed by what it has now.
            self.list(index);
        };
        let mut offset = 0;
        if let Some(space) = self.space.get_mut(index as usize) {
            offset = runs(space.free, room).trailing_zeros() % CHUNK as u32;
            space.free &= !(run(room) << offset);
        }
        self.list(index);
        index << SHIFT | offset
    }

    /// Lists a chunk by its longest run of free places.
    fn list(&mut self, index: u32) {
        let Some(space) = self.space.get_mut(index as usize) else {
            return;
        };
        let mut longest = None;
        let mut starts = space.free;
        for k in 0..LISTS {
            if starts == 0 {
                break;
            }
            longest = Some(k);
            starts &= starts.checked_shr(1 << k).unwrap_or(0);
        }
        if let Some(k) = longest {
            if space.listed >> k & 1 == 0 {
                space.listed |= 1 << k;
                self.lists[k].push(index);
            }
        }
    }

    /// Places in use. For `check`.
    pub(super) fn in_use(&self) -> usize {
        let used = self.space.iter().map(|space| space.free.count_zeros());
        used.sum::<u32>() as usize
    }

    /// Places that a block of `count` records takes.
    pub(super) fn room(count: usize) -> usize {
        const TABLE: [u8; CHUNK + 1] = {
            let mut table = [0; CHUNK + 1];
            let mut count = 1;
            let mut size = 0;
            while count <= CHUNK {
                if count > SIZES[size] as usize {
                    size += 1;
                }
                table[count] = SIZES[size];
                count += 1;
            }
            table
        };
        usize::from(TABLE[if count > CHUNK { CHUNK } else { count }])
    }
}

/// `count` ones.
fn run(count: usize) -> u128 {
    if count >= CHUNK {
        u128::MAX
    } else {
        (1 << count) - 1
    }
}

/// Where runs of `count` ones begin, 1 to 128.
fn runs(ones: u128, count: usize) -> u128 {
    let mut starts = ones;
    let mut have = 1;
    while have < count {
        let more = have.min(count - have);
        starts &= starts >> more;
        have += more;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pooled for u16 {
        const BLANK: Self = 0;
    }

    /// Blocks that grow and shrink at random keep their records, apart from one another, and leave nothing in use.
    #[test]
    fn blocks_keep_their_records() {
        let mut chance = crate::testing::prng::SplitMix64(5);
        let mut pool = Pool::<u16>::new();
        let mut blocks: Vec<(u32, Vec<u16>)> = alloc::vec![(NONE, Vec::new()); 20];
        for step in 0..if cfg!(miri) { 500 } else { 20_000 } {
            let pick = chance.below(blocks.len() as u64) as usize;
            let (base, twin) = &mut blocks[pick];
            let count = twin.len();
            // Long phases of growth and of shrinking.
            let grow = (step / 2000) % 2 == 0;
            if count < 127 && (count == 0 || (chance.below(4) != 0) == grow) {
                let at = chance.below(count as u64 + 1) as usize;
                pool.insert(base, count, at, step as u16);
                twin.insert(at, step as u16);
            } else {
                let at = chance.below(count as u64) as usize;
                pool.remove(base, count, at);
                twin.remove(at);
            }
            let (base, twin) = &blocks[pick];
            assert_eq!(pool.block(*base, twin.len()), twin);
            let used: usize = blocks.iter().map(|(_, t)| Pool::<u16>::room(t.len())).sum();
            assert_eq!(pool.in_use(), used);
        }
        for (base, twin) in &blocks {
            assert_eq!(pool.block(*base, twin.len()), twin);
        }
    }
}
