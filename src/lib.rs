//! The Grand Unified Flow Cache: one lookup, right after a packet leaves the NIC, yields its whole destiny.
//!
//! ```text
//!  frame -- Packet (your own, or wire::Frame) -- key, cookie?, TCP flags
//!    |
//!    +- cookie --> entry by slot (generation and key verified)  \
//!    +- key -----> index of its origin                           +--> entry
//!                                                                      |
//!             fresh? ------- yes --> anybody asking? --- no --> run the destiny: each hook's step, in order
//!               | no                    | yes
//!               v                       v
//!         no region since           those hooks judge the packet, and leave new steps
//!         the stamp touches it: restamp, go on
//!         touched: its hooks look again: keep, replace, judge
//!
//!  miss --> hooks with an interest judge, stage by stage --> destiny + the reply's key --> one session, both directions
//!           not cached for a counted reason: the packet has its verdict either way
//!
//!  edit --> a hook changes its rules and says which flows that touches --> published under a new generation --> returns
//! ```
//!
//! # The floors
//!
//! A module names only what stands before it in this list; and the leaves do not name one another.
//!
//! | floor | modules |
//! |---|---|
//! | ground: what things are called | [`cookie`], [`time`], [`key`] |
//! | structures: they know bits and fields, not packets | [`epoch`], [`trie`], [`interest`] |
//! | contract: what users implement | [`packet`], [`verdict`], [`observe`], [`hook`], [`destiny`], [`pipeline`] |
//! | engine and leaves: blind to one another | [`cache`], [`hooks`], [`nic`], [`wire`] |
//! | assembly | [`shard`] |
//!
//! # Promises
//!
//! *Transparency*: for every sequence of packets, edits, ticks and evictions, the verdicts, the rewritten bytes and the hooks'
//! visible state are those of a dataplane without a cache. *Freshness*: after an edit returns, no packet is judged by the rules
//! before it. *Exact invalidation*: an edit makes only those cached flows do work that it could touch. *Bounded*: every
//! structure has a capacity from its owner, and full is a counted outcome. *Quiet hit*: a hit allocates nothing. *Determinism*:
//! time, randomness and capacity are arguments. *No panic, no unsafe*. *Explained*: every verdict says who gave it and how it
//! was found.
//!
//! The [README](https://crates.io/crates/gufc) has a first program; the manual, in the documentation only, what no single
//! module can say.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core
)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

// Floor 0, ground: what things are called.
pub mod cookie;
pub mod key;
pub mod time;

// Floor 1, structures: they know bits and fields, not packets.
pub mod epoch;
pub mod interest;
pub mod trie;

// Floor 2, contract: what users implement.
pub mod destiny;
pub mod hook;
pub mod observe;
pub mod packet;
pub mod pipeline;
pub mod verdict;

// Floor 3, engine and leaves: blind to one another.
pub mod cache;
pub mod hooks;
pub mod nic;
pub mod wire;

// Floor 4, assembly.
pub mod shard;

// The manual, outside the floors.
#[cfg(any(doc, doctest))]
pub mod manual;

// The proof kit, outside the floors.
#[cfg(any(test, feature = "__testing"))]
#[doc(hidden)]
pub mod testing;

/// The README's program is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
