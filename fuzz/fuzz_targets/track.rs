//! Stories of a tracker, behind the cache against one that judges every packet.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(difference) = gufc::testing::track::track(bytes) {
        panic!("{difference}");
    }
});
