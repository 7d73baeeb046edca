//! Translation, seen from outside.

mod ftp;
mod nat64;
mod pair;
mod splice;
