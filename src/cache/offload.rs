//! May a NIC do this entry's work in our place, and what has it done?
//!
//! ```text
//!            lend                  take_back
//!   session ------> session, lent ----------> session
//!                        |
//!                        | ends: displaced, removed, killed
//!                        v          take_back
//!                   books kept open ---------> nothing
//! ```
//!
//! A session may end while others forward its packets: the cache is in charge of its memory, and a flow that is offloaded does not
//! look busy. What its packets ran stays until the flow is taken back, so that each packet is credited, whenever its count arrives.

use alloc::collections::BTreeMap;

use super::FlowCache;
use super::session::{Entry, Half};
use crate::hook::{Context, Direction, Tally, Views};
use crate::key::FlowKey;
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::Instant;
use crate::trie::Indexed;

/// A session whose packets need no hook: both directions, and what edits are tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloadable<K> {
    /// The original key and the reply's.
    pub flows: [K; 2],
    /// The three tuples of each direction; packets leave as the last.
    pub views: [Views<K>; 2],
}

/// What is lent, and the books of sessions that ended meanwhile.
#[derive(Debug)]
pub(super) struct Loans<K, D> {
    /// Sessions lent, alive or not.
    out: usize,
    /// By flow direction: what the packets of a session that has ended ran.
    open: BTreeMap<K, D>,
}

impl<K: FlowKey, D> Loans<K, D> {
    pub(super) const fn new() -> Self {
        Self {
            out: 0,
            open: BTreeMap::new(),
        }
    }

    /// A lent session has ended.
    pub(super) fn keep_open(&mut self, keys: [K; 2], halves: [Half<D>; 2]) {
        for (key, half) in keys.into_iter().zip(halves) {
            self.open.insert(key, half.destiny);
        }
    }

    /// Whether the count is right, with so many lent sessions alive.
    pub(super) fn add_up(&self, alive: usize) -> bool {
        2 * self.out == 2 * alive + self.open.len()
    }
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Whether the packets of this key's session, both directions, may be forwarded by somebody else: each direction has been
    /// judged, no edit came since, packets pass, and [each hook agrees](crate::hook::Hook::may_offload).
    ///
    /// Cost: one lookup, O(hooks).
    pub fn offloadable(&self, origin: Origin, key: &K) -> Option<Offloadable<K>> {
        let entry = self.find(origin, key)?;
        let session = self.sessions.get(entry.slot)?;
        let ready = session.stamp == self.log.current()
            && session.answers
            && session.halves.iter().all(|half| {
                half.packets > 0
                    && half.pending.is_empty()
                    && half.complete
                    && half.origin == Origin::Received
                    && self
                        .hooks
                        .may_offload(&half.destiny, &mut plain(half.origin))
            });
        ready.then(|| Offloadable {
            flows: session.keys,
            views: Direction::BOTH.map(|direction| session.views(direction)),
        })
    }

    /// Lends the session of this key, if it is [offloadable](Self::offloadable), to whoever forwards its packets from now on. Until
    /// it is [taken back](Self::take_back) it does not idle out, and each packet that was forwarded can be
    /// [credited](Self::credit), even when the session has made room for another meanwhile.
    ///
    /// The caller sees to it that packets with SYN, FIN or RST come here, and takes the flow back when an edit touches its views.
    /// `None` also where the flow is lent already, or as many are as the cache holds sessions.
    ///
    /// Cost: one lookup, O(hooks).
    ///
    /// ```
    /// use gufc::cache::{Config, FlowCache};
    /// use gufc::hook::Tally;
    /// use gufc::hooks::filter::{Filter, Policy};
    /// use gufc::key::{FlowKey, Tuple};
    /// use gufc::packet::Origin;
    /// use gufc::time::Instant;
    /// use gufc::wire::build::{Datagram, Transport};
    /// use gufc::wire::{Arrival, Frame};
    ///
    /// let filter = Filter::new("filter", 10, 1, Policy::Accept);
    /// let mut cache: FlowCache<Tuple, _> = FlowCache::new(Config::new([1, 2]), (filter,))?;
    /// let there: Tuple = "udp 10.0.0.1:53 > 10.0.0.2:99".parse()?;
    /// let now = Instant::from_secs(1);
    /// assert_eq!(cache.lend(Origin::Received, &there), None, "nothing is known of it");
    /// for key in [there, there.inverse().unwrap()] {
    ///     let (from, to) = (key.source(), key.destination());
    ///     let datagram = Datagram::new(from.address, to.address, Transport::udp(from.port, to.port));
    ///     let mut bytes = datagram.emit()?;
    ///     let _ = cache.process(&mut Frame::ip(&mut bytes, &Arrival::default())?, now);
    /// }
    /// let lent = cache.lend(Origin::Received, &there).unwrap();
    /// assert_eq!(lent.flows[0], there);
    /// cache.remove(Origin::Received, &there);
    /// let tally = Tally { packets: 1_000, bytes: 64_000, last: now };
    /// assert!(cache.credit(Origin::Received, &there, &tally));
    /// assert!(cache.take_back(&lent.flows));
    /// assert!(!cache.credit(Origin::Received, &there, &tally));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn lend(&mut self, origin: Origin, key: &K) -> Option<Offloadable<K>> {
        let able = self.offloadable(origin, key)?;
        let is_out = |flow| self.loans.open.contains_key(flow);
        if self.loans.out >= self.config.sessions || able.flows.iter().any(is_out) {
            return None;
        }
        let entry = self.find(origin, key)?;
        let session = self.sessions.get_mut(entry.slot)?;
        if session.lent {
            return None;
        }
        session.lent = true;
        for half in &session.halves {
            self.hooks.lend(&half.destiny);
        }
        self.loans.out += 1;
        Some(able)
    }

    /// The packets of a lent session's flows come here again, and no more will be credited. False where they were not lent.
    ///
    /// Cost: one lookup, and O(log n) of the lent sessions that have ended.
    pub fn take_back(&mut self, flows: &[K; 2]) -> bool {
        if flows.iter().all(|flow| self.loans.open.contains_key(flow)) {
            for flow in flows {
                if let Some(destiny) = self.loans.open.remove(flow) {
                    self.hooks.take_back(&destiny);
                    self.hooks.release(destiny);
                }
            }
        } else {
            let Some(entry) = self.find(Origin::Received, &flows[0]) else {
                return false;
            };
            match self.sessions.get_mut(entry.slot) {
                Some(session) if session.lent && session.keys == *flows => {
                    session.lent = false;
                    for half in &session.halves {
                        self.hooks.take_back(&half.destiny);
                    }
                }
                _ => return false,
            }
        }
        self.loans.out -= 1;
        true
    }

    /// Packets of this key's direction that were forwarded elsewhere: counted by the entry, and by the hooks, as packets of the
    /// session that was [lent](Self::lend), whether it is still there or not. False where none was; the count is then lost.
    ///
    /// Cost: one lookup, O(hooks), and O(log n) of the lent sessions that have ended.
    pub fn credit(&mut self, origin: Origin, key: &K, tally: &Tally) -> bool {
        let mut context = Context::new(tally.last, origin);
        if let Some(destiny) = self.loans.open.get(key) {
            self.hooks.credit(destiny, tally, &mut context);
            return true;
        }
        let Some(Entry { slot, direction }) = self.find(origin, key) else {
            return false;
        };
        let lent = self.sessions.get_mut(slot);
        let Some(session) = lent.filter(|session| session.lent) else {
            return false;
        };
        session.touch(tally.last.max(session.last_seen));
        let half = &mut session.halves[direction as usize];
        half.packets += tally.packets;
        half.bytes += tally.bytes;
        self.hooks.credit(&half.destiny, tally, &mut context);
        true
    }
}

/// What hooks find of a packet of which only its origin is known.
const fn plain(origin: Origin) -> Context {
    Context::new(Instant::START, origin)
}
