//! Time as a number that the caller hands in: nothing in the crate reads a clock.

use core::ops::{Add, Sub};
pub use core::time::Duration;

/// A moment, in nanoseconds since a start of the caller's choice. Never runs backwards for one cache.
///
/// 64 bits of nanoseconds last 584 years. Arithmetic saturates, so a far deadline is simply never reached.
///
/// ```
/// use gufc::time::{Duration, Instant};
///
/// let start = Instant::from_secs(5);
/// assert_eq!((start + Duration::from_millis(3)) - start, Duration::from_millis(3));
/// assert_eq!(start - (start + Duration::from_secs(1)), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The caller's start.
    pub const START: Self = Self(0);
    /// A moment later than every other.
    pub const NEVER: Self = Self(u64::MAX);

    /// `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// `secs` seconds after the start.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }
}

/// Nanoseconds of a duration, saturated to 64 bits.
const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 {
        u64::MAX
    } else {
        nanos as u64
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
