//! Blocks of small records in chunks that never move.
//!
//! Apart from `Vec` because a growing `Vec` copies everything it holds at once; here growth allocates one chunk, and the
//! blocks that stand for a node's children or a pair's rules are cut from chunks by size class.
//!
//! ```text
//!  reference 32 bits:  | chunk            | offset 7 |
//!  chunk:              | block of class 2 | block of class 12 | ... up to 128 records
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a pool holds: plain records, one of whose fields can hold the link of a free list.
pub(super) trait Pooled: Copy {
    /// What an unused place holds.
    const BLANK: Self;
    /// A free block's first record.
    fn linking(next: u32) -> Self;
    /// The link of a free block's first record.
    fn link(&self) -> u32;
}

/// Records in blocks of consecutive places.
#[derive(Debug)]
pub(super) struct Pool<R> {
    chunks: Vec<Box<[R; CHUNK]>>,
    /// First free block of each class.
    free: [u32; CLASSES.len()],
    /// Places of the last chunk in use, up to `CHUNK`.
    used: u32,
}

/// Records in a chunk.
const CHUNK: usize = 128;
const SHIFT: u32 = CHUNK.trailing_zeros();
/// Sizes of blocks in records.
const CLASSES: [u8; 14] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128];
/// No block.
pub(super) const NONE: u32 = u32::MAX;

impl<R: Pooled> Pool<R> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: [NONE; CLASSES.len()],
            used: CHUNK as u32,
        }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<R>() + self.chunks.capacity() * size_of::<usize>()
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
        let grown = class(count + 1);
        if count == 0 || grown != class(count) {
            let wider = self.allocate(grown);
            for i in 0..count {
                let moved = self.at(*base + i as u32);
                self.put(wider + i as u32 + u32::from(i >= at), moved);
            }
            if count > 0 {
                self.release(*base, class(count));
            }
            *base = wider;
        } else {
            self.block_mut(*base, count + 1)
                .copy_within(at..count, at + 1);
        }
        self.put(*base + at as u32, record);
    }

    /// Takes the record at position `at` out of a block of `count` records, which may move. Cost: O(count) copies.
    pub(super) fn remove(&mut self, base: &mut u32, count: usize, at: usize) {
        self.block_mut(*base, count).copy_within(at + 1.., at);
        if count <= 1 {
            self.release(*base, class(count));
            *base = NONE;
        } else if class(count - 1) != class(count) {
            let narrower = self.allocate(class(count - 1));
            for i in 0..count as u32 - 1 {
                let moved = self.at(*base + i);
                self.put(narrower + i, moved);
            }
            self.release(*base, class(count));
            *base = narrower;
        }
    }

    /// Frees a block of `count` records.
    pub(super) fn discard(&mut self, base: u32, count: usize) {
        if count > 0 {
            self.release(base, class(count));
        }
    }

    fn put(&mut self, place: u32, record: R) {
        if let Some(at) = self.at_mut(place) {
            *at = record;
        }
    }

    fn allocate(&mut self, class: usize) -> u32 {
        let head = self.free[class];
        if head != NONE {
            self.free[class] = self.at(head).link();
            return head;
        }
        let size = u32::from(CLASSES[class]);
        if self.used + size > CHUNK as u32 {
            // What is left of the chunk becomes free blocks, the widest first.
            while self.used < CHUNK as u32 && !self.chunks.is_empty() {
                let left = CHUNK as u32 - self.used;
                let fits = CLASSES.iter().rposition(|&c| u32::from(c) <= left);
                let base = (self.chunks.len() as u32 - 1) << SHIFT | self.used;
                let fits = fits.unwrap_or(0);
                self.release(base, fits);
                self.used += u32::from(CLASSES[fits]);
            }
            self.chunks.push(Box::new([R::BLANK; CHUNK]));
            self.used = 0;
        }
        let base = (self.chunks.len() as u32 - 1) << SHIFT | self.used;
        self.used += size;
        base
    }

    fn release(&mut self, base: u32, class: usize) {
        let link = R::linking(self.free[class]);
        self.put(base, link);
        self.free[class] = base;
    }

    /// Places in use: cut off the chunks and on no free list. Cost: O(free blocks). For `check`.
    pub(super) fn in_use(&self) -> Option<usize> {
        let mut places = self.chunks.len() * CHUNK - (CHUNK - self.used as usize);
        for (class, &head) in self.free.iter().enumerate() {
            let mut at = head;
            while at != NONE {
                places = places.checked_sub(usize::from(CLASSES[class]))?;
                at = self.at(at).link();
            }
        }
        Some(places)
    }

    /// Places that a block of `count` records takes.
    pub(super) fn room(count: usize) -> usize {
        if count == 0 {
            0
        } else {
            usize::from(CLASSES[class(count)])
        }
    }
}

/// The class of the smallest block with room for `count` records, 1 to 128.
fn class(count: usize) -> usize {
    const TABLE: [u8; CHUNK + 1] = {
        let mut table = [0; CHUNK + 1];
        let mut count = 1;
        let mut class = 0;
        while count <= CHUNK {
            if count > CLASSES[class] as usize {
                class += 1;
            }
            table[count] = class as u8;
            count += 1;
        }
        table
    };
    usize::from(TABLE[if count > CHUNK { CHUNK } else { count }])
}
