//! Why this verdict: what is cached for a flow, how old it is, and what an edit did to it.

use alloc::vec::Vec;
use core::fmt;

use super::aggregate::{Aggregated, Aggregates};
use super::evict::Segments;
use super::policy::Policies;
use super::session::{AsSeen, Entry, Session, Sessions};
use super::{Config, FlowCache, Segment, Stats};
use crate::epoch::{Generation, Region, RegionLog};
use crate::hook::{Direction, HookSet};
use crate::key::FlowKey;
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::{Duration, Instant};
use crate::trie::{Indexed, KeyIndex};

/// One cached session, as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed<K> {
    /// The key of its first packet.
    pub original: K,
    /// The key of its replies; the original again where nothing answers it.
    pub reply: K,
    /// How far it has come.
    pub segment: Segment,
    /// The generation at which it was last known good.
    pub stamp: Generation,
    /// When its last packet came.
    pub last_seen: Instant,
    /// Packets seen, original direction first.
    pub packets: [u64; 2],
    /// Bytes seen, by the network headers.
    pub bytes: [u64; 2],
}

impl<K: FlowKey> Listed<K> {
    pub(super) fn of<D>(session: &Session<K, D>) -> Self {
        let [there, back] = &session.halves;
        Self {
            original: session.keys[0],
            reply: session.keys[1],
            segment: session.segment,
            stamp: session.stamp,
            last_seen: session.last_seen,
            packets: [there.packets, back.packets],
            bytes: [there.bytes, back.bytes],
        }
    }
}

impl<K: fmt::Display> fmt::Display for Listed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segment = self.segment;
        let [there, back] = self.packets;
        write!(
            f,
            "{} [{segment}, generation {}, {there} packets, {back} back]",
            self.original, self.stamp
        )
    }
}

/// What the cache knows of a flow at this moment, and how its next packet would fare. Print it.
///
/// ```text
/// tcp 10.0.0.1:4000 > 192.0.2.1:80: cached, original direction, established, idle 2s
///   12 packets, 9 back
///   stamp: generation 4 of 6: stale, touched by
///     generation 6, filter: tcp dport 80
///   its next packet: the filter looks again
///   filter: rule 3 may match: tcp flags rst drop; rule 7 decides: tcp dport 80 accept
/// ```
#[derive(Debug)]
pub struct Explanation<'a, K, H: Pipeline> {
    hooks: &'a H,
    key: K,
    generation: Generation,
    found: Option<(Direction, &'a Session<K, H::Destiny>)>,
    /// Where there is no session.
    aggregate: Option<(Aggregated, &'a H::Destiny)>,
    edits: Vec<Edit>,
    /// Whether edits have been forgotten that may have touched it.
    forgotten: bool,
    /// The hooks that edits touch, in either direction.
    touched: HookSet,
    policies: Policies,
    idle: Duration,
    expired: bool,
}

/// An edit that touches a session.
#[derive(Clone, Copy, Debug)]
struct Edit {
    generation: Generation,
    hooks: HookSet,
    region: Region,
    direction: Direction,
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// What is cached for a flow and how it would fare: since which generation it is right, which edits touch it and what their
    /// hooks do about that, which steps its packets run and which rules can still decide. Changes nothing, not even recency.
    ///
    /// Cost: a lookup, and one box test for each region since its stamp and direction.
    pub fn explain(&self, origin: Origin, key: &K, now: Instant) -> Explanation<'_, K, H> {
        let entry = self.find(origin, key);
        let found =
            entry.and_then(|Entry { slot, direction }| Some((direction, self.sessions.get(slot)?)));
        let mut edits = Vec::new();
        let mut forgotten = false;
        let mut touched = HookSet::NONE;
        if let Some((direction, session)) = found {
            let mut stats = Stats::default();
            let of = (key, direction);
            let touching = match Self::is_clear(&self.log, session, of) {
                true => None,
                false => Self::touched(&self.log, self.edited, session, of, &mut stats),
            };
            touched = touching.map_or(HookSet::NONE, |[there, back]| there.union(back));
            forgotten = stats.log_lost > 0;
            for direction in Direction::BOTH {
                if session.halves[direction as usize].packets == 0 {
                    continue;
                }
                let tuples = session.tuples(direction);
                for (generation, hooks, region) in self.log.edits_since(session.stamp) {
                    if region.pattern.matches(tuples.of(region.view)) {
                        edits.push(Edit {
                            generation,
                            hooks,
                            region: *region,
                            direction,
                        });
                    }
                }
            }
        }
        Explanation {
            hooks: &self.hooks,
            key: *key,
            generation: self.log.current(),
            found,
            aggregate: match found {
                Some(_) => None,
                None => self.aggregate_of(origin, &key.fields()),
            },
            edits,
            forgotten,
            touched,
            policies: self.policies,
            idle: found.map_or(Duration::ZERO, |(_, session)| now - session.last_seen),
            expired: entry.is_some_and(|entry| self.is_idle(entry.slot, now)),
        }
    }

    /// Every cached session, in the order of their slots. Changes nothing, not even recency.
    pub fn iter(&self) -> impl Iterator<Item = Listed<K>> {
        self.sessions.iter().map(|(_, session)| Listed::of(session))
    }

    /// Bytes that sessions and indexes have come to use of what they [reserved](Self::bytes): what an operating system that
    /// hands out memory on first touch charges for.
    pub fn touched_bytes(&self) -> usize {
        self.sessions.touched_bytes()
            + self.segments.touched_bytes()
            + self
                .indexes
                .iter()
                .map(KeyIndex::touched_bytes)
                .sum::<usize>()
    }

    /// Bytes that a cache of this configuration allocates when it is made, all that it ever will; what hooks hold comes on top. Known
    /// before it is made:
    ///
    /// ```text
    ///  sessions x (slot + 4 + 12)          slot: both keys, both destinies, counters, stamp
    ///  index of 2 x sessions keys, index of `local` keys
    ///  log of `regions`
    ///  sources: 8 x the power of two from sessions / 2 on, where there is a limit for a source
    ///  zones: as many, where there is a limit for a zone
    ///  aggregates: 484 and a slot each
    ///  ghosts:  8 x the power of two from sessions on, with S3-FIFO
    /// ```
    ///
    /// ```
    /// use gufc::cache::{Config, FlowCache};
    /// use gufc::hooks::filter::Filter;
    /// use gufc::key::Tuple;
    ///
    /// let config = Config { sessions: 1_000_000, ..Config::new([1, 2]) };
    /// let bytes = FlowCache::<Tuple, (Filter,)>::bytes_for(&config);
    /// println!("{} bytes a session", bytes / config.sessions);
    /// ```
    pub fn bytes_for(config: &Config) -> usize {
        Sessions::<K, H::Destiny>::bytes_for(config.sessions)
            + Segments::bytes_for(config)
            + K::Index::bytes_for(2 * config.sessions)
            + K::Index::bytes_for(config.local)
            + RegionLog::<HookSet>::bytes_for(config.regions)
            + Aggregates::<H::Destiny>::bytes_for(config.aggregates)
    }

    /// Bytes that the sessions and their indexes have allocated. What hooks hold comes on top.
    pub fn bytes(&self) -> usize {
        self.sessions.bytes()
            + self.segments.bytes()
            + self.aggregates.bytes()
            + self
                .indexes
                .iter()
                .map(KeyIndex::reserved_bytes)
                .sum::<usize>()
    }
}

impl<K, H: Pipeline> Explanation<'_, K, H> {
    /// Whether a session is cached for the key.
    pub fn is_cached(&self) -> bool {
        self.found.is_some()
    }

    /// The generation at which what is cached was last known to be right.
    pub fn stamp(&self) -> Option<Generation> {
        self.found.map(|(_, session)| session.stamp)
    }

    /// The edits since then that touch the session in either direction, newest first of each direction: their generations and
    /// regions. Older ones may have been [forgotten](Self::is_forgotten).
    pub fn edits(&self) -> impl Iterator<Item = (Generation, Region)> {
        self.edits.iter().map(|edit| (edit.generation, edit.region))
    }

    /// Whether edits since then have fallen off the region log that may have touched the session, so that all hooks look again.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Whether an edit touches what is cached.
    pub fn is_stale(&self) -> bool {
        !self.touched.is_empty()
    }
}

/// The names of some of a pipeline's hooks.
struct Names<'a, H>(&'a H, HookSet);

impl<H: Pipeline> fmt::Display for Names<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for index in 0..16 {
            if let (true, Some(name)) = (self.1.contains(index), self.0.name_of(index)) {
                write!(f, "{}{name}", if first { "" } else { ", " })?;
                first = false;
            }
        }
        if first { f.write_str("a hook") } else { Ok(()) }
    }
}

impl<K: FlowKey + Indexed + fmt::Display, H: Pipeline> fmt::Display for Explanation<'_, K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((direction, session)) = self.found else {
            let Some((aggregate, destiny)) = &self.aggregate else {
                return writeln!(f, "{}: not cached", self.key);
            };
            writeln!(f, "{}: one of {aggregate}", self.key)?;
            if aggregate.stamp < self.generation {
                writeln!(f, "  older than generation {}", self.generation)?;
            }
            return self.hooks.describe(destiny, f);
        };
        let half = &session.halves[direction as usize];
        let way = |direction| match direction {
            Direction::Original => "original",
            Direction::Reply => "reply",
        };
        let [there, back] = session.halves.each_ref().map(|half| half.packets);
        writeln!(
            f,
            "{}: cached, {} direction, {}, idle {:?}",
            self.key,
            way(direction),
            session.segment,
            self.idle
        )?;
        writeln!(f, "  {there} packets, {back} back")?;
        write!(
            f,
            "  stamp: generation {} of {}: ",
            session.stamp, self.generation
        )?;
        if session.stamp == self.generation {
            writeln!(f, "fresh")?;
        } else if self.forgotten {
            writeln!(f, "older than the region log, and edits came near it")?;
        } else if self.edits.is_empty() {
            writeln!(f, "no edit since touches it")?;
        } else {
            writeln!(f, "stale, touched by")?;
        }
        for edit in &self.edits {
            let names = Names(self.hooks, edit.hooks);
            write!(
                f,
                "    generation {}, {names}: {}",
                edit.generation, edit.region
            )?;
            match edit.direction == direction {
                true => writeln!(f)?,
                false => writeln!(f, " ({} direction)", way(edit.direction))?,
            }
        }
        self.fate(session, f)?;
        if !session.kept.is_empty() {
            let names = Names(self.hooks, session.kept);
            writeln!(f, "  kept in spite of edits: the steps of {names}")?;
        }
        if half.pending == HookSet::NONE {
            self.hooks.describe(&half.destiny, f)
        } else {
            let names = Names(self.hooks, half.pending);
            writeln!(f, "  {names}: to judge its next packet")
        }
    }
}

impl<K: FlowKey, H: Pipeline> Explanation<'_, K, H> {
    /// What the session's next packet meets.
    fn fate(&self, session: &Session<K, H::Destiny>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keeping = if session.gets_through() {
            self.policies.grandfather
        } else {
            HookSet::NONE
        };
        let looking = self.touched.without(keeping);
        if self.expired {
            writeln!(
                f,
                "  its next packet: begins a new session, this one has idled out"
            )
        } else if self.touched.is_empty() {
            Ok(())
        } else if looking.is_empty() {
            let names = Names(self.hooks, self.touched);
            writeln!(
                f,
                "  its next packet: keeps what {names} said, being established"
            )
        } else if !looking.intersection(self.policies.kill).is_empty() {
            writeln!(
                f,
                "  its next packet: ends the session and begins a new one"
            )
        } else {
            let names = Names(self.hooks, looking);
            writeln!(f, "  its next packet: {names} to look again")
        }
    }
}
