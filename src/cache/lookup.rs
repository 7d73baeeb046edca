//! Which entry is this packet's: by cookie if it has one, else by key.

use super::FlowCache;
use super::session::Entry;
use crate::cookie::FlowCookie;
use crate::hook::Direction;
use crate::key::FlowKey;
use crate::packet::{Origin, Packet};
use crate::pipeline::Pipeline;
use crate::trie::{Indexed, KeyIndex, Trace};
use crate::verdict::Uncached;

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry, which may have idled out.
    Entry(Entry),
    /// No entry.
    Nothing,
    /// Packets of this kind are never cached.
    Never(Uncached),
}

/// Why a packet of this kind is never cached; `None` for all ordinary packets.
#[inline]
pub(super) fn never_cached<P: Packet>(packet: &P) -> Option<Uncached> {
    if packet.fragment().is_part() {
        Some(Uncached::Fragment)
    } else if packet.defect().is_some() {
        Some(Uncached::Defective)
    } else {
        None
    }
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    pub(super) fn lookup<P: Packet<Key = K>>(&mut self, packet: &P) -> Found {
        if let Some(why) = never_cached(packet) {
            return Found::Never(why);
        }
        let key = packet.key();
        let entry = match packet.cookie() {
            None => match packet.hash() {
                None => self.find(packet.origin(), &key),
                Some(hash) => self.indexes[packet.origin() as usize]
                    .find_by_nic(hash, &key)
                    .map(Entry::from_id),
            },
            Some(cookie) => match self.recall(cookie, packet.origin(), &key) {
                Some(entry) => {
                    self.stats.cookie_hits += 1;
                    Some(entry)
                }
                None => {
                    self.stats.cookie_misses += 1;
                    self.find(packet.origin(), &key)
                }
            },
        };
        entry.map_or(Found::Nothing, Found::Entry)
    }

    /// The entry that a cookie names, or that is in the subtree that it names, if it is the key's.
    #[inline]
    pub(super) fn recall(&self, cookie: FlowCookie, origin: Origin, key: &K) -> Option<Entry> {
        match cookie.subtree() {
            None => self
                .sessions
                .entry(cookie)
                .filter(|entry| self.is_of(*entry, origin, key)),
            Some(subtree) => self.indexes[origin as usize]
                .find_from(subtree, key)
                .map(Entry::from_id),
        }
    }

    /// The entry of a key.
    pub(super) fn find(&self, origin: Origin, key: &K) -> Option<Entry> {
        self.indexes[origin as usize].find(key).map(Entry::from_id)
    }

    /// What looking a key up reads, whether it is cached or not.
    pub fn trace(&self, origin: Origin, key: &K) -> Trace {
        self.indexes[origin as usize].trace(key)
    }

    /// Whether the entry is that of the key: what a cookie must prove.
    pub(super) fn is_of(&self, entry: Entry, origin: Origin, key: &K) -> bool {
        self.sessions.get(entry.slot).is_some_and(|session| {
            let half = &session.halves[entry.direction as usize];
            half.origin == origin
                && session.key(entry.direction) == key
                && (entry.direction == Direction::Original || session.answers)
        })
    }
}
