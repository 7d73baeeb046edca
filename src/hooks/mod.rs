//! The hooks that the crate ships. Each stands alone: none needs another, and a dataplane's own may stand among them.

pub mod conntrack;
pub mod filter;
pub mod nat;
pub mod route;
pub mod socket;
