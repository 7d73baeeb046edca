//! What the trie is made of: records of prefixes, and the nodes that lead to them.
//!
//! Apart from the trie because these are figures of bits, which say where something stands and never move anything.

use super::address::Bits;
use crate::interest::pool::Pooled;

/// One prefix: its bits, its number, its length, and which lengths of the other side it is paired with.
#[derive(Clone, Copy, Debug)]
pub(in crate::interest) struct Record<A> {
    pub(super) partners: u64,
    pub(super) bits: A,
    /// Number in the upper 24 bits, length in the lower 8.
    pub(super) number_len: u32,
}

impl<A: Bits> Record<A> {
    pub(in crate::interest) fn len(&self) -> u32 {
        self.number_len & 0xff
    }

    pub(in crate::interest) fn number(&self) -> u32 {
        self.number_len >> 8
    }

    pub(in crate::interest) fn hit(&self) -> Hit {
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
pub(in crate::interest) struct Hit {
    /// Lengths of the other side that it is paired with.
    pub(in crate::interest) partners: u64,
    /// Its number.
    pub(in crate::interest) number: u32,
    /// The bit that stands for its own length in the other side's `partners`.
    pub(in crate::interest) partner: u32,
}

impl Hit {
    pub(in crate::interest) const NONE: Self = Self {
        partners: 0,
        number: 0,
        partner: 0,
    };
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) internal: u64,
    pub(super) leaves: u64,
    pub(super) nodes: u64,
    /// Depth 8, base of records 28, base of nodes 28.
    bases: u64,
}

const BASE: u64 = (1 << 28) - 1;

impl Node {
    pub(super) const fn at_depth(depth: u32) -> Self {
        Self {
            internal: 0,
            leaves: 0,
            nodes: 0,
            bases: (depth as u64) << 56 | BASE << 28 | BASE,
        }
    }

    pub(super) fn depth(&self) -> u32 {
        (self.bases >> 56) as u32
    }

    pub(super) fn record_base(&self) -> u32 {
        (self.bases >> 28 & BASE) as u32
    }

    pub(super) fn node_base(&self) -> u32 {
        (self.bases & BASE) as u32
    }

    pub(super) fn set_record_base(&mut self, base: u32) {
        self.bases = self.bases & !(BASE << 28) | (u64::from(base) & BASE) << 28;
    }

    pub(super) fn set_node_base(&mut self, base: u32) {
        self.bases = self.bases & !BASE | u64::from(base) & BASE;
    }

    pub(super) fn record_count(&self) -> usize {
        (self.internal.count_ones() + self.leaves.count_ones()) as usize
    }

    pub(super) fn node_count(&self) -> usize {
        self.nodes.count_ones() as usize
    }

    /// Place in the block of records of the internal prefix at `position`.
    pub(super) fn internal_rank(&self, position: u32) -> usize {
        below(self.internal, position)
    }

    pub(super) fn leaf_rank(&self, child: u32) -> usize {
        self.internal.count_ones() as usize + below(self.leaves, child)
    }

    pub(super) fn node_rank(&self, child: u32) -> usize {
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
pub(super) const STRIDE: u32 = 6;
/// Most nodes on a path.
pub(super) const PATH_MAX: usize = 23;

/// The position within a node at `depth` of a prefix that ends `more` bits further, 0 to 5.
pub(super) fn position<A: Bits>(bits: A, depth: u32, more: u32) -> u32 {
    (64 | bits.chunk(depth)) >> (STRIDE - more.min(5))
}

#[inline]
pub(super) fn path(chunk: u32) -> u64 {
    PATHS[chunk as usize & 63]
}
