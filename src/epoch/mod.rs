//! Generations: how an entry knows, by one comparison, that no edit since could have touched it.
//!
//! ```text
//!   commit 7        commit 8         commit 9
//!      |               |                |
//!   [ box  ]     [ box ][ box ]      [ box ]          the region log, a bounded ring
//!      |               |                |
//!  ----+------*--------+----------------+----> now = generation 9
//!             stamp 7: good under commits up to 7
//!             a packet comes: test the boxes of 8 and 9 only
//!               none touches the entry   -> stamp 9, go on
//!               one does                 -> the hooks that it belongs to look again
//!               8 has left the ring      -> all hooks look again
//! ```
//!
//! Where many boxes lie in between, or some have left the ring, a table of *granules* is asked first, which knows for each
//! hashed prefix, port and zone the last commit that came near it: a flow that no commit came near is settled by a few words.
//!
//! Four small parts: [`Generation`], the number; [`Region`] and [`Change`], what an edit touched and the witness of it;
//! [`RegionLog`], the ring; [`Ticket`], taken before the slow path reads its rules and consumed by insertion, so that an
//! entry can never claim a generation that it was not judged under. All is plain data behind `&mut`; nothing here needs
//! atomics.

mod change;
mod generation;
mod granule;
mod log;

pub use change::{Change, Region, View};
pub use generation::{Generation, Ticket};
pub use log::{RegionLog, Since};
