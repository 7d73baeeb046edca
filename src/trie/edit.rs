//! Insert and remove, and the reshaping that follows: grow, shrink, inflate, halve, splice, merge.
//!
//! Apart from the lookups because none of it is read to understand them, and to keep each move of a slot or a cell where
//! [`Work`](super::Work) counts it.
//!
//! ```text
//!  root of 5 slots (2 bits and one slot more)         bucket overflows: a node at the first bit that tells apart
//!
//!   000  01  10  11  100                               slot ──► node, position 17, 1 bit
//!    │   │   │   │    │                                          ├ 0: bucket
//!    grows by splitting 01 into 001 and 101                      └ 1: bucket
//! ```
//!
//! Every reshaping first takes the memory that it needs, then changes what readers see; if memory is short it leaves all as
//! it was. Only the entry itself must find room, or the insert is [`Full`].

use super::bits::Bits;
use super::cells::{BLOCKS, Cell, PAGE, block, class_of};
use super::header::HeaderHash;
use super::index::{At, Full, LcIndex, child};
use super::slot::{BITS_MAX, BUCKET, Bucket, Node, Slot, View, tag, with_tag};
use crate::key::Key;

/// Most slots and cells, together, that any single insert or remove moves.
///
/// Two pages gathered (48 cells, 24 slots), four buckets tightened (at most 6 cells and a slot each), one overflow (9 cells, 2
/// slots), one inflation (16 slots and 8 children of at most 16 slots each), two steps of the root's growth (16 slots and 2
/// each).
pub const MOVES_MAX: usize =
    2 * (PAGE + PAGE / 2) + TIGHTEN * 7 + 11 + 16 + 8 * 16 + GROW_STEPS * 18;

/// Slots by which the root grows or shrinks in one operation. One keeps pace; two catch up.
const GROW_STEPS: usize = 2;

/// A bucket moves to a smaller block when at least this many of its block's cells are free. Three leave room for an entry to
/// come back; where memory is tight, two free cells are already a block that others need.
const SLACK: usize = 3;

/// Slots of the root that an insert looks over for slack when memory is tight.
const TIGHTEN: usize = 4;

/// Sibling buckets become one when they hold at most this many together: half of what splits them.
const MERGE: usize = BUCKET / 2;

/// Two buckets whose slots are made one share a bucket when it is left with room for two more.
const JOIN: usize = BUCKET - 2;

/// Pages that an insert wants to find: two blocks for the entry, two for each step of growth.
const PAGES_SPARE: usize = 4;

impl<K: Key, H: HeaderHash> LcIndex<K, H> {
    /// Puts `key` under `id`; the id that it had before, if it was here.
    ///
    /// # Errors
    ///
    /// [`Full`] at capacity, or when the headers are so uneven (a broken or leaked hash) that nodes or cells run out first;
    /// nothing was changed. Cost: expected O(1), at most [`MOVES_MAX`].
    #[inline]
    pub fn insert(&mut self, key: &K, id: u32) -> Result<Option<u32>, Full> {
        self.insert_hashed(self.header(key), key, id)
    }

    /// [`insert`](Self::insert) with the key's [`header`](Self::header), which must be the right one: an entry under a wrong
    /// header is not found again.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    pub fn insert_hashed(&mut self, header: u64, key: &K, id: u32) -> Result<Option<u32>, Full> {
        if let Some(place) = self.locate(header, key) {
            return Ok(Some(self.cells.set_id(place.cell, id)));
        }
        if self.len >= self.capacity {
            return Err(Full);
        }
        if self.cells.is_tight() {
            self.make_room();
        }
        let cell = Cell {
            key: *key,
            id,
            header: header as u32,
        };
        self.add(header, cell)?;
        self.len += 1;
        self.grow();
        Ok(None)
    }

    /// Takes `key` out; its id. Cost: expected O(1), at most [`MOVES_MAX`].
    #[inline]
    pub fn remove(&mut self, key: &K) -> Option<u32> {
        self.remove_hashed(self.header(key), key)
    }

    /// [`remove`](Self::remove) with the key's [`header`](Self::header).
    pub fn remove_hashed(&mut self, header: u64, key: &K) -> Option<u32> {
        let place = self.locate(header, key)?;
        let id = self.cells.get(place.cell)?.id;
        let slot = self.slot(place.at);
        if let View::Bucket(bucket) = slot.view() {
            let slot = self.without(bucket, slot.tags, place.place);
            self.set_slot(place.at, slot);
        }
        self.len -= 1;
        if let At::Node(_) = place.at {
            self.tidy_path(header, key, place.at);
        }
        self.shrink();
        Some(id)
    }

    /// Forgets all entries; memory stays reserved. Cost: O(1).
    pub fn clear(&mut self) {
        self.root.clear();
        self.root.push(Slot::EMPTY);
        self.mask = 0;
        self.nodes.clear();
        self.cells.clear();
        self.len = 0;
    }

    /// Stores an entry whose key is not here.
    fn add(&mut self, header: u64, cell: Cell<K>) -> Result<(), Full> {
        let mut at = self.root_at(header);
        let mut slot = self.slot(at);
        let mut parent = None;
        if slot.is_node() {
            // Any entry near by tells the first bit in which the new key leaves the trie's known paths.
            let bits = Bits::new(header, cell.key.words());
            let near = self.near(slot, &bits).ok_or(Full)?;
            let differ = bits
                .first_difference(&self.bits_of(&near))
                .unwrap_or(u32::MAX);
            while let View::Node(node) = slot.view() {
                if node.position > differ {
                    let side = bits.take(differ, 1);
                    self.splice(at, slot, differ, side, cell, tag(header))?;
                    self.deepened(parent);
                    return Ok(());
                }
                parent = Some(at);
                at = child(node, &bits);
                slot = self.slot(at);
            }
        }
        match slot.view() {
            View::Bucket(bucket) if bucket.count >= BUCKET => {
                self.overflow(at, bucket, slot.tags, header, cell)?;
                self.deepened(parent);
            }
            View::Bucket(bucket) => {
                let slot = self.with(bucket, slot.tags, cell, tag(header))?;
                self.set_slot(at, slot);
            }
            _ => {
                let slot = self.single(cell, tag(header))?;
                self.set_slot(at, slot);
            }
        }
        Ok(())
    }

    /// An entry under `slot`, as near to the string as its children allow.
    pub(super) fn near(&self, slot: Slot, bits: &Bits<K::Words>) -> Option<Cell<K>> {
        let mut slot = slot;
        while let View::Node(node) = slot.view() {
            let next = self.slot(child(node, bits));
            slot = if next.is_empty() {
                *self
                    .nodes
                    .block(node.base, node.bits)
                    .iter()
                    .find(|slot| !slot.is_empty())?
            } else {
                next
            };
        }
        match slot.view() {
            View::Bucket(bucket) => self.cells.get(bucket.base as usize).copied(),
            _ => None,
        }
    }

    // Buckets.

    /// A bucket of one.
    fn single(&mut self, cell: Cell<K>, tag: u8) -> Result<Slot, Full> {
        let base = self.cells.allocate(0).ok_or(Full)?;
        self.cells.set(base as usize, cell);
        let bucket = Bucket {
            base,
            count: 1,
            class: 0,
        };
        Ok(Slot::bucket(bucket, u64::from(tag)))
    }

    /// A bucket with room, and one more entry.
    fn with(&mut self, bucket: Bucket, tags: u64, cell: Cell<K>, tag: u8) -> Result<Slot, Full> {
        let Bucket {
            mut base,
            count,
            mut class,
        } = bucket;
        if count == block(class) {
            let larger = self.cells.allocate(class + 1).ok_or(Full)?;
            self.move_block(base, class, count, larger);
            (base, class) = (larger, class + 1);
        }
        self.cells.set(base as usize + count, cell);
        let bucket = Bucket {
            base,
            count: count + 1,
            class,
        };
        Ok(Slot::bucket(bucket, with_tag(tags, count, tag)))
    }

    /// A bucket without the entry at `place`.
    fn without(&mut self, bucket: Bucket, tags: u64, place: usize) -> Slot {
        let Bucket {
            mut base,
            count,
            mut class,
        } = bucket;
        let last = count - 1;
        if last == 0 {
            self.cells.free(base, class);
            return Slot::EMPTY;
        }
        // Onto itself if it is the last: cheaper than asking.
        self.cells.copy(base + last as u32, 1, base + place as u32);
        self.work.cells += 1;
        let moved = with_tag(tags, place, (tags >> (8 * last)) as u8);
        let tags = with_tag(moved, last, 0);
        let slack = if self.cells.is_tight() {
            SLACK - 1
        } else {
            SLACK
        };
        if block(class) - last >= slack {
            if let Some(smaller) = self.cells.allocate(class_of(last)) {
                self.move_block(base, class, last, smaller);
                (base, class) = (smaller, class_of(last));
            }
        }
        let bucket = Bucket {
            base,
            count: last,
            class,
        };
        Slot::bucket(bucket, tags)
    }

    fn move_block(&mut self, base: u32, class: usize, count: usize, to: u32) {
        self.cells.copy(base, count, to);
        self.cells.free(base, class);
        self.work.cells += count as u64;
    }

    /// A bucket's entries in two buckets: those whose bit in `ones` is clear, and those whose bit is set. `extra` joins one.
    fn part(
        &mut self,
        bucket: Bucket,
        tags: u64,
        ones: u32,
        extra: Option<(usize, Cell<K>, u8)>,
    ) -> Result<[Slot; 2], Full> {
        let all = (1u32 << bucket.count) - 1;
        if extra.is_none() && (ones == 0 || ones == all) {
            let whole = Slot::bucket(bucket, tags);
            return Ok(if ones == 0 {
                [whole, Slot::EMPTY]
            } else {
                [Slot::EMPTY, whole]
            });
        }
        let mut counts = [
            (all & !ones).count_ones() as usize,
            ones.count_ones() as usize,
        ];
        if let Some((side, ..)) = extra {
            counts[side] += 1;
        }
        let zero = self.allocate_for(counts[0])?;
        let one = match self.allocate_for(counts[1]) {
            Ok(one) => one,
            Err(full) => {
                self.cells.free(zero, class_of(counts[0]));
                return Err(full);
            }
        };
        let bases = [zero, one];
        let (mut filled, mut parted) = ([0usize; 2], [0u64; 2]);
        for place in 0..bucket.count {
            let side = (ones >> place & 1) as usize;
            let from = bucket.base + place as u32;
            self.cells.copy(from, 1, bases[side] + filled[side] as u32);
            parted[side] = with_tag(parted[side], filled[side], (tags >> (8 * place)) as u8);
            filled[side] += 1;
        }
        self.work.cells += bucket.count as u64;
        if let Some((side, cell, tag)) = extra {
            self.cells.set(bases[side] as usize + filled[side], cell);
            parted[side] = with_tag(parted[side], filled[side], tag);
        }
        self.cells.free(bucket.base, bucket.class);
        Ok([0, 1].map(|side| {
            let bucket = Bucket {
                base: bases[side],
                count: counts[side],
                class: class_of(counts[side]),
            };
            Slot::bucket(bucket, parted[side])
        }))
    }

    fn allocate_for(&mut self, count: usize) -> Result<u32, Full> {
        self.cells.allocate(class_of(count)).ok_or(Full)
    }

    /// The entries of buckets (and empties) in one bucket of at most [`BUCKET`].
    fn join(&mut self, slots: &[Slot]) -> Result<Slot, Full> {
        let total: usize = slots.iter().map(|&slot| count(slot)).sum();
        let class = class_of(total);
        let base = self.cells.allocate(class).ok_or(Full)?;
        let (mut tags, mut filled) = (0, 0);
        for slot in slots {
            if let View::Bucket(bucket) = slot.view() {
                for place in 0..bucket.count {
                    tags = with_tag(tags, filled + place, slot.tag_at(place));
                }
                self.move_block(
                    bucket.base,
                    bucket.class,
                    bucket.count,
                    base + filled as u32,
                );
                filled += bucket.count;
            }
        }
        let bucket = Bucket {
            base,
            count: total,
            class,
        };
        Ok(Slot::bucket(bucket, tags))
    }

    // Nodes.

    /// A full bucket and one entry more: a node of one bit at the first position where the nine differ.
    fn overflow(
        &mut self,
        at: At,
        bucket: Bucket,
        tags: u64,
        header: u64,
        cell: Cell<K>,
    ) -> Result<(), Full> {
        let bits = Bits::new(header, cell.key.words());
        let run = self.cells.run(bucket.base, bucket.count);
        let in_header = run
            .iter()
            .fold(0, |x, other| x | (other.header ^ cell.header));
        let position = if in_header != 0 {
            in_header.trailing_zeros()
        } else {
            run.iter()
                .filter_map(|other| bits.first_difference(&self.bits_of(other)))
                .min()
                .ok_or(Full)?
        };
        let ones = self.ones(bucket, position);
        let children = self.nodes.allocate(1).ok_or(Full)?;
        let extra = Some((bits.take(position, 1), cell, tag(header)));
        match self.part(bucket, tags, ones, extra) {
            Ok(pair) => self.set_pair(children, pair),
            Err(full) => {
                self.nodes.free(children, 1);
                return Err(full);
            }
        }
        let node = Node {
            base: children,
            position,
            bits: 1,
        };
        self.set_slot(at, Slot::node(node));
        Ok(())
    }

    /// A node of one bit over `slot` and a new entry that leaves its path at `position`.
    fn splice(
        &mut self,
        at: At,
        slot: Slot,
        position: u32,
        side: usize,
        cell: Cell<K>,
        tag: u8,
    ) -> Result<(), Full> {
        let children = self.nodes.allocate(1).ok_or(Full)?;
        let single = match self.single(cell, tag) {
            Ok(single) => single,
            Err(full) => {
                self.nodes.free(children, 1);
                return Err(full);
            }
        };
        let pair = if side == 0 {
            [single, slot]
        } else {
            [slot, single]
        };
        self.set_pair(children, pair);
        let node = Node {
            base: children,
            position,
            bits: 1,
        };
        self.set_slot(at, Slot::node(node));
        Ok(())
    }

    /// Inflates the node at `parent`, one of whose children has just become a node, if that pays: at least half of its
    /// children are nodes that begin where its own index ends, so that of the doubled children at least half are in use.
    fn deepened(&mut self, parent: Option<At>) {
        let Some(at) = parent else { return };
        let View::Node(node) = self.slot(at).view() else {
            return;
        };
        let ends = node.position + node.bits;
        let full = self
            .nodes
            .block(node.base, node.bits)
            .iter()
            .filter(|slot| matches!(slot.view(), View::Node(below) if below.position == ends))
            .count();
        if node.bits < BITS_MAX && 2 * full >= node.size() {
            self.inflate(at, node);
        }
    }

    fn inflate(&mut self, at: At, node: Node) {
        // Splitting a child takes its new blocks before it gives back the old one; with this much at hand none can fail.
        if self.nodes.blocks(BITS_MAX) < 4 || self.cells.pages_left() < 12 {
            return;
        }
        let Some(base) = self.nodes.allocate(node.bits + 1) else {
            return;
        };
        let split_at = node.position + node.bits;
        for index in 0..1 << node.bits {
            let old = self.nodes.get(node.base + index);
            let Ok(pair) = self.split(old, split_at) else {
                return;
            };
            self.set_pair(base + 2 * index, pair);
        }
        self.nodes.free(node.base, node.bits);
        let node = Node {
            base,
            bits: node.bits + 1,
            ..node
        };
        self.set_slot(at, Slot::node(node));
    }

    /// What a slot becomes when the index above it grows by the bit at `position`. On `Err` nothing was changed.
    fn split(&mut self, slot: Slot, position: u32) -> Result<[Slot; 2], Full> {
        match slot.view() {
            View::Empty => Ok([Slot::EMPTY; 2]),
            View::Bucket(bucket) => {
                let ones = self.ones(bucket, position);
                self.part(bucket, slot.tags, ones, None)
            }
            View::Node(node) if node.position > position => {
                // All below agree in the bit: any entry tells it.
                let bits = Bits::new(0, K::Words::default());
                let near = self.near(slot, &bits).ok_or(Full)?;
                Ok(if self.bits_of(&near).take(position, 1) == 0 {
                    [slot, Slot::EMPTY]
                } else {
                    [Slot::EMPTY, slot]
                })
            }
            View::Node(node) => {
                let half = node.size() / 2;
                let zero = self.half(node, 0)?;
                let one = match self.half(node, half) {
                    Ok(one) => one,
                    Err(full) => {
                        if let (true, View::Node(made)) = (self.is_made(node, 0), zero.view()) {
                            self.nodes.free(made.base, made.bits);
                        }
                        return Err(full);
                    }
                };
                self.nodes.free(node.base, node.bits);
                Ok([zero, one])
            }
        }
    }

    /// Half of a node's children, from child `from` on, under a node of their own if there are several.
    fn half(&mut self, node: Node, from: usize) -> Result<Slot, Full> {
        if !self.is_made(node, from) {
            let half = self.half_run(node, from);
            return Ok(half
                .iter()
                .copied()
                .find(|slot| !slot.is_empty())
                .unwrap_or(Slot::EMPTY));
        }
        let base = self.nodes.allocate(node.bits - 1).ok_or(Full)?;
        for index in 0..1 << (node.bits - 1) {
            let slot = self.nodes.get(node.base + from as u32 + index);
            self.nodes.set(base + index, slot);
        }
        self.work.slots += node.size() as u64 / 2;
        Ok(Slot::node(Node {
            base,
            position: node.position + 1,
            bits: node.bits - 1,
        }))
    }

    /// Whether half of a node has several children and so needs a node.
    fn is_made(&self, node: Node, from: usize) -> bool {
        let half = self.half_run(node, from);
        half.iter().filter(|slot| !slot.is_empty()).count() > 1
    }

    fn half_run(&self, node: Node, from: usize) -> &[Slot] {
        self.nodes
            .block(node.base, node.bits)
            .get(from..from + node.size() / 2)
            .unwrap_or(&[])
    }

    /// The bit at `position` of each entry of a bucket, as a mask by place.
    fn ones(&self, bucket: Bucket, position: u32) -> u32 {
        let run = self.cells.run(bucket.base, bucket.count);
        run.iter().enumerate().fold(0, |ones, (place, cell)| {
            let bit = if position < 32 {
                cell.header >> position & 1
            } else {
                self.bits_of(cell).take(position, 1) as u32
            };
            ones | bit << place
        })
    }

    /// What two sibling slots become when the index above loses the bit at `position`. On `Err` nothing was changed.
    fn merge(&mut self, pair: [Slot; 2], position: u32) -> Result<Slot, Full> {
        let [zero, one] = pair;
        if one.is_empty() {
            return Ok(zero);
        }
        if zero.is_empty() {
            return Ok(one);
        }
        if count(zero).saturating_add(count(one)) <= JOIN {
            return self.join(&pair);
        }
        let base = self.nodes.allocate(1).ok_or(Full)?;
        self.set_pair(base, pair);
        Ok(Slot::node(Node {
            base,
            position,
            bits: 1,
        }))
    }

    /// After a removal at `from`: the two nodes above it, from below.
    fn tidy_path(&mut self, header: u64, key: &K, from: At) {
        let bits = Bits::new(header, key.words());
        let (mut at, mut above) = (self.root_at(header), [None, None]);
        while at != from {
            let View::Node(node) = self.slot(at).view() else {
                return;
            };
            above = [Some(at), above[0]];
            at = child(node, &bits);
        }
        for at in above.into_iter().flatten() {
            if !self.tidy(at) {
                return;
            }
        }
    }

    /// Undoes a node that is no longer worth its place: one child left, few entries left, or few children left. Whether it
    /// changed anything.
    fn tidy(&mut self, at: At) -> bool {
        let View::Node(node) = self.slot(at).view() else {
            return false;
        };
        let mut children = [Slot::EMPTY; 1 << BITS_MAX];
        let (mut used, mut entries) = (0, 0usize);
        for &slot in self.nodes.block(node.base, node.bits) {
            if !slot.is_empty() {
                children[used] = slot;
                used += 1;
                entries = entries.saturating_add(count(slot));
            }
        }
        let slot = if used <= 1 {
            children[0]
        } else if entries <= MERGE {
            match self.join(&children[..used]) {
                Ok(slot) => slot,
                Err(Full) => return false,
            }
        } else if node.bits > 1 && 4 * used <= node.size() {
            // What was two children may be one now; each turn has fewer bits.
            return self.halve(at, node) && {
                self.tidy(at);
                true
            };
        } else {
            return false;
        };
        self.nodes.free(node.base, node.bits);
        self.set_slot(at, slot);
        true
    }

    fn halve(&mut self, at: At, node: Node) -> bool {
        if self.nodes.blocks(BITS_MAX) < 4 || self.cells.pages_left() < 12 {
            return false;
        }
        let Some(base) = self.nodes.allocate(node.bits - 1) else {
            return false;
        };
        let position = node.position + node.bits - 1;
        for index in 0..1 << (node.bits - 1) {
            let from = node.base + 2 * index;
            let pair = [self.nodes.get(from), self.nodes.get(from + 1)];
            let Ok(slot) = self.merge(pair, position) else {
                return false;
            };
            self.nodes.set(base + index, slot);
        }
        self.work.slots += node.size() as u64 / 2;
        self.nodes.free(node.base, node.bits);
        let node = Node {
            base,
            bits: node.bits - 1,
            ..node
        };
        self.set_slot(at, Slot::node(node));
        true
    }

    // The root.

    /// Splits one or two slots of the root if it holds too many entries for its size.
    #[inline]
    fn grow(&mut self) {
        for _ in 0..GROW_STEPS {
            if self.len <= self.load * self.root.len() || self.root.len() == self.root.capacity() {
                return;
            }
            let new = self.root.len();
            let bit = new.ilog2();
            let old = new - (1 << bit);
            let Ok([zero, one]) = self.split(self.slot(At::Root(old)), bit) else {
                return;
            };
            self.set_slot(At::Root(old), zero);
            self.root.push(one);
            self.mask = (2 << bit) - 1;
            self.work.slots += 1;
        }
    }

    /// Merges the last slot or two of the root if it holds too few entries for its size.
    #[inline]
    fn shrink(&mut self) {
        for _ in 0..GROW_STEPS {
            // Half of where it grows.
            if 2 * self.len >= self.load * self.root.len() || self.root.len() == 1 {
                return;
            }
            let last = self.root.len() - 1;
            let bit = last.ilog2();
            let into = last - (1 << bit);
            let pair = [self.slot(At::Root(into)), self.slot(At::Root(last))];
            let Ok(slot) = self.merge(pair, bit) else {
                return;
            };
            self.root.pop();
            if last.is_power_of_two() {
                self.mask = last - 1;
            }
            self.set_slot(At::Root(into), slot);
        }
    }

    /// Takes the slack out of a few buckets, and makes pages common again when there is none left for the next insert.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        for _ in 0..TIGHTEN {
            self.hand = if self.hand + 1 < self.root.len() {
                self.hand + 1
            } else {
                0
            };
            self.tighten(At::Root(self.hand));
        }
        if self.cells.pages_left() < PAGES_SPARE {
            self.gather();
            self.gather();
        }
    }

    /// Moves a bucket to the smallest block that it fits in.
    fn tighten(&mut self, at: At) {
        let slot = self.slot(at);
        let View::Bucket(bucket) = slot.view() else {
            return;
        };
        let class = class_of(bucket.count);
        if class < bucket.class {
            if let Some(base) = self.cells.allocate(class) {
                self.move_block(bucket.base, bucket.class, bucket.count, base);
                let bucket = Bucket {
                    base,
                    class,
                    ..bucket
                };
                self.set_slot(at, Slot::bucket(bucket, slot.tags));
            }
        }
    }

    /// Gathers the blocks of one sparse page in other pages, so that the page is free for all classes.
    fn gather(&mut self) {
        let Some((page, class, used)) = self.cells.sparse() else {
            return;
        };
        for place in 0..BLOCKS[class] {
            if used >> place & 1 == 0 {
                continue;
            }
            let from = page + (place * block(class)) as u32;
            let Some(first) = self.cells.get(from as usize).copied() else {
                return;
            };
            let header = self.header(&first.key);
            let Some(owner) = self.locate(header, &first.key) else {
                return;
            };
            let slot = self.slot(owner.at);
            let View::Bucket(bucket) = slot.view() else {
                return;
            };
            let Some(to) = self.cells.allocate_outside(class, page) else {
                return;
            };
            self.move_block(from, class, bucket.count, to);
            self.set_slot(
                owner.at,
                Slot::bucket(Bucket { base: to, ..bucket }, slot.tags),
            );
        }
    }

    #[inline]
    fn set_slot(&mut self, at: At, slot: Slot) {
        self.work.slots += 1;
        match at {
            At::Root(index) => {
                if let Some(place) = self.root.get_mut(index) {
                    *place = slot;
                }
            }
            At::Node(index) => self.nodes.set(index, slot),
        }
    }

    fn set_pair(&mut self, base: u32, [zero, one]: [Slot; 2]) {
        self.work.slots += 2;
        self.nodes.set(base, zero);
        self.nodes.set(base + 1, one);
    }
}

/// Entries in a bucket; more than any bucket holds for a node.
fn count(slot: Slot) -> usize {
    match slot.view() {
        View::Empty => 0,
        View::Bucket(bucket) => bucket.count,
        View::Node(_) => usize::MAX,
    }
}
