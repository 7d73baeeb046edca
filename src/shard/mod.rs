//! Shards: one cache for each queue, owned by whoever polls that queue, and what they need to be one dataplane.
//!
//! Apart from the cache because a cache knows of no other: a [`Shard`] is a cache, a table that says whose each flow is, and a
//! table of flows whose replies land here though they live elsewhere.
//!
//! ```text
//!            queue 0            queue 1                     any thread
//!               │                  │                            │
//!           ┌───▼────┐         ┌───▼────┐     transactions  ┌───▼───┐
//!           │ Shard 0│         │ Shard 1│ ◄──── ring ────── │Control│ publish(t) -> generation
//!           │ &mut   │         │ &mut   │ ────────────────► │       │ is_visible(generation)?
//!           │ cache  │ packets │ cache  │  how far each is  └───────┘
//!           │ hooks  │ ◄─────► │ hooks  │
//!           │ remotes│ handed  │ remotes│
//!           └────────┘  over   └────────┘
//! ```
//!
//! # Nothing is shared
//!
//! Each shard has hooks of its own. An edit is a *transaction* that every shard applies to its hooks by itself, between two
//! bursts ([`Control`], with `std`); a hit reads nothing that another thread writes, and takes no lock. The price is that rule
//! sets are held once for each shard.
//!
//! # One view of each connection
//!
//! State that a hook keeps for a connection lives in one shard: its *home*. Where do packets of a connection land?
//!
//! * **Symmetric hashing** brings both directions to one queue, as long as nothing is translated.
//! * **Chosen ports**: where the source is translated, the port is chosen so that replies hash home
//!   ([`HomingPorts`], by [`HomePorts`](crate::nic::HomePorts)).
//! * **Handing over**: [`Homes`] says by the hash whose a flow is, whatever queue it came to; a packet that landed elsewhere is
//!   handed over. Since it is a table of the shards' own, the NIC's indirection table may change while traffic flows: what
//!   lands elsewhere then is handed over until the owner moves the homes as well.
//! * **Remote handles**: where the reply's tuple has another home than the flow, the flow's shard announces it there
//!   ([`Announcement`]); the reply is handed over with a handle whose version is checked on arrival.
//!
//! * **Errors**: an ICMP error goes where the flow is that it is about.
//!
//! Handing over and handles are the owner's choice: without translation the first suffices, and an owner whose hooks keep no state across
//! directions may process packets wherever they land ([`Placing::Local`]).
//!
//! An announcement must be taken in before the reply is: whoever transmits announces first, and whoever receives polls the NIC
//! first and its inbox second, then processes.

mod homes;
mod homing;
mod one;
mod remote;

#[cfg(all(feature = "std", target_has_atomic = "64"))]
mod control;
#[cfg(all(feature = "std", target_has_atomic = "64"))]
mod ring;
#[cfg(all(feature = "std", target_has_atomic = "64"))]
mod sync;

pub use homes::{Homes, ShardId};
pub use homing::HomingPorts;
pub use one::{Handed, Placed, Placing, Shard, ShardStats};
pub use remote::{Announcement, Remote, Remotes};

#[cfg(all(feature = "std", target_has_atomic = "64"))]
pub use control::{Edit, SharedShard, shards};
#[cfg(all(feature = "std", target_has_atomic = "64"))]
pub use ring::{Backlog, Control, Subscriber};
