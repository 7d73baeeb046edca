//! The NIC that helps, and shards: nothing that they do can be told from the outside.

mod equivalence;
mod nat;
mod reallocation;
mod rss;
mod steering;
mod threads;
mod windows;
