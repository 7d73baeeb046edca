//! Confirmation: a connection enters the table when its first packet has passed everything, or leaves no trace.
//!
//! Apart because it is a step of its own, after all other hooks, and because two packets may race to it.

use super::connection::{Kind, Traffic};
use super::{ConnId, Conntrack, News, Status, TimeoutClass, Trackable};
use crate::hook::Direction;
use crate::time::Instant;

/// What confirming a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Confirmation {
    /// It is in the table now.
    Confirmed,
    /// It was before.
    Already,
    /// Another packet of the same flow was faster: the packet belongs to that connection, and passes.
    Merged(ConnId),
    /// Another connection has its original tuple; only its reply tuple is in the table, for one answer. The packet passes.
    ReplyOnly,
    /// Another connection has one of its tuples. The packet must not pass, and the connection is gone.
    Clash,
    /// The name names nothing.
    Unknown,
}

impl Confirmation {
    /// Whether the packet may pass.
    pub const fn is_accept(self) -> bool {
        !matches!(self, Self::Clash | Self::Unknown)
    }
}

impl<K: Trackable> Conntrack<K> {
    /// Lets a pending connection into the table: its life begins.
    ///
    /// Cost: two insertions, and one index look-up; two where another connection was confirmed since its packet came.
    pub fn confirm(&mut self, id: ConnId, now: Instant) -> Confirmation {
        let Some(slot) = self.table.slot_of(id) else {
            return Confirmation::Unknown;
        };
        let status = self.table.cold(slot).status;
        if status.contains(Status::CONFIRMED) {
            return Confirmation::Already;
        }
        let [original, reply] = self.table.cold(slot).tuples;
        // Nobody can have got the original tuple since it was looked for, if no tuple has been made known.
        let unmatched = self.unmatched == Some((id, self.table.publications()));
        let holders = [
            if unmatched {
                None
            } else {
                self.holder(&original, now)
            },
            self.holder(&reply, now),
        ];
        if let [Some(winner), _] | [None, Some(winner)] = holders {
            return self.resolve(slot, winner, holders[1].is_none(), now);
        }
        if !(self.table.publish(slot, Direction::Original)
            && self.table.publish(slot, Direction::Reply))
        {
            self.table.unpublish(slot);
            self.discard(slot);
            return Confirmation::Clash;
        }
        self.enter(slot, Status::CONFIRMED, now);
        Confirmation::Confirmed
    }

    /// Gives up a pending connection. One that has been confirmed is left alone.
    pub fn refuse(&mut self, id: ConnId) {
        if let Some(slot) = self.table.slot_of(id) {
            if !self.table.cold(slot).status.contains(Status::CONFIRMED) {
                self.discard(slot);
            }
        }
    }

    /// Says as what packets of the reply direction will arrive: the mapping of a translated connection. The tuple's locality
    /// does not count.
    ///
    /// False, and no change, where the connection is not pending.
    pub fn set_reply(&mut self, id: ConnId, reply: K) -> bool {
        match self.pending(id) {
            Some(slot) => {
                self.table.cold_mut(slot).tuples[1] = reply.at(crate::key::Locality::default());
                true
            }
            None => false,
        }
    }

    /// Whether another connection than `id` has this tuple, so that it cannot be its reply tuple. What has expired does not
    /// count, nor one with the same original tuple: that is the same flow, racing.
    pub fn is_taken(&self, tuple: &K, id: ConnId, now: Instant) -> bool {
        let tuple = tuple.at(crate::key::Locality::default());
        let Some((slot, _)) = self.table.find(&tuple) else {
            return false;
        };
        let own = self.table.slot_of(id);
        let same = own.is_some_and(|own| {
            own == slot || self.table.cold(own).tuples[0] == self.table.cold(slot).tuples[0]
        });
        !same && !self.table.hot(slot).clock.has_passed(now)
    }

    fn pending(&self, id: ConnId) -> Option<u32> {
        self.table
            .slot_of(id)
            .filter(|slot| !self.table.cold(*slot).status.contains(Status::CONFIRMED))
    }

    fn holder(&mut self, tuple: &K, now: Instant) -> Option<u32> {
        let (slot, _) = self.table.find(tuple)?;
        if self.table.hot(slot).clock.has_passed(now) {
            self.end(slot);
            return None;
        }
        Some(slot)
    }

    fn enter(&mut self, slot: u32, bits: Status, now: Instant) {
        let hot = self.table.hot(slot);
        let class = hot.clock.class();
        let end = now + self.timeouts(hot.clock.policy()).of(class);
        self.table.hot_mut(slot).clock.set(end, class);
        let status = &mut self.table.cold_mut(slot).status;
        status.set(bits);
        let news = if status.contains(Status::EXPECTED) {
            News::RELATED
        } else {
            News::NEW
        };
        self.rank(slot);
        self.tell(slot, news);
    }

    /// The connection of `slot` has lost to `winner`.
    fn resolve(
        &mut self,
        slot: u32,
        winner: u32,
        reply_is_free: bool,
        now: Instant,
    ) -> Confirmation {
        if !matches!(self.table.hot(slot).clock.kind(), Kind::Udp | Kind::Gre) {
            self.discard(slot);
            return Confirmation::Clash;
        }
        let [original, reply] = self.table.cold(slot).tuples;
        let theirs = self.table.cold(winner).tuples;
        let straight = theirs == [original, reply];
        if straight || theirs == [reply, original] {
            let Traffic { packets, bytes } = self.table.traffic(slot)[0];
            let direction = if straight {
                Direction::Original
            } else {
                Direction::Reply
            };
            self.table.account(winner, direction, packets, bytes);
            self.discard(slot);
            return Confirmation::Merged(self.table.id_of(winner));
        }
        if reply_is_free && self.table.publish(slot, Direction::Reply) {
            self.table
                .hot_mut(slot)
                .clock
                .set_class(TimeoutClass::Clash);
            let bits = Status::CONFIRMED
                .union(Status::FIXED_TIMEOUT)
                .union(Status::NAT_CLASH);
            self.enter(slot, bits, now);
            return Confirmation::ReplyOnly;
        }
        self.discard(slot);
        Confirmation::Clash
    }
}
