//! The longest prefix of an address: what a packet runs.
//!
//! A level is one slot: remember its cover, compare its skipped bits, take the next index. Where the skipped bits differ
//! the last cover is the answer, and there is nothing to go back for: a cover stands in every slot that it holds.
//!
//! In a burst nothing branches on what was loaded: a lookup that has come to its end stands still until the others have, so that
//! the machine's guesses are right and all the loads of a level are under way together.

use super::bits::Bits;
use super::index::{Index, ROOT};
use super::slot::{Bucket, Cell, Cover, LANES, Line, Node, Slot, View, lanes, length};

/// Lookups kept in flight together.
pub(super) const STAGE: usize = 32;

/// A burst whose levels are so few goes on one by one.
const STRAGGLERS: usize = 3;

/// A prefix found: its number, and how many of the address's bits it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) number: u32,
    pub(super) len: u32,
}

impl Found {
    /// In the place of a length: there is none.
    pub(super) const NONE: Self = Self {
        number: 0,
        len: u32::MAX,
    };

    #[inline]
    pub(super) fn some(self) -> Option<Self> {
        (self.len != u32::MAX).then_some(self)
    }
}

/// A lookup on its way: what is left of the address, the depth that it has reached, and the last cover seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<B> {
    pub(super) rest: B,
    pub(super) depth: u32,
    /// The cover's word; 0 for none.
    pub(super) best: u32,
    /// The depth of its slot.
    pub(super) best_depth: u32,
}

impl<B: Bits> Walk<B> {
    #[inline(always)]
    pub(super) fn new(bits: B) -> Self {
        Self {
            rest: bits,
            depth: 0,
            best: 0,
            best_depth: 0,
        }
    }

    /// Takes the slot's cover, if it has one.
    #[inline(always)]
    pub(super) fn pass(&mut self, slot: Slot) {
        let word = slot.cover_word();
        self.best = if word != 0 { word } else { self.best };
        self.best_depth = if word != 0 {
            self.depth
        } else {
            self.best_depth
        };
    }
}

impl<B: Bits> Index<B> {
    /// The longest prefix that a full-length string has.
    ///
    /// Cost: a slot a level, and a line.
    #[inline]
    pub(super) fn longest(&self, bits: B) -> Found {
        self.longest_from(self.slot(ROOT), Walk::new(bits), bits)
    }

    /// Goes on from a slot.
    #[inline]
    pub(super) fn longest_from(&self, mut slot: Slot, mut walk: Walk<B>, bits: B) -> Found {
        loop {
            walk.pass(slot);
            match slot.view() {
                View::Node(node) => match self.step(node, &mut walk, bits) {
                    Some(next) => slot = next,
                    None => return self.covered(walk),
                },
                View::Bucket(bucket) => return self.in_bucket(bucket, walk, bits),
                View::Empty => return self.covered(walk),
            }
        }
    }

    /// The child of a node that a walk goes to; `None` where the skipped bits differ.
    #[inline(always)]
    fn step(&self, node: Node, walk: &mut Walk<B>, bits: B) -> Option<Slot> {
        if node.long {
            if self.agreeing(node, bits, walk.depth) < node.skip {
                return None;
            }
        } else {
            let differ = (walk.rest.top() >> 32) ^ u64::from(node.skipped);
            if differ >> (32 - node.skip) != 0 {
                return None;
            }
        }
        walk.rest = walk.rest.skip(node.skip);
        let index = walk.rest.top() >> (64 - node.bits);
        walk.rest = walk.rest.skip(node.bits);
        walk.depth += node.skip + node.bits;
        Some(self.slot(node.base + index as u32))
    }

    /// The last cover that a walk has seen.
    #[inline(always)]
    fn covered(&self, walk: Walk<B>) -> Found {
        match Cover::of(walk.best) {
            Some(cover) => Found {
                number: self.record(cover.id).number,
                len: walk.best_depth - cover.back,
            },
            None => Found::NONE,
        }
    }

    #[inline(always)]
    fn line(&self, bucket: Bucket) -> Option<&Line> {
        self.cells.store.get(bucket.base as usize / LANES)
    }

    #[inline(always)]
    fn in_bucket(&self, bucket: Bucket, walk: Walk<B>, bits: B) -> Found {
        let Some(line) = self.line(bucket) else {
            return Found::NONE;
        };
        let hits = line.matches(walk.rest.top()) & lanes(bucket);
        if hits == 0 {
            return self.covered(walk);
        }
        let lane = (31 - hits.leading_zeros()) as usize % LANES;
        let (window, number) = (line.windows[lane], line.numbers[lane]);
        if (Cell { window, number }).is_long() {
            return self.in_long_bucket(bucket, walk, bits);
        }
        Found {
            number,
            len: walk.depth + length(window),
        }
    }

    /// Where cells match that do not hold all of their prefixes.
    #[cold]
    fn in_long_bucket(&self, bucket: Bucket, walk: Walk<B>, bits: B) -> Found {
        let mut found = self.covered(walk);
        for cell in self.cells_of(bucket) {
            let entry = self.entry(cell, bits, walk.depth);
            // Shorter ones stand before, and their entry was made from the address: compare what the cell has.
            let matches = if cell.is_long() {
                entry.bits.common(bits) >= entry.len
            } else {
                let own = cell.bits() ^ walk.rest.top();
                own.leading_zeros() >= cell.len()
            };
            let longer = found.some().is_none_or(|found| entry.len > found.len);
            if matches && longer {
                found = Found {
                    number: entry.number,
                    len: entry.len,
                };
            }
        }
        found
    }

    /// [`longest`](Self::longest) of the first `count` strings, a level at a time.
    #[inline(always)]
    pub(super) fn longest_stage(
        &self,
        strings: &[B; STAGE],
        count: usize,
        results: &mut [Found; STAGE],
    ) {
        let root = self.slot(ROOT);
        let mut walks = [Walk::new(B::default()); STAGE];
        let mut slots = [root; STAGE];
        for (walk, bits) in walks.iter_mut().zip(strings) {
            *walk = Walk::new(*bits);
        }
        loop {
            let mut going = 0;
            for (lane, (walk, slot)) in walks.iter_mut().zip(&mut slots).enumerate().take(count) {
                walk.pass(*slot);
                let node = slot.as_node();
                let differ = (walk.rest.top() >> 32) ^ u64::from(node.skipped);
                let mut goes = slot.is_node() & (differ >> (32 - node.skip.min(32)) == 0);
                if slot.is_long() {
                    let agreeing = strings
                        .get(lane)
                        .map(|bits| self.agreeing(node, *bits, walk.depth));
                    goes = agreeing == Some(node.skip);
                }
                // Whoever does not go takes no bits and stays.
                let (skip, bits) = if goes { (node.skip, node.bits) } else { (0, 0) };
                walk.rest = walk.rest.skip(skip);
                let index = (walk.rest.top() >> 1 >> (63 - bits)) as u32;
                walk.rest = walk.rest.skip(bits);
                walk.depth += skip + bits;
                let next = self.slot(if goes { node.base + index } else { ROOT });
                *slot = if goes { next } else { *slot };
                going += usize::from(goes);
            }
            if going <= STRAGGLERS {
                break;
            }
        }
        for (lane, (walk, slot)) in walks.iter_mut().zip(&mut slots).enumerate().take(count) {
            let Some(bits) = strings.get(lane) else {
                break;
            };
            walk.pass(*slot);
            while let View::Node(node) = slot.view() {
                let Some(next) = self.step(node, walk, *bits) else {
                    // Nothing below: as good as empty.
                    *slot = Slot::EMPTY;
                    break;
                };
                *slot = next;
                walk.pass(next);
            }
        }
        for (lane, result) in results.iter_mut().enumerate().take(count) {
            let (walk, slot) = (walks[lane], slots[lane]);
            let covered = self.covered_or_none(walk);
            // A slot without a bucket has no lanes, whatever line this is.
            let bucket = slot.as_bucket();
            let line = self.line(bucket);
            let hits = line.map_or(0, |line| line.matches(walk.rest.top())) & lanes(bucket);
            let hit = (31 - (hits | 1).leading_zeros()) as usize % LANES;
            let (window, number) =
                line.map_or((0, 0), |line| (line.windows[hit], line.numbers[hit]));
            let found = Found {
                number,
                len: walk.depth + length(window),
            };
            *result = if hits != 0 { found } else { covered };
            if hits != 0 && window & 1 == 1 {
                if let Some(bits) = strings.get(lane) {
                    *result = self.in_long_bucket(bucket, walk, *bits);
                }
            }
        }
    }

    /// [`covered`](Self::covered) without a branch: the record of nobody has a number too.
    #[inline(always)]
    fn covered_or_none(&self, walk: Walk<B>) -> Found {
        let (id, back) = Cover::parts(walk.best);
        let number = self
            .records
            .get(id as usize)
            .map_or(0, |record| record.number);
        let len = walk.best_depth.wrapping_sub(back);
        Found {
            number,
            len: if walk.best != 0 { len } else { u32::MAX },
        }
    }
}
