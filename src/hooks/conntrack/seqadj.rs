//! Shifted sequence numbers: what a connection's numbers become when a translation has made its data longer or shorter.
//!
//! Apart because few connections have it: those whose helper announces addresses that translation changes.
//!
//! ```text
//!  numbers as sent      -----|---------|------------------>
//!                            a         b        what starts after a place is shifted by the changes up to there
//!  numbers as passed on -----|------------|------------------>
//! ```
//!
//! The last eight changes of a direction are remembered one by one (Linux: two), older ones as their sum. What is repeated from
//! before them all is shifted as if behind the oldest; its receiver has it already.

use super::{ConnId, Conntrack, News, Status, Trackable, connection::Kind};
use crate::hook::Direction;
use crate::packet::{Segment, Seq};

/// Changes of a direction that are remembered one by one.
pub(super) const EDITS: usize = 8;

/// Data that have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Edit {
    /// Where, in their sender's numbers.
    at: Seq,
    /// By how much they have grown.
    by: i32,
    /// How long they were, if that is known.
    length: u32,
}

/// How the numbers of one direction are shifted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    /// Oldest first.
    edits: [Edit; EDITS],
    count: usize,
    /// What older changes come to.
    base: i32,
}

impl Shift {
    fn edits(&self) -> &[Edit] {
        self.edits.get(..self.count).unwrap_or(&[])
    }

    /// What starts at `at` and was `length` long has grown by `by`. What has been changed already and is sent again changes nothing.
    fn record(&mut self, at: Seq, length: u32, by: i32) {
        let last = self.edits().last();
        if last.is_some_and(|last| !last.at.is_before(at)) {
            return;
        }
        if self.count == EDITS {
            self.base = self.base.wrapping_add(self.edits[0].by);
            self.edits.rotate_left(1);
            self.count -= 1;
        }
        self.edits[self.count] = Edit { at, by, length };
        self.count += 1;
    }

    /// The shift of what is at `seq`, in the sender's numbers.
    fn of(&self, seq: Seq) -> u32 {
        let behind = self.edits().iter().filter(|edit| seq.is_after(edit.at));
        behind.fold(self.base, |sum, edit| sum.wrapping_add(edit.by)) as u32
    }

    /// An acknowledgement of this direction, from the receiver's numbers to the sender's. Of data that have changed all or
    /// nothing is acknowledged, so that they are sent again as a whole.
    pub(super) fn undo(&self, ack: Seq) -> Seq {
        let mut ack = ack - self.base as u32;
        for edit in self.edits() {
            let before = ack - edit.by as u32;
            if !ack.is_after(edit.at) {
                return ack;
            }
            if before.is_before(edit.at + edit.length.max(1)) {
                return edit.at;
            }
            ack = before;
        }
        ack
    }

    /// What the window check takes off an acknowledgement of this direction.
    pub(super) fn of_ack(&self, ack: Seq) -> u32 {
        ack - self.undo(ack)
    }
}

/// Both directions, original first.
pub(super) type Shifts = [Shift; 2];

impl<K: Trackable> Conntrack<K> {
    /// Says that data at `seq`, as their sender counts, have grown by `by` bytes (or shrunk, where negative) on their way
    /// through: what starts after `seq` is shifted. From then on the connection is [`Status::SEQ_ADJUST`]: the tracker goes on checking in
    /// the senders' own numbers, never by the window step, and [`adjusted`](Self::adjusted) says what to put in the headers.
    ///
    /// A place not behind the last one changes nothing, so that a repetition is not counted twice. False, and no change, for a name
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
        self.adjust_slot(slot, direction, seq, 0, by);
        true
    }

    /// Says that `length` bytes at `seq` have grown by `by`.
    pub(super) fn adjust_slot(
        &mut self,
        slot: u32,
        direction: Direction,
        seq: Seq,
        length: u32,
        by: i32,
    ) {
        let shifts = self.shifts.entry(slot).or_default();
        shifts[direction as usize].record(seq, length, by);
        self.table.cold_mut(slot).status.set(Status::SEQ_ADJUST);
        self.rank(slot);
        self.tell(slot, News::SEQ_ADJUST);
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
