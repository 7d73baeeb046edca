//! Blocks of sessions for the importer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gufc::testing::import::import_bytes(bytes));
