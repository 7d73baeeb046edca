//! Operations on the trie against an ordered map.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gufc::testing::trie::trie_ops(bytes));
