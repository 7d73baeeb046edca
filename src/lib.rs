//! The Grand Unified Flow Cache.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

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
pub mod packet;
pub mod pipeline;
pub mod verdict;

// Floor 3, engine and leaves: blind to one another.
pub mod cache;
pub mod hooks;
pub mod wire;

// The proof kit, outside the floors.
#[cfg(any(test, feature = "__testing"))]
#[doc(hidden)]
pub mod testing;
