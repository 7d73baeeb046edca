//! What is remembered of a TCP connection: 52 bytes, in blocks that one direction's packets write.
//!
//! Apart because the layout serves the fast step: a block is written by one side's packets only, so that stale reads of the
//! other block are safe.
//!
//! ```text
//!   0        16       32      44        46 47  48    50 51    52
//!   | side 0 | side 1 | last  | window  |r |lf |flags|sc|ph |
//!            seq, ack, end                  repeats, last SYN's options
//!
//!   side: end | acked | grant | window       (serial maxima of what this side has said)
//! ```
//!
//! A side's right edge, the highest number that it may send, is what its peer has *granted*: it lives in the peer's block.

use super::table::{Event, TcpPhase};
use crate::hook::Direction;
use crate::packet::{Segment, SegmentOptions, Seq};

/// One direction's block: what its sender has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Side {
    /// The highest sequence number behind a segment that it sent.
    pub(in super::super) end: Seq,
    /// The highest acknowledgement that it sent; counts once [`ACKED`] is set.
    pub(in super::super) acked: Seq,
    /// The highest sequence number that it lets its peer send: the peer's right edge.
    pub(in super::super) grant: Seq,
    /// The largest window that it ever offered, scaled; 0 when nothing is known.
    pub(in super::super) window: u32,
}

/// It offered window scaling.
pub(in super::super) const SCALES: u8 = 0x01;
/// It offered selective acknowledgements.
pub(in super::super) const SACKS: u8 = 0x02;
/// Its FIN came first.
pub(in super::super) const CLOSE_INIT: u8 = 0x04;
/// It is not checked against windows.
pub(in super::super) const LIBERAL: u8 = 0x08;
/// It has data under way that nobody has acknowledged.
pub(in super::super) const UNACKED: u8 = 0x10;
/// It has sent an acknowledgement.
pub(in super::super) const ACKED: u8 = 0x20;
/// Why it is not checked, if that is not for ever: how many of its segments must still be within all bounds, or [`AWAY`].
pub(in super::super) const GRACE: u8 = 0xc0;
/// Its segments are forwarded unseen, all or some.
const AWAY: u8 = 0xc0;
/// One segment of grace.
const GRACE_ONE: u8 = 0x40;
/// Segments of grace when its segments are seen again.
const GRACE_BACK: u8 = 0x80;

/// In [`TcpState::last_flags`], besides [`SCALES`] and [`SACKS`] of the last SYN that was let through: it came in LAST_ACK and
/// may be challenged.
pub(super) const CHALLENGED: u8 = 0x04;
/// Both sides opened.
pub(super) const SIMULTANEOUS: u8 = 0x08;

/// The largest window scale shift in force (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;

/// A TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct TcpState {
    /// Original, reply.
    pub(in super::super) sides: [Side; 2],
    /// Of the last segment that was recorded: sequence number,
    pub(super) last_seq: Seq,
    /// acknowledgement,
    pub(super) last_ack: Seq,
    /// the number behind it,
    pub(super) last_end: Seq,
    /// and its window as sent.
    pub(super) last_window: u16,
    /// How often the last segment has been repeated; wraps as in Linux.
    pub(in super::super) repeats: u8,
    /// Low half: flags of the last SYN that was let through. High half: its window scale.
    last_flags: u8,
    /// Original, reply.
    pub(in super::super) flags: [u8; 2],
    /// Window scale shifts, original in the low half.
    scales: u8,
    /// Low half: state. Then the last direction (1 bit) and event (3 bits).
    phase: u8,
}

const _: () = assert!(size_of::<TcpState>() == 52);

impl TcpState {
    /// As 52 bytes, little-endian.
    pub(in super::super) fn to_bytes(self) -> [u8; 52] {
        let [one, two] = self.sides;
        let words = [one, two].map(|side| [side.end.0, side.acked.0, side.grant.0, side.window]);
        let last = [self.last_seq.0, self.last_ack.0, self.last_end.0];
        let mut bytes = [0; 52];
        let words = words.as_flattened().iter().chain(&last);
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        if let Some(rest) = bytes.last_chunk_mut::<8>() {
            let [low, high] = self.last_window.to_le_bytes();
            let [mine, theirs] = self.flags;
            *rest = [
                low,
                high,
                self.repeats,
                self.last_flags,
                mine,
                theirs,
                self.scales,
                self.phase,
            ];
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote. Any bytes are some state.
    pub(in super::super) fn from_bytes(bytes: &[u8; 52]) -> Self {
        let mut words = bytes.chunks_exact(4).map(|chunk| {
            chunk
                .first_chunk::<4>()
                .map_or(0, |chunk| u32::from_le_bytes(*chunk))
        });
        let mut word = || words.next().unwrap_or(0);
        let mut side = || Side {
            end: Seq(word()),
            acked: Seq(word()),
            grant: Seq(word()),
            window: word(),
        };
        let sides = [side(), side()];
        let [last_seq, last_ack, last_end] = [Seq(word()), Seq(word()), Seq(word())];
        let [low, high, repeats, last_flags, mine, theirs, scales, phase] =
            bytes.last_chunk::<8>().copied().unwrap_or_default();
        let mut state = Self {
            sides,
            last_seq,
            last_ack,
            last_end,
            last_window: u16::from_le_bytes([low, high]),
            repeats,
            last_flags,
            flags: [mine, theirs],
            scales,
            phase,
        };
        for direction in Direction::BOTH {
            state.set_scale(direction, state.scale(direction).min(SCALE_MAX));
        }
        state
    }

    #[inline]
    pub(in super::super) fn phase(&self) -> TcpPhase {
        TcpPhase::ALL
            .get(usize::from(self.phase & 0x0f))
            .copied()
            .unwrap_or(TcpPhase::None)
    }

    pub(in super::super) fn set_phase(&mut self, phase: TcpPhase) {
        self.phase = self.phase & 0xf0 | phase as u8;
    }

    /// The state as a number from 0 to 15, for protocols that keep another machine here.
    #[inline]
    pub(in super::super) fn number(&self) -> u8 {
        self.phase & 0x0f
    }

    pub(in super::super) fn set_number(&mut self, number: u8) {
        self.phase = self.phase & 0xf0 | number & 0x0f;
    }

    #[inline]
    pub(super) fn last_direction(&self) -> Direction {
        if self.phase & 0x10 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }

    #[inline]
    pub(super) fn last_event(&self) -> Event {
        Event::ALL
            .get(usize::from(self.phase >> 5))
            .copied()
            .unwrap_or(Event::None)
    }

    #[inline]
    pub(super) fn set_last(&mut self, direction: Direction, event: Event) {
        self.phase = self.phase & 0x0f | (direction as u8) << 4 | (event as u8) << 5;
    }

    pub(super) fn last_flags(&self) -> u8 {
        self.last_flags & 0x0f
    }

    pub(super) fn set_last_flags(&mut self, flags: u8) {
        self.last_flags = self.last_flags & 0xf0 | flags & 0x0f;
    }

    pub(super) fn last_scale(&self) -> u8 {
        self.last_flags >> 4
    }

    pub(super) fn set_last_scale(&mut self, scale: u8) {
        self.last_flags = self.last_flags & 0x0f | scale << 4;
    }

    #[inline]
    pub(in super::super) fn scale(&self, direction: Direction) -> u8 {
        self.scales >> (4 * direction as u8) & 0x0f
    }

    pub(super) fn set_scale(&mut self, direction: Direction, scale: u8) {
        let shift = 4 * direction as u8;
        self.scales = self.scales & !(0x0f << shift) | (scale & 0x0f) << shift;
    }

    #[inline]
    pub(in super::super) fn side(&self, direction: Direction) -> &Side {
        &self.sides[direction as usize]
    }

    #[inline]
    pub(super) fn side_mut(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction as usize]
    }

    #[inline]
    pub(in super::super) fn flags(&self, direction: Direction) -> u8 {
        self.flags[direction as usize]
    }

    #[inline]
    pub(super) fn set_flag(&mut self, direction: Direction, flag: u8) {
        self.flags[direction as usize] |= flag;
    }

    #[inline]
    pub(super) fn clear_flag(&mut self, direction: Direction, flag: u8) {
        self.flags[direction as usize] &= !flag;
    }

    /// The right edge of `direction`: the highest number that it may send.
    #[inline]
    pub(super) fn limit(&self, direction: Direction) -> Seq {
        self.side(direction.reverse()).grant
    }

    pub(super) fn set_limit(&mut self, direction: Direction, limit: Seq) {
        self.side_mut(direction.reverse()).grant = limit;
    }

    /// Takes over what a SYN of `direction` offers. Without option bytes what was known stays.
    pub(super) fn take_options(&mut self, direction: Direction, options: &SegmentOptions) {
        if options.length == 0 {
            return;
        }
        let (flags, scale) = offers(options);
        let kept = self.flags(direction) & (LIBERAL | GRACE);
        self.flags[direction as usize] = kept | flags;
        self.set_scale(direction, scale);
    }

    /// Packets may pass unseen from now on: those that are seen are not checked.
    pub(in super::super) fn leave(&mut self) {
        for direction in Direction::BOTH {
            // One that is not checked for another reason stays so.
            if self.flags(direction) & LIBERAL == 0 || self.flags(direction) & GRACE != 0 {
                self.set_flag(direction, LIBERAL | AWAY);
            }
        }
    }

    /// Packets have passed unseen: what was known of windows and acknowledgements is void, and is learned from the next packets
    /// of each side, which are not checked until some have been within all bounds.
    pub(in super::super) fn forget_windows(&mut self) {
        self.leave();
        for direction in Direction::BOTH {
            self.side_mut(direction).window = 0;
            self.clear_flag(direction, ACKED);
            if self.flags(direction) & GRACE != 0 {
                self.clear_flag(direction, GRACE);
                self.set_flag(direction, GRACE_BACK);
            }
        }
    }

    /// A segment of this side was within all bounds.
    #[inline]
    pub(super) fn count_grace(&mut self, direction: Direction) {
        let known = self.sides.iter().all(|side| side.window != 0);
        match self.flags(direction) & GRACE {
            0 | AWAY => {}
            _ if !known => {}
            GRACE_ONE => self.clear_flag(direction, GRACE | LIBERAL),
            _ => {
                self.clear_flag(direction, GRACE);
                self.set_flag(direction, GRACE_ONE);
            }
        }
    }

    /// A connection that this SYN opens.
    pub(super) fn opened(segment: &Segment) -> Self {
        let mut state = Self::default();
        state.sides[0].end = segment.end();
        state.sides[0].window = u32::from(segment.window).max(1);
        state.sides[1].grant = segment.end();
        state.take_options(Direction::Original, &segment.options);
        state.set_last(Direction::Original, Event::None);
        state
    }

    /// A connection that this segment is the middle of: nothing is known of its windows, so none is checked.
    pub(super) fn picked_up(segment: &Segment) -> Self {
        let mut state = Self::default();
        let window = u32::from(segment.window).max(1);
        state.sides[0].end = segment.end();
        state.sides[0].window = window;
        state.sides[1].grant = segment.end() + window;
        state.flags = [SACKS | LIBERAL; 2];
        state.set_last(Direction::Original, Event::None);
        state
    }
}

/// Flags and window scale that a SYN's options offer.
pub(super) fn offers(options: &SegmentOptions) -> (u8, u8) {
    let mut flags = 0;
    if options.window_scale.is_some() {
        flags |= SCALES;
    }
    if options.sack_permitted {
        flags |= SACKS;
    }
    (flags, options.window_scale.unwrap_or(0).min(SCALE_MAX))
}
