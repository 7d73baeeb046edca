//! The crate's promises, one module each. One binary, so that it links once.

mod aggregates;
mod bounded;
mod churn;
mod conntrack;
mod contract;
mod corpus;
mod explain;
mod filter;
mod flood;
mod floors;
mod interests;
mod invalidation;
mod key;
mod nat;
mod nic;
mod operate;
mod policy;
mod prefix;
mod regressions;
mod routes;
mod segments;
mod shadow;
mod sockets;
mod transparency;
mod wire;
mod world;
