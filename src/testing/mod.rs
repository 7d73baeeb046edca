//! The proof kit: slow, obvious twins and generators, shared by tests, fuzz targets and benches.
//!
//! Apart from the crate proper and outside its public interface: nothing here is meant to be fast or stable.

pub mod linear_interest;
