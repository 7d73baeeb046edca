//! Who wants this flow: a wildcard index over [`Pattern`](crate::key::Pattern)s, and the triggers that go with them.
//!
//! Apart from the filter and the hooks because all of them ask the same two questions: which patterns match a flow
//! ([`InterestIndex::matches`]), and which patterns does a region of flows touch ([`InterestIndex::overlapping`]).

mod bucket;
mod index;
mod pool;
mod prefix;
mod rule;
mod slab;
mod space;
mod table;
mod trigger;
mod walk;

pub use index::{Entry, Full, InterestId, InterestIndex, Match, Scratch, Stats};
pub use trigger::{Interest, Signals, Trigger};

#[cfg(test)]
mod tests;
