//! Transparency and freshness: for every story of packets, edits, ticks and evictions, the cache answers as the dataplane
//! without a cache does, packet by packet, and its hooks end up in the same state.
//!
//! Freshness is the part of it in which an edit comes right before a packet: the twin has no memory, so a stale answer is a
//! different answer.

use gufc::cache::Stats;
use gufc::testing::prng::SplitMix64;
use gufc::testing::script::story;
use gufc::verdict::Uncached;
use proptest::prelude::*;

/// Cases of a property: few by default, more where a variable says so.
pub(crate) fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(default),
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_story_reads_the_same_without_a_cache(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        if let Err(difference) = story(&bytes) {
            return Err(TestCaseError::fail(difference));
        }
    }
}

/// The stories would prove little if they never got into some corner: every counter moves, over a fixed lot of them.
#[test]
fn stories_reach_every_outcome() {
    let mut all = Stats::default();
    let mut prng = SplitMix64(1);
    for _ in 0..120 {
        let bytes = prng.bytes(3000);
        let stats = story(&bytes).unwrap_or_else(|difference| panic!("{difference}"));
        all.hits += stats.hits;
        all.restamped += stats.restamped;
        all.rechecked += stats.rechecked;
        all.revisited += stats.revisited;
        all.first_replies += stats.first_replies;
        all.misses += stats.misses;
        all.cookie_hits += stats.cookie_hits;
        all.cookie_misses += stats.cookie_misses;
        all.log_lost += stats.log_lost;
        all.cleared += stats.cleared;
        all.one_way += stats.one_way;
        for (all, one) in all.uncached.iter_mut().zip(stats.uncached) {
            *all += one;
        }
        for (all, one) in all.ended.iter_mut().zip(stats.ended) {
            *all += one;
        }
    }
    println!("{all:#?}");
    let moved = [
        all.hits,
        all.restamped,
        all.rechecked,
        all.revisited,
        all.first_replies,
        all.misses,
        all.cookie_hits,
        all.cookie_misses,
        all.log_lost,
        all.cleared,
        all.one_way,
        all.uncached[Uncached::OverBudget as usize],
    ];
    assert!(moved.iter().all(|count| *count > 0), "{all:?}");
    assert!(all.ended.iter().all(|count| *count > 0), "{all:?}");
}
