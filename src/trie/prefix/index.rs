//! The raw head proper: prefixes to numbers. The values, and the types of addresses, are the business of the outer types.

use alloc::vec::Vec;

use super::arena::Arena;
use super::bits::Bits;
use super::slot::{At, Cell, ID_BITS, Item, Node, Slot, View};
use super::{Full, ReserveError, Work};

/// Cells in the largest bucket: what one cache line holds. Small in unit tests, so that buckets overflow there.
pub(super) const BUCKET: usize = if cfg!(any(test, fuzzing)) { 4 } else { 8 };
/// Order of the largest bucket's block.
pub(super) const BUCKET_ORDER: u32 = BUCKET.trailing_zeros();
/// Index bits of the largest node. It bounds what one edit moves.
pub(super) const BITS_MAX: u32 = if cfg!(any(test, fuzzing)) { 4 } else { 8 };
/// Most nodes on a path: each takes at least one bit.
pub(super) const LEVELS_MAX: usize = 128;

/// Most prefixes that a trie can be made for: `2^26 - 2`.
pub const CAPACITY_MAX: usize = (1 << ID_BITS) - 2;

/// The number of a prefix; 0 is nobody's.
pub(super) type Id = u32;

/// What is known of a prefix besides its place. Edits and ordered walks read it, lookups of addresses hardly ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<B> {
    pub(super) bits: B,
    /// The next shorter cover in the same node; in a free record, the next free one.
    pub(super) parent: Id,
    /// Length in the low 8 bits, [`NOBODY`] in a free record; above it, how often the record has been given back.
    stamp: u32,
}

/// In the place of a length: the record is free.
const NOBODY: u32 = 0xff;

impl<B: Bits> Record<B> {
    fn nobody() -> Self {
        Self {
            bits: B::default(),
            parent: 0,
            stamp: NOBODY,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.stamp & 0xff
    }

    /// Changes each time that the record comes to mean another prefix. 24 bits.
    pub(super) fn generation(&self) -> u32 {
        self.stamp >> 8
    }
}

/// What a node knows of its children; kept beside the arena, for edits only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Slots with neither bucket nor node, and with no prefix that ends right there.
    pub(super) empty: u16,
    /// Slots with a node.
    pub(super) nodes: u16,
    /// Of these, those that skip no bits: Linux's "full" children, which inflating would open.
    pub(super) full: u16,
    /// Prefixes in the buckets.
    pub(super) cells: u16,
    /// Slots that have a cover.
    pub(super) covered: u16,
    /// Slots of the children that inflating would have to look into: full ones of more than two slots, and those that become
    /// full.
    pub(super) below: u32,
}

/// Where an edit came along: the slots of the nodes from the root down, each with its depth.
pub(super) struct Path {
    steps: [(At, u8); LEVELS_MAX],
    count: usize,
}

impl Path {
    pub(super) const fn new() -> Self {
        Self {
            steps: [(0, 0); LEVELS_MAX],
            count: 0,
        }
    }

    pub(super) fn push(&mut self, at: At, depth: u32) {
        if let Some(step) = self.steps.get_mut(self.count) {
            *step = (at, depth as u8);
            self.count += 1;
        }
    }

    /// From the root down.
    pub(super) fn steps(&self) -> &[(At, u8)] {
        self.steps.get(..self.count).unwrap_or(&[])
    }

    pub(super) fn last(&self) -> Option<At> {
        self.steps().last().map(|(at, _)| *at)
    }
}

/// Prefixes, each with a number.
#[derive(Clone, Debug)]
pub(super) struct Index<B> {
    /// Slot 0 is the root.
    pub(super) slots: Arena<Slot>,
    pub(super) cells: Arena<Cell>,
    /// By half the number of a node's first child.
    tallies: Vec<Tally>,
    /// By number; record 0 is nobody's.
    records: Vec<Record<B>>,
    /// First free record, or 0.
    free: Id,
    pub(super) len: usize,
    pub(super) capacity: usize,
    pub(super) work: Work,
}

/// The root's slot.
pub(super) const ROOT: At = 0;

/// What the arenas must hold for `capacity` prefixes: slots and cells.
///
/// A prefix needs at worst one node of two slots to stand apart from its neighbours, and half a block of cells; beyond that
/// inflating may use another half slot a prefix at once, and more where prefixes needed less.
fn arenas(capacity: usize) -> (usize, usize) {
    let slots = 2 * capacity + capacity / 2 + (4 << BITS_MAX);
    let cells = 2 * capacity + (BUCKET << 4);
    (slots, cells)
}

impl<B: Bits> Index<B> {
    pub(super) fn try_new(capacity: usize) -> Result<Self, ReserveError> {
        let mut index = Self {
            slots: Arena::new(BITS_MAX),
            cells: Arena::new(BUCKET_ORDER),
            tallies: Vec::new(),
            records: Vec::new(),
            free: 0,
            len: 0,
            capacity: 0,
            work: Work::default(),
        };
        index.try_reserve(capacity)?;
        index.begin();
        Ok(index)
    }

    pub(super) fn try_reserve(&mut self, additional: usize) -> Result<(), ReserveError> {
        let capacity = self.capacity.saturating_add(additional);
        if capacity > CAPACITY_MAX {
            return Err(ReserveError::TooMany);
        }
        let (slots, cells) = arenas(capacity);
        self.slots.reserve(slots)?;
        self.cells.reserve(cells)?;
        let tallies = (slots >> 1) + (1 << BITS_MAX);
        self.tallies
            .try_reserve_exact(tallies.saturating_sub(self.tallies.len()))?;
        self.records
            .try_reserve_exact((capacity + 1).saturating_sub(self.records.len()))?;
        self.capacity = capacity;
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.cells.clear();
        self.tallies.clear();
        for id in 1..self.records.len() as Id {
            if self.alive(id).is_some() {
                self.release(id);
            }
        }
        self.len = 0;
        self.begin();
    }

    fn begin(&mut self) {
        if self.records.is_empty() {
            self.records.push(Record::nobody());
        }
        // The first block of the arena is at 0; its other slot stays unused.
        let root = self.slots.allocate(<Slot as Item>::ORDER_MIN);
        debug_assert!(root.is_none_or(|at| at == ROOT));
    }

    // Records.

    #[inline]
    pub(super) fn record(&self, id: Id) -> Record<B> {
        self.records
            .get(id as usize)
            .copied()
            .unwrap_or_else(Record::nobody)
    }

    /// The record, if a prefix has the number.
    pub(super) fn alive(&self, id: Id) -> Option<Record<B>> {
        let record = self.records.get(id as usize)?;
        (record.len() != NOBODY).then_some(*record)
    }

    pub(super) fn set_parent(&mut self, id: Id, parent: Id) {
        if let Some(record) = self.records.get_mut(id as usize) {
            record.parent = parent;
        }
    }

    /// Gives a prefix a number.
    pub(super) fn acquire(&mut self, bits: B, len: u32) -> Result<Id, Full> {
        if self.len >= self.capacity {
            return Err(Full);
        }
        let id = if self.free != 0 {
            let id = self.free;
            self.free = self.record(id).parent;
            id
        } else {
            // Reserved for `capacity` and one: does not reallocate.
            self.records.push(Record::nobody());
            self.records.len() as Id - 1
        };
        if let Some(record) = self.records.get_mut(id as usize) {
            record.bits = bits;
            record.parent = 0;
            record.stamp = record.stamp & !0xff | len;
        }
        self.len += 1;
        Ok(id)
    }

    /// Takes a prefix's number back.
    pub(super) fn release(&mut self, id: Id) {
        let free = self.free;
        if let Some(record) = self.records.get_mut(id as usize) {
            record.parent = free;
            record.stamp = (record.stamp | NOBODY).wrapping_add(0x100);
            self.free = id;
            self.len -= 1;
        }
    }

    /// Numbers that were ever given, and 0.
    pub(super) fn records(&self) -> &[Record<B>] {
        &self.records
    }

    // Slots and tallies.

    #[inline]
    pub(super) fn slot(&self, at: At) -> Slot {
        self.slots.get(at)
    }

    pub(super) fn tally(&self, node: Node) -> Tally {
        self.tallies
            .get(node.base as usize / 2)
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn tally_mut(&mut self, base: At) -> &mut Tally {
        let index = base as usize / 2;
        if index >= self.tallies.len() {
            // Reserved for the whole arena of slots: does not reallocate.
            self.tallies.resize(index + 1, Tally::default());
        }
        &mut self.tallies[index]
    }

    /// The node in a slot.
    pub(super) fn node(&self, at: At) -> Option<Node> {
        match self.slot(at).view() {
            View::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Writes a slot and keeps the tally of the node that it is a child of, if `parent` is that node's slot.
    pub(super) fn put(&mut self, parent: Option<At>, at: At, slot: Slot) {
        match parent.and_then(|parent| self.node(parent)) {
            Some(node) => self.put_child(node.base, at, slot),
            None => {
                self.slots.set(at, slot);
                self.work.moved += 1;
            }
        }
    }

    /// Writes a child of the node whose first child is at `base`.
    pub(super) fn put_child(&mut self, base: At, at: At, slot: Slot) {
        let old = self.slot(at);
        self.slots.set(at, slot);
        self.work.moved += 1;
        let tally = self.tally_mut(base);
        tally.take_out(old);
        tally.add(slot);
    }

    /// The cells of a bucket, unused places first.
    #[inline]
    pub(super) fn bucket(&self, base: u32, order: u32) -> &[Cell] {
        self.cells.block(base, order)
    }

    /// How many of the skipped bits of `node`, in a slot of `depth`, a string has.
    pub(super) fn agreeing(&self, node: Node, bits: B, depth: u32) -> u32 {
        let rest = bits.skip(depth);
        let common = if node.long {
            rest.common(self.record(node.skipped).bits.skip(depth))
        } else {
            ((rest.top() >> 32) as u32 ^ node.skipped).leading_zeros()
        };
        common.min(node.skip)
    }

    /// The child of `node` that a string goes to.
    #[inline]
    pub(super) fn child(node: Node, bits: B, depth: u32) -> At {
        let rest = bits.skip(depth + node.skip).top();
        node.base + (rest >> (64 - node.bits)) as u32
    }

    /// The number of exactly this prefix. Cost: O(levels).
    pub(super) fn find(&self, bits: B, len: u32) -> Option<Id> {
        let (mut at, mut depth) = (ROOT, 0);
        if len == 0 {
            return self.slot(ROOT).cover().map(|cover| cover.id);
        }
        loop {
            match self.slot(at).view() {
                View::Empty => return None,
                View::Bucket(bucket) => {
                    let cells = self.bucket(bucket.base, bucket.order);
                    return self.find_cell(cells, bits, len, depth);
                }
                View::Node(node) => {
                    if self.agreeing(node, bits, depth) < node.skip {
                        return None;
                    }
                    at = Self::child(node, bits, depth);
                    depth += node.skip + node.bits;
                    if len <= depth {
                        return self.find_cover(self.slot(at), len);
                    }
                }
            }
        }
    }

    /// The cover of that length in the chain of a slot.
    fn find_cover(&self, slot: Slot, len: u32) -> Option<Id> {
        let mut id = slot.cover()?.id;
        while id != 0 {
            let record = self.record(id);
            if record.len() <= len {
                return (record.len() == len).then_some(id);
            }
            id = record.parent;
        }
        None
    }

    pub(super) fn find_cell(&self, cells: &[Cell], bits: B, len: u32, depth: u32) -> Option<Id> {
        let wanted = Cell::new(bits.skip(depth).top(), len - depth, 0);
        let same = cells
            .iter()
            .filter(|cell| cell.id() != 0 && cell.window() == wanted.window());
        same.map(|cell| cell.id()).find(|id| {
            let record = self.record(*id);
            !wanted.is_long() || (record.bits, record.len()) == (bits, len)
        })
    }
}

impl Tally {
    /// A node's tally before anything is in it.
    pub(super) fn of_empty(size: u32) -> Self {
        Self {
            empty: size as u16,
            ..Self::default()
        }
    }

    /// The tally of slots that are not in a node yet.
    pub(super) fn of(slots: &[Slot]) -> Self {
        let mut tally = Self::default();
        for slot in slots {
            tally.add(*slot);
        }
        tally
    }

    fn add(&mut self, slot: Slot) {
        self.covered += u16::from(slot.cover_word() != 0);
        match slot.view() {
            View::Empty => self.empty += u16::from(!slot.ends_prefix()),
            View::Bucket(bucket) => self.cells += bucket.count as u16,
            View::Node(node) => {
                self.nodes += 1;
                self.full += u16::from(node.skip == 0);
                self.below += looked_into(node);
            }
        }
    }

    fn take_out(&mut self, slot: Slot) {
        self.covered -= u16::from(slot.cover_word() != 0);
        match slot.view() {
            View::Empty => self.empty -= u16::from(!slot.ends_prefix()),
            View::Bucket(bucket) => self.cells -= bucket.count as u16,
            View::Node(node) => {
                self.nodes -= 1;
                self.full -= u16::from(node.skip == 0);
                self.below -= looked_into(node);
            }
        }
    }
}

fn looked_into(node: Node) -> u32 {
    if node.skip == 0 && node.bits > 1 || node.skip == 1 {
        node.size()
    } else {
        0
    }
}
