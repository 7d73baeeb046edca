//! Why this verdict: what is cached for a flow, how old it is, and what an edit did to it.

use alloc::vec::Vec;
use core::fmt;

use super::session::{Entry, Session};
use super::{FlowCache, Segment};
use crate::epoch::{Generation, Region, Since};
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

impl<K: fmt::Display> fmt::Display for Listed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segment = match self.segment {
            Segment::Denied => "denied",
            Segment::Provisional => "provisional",
            Segment::Established => "established",
        };
        let [there, back] = self.packets;
        write!(
            f,
            "{} [{segment}, generation {}, {there} packets, {back} back]",
            self.original, self.stamp
        )
    }
}

/// What the cache knows of a flow at this moment. Print it.
#[derive(Debug)]
pub struct Explanation<'a, K, H: Pipeline> {
    hooks: &'a H,
    key: K,
    generation: Generation,
    found: Option<(Direction, &'a Session<K, H::Destiny>)>,
    touching: Option<Vec<Region>>,
    idle: Duration,
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// What is cached for a flow and how it would fare: which steps its packets run, whether it is fresh, which edits touch
    /// it. Changes nothing, not even recency.
    ///
    /// Cost: a lookup, and one box test for each region since its stamp.
    pub fn explain(&self, origin: Origin, key: &K, now: Instant) -> Explanation<'_, K, H> {
        let entry = self.find(origin, key);
        let found =
            entry.and_then(|Entry { slot, direction }| Some((direction, self.sessions.get(slot)?)));
        let touching = match found.map(|(_, session)| self.log.since(session.stamp)) {
            None | Some(Since::Fresh) => Some(Vec::new()),
            Some(Since::Lost) => None,
            Some(Since::Regions(regions)) => found.map(|(direction, session)| {
                let views = session.views(direction);
                let touches = |region: &&Region| region.pattern.contains(views.of(region.view));
                regions
                    .map(|(_, region)| region)
                    .filter(touches)
                    .copied()
                    .collect()
            }),
        };
        Explanation {
            hooks: &self.hooks,
            key: *key,
            generation: self.log.current(),
            found,
            touching,
            idle: found.map_or(Duration::ZERO, |(_, session)| now - session.last_seen),
        }
    }

    /// Every cached session, in the order of their slots. Changes nothing, not even recency.
    pub fn iter(&self) -> impl Iterator<Item = Listed<K>> {
        self.sessions.iter().map(|(_, session)| {
            let [there, back] = &session.halves;
            Listed {
                original: session.keys[0],
                reply: session.keys[1],
                segment: session.segment,
                stamp: session.stamp,
                last_seen: session.last_seen,
                packets: [there.packets, back.packets],
                bytes: [there.bytes, back.bytes],
            }
        })
    }

    /// Bytes that sessions and indexes have come to use of what they [reserved](Self::bytes): what an operating system that
    /// hands out memory on first touch charges for.
    pub fn touched_bytes(&self) -> usize {
        self.sessions.touched_bytes()
            + self
                .indexes
                .iter()
                .map(KeyIndex::touched_bytes)
                .sum::<usize>()
    }

    /// Bytes that the sessions and their indexes have allocated. What hooks hold comes on top.
    pub fn bytes(&self) -> usize {
        self.sessions.bytes()
            + self
                .indexes
                .iter()
                .map(KeyIndex::reserved_bytes)
                .sum::<usize>()
    }
}

impl<K: FlowKey + Indexed + fmt::Display, H: Pipeline> fmt::Display for Explanation<'_, K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((direction, session)) = self.found else {
            return writeln!(f, "{}: not cached", self.key);
        };
        let half = &session.halves[direction as usize];
        let way = if direction == Direction::Original {
            "original"
        } else {
            "reply"
        };
        writeln!(
            f,
            "{}: cached, {way} direction, idle {:?}",
            self.key, self.idle
        )?;
        write!(
            f,
            "  stamp: generation {} of {}: ",
            session.stamp, self.generation
        )?;
        match &self.touching {
            None => writeln!(f, "older than the region log, every hook looks again")?,
            Some(_) if session.stamp == self.generation => writeln!(f, "fresh")?,
            Some(regions) if regions.is_empty() => writeln!(f, "stale, no edit since touches it")?,
            Some(regions) => {
                writeln!(f, "stale, touched by {} edited regions", regions.len())?;
                for region in regions {
                    writeln!(f, "    {region}")?;
                }
            }
        }
        if half.pending == HookSet::NONE {
            self.hooks.describe(&half.destiny, f)
        } else {
            writeln!(f, "  hooks judge its next packet")
        }
    }
}
