//! The dynamic LC-trie: level compression under a hashed header, so that a flow is found by reading one slot and one cell.
//!
//! Apart from every hash table because the worst case is that of a trie: whatever the headers are, a lookup ends after the
//! key's own bits.

mod bits;
mod cells;
mod check;
mod edit;
mod header;
mod index;
mod keyed;
mod map;
mod nodes;
mod order;
pub mod prefix;
mod slot;

#[cfg(test)]
mod tests;

pub use check::{DEPTHS, Stats};
pub use edit::MOVES_MAX;
pub use header::{Folded, HeaderHash};
pub use index::{CAPACITY_MAX, Full, LcIndex, ReserveError, Subtree, Trace, Work};
pub use keyed::{DualIndex, Indexed, KeyIndex};
pub use map::{Drain, Entry, Handle, Inserted, LcTrie, Occupied, Vacant};
pub use order::{Cursor, Iter};
