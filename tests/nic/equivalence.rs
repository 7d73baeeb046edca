//! `nic_equivalence`: for random traffic, edits and faults, the verdicts, the packets and the hooks' state are the same whatever
//! queues, cookies and offloads did.

use gufc::testing::nic_story::{Seen, nic_story};
use gufc::testing::prng::SplitMix64;
use proptest::prelude::*;

use crate::transparency::cases;

proptest! {
    #![proptest_config(cases(256))]
    #[test]
    fn nic_equivalence(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        if let Err(difference) = nic_story(&bytes) {
            panic!("{difference}");
        }
    }
}

/// The stories are worth telling: everything that a NIC may do, well or badly, happens in them.
#[test]
fn nic_stories_reach_everything() {
    let mut all = Seen::default();
    for seed in 0..400 {
        let mut chance = SplitMix64(seed);
        let bytes: Vec<u8> = (0..3_000).map(|_| chance.next() as u8).collect();
        match nic_story(&bytes) {
            Ok(seen) => all.add(&seen),
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    let counts = [
        all.delivered,
        all.cached,
        all.cookie_hits,
        all.cookie_misses,
        all.refused,
        all.forwarded,
        all.withdrawn_by_edit,
        all.suspended,
        all.handed,
        all.remote,
        all.faults,
        all.retries,
        all.overflows,
    ];
    assert!(counts.iter().all(|count| *count > 20), "{all:?}");
}
