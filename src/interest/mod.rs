//! Who wants this flow: a wildcard index over [`Pattern`](crate::key::Pattern)s, and the triggers that go with them.
//!
//! Apart from the filter and the hooks because all of them ask the same two questions: which patterns match a flow
//! ([`InterestIndex::matches`], [`InterestIndex::first`]), and which patterns does a region of flows touch
//! ([`InterestIndex::overlapping`]).
//!
//! ```text
//!  flow ─┬─ source ──────► prefix trie ─► prefixes that hold it ─┐
//!        ├─ destination ─► prefix trie ─► prefixes that hold it ─┴─► pairs that exist ─► hash table ─► cell
//!        └─ ports, protocol, locality, zone ─────────────────────────────────────────────────────────► rules of the cell
//!
//!  few rules, or crafted ones:  a linear walk over arrays instead
//! ```
//!
//! A pattern is stored once in each family it can match: one record of 24 bytes under the pair of its prefixes. Nothing is
//! replicated, no range of ports is expanded, nothing is built: an edit changes the path of each trie, one slot of a hash
//! table, and, while a table grows, moves a stated number of slots. Looking up creates no state, so that no choice of packets
//! can make it slower.
//!
//! # What it costs
//!
//! With n patterns and m matches, in the worst case:
//!
//! * A lookup visits at most 7 trie nodes a side (IPv6: 23), and makes at most n / 8 probes while the walk is there. Where
//!   it is not, there are fewer than n / 5 pairs of lengths in use, and no more probes than those. (IPv6: up to three times
//!   as many, since its sets tell two or three lengths as one. While a walk is being built again, 8 slots an edit, its bound
//!   does not hold yet.) A cell with many rules is split by ports and zone; what cannot be split is 64 rules a step. Putting
//!   the answer in order is O(m log m).
//! * An edit is O(1) in n but for the pointers of pages and chunks (8 bytes for 64 rules) that a list of them moves when it
//!   grows, and for the chunks freed when the walk is dropped (one for 64 rules).
//! * Memory is O(n), and shrinks with n but for the trie's and the slots' chunks, which are kept for the next patterns.
//!
//! # Roads not taken
//!
//! *Tuple space* and its merged forms probe every table for all matches: 30 to 350 probes where pairs need 1 to 8.
//! *Decision trees* replicate rules and are rebuilt. *Bit vectors* over all fields win below a thousand rules and take a
//! thousand bytes a rule at a hundred thousand; they are used where they fit, within a bucket. *Free lists by size* for the
//! blocks of a trie cost a third of its memory; free places that join of themselves cost a few shifts.

mod bucket;
mod index;
mod pool;
mod prefix;
mod rule;
mod slab;
mod space;
mod table;
mod trigger;
mod visit;
mod walk;

pub use index::{Entry, Full, InterestId, InterestIndex, Match, Scratch, Stats};
pub use trigger::{Interest, Signals, Trigger};

#[cfg(test)]
mod tests;
