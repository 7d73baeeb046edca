//! The invariants, tested; and the shape, counted.

use alloc::vec;
use alloc::vec::Vec;

use super::bits::Bits;
use super::index::{Id, Index, LEVELS_MAX, NOWHERE, ROOT, Record, Tally};
use super::slot::{Bucket, Cell, Node, Slot, View};
use crate::trie::arena::ORDER_MIN;

/// The shape and size of a trie.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Prefixes.
    pub prefixes: usize,
    /// Prefixes by the number of slots behind the root that a lookup reads to find one.
    pub depths: [usize; LEVELS_MAX + 1],
    /// Of the prefixes, those in buckets: one cache line more.
    pub in_buckets: usize,
    /// Nodes.
    pub nodes: usize,
    /// Slots in nodes.
    pub slots: usize,
    /// Of these, slots in which no prefix ends.
    pub slots_empty: usize,
    /// Cells in blocks.
    pub cells: usize,
    /// Index bits of the root's node; 0 where the root is a bucket.
    pub root_bits: u32,
    /// Bytes reserved, those for values included.
    pub bytes_reserved: usize,
    /// Of these, bytes ever written to.
    pub bytes_touched: usize,
}

impl Stats {
    /// Mean of [`depths`](Self::depths), in thousandths.
    pub fn depth_mean_thousandths(&self) -> u64 {
        let total: usize = self
            .depths
            .iter()
            .enumerate()
            .map(|(depth, count)| depth * count)
            .sum();
        match self.prefixes {
            0 => 0,
            prefixes => total as u64 * 1000 / prefixes as u64,
        }
    }

    /// The largest depth that a prefix has.
    pub fn depth_max(&self) -> usize {
        self.depths
            .iter()
            .rposition(|count| *count != 0)
            .unwrap_or(0)
    }
}

impl<B: Bits> Index<B> {
    pub(super) fn stats(&self) -> Stats {
        let [slots, cells] = [self.slots.bytes(), self.cells.bytes()];
        let records = [self.records.capacity(), self.records.len()]
            .map(|count| count * size_of::<Record<B>>());
        let tallies = slots.1 / size_of::<Slot>() / 2 * size_of::<Tally>();
        let tallies_reserved = slots.0 / size_of::<Slot>() / 2 * size_of::<Tally>();
        let mut stats = Stats {
            prefixes: self.len,
            depths: [0; LEVELS_MAX + 1],
            in_buckets: 0,
            nodes: 0,
            slots: 0,
            slots_empty: 0,
            cells: self.cells.used(),
            root_bits: self.node(ROOT).map_or(0, |node| node.bits),
            bytes_reserved: slots.0
                + cells.0
                + tallies_reserved
                + (self.capacity + 1) * size_of::<Record<B>>(),
            bytes_touched: slots.1 + cells.1 + tallies + records[1],
        };
        if self.slot(ROOT).cover().is_some() {
            stats.depths[0] += 1;
        }
        self.count(self.slot(ROOT), 0, &mut stats);
        stats
    }

    fn count(&self, slot: Slot, level: usize, stats: &mut Stats) {
        match slot.view() {
            View::Empty => {}
            View::Bucket(bucket) => {
                stats.in_buckets += bucket.count as usize;
                stats.depths[level] += bucket.count as usize;
            }
            View::Node(node) => {
                let tally = self.tally(node);
                stats.nodes += 1;
                stats.slots += node.size() as usize;
                stats.slots_empty += usize::from(tally.empty);
                for (index, child) in self.slots.block(node.base, node.bits).iter().enumerate() {
                    let mut id = child.cover().map_or(0, |cover| cover.id);
                    while id != 0 {
                        let record = self.record(id);
                        // Counted at the first slot that it covers.
                        let first = index.checked_sub(1).and_then(|before| {
                            let children = self.slots.block(node.base, node.bits);
                            children.get(before)
                        });
                        if first.is_none_or(|before| !self.in_chain(*before, id)) {
                            stats.depths[level + 1] += 1;
                        }
                        id = record.parent;
                    }
                    self.count(*child, level + 1, stats);
                }
            }
        }
    }

    fn in_chain(&self, slot: Slot, wanted: Id) -> bool {
        let mut id = slot.cover().map_or(0, |cover| cover.id);
        while id != 0 && id != wanted {
            id = self.record(id).parent;
        }
        id == wanted
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.slots.check()?;
        self.cells.check()?;
        let mut audit = Audit {
            seen: vec![false; self.records.len()],
            prefixes: 0,
            skips: 0,
            records: 0,
            slots: 1 << ORDER_MIN,
            cells: 0,
        };
        if self.slot(NOWHERE) != Slot::EMPTY {
            return Err("something lies nowhere");
        }
        let root = self.slot(ROOT);
        if let Some(cover) = root.cover() {
            let record = self.record(cover.id);
            if !root.is_node() && record.number != root.cover_number() {
                return Err("the root's cover has another number");
            }
            if record.len != 0 || record.parent != 0 || cover.back != 0 {
                return Err("the root's cover is not the empty prefix");
            }
            audit.see(cover.id)?;
            audit.prefixes += 1;
        }
        self.check_slot(root, B::default(), 0, &mut audit)?;
        if audit.prefixes != self.len {
            return Err("prefixes are miscounted");
        }
        let alive = (1..self.records.len() as Id).filter(|id| self.alive(*id).is_some());
        let alive = alive.count();
        if alive != audit.records || alive != self.records_used || audit.skips != self.skips_used {
            return Err("records are leaked or miscounted");
        }
        if (audit.slots, audit.cells) != (self.slots.used(), self.cells.used()) {
            return Err("blocks are leaked or shared");
        }
        Ok(())
    }

    fn check_slot(
        &self,
        slot: Slot,
        path: B,
        depth: u32,
        audit: &mut Audit,
    ) -> Result<(), &'static str> {
        match slot.view() {
            View::Empty => Ok(()),
            View::Bucket(bucket) => self.check_bucket(bucket, path, depth, audit),
            View::Node(node) => self.check_node(node, path, depth, audit),
        }
    }

    fn check_bucket(
        &self,
        bucket: Bucket,
        path: B,
        depth: u32,
        audit: &mut Audit,
    ) -> Result<(), &'static str> {
        let (size, count) = (1usize << bucket.order, bucket.count as usize);
        audit.cells += size;
        if count == 0 || count > size || bucket.order > 1 && count <= size / 2 {
            return Err("a bucket's block is not of the right size");
        }
        let block = (bucket.base..).take(size).map(|at| self.cells.get(at));
        if block.skip(count).any(|cell| cell != Cell::default()) {
            return Err("an unused cell is not zero");
        }
        let next = self.cells_of(bucket);
        if next.fold(0, |next, cell| next | cell.next()) != bucket.next {
            return Err("a slot does not say what its bucket may match");
        }
        let mut longest = 0;
        for cell in self.cells_of(bucket) {
            if cell.len() < longest {
                return Err("cells are not in order");
            }
            longest = cell.len();
            audit.prefixes += 1;
            let entry = self.entry(cell, path, depth);
            if cell.is_long() {
                audit.see(cell.number)?;
                if self.record(cell.number).parent != 0 {
                    return Err("a prefix in a bucket has a chain");
                }
            }
            if entry.len <= depth || entry.bits.common(path) < depth {
                return Err("a prefix is in another's bucket");
            }
            let long = Cell::too_long(entry.len - depth);
            let number = if long { entry.record } else { entry.number };
            if cell != Cell::new(entry.bits.skip(depth).top(), entry.len - depth, number) {
                return Err("a cell is not its prefix's");
            }
        }
        Ok(())
    }

    fn check_node(
        &self,
        node: Node,
        path: B,
        depth: u32,
        audit: &mut Audit,
    ) -> Result<(), &'static str> {
        audit.slots += node.size() as usize;
        if node.bits == 0 || node.long != (node.skip > 32) {
            return Err("a node has no bits, or the wrong kind of skip");
        }
        if node.base % node.size() != 0 {
            return Err("a block does not lie at a multiple of its size");
        }
        if node.long {
            audit.see(node.skipped)?;
            audit.skips += 1;
        }
        let position = depth + node.skip;
        let inner = position + node.bits;
        let path = path.first(depth);
        let skipped = self.through(node, path, depth);
        if skipped.common(path) < depth || self.agreeing(node, skipped, depth) != node.skip {
            return Err("skipped bits are wrong");
        }
        let children = self.slots.block(node.base, node.bits);
        let tally = Tally::of(children);
        if tally != self.tally(node) {
            return Err("a tally is wrong");
        }
        if tally == Tally::of_empty(node.size()) {
            return Err("a node has no prefix");
        }
        let mut covers: Vec<Id> = Vec::new();
        for slot in children {
            let mut id = slot.cover().map_or(0, |cover| cover.id);
            while id != 0 {
                if !covers.contains(&id) {
                    covers.push(id);
                    audit.see(id)?;
                    audit.prefixes += 1;
                }
                id = self.record(id).parent;
            }
        }
        for id in &covers {
            let record = self.alive(*id).ok_or("a cover of nobody")?;
            if record.len <= depth || record.len < position || record.len > inner {
                return Err("a cover is in the wrong node");
            }
            if record.bits.common(skipped) < position {
                return Err("a cover has not the skipped bits");
            }
        }
        for (index, slot) in children.iter().enumerate() {
            let here = skipped.with(position, node.bits, index as u64);
            let mut holding: Vec<Id> = covers
                .iter()
                .copied()
                .filter(|id| {
                    let record = self.record(*id);
                    record.bits.common(here) >= record.len
                })
                .collect();
            holding.sort_unstable_by_key(|id| core::cmp::Reverse(self.record(*id).len));
            let mut id = slot.cover().map_or(0, |cover| cover.id);
            for expected in &holding {
                if id != *expected {
                    return Err("a cover is not the longest, or its chain is wrong");
                }
                id = self.record(id).parent;
            }
            if id != 0 {
                return Err("a chain is too long");
            }
            if let Some(cover) = slot.cover() {
                let record = self.record(cover.id);
                if record.len + cover.back != inner {
                    return Err("a cover's length is wrong");
                }
                if !slot.is_node() && record.number != slot.cover_number() {
                    return Err("a cover's number is wrong");
                }
            }
            self.check_slot(*slot, here, inner, audit)?;
        }
        Ok(())
    }
}

/// What the walk has come by.
struct Audit {
    seen: Vec<bool>,
    prefixes: usize,
    skips: usize,
    records: usize,
    slots: usize,
    cells: usize,
}

impl Audit {
    fn see(&mut self, id: Id) -> Result<(), &'static str> {
        match self.seen.get_mut(id as usize) {
            Some(seen) if !*seen => {
                *seen = true;
                self.records += 1;
                Ok(())
            }
            _ => Err("a record has two uses, or is nobody's"),
        }
    }
}
