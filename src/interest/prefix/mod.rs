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

mod address;
mod check;
mod find;
mod node;

use alloc::vec::Vec;

pub(super) use self::address::Bits;
pub(super) use self::node::Hit;
use self::node::{Node, PATH_MAX, Record, STRIDE, position};
use super::pool::Pool;
use super::table::{Slot, Table};

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
}

enum Cut {
    Internal(u32),
    Leaf(u32),
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
