//! Stories of a translator: behind the cache, without it, and its slow twin; the last byte says whether it is one of its pool
//! alone.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(difference) = gufc::testing::nat_story::either(bytes) {
        panic!("{difference}");
    }
});
