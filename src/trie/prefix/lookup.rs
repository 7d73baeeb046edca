//! The longest prefix of an address: what a packet runs.
//!
//! A level is one slot: remember its cover, compare its skipped bits, take the next index. Where the skipped bits differ
//! the last cover is the answer, and there is nothing to go back for: a cover stands in every slot that it holds.

use super::bits::Bits;
use super::index::{Id, Index, ROOT};
use super::slot::{Bucket, Cell, Cover, Node, Slot, View};

/// Lookups kept in flight together.
const STAGE: usize = 32;

/// A prefix found: its number, and how many of the address's bits it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: Id,
    pub(super) len: u32,
}

/// A lookup on its way: what is left of the address, the depth that it has reached, and the last cover seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<B> {
    pub(super) rest: B,
    pub(super) depth: u32,
    /// The cover's word, above it the depth of its slot.
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

    #[inline(always)]
    fn found(self) -> Found {
        match Cover::of(self.best as u32) {
            Some(cover) => Found {
                id: cover.id,
                len: (self.best >> 32) as u32 - cover.back,
            },
            None => Found::default(),
        }
    }
}

impl<B: Bits> Index<B> {
    /// The longest prefix that a full-length string has; number 0 where there is none.
    ///
    /// Cost: a slot a level, and a bucket.
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
                    None => return walk.found(),
                },
                View::Bucket(bucket) => return self.in_bucket(bucket, walk, bits),
                View::Empty => return walk.found(),
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

    #[inline(always)]
    fn in_bucket(&self, bucket: Bucket, walk: Walk<B>, bits: B) -> Found {
        let top = walk.rest.top();
        let mut best = Cell::default();
        for cell in self.bucket(bucket.base, bucket.order) {
            if cell.matches(top) {
                best = *cell;
            }
        }
        if best.is_long() {
            return self.in_long_bucket(bucket, walk, bits);
        }
        if best.id() != 0 {
            return Found {
                id: best.id(),
                len: walk.depth + best.len(),
            };
        }
        walk.found()
    }

    /// Where cells match that do not hold all of their prefixes.
    #[cold]
    fn in_long_bucket(&self, bucket: Bucket, walk: Walk<B>, bits: B) -> Found {
        let mut found = walk.found();
        for cell in self.bucket(bucket.base, bucket.order) {
            let record = self.record(cell.id());
            if cell.id() != 0
                && record.bits.common(bits) >= record.len()
                && (found.id == 0 || record.len() > found.len)
            {
                found = Found {
                    id: cell.id(),
                    len: record.len(),
                };
            }
        }
        found
    }

    /// [`longest`](Self::longest) of many, a level at a time, so that the machine's caches are waited for together.
    pub(super) fn longest_many(&self, strings: &[B], mut found: impl FnMut(usize, Found)) {
        for (chunk, strings) in strings.chunks(STAGE).enumerate() {
            self.longest_stage(strings, |index, one| found(chunk * STAGE + index, one));
        }
    }

    #[inline(always)]
    fn longest_stage(&self, strings: &[B], mut found: impl FnMut(usize, Found)) {
        let root = self.slot(ROOT);
        let mut walks = [Walk::new(B::default()); STAGE];
        let mut slots = [root; STAGE];
        let mut active = [0u8; STAGE];
        let mut in_buckets = [0u8; STAGE];
        let (mut count, mut buckets) = (0, 0);
        for (index, bits) in strings.iter().enumerate().take(STAGE) {
            walks[index] = Walk::new(*bits);
            active[count] = index as u8;
            count += 1;
        }
        while count > 0 {
            let mut left = 0;
            for place in 0..count {
                let index = usize::from(active[place]) % STAGE;
                let walk = &mut walks[index];
                let slot = slots[index];
                walk.pass(slot);
                match slot.view() {
                    View::Node(node) => {
                        if let Some(next) = self.step(node, walk, strings[index]) {
                            slots[index] = next;
                            active[left] = index as u8;
                            left += 1;
                        }
                    }
                    View::Bucket(_) => {
                        in_buckets[buckets] = index as u8;
                        buckets += 1;
                    }
                    View::Empty => {}
                }
            }
            count = left;
        }
        let mut results = [Found::default(); STAGE];
        for (walk, result) in walks.iter().zip(&mut results) {
            *result = walk.found();
        }
        for index in &in_buckets[..buckets] {
            let index = usize::from(*index) % STAGE;
            if let View::Bucket(bucket) = slots[index].view() {
                results[index] = self.in_bucket(bucket, walks[index], strings[index]);
            }
        }
        for (index, result) in results.iter().enumerate().take(strings.len()) {
            found(index, *result);
        }
    }
}
