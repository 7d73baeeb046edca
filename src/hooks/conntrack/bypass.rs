//! Window tracking outside the tracker: a connection's state is lent to whoever forwards its packets, and comes back.
//!
//! Apart because here two hold the state of one connection, one after the other. A NIC or another core that forwards an
//! established TCP connection runs the [window step](Conntrack::advance) itself, on a copy; what does not fit it must not forward
//! but hand back, copy first. So the tracker's answers are those of a tracker that has seen every packet.
//!
//! ```text
//!   bypass(id) ──► Bypass ── advance(segment) true: forward ──┐
//!       ▲             │  └── false: it does not fit           │
//!       │             ▼                                        │ now and then, before it times out
//!       └─── take_back(&mut bypass) ◄──────────────────────────┘
//!            then the segment that did not fit is tracked as ever
//! ```
//!
//! Hardware that forwards without such a step has nothing to report but how many packets there were. While it
//! [may forward](Conntrack::bypass_blind), no segment is checked, for what is seen may lag behind what is not; then windows are
//! [learnt afresh](Conntrack::take_back_blind), from the next segments of each side, and once two of a side have been within all
//! bounds that side is checked as before. (Linux never checks such a connection again.) The cache does this for
//! [lent](crate::cache::FlowCache::lend) sessions.

use super::connection::{Hot, Kind};
use super::{ConnId, Conntrack, Status, TcpConfig, Timeouts, Trackable, tcp};
use crate::hook::{Direction, Tally};
use crate::packet::Segment;
use crate::time::{Duration, Instant};

/// The state of one established TCP connection, lent out.
///
/// While it is out nobody else may forward packets of the connection; two copies of one connection do not come back as one.
#[derive(Clone, Debug)]
pub struct Bypass {
    id: ConnId,
    hot: Hot,
    tcp: TcpConfig,
    timeouts: Timeouts,
    slack: Duration,
    /// Packets and bytes since they were last taken back, by direction.
    traffic: [(u64, u64); 2],
}

impl Bypass {
    /// The connection.
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// Whether a segment is within all bounds; if so it is recorded, and may be forwarded. If not, nothing is recorded: take the
    /// state [back](Conntrack::take_back), and let the tracker judge the segment. `length` is its packet's. Cost: O(1).
    #[must_use = "a segment that does not fit must not be forwarded"]
    pub fn advance(
        &mut self,
        direction: Direction,
        segment: &Segment,
        length: u32,
        now: Instant,
    ) -> bool {
        let Hot { tcp, clock, .. } = &mut self.hot;
        if clock.has_passed(now) || !clock.is_plain() || !tcp::fits(tcp, direction, segment) {
            return false;
        }
        let class = tcp::advance(tcp, direction, segment, &self.tcp, &self.timeouts);
        clock.refresh(self.timeouts.end(now, class), class, self.slack);
        let (packets, bytes) = &mut self.traffic[direction as usize];
        *packets += 1;
        *bytes += u64::from(length);
        true
    }
}

impl<K: Trackable> Conntrack<K> {
    /// Lends a connection's state; `None` unless it is an assured, established TCP connection that has not expired. Changes
    /// nothing here. Cost: one cache line.
    pub fn bypass(&self, id: ConnId, now: Instant) -> Option<Bypass> {
        let hot = *self.table.hot_of(id)?;
        let lends = !hot.clock.has_passed(now)
            && hot.clock.is_plain()
            && hot.tcp.phase() == tcp::TcpPhase::Established;
        lends.then(|| Bypass {
            id,
            hot,
            tcp: self.config.tcp,
            timeouts: *self.timeouts(hot.clock.policy()),
            slack: self.config.slack,
            traffic: [(0, 0); 2],
        })
    }

    /// Takes the state of a connection over as it is now. The bypass may go on; if this is done more often than the connection's
    /// lifetime, it does not expire here meanwhile. False where the connection is gone: forward no more.
    ///
    /// Cost: two cache lines.
    #[must_use = "a connection that is gone is not to be forwarded"]
    pub fn take_back(&mut self, bypass: &mut Bypass) -> bool {
        let Some(hot) = self.table.hot_of_mut(bypass.id) else {
            return false;
        };
        hot.tcp = bypass.hot.tcp;
        hot.clock.set_as(bypass.hot.clock);
        for direction in Direction::BOTH {
            let (packets, bytes) = core::mem::take(&mut bypass.traffic[direction as usize]);
            self.table
                .account(bypass.id.slot, direction, packets, bytes);
        }
        true
    }

    /// Packets of the connection may pass unseen from now on: those of it that are seen are not checked against its windows until
    /// it is [taken back](Self::take_back_blind). False where the connection is gone.
    pub fn bypass_blind(&mut self, id: ConnId) -> bool {
        let Some(hot) = self.table.hot_of_mut(id) else {
            return false;
        };
        if hot.clock.kind() == Kind::Tcp {
            hot.tcp.leave();
        }
        true
    }

    /// No more packets of the connection pass unseen, the last did at `last`: its windows are learnt afresh, and its life begins
    /// anew at `last`, unless it has been seen since. False where the connection is gone.
    pub fn take_back_blind(&mut self, id: ConnId, last: Instant) -> bool {
        let Some(hot) = self.table.hot_of_mut(id) else {
            return false;
        };
        if hot.clock.kind() == Kind::Tcp {
            hot.tcp.forget_windows();
        }
        self.live_on(id, last);
        true
    }

    /// Whether all packets of a connection but those with SYN, FIN or RST do nothing but refresh it: an open TCP connection or
    /// two-way UDP, assured, with nothing unusual.
    pub(super) fn is_steady(&self, id: ConnId) -> bool {
        const KEPT: Status = Status::ASSURED
            .union(Status::SEEN_REPLY)
            .union(Status::CONFIRMED);
        let unusual = Status::FIXED_TIMEOUT
            .union(Status::SEQ_ADJUST)
            .union(Status::HELPER)
            .union(Status::NAT_CLASH)
            .union(Status::DYING);
        let Some(hot) = self.table.hot_of(id) else {
            return false;
        };
        let status = self.table.cold(id.slot).status;
        match hot.clock.kind() {
            Kind::Tcp => hot.clock.is_plain(),
            Kind::Udp => status.contains(KEPT) && !status.intersects(unusual),
            _ => false,
        }
    }

    /// So many packets of a connection passed unseen.
    pub(super) fn credit(&mut self, id: ConnId, direction: Direction, tally: &Tally) {
        if self.table.hot_of(id).is_some() {
            self.live_on(id, tally.last);
            self.table
                .account(id.slot, direction, tally.packets, tally.bytes);
        }
    }

    /// A packet came at `last`: lives on from then, unless it does longer anyway.
    fn live_on(&mut self, id: ConnId, last: Instant) {
        let Some(hot) = self.table.hot_of(id) else {
            return;
        };
        let (policy, class, until) = (hot.clock.policy(), hot.clock.class(), hot.clock.end());
        let end = self.timeouts(policy).end(last, class);
        let fixed = self.table.cold(id.slot).status;
        if end <= until || fixed.intersects(Status::FIXED_TIMEOUT.union(Status::DYING)) {
            return;
        }
        if let Some(hot) = self.table.hot_of_mut(id) {
            hot.clock.set(end, class);
        }
    }
}
