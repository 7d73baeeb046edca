//! One seed, one world: hosts, floods, edits, clocks that jump, full tables, and every promise at every step.

use gufc::testing::world::world;

/// `GUFC_SEEDS` says how many seeds; a failure names its own.
#[test]
fn worlds_keep_their_promises() {
    let seeds =
        std::env::var("GUFC_SEEDS").map_or(6, |seeds| seeds.parse().expect("a number of seeds"));
    let mut ended = [0; gufc::cache::End::COUNT];
    let mut uncached = [0; gufc::verdict::Uncached::COUNT];
    for seed in 0..seeds {
        let stats = world(seed, 60).unwrap_or_else(|what| panic!("{what}"));
        for (sum, count) in ended.iter_mut().zip(stats.ended) {
            *sum += count;
        }
        for (sum, count) in uncached.iter_mut().zip(stats.uncached) {
            *sum += count;
        }
    }
    // The worlds are full of what they are said to be.
    assert!(
        ended.iter().filter(|count| **count > 0).count() >= 4,
        "{ended:?}"
    );
    assert!(
        uncached.iter().filter(|count| **count > 0).count() >= 5,
        "{uncached:?}"
    );
}
