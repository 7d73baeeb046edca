//! Inserting and removing: find the place, change one slot, let the nodes on the way back find their size.
//!
//! A prefix of length `n` lies in the first node on its path whose slots are at least `n` bits deep. There it is a cover
//! of all slots that it holds, each of which knows the longest; the shorter ones are chained behind it. Where the path ends
//! at a slot without a node before that, it lies in the slot's bucket.

use super::Full;
use super::bits::Bits;
use super::index::{BUCKET, BUCKET_ORDER, Entry, Id, Index, Path, ROOT, Spot, Tally};
use super::slot::{At, Bucket, Cell, Cover, Node, Slot, View};

/// A handful of cells, sorted by length.
#[derive(Clone, Copy)]
pub(super) struct Draft {
    cells: [Cell; BUCKET + 1],
    count: usize,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self {
            cells: [Cell::default(); BUCKET + 1],
            count: 0,
        }
    }

    /// Adds a cell behind those that are not longer. Cost: O(cells that are longer), mostly none.
    pub(super) fn push(&mut self, cell: Cell) {
        let mut at = self.count;
        let Some(last) = self.cells.get_mut(at) else {
            return;
        };
        *last = cell;
        self.count += 1;
        while at > 0 && self.cells[at - 1].len() > cell.len() {
            self.cells.swap(at - 1, at);
            at -= 1;
        }
    }

    pub(super) fn cells(&self) -> &[Cell] {
        self.cells.get(..self.count).unwrap_or(&[])
    }
}

/// A slot on an edit's way.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The slot of the node that it is a child of.
    pub(super) parent: Option<At>,
    pub(super) at: At,
    pub(super) depth: u32,
}

impl<B: Bits> Index<B> {
    /// Gives a prefix a number; gives back the one that it had.
    pub(super) fn insert(&mut self, bits: B, len: u32, number: u32) -> Result<Option<u32>, Full> {
        if let Some(spot) = self.find(bits, len) {
            let old = self.number(spot);
            self.set_number(bits, len, spot, number);
            return Ok(Some(old));
        }
        if self.len >= self.capacity {
            return Err(Full);
        }
        let entry = Entry {
            bits,
            len,
            number,
            record: 0,
        };
        let mut path = Path::new();
        self.place(entry, &mut path).ok_or(Full)?;
        self.len += 1;
        self.resize_path(bits, &path, false);
        Ok(None)
    }

    fn place(&mut self, entry: Entry<B>, path: &mut Path) -> Option<()> {
        let (bits, len) = (entry.bits, entry.len);
        let mut place = Place {
            parent: None,
            at: ROOT,
            depth: 0,
        };
        if len == 0 {
            let id = self.cover_record(entry)?;
            let slot = self.slot(ROOT).covered(Some(Cover { id, back: 0 }));
            self.put(None, ROOT, slot);
            return Some(());
        }
        loop {
            let depth = place.depth;
            let node = match self.slot(place.at).view() {
                View::Node(node) => node,
                View::Empty => return self.place_in_bucket(entry, None, place, path),
                View::Bucket(bucket) => {
                    return self.place_in_bucket(entry, Some(bucket), place, path);
                }
            };
            let common = self.agreeing(node, bits, depth).min(len - depth);
            if common < node.skip {
                return self.split_skip(entry, node, common, place, path);
            }
            path.push(place.at, depth);
            let inner = depth + node.skip + node.bits;
            if len <= inner {
                let id = self.cover_record(entry)?;
                self.add_cover(id, node, inner);
                return Some(());
            }
            place = Place {
                parent: Some(place.at),
                at: Self::child(node, bits, depth),
                depth: inner,
            };
        }
    }

    /// Writes cells into the block of `old` if it is of the right size, else into another, and frees `old`'s.
    ///
    /// `None`, and nothing changed, where there is no block; never where the cells need no larger one than `old`'s.
    pub(super) fn write_bucket(&mut self, old: Option<Bucket>, draft: &Draft) -> Option<View> {
        let cells = draft.cells();
        let count = cells.len();
        if count == 0 {
            if let Some(old) = old {
                self.cells.free(old.base, old.order);
            }
            return Some(View::Empty);
        }
        let order = count.next_power_of_two().trailing_zeros().max(1);
        let base = match old {
            Some(old) if old.order == order => old.base,
            Some(old) if old.order > order => {
                // The front of a block is a block.
                for smaller in order..old.order {
                    self.cells.free(old.base + (1 << smaller), smaller);
                }
                old.base
            }
            _ => {
                let base = self.cells.allocate(order)?;
                if let Some(old) = old {
                    self.cells.free(old.base, old.order);
                }
                base
            }
        };
        for place in 0..1 << order {
            let cell = cells.get(place as usize).copied().unwrap_or_default();
            self.cells.set(base + place, cell);
        }
        self.work.moved += count as u64;
        Some(View::Bucket(Bucket {
            base,
            order,
            count: count as u32,
            next: cells.iter().fold(0, |next, cell| next | cell.next()),
        }))
    }

    /// The cells of a bucket.
    pub(super) fn read_bucket(&self, bucket: Bucket) -> Draft {
        let mut draft = Draft::new();
        for (place, cell) in draft.cells.iter_mut().zip(self.cells_of(bucket)) {
            *place = cell;
            draft.count += 1;
        }
        draft
    }

    /// Takes back what [`cell`](Self::cell) acquired.
    fn release_cell(&mut self, cell: Cell) {
        if cell.is_long() {
            self.release(cell.number);
        }
    }

    fn place_in_bucket(
        &mut self,
        entry: Entry<B>,
        bucket: Option<Bucket>,
        place: Place,
        path: &mut Path,
    ) -> Option<()> {
        let mut draft = bucket.map_or_else(Draft::new, |bucket| self.read_bucket(bucket));
        let cell = self.cell(entry, place.depth)?;
        draft.push(cell);
        if draft.cells().len() <= BUCKET {
            if let Some(view) = self.write_bucket(bucket, &draft) {
                let slot = self.slot(place.at).holding(view);
                self.put(place.parent, place.at, slot);
                return Some(());
            }
        }
        let split = bucket.and_then(|bucket| self.split_bucket(bucket, &draft, entry.bits, place));
        match split {
            Some(()) => path.push(place.at, place.depth),
            None => self.release_cell(cell),
        }
        split
    }

    /// Puts a node of two slots in the place of a bucket that overflows. `path` leads there.
    fn split_bucket(&mut self, bucket: Bucket, draft: &Draft, path: B, place: Place) -> Option<()> {
        let depth = place.depth;
        let mut entries = [None; BUCKET + 1];
        for (entry, cell) in entries.iter_mut().zip(draft.cells()) {
            *entry = Some(self.entry(*cell, path, depth));
        }
        let skip = common(entries.iter().flatten(), depth);
        let position = depth + skip;
        // What cannot be had is asked for first: slots, a record for skipped bits, a block for one side. The other fits in the
        // old block, for it has no more cells than that.
        let sides = entries.iter().flatten().fold([0, 0], |mut sides, entry| {
            sides[(entry.bits.skip(position).top() >> 63) as usize] +=
                u32::from(entry.len > position + 1);
            sides
        });
        let larger = usize::from(sides[1] > sides[0]);
        let spare = match sides[1 - larger] {
            0 => None,
            count => {
                let order = count.next_power_of_two().trailing_zeros().max(1);
                let base = self.cells.allocate(order)?;
                Some(Bucket {
                    base,
                    order,
                    count,
                    next: 0,
                })
            }
        };
        let Some(base) = self.slots.allocate(1) else {
            self.give_back(spare);
            return None;
        };
        let Some(node) = self.make_node(path, base, 1, skip, depth) else {
            self.give_back(spare);
            self.slots.free(base, 1);
            return None;
        };
        let mut drafts = [Draft::new(); 2];
        let mut covers = [0; 2];
        let mut whole = 0;
        for entry in entries.into_iter().flatten() {
            let side = (entry.bits.skip(position).top() >> 63) as usize;
            match entry.len - position {
                0 => whole = self.cover_record(entry).unwrap_or(0),
                1 => covers[side] = self.cover_record(entry).unwrap_or(0),
                _ => {
                    let cell = self.cell(entry, position + 1);
                    drafts[side].push(cell.unwrap_or_default());
                }
            }
        }
        self.set_tally(base, Tally::of_empty(2));
        let slot = self.slot(place.at).holding(View::Node(node));
        self.put(place.parent, place.at, slot);
        self.set_parent(whole, 0);
        let whole_cover = (whole != 0).then_some(Cover { id: whole, back: 1 });
        for (side, draft) in drafts.iter().enumerate() {
            let old = if side == larger { Some(bucket) } else { spare };
            let view = self.write_bucket(old, draft).unwrap_or(View::Empty);
            let slot = Slot::EMPTY.covered(whole_cover).holding(view);
            let slot = self.ended(slot, covers[side], whole);
            self.put(Some(place.at), base + side as u32, slot);
        }
        Some(())
    }

    fn give_back(&mut self, block: Option<Bucket>) {
        if let Some(block) = block {
            self.cells.free(block.base, block.order);
        }
    }

    /// A node of this shape in a slot of `depth`, which skips the bits that `path` has there. `None` where there are too many
    /// for the slot and no record is left.
    pub(super) fn make_node(
        &mut self,
        path: B,
        base: At,
        bits: u32,
        skip: u32,
        depth: u32,
    ) -> Option<Node> {
        let long = skip > 32;
        let skipped = if long {
            self.acquire_skip(path, depth + skip)?
        } else {
            (path.skip(depth).top() >> 32) as u32 & mask(skip)
        };
        Some(Node {
            base,
            bits,
            skip,
            long,
            skipped,
        })
    }

    /// Puts a node of two slots above a node whose skipped bits the new prefix leaves, or ends in, after `common`.
    fn split_skip(
        &mut self,
        entry: Entry<B>,
        node: Node,
        common: u32,
        place: Place,
        path: &mut Path,
    ) -> Option<()> {
        let depth = place.depth;
        let position = depth + common;
        let through = self.through(node, entry.bits, depth);
        let side = (through.skip(position).top() >> 63) as u32;
        let base = self.slots.allocate(1)?;
        let Some(upper) = self.make_node(through, base, 1, common, depth) else {
            self.slots.free(base, 1);
            return None;
        };
        // The prefix covers both slots, or one, or lies in the other's bucket.
        let (mut covers, mut other) = ([None; 2], Some(View::Empty));
        match entry.len - position {
            0 => {
                let id = self.cover_record(entry)?;
                covers = [Some(Cover { id, back: 1 }); 2];
            }
            1 => {
                let id = self.cover_record(entry)?;
                covers[1 - side as usize] = Some(Cover { id, back: 0 });
            }
            _ => {
                let mut draft = Draft::new();
                let cell = self.cell(entry, position + 1)?;
                draft.push(cell);
                other = self.write_bucket(None, &draft);
                if other.is_none() {
                    self.release_cell(cell);
                }
            }
        }
        let Some(other) = other else {
            if upper.long {
                self.release_skip(upper.skipped);
            }
            self.slots.free(base, 1);
            return None;
        };
        let lower = self.with_skip(node, node.skip - common - 1, through, position + 1);
        self.set_tally(base, Tally::of_empty(2));
        let slot = self.slot(place.at).holding(View::Node(upper));
        self.put(place.parent, place.at, slot);
        for half in 0..2 {
            let slot = Slot::EMPTY.covered(covers[half as usize]);
            let slot = if half == side {
                let ending = self.lift(lower, position + 1);
                let above = slot.cover().map_or(0, |cover| cover.id);
                let view = self.unless_hollow(lower);
                self.ended(slot.holding(view), ending, above)
            } else {
                slot.holding(other)
            };
            self.put(Some(place.at), base + half, slot);
        }
        path.push(place.at, depth);
        Some(())
    }

    /// A node as seen from a slot of `depth` further down, with `skip` bits still to skip, which `path` has.
    pub(super) fn with_skip(&mut self, node: Node, skip: u32, path: B, depth: u32) -> Node {
        if skip > 32 {
            // The record has all bits from the root on.
            return Node { skip, ..node };
        }
        if node.long {
            self.release_skip(node.skipped);
        }
        Node {
            skip,
            long: false,
            skipped: (path.skip(depth).top() >> 32) as u32 & mask(skip),
            ..node
        }
    }

    // Covers.

    /// The slots of `node` whose addresses a prefix that ends in it has; `depth` is that of its slots.
    pub(super) fn covered_slots(node: Node, bits: B, len: u32, depth: u32) -> (At, At) {
        let count = 1 << (depth - len);
        let index = (bits.skip(depth - node.bits).top() >> (64 - node.bits)) as u32;
        (node.base + index, node.base + index + count)
    }

    /// Makes a prefix a cover in `node`, whose slots are of `depth`. Cost: O(slots that it holds).
    pub(super) fn add_cover(&mut self, id: Id, node: Node, depth: u32) {
        let record = self.record(id);
        let (mut at, end) = Self::covered_slots(node, record.bits, record.len, depth);
        let back = depth - record.len;
        let mut parent = 0;
        while at < end {
            let slot = self.slot(at);
            self.work.tested += 1;
            match slot.cover() {
                Some(cover) if cover.back < back => {
                    let (top, above) = self.chain_until(cover.id, record.len);
                    parent = above;
                    self.set_parent(top, id);
                    // All slots of this longer cover have it in their chains.
                    let held = 1 << (depth - self.record(top).len);
                    at = (at | (held - 1)) + 1;
                }
                cover => {
                    parent = cover.map_or(0, |cover| cover.id);
                    self.put_child(node.base, at, slot.covered(Some(Cover { id, back })));
                    at += 1;
                }
            }
        }
        self.set_parent(id, parent);
    }

    /// The last cover in the chain from `id` that is longer than `len`, and the one behind it.
    fn chain_until(&self, id: Id, len: u32) -> (Id, Id) {
        let mut id = id;
        loop {
            let parent = self.record(id).parent;
            if parent == 0 || self.record(parent).len <= len {
                return (id, parent);
            }
            id = parent;
        }
    }

    /// Makes a prefix no longer a cover in `node`. Cost: O(slots that it holds).
    pub(super) fn take_cover(&mut self, id: Id, node: Node, depth: u32) {
        let record = self.record(id);
        let (mut at, end) = Self::covered_slots(node, record.bits, record.len, depth);
        let parent = (record.parent != 0).then(|| Cover {
            id: record.parent,
            back: depth - self.record(record.parent).len,
        });
        while at < end {
            let slot = self.slot(at);
            self.work.tested += 1;
            match slot.cover() {
                Some(cover) if cover.id != id => {
                    let (top, _) = self.chain_until(cover.id, record.len);
                    self.set_parent(top, record.parent);
                    let held = 1 << (depth - self.record(top).len);
                    at = (at | (held - 1)) + 1;
                }
                _ => {
                    self.put_child(node.base, at, slot.covered(parent));
                    at += 1;
                }
            }
        }
    }

    // Removing.

    /// Takes a prefix out; gives the number that was its own.
    pub(super) fn remove(&mut self, bits: B, len: u32) -> Option<u32> {
        let spot = self.find(bits, len)?;
        let number = self.number(spot);
        let mut path = Path::new();
        self.take_out(bits, len, spot, &mut path)?;
        if let Spot::Record(id) = spot {
            self.release(id);
        }
        self.len -= 1;
        self.resize_path(bits, &path, true);
        Some(number)
    }

    fn take_out(&mut self, bits: B, len: u32, spot: Spot, path: &mut Path) -> Option<()> {
        let (mut at, mut depth) = (ROOT, 0);
        if len == 0 {
            let slot = self.slot(ROOT).covered(None);
            self.put(None, ROOT, slot);
            return Some(());
        }
        loop {
            match self.slot(at).view() {
                View::Empty => return None,
                View::Bucket(bucket) => {
                    let mut left = Draft::new();
                    for (place, cell) in (bucket.base..).zip(self.cells_of(bucket)) {
                        let gone = match spot {
                            Spot::Cell(other) => place == other,
                            Spot::Record(id) => cell.is_long() && cell.number == id,
                        };
                        if !gone {
                            left.push(cell);
                        }
                    }
                    let view = self.write_bucket(Some(bucket), &left)?;
                    let slot = self.slot(at).holding(view);
                    self.put(path.last(), at, slot);
                    return Some(());
                }
                View::Node(node) => {
                    path.push(at, depth);
                    at = Self::child(node, bits, depth);
                    depth += node.skip + node.bits;
                    if let (true, Spot::Record(id)) = (len <= depth, spot) {
                        self.take_cover(id, node, depth);
                        return Some(());
                    }
                }
            }
        }
    }
}

/// How many bits behind `depth` all these have, none of them ending before.
fn common<'a, B: Bits>(mut entries: impl Iterator<Item = &'a Entry<B>>, depth: u32) -> u32 {
    let Some(first) = entries.next() else {
        return 0;
    };
    let common = entries.fold(first.len, |common, entry| {
        common.min(entry.len).min(entry.bits.common(first.bits))
    });
    common - depth
}

/// `count` ones from the top.
pub(super) fn mask(count: u32) -> u32 {
    !u32::MAX.checked_shr(count).unwrap_or(0)
}

const _: () = assert!(1 << BUCKET_ORDER == BUCKET);
