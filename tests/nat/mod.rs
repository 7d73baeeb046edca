//! Translation: against a slow twin, with and without a cache, and requirement by requirement.

mod ftp;
mod ftp64;
mod ftp64_stacks;
mod kinds;
mod mappings;
mod nat64;
mod nat64_fragments;
mod npt;
mod pair;
mod pools;
mod rfc;
mod splice;
mod story;
mod world;
