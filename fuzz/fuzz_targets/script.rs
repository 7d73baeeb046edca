//! Whole stories, the cache against the dataplane without one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(difference) = gufc::testing::script::story(bytes) {
        panic!("{difference}");
    }
});
