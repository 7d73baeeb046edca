//! The flow cache: one lookup, and the packet's whole destiny is run.
//!
//! [`FlowCache::process`] is the packet's way on one screen; [`FlowCache::edit`] is the one door for changes. The files
//! around them answer one question each:
//!
//! | file | question |
//! |---|---|
//! | `lookup` | which entry is this packet's: by cookie, by key |
//! | `hit` | the entry is fresh: run its destiny |
//! | `miss` | no entry, or one that is not ready: take the packet through the hooks |
//! | `revalidate` | the entry is older than the last edit: does any edit since touch it, and what then |
//! | `policy` | revalidate, grandfather or kill: the owner's choice for each hook |
//! | `pace` | how many flows may be judged anew at once |
//! | `evict` | who ends, when, and who makes room |
//! | `offload` | may a NIC do this entry's work, and what did it do |
//! | `order` | in what order: CLOCK, SIEVE, S3-FIFO |
//! | `sources` | how many half-open sessions a source has |
//! | `deliver` | in whose context the steps run |
//! | `batch` | a burst of packets, looked up together |
//! | `aggregate` | what one entry says for many flows |
//! | `explain` | why this verdict |
//! | `dump` | what is cached, step by step; delete by filter |
//! | `export` | sessions as bytes, and back |

mod aggregate;
mod batch;
mod check;
mod config;
mod deliver;
mod dump;
mod evict;
mod explain;
mod export;
mod hit;
mod lookup;
mod miss;
mod offload;
mod order;
mod pace;
mod policy;
mod revalidate;
mod session;
mod sources;
mod stats;

pub use aggregate::Aggregated;
pub use config::{Config, ConfigError, OverBudget, Quotas};
pub use deliver::Delivery;
pub use dump::{Cursor, Filter};
pub use explain::{Explanation, Listed};
pub use offload::Offloadable;
pub use order::Eviction;
pub use pace::Pace;
pub use policy::{NoSuchHook, OnEdit};
pub use session::Segment;
pub use stats::Stats;

pub use crate::key::portable::{ImportError, Imported, Portable, Trust};
pub use crate::observe::End;

use crate::cookie::FlowCookie;
use crate::epoch::{Change, Generation, RegionLog};
use crate::hook::{Context, HookSet};
use crate::interest::Scratch;
use crate::key::FlowKey;
use crate::observe::Event;
use crate::packet::{Origin, Packet};
use crate::pipeline::{Pipeline, Walk};
use crate::time::Instant;
use crate::trie::{Indexed, KeyIndex};
use crate::verdict::{Outcome, Path, Verdict};
use aggregate::Aggregates;
use evict::Segments;
use hit::NotReady;
use lookup::Found;
use offload::Loans;
use pace::Tokens;
use policy::Policies;
use session::{Entry, Sessions, Slot};

/// A flow cache over a pipeline of hooks.
///
/// `K` names flows ([`SevenTuple`](crate::key::SevenTuple) or [`Tuple`](crate::key::Tuple), or a type of the dataplane's
/// own); `H` is the pipeline. Received and locally generated packets have separate indexes; a session lives in both when one
/// of its ends is local.
///
/// It owns the hooks: they can be read through [`hooks`](Self::hooks) and changed through [`edit`](Self::edit) only, so that
/// no change goes unannounced.
///
/// # Promises
///
/// Verdicts, rewritten bytes and the hooks' state are those of judging every packet ([transparency](crate)); after `edit`
/// returns no packet is judged by the rules before it; a hit allocates nothing; a full cache costs speed, never a packet.
#[derive(Debug)]
pub struct FlowCache<K: FlowKey + Indexed, H: Pipeline> {
    config: Config,
    hooks: H,
    sessions: Sessions<K, H::Destiny>,
    segments: Segments,
    aggregates: Aggregates<H::Destiny>,
    /// By origin: received, local.
    indexes: [K::Index; 2],
    log: RegionLog<HookSet>,
    /// The hooks that any commit so far named.
    edited: HookSet,
    policies: Policies,
    reruns: Tokens,
    misses: Tokens,
    reaches: Tokens,
    stats: Stats,
    scratch: Scratch,
    /// Nanoseconds that a session lasts without a packet, by `Segment as usize`: the configuration's durations, ready to be
    /// compared.
    idle: [u64; 3],
    loans: Loans<K, H::Destiny>,
    /// Moves with every change to an index: what was looked up before may not hold any more.
    turnover: u64,
    /// Where the hand that looks for idle sessions stands.
    hand: Slot,
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// An empty cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a value of `config` is out of range or memory is short.
    pub fn new(config: Config, hooks: H) -> Result<Self, ConfigError> {
        config.check()?;
        let [a, b] = config.seed;
        let index =
            |seed, capacity| K::Index::with_seed(seed, capacity).map_err(|_| ConfigError::Memory);
        Ok(Self {
            sessions: Sessions::new(config.sessions),
            segments: Segments::new(&config),
            aggregates: Aggregates::new(config.aggregates),
            indexes: [
                index([a, b], 2 * config.sessions)?,
                index([b, !a], config.local)?,
            ],
            log: RegionLog::new(config.regions),
            edited: HookSet::NONE,
            policies: Policies::default(),
            reruns: Tokens::new(config.reruns),
            misses: Tokens::new(config.misses),
            reaches: Tokens::new(config.reaches),
            stats: Stats::default(),
            scratch: Scratch::new(),
            idle: [
                config.idle_denied,
                config.idle_provisional,
                config.idle_established,
            ]
            .map(|idle| u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX)),
            loans: Loans::new(),
            turnover: 0,
            hand: Slot(0),
            hooks,
            config,
        })
    }

    /// A packet's whole way, in strict order. `now` never runs backwards.
    ///
    /// The packet is rewritten in place; the caller carries out the verdict. Cost of a hit: one lookup, one comparison of
    /// stamps, one step for each hook with an interest.
    pub fn process<P: Packet<Key = K>>(&mut self, packet: &mut P, now: Instant) -> Outcome
    where
        H: Walk<P>,
    {
        let found = self.lookup(packet);
        self.process_found(found, false, packet, now)
    }

    /// [`process`](Self::process), once the lookup is done. `is_clear` says that the session found is already known
    /// [to be untouched](Self::is_clear).
    #[inline]
    fn process_found<P: Packet<Key = K>>(
        &mut self,
        found: Found,
        is_clear: bool,
        packet: &mut P,
        now: Instant,
    ) -> Outcome
    where
        H: Walk<P>,
    {
        let mut context = Context::new(now, packet.origin());
        let arrived = packet.key();
        let (verdict, path) = match found {
            Found::Never(why) => (self.judge_once(packet, &mut context), Path::Uncached(why)),
            Found::Nothing => match self.aggregates.are_wanted() {
                true => self.without_session(packet, &mut context),
                false => self.miss(packet, &mut context),
            },
            Found::Entry(entry) => match self.hit(entry, is_clear, packet, &mut context) {
                Ok(answer) => answer,
                Err(why) => self.not_ready(entry, why, packet, &mut context),
            },
        };
        let Context {
            by,
            egress,
            consumer,
            mark,
            log,
            ..
        } = context;
        let outcome = Outcome {
            verdict,
            by,
            egress,
            consumer,
            mark,
            log,
            path,
        };
        self.stats.count(&outcome);
        self.hooks.observe(|| Event::Answered {
            flow: arrived.fields(),
            verdict,
            path,
        });
        outcome
    }

    /// A packet whose flow has no session, where there may be aggregates.
    #[inline]
    fn without_session<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        context: &mut Context,
    ) -> (Verdict, Path)
    where
        H: Walk<P>,
    {
        match self.run_aggregate(packet, context) {
            Some(answer) => answer,
            None => self.miss(packet, context),
        }
    }

    /// A packet whose entry did not answer at once.
    fn not_ready<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        why: NotReady,
        packet: &mut P,
        context: &mut Context,
    ) -> (Verdict, Path)
    where
        H: Walk<P>,
    {
        match why {
            NotReady::Asked => self.revisit(entry, packet, context),
            NotReady::Touched(touched) => self.revalidate(entry, touched, packet, context),
            NotReady::Idle => {
                self.end(entry.slot, End::Idle);
                self.miss(packet, context)
            }
        }
    }

    /// Changes hooks: the one door. The closure edits and returns what it has to say along with the [`Change`] that the
    /// editing methods gave it; that is published before `edit` returns, so the very next packet is judged by the new rules.
    ///
    /// # Errors
    ///
    /// The closure's own; a failed edit must have changed nothing, and nothing is published.
    ///
    /// Cost: the closure's, and O(regions).
    pub fn edit<R, E>(
        &mut self,
        edit: impl FnOnce(&mut H) -> Result<(R, Change), E>,
    ) -> Result<(R, Generation), E> {
        let (result, change) = edit(&mut self.hooks)?;
        let changed = !change.is_nothing();
        if changed {
            self.stats.commits += 1;
        }
        let hooks = &self.hooks;
        let edited = &mut self.edited;
        let generation = self.log.publish(&change, |name| {
            let named = match hooks.hooks_named(name) {
                // A change that names no hook of ours is somebody's mistake; better that all look again than that none does.
                HookSet::NONE => HookSet::ALL,
                named => named,
            };
            *edited = edited.union(named);
            named
        });
        if changed {
            self.hooks.observe(|| Event::Edited { generation });
        }
        Ok((result, generation))
    }

    /// The hooks, to read.
    pub const fn hooks(&self) -> &H {
        &self.hooks
    }

    /// The counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The configuration that it was made with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Sessions cached.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The generation of the last commit.
    pub fn generation(&self) -> Generation {
        self.log.current()
    }

    /// The cookie that a NIC or a socket may keep for the flow of this key. `None` when it is not cached.
    pub fn cookie(&self, origin: Origin, key: &K) -> Option<FlowCookie> {
        self.sessions.cookie(self.find(origin, key)?)
    }

    /// The cookie of the part of the index where the flow of this key is or would be: it holds for all flows with the header's
    /// leading bits, and never goes stale. A lookup that begins there need not hash.
    pub fn subtree_cookie(&self, origin: Origin, key: &K) -> FlowCookie {
        FlowCookie::of_subtree(self.indexes[origin as usize].subtree(key))
    }
}
