//! Whole stories with queues, cookies, offloads and faults, against one dataplane without any.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(difference) = gufc::testing::nic_story::nic_story(bytes) {
        panic!("{difference}");
    }
});
