//! Inserting and removing: find the place, change one slot, let the nodes on the way back find their size.
//!
//! A prefix of length `n` lies in the first node on its path whose slots are at least `n` bits deep. There it is a cover
//! of all slots that it holds, each of which knows the longest; the shorter ones are chained behind it. Where the path ends
//! at a slot without a node before that, it lies in the slot's bucket.

use super::Full;
use super::bits::Bits;
use super::index::{BUCKET, BUCKET_ORDER, Id, Index, Path, ROOT, Tally};
use super::slot::{At, Bucket, Cell, Cover, Node, Slot, View};

/// A handful of cells, sorted by length.
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

    /// Adds a cell behind those that are not longer.
    pub(super) fn push(&mut self, cell: Cell) {
        let at = self
            .cells()
            .iter()
            .position(|other| other.len() > cell.len())
            .unwrap_or(self.count);
        if let Some(tail) = self.cells.get_mut(at..=self.count) {
            tail.rotate_right(1);
            tail[0] = cell;
            self.count += 1;
        }
    }

    pub(super) fn cells(&self) -> &[Cell] {
        self.cells.get(..self.count).unwrap_or(&[])
    }
}

impl<B: Bits> Index<B> {
    /// Gives a prefix a number; the one that it has, and false, if it has one already.
    pub(super) fn insert(&mut self, bits: B, len: u32) -> Result<(Id, bool), Full> {
        if let Some(id) = self.find(bits, len) {
            return Ok((id, false));
        }
        let id = self.acquire(bits, len)?;
        let mut path = Path::new();
        if self.place(id, bits, len, &mut path).is_none() {
            self.release(id);
            return Err(Full);
        }
        self.resize_path(&path, false);
        Ok((id, true))
    }

    fn place(&mut self, id: Id, bits: B, len: u32, path: &mut Path) -> Option<()> {
        let (mut at, mut depth) = (ROOT, 0);
        if len == 0 {
            let slot = self.slot(ROOT).covered(Some(Cover { id, back: 0 }));
            self.put(None, ROOT, slot);
            return Some(());
        }
        loop {
            let parent = path.last();
            let node = match self.slot(at).view() {
                View::Node(node) => node,
                View::Empty => return self.place_alone(id, parent, at, depth),
                View::Bucket(bucket) => {
                    return self.place_in_bucket(id, bucket, parent, at, depth, path);
                }
            };
            let common = self.agreeing(node, bits, depth).min(len - depth);
            if common < node.skip {
                return self.split_skip(id, node, common, parent, at, depth, path);
            }
            path.push(at, depth);
            depth += node.skip + node.bits;
            if len <= depth {
                self.add_cover(id, node, bits, len, depth);
                return Some(());
            }
            at = Self::child(node, bits, depth - node.skip - node.bits);
        }
    }

    /// The cell of a prefix in a slot of `depth`.
    pub(super) fn cell(&self, id: Id, depth: u32) -> Cell {
        let record = self.record(id);
        Cell::new(record.bits.skip(depth).top(), record.len() - depth, id)
    }

    fn place_alone(&mut self, id: Id, parent: Option<At>, at: At, depth: u32) -> Option<()> {
        let mut draft = Draft::new();
        draft.push(self.cell(id, depth));
        let view = self.write_bucket(None, &draft)?;
        let slot = self.slot(at).holding(view);
        self.put(parent, at, slot);
        Some(())
    }

    /// Writes cells into the block of `old` if it is of the right size, else into another, and frees `old`'s.
    ///
    /// `None`, and nothing changed, where there is no block.
    pub(super) fn write_bucket(&mut self, old: Option<Bucket>, draft: &Draft) -> Option<View> {
        let cells = draft.cells();
        let count = cells.len();
        if count == 0 {
            if let Some(old) = old {
                self.cells.free(old.base, old.order);
            }
            return Some(View::Empty);
        }
        let order = (count.next_power_of_two().trailing_zeros()).max(1);
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
        let block = self.cells.block_mut(base, order);
        let unused = block.len() - count;
        for (place, cell) in block.iter_mut().enumerate() {
            *cell = match place.checked_sub(unused) {
                Some(index) => cells[index],
                None => Cell::default(),
            };
        }
        self.work.moved += count as u64;
        Some(View::Bucket(Bucket {
            base,
            order,
            count: count as u32,
        }))
    }

    /// The cells of a bucket.
    pub(super) fn read_bucket(&self, bucket: Bucket) -> Draft {
        let mut draft = Draft::new();
        let cells = self.bucket(bucket.base, bucket.order);
        for cell in cells.iter().filter(|cell| cell.id() != 0) {
            draft.push(*cell);
        }
        draft
    }

    fn place_in_bucket(
        &mut self,
        id: Id,
        bucket: Bucket,
        parent: Option<At>,
        at: At,
        depth: u32,
        path: &mut Path,
    ) -> Option<()> {
        let mut draft = self.read_bucket(bucket);
        draft.push(self.cell(id, depth));
        if draft.cells().len() <= BUCKET {
            if let Some(view) = self.write_bucket(Some(bucket), &draft) {
                let slot = self.slot(at).holding(view);
                self.put(parent, at, slot);
                return Some(());
            }
        }
        self.split_bucket(id, bucket, &draft, parent, at, depth, path)
    }

    /// Puts a node of two slots in the place of a bucket that overflows.
    #[expect(clippy::too_many_arguments, reason = "the place and its surroundings")]
    fn split_bucket(
        &mut self,
        id: Id,
        bucket: Bucket,
        draft: &Draft,
        parent: Option<At>,
        at: At,
        depth: u32,
        path: &mut Path,
    ) -> Option<()> {
        let skip = self.common(draft.cells(), depth);
        let mut sides = [Draft::new(), Draft::new()];
        let mut covers = [0; 2];
        let mut whole = 0;
        for cell in draft.cells() {
            let record = self.record(cell.id());
            let below = record.len() - depth - skip;
            let side = (record.bits.skip(depth + skip).top() >> 63) as usize;
            match below {
                0 => whole = cell.id(),
                1 => covers[side] = cell.id(),
                _ => sides[side].push(self.cell(cell.id(), depth + skip + 1)),
            }
        }
        if sides.iter().any(|side| side.cells().len() > BUCKET) {
            return None;
        }
        // The larger side fits in the old block, unless the bucket was split for want of a larger one.
        let base = self.slots.allocate(1)?;
        let larger = usize::from(sides[1].cells().len() > sides[0].cells().len());
        let smaller = self.write_bucket(None, &sides[1 - larger]);
        let larger_view = match smaller {
            Some(_) => self.write_bucket(Some(bucket), &sides[larger]),
            None => None,
        };
        let (Some(smaller), Some(larger_view)) = (smaller, larger_view) else {
            if let Some(View::Bucket(bucket)) = smaller {
                self.cells.free(bucket.base, bucket.order);
            }
            self.slots.free(base, 1);
            return None;
        };
        *self.tally_mut(base) = Tally::of_empty(2);
        let node = self.make_node(id, base, 1, skip, depth);
        let slot = self.slot(at).holding(View::Node(node));
        self.put(parent, at, slot);
        for (side, cover) in covers.into_iter().enumerate() {
            let view = if side == larger { larger_view } else { smaller };
            let cover = match (cover, whole) {
                (0, 0) => None,
                (0, id) => Some(Cover { id, back: 1 }),
                (id, _) => Some(Cover { id, back: 0 }),
            };
            self.put(
                Some(at),
                base + side as u32,
                Slot::EMPTY.covered(cover).holding(view),
            );
        }
        for cover in covers.into_iter().filter(|id| *id != 0) {
            self.set_parent(cover, whole);
        }
        self.set_parent(whole, 0);
        path.push(at, depth);
        Some(())
    }

    /// A node of this shape in a slot of `depth`; `below` is a prefix in it.
    pub(super) fn make_node(&self, below: Id, base: At, bits: u32, skip: u32, depth: u32) -> Node {
        let long = skip > 32;
        let skipped = if long {
            below
        } else {
            (self.record(below).bits.skip(depth).top() >> 32) as u32 & mask(skip)
        };
        Node {
            base,
            bits,
            skip,
            long,
            skipped,
        }
    }

    /// How many bits behind `depth` all these cells have, none of them ending before.
    fn common(&self, cells: &[Cell], depth: u32) -> u32 {
        let Some((first, others)) = cells.split_first() else {
            return 0;
        };
        let first = self.record(first.id());
        let mut common = first.len() - depth;
        for cell in others {
            let record = self.record(cell.id());
            common = common
                .min(record.len() - depth)
                .min(record.bits.skip(depth).common(first.bits.skip(depth)));
        }
        common
    }

    /// Puts a node of two slots above a node whose skipped bits the new prefix leaves, or ends in, after `common`.
    #[expect(clippy::too_many_arguments, reason = "the place and its surroundings")]
    fn split_skip(
        &mut self,
        id: Id,
        node: Node,
        common: u32,
        parent: Option<At>,
        at: At,
        depth: u32,
        path: &mut Path,
    ) -> Option<()> {
        let record = self.record(id);
        let position = depth + common;
        let base = self.slots.allocate(1)?;
        let sibling = self.any_below(node);
        let side = (self.record(sibling).bits.skip(position).top() >> 63) as u32;
        // The prefix covers both slots, or one, or lies in the other's bucket.
        let (mut covers, mut other) = ([None; 2], View::Empty);
        match record.len() - position {
            0 => covers = [Some(Cover { id, back: 1 }); 2],
            1 => covers[1 - side as usize] = Some(Cover { id, back: 0 }),
            _ => {
                let mut draft = Draft::new();
                draft.push(self.cell(id, position + 1));
                match self.write_bucket(None, &draft) {
                    Some(view) => other = view,
                    None => {
                        self.slots.free(base, 1);
                        return None;
                    }
                }
            }
        }
        *self.tally_mut(base) = Tally::of_empty(2);
        let upper = self.make_node(sibling, base, 1, common, depth);
        let lower = self.make_node(
            sibling,
            node.base,
            node.bits,
            node.skip - common - 1,
            position + 1,
        );
        let slot = self.slot(at).holding(View::Node(upper));
        self.put(parent, at, slot);
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
            self.put(Some(at), base + half, slot);
        }
        path.push(at, depth);
        Some(())
    }

    /// Some prefix that lies in `node` or below.
    pub(super) fn any_below(&self, node: Node) -> Id {
        let mut node = node;
        loop {
            let children = self.slots.block(node.base, node.bits);
            let Some(child) = children
                .iter()
                .find(|slot| slot.cover_word() != 0 || !slot.is_empty())
            else {
                return 0;
            };
            if let Some(cover) = child.cover() {
                return cover.id;
            }
            match child.view() {
                View::Node(below) => node = below,
                View::Bucket(bucket) => {
                    let cells = self.bucket(bucket.base, bucket.order);
                    return cells.last().map_or(0, |cell| cell.id());
                }
                View::Empty => return 0,
            }
        }
    }

    // Covers.

    /// The slots of `node` whose addresses a prefix that ends in it has; `depth` is that of its slots.
    fn covered_slots(node: Node, bits: B, len: u32, depth: u32) -> (At, At) {
        let count = 1 << (depth - len);
        let index = (bits.skip(depth - node.bits).top() >> (64 - node.bits)) as u32;
        (node.base + index, node.base + index + count)
    }

    /// Makes a prefix a cover in `node`. Cost: O(slots that it holds).
    pub(super) fn add_cover(&mut self, id: Id, node: Node, bits: B, len: u32, depth: u32) {
        let (mut at, end) = Self::covered_slots(node, bits, len, depth);
        let back = depth - len;
        let mut parent = 0;
        while at < end {
            let slot = self.slot(at);
            self.work.tested += 1;
            match slot.cover() {
                Some(cover) if cover.back < back => {
                    let (top, above) = self.chain_until(cover.id, len);
                    if above != id {
                        parent = above;
                        self.set_parent(top, id);
                    }
                    // All slots of this longer cover have it in their chains.
                    let held = 1 << (depth - self.record(top).len());
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
            if parent == 0 || self.record(parent).len() <= len {
                return (id, parent);
            }
            id = parent;
        }
    }

    /// Makes a prefix no longer a cover in `node`. Cost: O(slots that it holds).
    pub(super) fn take_cover(&mut self, id: Id, node: Node, depth: u32) {
        let record = self.record(id);
        let (mut at, end) = Self::covered_slots(node, record.bits, record.len(), depth);
        let parent = (record.parent != 0).then(|| Cover {
            id: record.parent,
            back: depth - self.record(record.parent).len(),
        });
        while at < end {
            let slot = self.slot(at);
            self.work.tested += 1;
            match slot.cover() {
                Some(cover) if cover.id != id => {
                    let (top, above) = self.chain_until(cover.id, record.len());
                    if above == id {
                        self.set_parent(top, record.parent);
                    }
                    let held = 1 << (depth - self.record(top).len());
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
    pub(super) fn remove(&mut self, bits: B, len: u32) -> Option<Id> {
        let mut path = Path::new();
        let id = self.take_out(bits, len, &mut path)?;
        // A node whose skipped bits this prefix stood for needs another.
        for index in 0..path.steps().len() {
            let (at, _) = path.steps()[index];
            if let Some(node) = self.node(at).filter(|node| node.long && node.skipped == id) {
                let skipped = self.any_below(node);
                let slot = self.slot(at).holding(View::Node(Node { skipped, ..node }));
                self.slots.set(at, slot);
            }
        }
        self.resize_path(&path, true);
        self.release(id);
        Some(id)
    }

    fn take_out(&mut self, bits: B, len: u32, path: &mut Path) -> Option<Id> {
        let (mut at, mut depth) = (ROOT, 0);
        if len == 0 {
            let id = self.slot(ROOT).cover()?.id;
            let slot = self.slot(ROOT).covered(None);
            self.put(None, ROOT, slot);
            return Some(id);
        }
        loop {
            match self.slot(at).view() {
                View::Empty => return None,
                View::Bucket(bucket) => {
                    let cells = self.bucket(bucket.base, bucket.order);
                    let id = self.find_cell(cells, bits, len, depth)?;
                    let mut left = Draft::new();
                    for cell in cells
                        .iter()
                        .filter(|cell| cell.id() != 0 && cell.id() != id)
                    {
                        left.push(*cell);
                    }
                    // A smaller block always fits: it is part of the old one.
                    let view = self.write_bucket(Some(bucket), &left)?;
                    let slot = self.slot(at).holding(view);
                    self.put(path.last(), at, slot);
                    return Some(id);
                }
                View::Node(node) => {
                    if self.agreeing(node, bits, depth) < node.skip {
                        return None;
                    }
                    path.push(at, depth);
                    at = Self::child(node, bits, depth);
                    depth += node.skip + node.bits;
                    if len <= depth {
                        let id = self.find(bits, len)?;
                        self.take_cover(id, node, depth);
                        return Some(id);
                    }
                }
            }
        }
    }
}

/// `count` ones from the top.
pub(super) fn mask(count: u32) -> u32 {
    !u32::MAX.checked_shr(count).unwrap_or(0)
}

const _: () = assert!(1 << BUCKET_ORDER == BUCKET);
