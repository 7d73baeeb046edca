//! Stories of any packets, edits, ticks and deletions: the translator behind the cache, the same without a cache, and a slow
//! twin must agree after each operation; bytes are compared with checksums computed in full.

use gufc::testing::nat_story::{nat, pool_story};
use proptest::prelude::*;

/// Stories are long; `PROPTEST_CASES` looks at more of them.
fn cases() -> ProptestConfig {
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => ProptestConfig::default(),
        Err(_) => ProptestConfig::with_cases(48),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn agree_with_the_slow_twin(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        nat(&bytes).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn pools_agree_with_the_slow_twin(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        pool_story(&bytes).map_err(TestCaseError::fail)?;
    }
}
