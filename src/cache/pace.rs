//! How much of one kind of work the cache may do: a token bucket that counts in the packets' time.

use crate::time::Instant;

/// A rate with room for bursts: at most `per_second` a second in the long run, and `burst` at once.
///
/// ```
/// use gufc::cache::{Config, Pace};
///
/// // After an edit at most 20,000 flows a second are judged anew, and 1,000 of them at once.
/// let config = Config { reruns: Pace { per_second: 20_000, burst: 1_000 }, ..Config::new([7, 11]) };
/// assert_eq!(config.misses, Pace::UNLIMITED);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many a second; `u64::MAX` for as many as come.
    pub per_second: u64,
    /// How many at once, after a time with none.
    pub burst: u64,
}

impl Pace {
    /// As many as come.
    pub const UNLIMITED: Self = Self {
        per_second: u64::MAX,
        burst: u64::MAX,
    };
}

/// The tokens of a [`Pace`]. Full at first.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    pace: Pace,
    /// In billionths of a token, so that no part of one is lost between two packets.
    credit: u128,
    since: Instant,
}

const TOKEN: u128 = 1_000_000_000;

impl Tokens {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            credit: u128::from(pace.burst) * TOKEN,
            since: Instant::START,
        }
    }

    /// Takes one, if there is one at this moment. Cost: O(1).
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.pace == Pace::UNLIMITED {
            return true;
        }
        let elapsed = now.nanos().saturating_sub(self.since.nanos());
        self.since = self.since.max(now);
        // Nanoseconds times tokens a second are billionths of a token; both have 64 bits.
        let earned = u128::from(elapsed) * u128::from(self.pace.per_second);
        let most = u128::from(self.pace.burst) * TOKEN;
        self.credit = self.credit.saturating_add(earned).min(most);
        match self.credit.checked_sub(TOKEN) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many at once, then so many a second, to the nanosecond, and never more than the burst after a pause.
    #[test]
    fn tokens_come_at_their_pace() {
        let mut tokens = Tokens::new(Pace {
            per_second: 4,
            burst: 3,
        });
        let mut taken = |nanos| {
            (0..10)
                .filter(|_| tokens.take(Instant::from_nanos(nanos)))
                .count()
        };
        let start = 1_000_000_000;
        assert_eq!(taken(start), 3);
        assert_eq!(taken(start + 249_999_999), 0);
        assert_eq!(taken(start + 250_000_000), 1);
        assert_eq!(taken(start + 1_000_000_000), 3);
        assert_eq!(taken(u64::MAX), 3);
        assert_eq!(taken(0), 0, "time that runs backwards earns nothing");
    }

    #[test]
    fn extreme_paces_hold() {
        let none = Pace {
            per_second: 0,
            burst: 0,
        };
        assert!(!Tokens::new(none).take(Instant::NEVER));
        let fast = Pace {
            per_second: u64::MAX,
            burst: 1,
        };
        let mut tokens = Tokens::new(fast);
        assert!(tokens.take(Instant::START));
        assert!(!tokens.take(Instant::START));
        assert!(tokens.take(Instant::NEVER));
    }
}
