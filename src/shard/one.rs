//! One shard: a cache, and the sense of what belongs to it.

use super::homes::{Homes, ShardId};
use super::remote::{Announcement, Remote, Remotes};
use crate::cache::{Config, ConfigError, FlowCache};
use crate::cookie::FlowCookie;
use crate::epoch::{Change, Generation};
use crate::key::FlowKey;
use crate::nic::Rss;
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::time::{Duration, Instant};
use crate::trie::Indexed;
use crate::verdict::Outcome;

/// What a shard does with packets of flows that are not its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placing {
    /// They are handed over to their home. What hooks with state of connections need.
    #[default]
    HandOver,
    /// They are processed where they land. Right where hooks keep no state of connections; each shard that sees a flow caches it.
    Local,
}

/// What became of a packet at a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a packet that belongs elsewhere is still to be handed over"]
pub enum Placed<K> {
    /// It was processed. If the reply is going to land at another shard, that has to be told before the packet is sent.
    Here(Outcome, Option<Announcement<K>>),
    /// It was not touched: give it to [`Shard::take_over`] of this shard.
    Elsewhere(Remote, Handed),
}

/// By what a packet was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handed {
    /// Its hash says whose it is, unless that shard knows better.
    ByHash,
    /// It is a reply that was announced: that shard is where its flow lives.
    ByHandle,
}

/// Packets that are processed together.
const BURST: usize = 32;

/// Counters of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Packets that arrived at the shard and were its own.
    pub own: u64,
    /// Packets handed over because another shard is their home.
    pub handed: u64,
    /// Packets handed over by a remote handle.
    pub remote: u64,
    /// Packets taken over from others.
    pub taken: u64,
    /// Announcements made.
    pub announced: u64,
    /// Edits that failed on this shard's hooks.
    pub failed_edits: u64,
}

/// One queue's share of a dataplane: a [`FlowCache`], owned by whoever polls the queue.
///
/// `Send` if its hooks are. No lock, no atomic: other shards are known by number only.
///
/// ```
/// use gufc::cache::Config;
/// use gufc::hooks::filter::{Filter, Policy};
/// use gufc::key::Tuple;
/// use gufc::nic::{Indirection, Rss, RssKey};
/// use gufc::shard::{Homes, Placed, Placing, Shard, ShardId};
/// use gufc::time::{Duration, Instant};
///
/// let (rss, table) = (Rss::new(RssKey::symmetric(0x6d5a)), Indirection::equal(7, 2));
/// let shard = |id| {
///     let filter = Filter::new("filter", 10, 1, Policy::Accept);
///     Shard::<Tuple, _>::new(id, Config::new([1, 2]), (filter,), rss.clone(), Homes::of_queues(&table), Placing::HandOver, 100, Duration::from_secs(60))
/// };
/// let shards = [shard(ShardId(0))?, shard(ShardId(1))?];
/// assert!(shards.iter().all(|shard| shard.cache().is_empty()));
/// # Ok::<(), gufc::cache::ConfigError>(())
/// ```
pub struct Shard<K: FlowKey + Indexed, H: Pipeline> {
    id: ShardId,
    cache: FlowCache<K, H>,
    rss: Rss,
    homes: Homes,
    placing: Placing,
    remotes: Remotes<K>,
    stats: ShardStats,
}

impl<K: FlowKey + Indexed, H: Pipeline> Shard<K, H> {
    /// An empty shard. `rss` and `homes` are the same for all shards; `remotes` and `idle` size the table of
    /// [`Remotes`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as for the cache.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part that it is made of"
    )]
    pub fn new(
        id: ShardId,
        config: Config,
        hooks: H,
        rss: Rss,
        homes: Homes,
        placing: Placing,
        remotes: usize,
        idle: Duration,
    ) -> Result<Self, ConfigError> {
        let [a, b] = config.seed;
        Ok(Self {
            id,
            remotes: Remotes::try_new([!a, b], remotes, idle).map_err(|_| ConfigError::Memory)?,
            cache: FlowCache::new(config, hooks)?,
            rss,
            homes,
            placing,
            stats: ShardStats::default(),
        })
    }

    /// Its number.
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// Its cache.
    pub const fn cache(&self) -> &FlowCache<K, H> {
        &self.cache
    }

    /// Its cache, to maintain it. Edits that all shards shall see go through a control handle.
    pub const fn cache_mut(&mut self) -> &mut FlowCache<K, H> {
        &mut self.cache
    }

    /// The counters.
    pub const fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// The flows of others whose replies land here.
    pub const fn remotes(&self) -> &Remotes<K> {
        &self.remotes
    }

    /// The table of homes, to move one. On all shards alike.
    pub const fn homes_mut(&mut self) -> &mut Homes {
        &mut self.homes
    }

    /// The shard whose flow a packet with this key is, by its hash.
    pub fn home(&self, key: &K) -> ShardId {
        self.homes.of(self.rss.hash(&key.fields()))
    }

    /// A packet came in by this shard's queue.
    ///
    /// Cost: that of [`FlowCache::process`]; and under [`Placing::HandOver`] a hash where the NIC has brought none, and one
    /// lookup while any remote flow is known.
    pub fn process<P: Packet<Key = K>>(&mut self, packet: &mut P, now: Instant) -> Placed<K>
    where
        H: Walk<P>,
    {
        match self.place(packet, now) {
            Some((remote, handed)) => Placed::Elsewhere(remote, handed),
            None => {
                let outcome = self.cache.process(packet, now);
                Placed::Here(outcome, self.announce(packet, &outcome))
            }
        }
    }

    /// [`process`](Self::process) for each packet in order, with those that are this shard's own looked up together; `done` is
    /// called with each packet and what became of it, in order.
    pub fn process_burst<P: Packet<Key = K>>(
        &mut self,
        packets: &mut [P],
        now: Instant,
        mut done: impl FnMut(&mut P, Placed<K>),
    ) where
        H: Walk<P>,
    {
        let mut rest = packets;
        while !rest.is_empty() {
            // As many as are our own, in one go.
            let mut own = 0;
            let mut elsewhere = None;
            while let Some(packet) = rest.get(own).filter(|_| own < BURST) {
                elsewhere = self.place(packet, now);
                if elsewhere.is_some() {
                    break;
                }
                own += 1;
            }
            let (run, behind) = core::mem::take(&mut rest).split_at_mut(own);
            let mut outcomes = [None; BURST];
            let mut places = outcomes.iter_mut();
            self.cache.process_batch(run, now, |_, outcome| {
                if let Some(place) = places.next() {
                    *place = Some(outcome);
                }
            });
            for (packet, outcome) in run.iter_mut().zip(outcomes) {
                if let Some(outcome) = outcome {
                    let announcement = self.announce(packet, &outcome);
                    done(packet, Placed::Here(outcome, announcement));
                }
            }
            rest = behind;
            if let Some((remote, handed)) = elsewhere {
                if let Some((packet, behind)) = core::mem::take(&mut rest).split_first_mut() {
                    done(packet, Placed::Elsewhere(remote, handed));
                    rest = behind;
                }
            }
        }
    }

    /// Where a packet that came in here is to be handed over to; `None` if it is this shard's own. Counted.
    #[inline]
    fn place<P: Packet<Key = K>>(&mut self, packet: &P, now: Instant) -> Option<(Remote, Handed)> {
        if self.placing == Placing::Local {
            self.stats.own += 1;
            return None;
        }
        let (key, is_own) = flow_of(packet);
        if let Some(remote) = self.remotes.find(&key, now) {
            self.stats.remote += 1;
            return Some((remote, Handed::ByHandle));
        }
        let home = match packet.hash() {
            Some(hash) if is_own => self.homes.of(hash),
            _ => self.home(&key),
        };
        if home == self.id {
            self.stats.own += 1;
            return None;
        }
        self.stats.handed += 1;
        let remote = Remote {
            shard: home,
            cookie: None,
        };
        Some((remote, Handed::ByHash))
    }

    /// A packet was handed over by another shard.
    ///
    /// It is this shard's if it came by a handle; if it came by its hash, it may turn out to be a reply that was announced here.
    pub fn take_over<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        handed: Handed,
        now: Instant,
    ) -> Placed<K>
    where
        H: Walk<P>,
    {
        if handed == Handed::ByHash {
            if let Some(remote) = self.remotes.find(&flow_of(packet).0, now) {
                self.stats.remote += 1;
                return Placed::Elsewhere(remote, Handed::ByHandle);
            }
        }
        self.stats.taken += 1;
        let outcome = self.cache.process(packet, now);
        Placed::Here(outcome, self.announce(packet, &outcome))
    }

    /// What another shard has to be told, once hooks have judged a packet, whatever they said: they may remember it.
    #[inline]
    fn announce<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        outcome: &Outcome,
    ) -> Option<Announcement<K>> {
        if outcome.path.is_cached() || self.placing == Placing::Local {
            return None;
        }
        let reply = packet.key().inverse()?;
        let to = self.home(&reply);
        if to == self.id {
            return None;
        }
        self.stats.announced += 1;
        let remote = Remote {
            shard: self.id,
            cookie: self.reply_cookie(&reply),
        };
        Some(Announcement { to, reply, remote })
    }

    /// The cookie of a reply's entry, whichever origin it will have.
    fn reply_cookie(&self, reply: &K) -> Option<FlowCookie> {
        let origin = if reply.fields().locality.source {
            crate::packet::Origin::Local
        } else {
            crate::packet::Origin::Received
        };
        self.cache.cookie(origin, reply)
    }

    /// Another shard says that replies with this key are to be handed to it. False, and counted, when there is no room.
    pub fn learn(&mut self, announcement: Announcement<K>, now: Instant) -> bool {
        let Announcement { reply, remote, .. } = announcement;
        remote.shard == self.id || self.remotes.learn(reply, remote, now)
    }

    /// Changes this shard's hooks: [`FlowCache::edit`], for an edit that every shard is given. One that fails is counted.
    pub fn edit<E>(
        &mut self,
        edit: impl FnOnce(&mut H) -> Result<Change, E>,
    ) -> Option<Generation> {
        match self
            .cache
            .edit(|hooks| edit(hooks).map(|change| ((), change)))
        {
            Ok(((), generation)) => Some(generation),
            Err(_) => {
                self.stats.failed_edits += 1;
                None
            }
        }
    }

    /// Ends idle sessions and forgets idle remote flows, looking at `budget` of each. Cost: O(budget).
    pub fn maintain(&mut self, now: Instant, budget: usize) {
        self.cache.maintain(now, budget);
        self.remotes.maintain(now, budget);
    }
}

/// The key of the flow that a packet has to be with, and whether the NIC's hash is of that flow.
///
/// An ICMP error belongs to the flow that it is about: to what would answer the packet that it quotes. A fragment's hash is of its
/// addresses alone.
#[inline]
fn flow_of<P: Packet>(packet: &P) -> (P::Key, bool) {
    let key = packet.key();
    if key.protocol().is_icmp() {
        let about = packet.quoted().map(|sent| sent.inverse().unwrap_or(sent));
        if let Some(about) = about {
            return (about, false);
        }
    }
    (key, !packet.fragment().is_part())
}
