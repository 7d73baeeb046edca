//! Where the entries lie: cells in blocks of two, four, six or eight, cut from pages of twenty-four.
//!
//! Apart because the bound on wasted memory is proved here alone. A bucket's block has at most one cell too many. A page
//! holds blocks of one class; it goes back to the common pool as soon as its last block is freed, and when no page is left, a
//! page's worth of free blocks of any one class can be gathered by moving at most one page ([`Cells::sparse`]). So an
//! allocation fails only when fewer than `CLASSES` pages' worth of cells are free in all.
//!
//! ```text
//!  class 0   | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 2 |   24 = 12 x 2
//!  class 1   |   4   |   4   |   4   |   4   |   4   |   4   |      =  6 x 4
//!  class 2   |     6     |     6     |     6     |     6     |      =  4 x 6
//!  class 3   |       8       |       8       |       8       |      =  3 x 8
//! ```

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// An entry: key, id, and the header bits that splitting a slot of the root asks for, so that it hashes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<K> {
    pub(crate) key: K,
    pub(crate) id: u32,
    /// The lowest 32 bits of the header.
    pub(crate) header: u32,
}

/// Cells in a page: the least common multiple of the block sizes.
pub(crate) const PAGE: usize = 24;
/// Block sizes: `2 * (class + 1)` cells.
pub(crate) const CLASSES: usize = 4;

const _: () = assert!(PAGE % 2 == 0 && PAGE % 4 == 0 && PAGE % 6 == 0 && PAGE % 8 == 0);

/// Cells in a block of `class`.
pub(crate) const fn block(class: usize) -> usize {
    2 * (class + 1)
}

/// The smallest class whose blocks hold `count` cells, `count` from 1 to 8.
pub(crate) const fn class_of(count: usize) -> usize {
    count.saturating_sub(1) / 2
}

/// Blocks in a page of each class.
pub(crate) const BLOCKS: [usize; CLASSES] = [PAGE / 2, PAGE / 4, PAGE / 6, PAGE / 8];

/// Which block of a page of `class` begins at the page's cell `offset`: a division by 2, 4, 6 or 8, as a multiplication.
#[inline]
fn place_in_page(offset: usize, class: usize) -> usize {
    const RECIPROCALS: [usize; CLASSES] = [128, 64, 43, 32];
    (offset * RECIPROCALS[class]) >> 8
}

/// Pages below which memory is tight however little there is in all: one for each class.
const TIGHT: usize = CLASSES;

const NONE: u32 = u32::MAX;
const UNUSED: u8 = u8::MAX;

#[derive(Clone, Copy, Debug)]
struct Page {
    /// A bit for each free block.
    free: u16,
    class: u8,
    /// Neighbours in the list of pages with both free and used blocks (or the next unused page).
    previous: u32,
    next: u32,
}

/// The arena of cells. Never grows past what was reserved.
#[derive(Clone, Debug)]
pub(crate) struct Cells<K> {
    cells: Vec<Cell<K>>,
    pages: Vec<Page>,
    pages_max: usize,
    /// First page of each class that has a free block.
    partial: [u32; CLASSES],
    /// Free blocks in the partial pages of each class.
    free_blocks: [usize; CLASSES],
    unused: u32,
    unused_count: usize,
    filler: Cell<K>,
}

impl<K: Copy> Cells<K> {
    pub(crate) fn empty(filler: K) -> Self {
        Self {
            cells: Vec::new(),
            pages: Vec::new(),
            pages_max: 0,
            partial: [NONE; CLASSES],
            free_blocks: [0; CLASSES],
            unused: NONE,
            unused_count: 0,
            filler: Cell {
                key: filler,
                id: 0,
                header: 0,
            },
        }
    }

    /// Bytes that so many pages take.
    pub(crate) const fn bytes_for(pages: usize) -> usize {
        pages * (PAGE * size_of::<Cell<K>>() + size_of::<Page>())
    }

    /// Makes room for `pages` pages in all.
    pub(crate) fn reserve(&mut self, pages: usize) -> Result<(), TryReserveError> {
        let cells = pages.saturating_mul(PAGE);
        self.cells
            .try_reserve_exact(cells.saturating_sub(self.cells.len()))?;
        self.pages
            .try_reserve_exact(pages.saturating_sub(self.pages.len()))?;
        self.pages_max = self.pages_max.max(pages);
        Ok(())
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&Cell<K>> {
        self.cells.get(index)
    }

    /// Reads what an edit of the block at `base` will read; what it gives means nothing.
    #[inline]
    pub(crate) fn warm(&self, base: u32) -> u64 {
        let cell = self.cells.get(base as usize);
        let page = self.pages.get(base as usize / PAGE);
        u64::from(cell.map_or(0, |cell| cell.id)) ^ u64::from(page.map_or(0, |page| page.free))
    }

    /// `count` cells from `base` on; none if they are not there.
    #[inline]
    pub(crate) fn run(&self, base: u32, count: usize) -> &[Cell<K>] {
        let base = base as usize;
        self.cells.get(base..base + count).unwrap_or(&[])
    }

    pub(crate) fn set(&mut self, index: usize, cell: Cell<K>) {
        if let Some(place) = self.cells.get_mut(index) {
            *place = cell;
        }
    }

    pub(crate) fn set_id(&mut self, index: usize, id: u32) -> u32 {
        match self.cells.get_mut(index) {
            Some(cell) => core::mem::replace(&mut cell.id, id),
            None => id,
        }
    }

    /// Copies `count` cells, at most eight, between blocks that do not overlap. A loop, because a call costs more than that.
    #[inline]
    pub(crate) fn copy(&mut self, from: u32, count: usize, to: u32) {
        for place in 0..count {
            if let Some(&cell) = self.cells.get(from as usize + place) {
                self.set(to as usize + place, cell);
            }
        }
    }

    /// A block of `class`; `None` when no page is left. Cost: O(1), at most one page written.
    pub(crate) fn allocate(&mut self, class: usize) -> Option<u32> {
        let mut at = self.partial[class];
        if at == NONE {
            at = self.take_page(class)?;
        }
        let page = &mut self.pages[at as usize];
        let place = page.free.trailing_zeros() as usize;
        page.free &= page.free - 1;
        self.free_blocks[class] -= 1;
        if page.free == 0 {
            self.unlink(at);
        }
        Some((at as usize * PAGE + place * block(class)) as u32)
    }

    /// Gives a block back. Cost: O(1).
    pub(crate) fn free(&mut self, base: u32, class: usize) {
        let at = base / PAGE as u32;
        let place = place_in_page(base as usize % PAGE, class);
        let page = &mut self.pages[at as usize];
        let was_full = page.free == 0;
        page.free |= 1 << place;
        let is_unused = page.free == all_free(class);
        self.free_blocks[class] += 1;
        if was_full {
            self.link(at);
        }
        if is_unused {
            self.unlink(at);
            self.free_blocks[class] -= BLOCKS[class];
            let page = &mut self.pages[at as usize];
            page.class = UNUSED;
            page.next = self.unused;
            self.unused = at;
            self.unused_count += 1;
        }
    }

    /// Leaves no more than `spare` pages to be taken, to see what happens at the end of memory.
    #[cfg(test)]
    pub(crate) fn squeeze(&mut self, spare: usize) {
        self.pages_max = self.pages.len() + spare;
    }

    /// Whether so few pages are left that blocks should be no larger than they must.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.pages_left() < self.pages_max / 32 + TIGHT
    }

    /// Pages that can still be given to any class.
    #[inline]
    pub(crate) fn pages_left(&self) -> usize {
        self.unused_count + (self.pages_max - self.pages.len())
    }

    /// A page whose used blocks fit into the free blocks of its class's other pages: its first cell, its class, and a bit
    /// for each used block. The caller moves them out with [`allocate_outside`](Self::allocate_outside) and
    /// [`free`](Self::free), which makes the page common again.
    pub(crate) fn sparse(&self) -> Option<(u32, usize, u16)> {
        (0..CLASSES).find_map(|class| {
            let at = self.partial[class];
            let page = self.pages.get(at as usize)?;
            let used = all_free(class) & !page.free;
            let elsewhere = self.free_blocks[class] - page.free.count_ones() as usize;
            (elsewhere >= used.count_ones() as usize).then_some((at * PAGE as u32, class, used))
        })
    }

    /// A block of `class` that is not in the page of `base`.
    pub(crate) fn allocate_outside(&mut self, class: usize, base: u32) -> Option<u32> {
        let avoid = base / PAGE as u32;
        if self.partial[class] == avoid {
            // Take the page out for the moment, allocate from the next, put it back.
            self.unlink(avoid);
            let block = if self.partial[class] == NONE {
                None
            } else {
                self.allocate(class)
            };
            self.link(avoid);
            block
        } else {
            self.allocate(class)
        }
    }

    pub(crate) fn clear(&mut self) {
        self.cells.clear();
        self.pages.clear();
        self.partial = [NONE; CLASSES];
        self.free_blocks = [0; CLASSES];
        self.unused = NONE;
        self.unused_count = 0;
    }

    /// Cells in blocks that are in use.
    pub(crate) fn used(&self) -> usize {
        self.pages
            .iter()
            .filter(|page| page.class != UNUSED)
            .map(|page| {
                let class = usize::from(page.class);
                (all_free(class) & !page.free).count_ones() as usize * block(class)
            })
            .sum()
    }

    /// Bytes reserved, and of these, bytes in pages ever touched.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let of =
            |cells: usize, pages: usize| cells * size_of::<Cell<K>>() + pages * size_of::<Page>();
        (
            of(self.cells.capacity(), self.pages.capacity()),
            of(self.cells.len(), self.pages.len()),
        )
    }

    /// Whether lists, counters and pages agree.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.cells.len() != self.pages.len() * PAGE || self.pages.len() > self.pages_max {
            return Err("cells and pages disagree");
        }
        let mut unused = 0;
        let mut at = self.unused;
        while let Some(page) = self.pages.get(at as usize) {
            unused += 1;
            if page.class != UNUSED || unused > self.pages.len() {
                return Err("list of unused pages is broken");
            }
            at = page.next;
        }
        if unused != self.unused_count {
            return Err("unused pages miscounted");
        }
        let mut listed = 0;
        for class in 0..CLASSES {
            let (mut at, mut before, mut blocks) = (self.partial[class], NONE, 0);
            while let Some(page) = self.pages.get(at as usize) {
                listed += 1;
                if usize::from(page.class) != class
                    || page.free == 0
                    || page.free == all_free(class)
                    || page.previous != before
                    || listed > self.pages.len()
                {
                    return Err("list of partial pages is broken");
                }
                blocks += page.free.count_ones() as usize;
                (before, at) = (at, page.next);
            }
            if blocks != self.free_blocks[class] {
                return Err("free blocks miscounted");
            }
        }
        let full = self
            .pages
            .iter()
            .filter(|page| page.class != UNUSED && page.free == 0)
            .count();
        if listed + unused + full != self.pages.len() {
            return Err("a page is in no list");
        }
        Ok(())
    }

    fn take_page(&mut self, class: usize) -> Option<u32> {
        let at = if self.unused != NONE {
            let at = self.unused;
            self.unused = self.pages[at as usize].next;
            self.unused_count -= 1;
            at
        } else if self.pages.len() < self.pages_max {
            // Both vectors were reserved for `pages_max`: neither call reallocates.
            self.cells.resize(self.cells.len() + PAGE, self.filler);
            self.pages.push(Page {
                free: 0,
                class: UNUSED,
                previous: NONE,
                next: NONE,
            });
            (self.pages.len() - 1) as u32
        } else {
            return None;
        };
        let page = &mut self.pages[at as usize];
        page.class = class as u8;
        page.free = all_free(class);
        self.free_blocks[class] += BLOCKS[class];
        self.link(at);
        Some(at)
    }

    fn link(&mut self, at: u32) {
        let class = usize::from(self.pages[at as usize].class);
        let next = self.partial[class];
        if let Some(page) = self.pages.get_mut(next as usize) {
            page.previous = at;
        }
        let page = &mut self.pages[at as usize];
        page.previous = NONE;
        page.next = next;
        self.partial[class] = at;
    }

    fn unlink(&mut self, at: u32) {
        let Page {
            class,
            previous,
            next,
            ..
        } = self.pages[at as usize];
        match self.pages.get_mut(previous as usize) {
            Some(page) => page.next = next,
            None => self.partial[usize::from(class)] = next,
        }
        if let Some(page) = self.pages.get_mut(next as usize) {
            page.previous = previous;
        }
    }
}

/// A bit for each block of a page of `class`.
const fn all_free(class: usize) -> u16 {
    (1 << BLOCKS[class]) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_one_cell() {
        for count in 1..=8 {
            let size = block(class_of(count));
            assert!(size >= count && size <= count + 1, "{count} in {size}");
        }
    }

    #[test]
    fn blocks_are_numbered_within_their_page() {
        for (class, blocks) in BLOCKS.into_iter().enumerate() {
            assert_eq!(blocks, PAGE / block(class));
            for place in 0..blocks {
                assert_eq!(place_in_page(place * block(class), class), place);
            }
        }
    }

    #[test]
    fn all_blocks_come_back() {
        // Goal: no page leaks whatever the order. Method: fill every class, free in another order, compare.
        let mut cells = Cells::empty(0u8);
        cells.reserve(10).unwrap();
        for round in 0..3 {
            let mut blocks = Vec::new();
            for step in 0.. {
                let class = (step + round) % CLASSES;
                match cells.allocate(class) {
                    Some(base) => blocks.push((base, class)),
                    None => break,
                }
                cells.check().unwrap();
            }
            let keep = blocks.len() / 3;
            blocks.rotate_left(keep);
            for (base, class) in blocks {
                cells.free(base, class);
                cells.check().unwrap();
            }
            assert_eq!((cells.used(), cells.pages_left()), (0, 10));
        }
    }
}
