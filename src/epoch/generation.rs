//! The number that moves forward with every commit, and the proof of having read it in time.

use core::fmt;

/// How many commits there have been: the age of a rule set and of a stamp.
///
/// 64 bits: at a million commits a second it lasts 584,000 years, so it never wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Before the first commit.
    pub const FIRST: Self = Self(0);

    /// The generation after this one.
    #[must_use]
    pub const fn successor(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The generation after `number` commits: for those who count commits elsewhere.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Commits since the first.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The generation that was current before the slow path read any rule.
///
/// Insertion consumes it: what the slow path found is stamped with the ticket's generation, never with a later one, so an
/// edit between judging and inserting is caught by the next packet. It can be neither copied nor made up.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket is for the insertion that follows the slow path"]
pub struct Ticket(Generation);

impl Ticket {
    pub(super) const fn new(generation: Generation) -> Self {
        Self(generation)
    }

    /// Hands the ticket in: the stamp for what was judged under it.
    pub const fn redeem(self) -> Generation {
        self.0
    }
}
