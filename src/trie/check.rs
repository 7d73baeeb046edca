//! What must hold at all times, and what the trie looks like.
//!
//! Apart because it walks everything: for tests, for a debugging command, for the curious.

use super::bits::Bits;
use super::cells::{block, class_of};
use super::header::HeaderHash;
use super::index::{LcIndex, Work};
use super::slot::{BUCKET, Node, Slot, View, tag};
use crate::key::Key;

/// The shape of a trie ([`LcIndex::stats`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries.
    pub entries: usize,
    /// Slots of the root.
    pub root: usize,
    /// Nodes below the root.
    pub nodes: usize,
    /// Slots of those nodes.
    pub node_slots: usize,
    /// Slots that hold nothing, at the root and below.
    pub empty: usize,
    /// Buckets of 1 to 8 entries: `buckets[n - 1]` hold `n`.
    pub buckets: [usize; BUCKET],
    /// Entries at depth 1 (a bucket in the root), 2, ...; the last counts all deeper ones too.
    pub depths: [usize; DEPTHS],
    /// Deepest entry.
    pub depth_max: usize,
    /// Cells in blocks that are in use, at least one for each entry.
    pub cells: usize,
    /// Bytes reserved for the capacity.
    pub reserved_bytes: usize,
    /// Bytes ever touched.
    pub touched_bytes: usize,
    /// What edits have moved.
    pub work: Work,
}

/// Depths told apart by [`Stats`].
pub const DEPTHS: usize = 16;

impl Stats {
    /// Slots read for an average entry, times 1000.
    pub fn depth_average_milli(&self) -> usize {
        let sum: usize = self
            .depths
            .iter()
            .enumerate()
            .map(|(index, count)| (index + 1) * count)
            .sum();
        (sum * 1000).checked_div(self.entries).unwrap_or(0)
    }

    fn bucket(&mut self, count: usize, depth: usize) {
        if let Some(buckets) = self.buckets.get_mut(count.wrapping_sub(1)) {
            *buckets += 1;
        }
        self.depths[depth.clamp(1, DEPTHS) - 1] += count;
        self.depth_max = self.depth_max.max(depth);
    }
}

impl<K: Key, H: HeaderHash> LcIndex<K, H> {
    /// The shape of the trie. Cost: O(slots).
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            entries: self.len,
            root: self.root.len(),
            node_slots: self.nodes.used(),
            cells: self.cells.used(),
            reserved_bytes: self.reserved_bytes(),
            touched_bytes: self.touched_bytes(),
            work: self.work,
            ..Stats::default()
        };
        for &slot in &self.root {
            self.measure(slot, 1, &mut stats);
        }
        stats
    }

    /// Recursion is bounded by the string's bits: each level has a later position.
    fn measure(&self, slot: Slot, depth: usize, stats: &mut Stats) {
        match slot.view() {
            View::Empty => stats.empty += 1,
            View::Bucket(bucket) => stats.bucket(bucket.count, depth),
            View::Node(node) => {
                stats.nodes += 1;
                for &slot in self.nodes.block(node.base, node.bits) {
                    self.measure(slot, depth + 1, stats);
                }
            }
        }
    }

    /// Whether all invariants hold; the first one broken otherwise. Cost: O(entries × depth).
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong. It means a bug in this module (or a wrong header given to
    /// [`insert_hashed`](Self::insert_hashed)).
    pub fn check(&self) -> Result<(), &'static str> {
        self.cells.check()?;
        self.nodes.check()?;
        if self.root.is_empty() || self.mask != (self.root.len().next_power_of_two() - 1) {
            return Err("the root's mask does not fit its size");
        }
        let mut sum = Sum::default();
        for (index, &slot) in self.root.iter().enumerate() {
            self.check_slot(slot, Owner::Root(index), &mut sum)?;
        }
        if sum.entries != self.len || self.len > self.capacity {
            return Err("entries miscounted");
        }
        if sum.cells != self.cells.used() {
            return Err("a block of cells is lost or shared");
        }
        if sum.slots != self.nodes.used() {
            return Err("a block of slots is lost or shared");
        }
        Ok(())
    }

    fn check_slot(&self, slot: Slot, owner: Owner, sum: &mut Sum) -> Result<(), &'static str> {
        match slot.view() {
            View::Empty if slot.tags != 0 => Err("an empty slot has tags"),
            View::Empty => Ok(()),
            View::Bucket(bucket) => {
                if bucket.count == 0 || bucket.count > block(bucket.class) {
                    return Err("a bucket's count does not fit its block");
                }
                if bucket.class < class_of(bucket.count) {
                    return Err("a bucket's class is too small");
                }
                sum.entries += bucket.count;
                sum.cells += block(bucket.class);
                let run = self.cells.run(bucket.base, bucket.count);
                if run.len() != bucket.count {
                    return Err("a bucket lies outside the cells");
                }
                for (place, cell) in run.iter().enumerate() {
                    let header = self.header(&cell.key);
                    if cell.header != header as u32 || slot.tag_at(place) != tag(header) {
                        return Err("a cell's header or tag is wrong");
                    }
                    if !self.leads_to(header, &cell.key, slot) {
                        return Err("an entry's string does not lead to its bucket");
                    }
                    if run[..place].iter().any(|other| other.key == cell.key) {
                        return Err("a key is there twice");
                    }
                }
                if (bucket.count..BUCKET).any(|place| slot.tag_at(place) != 0) {
                    return Err("a tag without an entry");
                }
                Ok(())
            }
            View::Node(node) => {
                let from = match owner {
                    Owner::Root(_) => self.mask.count_ones().saturating_sub(1),
                    Owner::Node(above) => above.position + above.bits,
                };
                if node.position < from || slot.tags != 0 {
                    return Err("a node's position lies before its parent's end");
                }
                let run = self.nodes.block(node.base, node.bits);
                if run.iter().filter(|slot| !slot.is_empty()).count() < 2 {
                    return Err("a node with fewer than two children");
                }
                sum.slots += run.len();
                self.check_skip(slot, node)?;
                for &below in run {
                    self.check_slot(below, Owner::Node(node), sum)?;
                }
                Ok(())
            }
        }
    }

    /// Whether all entries under a node agree in all bits before its position.
    fn check_skip(&self, slot: Slot, node: Node) -> Result<(), &'static str> {
        let zero = Bits::new(0, K::Words::default());
        let first = self.near(slot, &zero).ok_or("a node without entries")?;
        let first = self.bits_of(&first);
        for &below in self.nodes.block(node.base, node.bits) {
            let Some(other) = self.near(below, &zero) else {
                continue;
            };
            let differ = first.first_difference(&self.bits_of(&other));
            if differ.is_some_and(|differ| differ < node.position) {
                return Err("entries under a node differ before its position");
            }
        }
        Ok(())
    }

    fn leads_to(&self, header: u64, key: &K, slot: Slot) -> bool {
        self.locate(header, key)
            .is_some_and(|place| self.slot(place.at) == slot)
    }
}

#[derive(Clone, Copy)]
enum Owner {
    Root(#[expect(dead_code, reason = "shown by Debug only while hunting a bug")] usize),
    Node(Node),
}

#[derive(Default)]
struct Sum {
    entries: usize,
    cells: usize,
    slots: usize,
}
