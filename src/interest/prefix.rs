//! All prefixes of an address: a multibit trie with a record for each prefix.
//!
//! Apart from the rest of the index behind [`enter`](PrefixTrie::enter), [`Walk`] and [`PrefixTrie::touched`], so that
//! another engine for the same question can take its place.
//!
//! A node stands at a depth that is a multiple of six and decides on the six bits from there: a *tree bitmap* (Eatherton,
//! Varghese, Dittia, "Tree Bitmap", CCR 34(2), 2004, section 3). Prefixes that end within the six bits are *internal*, at
//! one of 63 positions; longer ones go through one of 64 children. A child that leads to one prefix is a *leaf*: the
//! prefix's record itself (the path is compressed to its end). A child that leads to several is a node at the deepest level
//! that they share: the levels between are skipped, and a record, which holds its whole prefix, is what says whether the
//! skipped bits agreed.
//!
//! ```text
//!  node, 32 bytes
//!  | internal 64 | leaves 64 | nodes 64 | depth 8 | base of records 28 | base of nodes 28 |
//!      position 1 = the node's own prefix, 2-3 = one bit more, 4-7 = two, ... 32-63 = five
//!
//!  block of records:  internal ones by position, then leaves by child
//! ```
//!
//! Cost, with W = 32 or 128 bits of address: a walk visits at most W/6 + 1 nodes and as many records as match, plus one
//! leaf; insert and remove visit the path once and copy at most 127 records. The set of nodes depends on the set of
//! prefixes alone, not on the order of edits.

use alloc::vec::Vec;

use super::pool::{Pool, Pooled};
use super::table::{Slot, Table};

/// An address as the trie sees it.
pub(super) trait Bits: Copy + Eq + core::fmt::Debug + 'static {
    /// Bits in the address.
    const WIDTH: u32;
    const ZERO: Self;
    /// Words of 32 bits in the address.
    const WORDS: usize = Self::WIDTH as usize / 32;
    /// Room for every prefix of one address.
    type Hits: AsRef<[Hit]> + AsMut<[Hit]>;
    const NO_HITS: Self::Hits;

    fn from_aligned(bits: u128) -> Self;
    fn aligned(self) -> u128;
    /// Six bits from `depth`, zeros past the end.
    fn chunk(self, depth: u32) -> u32;
    /// Leading bits in which two agree.
    fn common(self, other: Self) -> u32;
    /// Whether two agree in the first `len` bits.
    fn agrees(self, other: Self, len: u32) -> bool;
    /// The bit that stands for a length of the other side in a set of partners.
    fn partner(len: u32) -> u32;
}

impl Bits for u32 {
    const WIDTH: u32 = 32;
    const ZERO: Self = 0;
    type Hits = [Hit; 33];
    const NO_HITS: Self::Hits = [Hit::NONE; 33];

    fn from_aligned(bits: u128) -> Self {
        (bits >> 96) as u32
    }

    fn aligned(self) -> u128 {
        u128::from(self) << 96
    }

    #[inline]
    fn chunk(self, depth: u32) -> u32 {
        (((u64::from(self) << 32) << (depth & 31)) >> 58) as u32
    }

    #[inline]
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    #[inline]
    fn agrees(self, other: Self, len: u32) -> bool {
        u64::from(self ^ other) >> ((32u32.wrapping_sub(len)) & 63) == 0
    }

    #[inline]
    fn partner(len: u32) -> u32 {
        len & 63
    }
}

impl Bits for u128 {
    const WIDTH: u32 = 128;
    const ZERO: Self = 0;
    type Hits = [Hit; 129];
    const NO_HITS: Self::Hits = [Hit::NONE; 129];

    fn from_aligned(bits: u128) -> Self {
        bits
    }

    fn aligned(self) -> u128 {
        self
    }

    #[inline]
    fn chunk(self, depth: u32) -> u32 {
        ((self << (depth & 127)) >> 122) as u32
    }

    #[inline]
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    #[inline]
    fn agrees(self, other: Self, len: u32) -> bool {
        self.common(other) >= len
    }

    /// Two lengths to a bit, three to the last: a set may name a length too many, and costs a probe.
    #[inline]
    fn partner(len: u32) -> u32 {
        let half = len >> 1;
        if half > 63 { 63 } else { half }
    }
}

/// One prefix: its bits, its number, its length, and which lengths of the other side it is paired with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<A> {
    partners: u64,
    bits: A,
    /// Number in the upper 24 bits, length in the lower 8.
    number_len: u32,
}

impl<A: Bits> Record<A> {
    pub(super) fn len(&self) -> u32 {
        self.number_len & 0xff
    }

    pub(super) fn number(&self) -> u32 {
        self.number_len >> 8
    }

    pub(super) fn hit(&self) -> Hit {
        Hit {
            partners: self.partners,
            number: self.number(),
            partner: A::partner(self.len()),
        }
    }
}

impl<A: Bits> Pooled for Record<A> {
    const BLANK: Self = Self {
        partners: 0,
        bits: A::ZERO,
        number_len: 0,
    };
}

/// A prefix that holds the address looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    /// Lengths of the other side that it is paired with.
    pub(super) partners: u64,
    /// Its number.
    pub(super) number: u32,
    /// The bit that stands for its own length in the other side's `partners`.
    pub(super) partner: u32,
}

impl Hit {
    pub(super) const NONE: Self = Self {
        partners: 0,
        number: 0,
        partner: 0,
    };
}

#[derive(Clone, Copy, Debug)]
struct Node {
    internal: u64,
    leaves: u64,
    nodes: u64,
    /// Depth 8, base of records 28, base of nodes 28.
    bases: u64,
}

const BASE: u64 = (1 << 28) - 1;

impl Node {
    const fn at_depth(depth: u32) -> Self {
        Self {
            internal: 0,
            leaves: 0,
            nodes: 0,
            bases: (depth as u64) << 56 | BASE << 28 | BASE,
        }
    }

    fn depth(&self) -> u32 {
        (self.bases >> 56) as u32
    }

    fn record_base(&self) -> u32 {
        (self.bases >> 28 & BASE) as u32
    }

    fn node_base(&self) -> u32 {
        (self.bases & BASE) as u32
    }

    fn set_record_base(&mut self, base: u32) {
        self.bases = self.bases & !(BASE << 28) | (u64::from(base) & BASE) << 28;
    }

    fn set_node_base(&mut self, base: u32) {
        self.bases = self.bases & !BASE | u64::from(base) & BASE;
    }

    fn record_count(&self) -> usize {
        (self.internal.count_ones() + self.leaves.count_ones()) as usize
    }

    fn node_count(&self) -> usize {
        self.nodes.count_ones() as usize
    }

    /// Place in the block of records of the internal prefix at `position`.
    fn internal_rank(&self, position: u32) -> usize {
        below(self.internal, position)
    }

    fn leaf_rank(&self, child: u32) -> usize {
        self.internal.count_ones() as usize + below(self.leaves, child)
    }

    fn node_rank(&self, child: u32) -> usize {
        below(self.nodes, child)
    }
}

impl Pooled for Node {
    const BLANK: Self = Self::at_depth(0);
}

/// Set bits of `map` below bit `index`.
#[inline]
fn below(map: u64, index: u32) -> usize {
    (map & ((1 << (index & 63)) - 1)).count_ones() as usize
}

/// The six positions on the path of each six bits, as a set.
const PATHS: [u64; 64] = {
    let mut paths = [0; 64];
    let mut chunk = 0;
    while chunk < 64 {
        let mut len = 0;
        while len < 6 {
            paths[chunk] |= 1 << ((64 | chunk) >> (6 - len));
            len += 1;
        }
        chunk += 1;
    }
    paths
};

/// Levels are this many bits apart.
const STRIDE: u32 = 6;
/// Most nodes on a path.
const PATH_MAX: usize = 23;

/// Where a node is kept: the root apart, all others in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Root,
    Pool(u32),
}

/// Place of a prefix's record, good until the trie's next insert or remove.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u32);

/// Every prefix of one side, with a number and its partners.
#[derive(Debug)]
pub(super) struct PrefixTrie<A> {
    root: Node,
    nodes: Pool<Node>,
    records: Pool<Record<A>>,
    /// Pairs beyond the first of a prefix with one length of the other side.
    extra: Table<Extra>,
    /// Numbers given back, to be used first.
    vacant: Vec<u32>,
    /// Numbers ever given.
    numbers: u32,
    len: usize,
}

impl<A: Bits> PrefixTrie<A> {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            root: Node::at_depth(0),
            nodes: Pool::new(),
            records: Pool::new(),
            extra: Table::new(seed),
            vacant: Vec::new(),
            numbers: 0,
            len: 0,
        }
    }

    /// Prefixes held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes()
            + self.records.bytes()
            + self.extra.bytes()
            + self.vacant.capacity() * size_of::<u32>()
    }

    /// The record at a place.
    pub(super) fn at(&self, place: Place) -> Record<A> {
        self.records.at(place.0)
    }

    /// Finds a prefix.
    pub(super) fn find(&self, bits: A, len: u32) -> Option<Place> {
        let mut node = self.root;
        loop {
            let depth = node.depth();
            let at = if len < depth + STRIDE {
                let position = position(bits, depth, len.checked_sub(depth)?);
                if node.internal >> position & 1 == 0 {
                    return None;
                }
                node.internal_rank(position)
            } else {
                let child = bits.chunk(depth);
                if node.nodes >> child & 1 == 1 {
                    node = self
                        .nodes
                        .at(node.node_base() + node.node_rank(child) as u32);
                    continue;
                }
                if node.leaves >> child & 1 == 0 {
                    return None;
                }
                node.leaf_rank(child)
            };
            let place = node.record_base() + at as u32;
            let record = self.records.at(place);
            return (record.bits == bits && record.len() == len).then_some(Place(place));
        }
    }

    /// Finds a prefix, or adds it with a number and no partners. The bits behind `len` are zero.
    pub(super) fn enter(&mut self, bits: A, len: u32) -> Place {
        let mut home = Home::Root;
        loop {
            let mut node = self.node(home);
            let depth = node.depth();
            if len < depth + STRIDE {
                let position = position(bits, depth, len - depth);
                if node.internal >> position & 1 == 1 {
                    return Place(node.record_base() + node.internal_rank(position) as u32);
                }
                let record = self.numbered(bits, len);
                let place = self.add(&mut node, record);
                self.put(home, node);
                return place;
            }
            let child = bits.chunk(depth);
            if node.leaves >> child & 1 == 1 {
                let at = node.leaf_rank(child);
                let place = node.record_base() + at as u32;
                let leaf = self.records.at(place);
                if leaf.bits == bits && leaf.len() == len {
                    return Place(place);
                }
                // Two prefixes behind one child: a node where they part.
                let shared = leaf.bits.common(bits).min(leaf.len()).min(len);
                let mut fork = Node::at_depth(shared / STRIDE * STRIDE);
                self.add(&mut fork, leaf);
                let record = self.numbered(bits, len);
                let place = self.add(&mut fork, record);
                self.cut(&mut node, at, Cut::Leaf(child));
                self.hang(&mut node, child, fork);
                self.put(home, node);
                return place;
            }
            if node.nodes >> child & 1 == 1 {
                let below = node.node_base() + node.node_rank(child) as u32;
                let next = self.nodes.at(below);
                if next.depth() > depth + STRIDE {
                    let sample = self.sample(next);
                    let shared = sample.bits.common(bits).min(len);
                    if shared < next.depth() {
                        // The new prefix leaves, or ends, within the levels skipped.
                        let mut fork = Node::at_depth(shared / STRIDE * STRIDE);
                        self.hang(&mut fork, sample.bits.chunk(shared / STRIDE * STRIDE), next);
                        let record = self.numbered(bits, len);
                        let place = self.add(&mut fork, record);
                        if let Some(at) = self.nodes.at_mut(below) {
                            *at = fork;
                        }
                        return place;
                    }
                }
                home = Home::Pool(below);
                continue;
            }
            let record = self.numbered(bits, len);
            let place = self.add(&mut node, record);
            self.put(home, node);
            return place;
        }
    }

    /// Counts one more pair of the prefix with a partner of that length.
    pub(super) fn join(&mut self, place: Place, partner_len: u32) {
        let bit = A::partner(partner_len);
        if let Some(record) = self.records.at_mut(place.0) {
            if record.partners >> bit & 1 == 0 {
                record.partners |= 1 << bit;
                return;
            }
            let number = record.number();
            self.extra.change(Extra::key_of(number, bit), |extra| {
                Extra::of(number, bit, extra.map_or(0, |extra| extra.count()) + 1)
            });
        }
    }

    /// Counts one pair less; a prefix whose last pair this was is removed.
    pub(super) fn part(&mut self, place: Place, partner_len: u32) {
        let bit = A::partner(partner_len);
        let Some(record) = self.records.at_mut(place.0) else {
            return;
        };
        let number = record.number();
        match self.extra.get(Extra::key_of(number, bit)) {
            Some(extra) if extra.count() > 1 => {
                self.extra.change(Extra::key_of(number, bit), |_| {
                    Extra::of(number, bit, extra.count() - 1)
                });
            }
            Some(_) => {
                self.extra.remove(Extra::key_of(number, bit));
            }
            None => {
                record.partners &= !(1 << bit);
                if record.partners == 0 {
                    let (bits, len) = (record.bits, record.len());
                    self.remove(bits, len);
                }
            }
        }
    }

    /// Pairs of a prefix with partners of the lengths that a bit stands for.
    pub(super) fn pairs(&self, record: &Record<A>, bit: u32) -> u32 {
        let extra = self.extra.get(Extra::key_of(record.number(), bit));
        (record.partners >> bit & 1) as u32 + extra.map_or(0, Extra::count)
    }

    /// Removes a prefix and gives its number back.
    fn remove(&mut self, bits: A, len: u32) {
        let mut path = [(Home::Root, 0); PATH_MAX];
        let mut steps = 0;
        let mut home = Home::Root;
        let (mut node, at, cut) = loop {
            let node = self.node(home);
            let depth = node.depth();
            if len < depth {
                return;
            }
            if len < depth + STRIDE {
                let position = position(bits, depth, len - depth);
                if node.internal >> position & 1 == 0 {
                    return;
                }
                break (node, node.internal_rank(position), Cut::Internal(position));
            }
            let child = bits.chunk(depth);
            if node.nodes >> child & 1 == 1 {
                if let Some(step) = path.get_mut(steps) {
                    *step = (home, child);
                }
                steps += 1;
                home = Home::Pool(node.node_base() + node.node_rank(child) as u32);
                continue;
            }
            if node.leaves >> child & 1 == 0 {
                return;
            }
            break (node, node.leaf_rank(child), Cut::Leaf(child));
        };
        let record = self.records.at(node.record_base() + at as u32);
        if record.bits != bits || record.len() != len {
            return;
        }
        self.vacant.push(record.number());
        self.len -= 1;
        self.cut(&mut node, at, cut);
        self.put(home, node);
        // A node with one thing left below it is replaced by that thing.
        let Some(&(above, child)) = steps.checked_sub(1).and_then(|last| path.get(last)) else {
            return;
        };
        let mut parent = self.node(above);
        match (node.record_count(), node.node_count()) {
            (1, 0) => {
                let last = self.records.at(node.record_base());
                self.records.discard(node.record_base(), 1);
                let mut base = parent.node_base();
                let rank = parent.node_rank(child);
                self.nodes.remove(&mut base, parent.node_count(), rank);
                parent.set_node_base(base);
                parent.nodes &= !(1 << child);
                self.add(&mut parent, last);
                self.put(above, parent);
            }
            (0, 1) => {
                let last = self.nodes.at(node.node_base());
                self.nodes.discard(node.node_base(), 1);
                self.put(home, last);
            }
            _ => {}
        }
    }

    /// Calls `visit` with every prefix that shares an address with this one: those that hold it and those within it.
    ///
    /// Cost: the path, and what lies below its end.
    pub(super) fn touched(&self, bits: A, len: u32, visit: &mut impl FnMut(&Record<A>)) {
        let mut node = self.root;
        loop {
            let depth = node.depth();
            if len < depth + STRIDE {
                self.below(node, &mut |record| {
                    if record.bits.agrees(bits, len.min(record.len())) {
                        visit(record);
                    }
                });
                return;
            }
            let child = bits.chunk(depth);
            let mut on_path = node.internal & path(child);
            while on_path != 0 {
                let position = on_path.trailing_zeros();
                on_path &= on_path - 1;
                let at = node.record_base() + node.internal_rank(position) as u32;
                let record = self.records.at(at);
                if record.bits.agrees(bits, record.len()) {
                    visit(&record);
                }
            }
            if node.leaves >> child & 1 == 1 {
                let at = node.record_base() + node.leaf_rank(child) as u32;
                let record = self.records.at(at);
                if record.bits.agrees(bits, len.min(record.len())) {
                    visit(&record);
                }
                return;
            }
            if node.nodes >> child & 1 == 0 {
                return;
            }
            node = self
                .nodes
                .at(node.node_base() + node.node_rank(child) as u32);
        }
    }

    /// Visits every prefix at and below a node. The recursion is at most one call a level deep.
    fn below(&self, node: Node, visit: &mut impl FnMut(&Record<A>)) {
        for record in self.records.block(node.record_base(), node.record_count()) {
            visit(record);
        }
        for child in 0..node.node_count() as u32 {
            self.below(self.nodes.at(node.node_base() + child), visit);
        }
    }

    /// Begins a walk along an address.
    #[inline]
    pub(super) fn walk(&self, address: A) -> Walk<A> {
        Walk {
            address,
            node: self.root,
            done: false,
        }
    }

    /// One node further: gives each prefix there that holds the address to `visit`. False when there was none left.
    #[inline]
    pub(super) fn step(&self, walk: &mut Walk<A>, mut visit: impl FnMut(Hit)) -> bool {
        if walk.done {
            return false;
        }
        let node = walk.node;
        let child = walk.address.chunk(node.depth());
        let mut on_path = node.internal & path(child);
        let mut give = |at: usize| {
            let record = self.records.at(node.record_base() + at as u32);
            if record.bits.agrees(walk.address, record.len()) {
                visit(record.hit());
            }
        };
        while on_path != 0 {
            let position = on_path.trailing_zeros();
            on_path &= on_path - 1;
            give(node.internal_rank(position));
        }
        if node.nodes >> child & 1 == 1 {
            walk.node = self
                .nodes
                .at(node.node_base() + node.node_rank(child) as u32);
        } else {
            if node.leaves >> child & 1 == 1 {
                give(node.leaf_rank(child));
            }
            walk.done = true;
        }
        true
    }

    fn numbered(&mut self, bits: A, len: u32) -> Record<A> {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.numbers += 1;
            self.numbers - 1
        });
        self.len += 1;
        Record {
            partners: 0,
            bits,
            number_len: number << 8 | len,
        }
    }

    fn node(&self, home: Home) -> Node {
        match home {
            Home::Root => self.root,
            Home::Pool(place) => self.nodes.at(place),
        }
    }

    fn put(&mut self, home: Home, node: Node) {
        match home {
            Home::Root => self.root = node,
            Home::Pool(place) => {
                if let Some(at) = self.nodes.at_mut(place) {
                    *at = node;
                }
            }
        }
    }

    /// Adds a record where a node has none, as internal prefix or as leaf.
    fn add(&mut self, node: &mut Node, record: Record<A>) -> Place {
        let depth = node.depth();
        let count = node.record_count();
        let at = if record.len() < depth + STRIDE {
            let position = position(record.bits, depth, record.len() - depth);
            let at = node.internal_rank(position);
            node.internal |= 1 << position;
            at
        } else {
            let child = record.bits.chunk(depth);
            let at = node.leaf_rank(child);
            node.leaves |= 1 << child;
            at
        };
        let mut base = node.record_base();
        self.records.insert(&mut base, count, at, record);
        node.set_record_base(base);
        Place(base + at as u32)
    }

    fn cut(&mut self, node: &mut Node, at: usize, cut: Cut) {
        let count = node.record_count();
        let mut base = node.record_base();
        self.records.remove(&mut base, count, at);
        node.set_record_base(base);
        match cut {
            Cut::Internal(position) => node.internal &= !(1 << position),
            Cut::Leaf(child) => node.leaves &= !(1 << child),
        }
    }

    /// Adds a child node where a node has no child.
    fn hang(&mut self, node: &mut Node, child: u32, below: Node) {
        let mut base = node.node_base();
        let rank = node.node_rank(child);
        self.nodes.insert(&mut base, node.node_count(), rank, below);
        node.set_node_base(base);
        node.nodes |= 1 << child;
    }

    /// Some prefix below a node. Cost: at most one node a level.
    fn sample(&self, mut node: Node) -> Record<A> {
        for _ in 0..PATH_MAX {
            if node.record_count() > 0 {
                break;
            }
            node = self.nodes.at(node.node_base());
        }
        self.records.at(node.record_base())
    }

    /// Tests the structure. Cost: O(n).
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let mut tally = Tally::default();
        self.check_node(self.root, true, &mut tally)?;
        if tally.records != self.len {
            return Err("trie: count of prefixes");
        }
        if self.len + self.vacant.len() != self.numbers as usize {
            return Err("trie: numbers in use and vacant");
        }
        if self.records.in_use() != tally.record_room {
            return Err("trie: records leaked");
        }
        if self.nodes.in_use() != tally.node_room {
            return Err("trie: nodes leaked");
        }
        self.extra.check()
    }

    fn check_node(&self, node: Node, root: bool, tally: &mut Tally) -> Result<(), &'static str> {
        let depth = node.depth();
        let (records, nodes) = (node.record_count(), node.node_count());
        tally.records += records;
        tally.record_room += Pool::<Record<A>>::room(records);
        tally.node_room += Pool::<Node>::room(nodes);
        if depth % STRIDE != 0 || depth > A::WIDTH || node.internal & 1 != 0 {
            return Err("trie: shape of a node");
        }
        if node.leaves & node.nodes != 0 {
            return Err("trie: a child both leaf and node");
        }
        if !root && records + nodes < 2 {
            return Err("trie: a node with one thing below it");
        }
        let path = self.sample(node).bits;
        let mut fault = None;
        self.below(node, &mut |record| {
            if record.len() < depth || !record.bits.agrees(path, depth) {
                fault = Some("trie: a prefix outside its node");
            }
            if record.partners == 0 {
                fault = Some("trie: a prefix without a pair");
            }
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        let block = self.records.block(node.record_base(), records);
        let internals = node.internal.count_ones() as usize;
        for (at, record) in block.iter().enumerate() {
            let expected = if record.len() < depth + STRIDE {
                let position = position(record.bits, depth, record.len() - depth);
                (node.internal >> position & 1 == 1).then(|| node.internal_rank(position))
            } else {
                let child = record.bits.chunk(depth);
                (node.leaves >> child & 1 == 1).then(|| node.leaf_rank(child))
            };
            if expected != Some(at) || (at < internals) != (record.len() < depth + STRIDE) {
                return Err("trie: a record out of place");
            }
        }
        for rank in 0..nodes as u32 {
            let child = self.nodes.at(node.node_base() + rank);
            if child.depth() < depth + STRIDE {
                return Err("trie: a child above its parent");
            }
            let chunk = self.sample(child).bits.chunk(depth);
            if node.nodes >> chunk & 1 == 0 || node.node_rank(chunk) != rank as usize {
                return Err("trie: a child out of place");
            }
            self.check_node(child, false, tally)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Tally {
    records: usize,
    record_room: usize,
    node_room: usize,
}

enum Cut {
    Internal(u32),
    Leaf(u32),
}

/// A walk along one address, from the root down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<A> {
    address: A,
    node: Node,
    done: bool,
}

/// The position within a node at `depth` of a prefix that ends `more` bits further, 0 to 5.
fn position<A: Bits>(bits: A, depth: u32, more: u32) -> u32 {
    (64 | bits.chunk(depth)) >> (STRIDE - more.min(5))
}

#[inline]
fn path(chunk: u32) -> u64 {
    PATHS[chunk as usize & 63]
}

/// How many pairs a prefix has with partners of one length, less one.
#[derive(Clone, Copy, Debug)]
struct Extra(u64);

impl Extra {
    fn key_of(number: u32, bit: u32) -> u64 {
        u64::from(number) << 6 | u64::from(bit)
    }

    /// Number 24, bit 6, count 24, from bit 54 down; a count is never 0.
    fn of(number: u32, bit: u32, count: u32) -> Self {
        Self(Self::key_of(number, bit) << 24 | u64::from(count))
    }

    fn count(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }
}

impl Slot for Extra {
    const EMPTY: Self = Self(0);

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn key(&self) -> u64 {
        self.0 >> 24
    }
}
