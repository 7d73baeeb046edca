//! The dynamic LC-trie: level compression under a hashed header, so that a flow is found by reading one slot and one cell.
//!
//! Apart from every hash table because the worst case is that of a trie: whatever the headers are, a lookup ends after the
//! key's own bits; and because it grows by one slot at a time, never all at once.
//!
//! # From the trie to this
//!
//! A **trie** over bit strings asks one bit a level. Three steps make it fast.
//!
//! * **Path compression** (Morrison's Patricia, 1968): a node that would have one child is left out. Each node says which
//!   bit it asks, its *position*; bits between a parent's and a child's position are skipped, and proved at the leaf.
//! * **Level compression** (Nilsson and Karlsson, *IP-Address Lookup Using LC-Tries*, IEEE JSAC 17(6), 1999): where the top
//!   `k` levels below a node are (nearly) complete, one node with `2^k` children takes their place. The depth falls from
//!   O(log n) to O(log log n) expected for a large class of distributions.
//! * **Dynamic** level compression (Nilsson and Tikkanen, *An Experimental Study of Compression Methods for Dynamic Tries*,
//!   Algorithmica 33, 2002): a node *inflates*, doubling its children, when enough of the doubled node would be in use, and
//!   *halves* when too little is. This is what Linux's route table does.
//!
//! Flows are not addresses: exact match is wanted, strings are 128 to 320 bits, and attackers choose them. Olsson and Nilsson
//! (*TRASH: A Dynamic LC-trie and Hash Data Structure*, HPSR 2007) put a hash of the whole key, the **header**, in front of
//! it. The trie then sees evenly spread strings: it stays about one level deep, whatever the traffic. If headers collide,
//! by chance or by malice, the trie goes on into the key's own bits: it becomes deeper, by at most one level a bit,
//! but no chain is ever searched.
//!
//! # Ours
//!
//! ```text
//!   key ─ hash ─► header        low bits │           7 high bits = tag
//!                                        ▼
//!   root    ┌─────────┬─────────┬─────────┬─────────┬─────────┐   16 bytes a slot, 2 entries each on average
//!           │ bucket 3│  empty  │ bucket 1│ node ┐  │ bucket 2│
//!           └────┼────┴─────────┴────┼────┴──────┼──┴────┼────┘
//!                ▼                   ▼           │       ▼
//!   cells   ┌───┬───┬───┬   ┐  ┌───┬   ┐         │   ┌───┬───┐   key and id, 24 bytes for IPv4, 48 for IPv6
//!           └───┴───┴───┴   ┘  └───┴   ┘         │   └───┴───┘
//!                                                ▼
//!   nodes                          ┌─────────┬─────────┐          only where nine entries share a slot of the root
//!                                  │ bucket 4│ bucket 5│
//!                                  └─────────┴─────────┘
//! ```
//!
//! A trie of 52 addresses, drawn by [`LcIndex::draw_svg`]. The headers of 34 are even; 18 have one and the same, by malice, so that
//! below their slot the trie goes on into the addresses' own bits. The numbers are the buckets' entries; pointed at, a slot says
//! more.
//!
#![doc = include_str!("small.svg")]
//!
//! * **Leaves are buckets** of up to eight entries. The slot holds a tag of each, all compared at once within a word, so a
//!   miss is known from the slot alone (of eight tags one is wrongly equal with probability 8/128; of the usual two, 2/128)
//!   and a hit goes straight to its cell. Nodes live in their parent's slot, as in Nilsson and Karlsson's array: a level is
//!   one load.
//! * **The root inflates by one slot at a time.** Doubling the root of a million flows would move half a million slots while
//!   a packet waits. Instead the root takes the header's bits from the lowest up: slot `i` of a root of `2^b` slots splits
//!   into `i` and `2^b + i`, and the new one is appended. A root of `2^b + s` slots has its first `s` slots split; an index
//!   of `b + 1` bits that is not there yet loses its highest bit. This is linear hashing (Litwin, VLDB 1980), seen as what
//!   it is here: level compression in small steps.
//! * **Below the root** nodes inflate and halve as in the literature, up to sixteen children. They are rare (one slot in a
//!   hundred) unless headers collide, and then they are what bounds the work.
//!
//! # Thresholds, and what they cost
//!
//! Let λ be entries divided by root slots.
//!
//! *Grow above λ = 2.* In the middle of a round the slots not yet split hold `u`, those split `u/2` entries on average, with
//! `u` between 2 and 4. The chance that more than 8 fall into a slot (Poisson) is 0.02 % at 2, 0.4 % at 3 and 2.1 % at 4,
//! where few slots are left unsplit: about one in two hundred overflows. *Above λ = 3 in tables for more than 2^15 entries*: one
//! in thirty overflows at most, which costs less than slots that no longer fit in a core's caches. *Shrink below half of
//! that.* Between the two thresholds an operation
//! leaves the root alone. One slot splits for every two entries that come, and a split moves at most the 8 cells of a
//! bucket (4 in the mean): **two cells moved for an insert, amortised**, and one slot written. Going back costs the same for
//! a removal. Since each step moves so little, even a sequence that crosses a threshold with every operation pays no more
//! than that.
//!
//! *A bucket moves to a larger block when it is full, and to a smaller one when three cells of its block are free*, so that an
//! entry that goes and comes back moves nothing. Where memory gets tight, an insert takes the slack out of four buckets.
//!
//! *Overflow at 9, merge at 4.* Nine entries in a slot become a node at the first bit in which they differ. Sibling buckets
//! become one again when they hold 4 together: at least five operations lie between.
//!
//! *Inflate when half of the children are full*, where full means: a node that begins just where its parent's index ends.
//! Each of these becomes two used children, so the doubled node is at least half used, and at least half of its entries rise
//! by a level. *Halve when a quarter or less of the children is used.* To come from one threshold to the other, a node of
//! `2^k` children must gain or lose at least `2^k / 4` of them: the `2^k` slots that the change moves are paid by that many
//! operations, **four slots each**. That one full child does not forbid halving matters: Linux had it otherwise until 2015, and a
//! node of 1024 slots with one full child kept its 1024 slots.
//!
//! No single operation moves more than [`MOVES_MAX`] slots and cells; over a million inserts and removes the average is
//! about three and the most about sixty.
//!
//! # Memory
//!
//! All of it is reserved when the index is made: cells for `3/2` of the capacity in pages of 24, which serve blocks of 2, 4,
//! 6 or 8, a half or a third of a slot of root for each entry, and a quarter of that for nodes. A page whose
//! blocks are all free serves any block size again, and when pages run out, the blocks of a sparse page are gathered in others,
//! one page at a time. Nothing is allocated after that; [`LcIndex::try_reserve`] is the owner's explicit way to more.
//!
//! # Bursts
//!
//! [`LcIndex::find_many`] does 32 lookups stage by stage: headers; a touch of every slot; candidates; a touch of every
//! candidate's cell; comparison. A touch is a load that nothing waits for, a handful of instructions, so that the whole group's
//! misses are in flight at once. Without the touches the processor's window held about eight lookups, and a burst over a
//! million flows took 1.25 times as long.
//!
//! # Where it loses
//!
//! Against `hashbrown` with `foldhash` (`benches/versus`): IPv4 flows that fit in the first two cache levels (up to some ten thousand)
//! take 1.35 to 1.5 times as long in bursts, 1.25 to 1.3 times in a loop and 1.1 times where nothing overlaps, because a slot takes
//! some forty instructions more than a group of control bytes, the hash included; from a hundred thousand flows on that is hidden behind
//! memory. Insert and remove take 1.6 to 2.2 times as long for IPv4 while all is in the caches (244 instructions against 110) and 1.3
//! times at a hundred thousand, because every other one moves a bucket to a block of another size: that is the price of memory that
//! does not double.
//!
//! # Roads not taken
//!
//! * One entry a leaf, as in the papers: 1.6 to 1.9 times slower for hits, 2.4 times for misses, and more memory.
//! * Buckets of stable ids with records elsewhere: one more miss for each lookup.
//! * Doubling the root at once, or copying it step by step into a second array: the first stalls for milliseconds, the
//!   second needs both arrays and more arithmetic in each lookup than the one comparison of the appended slot.
//! * A prefetch instruction in place of the touches: it needs unsafe code, and made bursts over a million flows 1.24 times as fast
//!   for IPv4 and 1.1 times for IPv6, hits of three interleaved runs against `hashbrown`. A feature was to be worth 1.3.
//! * Staging bursts of tables that fit in a core's own caches: key by key is a sixth faster there.
//! * Comparing a burst's cells without any branch, stragglers last: the branch on "any straggler left" then waits for
//!   every load of the group; it was 1.5 times slower at a million flows.
//!
//! Where a user of a [`Key`](crate::key::Key) of their own begins: [`Indexed`]. To look at a trie: [`LcIndex::stats`],
//! [`LcIndex::trace`], [`LcIndex::draw_svg`].

mod arena;
mod bits;
mod cells;
mod check;
mod draw;
mod edit;
mod header;
mod index;
mod keyed;
mod map;
mod order;
pub mod prefix;
mod slot;
mod svg;

#[cfg(test)]
mod tests;

pub use check::{DEPTHS, Stats};
pub use edit::MOVES_MAX;
pub use header::{Folded, HeaderHash, Seeded};
pub use index::{CAPACITY_MAX, Full, LcIndex, ReserveError, Subtree, Trace, Work};
pub use keyed::{DualIndex, Indexed, KeyIndex};
pub use map::{Drain, Entry, Handle, Inserted, LcTrie, Occupied, Vacant};
pub use order::{Cursor, Iter};
