//! The raw head proper: prefixes to numbers of the caller's choice. The types of keys are the business of the outer types.

use alloc::vec::Vec;

use super::bits::Bits;
use super::slot::{At, Bucket, Cell, ID_BITS, LANES, Line, Node, Slot, View};
use super::{ReserveError, Work};
use crate::trie::arena::{Arena, ORDER_MIN};

/// Cells in the largest bucket: what one cache line holds. Small in unit tests, so that buckets overflow there.
pub(super) const BUCKET: usize = if cfg!(any(test, fuzzing)) { 4 } else { 8 };
/// Order of the largest bucket's block.
pub(super) const BUCKET_ORDER: u32 = BUCKET.trailing_zeros();
/// Index bits of the largest node. It bounds what one edit moves.
pub(super) const BITS_MAX: u32 = if cfg!(any(test, fuzzing)) { 4 } else { 10 };
/// Most nodes on a path: each takes at least one bit.
pub(super) const LEVELS_MAX: usize = 128;

/// Most prefixes that a trie can be made for: `2^25 - 2`.
pub const CAPACITY_MAX: usize = (1 << (ID_BITS - 1)) - 2;

/// The number of a record; 0 is nobody's.
pub(super) type Id = u32;

/// What is known of a cover, of a prefix too long for its cell, or of skipped bits too many for a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record<B> {
    pub(super) bits: B,
    /// The next shorter cover in the same node; in a free record, the next free one.
    pub(super) parent: Id,
    /// The prefix's number.
    pub(super) number: u32,
    /// Length in bits; [`NOBODY`] in a free record.
    pub(super) len: u32,
}

/// In the place of a length: the record is free.
const NOBODY: u32 = u32::MAX;

/// All that there is to say of a prefix in a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<B> {
    pub(super) bits: B,
    pub(super) len: u32,
    pub(super) number: u32,
    /// Its record, if it has one.
    pub(super) record: Id,
}

/// Where a prefix lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// In this cell alone.
    Cell(u32),
    /// In this record, which a cell or covers name.
    Record(Id),
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
    pub(super) slots: Arena<Vec<Slot>>,
    pub(super) cells: Arena<Vec<Line>>,
    /// By half the number of a node's first child.
    tallies: Vec<Tally>,
    /// By number; record 0 is nobody's.
    pub(super) records: Vec<Record<B>>,
    /// First free record, or 0.
    free: Id,
    pub(super) records_used: usize,
    /// Of these, those that hold skipped bits.
    pub(super) skips_used: usize,
    pub(super) len: usize,
    pub(super) capacity: usize,
    pub(super) work: Work,
}

/// The root's slot.
pub(super) const ROOT: At = 0;
/// The slot that nothing is ever put into: the other one of the root's block.
pub(super) const NOWHERE: At = 1;

/// What the arenas must hold for `capacity` prefixes: slots and cells.
///
/// A prefix needs at worst one node of two slots to stand apart from its neighbours, and a block of two cells for each; beyond
/// that inflating may use another half slot a prefix at once, and more where prefixes needed less.
fn arenas(capacity: usize) -> (usize, usize) {
    let slots = 2 * capacity + capacity / 2 + (4 << BITS_MAX.min(8));
    let cells = 2 * capacity + (BUCKET << 4);
    (slots, cells)
}

impl<B: Bits> Index<B> {
    pub(super) fn try_new(capacity: usize) -> Result<Self, ReserveError> {
        let mut index = Self {
            slots: Arena::new(BITS_MAX),
            cells: Arena::new(LANES.trailing_zeros()),
            tallies: Vec::new(),
            records: Vec::new(),
            free: 0,
            records_used: 0,
            skips_used: 0,
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
        let records = capacity + 1 + Self::skips_max(capacity);
        self.records
            .try_reserve_exact(records.saturating_sub(self.records.len()))?;
        self.capacity = capacity;
        Ok(())
    }

    /// Records that may hold skipped bits. Those of IPv4 always fit in their slots.
    fn skips_max(capacity: usize) -> usize {
        if B::WIDTH > 64 { capacity } else { 0 }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.cells.clear();
        self.tallies.clear();
        self.records.clear();
        self.free = 0;
        (self.len, self.records_used, self.skips_used) = (0, 0, 0);
        self.begin();
    }

    fn begin(&mut self) {
        self.records.push(Record {
            len: NOBODY,
            ..Record::default()
        });
        // The first block of the arena is at 0; its other slot stays empty.
        let root = self.slots.allocate(ORDER_MIN);
        debug_assert!(root.is_none_or(|at| at == ROOT));
    }

    // Records.

    #[inline]
    pub(super) fn record(&self, id: Id) -> Record<B> {
        self.records.get(id as usize).copied().unwrap_or_default()
    }

    pub(super) fn alive(&self, id: Id) -> Option<Record<B>> {
        let record = self.records.get(id as usize)?;
        (record.len != NOBODY).then_some(*record)
    }

    pub(super) fn set_parent(&mut self, id: Id, parent: Id) {
        if let Some(record) = self.records.get_mut(id as usize) {
            record.parent = parent;
        }
    }

    /// A record; there is always one left for a prefix.
    pub(super) fn acquire(&mut self, bits: B, len: u32, number: u32) -> Option<Id> {
        let record = Record {
            bits,
            parent: 0,
            number,
            len,
        };
        let id = if self.free != 0 {
            let id = self.free;
            self.free = self.record(id).parent;
            *self.records.get_mut(id as usize)? = record;
            id
        } else if self.records.len() < self.records.capacity() {
            // Reserved: does not reallocate.
            self.records.push(record);
            self.records.len() as Id - 1
        } else {
            return None;
        };
        self.records_used += 1;
        Some(id)
    }

    pub(super) fn release(&mut self, id: Id) {
        let free = self.free;
        if let Some(record) = self.records.get_mut(id as usize) {
            record.parent = free;
            record.len = NOBODY;
            self.free = id;
            self.records_used -= 1;
        }
    }

    /// A record for a string that a node skips the end of.
    pub(super) fn acquire_skip(&mut self, bits: B, len: u32) -> Option<Id> {
        if self.skips_used >= Self::skips_max(self.capacity) {
            return None;
        }
        let id = self.acquire(bits.first(len), len, 0)?;
        self.skips_used += 1;
        Some(id)
    }

    pub(super) fn release_skip(&mut self, id: Id) {
        self.skips_used -= 1;
        self.release(id);
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

    pub(super) fn set_tally(&mut self, base: At, tally: Tally) {
        let index = base as usize / 2;
        if index >= self.tallies.len() {
            // Reserved for the whole arena of slots: does not reallocate.
            self.tallies.resize(index + 1, Tally::default());
        }
        if let Some(place) = self.tallies.get_mut(index) {
            *place = tally;
        }
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
                self.slots.set(at, self.numbered(self.slot(at), slot));
                self.work.moved += 1;
            }
        }
    }

    /// `slot` with its cover's number, which the slot that was in its place may have.
    pub(super) fn numbered(&self, old: Slot, slot: Slot) -> Slot {
        match (slot.cover(), old.cover()) {
            (None, _) => slot.numbered(0),
            _ if slot.is_node() => slot,
            (Some(cover), Some(before)) if cover.id == before.id && !old.is_node() => {
                slot.numbered(old.cover_number())
            }
            (Some(cover), _) => slot.numbered(self.record(cover.id).number),
        }
    }

    /// Writes a child of the node whose first child is at `base`.
    pub(super) fn put_child(&mut self, base: At, at: At, slot: Slot) {
        let old = self.slot(at);
        self.slots.set(at, self.numbered(old, slot));
        self.work.moved += 1;
        if let Some(tally) = self.tallies.get_mut(base as usize / 2) {
            tally.take_out(old);
            tally.add(slot);
        }
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

    /// A string that begins as `path` does to `depth`, and then as `node` skips.
    pub(super) fn through(&self, node: Node, path: B, depth: u32) -> B {
        if node.long {
            self.record(node.skipped).bits.first(depth + node.skip)
        } else {
            let skipped = u64::from(node.skipped) >> (32 - node.skip);
            path.with(depth, node.skip, skipped)
                .first(depth + node.skip)
        }
    }

    // Prefixes in buckets.

    pub(super) fn cells_of(&self, bucket: Bucket) -> impl DoubleEndedIterator<Item = Cell> {
        (bucket.base..bucket.base + bucket.count).map(|at| self.cells.get(at))
    }

    /// What a cell in a slot of `depth` that `path` leads to says.
    pub(super) fn entry(&self, cell: Cell, path: B, depth: u32) -> Entry<B> {
        if cell.is_long() {
            let record = self.record(cell.number);
            return Entry {
                bits: record.bits,
                len: record.len,
                number: record.number,
                record: cell.number,
            };
        }
        let len = depth + cell.len();
        Entry {
            bits: path
                .with(
                    depth,
                    cell.len(),
                    cell.bits().checked_shr(64 - cell.len()).unwrap_or(0),
                )
                .first(len),
            len,
            number: cell.number,
            record: 0,
        }
    }

    /// The cell of a prefix in a slot of `depth`; its record comes or goes as the cell needs.
    pub(super) fn cell(&mut self, entry: Entry<B>, depth: u32) -> Option<Cell> {
        let len = entry.len - depth;
        let number = if Cell::too_long(len) {
            match entry.record {
                0 => self.acquire(entry.bits, entry.len, entry.number)?,
                record => record,
            }
        } else {
            if entry.record != 0 {
                self.release(entry.record);
            }
            entry.number
        };
        Some(Cell::new(entry.bits.skip(depth).top(), len, number))
    }

    /// The record of a prefix, as a cover needs it.
    pub(super) fn cover_record(&mut self, entry: Entry<B>) -> Option<Id> {
        match entry.record {
            0 => self.acquire(entry.bits, entry.len, entry.number),
            record => Some(record),
        }
    }

    // Finding exactly one.

    /// Where exactly this prefix lies. Cost: O(levels).
    pub(super) fn find(&self, bits: B, len: u32) -> Option<Spot> {
        let (mut at, mut depth) = (ROOT, 0);
        if len == 0 {
            return self.slot(ROOT).cover().map(|cover| Spot::Record(cover.id));
        }
        loop {
            match self.slot(at).view() {
                View::Empty => return None,
                View::Bucket(bucket) => return self.find_cell(bucket, bits, len, depth),
                View::Node(node) => {
                    if self.agreeing(node, bits, depth) < node.skip {
                        return None;
                    }
                    at = Self::child(node, bits, depth);
                    depth += node.skip + node.bits;
                    if len <= depth {
                        return self.find_cover(self.slot(at), len).map(Spot::Record);
                    }
                }
            }
        }
    }

    /// The cover of that length in the chain of a slot.
    pub(super) fn find_cover(&self, slot: Slot, len: u32) -> Option<Id> {
        let mut id = slot.cover()?.id;
        while id != 0 {
            let record = self.record(id);
            if record.len <= len {
                return (record.len == len).then_some(id);
            }
            id = record.parent;
        }
        None
    }

    pub(super) fn find_cell(&self, bucket: Bucket, bits: B, len: u32, depth: u32) -> Option<Spot> {
        let wanted = Cell::new(bits.skip(depth).top(), len - depth, 0);
        let mut found = (bucket.base..)
            .zip(self.cells_of(bucket))
            .filter_map(|(at, cell)| {
                if cell.window != wanted.window {
                    None
                } else if cell.is_long() {
                    let record = self.record(cell.number);
                    let same = (record.bits, record.len) == (bits, len);
                    same.then_some(Spot::Record(cell.number))
                } else {
                    Some(Spot::Cell(at))
                }
            });
        found.next()
    }

    pub(super) fn number(&self, spot: Spot) -> u32 {
        match spot {
            Spot::Cell(at) => self.cells.get(at).number,
            Spot::Record(id) => self.record(id).number,
        }
    }

    /// Gives the prefix of these bits, which lies there, another number. Cost: O(levels), and O(slots that it holds).
    pub(super) fn set_number(&mut self, bits: B, len: u32, spot: Spot, number: u32) {
        match spot {
            Spot::Cell(at) => {
                let cell = self.cells.get(at);
                self.cells.set(at, Cell { number, ..cell });
            }
            Spot::Record(id) => {
                if let Some(record) = self.records.get_mut(id as usize) {
                    record.number = number;
                }
                let (mut at, end) = self.holding(bits, len);
                while at < end {
                    let slot = self.slot(at);
                    if slot.cover().is_some_and(|cover| cover.id == id) {
                        self.slots.set(at, slot.numbered(number));
                        self.work.moved += 1;
                    }
                    at += 1;
                }
            }
        }
    }

    /// The slots that a prefix holds, if it is a cover.
    fn holding(&self, bits: B, len: u32) -> (At, At) {
        let (mut at, mut depth) = (ROOT, 0);
        while len > depth {
            let Some(node) = self.node(at) else {
                return (at, at);
            };
            at = Self::child(node, bits, depth);
            depth += node.skip + node.bits;
            if len <= depth {
                return Self::covered_slots(node, bits, len, depth);
            }
        }
        (ROOT, ROOT + 1)
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

const _: () = assert!(
    (BUCKET as u64) << BITS_MAX <= u16::MAX as u64,
    "a tally holds it"
);
