//! Every promise that the cache's parts make to one another, for tests and fuzzing.

use super::session::{AsSeen, Entry, Slot};
use super::{FlowCache, Segment};
use crate::epoch::View;
use crate::hook::Direction;
use crate::key::FlowKey;
use crate::pipeline::Pipeline;
use crate::trie::{Indexed, KeyIndex};

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Whether indexes and sessions agree: each session is found by its keys, and nothing else is in the indexes.
    ///
    /// # Errors
    ///
    /// The promise that is broken.
    ///
    /// Cost: O(sessions) lookups.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut keys = [0; 2];
        let mut sessions = 0;
        for (slot, session) in self.sessions.iter() {
            sessions += 1;
            for direction in Direction::BOTH {
                if direction == Direction::Reply && !session.answers {
                    continue;
                }
                let origin = session.halves[direction as usize].origin;
                keys[origin as usize] += 1;
                if self.find(origin, session.key(direction)) != Some(Entry { slot, direction }) {
                    return Err("a session is not found by its key");
                }
            }
            if session.answers && session.keys[0] == session.keys[1] {
                return Err("a session of one direction answers");
            }
            if session.seen != session.halves.each_ref().map(|half| half.packets > 0) {
                return Err("a session has seen what has not come");
            }
            for direction in Direction::BOTH {
                let views = session.views(direction);
                let tuples = session.tuples(direction);
                if View::ALL
                    .iter()
                    .any(|view| *tuples.of(*view) != views.of(*view).fields())
                {
                    return Err("a session's tuples are not those of its keys");
                }
            }
            if session.stamp > self.log.current() {
                return Err("a stamp is from the future");
            }
            for half in &session.halves {
                if half.pending.is_empty() && half.packets == 0 {
                    return Err("a direction is ready without having been judged");
                }
            }
        }
        if sessions != self.sessions.len() || sessions > self.config.sessions {
            return Err("sessions are miscounted");
        }
        if self.indexes[0].len() != keys[0] || self.indexes[1].len() != keys[1] {
            return Err("an index names the dead");
        }
        self.check_segments()?;
        self.aggregates.check(self.log.current())?;
        let aggregates = self.aggregates.len() as u64;
        if self.stats.aggregates_begun - self.stats.aggregates_ended != aggregates {
            return Err("aggregates begun and ended do not add up");
        }
        let lent = self.sessions.iter().filter(|(_, session)| session.lent);
        if !self.loans.add_up(lent.count()) {
            return Err("loans are miscounted");
        }
        let ended: u64 = self.stats.ended.iter().sum();
        if self.stats.begun - ended != sessions as u64 {
            return Err("sessions begun and ended do not add up");
        }
        Ok(())
    }

    /// Whether every session is in the order of its segment and in no other, none holds more than its quota, and sources are counted
    /// right.
    fn check_segments(&self) -> Result<(), &'static str> {
        let mut all = 0;
        for segment in Segment::ALL {
            let order = &self.segments.orders[segment as usize];
            let mut listed = 0;
            for slot in order.slots(&self.segments.links) {
                listed += 1;
                match self.sessions.get(Slot(slot)) {
                    Some(session) if session.segment == segment => {}
                    _ => return Err("a session stands in the order of another segment"),
                }
            }
            if listed != order.len() {
                return Err("an order is broken");
            }
            if listed > self.segments.quotas[segment as usize] {
                return Err("a segment is over its quota");
            }
            all += listed;
        }
        if all != self.sessions.len() {
            return Err("a session stands in no order, or in two");
        }
        if matches!(self.segments.zones.sums(), Some(sums) if sums != [all as u64; 2]) {
            return Err("zones are miscounted");
        }
        let provisional = self.segments.len(Segment::Provisional) as u64;
        match self.segments.sources.sums() {
            Some(sums) if sums != [provisional; 2] => Err("sources are miscounted"),
            _ => Ok(()),
        }
    }
}
