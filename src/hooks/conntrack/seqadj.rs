//! Shifted sequence numbers: what a connection's numbers become when a translation has made its data longer or shorter.
//!
//! Apart because few connections have it: those whose helper announces addresses that translation changes.
//!
//! ```text
//!  numbers as sent      ----------------|------------------>
//!                                       at        a segment that starts after it is shifted by `after`, else by `before`
//!  numbers as passed on ------------------|---------------->
//! ```
//!
//! Two epochs are remembered, as in Linux: the shift before and after the last change. A segment that is repeated from before
//! the change before that is shifted wrongly, and its receiver drops it.

use super::{ConnId, Conntrack, News, Status, Trackable, connection::Kind};
use crate::hook::Direction;
use crate::packet::{Segment, Seq};

/// How the numbers of one direction are shifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    /// The segment that was changed last, in its sender's numbers.
    at: Seq,
    before: i32,
    after: i32,
}

impl Shift {
    /// A segment that starts at `at` has grown by `by`. One that has been changed already and is sent again changes nothing.
    fn record(&mut self, at: Seq, by: i32) {
        if self.before == self.after || self.at.is_before(at) {
            self.at = at;
            self.before = self.after;
            self.after = self.after.wrapping_add(by);
        }
    }

    /// The shift of what is at `seq`, in the sender's numbers.
    const fn of(&self, seq: Seq) -> u32 {
        (if seq.is_after(self.at) {
            self.after
        } else {
            self.before
        }) as u32
    }

    /// An acknowledgement of this direction, from the receiver's numbers to the sender's.
    pub(super) fn undo(&self, ack: Seq) -> Seq {
        ack - self.of(ack - self.before as u32)
    }

    /// What the window check takes off an acknowledgement of this direction, and, as in Linux, off the edges of selective ones
    /// beside it.
    pub(super) fn of_ack(&self, ack: Seq) -> u32 {
        self.of(ack - 1)
    }
}

/// Both directions, original first.
pub(super) type Shifts = [Shift; 2];

impl<K: Trackable> Conntrack<K> {
    /// Says that the data of a segment which starts at `seq`, as its sender counts, has grown by `by` bytes (or shrunk, where
    /// negative) on its way through. From then on the connection is [`Status::SEQ_ADJUST`]: the tracker goes on checking in
    /// the senders' own numbers, never by the window step, and [`adjusted`](Self::adjusted) says what to put in the headers.
    ///
    /// The same segment again changes nothing, so that a repetition is not counted twice. False, and no change, for a name
    /// that names nothing and for a connection that is not TCP; `by` of 0 does nothing and is true.
    ///
    /// Cost: O(log n), n = connections that are adjusted.
    pub fn adjust(&mut self, id: ConnId, direction: Direction, seq: Seq, by: i32) -> bool {
        let Some(slot) = self.table.slot_of(id) else {
            return false;
        };
        if self.table.hot(slot).clock.kind() != Kind::Tcp {
            return false;
        }
        if by == 0 {
            return true;
        }
        let shifts = self.shifts.entry(slot).or_default();
        shifts[direction as usize].record(seq, by);
        self.table.cold_mut(slot).status.set(Status::SEQ_ADJUST);
        self.rank(slot);
        self.tell(slot, News::SEQ_ADJUST);
        true
    }

    /// The segment with the numbers that it has to leave with: sequence number, acknowledgement, and edges of selective
    /// acknowledgements. `None` where none of the connection's numbers are shifted.
    ///
    /// To be asked after the connection's helper, also for the segment that has just been changed: its own start is not
    /// shifted by that change. Cost: O(log n), n = connections that are adjusted; O(1) where there are none.
    ///
    /// ```
    /// use gufc::hook::Direction;
    /// # use gufc::hooks::conntrack::{Config, Conntrack};
    /// # use gufc::key::Tuple;
    /// # use gufc::packet::{Segment, SegmentOptions, Seq, TcpFlags};
    /// # use gufc::time::Instant;
    /// # use gufc::wire::{Arrival, Frame, build};
    /// # let mut tracker: Conntrack<Tuple> = Conntrack::try_new(Config { checksum: false, ..Config::new(8, [1, 2]) })?;
    /// # let mut bytes = *b"\x45\0\0\x28\0\0\0\0\x40\x06\x66\xce\x0a\0\0\x01\x0a\0\0\x02\x03\xe8\0\x15\0\0\0\x63\0\0\0\0\x50\x02\x10\0\0\0\0\0";
    /// # let frame: Frame = Frame::ip(&mut bytes, &Arrival::default())?;
    /// # let id = tracker.track(&frame, Instant::START).connection.ok_or("a connection")?;
    /// // "PORT 10,0,0,1,4,1" became "PORT 192,0,2,1,4,1", one byte longer, in the segment at 100.
    /// assert!(tracker.adjust(id, Direction::Original, Seq(100), 1));
    /// # let segment = |seq, ack| Segment {
    /// #     seq: Seq(seq), ack: Seq(ack), window: 0, flags: TcpFlags::ACK, payload: 0, options: SegmentOptions::default(),
    /// # };
    /// let seq_of = |seq| tracker.adjusted(id, Direction::Original, &segment(seq, 0)).map(|s| s.seq);
    /// assert_eq!((seq_of(100), seq_of(123)), (Some(Seq(100)), Some(Seq(124))));
    /// let ack = tracker.adjusted(id, Direction::Reply, &segment(0, 124)).map(|s| s.ack);
    /// assert_eq!(ack, Some(Seq(123)));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn adjusted(&self, id: ConnId, direction: Direction, segment: &Segment) -> Option<Segment> {
        if self.shifts.is_empty() {
            return None;
        }
        let shifts = self.shifts.get(&self.table.slot_of(id)?)?;
        let (own, peer) = (
            &shifts[direction as usize],
            &shifts[direction.reverse() as usize],
        );
        let mut segment = *segment;
        segment.seq = segment.seq + own.of(segment.seq);
        if segment.flags.contains(crate::packet::TcpFlags::ACK) {
            segment.ack = peer.undo(segment.ack);
        }
        for (left, right) in &mut segment.options.sack {
            *left = peer.undo(*left);
            *right = peer.undo(*right);
        }
        Some(segment)
    }
}
