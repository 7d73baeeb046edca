//! What the owner of a cache decides: capacities, timeouts, the secret.

use core::fmt;

use super::{Eviction, Pace};
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
    /// Who makes room among denied sessions, and among provisional ones.
    pub eviction: Eviction,
    /// Who makes room among established sessions.
    pub eviction_established: Eviction,
    /// Most slots that one insertion into a full segment or cache looks at for a victim, at least 1.
    pub evict_scan: usize,
    /// How much of the cache each segment may fill.
    pub quotas: Quotas,
    /// How long a provisional session stays at least, whatever comes: the time that a reply should be given. Counted in
    /// milliseconds, rounded up. While all of them are younger, newcomers are [not cached](crate::verdict::Uncached::Full).
    pub stay_provisional: Duration,
    /// Most provisional sessions that began with packets of one source, an IPv4 address or an IPv6 prefix of 64 bits, at
    /// least 1. Sources are counted by a hash in a table of fixed size, never too low; two may be taken for one when there are
    /// many. `u32::MAX` for no limit, and no table.
    pub per_source: u32,
    /// Most sessions that began with packets of one zone, whatever segment they are in, at least 1: what one tenant may hold of a
    /// cache that many share. Zones are counted as sources are. `u32::MAX` for no limit, and no table.
    pub per_zone: u32,
    /// Most aggregates at once, up to 65,536; 0 for none, as is the default. An aggregate is one entry for all the flows around one
    /// that the hooks treat alike, where none of them keeps state by flow ([`Hook::reach`](crate::hook::Hook::reach)). Port
    /// scans and address sweeps then cost a handful of entries. Flows that have an aggregate have no sessions: they are in no
    /// listing of these, they get no cookies, and no NIC takes them over.
    pub aggregates: usize,
    /// How often hooks may be asked how far an answer reaches, which costs as much as a look at each of their rules. Flows that
    /// begin beyond it get sessions.
    pub reaches: Pace,
    /// What becomes of a packet that [`misses`](Self::misses) or [`reruns`](Self::reruns) leave nothing for.
    pub over_budget: OverBudget,
}

/// What becomes of a packet that the cache has no answer to, once the budget for such packets is used up.
///
/// ```
/// use gufc::cache::{Config, OverBudget, Pace};
///
/// // A hundred thousand flows may begin each second; the hooks are spared the packets of the others.
/// let misses = Pace { per_second: 100_000, burst: 1_000 };
/// let config = Config { misses, over_budget: OverBudget::Refuse, ..Config::new([7, 11]) };
/// assert_eq!(config.check(), Ok(()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OverBudget {
    /// It is judged, and what was learnt is forgotten: right, and as slow as without a cache.
    #[default]
    Judge,
    /// It is not judged and nothing of it is changed. Its outcome is a drop by no hook, on the path
    /// [`OverBudget`](crate::verdict::Uncached::OverBudget). The caller carries that out, or keeps the packet and hands it in again
    /// later.
    Refuse,
}

/// How much of a cache each segment may fill, in thousandths of [`Config::sessions`], 1 to 1000 each, rounded up. Their sum may be
/// more than the whole.
///
/// A new session in a full cache takes the place of a denied or provisional one. One that becomes established when that segment
/// is full takes the place of an established one; nothing else does.
///
/// ```
/// use gufc::cache::{Config, Quotas};
///
/// // Nobody half-open or denied gets more than a tenth.
/// let quotas = Quotas { denied: 100, provisional: 100, established: 800 };
/// let config = Config { quotas, ..Config::new([7, 11]) };
/// assert_eq!(config.check(), Ok(()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Of sessions whose every packet is denied.
    pub denied: u16,
    /// Of sessions that one direction has been seen of.
    pub provisional: u16,
    /// Of sessions that both directions have been seen of.
    pub established: u16,
}

impl Quotas {
    /// Denied a quarter, provisional all, established seven tenths: the rest is for newcomers, whatever is established.
    pub const DEFAULT: Self = Self {
        denied: 250,
        provisional: 1_000,
        established: 700,
    };

    const fn shares(self) -> [u16; 3] {
        [self.denied, self.provisional, self.established]
    }

    /// The quotas of so many sessions, by `Segment as usize`.
    pub(super) fn of(self, sessions: usize) -> [usize; 3] {
        self.shares().map(|share| {
            let most = (sessions as u64 * u64::from(share)).div_ceil(1_000);
            usize::try_from(most).unwrap_or(usize::MAX)
        })
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Config {
    /// 65,536 sessions, 8,192 local directions, 256 regions; idle 30 s provisional, 300 s established, 10 s denied; any pace;
    /// S3-FIFO for newcomers and CLOCK for established sessions, 16 slots a scan, the default quotas, a stay of 100 ms, no limit for a
    /// source or a zone; packets over budget are judged; no aggregates, and if there were, 1,000 tries a second and 100 at once.
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
            eviction: Eviction::S3Fifo,
            eviction_established: Eviction::Clock,
            evict_scan: 16,
            quotas: Quotas::DEFAULT,
            stay_provisional: Duration::from_millis(100),
            per_source: u32::MAX,
            per_zone: u32::MAX,
            aggregates: 0,
            reaches: Pace {
                per_second: 1_000,
                burst: 100,
            },
            over_budget: OverBudget::Judge,
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
        } else if self.per_source == 0 {
            Err(ConfigError::PerSource)
        } else if self.per_zone == 0 {
            Err(ConfigError::PerZone)
        } else if self.aggregates > 1 << 16 {
            Err(ConfigError::Aggregates)
        } else {
            let mut segment = 0;
            while segment < 3 {
                if self.quotas.shares()[segment] == 0 || self.quotas.shares()[segment] > 1_000 {
                    return Err(ConfigError::Quotas);
                }
                segment += 1;
            }
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
    /// A quota is not in 1 to 1000.
    Quotas,
    /// `per_source` is 0.
    PerSource,
    /// `per_zone` is 0.
    PerZone,
    /// `aggregates` is more than 2^16.
    Aggregates,
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
            Self::Quotas => "quotas must be from 1 to 1000",
            Self::PerSource => "per_source must be at least 1",
            Self::PerZone => "per_zone must be at least 1",
            Self::Aggregates => "aggregates must be at most 2^16",
            Self::Memory => "the memory for so many sessions cannot be had",
        })
    }
}

impl core::error::Error for ConfigError {}
