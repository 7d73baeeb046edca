//! Translation, seen from outside.

mod ftp;
mod nat64;
mod npt;
mod pair;
mod splice;
