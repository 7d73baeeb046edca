//! Who ends, when, and who makes room.
//!
//! A hand goes round the slots. [`maintain`](FlowCache::maintain) moves it to end idle sessions; an insertion into a full
//! cache moves it to find a victim, at most [`evict_scan`](super::Config::evict_scan) slots: an idle session, else the first
//! that is not established and had no packet since the hand last came by. Established sessions make room for nobody.

use super::session::Slot;
use super::{End, FlowCache, Segment};
use crate::hook::Direction;
use crate::key::FlowKey;
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::Instant;
use crate::trie::{Indexed, KeyIndex};

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Whether a session has had no packet for as long as its segment lasts.
    pub(super) fn is_idle(&self, slot: Slot, now: Instant) -> bool {
        self.sessions.get(slot).is_some_and(|session| {
            let limit = self.idle[session.segment as usize];
            now.nanos().saturating_sub(session.last_seen.nanos()) >= limit
        })
    }

    /// Ends a session: out of its indexes, its steps back to their hooks.
    pub(super) fn end(&mut self, slot: Slot, why: End) {
        let Some(session) = self.sessions.remove(slot) else {
            return;
        };
        self.turnover += 1;
        self.indexes[session.halves[0].origin as usize].remove(session.key(Direction::Original));
        if session.answers {
            self.indexes[session.halves[1].origin as usize].remove(session.key(Direction::Reply));
        }
        for half in session.halves {
            self.hooks.release(half.destiny);
        }
        self.stats.ended[why as usize] += 1;
    }

    /// The slot under the hand, which moves on.
    fn next_slot(&mut self) -> Slot {
        let slot = self.hand;
        let next = slot.0 as usize + 1;
        self.hand = if next < self.sessions.slots() {
            Slot(next as u32)
        } else {
            Slot(0)
        };
        slot
    }

    /// Ends one session to make room for another; false when nobody may be ended within the scan.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        let mut second_choice = None;
        for _ in 0..self.config.evict_scan.min(self.sessions.slots()) {
            let slot = self.next_slot();
            if self.is_idle(slot, now) {
                self.end(slot, End::Idle);
                return true;
            }
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            if session.segment == Segment::Established {
                continue;
            }
            if !core::mem::take(&mut session.referenced) {
                self.end(slot, End::Evicted);
                return true;
            }
            second_choice = second_choice.or(Some(slot));
        }
        match second_choice {
            Some(slot) => {
                self.end(slot, End::Evicted);
                true
            }
            None => false,
        }
    }

    /// Looks at the next `budget` slots and ends the sessions that have idled out; gives how many. Call it from time to
    /// time: a session that idles out is also ended when its next packet comes, but memory comes back only here.
    ///
    /// Cost: O(budget).
    pub fn maintain(&mut self, now: Instant, budget: usize) -> usize {
        let mut ended = 0;
        for _ in 0..budget.min(self.sessions.slots()) {
            let slot = self.next_slot();
            if self.is_idle(slot, now) {
                self.end(slot, End::Idle);
                ended += 1;
            }
        }
        ended
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

    /// Ends every session. Cost: O(slots).
    pub fn clear(&mut self) {
        for slot in 0..self.sessions.slots() {
            self.end(Slot(slot as u32), End::Removed);
        }
    }
}
