//! The longest prefix of an address: what a packet runs.
//!
//! A level is one slot: remember its cover, compare its skipped bits, take the next index. Where the skipped bits differ
//! the last cover is the answer, and there is nothing to go back for: a cover stands in every slot that it holds.
//!
//! In a burst nothing branches on what was loaded: a lookup that has come to its end stands still until the others have, so that
//! the machine's guesses are right and all the loads of a level are under way together.

use super::bits::Bits;
use super::index::{Id, Index, NOWHERE, ROOT};
use super::slot::{At, Bucket, Cover, LANES, Line, Node, Slot, lanes, length, matches};

/// Lookups kept in flight together.
pub(super) const STAGE: usize = 32;

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
    /// The last cover's word, and above it the depth of its slot; 0 for none.
    pub(super) best: u64,
}

impl<B: Bits> Walk<B> {
    #[inline(always)]
    pub(super) fn new(bits: B) -> Self {
        Self {
            rest: bits,
            depth: 0,
            best: 0,
        }
    }

    /// Takes the slot's cover, if it has one.
    #[inline(always)]
    pub(super) fn pass(&mut self, slot: Slot) {
        let word = slot.cover_word();
        let here = u64::from(self.depth) << 32 | u64::from(word);
        self.best = if word != 0 { here } else { self.best };
    }

    /// Goes `count` bits on.
    #[inline(always)]
    fn advance(&mut self, count: u32) {
        self.rest = self.rest.skip(count);
        self.depth += count;
    }

    /// The record of the last cover, 0 for none, and its length.
    #[inline(always)]
    fn cover(&self) -> (Id, u32) {
        let (id, back) = Cover::parts(self.best as u32);
        (id, ((self.best >> 32) as u32).wrapping_sub(back))
    }
}

impl<B: Bits> Index<B> {
    /// The longest prefix that a full-length string has.
    ///
    /// Cost: a slot a level, and a line.
    #[inline]
    pub(super) fn longest(&self, bits: B) -> Found {
        let (root, mut walk) = (self.slot(ROOT), Walk::new(bits));
        if !root.is_node() || root.is_long() {
            return self.longest_from(root, walk, bits);
        }
        let next = Self::enter(root, &mut walk);
        self.longest_from(self.slot(next), walk, bits)
    }

    /// Where a lookup goes on from a root that is a node and not a long one: without a branch, for where the table has a small
    /// part of all addresses no machine can guess which of them are in it.
    #[inline(always)]
    fn enter(root: Slot, walk: &mut Walk<B>) -> At {
        walk.pass(root);
        let index = root.index(walk.rest.top());
        let goes = index >> root.index_bits() == 0;
        walk.advance(root.advance());
        if goes {
            root.base().wrapping_add(index as u32)
        } else {
            NOWHERE
        }
    }

    /// Goes on from a slot.
    #[inline(always)]
    pub(super) fn longest_from(&self, mut slot: Slot, mut walk: Walk<B>, bits: B) -> Found {
        loop {
            walk.pass(slot);
            if !slot.is_node() {
                break;
            }
            let mut index = slot.index(walk.rest.top());
            if slot.is_long() {
                index = self.long_index(slot.as_node(), bits, walk.depth);
            }
            if index >> slot.index_bits() != 0 {
                return self.covered(walk);
            }
            walk.advance(slot.advance());
            slot = self.slot(slot.base() + index as u32);
        }
        // Alone, a lookup gains from branches: the machine guesses on, and is under way with the next lookup's loads.
        if slot.may_match(walk.rest.top()) {
            let bucket = slot.as_bucket();
            let Some(line) = self.line(bucket) else {
                return Found::NONE;
            };
            let hits = matches(&line.windows, walk.rest.top()) & lanes(bucket);
            if hits != 0 {
                let lane = (31 - hits.leading_zeros()) as usize % LANES;
                let window = line.windows[lane];
                if window & 1 == 1 {
                    return self.in_long_bucket(bucket, walk, bits);
                }
                return Found {
                    number: line.numbers[lane],
                    len: walk.depth + length(window),
                };
            }
        }
        if slot.cover_word() != 0 {
            return Found {
                number: slot.cover_number(),
                len: walk.cover().1,
            };
        }
        self.covered(walk)
    }

    /// The answer of a walk that has ended in this slot, should no prefix of its bucket match: without a branch.
    #[inline(always)]
    fn covered_in(&self, slot: Slot, walk: Walk<B>) -> Found {
        let (id, len) = walk.cover();
        let here = (slot.cover_word() != 0) & !slot.is_node();
        // Nobody's record has a number too.
        let above = self.record(if here { 0 } else { id }).number;
        Found {
            number: if here { slot.cover_number() } else { above },
            len: if id != 0 { len } else { Found::NONE.len },
        }
    }

    /// [`Slot::index`] for nodes that skip more bits than their slots hold.
    #[cold]
    fn long_index(&self, node: Node, bits: B, depth: u32) -> u64 {
        if self.agreeing(node, bits, depth) < node.skip {
            return u64::MAX;
        }
        bits.skip(depth + node.skip).top() >> (64 - node.bits)
    }

    /// The last cover that a walk has seen.
    #[inline(always)]
    fn covered(&self, walk: Walk<B>) -> Found {
        match walk.cover() {
            (0, _) => Found::NONE,
            (id, len) => Found {
                number: self.record(id).number,
                len,
            },
        }
    }

    #[inline(always)]
    fn line(&self, bucket: Bucket) -> Option<&Line> {
        self.cells.store.get(bucket.base as usize / LANES)
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

    /// [`longest`](Self::longest) of the first `count` strings, a level at a time; `tell` hears of each lane's answer, of some twice,
    /// and the last word counts.
    #[inline(always)]
    pub(super) fn longest_stage(
        &self,
        strings: &[B; STAGE],
        count: usize,
        mut tell: impl FnMut(usize, Found),
    ) {
        let root = self.slot(ROOT);
        if !root.is_node() || root.is_long() {
            for (lane, &bits) in strings.iter().enumerate().take(count) {
                tell(lane, self.longest(bits));
            }
            return;
        }
        // The first level is one slot for all, and loads nothing.
        let mut walks = [Walk::new(B::default()); STAGE];
        // Where each is to go on; where it has ended.
        let mut next = [NOWHERE; STAGE];
        let mut ends = [Slot::EMPTY; STAGE];
        for ((walk, next), &bits) in walks.iter_mut().zip(&mut next).zip(strings).take(count) {
            *walk = Walk::new(bits);
            *next = Self::enter(root, walk);
        }
        let mut going: [u8; STAGE] = core::array::from_fn(|lane| lane as u8);
        let mut left = count.min(STAGE);
        while left > 0 {
            // Nothing but loads, so that they are all under way at once.
            for lane in going.iter().take(left) {
                let lane = usize::from(*lane) % STAGE;
                ends[lane] = self.slot(next[lane]);
            }
            let mut still = 0;
            for place in 0..left {
                let lane = usize::from(going[place]) % STAGE;
                let walk = &mut walks[lane];
                let slot = ends[lane];
                walk.pass(slot);
                let mut index = slot.index(walk.rest.top());
                if slot.is_long() {
                    index = self.long_index(slot.as_node(), strings[lane], walk.depth);
                }
                let goes = slot.is_node() & (index >> slot.index_bits() == 0);
                // Whoever ends here goes nowhere.
                walk.advance(if goes { slot.advance() } else { 0 });
                next[lane] = slot.base().wrapping_add(index as u32);
                going[still % STAGE] = lane as u8;
                still += usize::from(goes);
            }
            left = still;
        }
        // Covers for all, and those that have a bucket to look through.
        let mut looking = [0u8; STAGE];
        let mut lookers = 0;
        for (lane, (slot, walk)) in ends.iter().zip(&walks).enumerate().take(count) {
            looking[lookers % STAGE] = lane as u8;
            lookers += usize::from(slot.may_match(walk.rest.top()));
            tell(lane, self.covered_in(*slot, *walk));
        }
        let looking = looking.get(..lookers).unwrap_or(&[]);
        // Again nothing but loads, whose values nobody waits for.
        let touched = looking.iter().fold(0, |touched, &lane| {
            let bucket = ends[usize::from(lane) % STAGE].as_bucket();
            touched ^ self.line(bucket).map_or(0, |line| line.windows[0])
        });
        core::hint::black_box(touched);
        for &lane in looking {
            let lane = usize::from(lane) % STAGE;
            let (bucket, walk) = (ends[lane].as_bucket(), walks[lane]);
            let Some(line) = self.line(bucket) else {
                continue;
            };
            let hits = matches(&line.windows, walk.rest.top()) & lanes(bucket);
            if hits == 0 {
                continue;
            }
            let at = (31 - hits.leading_zeros()) as usize % LANES;
            let window = line.windows[at];
            let found = Found {
                number: line.numbers[at],
                len: walk.depth + length(window),
            };
            tell(
                lane,
                if window & 1 == 1 {
                    self.in_long_bucket(bucket, walk, strings[lane])
                } else {
                    found
                },
            );
        }
    }
}
