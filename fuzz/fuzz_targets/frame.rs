//! Any bytes as a frame: the laws of `Packet`, and rewriting against a full computation.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gufc::testing::frame::frame(bytes));
