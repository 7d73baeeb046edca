//! The proof kit: slow, obvious twins, small worlds and stories, shared by tests, fuzz targets and benches.
//!
//! Apart from the crate proper and outside its public interface: nothing here is meant to be fast or stable.

pub mod frame;
pub mod hooks;
pub mod hostile;
pub mod import;
pub mod interest;
pub mod linear_filter;
pub mod linear_interest;
pub mod linear_nat;
pub mod linear_pool;
pub mod linear_prefix;
pub mod linear_sockets;
pub mod nat;
pub mod nat_story;
pub mod nic;
pub mod nic_story;
pub mod prng;
pub mod rulegen;
pub mod script;
pub mod tight_walk;
pub mod toy;
pub mod track;
pub mod translate;
pub mod trie;
pub mod uncached;
pub mod world;

pub use linear_prefix::prefix_ops;
