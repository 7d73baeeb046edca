//! Whether what the trie says of itself is so.
//!
//! Apart from what tests call on, because no lookup or edit does.

use super::PrefixTrie;
use super::address::Bits;
use super::node::{Node, Record, STRIDE, position};
use crate::interest::pool::Pool;

impl<A: Bits> PrefixTrie<A> {
    /// Tests the structure. Cost: O(n).
    pub(in crate::interest) fn check(&self) -> Result<(), &'static str> {
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
