//! The lives of connections: room for a new one, expiry, deletion, and the news of all that.
//!
//! Apart because it is the same for every protocol.

use super::connection::{Cold, Kind, Rank, Traffic};
use super::tcp::TcpPhase;
use super::{ConnId, Conntrack, News, Reason, Status, TimeoutClass, Trackable, sctp};
use crate::key::{Family, Zone};
use crate::time::{Duration, Instant};

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<K> {
    /// Which.
    pub connection: ConnId,
    /// What: all that one packet, or one call, did.
    pub news: News,
    /// Its tuples, original and reply.
    pub tuples: [K; 2],
    /// Its status bits then.
    pub status: Status,
    /// Its protocol's state then, as listings name it; `None` where the protocol has none.
    pub state: Option<&'static str>,
    /// Its mark then.
    pub mark: u32,
    /// Packets and bytes so far, original and reply.
    pub traffic: [Traffic; 2],
}

/// What a round of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Slots looked at.
    pub examined: u32,
    /// Connections that had expired.
    pub expired: u32,
}

/// Slots looked at for something expired, when the table is full.
const LOOK_MAX: u32 = 8;
/// Connections that end together, so that their places in the index are read side by side.
const TOGETHER: usize = 32;

impl<K: Trackable> Conntrack<K> {
    /// Ends what has expired among the next `budget` slots, in a round. Expired connections are never found by packets; this
    /// only frees their slots, and tells of them. Cost: O(budget + announcements).
    pub fn maintain(&mut self, now: Instant, budget: u32) -> Maintained {
        self.bury();
        let mut done = Maintained::default();
        self.expectations.expire(now);
        let budget = budget.min(self.table.slots());
        while done.examined < budget {
            let mut over = [0; TOGETHER];
            let mut count = 0;
            while done.examined < budget && count < TOGETHER {
                done.examined += 1;
                let slot = self.next_slot();
                if self.is_over(slot, now) {
                    over[count] = slot;
                    count += 1;
                }
            }
            let over = &over[..count];
            let tuples = over.iter().map(|slot| self.table.cold(*slot).tuples);
            core::hint::black_box(self.table.warm(tuples));
            for slot in over {
                self.end(*slot);
            }
            done.expired += count as u32;
        }
        done
    }

    /// Ends a connection: false where the name names nothing.
    pub fn delete(&mut self, id: ConnId) -> bool {
        self.bury();
        match self.table.slot_of(id) {
            Some(slot) => {
                self.end(slot);
                true
            }
            None => false,
        }
    }

    /// Ends every connection that `condemn` says; returns how many. Cost: O(slots).
    pub fn delete_where(
        &mut self,
        mut condemn: impl FnMut(&super::Connection<'_, K>) -> bool,
    ) -> usize {
        self.bury();
        let mut deleted = 0;
        for slot in 0..self.table.slots() {
            if self.table.is_used(slot) && condemn(&self.view(slot)) {
                self.end(slot);
                deleted += 1;
            }
        }
        deleted
    }

    /// Changes the bits of the mark that are set in `mask`. False where nothing changed.
    pub fn set_mark(&mut self, id: ConnId, mark: u32, mask: u32) -> bool {
        let Some(slot) = self.table.slot_of(id) else {
            return false;
        };
        let cold = self.table.cold_mut(slot);
        let changed = cold.mark & !mask | mark & mask;
        if changed == cold.mark {
            return false;
        }
        cold.mark = changed;
        self.rank(slot);
        self.tell_confirmed(slot, News::MARK);
        true
    }

    /// Changes the bits of the label that are set in `mask`. False where nothing changed.
    pub fn set_label(&mut self, id: ConnId, label: u128, mask: u128) -> bool {
        let Some(slot) = self.table.slot_of(id) else {
            return false;
        };
        let old = self.labels.get(&slot).copied().unwrap_or(0);
        let new = old & !mask | label & mask;
        if new == old {
            return false;
        }
        if new == 0 {
            self.labels.remove(&slot);
        } else {
            self.labels.insert(slot, new);
        }
        self.tell_confirmed(slot, News::LABEL);
        true
    }

    /// Sets status bits that are the business of translation: [`Status::SRC_NAT`], [`Status::DST_NAT`] and the two `DONE`
    /// bits. Others are left out.
    pub fn set_status(&mut self, id: ConnId, bits: Status) {
        const ALLOWED: u16 =
            Status::SRC_NAT.0 | Status::DST_NAT.0 | Status::SRC_NAT_DONE.0 | Status::DST_NAT_DONE.0;
        if let Some(slot) = self.table.slot_of(id) {
            self.table
                .cold_mut(slot)
                .status
                .set(Status(bits.0 & ALLOWED));
            self.rank(slot);
        }
    }

    /// Gives a confirmed connection this long from now; with `fixed`, traffic does not change it any more.
    pub fn set_timeout(&mut self, id: ConnId, lifetime: Duration, fixed: bool, now: Instant) {
        let Some(slot) = self.table.slot_of(id) else {
            return;
        };
        let cold = self.table.cold_mut(slot);
        if cold.status.contains(Status::CONFIRMED) {
            if fixed {
                cold.status.set(Status::FIXED_TIMEOUT);
            }
            let clock = &mut self.table.hot_mut(slot).clock;
            clock.set(now + lifetime, TimeoutClass::Custom);
            self.rank(slot);
        }
    }

    /// Says that packets of a TCP connection have passed which the tracker has not seen (in hardware, on another machine):
    /// its windows are learned anew from the next packets, and not checked any more.
    pub fn forget_windows(&mut self, id: ConnId) {
        if let Some(hot) = self.table.hot_of_mut(id) {
            if hot.clock.kind() == Kind::Tcp {
                hot.tcp.forget_windows();
            }
        }
    }

    /// Remembers from now on which connections have left their slots, confirmed or not, for
    /// [`next_ended`](Self::next_ended): for a hook that keeps something of its own by connection.
    ///
    /// Unlike news they are never lost. Whoever asks for this fetches them after each call that can end connections: each
    /// call adds at most two, those that end many at most one for each slot.
    pub fn remember_ended(&mut self) {
        self.table.ended.get_or_insert_default();
    }

    /// Takes a connection that has left its slot, in no particular order. Cost: O(1).
    pub fn next_ended(&mut self) -> Option<ConnId> {
        self.table.ended.as_mut()?.pop()
    }

    /// Takes the oldest news. What came when there was no room for it is counted in [`news_lost`](Self::news_lost).
    pub fn next_news(&mut self) -> Option<Item<K>> {
        self.news.pop_front()
    }

    /// News that nobody fetched in time.
    pub fn news_lost(&self) -> u64 {
        self.news_lost
    }

    /// Makes sure that there is a slot for one more connection of this source.
    pub(super) fn admit(&mut self, tuple: &K, now: Instant) -> Result<(), Reason> {
        if let Some(max) = self.config.per_source_max {
            if self.sources.get(&source(tuple)).is_some_and(|n| *n >= max) {
                return Err(Reason::SourceLimit);
            }
        }
        if self.table.rank_length(Rank::Pending) >= self.config.pending_max.max(1) {
            if let Some(oldest) = self.table.oldest(Rank::Pending) {
                self.discard(oldest);
            }
        }
        if self.table.is_full() && !self.make_room(now) {
            return Err(Reason::Full);
        }
        Ok(())
    }

    /// Whether there is a slot for one more connection of this source, without putting anybody out.
    pub(super) fn has_room_for(&self, tuple: &K) -> bool {
        let most = self.config.per_source_max;
        let held = || self.sources.get(&source(tuple)).copied().unwrap_or(0);
        !self.table.is_full() && most.is_none_or(|most| held() < most)
    }

    /// Puts out what is worth least: expired, unreplied, not assured, closing; the oldest of its kind. Never an established
    /// connection that is assured. Cost: O(1).
    fn make_room(&mut self, now: Instant) -> bool {
        for _ in 0..LOOK_MAX.min(self.table.slots()) {
            let slot = self.next_slot();
            if self.is_over(slot, now) {
                self.end(slot);
                return true;
            }
        }
        let victim = [Rank::Unreplied, Rank::Replied, Rank::Closing]
            .into_iter()
            .find_map(|rank| self.table.oldest(rank));
        if let Some(slot) = victim {
            self.end(slot);
            self.early_dropped += 1;
        }
        victim.is_some()
    }

    /// The slot that is looked at next: they have their turns one after the other.
    fn next_slot(&mut self) -> u32 {
        let slot = if self.hand < self.table.slots() {
            self.hand
        } else {
            0
        };
        self.hand = slot + 1;
        slot
    }

    /// Whether the slot's connection has expired. Of one that has not, a single line of memory is read.
    fn is_over(&self, slot: u32, now: Instant) -> bool {
        self.table.is_used(slot)
            && self.table.hot(slot).clock.has_passed(now)
            && self.table.cold(slot).rank != Rank::Pending
    }

    /// Takes a connection out of the table and frees its slot.
    pub(super) fn end(&mut self, slot: u32) {
        if self.ended == Some(slot) {
            self.ended = None;
        } else {
            self.leave(slot);
        }
        self.table.release(slot);
    }

    /// Takes a connection out of the table; it stays readable until the next packet.
    pub(super) fn end_after_packet(&mut self, slot: u32) {
        self.bury();
        self.leave(slot);
        self.ended = Some(slot);
    }

    /// Frees the slot of a connection that the last packet ended.
    pub(super) fn bury(&mut self) {
        if let Some(slot) = self.ended.take() {
            self.table.release(slot);
        }
    }

    /// Forgets a pending connection.
    pub(super) fn discard(&mut self, slot: u32) {
        self.forget(slot);
        self.table.release(slot);
    }

    fn leave(&mut self, slot: u32) {
        self.table.withdraw(slot);
        let confirmed = self.table.cold(slot).status.contains(Status::CONFIRMED);
        self.table.cold_mut(slot).status.set(Status::DYING);
        self.table.hot_mut(slot).clock.set_plain(false);
        if confirmed {
            self.tell(slot, News::DESTROY);
        }
        self.forget(slot);
    }

    fn forget(&mut self, slot: u32) {
        let tuple = self.table.cold(slot).tuples[0];
        self.count_source(&tuple, false);
        if !self.labels.is_empty() {
            self.labels.remove(&slot);
        }
        if !self.helpers.is_empty() {
            self.helpers.remove(&slot);
        }
        if !self.masters.is_empty() {
            self.masters.remove(&slot);
        }
        if !self.shifts.is_empty() {
            self.shifts.remove(&slot);
        }
        if !self.expectations.is_empty() {
            self.expectations.end_all(self.table.id_of(slot));
        }
    }

    pub(super) fn count_source(&mut self, tuple: &K, more: bool) {
        if self.config.per_source_max.is_none() {
            return;
        }
        let source = source(tuple);
        let count = self.sources.entry(source).or_insert(0);
        if more {
            *count += 1;
        } else if *count > 1 {
            *count -= 1;
        } else {
            self.sources.remove(&source);
        }
    }

    /// Puts a connection where it belongs now: into its list, and within or out of reach of the window step.
    pub(super) fn rank(&mut self, slot: u32) {
        const KEPT: u16 = Status::ASSURED.0 | Status::SEEN_REPLY.0 | Status::CONFIRMED.0;
        const UNUSUAL: u16 = Status::FIXED_TIMEOUT.0 | Status::SEQ_ADJUST.0 | Status::HELPER.0;
        let Cold { status, mark, .. } = *self.table.cold(slot);
        let hot = self.table.hot_mut(slot);
        hot.clock.set_brief(status, mark);
        let kind = hot.clock.kind();
        let closing = match kind {
            Kind::Tcp => hot.tcp.phase().is_closing(),
            Kind::Sctp => sctp::phase(&hot.tcp).is_closing(),
            _ => false,
        };
        hot.clock.set_plain(
            kind == Kind::Tcp
                && hot.tcp.phase() == TcpPhase::Established
                && status.0 & (KEPT | UNUSUAL) == KEPT,
        );
        let rank = if !status.contains(Status::CONFIRMED) {
            Rank::Pending
        } else if !status.contains(Status::SEEN_REPLY) {
            Rank::Unreplied
        } else if !status.contains(Status::ASSURED) {
            Rank::Replied
        } else if closing {
            Rank::Closing
        } else {
            Rank::Kept
        };
        self.table.rank(slot, rank);
    }

    fn tell_confirmed(&mut self, slot: u32, news: News) {
        if self.table.cold(slot).status.contains(Status::CONFIRMED) {
            self.tell(slot, news);
        }
    }

    pub(super) fn tell(&mut self, slot: u32, news: News) {
        let cold = self.table.cold(slot);
        if self.config.news_capacity == 0
            || news == News::NONE
            || !cold.status.contains(Status::CONFIRMED)
        {
            return;
        }
        if self.news.len() >= self.config.news_capacity {
            self.news_lost += 1;
            return;
        }
        let item = Item {
            connection: self.table.id_of(slot),
            news,
            tuples: cold.tuples,
            status: cold.status,
            state: self.view(slot).state_name(),
            mark: cold.mark,
            traffic: self.table.traffic(slot),
        };
        self.news.push_back(item);
    }
}

fn source<K: Trackable>(tuple: &K) -> (Family, u128, Zone) {
    let fields = tuple.fields();
    (fields.family, fields.source, fields.zone)
}
