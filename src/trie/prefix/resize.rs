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
//! # Cost
//!
//! A node of `s` slots inflates when at least half of its `2s` new slots would be in use, and halves when under a quarter of
//! its slots are. Between an inflation (to at least half) and a halving of the same node, at least a quarter of its slots must
//! have lost their last prefix, and between a halving (to at most half) and an inflation a quarter of them must have
//! overflowed: so each costs O(1) slots for each edit of that node, and an edit passes O(levels) nodes. At worst one edit moves
//! what [`MOVES_MAX`](super::MOVES_MAX) says.

use super::bits::Bits;
use super::index::{BITS_MAX, BUCKET, BUCKET_ORDER, Id, Index, Path, Tally};
use super::slot::{At, Bucket, Cover, Node, Slot, View};
use super::update::Draft;

/// Prefixes that a node without nodes below may have and still become a bucket.
const COLLAPSE: usize = BUCKET - BUCKET / 4;

/// Slots that one edit may look at for resizing.
pub(super) const LOOKS_MAX: u32 = if cfg!(any(test, fuzzing)) { 256 } else { 4096 };

/// Inflate when this share, in percent, of the larger node's slots would be in use.
const INFLATE: u32 = 50;
/// The same for the root.
const INFLATE_ROOT: u32 = 30;
/// Halve when less than this share of the slots is in use.
const HALVE: u32 = 25;
/// The same for the root.
const HALVE_ROOT: u32 = 15;

impl<B: Bits> Index<B> {
    /// Lets each node on a path find its size, the lowest first.
    ///
    /// `removed`: a prefix is gone, so that nodes may have become superfluous.
    pub(super) fn resize_path(&mut self, path: &Path, removed: bool) {
        let mut looks = LOOKS_MAX;
        let steps = path.steps();
        for (index, (at, depth)) in steps.iter().enumerate().rev() {
            let parent = index.checked_sub(1).map(|above| steps[above].0);
            let depth = u32::from(*depth);
            if removed && self.simplify(parent, *at, depth) {
                continue;
            }
            let mut inflated = false;
            while self.wants_inflating(parent, *at, &mut looks)
                && self.inflate(parent, *at, depth, &mut looks)
            {
                inflated = true;
            }
            if !inflated {
                self.shrink(parent, *at, depth, &mut looks);
            }
        }
    }

    fn shrink(&mut self, parent: Option<At>, at: At, depth: u32, looks: &mut u32) {
        while self.wants_halving(parent, at, looks) && self.halve(parent, at, depth) {}
    }

    fn wants_inflating(&self, parent: Option<At>, at: At, looks: &mut u32) -> bool {
        let Some(node) = self.node(at).filter(|node| node.bits < BITS_MAX) else {
            return false;
        };
        let (tally, size) = (self.tally(node), node.size());
        let wanted = if parent.is_some() {
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

    fn wants_halving(&self, parent: Option<At>, at: At, looks: &mut u32) -> bool {
        let Some(node) = self.node(at).filter(|node| node.bits > 1) else {
            return false;
        };
        let (tally, size) = (self.tally(node), node.size());
        let wanted = if parent.is_some() { HALVE } else { HALVE_ROOT };
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
    fn inflate(&mut self, parent: Option<At>, at: At, depth: u32, looks: &mut u32) -> bool {
        let Some(node) = self.node(at) else {
            return false;
        };
        let (size, tally) = (node.size(), self.tally(node));
        let buckets =
            size as usize - usize::from(tally.empty.min(size as u16)) - usize::from(tally.nodes);
        let kept = 2 * (self.capacity - self.len);
        if self.cells.blocks(BUCKET_ORDER) < buckets || self.slots.room() < kept + 2 * size as usize
        {
            return false;
        }
        let Some(base) = self.slots.allocate(node.bits + 1) else {
            return false;
        };
        *self.tally_mut(base) = Tally::of_empty(2 * size);
        let larger = Node {
            base,
            bits: node.bits + 1,
            ..node
        };
        let slot = self.slot(at).holding(View::Node(larger));
        self.put(parent, at, slot);
        let inner = depth + node.skip + node.bits;
        for index in 0..size {
            let old = self.slot(node.base + index);
            let opened =
                matches!(old.view(), View::Node(child) if child.skip == 0 && child.bits > 1);
            let halves = self.divide(old, inner);
            for (side, half) in halves.into_iter().enumerate() {
                let child = base + 2 * index + side as u32;
                self.put_child(base, child, half);
                // Half of what was full need not be.
                if opened && !self.simplify(Some(at), child, inner + 1) {
                    self.shrink(Some(at), child, inner + 1, looks);
                }
            }
        }
        self.slots.free(node.base, node.bits);
        self.work.inflated += 1;
        true
    }

    /// The two slots that take the place of one of `depth`.
    fn divide(&mut self, old: Slot, depth: u32) -> [Slot; 2] {
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
                let (views, ending) = self.divide_bucket(bucket, depth);
                [0, 1].map(|side| {
                    let half = half.holding(views[side]);
                    self.ended(half, ending[side], above)
                })
            }
            View::Node(node) if node.skip > 0 => {
                let (side, below) = self.less_skip(node, depth);
                let ending = self.lift(below, depth + 1);
                let view = self.unless_hollow(below);
                let with = self.ended(half.holding(view), ending, above);
                if side == 0 {
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
                *self.tally_mut(part.base) = tally;
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
        if last == 0 || self.record(last).len() != depth {
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
    fn divide_bucket(&mut self, bucket: Bucket, depth: u32) -> ([View; 2], [Id; 2]) {
        let mut sides = [Draft::new(), Draft::new()];
        let mut ending = [0; 2];
        for cell in self.read_bucket(bucket).cells() {
            let side = (cell.0 >> 63) as usize;
            if cell.is_long() {
                sides[side].push(self.cell(cell.id(), depth + 1));
            } else if cell.len() == 1 {
                ending[side] = cell.id();
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

    /// A node of a slot of `depth` as seen one bit further down, and on which side that is.
    fn less_skip(&self, node: Node, depth: u32) -> (usize, Node) {
        let skip = node.skip - 1;
        if node.long {
            let side = self.record(node.skipped).bits.skip(depth).top() >> 63;
            let below = self.make_node(node.skipped, node.base, node.bits, skip, depth + 1);
            return (side as usize, below);
        }
        let below = Node {
            skip,
            skipped: node.skipped << 1,
            ..node
        };
        ((node.skipped >> 31) as usize, below)
    }

    /// Halves a node, in place. False, and nothing changed, where there is no room.
    fn halve(&mut self, parent: Option<At>, at: At, depth: u32) -> bool {
        let Some(node) = self.node(at) else {
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
        let inner = depth + node.skip + node.bits;
        for index in 0..half {
            let pair = [0, 1].map(|side| self.slot(node.base + 2 * index + side));
            let merged = self.unite(pair, inner - 1);
            self.slots.set(node.base + index, merged);
            self.work.moved += 1;
        }
        self.slots.free(node.base + half, node.bits - 1);
        let tally = Tally::of(self.slots.block(node.base, node.bits - 1));
        *self.tally_mut(node.base) = tally;
        let smaller = Node {
            bits: node.bits - 1,
            ..node
        };
        let slot = self.slot(at).holding(View::Node(smaller));
        self.put(parent, at, slot);
        self.work.halved += 1;
        true
    }

    /// The slot of `depth` that takes the place of two.
    fn unite(&mut self, pair: [Slot; 2], depth: u32) -> Slot {
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
                        back: depth - self.record(parent).len(),
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
        match views {
            [View::Empty, View::Empty] if ends == 0 => united,
            [View::Node(node), View::Empty] if ends == 0 => {
                united.holding(View::Node(self.more_skip(node, 0)))
            }
            [View::Empty, View::Node(node)] if ends == 0 => {
                united.holding(View::Node(self.more_skip(node, 1)))
            }
            _ => {
                let count: usize = views.iter().map(bucket_len).sum();
                if !pair.iter().any(|slot| slot.is_node()) && count + ends <= BUCKET {
                    if let Some(view) = self.unite_buckets(views, ending, depth) {
                        return united.holding(view);
                    }
                }
                self.node_of(pair, ending)
                    .map_or(united, |node| united.holding(View::Node(node)))
            }
        }
    }

    fn unite_buckets(&mut self, views: [View; 2], ending: [Id; 2], depth: u32) -> Option<View> {
        let mut draft = Draft::new();
        let mut blocks = [None; 2];
        for (side, view) in views.into_iter().enumerate() {
            if let View::Bucket(bucket) = view {
                for cell in self.read_bucket(bucket).cells() {
                    draft.push(cell.higher(side as u64));
                }
                blocks[side] = Some(bucket);
            }
            if ending[side] != 0 {
                draft.push(self.cell(ending[side], depth));
            }
        }
        blocks.sort_unstable_by_key(|block| block.map(|block| block.order));
        let [smaller, larger] = blocks;
        let view = self.write_bucket(larger, &draft)?;
        if let Some(smaller) = smaller {
            self.cells.free(smaller.base, smaller.order);
        }
        Some(view)
    }

    /// A node of two slots with these contents and covers.
    fn node_of(&mut self, pair: [Slot; 2], ending: [Id; 2]) -> Option<Node> {
        let base = self.slots.allocate(1)?;
        for (side, slot) in pair.into_iter().enumerate() {
            let cover = (ending[side] != 0).then_some(Cover {
                id: ending[side],
                back: 0,
            });
            self.slots.set(base + side as u32, slot.covered(cover));
        }
        self.work.moved += 2;
        let tally = Tally::of(self.slots.block(base, 1));
        *self.tally_mut(base) = tally;
        Some(Node {
            base,
            bits: 1,
            skip: 0,
            long: false,
            skipped: 0,
        })
    }

    /// A node as seen one bit further up, where that bit is `bit`.
    fn more_skip(&self, node: Node, bit: u32) -> Node {
        let skip = node.skip + 1;
        let (long, skipped) = match (node.long, skip > 32) {
            (true, _) => (true, node.skipped),
            (false, true) => (true, self.any_below(node)),
            (false, false) => (false, bit << 31 | node.skipped >> 1),
        };
        Node {
            skip,
            long,
            skipped,
            ..node
        }
    }

    /// Makes a node with few prefixes a bucket, and one with a single child that child. True where it is no longer a node of
    /// its own.
    fn simplify(&mut self, parent: Option<At>, at: At, depth: u32) -> bool {
        let Some(node) = self.node(at) else {
            return true;
        };
        let tally = self.tally(node);
        match tally.nodes {
            0 if usize::from(tally.cells) <= COLLAPSE => self.collapse(parent, at, depth),
            1 if tally.cells == 0 && tally.covered == 0 => self.skip_node(parent, at, depth),
            _ => false,
        }
    }

    fn collapse(&mut self, parent: Option<At>, at: At, depth: u32) -> bool {
        let Some(node) = self.node(at) else {
            return false;
        };
        let mut found = [0; COLLAPSE];
        let mut count = 0;
        let inner = depth + node.skip + node.bits;
        for index in 0..node.size() {
            self.work.tested += 1;
            let slot = self.slot(node.base + index);
            let mut cover = slot.cover().map_or(0, |cover| cover.id);
            let mut ids = [0; BUCKET + BITS_MAX as usize + 1];
            let mut some = 0;
            while cover != 0 {
                let record = self.record(cover);
                // Counted at the first slot that it covers.
                let held = 1u32 << (inner - record.len()).min(31);
                if index % held == 0 {
                    ids[some] = cover;
                    some += 1;
                }
                cover = record.parent;
            }
            if let View::Bucket(bucket) = slot.view() {
                for cell in self.bucket(bucket.base, bucket.order) {
                    if cell.id() != 0 {
                        ids[some] = cell.id();
                        some += 1;
                    }
                }
            }
            if count + some > COLLAPSE {
                return false;
            }
            found[count..count + some].copy_from_slice(&ids[..some]);
            count += some;
        }
        if count > 0 && self.cells.blocks(BUCKET_ORDER) == 0 {
            return false;
        }
        for index in 0..node.size() {
            if let View::Bucket(bucket) = self.slot(node.base + index).view() {
                self.cells.free(bucket.base, bucket.order);
            }
        }
        self.slots.free(node.base, node.bits);
        let mut draft = Draft::new();
        for id in &found[..count] {
            self.set_parent(*id, 0);
            draft.push(self.cell(*id, depth));
        }
        let view = self.write_bucket(None, &draft).unwrap_or(View::Empty);
        let slot = self.slot(at).holding(view);
        self.put(parent, at, slot);
        true
    }

    fn skip_node(&mut self, parent: Option<At>, at: At, depth: u32) -> bool {
        let Some(node) = self.node(at) else {
            return false;
        };
        let children = self.slots.block(node.base, node.bits);
        let Some(View::Node(child)) = children
            .iter()
            .find(|slot| slot.is_node())
            .map(|slot| slot.view())
        else {
            return false;
        };
        let below = self.any_below(child);
        let skip = node.skip + node.bits + child.skip;
        let joined = self.make_node(below, child.base, child.bits, skip, depth);
        self.slots.free(node.base, node.bits);
        let slot = self.slot(at).holding(View::Node(joined));
        self.put(parent, at, slot);
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
