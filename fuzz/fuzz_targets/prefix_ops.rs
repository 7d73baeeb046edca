//! Operations on the prefix trie, against a list.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(difference) = gufc::testing::prefix_ops(bytes) {
        panic!("{difference}");
    }
});
