//! Who ends, when, and who makes room.
//!
//! ```text
//!                first packet                    both directions seen
//!   denied  <---------------->  provisional  ----------------------------->  established
//!   quota, own order            quota, own order, a stay that is sure        quota, own order
//!
//!   full segment:  one of its own makes room, by its order
//!   full cache:    a denied or a provisional one, of whichever there are more
//! ```
//!
//! Established sessions make room for sessions that become established, and for nobody else. Apart from that a hand goes round the
//! slots: [`maintain`](FlowCache::maintain) moves it to end idle sessions.

use super::batch::BURST;
use super::order::{Eviction, Ghosts, Links, Order, Tenants, Tick};
use super::session::{Sessions, Slot};
use super::sources::{By, Sources};
use super::{Config, End, FlowCache, Segment};
use crate::hook::Direction;
use crate::key::{Fields, FlowKey};
use crate::observe::Event;
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::Instant;
use crate::trie::{Indexed, KeyIndex};
use crate::verdict::Uncached;

/// Who is in which segment, and in what order.
#[derive(Debug)]
pub(super) struct Segments {
    /// By `Segment as usize`.
    pub(super) orders: [Order; 3],
    pub(super) links: Links,
    pub(super) quotas: [usize; 3],
    pub(super) sources: Sources,
    pub(super) zones: Sources,
    ghosts: Ghosts,
    /// Milliseconds that a provisional session stays.
    stay: u32,
}

impl Segments {
    pub(super) fn new(config: &Config) -> Self {
        let [a, b] = config.seed;
        Self {
            orders: [
                config.eviction,
                config.eviction,
                config.eviction_established,
            ]
            .map(Order::new),
            links: Links::new(config.sessions),
            quotas: config.quotas.of(config.sessions),
            sources: Sources::new(By::Source, config.per_source, config.sessions, [b, a]),
            zones: Sources::new(
                By::Zone,
                config.per_zone,
                config.sessions,
                [b, a.rotate_left(17)],
            ),
            ghosts: Ghosts::new(remembering(config), config.sessions),
            stay: Tick::covering(config.stay_provisional),
        }
    }

    pub(super) fn len(&self, segment: Segment) -> usize {
        self.orders[segment as usize].len()
    }

    fn is_full(&self, segment: Segment) -> bool {
        self.len(segment) >= self.quotas[segment as usize]
    }

    /// Bytes that the segments of such a cache take.
    pub(super) fn bytes_for(config: &Config) -> usize {
        Links::bytes_for(config.sessions)
            + Sources::bytes_for(config.per_source, config.sessions)
            + Sources::bytes_for(config.per_zone, config.sessions)
            + Ghosts::bytes_for(remembering(config), config.sessions)
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.links.bytes() + self.fixed_bytes()
    }

    /// Bytes of them that came to be used.
    pub(super) fn touched_bytes(&self) -> usize {
        self.links.touched_bytes() + self.fixed_bytes()
    }

    fn fixed_bytes(&self) -> usize {
        self.sources.bytes() + self.zones.bytes() + self.ghosts.bytes()
    }
}

/// The order, if there is one, that remembers whom it let go.
fn remembering(config: &Config) -> Eviction {
    match config.eviction_established {
        Eviction::S3Fifo => Eviction::S3Fifo,
        _ => config.eviction,
    }
}

/// Sessions as their orders see them.
struct Seen<'a, K, D> {
    sessions: &'a mut Sessions<K, D>,
    idle: &'a [u64; 3],
    now: Instant,
}

impl<K: FlowKey, D> Tenants for Seen<'_, K, D> {
    fn is_idle(&self, slot: u32) -> bool {
        is_idle(self.sessions, self.idle, Slot(slot), self.now)
    }

    fn visits(&mut self, slot: u32) -> Option<&mut u8> {
        Some(&mut self.sessions.get_mut(Slot(slot))?.visits)
    }
}

fn is_idle<K: FlowKey, D>(
    sessions: &Sessions<K, D>,
    idle: &[u64; 3],
    slot: Slot,
    now: Instant,
) -> bool {
    sessions.get(slot).is_some_and(|session| {
        let limit = idle[session.segment as usize];
        // Whoever forwards its packets has not said yet how many there were.
        !session.lent && now.nanos().saturating_sub(session.last_seen.nanos()) >= limit
    })
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Whether a session has had no packet for as long as its segment lasts.
    pub(super) fn is_idle(&self, slot: Slot, now: Instant) -> bool {
        is_idle(&self.sessions, &self.idle, slot, now)
    }

    /// Ends a session: out of its order and its indexes, its steps back to their hooks.
    pub(super) fn end(&mut self, slot: Slot, why: End) {
        let Some(session) = self.sessions.remove(slot) else {
            return;
        };
        self.turnover += 1;
        let key = session.key(Direction::Original);
        let index = &mut self.indexes[session.halves[0].origin as usize];
        let segments = &mut self.segments;
        let newcomer =
            segments.orders[session.segment as usize].remove(slot.0, &mut segments.links);
        if session.segment == Segment::Provisional {
            segments.sources.add(&key.fields(), false);
        }
        segments.zones.add(&key.fields(), false);
        if newcomer && why == End::Evicted {
            segments.ghosts.remember(index.header(key));
        }
        index.remove(key);
        if session.answers {
            self.indexes[session.halves[1].origin as usize].remove(session.key(Direction::Reply));
        }
        let [there, back] = &session.halves;
        let packets = [there.packets, back.packets];
        let bytes = [there.bytes, back.bytes];
        self.hooks.observe(|| Event::Ended {
            flow: session.keys[0].fields(),
            why,
            packets,
            bytes,
        });
        if session.lent {
            self.loans.keep_open(session.keys, session.halves);
        } else {
            for half in session.halves {
                self.hooks.release(half.destiny);
            }
        }
        self.stats.ended[why as usize] += 1;
    }

    /// Puts a session that has just got its slot into the order of its segment.
    pub(super) fn enter(&mut self, segment: Segment, slot: Slot, now: Instant) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.segment = segment;
        let key = session.key(Direction::Original);
        let Segments {
            orders,
            links,
            sources,
            ghosts,
            ..
        } = &mut self.segments;
        if segment == Segment::Provisional {
            sources.add(&key.fields(), true);
        }
        let remembered = orders[segment as usize].remembers()
            && ghosts.are_kept()
            && ghosts.recall(self.indexes[session.halves[0].origin as usize].header(key));
        orders[segment as usize].push(slot.0, links, Tick::of(now), remembered);
    }

    /// Moves a session to another segment, where one of that segment may have to make room. Where nobody may, it stays where it is.
    pub(super) fn move_to(&mut self, segment: Segment, slot: Slot, now: Instant) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let (from, flow) = (session.segment, session.keys[0].fields());
        if from == segment || (self.segments.is_full(segment) && !self.displace(segment, now)) {
            return;
        }
        let segments = &mut self.segments;
        segments.orders[from as usize].remove(slot.0, &mut segments.links);
        if from == Segment::Provisional {
            segments.sources.add(&flow, false);
        }
        self.enter(segment, slot, now);
    }

    /// Makes room for a new session.
    ///
    /// Cost: at most twice `evict_scan` sessions looked at.
    pub(super) fn make_room(
        &mut self,
        segment: Segment,
        flow: &Fields,
        now: Instant,
    ) -> Result<(), Uncached> {
        if segment == Segment::Provisional && self.segments.sources.is_full(flow) {
            return Err(Uncached::SourceQuota);
        }
        if self.segments.zones.is_full(flow) {
            return Err(Uncached::ZoneQuota);
        }
        let made = if self.segments.is_full(segment) {
            self.displace(segment, now)
        } else if self.sessions.is_full() {
            let [more, less] = match self.segments.len(Segment::Denied)
                > self.segments.len(Segment::Provisional)
            {
                true => [Segment::Denied, Segment::Provisional],
                false => [Segment::Provisional, Segment::Denied],
            };
            self.displace(more, now) || self.displace(less, now)
        } else {
            true
        };
        if made { Ok(()) } else { Err(Uncached::Full) }
    }

    /// Ends one session of a segment; false when nobody of those looked at may be ended.
    fn displace(&mut self, segment: Segment, now: Instant) -> bool {
        let mut seen = Seen {
            sessions: &mut self.sessions,
            idle: &self.idle,
            now,
        };
        let stay = match segment {
            Segment::Provisional => self.segments.stay,
            Segment::Denied | Segment::Established => 0,
        };
        let Segments { orders, links, .. } = &mut self.segments;
        let order = &mut orders[segment as usize];
        let scan = self.config.evict_scan;
        let Some(victim) = order.victim(links, &mut seen, scan, stay, Tick::of(now)) else {
            return false;
        };
        let why = match seen.is_idle(victim) {
            true => End::Idle,
            false => End::Evicted,
        };
        self.end(Slot(victim), why);
        true
    }

    /// The slot under the hand, which moves on.
    fn next_slot(&mut self) -> Slot {
        let slot = self.hand;
        let next = slot.0 as usize + 1;
        self.hand = if next < self.sessions.slots() + self.aggregates.slots() {
            Slot(next as u32)
        } else {
            Slot(0)
        };
        slot
    }

    /// Looks at the next `budget` slots, of sessions and aggregates, and ends those that have idled out; gives how many. Call it from
    /// time to time: a session that idles out is also ended when its next packet comes, but memory comes back only here.
    ///
    /// Cost: O(budget).
    pub fn maintain(&mut self, now: Instant, budget: usize) -> usize {
        let mut ended = 0;
        let (mut idle, mut waiting) = ([Slot(0); BURST], 0);
        let sessions = self.sessions.slots();
        for _ in 0..budget.min(sessions + self.aggregates.slots()) {
            let slot = self.next_slot();
            if let Some(aggregate) = (slot.0 as usize).checked_sub(sessions) {
                ended += usize::from(self.end_idle_aggregate(aggregate as u32, now));
            } else if self.is_idle(slot, now) {
                ended += 1;
                if let Some(place) = idle.get_mut(waiting) {
                    *place = slot;
                }
                waiting += 1;
                if waiting == BURST {
                    self.end_idle(&idle);
                    waiting = 0;
                }
            }
        }
        self.end_idle(idle.get(..waiting).unwrap_or(&idle));
        ended
    }

    /// Ends sessions that have idled out, at most a burst of them; their places in the index are read ahead together.
    fn end_idle(&mut self, slots: &[Slot]) {
        for direction in [Direction::Original, Direction::Reply] {
            let session = |slot: &Slot| self.sessions.get(*slot);
            let mut keys = slots
                .iter()
                .filter_map(session)
                .map(|session| *session.key(direction));
            let Some(first) = keys.next() else { return };
            let mut read = [first; BURST];
            for (to, key) in read.iter_mut().skip(1).zip(keys) {
                *to = key;
            }
            let index = &self.indexes[Origin::Received as usize];
            core::hint::black_box(index.warm_many(read.get(..slots.len()).unwrap_or(&[])));
        }
        for slot in slots {
            self.end(*slot, End::Idle);
        }
    }

    /// Ends the session of this key, either direction's; false when there is none.
    pub fn remove(&mut self, origin: Origin, key: &K) -> bool {
        match self.find(origin, key) {
            Some(entry) => {
                self.end(entry.slot, End::Removed);
                true
            }
            None => false,
        }
    }

    /// Ends every session and every aggregate. Cost: O(slots).
    pub fn clear(&mut self) {
        for slot in 0..self.aggregates.slots() {
            self.end_aggregate(slot as u32);
        }
        for slot in 0..self.sessions.slots() {
            self.end(Slot(slot as u32), End::Removed);
        }
    }
}
