//! Nodes find their size: inflate, halve, collapse, and take skipped bits out.
//!
//! After Nilsson and Tikkanen's and Linux's rules, read for buckets. A slot is empty when no prefix ends in it; a child is
//! *full* when it is a node that skips no bits, so that inflating opens it.
//!
//! ```text
//!  inflate (2 -> 4 slots)                          halve (4 -> 2 slots)
//!
//!      [ A ][ B: full ]                            [ a ][ b ][   ][ c ]
//!        |      [ x ][ y ]                           |    |         |
//!      [a0][a1][ x ][ y ]                          [ a+b   ][   c     ]
//! ```
//!
//! A block's two halves are blocks, so a full child is opened where it lies: only its tally is counted anew. Halving is done
//! in place too.
//!
//! # Thresholds, and what they cost
//!
//! A node of `s` slots inflates when some child is full and at least 30 % of its `2s` new slots would be in use, and halves when
//! under 15 % of its slots are (15 % and 7 % for the root). Between an inflation and a halving of the same node at least a
//! seventh of its slots must have lost their last prefix; between a halving and an inflation a seventh must have come into use or
//! overflowed. Each of those takes an edit of that very node, so resizing costs O(1) slots an edit and level, and an edit passes
//! O(levels) nodes. Measured on a full IPv4 table: 8 slots and cells an insertion, all levels together.
//!
//! Linux's 50 % and 25 % made 2.65 levels of 374 thousand slots from a full IPv4 table in random order, where these made 2.35
//! of 553 thousand (both with nodes of up to `2^12` slots); lookups of its addresses took some 10 % less. Larger nodes are
//! dearer to resize than they are worth: with `2^12` instead of `2^10` slots the worst insertion moves twice as much, and lookups
//! are as fast within what the machine's noise lets one see.
//!
//! How much one edit may look at decides its worst time. With 2048 slots the dearest insertion into a full IPv4
//! table moved 2402 slots and cells, with 1536 it moved 1502, with 1280 it moves 1294 and takes three quarters of the time that it took
//! with 1536; lookups were as fast within the noise with all three. With 1024 random addresses took 5 % longer. An inflation first loads a line of everything that its slots hold, so that what is not in the caches comes at once: that
//! took a quarter off the dearest insertions. What is left is one cache line after the other, written for the first time or taken
//! from the free lists; that the smaller half of a bucket stay in the block of both changed nothing that could be measured.
//!
//! At worst one edit looks at [`LOOKS_MAX`] slots for resizing: an inflation that would cost more than what is left of that is not
//! done. It is the shape that suffers then, and not much, since what a node lacks in bits its children have.

use super::bits::Bits;
use super::index::{BITS_MAX, BUCKET, BUCKET_ORDER, Entry, Id, Index, Path, Tally};
use super::slot::{Bucket, Cell, Cover, Node, Slot, View};
use super::update::{Draft, Place};

/// Prefixes that a node without nodes below may have and still become a bucket.
const COLLAPSE: usize = BUCKET - BUCKET / 4;

/// Slots that one edit may look at for resizing.
pub(super) const LOOKS_MAX: u32 = if cfg!(any(test, fuzzing)) { 256 } else { 1280 };

/// Inflate when this share, in percent, of the larger node's slots would be in use.
const INFLATE: u32 = 30;
/// The same for the root.
const INFLATE_ROOT: u32 = 15;
/// Halve when less than this share of the slots is in use.
const HALVE: u32 = 15;
/// The same for the root.
const HALVE_ROOT: u32 = 7;

impl<B: Bits> Index<B> {
    /// Lets each node on a path that `bits` took find its size, the lowest first.
    ///
    /// `removed`: a prefix is gone, so that nodes may have become superfluous.
    pub(super) fn resize_path(&mut self, bits: B, path: &Path, removed: bool) {
        let mut looks = LOOKS_MAX;
        let steps = path.steps();
        for (index, (at, depth)) in steps.iter().enumerate().rev() {
            let place = Place {
                parent: index
                    .checked_sub(1)
                    .and_then(|above| Some(steps.get(above)?.0)),
                at: *at,
                depth: u32::from(*depth),
            };
            if !removed || !self.simplify(bits, place) {
                self.resize(bits, place, &mut looks);
            }
        }
    }

    /// Lets the node in a slot that `path` leads to find its size.
    fn resize(&mut self, path: B, place: Place, looks: &mut u32) {
        let mut inflated = false;
        while self.wants_inflating(place, looks) && self.inflate(path, place, looks) {
            inflated = true;
        }
        if !inflated {
            while self.wants_halving(place, looks) && self.halve(path, place) {}
        }
    }

    fn wants_inflating(&self, place: Place, looks: &mut u32) -> bool {
        let Some(node) = self.node(place.at).filter(|node| node.bits < BITS_MAX) else {
            return false;
        };
        let (tally, size) = (self.tally(node), node.size());
        let wanted = if place.parent.is_some() {
            INFLATE
        } else {
            INFLATE_ROOT
        };
        let used = size - u32::from(tally.empty) + u32::from(tally.full);
        let cost = 2 * size + u32::from(tally.cells) + tally.below;
        if tally.full == 0 || used * 100 < wanted * 2 * size || cost > *looks {
            return false;
        }
        *looks -= cost;
        true
    }

    fn wants_halving(&self, place: Place, looks: &mut u32) -> bool {
        let Some(node) = self.node(place.at).filter(|node| node.bits > 1) else {
            return false;
        };
        let (tally, size) = (self.tally(node), node.size());
        let wanted = if place.parent.is_some() {
            HALVE
        } else {
            HALVE_ROOT
        };
        // That some child is full is no reason against it: Linux once thought so, and kept 1048 pointers where 36 do.
        let used = size - u32::from(tally.empty);
        let cost = 2 * size + u32::from(tally.cells);
        if used * 100 >= wanted * size || cost > *looks {
            return false;
        }
        *looks -= cost;
        true
    }

    /// Doubles a node. False, and nothing changed, where there is no room.
    fn inflate(&mut self, path: B, place: Place, looks: &mut u32) -> bool {
        let Some(node) = self.node(place.at) else {
            return false;
        };
        let (size, tally) = (node.size(), self.tally(node));
        let buckets = size.saturating_sub(u32::from(tally.empty) + u32::from(tally.nodes));
        let kept = 2 * (self.capacity - self.len);
        if self.cells.blocks(BUCKET_ORDER) < buckets as usize
            || self.slots.room() < kept + 2 * size as usize
        {
            return false;
        }
        let Some(base) = self.slots.allocate(node.bits + 1) else {
            return false;
        };
        self.set_tally(base, Tally::of_empty(2 * size));
        let larger = Node {
            base,
            bits: node.bits + 1,
            ..node
        };
        let slot = self.slot(place.at).holding(View::Node(larger));
        self.put(place.parent, place.at, slot);
        self.touch_children(node);
        let through = self.through(node, path, place.depth);
        let position = place.depth + node.skip;
        let inner = position + node.bits;
        for index in 0..size {
            let old = self.slot(node.base + index);
            let opened =
                matches!(old.view(), View::Node(child) if child.skip == 0 && child.bits > 1);
            let here = through.with(position, node.bits, index.into());
            let halves = self.divide(old, here, inner);
            for (side, half) in halves.into_iter().enumerate() {
                let child = Place {
                    parent: Some(place.at),
                    at: base + 2 * index + side as u32,
                    depth: inner + 1,
                };
                self.put_child(base, child.at, half);
                // Half of what was full need not be, and what was dense in one half may now inflate.
                let here = here.with(inner, 1, side as u64);
                if opened && !self.simplify(here, child) {
                    self.resize(here, child, looks);
                }
            }
        }
        self.slots.free(node.base, node.bits);
        self.work.inflated += 1;
        true
    }

    /// Loads something of what each slot of a node holds, and nothing waits for it: a resize that met the buckets and nodes below one
    /// after the other would wait for each.
    fn touch_children(&self, node: Node) {
        let slots = self.slots.block(node.base, node.bits);
        let touched = slots.iter().fold(0, |touched, slot| {
            touched
                ^ match slot.view() {
                    View::Empty => 0,
                    View::Bucket(bucket) => self.cells.get(bucket.base).number,
                    View::Node(child) => {
                        self.slot(child.base).cover_word() ^ u32::from(self.tally(child).empty)
                    }
                }
        });
        core::hint::black_box(touched);
    }

    /// The two slots that take the place of one of `depth` that `path` leads to.
    fn divide(&mut self, old: Slot, path: B, depth: u32) -> [Slot; 2] {
        let above = old.cover();
        let lower = above.map(|cover| Cover {
            back: cover.back + 1,
            ..cover
        });
        let above = above.map_or(0, |cover| cover.id);
        let half = Slot::EMPTY.covered(lower);
        match old.view() {
            View::Empty => [half, half],
            View::Bucket(bucket) => {
                let (views, ending) = self.divide_bucket(bucket, path, depth);
                [0, 1].map(|side| self.ended(half.holding(views[side]), ending[side], above))
            }
            View::Node(node) if node.skip > 0 => {
                let through = self.through(node, path, depth);
                let below = self.with_skip(node, node.skip - 1, through, depth + 1);
                let ending = self.lift(below, depth + 1);
                let view = self.unless_hollow(below);
                let with = self.ended(half.holding(view), ending, above);
                if through.skip(depth).top() >> 63 == 0 {
                    [with, half]
                } else {
                    [half, with]
                }
            }
            View::Node(node) if node.bits == 1 => {
                let children = [self.slot(node.base), self.slot(node.base + 1)];
                self.slots.free(node.base, 1);
                children.map(|child| {
                    let ending = child.cover().map_or(0, |cover| cover.id);
                    self.ended(half.holding(child.view()), ending, above)
                })
            }
            View::Node(node) => [0, 1].map(|side| {
                let bits = node.bits - 1;
                let part = Node {
                    base: node.base + (side << bits),
                    bits,
                    ..node
                };
                let tally = Tally::of(self.slots.block(part.base, bits));
                self.work.tested += u64::from(part.size());
                self.set_tally(part.base, tally);
                let ending = self.lift(part, depth + 1);
                let view = self.unless_hollow(part);
                self.ended(half.holding(view), ending, above)
            }),
        }
    }

    /// Takes out of a node in a slot of `depth` the prefix that ends right at the slot, if there is one: it belongs in the slot.
    ///
    /// It covers the whole node, so it is the last of every chain there.
    pub(super) fn lift(&mut self, node: Node, depth: u32) -> Id {
        if node.skip > 0 {
            return 0;
        }
        let last = self.last_cover(self.slot(node.base));
        if last == 0 || self.record(last).len != depth {
            return 0;
        }
        self.take_cover(last, node, depth + node.bits);
        last
    }

    /// A node, or nothing where the last prefix has been lifted out of it.
    pub(super) fn unless_hollow(&mut self, node: Node) -> View {
        if self.tally(node) == Tally::of_empty(node.size()) {
            self.slots.free(node.base, node.bits);
            View::Empty
        } else {
            View::Node(node)
        }
    }

    /// A slot with the prefix `ending` right at it, if not 0, before the cover `above`.
    pub(super) fn ended(&mut self, slot: Slot, ending: Id, above: Id) -> Slot {
        if ending == 0 {
            return slot;
        }
        self.set_parent(ending, above);
        slot.covered(Some(Cover {
            id: ending,
            back: 0,
        }))
    }

    fn last_cover(&self, slot: Slot) -> Id {
        let mut id = slot.cover().map_or(0, |cover| cover.id);
        loop {
            match self.record(id).parent {
                0 => return id,
                parent => id = parent,
            }
        }
    }

    /// A bucket's prefixes one bit further down: two buckets, and what ends there.
    fn divide_bucket(&mut self, bucket: Bucket, path: B, depth: u32) -> ([View; 2], [Id; 2]) {
        let mut sides = [Draft::new(), Draft::new()];
        let mut ending = [0; 2];
        for cell in self.read_bucket(bucket).cells() {
            let side = (cell.window >> 31) as usize;
            if cell.is_long() {
                let entry = self.entry(*cell, path, depth);
                sides[side].push(self.cell(entry, depth + 1).unwrap_or_default());
            } else if cell.len() == 1 {
                let entry = self.entry(*cell, path, depth);
                ending[side] = self.cover_record(entry).unwrap_or(0);
            } else {
                sides[side].push(cell.deeper(1));
            }
        }
        let larger = usize::from(sides[1].cells().len() > sides[0].cells().len());
        // `inflate` has seen that there is room.
        let mut views = [View::Empty; 2];
        views[1 - larger] = self
            .write_bucket(None, &sides[1 - larger])
            .unwrap_or(View::Empty);
        views[larger] = self
            .write_bucket(Some(bucket), &sides[larger])
            .unwrap_or(View::Empty);
        (views, ending)
    }

    /// Halves a node, in place. False, and nothing changed, where there is no room.
    fn halve(&mut self, path: B, place: Place) -> bool {
        let Some(node) = self.node(place.at) else {
            return false;
        };
        let half = node.size() / 2;
        // Each pair may need a node of two slots, or a larger block of cells.
        let tally = self.tally(node);
        let pairs =
            half.min(u32::from(tally.nodes) + u32::from(tally.cells) + u32::from(tally.covered));
        if self.slots.room() < 2 * pairs as usize
            || self.cells.blocks(BUCKET_ORDER) < pairs as usize
        {
            return false;
        }
        let through = self.through(node, path, place.depth);
        let position = place.depth + node.skip;
        let inner = position + node.bits;
        for index in 0..half {
            let pair = [0, 1].map(|side| self.slot(node.base + 2 * index + side));
            let here = through
                .with(position, node.bits - 1, index.into())
                .first(inner - 1);
            let united = self.unite(pair, here, inner - 1);
            self.slots
                .set(node.base + index, self.numbered(Slot::EMPTY, united));
            self.work.moved += 1;
        }
        self.slots.free(node.base + half, node.bits - 1);
        let tally = Tally::of(self.slots.block(node.base, node.bits - 1));
        self.set_tally(node.base, tally);
        let smaller = Node {
            bits: node.bits - 1,
            ..node
        };
        let slot = self.slot(place.at).holding(View::Node(smaller));
        self.put(place.parent, place.at, slot);
        self.work.halved += 1;
        true
    }

    /// The slot of `depth`, which `path` leads to, that takes the place of two.
    fn unite(&mut self, pair: [Slot; 2], path: B, depth: u32) -> Slot {
        // Behind a cover that ends at its slot the chains of both are the same.
        let mut ending = [0; 2];
        let mut above = None;
        for (slot, ending) in pair.iter().zip(&mut ending) {
            above = match slot.cover() {
                Some(cover) if cover.back == 0 => {
                    *ending = cover.id;
                    let parent = self.record(cover.id).parent;
                    self.set_parent(cover.id, 0);
                    (parent != 0).then(|| Cover {
                        id: parent,
                        back: depth - self.record(parent).len,
                    })
                }
                Some(cover) => Some(Cover {
                    back: cover.back - 1,
                    ..cover
                }),
                None => None,
            };
        }
        let united = Slot::EMPTY.covered(above);
        let views = pair.map(Slot::view);
        let ends = ending.iter().filter(|id| **id != 0).count();
        let skipping = match views {
            [View::Empty, View::Empty] if ends == 0 => return united,
            [View::Node(node), View::Empty] if ends == 0 => self.more_skip(node, path, depth, 0),
            [View::Empty, View::Node(node)] if ends == 0 => self.more_skip(node, path, depth, 1),
            _ => None,
        };
        if let Some(node) = skipping {
            return united.holding(View::Node(node));
        }
        let count: usize = views.iter().map(bucket_len).sum();
        if !pair.iter().any(|slot| slot.is_node()) && count + ends <= BUCKET {
            return united.holding(self.unite_buckets(views, ending, path, depth));
        }
        self.node_of(pair, ending)
            .map_or(united, |node| united.holding(View::Node(node)))
    }

    fn unite_buckets(&mut self, views: [View; 2], ending: [Id; 2], path: B, depth: u32) -> View {
        let mut draft = Draft::new();
        let mut blocks = [None; 2];
        for (side, view) in views.into_iter().enumerate() {
            if let View::Bucket(bucket) = view {
                let path = path.with(depth, 1, side as u64);
                for cell in self.read_bucket(bucket).cells() {
                    let cell = if Cell::too_long(cell.len() + 1) {
                        let entry = self.entry(*cell, path, depth + 1);
                        self.cell(entry, depth).unwrap_or_default()
                    } else {
                        cell.higher(side as u32)
                    };
                    draft.push(cell);
                }
                blocks[side] = Some(bucket);
            }
            if ending[side] != 0 {
                let entry = self.cover_entry(ending[side]);
                draft.push(self.cell(entry, depth).unwrap_or_default());
            }
        }
        blocks.sort_unstable_by_key(|block| block.map(|block| block.order));
        let [smaller, larger] = blocks;
        // `halve` has seen that there is room.
        let view = self.write_bucket(larger, &draft).unwrap_or(View::Empty);
        if let Some(smaller) = smaller {
            self.cells.free(smaller.base, smaller.order);
        }
        view
    }

    fn cover_entry(&self, id: Id) -> Entry<B> {
        let record = self.record(id);
        Entry {
            bits: record.bits,
            len: record.len,
            number: record.number,
            record: id,
        }
    }

    /// A node of two slots with these contents and covers.
    fn node_of(&mut self, pair: [Slot; 2], ending: [Id; 2]) -> Option<Node> {
        let base = self.slots.allocate(1)?;
        for (side, slot) in pair.into_iter().enumerate() {
            let cover = (ending[side] != 0).then_some(Cover {
                id: ending[side],
                back: 0,
            });
            let slot = self.numbered(Slot::EMPTY, slot.covered(cover));
            self.slots.set(base + side as u32, slot);
        }
        self.work.moved += 2;
        let tally = Tally::of(self.slots.block(base, 1));
        self.set_tally(base, tally);
        Some(Node {
            base,
            bits: 1,
            skip: 0,
            long: false,
            skipped: 0,
        })
    }

    /// A node as seen from a slot of `depth`, one bit further up, where that bit is `bit`.
    ///
    /// `None` where it would skip too many bits for its slot and no record is left.
    fn more_skip(&mut self, node: Node, path: B, depth: u32, bit: u32) -> Option<Node> {
        let skip = node.skip + 1;
        if node.long {
            return Some(Node { skip, ..node });
        }
        if skip <= 32 {
            return Some(Node {
                skip,
                skipped: bit << 31 | node.skipped >> 1,
                ..node
            });
        }
        let through = self.through(node, path.with(depth, 1, bit.into()), depth + 1);
        self.make_node(through, node.base, node.bits, skip, depth)
    }

    /// Makes a node with few prefixes a bucket, and one with a single child that child. True where it is no longer a node of
    /// its own.
    fn simplify(&mut self, path: B, place: Place) -> bool {
        let Some(node) = self.node(place.at) else {
            return true;
        };
        let tally = self.tally(node);
        match tally.nodes {
            0 if usize::from(tally.cells) <= COLLAPSE => self.collapse(node, path, place),
            1 if tally.cells == 0 && tally.covered == 0 => self.skip_node(node, path, place),
            _ => false,
        }
    }

    fn collapse(&mut self, node: Node, path: B, place: Place) -> bool {
        let through = self.through(node, path, place.depth);
        let position = place.depth + node.skip;
        let inner = position + node.bits;
        let mut found = [None; COLLAPSE];
        let mut count = 0;
        for index in 0..node.size() {
            self.work.tested += 1;
            let slot = self.slot(node.base + index);
            let mut cover = slot.cover().map_or(0, |cover| cover.id);
            while cover != 0 {
                // Counted at the first slot that it covers.
                let record = self.record(cover);
                if index % (1 << (inner - record.len)) == 0 {
                    let Some(place) = found.get_mut(count) else {
                        return false;
                    };
                    *place = Some(self.cover_entry(cover));
                    count += 1;
                }
                cover = record.parent;
            }
            if let View::Bucket(bucket) = slot.view() {
                let here = through.with(position, node.bits, index.into());
                for cell in self.read_bucket(bucket).cells() {
                    let Some(place) = found.get_mut(count) else {
                        return false;
                    };
                    *place = Some(self.entry(*cell, here, inner));
                    count += 1;
                }
            }
        }
        if count > 0 && self.cells.blocks(BUCKET_ORDER) == 0 {
            return false;
        }
        for index in 0..node.size() {
            if let View::Bucket(bucket) = self.slot(node.base + index).view() {
                self.cells.free(bucket.base, bucket.order);
            }
        }
        self.free_node(node);
        let mut draft = Draft::new();
        for entry in found.into_iter().flatten() {
            self.set_parent(entry.record, 0);
            draft.push(self.cell(entry, place.depth).unwrap_or_default());
        }
        let view = self.write_bucket(None, &draft).unwrap_or(View::Empty);
        let slot = self.slot(place.at).holding(view);
        self.put(place.parent, place.at, slot);
        true
    }

    fn free_node(&mut self, node: Node) {
        self.slots.free(node.base, node.bits);
        if node.long {
            self.release_skip(node.skipped);
        }
    }

    /// Lets the only child take a node's place.
    fn skip_node(&mut self, node: Node, path: B, place: Place) -> bool {
        let children = self.slots.block(node.base, node.bits);
        let Some((index, View::Node(child))) = children
            .iter()
            .map(|slot| slot.view())
            .enumerate()
            .find(|(_, view)| matches!(view, View::Node(_)))
        else {
            return false;
        };
        let position = place.depth + node.skip;
        let here = self
            .through(node, path, place.depth)
            .with(position, node.bits, index as u64);
        let through = self.through(child, here, position + node.bits);
        let skip = node.skip + node.bits + child.skip;
        let joined = if child.long {
            Node { skip, ..child }
        } else {
            match self.make_node(through, child.base, child.bits, skip, place.depth) {
                Some(joined) => joined,
                None => return false,
            }
        };
        self.free_node(node);
        let slot = self.slot(place.at).holding(View::Node(joined));
        self.put(place.parent, place.at, slot);
        true
    }
}

fn bucket_len(view: &View) -> usize {
    match view {
        View::Bucket(bucket) => bucket.count as usize,
        _ => 0,
    }
}

const _: () = assert!(HALVE * 2 <= INFLATE && HALVE_ROOT * 2 <= INFLATE_ROOT);
