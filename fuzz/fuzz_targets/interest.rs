//! Edits of the interest index and questions to it, against a list.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(difference) = gufc::testing::interest::interest_ops(bytes) {
        panic!("{difference}");
    }
});
