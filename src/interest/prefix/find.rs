//! Which prefixes hold an address, which share one with a prefix, and where one is.
//!
//! Apart from the edits because all of it only reads.

use super::address::Bits;
use super::node::{Hit, Node, Record, STRIDE, path, position};
use super::{Place, PrefixTrie};

/// A walk along one address, from the root down.
#[derive(Clone, Copy, Debug)]
pub(in crate::interest) struct Walk<A> {
    address: A,
    node: Node,
    done: bool,
}

impl<A: Bits> PrefixTrie<A> {
    /// Finds a prefix.
    pub(in crate::interest) fn find(&self, bits: A, len: u32) -> Option<Place> {
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

    /// Calls `visit` with every prefix that shares an address with this one: those that hold it and those within it.
    ///
    /// Cost: the path, and what lies below its end.
    pub(in crate::interest) fn touched(
        &self,
        bits: A,
        len: u32,
        visit: &mut impl FnMut(&Record<A>),
    ) {
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
    pub(super) fn below(&self, node: Node, visit: &mut impl FnMut(&Record<A>)) {
        for record in self.records.block(node.record_base(), node.record_count()) {
            visit(record);
        }
        for child in 0..node.node_count() as u32 {
            self.below(self.nodes.at(node.node_base() + child), visit);
        }
    }

    /// Begins a walk along an address.
    #[inline]
    pub(in crate::interest) fn walk(&self, address: A) -> Walk<A> {
        Walk {
            address,
            node: self.root,
            done: false,
        }
    }

    /// One node further: gives each prefix there that holds the address to `visit`. False when there was none left.
    #[inline]
    pub(in crate::interest) fn step(&self, walk: &mut Walk<A>, mut visit: impl FnMut(Hit)) -> bool {
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
}
