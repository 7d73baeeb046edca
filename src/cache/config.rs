//! What the owner of a cache decides: capacities, timeouts, the secret.

use core::fmt;

use super::Pace;
use crate::time::Duration;

/// Capacities and timeouts of a [`FlowCache`](super::FlowCache).
///
/// ```
/// use gufc::cache::Config;
///
/// let config = Config { sessions: 1_000, ..Config::new([7, 11]) };
/// assert_eq!(config.check(), Ok(()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most sessions at once, 1 to 2^30. A session holds both directions of a flow.
    pub sessions: usize,
    /// Most flow directions of locally generated packets at once, 1 to 2^30: the capacity of their index. One more is not
    /// cached.
    pub local: usize,
    /// Most regions that the log remembers, at least 1. An entry that was last used before the oldest of them is judged
    /// afresh.
    pub regions: usize,
    /// Secret of the hash, from a good source of randomness: whoever knows it can choose tuples that collide (which deepens
    /// the trie, within its bound).
    pub seed: [u64; 2],
    /// How long a session lasts without a packet while only one direction has been seen.
    pub idle_provisional: Duration,
    /// How long a session lasts without a packet once both directions have been seen.
    pub idle_established: Duration,
    /// How long a cached denial lasts without a packet.
    pub idle_denied: Duration,
    /// How many sessions that edits touch may be re-run: one for each session and time that an edit touched it. Packets of the
    /// others are judged without the cache meanwhile ([`Uncached::OverBudget`](crate::verdict::Uncached)), or, where every hook
    /// that was edited has [slack](super::OnEdit::RevalidateWithSlack), meet what the session has.
    pub reruns: Pace,
    /// How many sessions may begin. Packets of the other new flows are judged and leave nothing behind.
    pub misses: Pace,
    /// Most slots that one insertion into a full cache looks at for a victim, at least 1.
    pub evict_scan: usize,
}

impl Config {
    /// 65,536 sessions, 8,192 local directions, 256 regions; idle 30 s provisional, 300 s established, 10 s denied; 16 slots a scan; any pace.
    pub const fn new(seed: [u64; 2]) -> Self {
        Self {
            sessions: 65_536,
            local: 8_192,
            regions: 256,
            seed,
            idle_provisional: Duration::from_secs(30),
            idle_established: Duration::from_secs(300),
            idle_denied: Duration::from_secs(10),
            reruns: Pace::UNLIMITED,
            misses: Pace::UNLIMITED,
            evict_scan: 16,
        }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    ///
    /// The first value that is not.
    pub const fn check(&self) -> Result<(), ConfigError> {
        if self.sessions == 0 || self.sessions > 1 << 30 {
            Err(ConfigError::Sessions)
        } else if self.local == 0 || self.local > 1 << 30 {
            Err(ConfigError::Local)
        } else if self.regions == 0 {
            Err(ConfigError::Regions)
        } else if self.evict_scan == 0 {
            Err(ConfigError::EvictScan)
        } else {
            Ok(())
        }
    }
}

/// Why a cache cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `sessions` is not in 1 to 2^30.
    Sessions,
    /// `local` is not in 1 to 2^30.
    Local,
    /// `regions` is 0.
    Regions,
    /// `evict_scan` is 0.
    EvictScan,
    /// The memory for so many sessions cannot be had.
    Memory,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sessions => "sessions must be from 1 to 2^30",
            Self::Local => "local must be from 1 to 2^30",
            Self::Regions => "regions must be at least 1",
            Self::EvictScan => "evict_scan must be at least 1",
            Self::Memory => "the memory for so many sessions cannot be had",
        })
    }
}

impl core::error::Error for ConfigError {}
