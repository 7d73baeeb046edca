//! The raw head of the LC-trie: prefixes in key order, for routes, prefix sets and aggregated flows.
//!
//! Apart from the hashed head because the question is another: not "is this key here" but "which of the prefixes here that
//! this address has is the longest", and which cover it, and which lie inside.
//!
//! ```text
//!                       root: 2^b slots for the first b bits
//!   [ .  ][ 10.0/9  ][ 10.0/9 ][ bucket ][ node ] ...           in each slot: the longest prefix ("cover") that ends
//!            node                            |                  within the node, and what lies below
//!             |                              |  skip 3 bits
//!   [ 10.1/16 ][  ][ bucket ][ ]         [ ..][ ..]
//!                      |
//!        | - | - | /18 | /22 | /24 | /24 | /24 | /24 |          a bucket: up to eight longer prefixes in one cache line,
//!                                                               shortest first; the last that matches is the longest
//! ```
//!
//! Level compression: a node of `2^b` slots stands for `b` levels of the binary trie, and doubles or halves as its slots fill
//! and empty (`resize`). Path compression: bits that all prefixes below have in common, none of them ending there, are
//! skipped, and compared on the way down. Leaves are buckets, as in the hashed head: a cache line full of prefixes is tested
//! in less time than one more line takes to come.
//!
//! A trie of 25 prefixes, drawn by [`PrefixIndex::draw_svg`] with nodes and buckets kept small, as in tests: sixteen slots and four
//! prefixes at most. The numbers are those of the buckets' prefixes; a green foot is a cover, here mostly `10.0.0.0/8`, expanded
//! within its node. Pointed at, a slot says more.
//!
#![doc = include_str!("small.svg")]
//!
//! # No backtracking
//!
//! In Linux's trie a lookup that ends in the wrong leaf climbs back up to shorter prefixes, pruned by the longest suffix
//! below each node. Here a prefix that ends inside a node is known to every slot that it holds (controlled prefix expansion,
//! Srinivasan and Varghese 1999, but within one node), so that the way down has met all that cover the address, and the last
//! one met is the longest. The price is that a short prefix is written to up to `2^b` slots: that is what bounds a node's size.
//! The shorter ones of several that hold the same slot hang behind the longest in a chain, so that taking a prefix out finds
//! what it hid.
//!
//! # Roads not taken
//!
//! *One prefix a leaf*, as in Linux, reads a leaf for each lookup that goes below a node; a bucket is a leaf for eight. *Values in a slab
//! of their own* cost a lookup one more cache line, the dearest of all as nothing else shares it, so the number lies in the cell
//! ([`PrefixIndex`]), and a slab is there for who wants values ([`PrefixTrie`]). *A lookup without branches* is what makes bursts fast, and
//! makes a single lookup slower by half: there the machine's guesses are what lets it begin with the next one. *The cover of
//! all levels in each slot* (leaf pushing) would save remembering it, and make an edit of a short prefix touch the whole trie.
//!
//! # Where it loses
//!
//! Against `prefix-trie` on full tables of 2025 (ratios of interleaved rounds on a busy machine, as `benches/versus` measures them):
//! addresses of the table take about 0.3 of its time in bursts, and 0.6 to 0.8 in a loop; random IPv4 addresses 0.45 to 0.5 in bursts and
//! 0.75 in a loop. Where nothing overlaps, random IPv4 addresses take 1.0 to 1.1 times as long and those of the IPv4 table 1.2 times: a slot
//! and a line that are in no cache are waited for one after the other, where the lower nodes of `prefix-trie` lie close together.
//! Random IPv6 addresses nearly all end at the first two slots: they take about 1.1 times as long alone and 1.25 in bursts, which write
//! prefixes and numbers for all where a loop can leave out what nobody reads; there is nothing to wait for that staging could hide. An
//! edit takes 1.6 to 2 times as long: the nodes' tallies and the slots that a short prefix is written to are what keeps lookups short.
//!
//! # Sources
//!
//! Nilsson and Karlsson 1999 (level and path compression, prefix chains); Nilsson and Tikkanen 2002 (inflating and halving);
//! Olsson and Duyck in Linux's `fib_trie` (thresholds, skipped bits told by one exclusive-or, and the halving that one full
//! child vetoed); Srinivasan and Varghese 1999 (prefix expansion).

mod bits;
mod check;
mod draw;
mod dual;
mod head;
mod index;
mod iter;
mod lookup;
mod map;
mod prefix_type;
mod resize;
mod slot;
mod update;

#[cfg(test)]
mod tests;

pub use bits::{Bits, Width};
pub use check::Stats;
pub use dual::{DualHandle, PrefixMap};
pub use head::{PrefixIndex, Subtree};
pub use index::CAPACITY_MAX;
pub use iter::{Covering, Cursor, Iter};
pub use map::{Handle, PrefixTrie};
pub use prefix_type::Prefix;

use alloc::collections::TryReserveError;
use core::fmt;

/// Most slots and cells that one insertion or removal moves.
pub const MOVES_MAX: u64 =
    resize::LOOKS_MAX as u64 + (2 << index::BITS_MAX) + 4 * index::BUCKET as u64;

/// What edits have cost since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Slots and cells written.
    pub moved: u64,
    /// Slots looked at besides, to count them anew or to collapse them.
    pub tested: u64,
    /// Nodes doubled.
    pub inflated: u64,
    /// Nodes halved.
    pub halved: u64,
}

/// No room for one more prefix; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for one more prefix")
    }
}

impl core::error::Error for Full {}

/// Why memory could not be reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReserveError {
    /// More prefixes than can be numbered: [`CAPACITY_MAX`].
    TooMany,
    /// The allocator refused.
    Memory(TryReserveError),
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "more than {CAPACITY_MAX} prefixes"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ReserveError {}

impl From<TryReserveError> for ReserveError {
    fn from(error: TryReserveError) -> Self {
        Self::Memory(error)
    }
}
