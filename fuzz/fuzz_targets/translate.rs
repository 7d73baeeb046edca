//! Any bytes translated between the families and back: the laws of translation.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gufc::testing::translate::translate(bytes));
