//! Translation, seen from outside.

mod ftp;
mod splice;
