//! The window check: whether a segment's numbers can belong to the connection.
//!
//! Apart because it is the part of the tracker with theorems. After Guido van Rooij, "Real stateful TCP packet filtering in
//! IP Filter" (SANE 2000, USENIX Security 2001), as Linux adapted it. With *sender* the side that sent the segment and
//! *receiver* the other:
//!
//! ```text
//!             receiver's grant (right edge)                 receiver.end
//!                        |                                       |
//!   ----[ II     ...     I ]------  seq, end      ---[ IV ... III ]----  ack
//!       |                                            |
//!   sender.end - receiver.window              receiver.end - max(sender.window, 66000)
//!
//!   I    seq  <= right edge                   starts inside the window
//!   II   end  >= sender.end - receiver.window is not wholly old data
//!   III  ack  <= receiver.end                 acknowledges only what was sent
//!   IV   ack  >= receiver.end - MAXACKWINDOW  is not too old an acknowledgement
//! ```
//!
//! I and III separate valid from invalid; II and IV only say whether the segment may teach anything.

use super::Setting;
use super::state::{ACKED, LIBERAL, SACKS, SCALES, TcpState, UNACKED};
use super::table::{Event, TcpPhase};
use crate::hook::Direction;
use crate::hooks::conntrack::Reason;
use crate::packet::{Segment, Seq, TcpFlags};

/// The least distance that an acknowledgement may lag behind: a little more than an unscaled window (van Rooij, section 4).
pub(super) const ACK_LAG_MIN: u32 = 66_000;

/// What the check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It belongs here.
    Accept,
    /// It passes and teaches nothing.
    Ignore(Reason),
    /// It does not belong here.
    Invalid(Reason),
}

/// Checks a segment of `direction` and takes over what it teaches.
///
/// An invalid segment may have initialised its side: the caller decides whether
/// that stays. Cost: O(1).
pub(super) fn check(
    state: &mut TcpState,
    direction: Direction,
    event: Event,
    segment: &Segment,
    setting: &Setting<'_>,
) -> Fit {
    let (sender, receiver) = (direction, direction.reverse());
    let flags = segment.flags;
    let end = segment.end();
    let (mut seq, mut end_seen) = (segment.seq, end);
    let (mut ack, mut sack) = (segment.ack, sack_edge(state, direction, segment));
    let sack_shift = if sack == ack {
        setting.ack_shift
    } else {
        setting.sack_shift
    };
    (ack, sack) = (ack - setting.ack_shift, sack - sack_shift);

    if state.side(sender).window == 0 {
        if flags.contains(TcpFlags::SYN) {
            begin(state, sender, segment);
            if !flags.contains(TcpFlags::ACK) {
                return Fit::Accept;
            }
        } else {
            learn(state, sender, segment, sack);
        }
    } else if flags.contains(TcpFlags::SYN)
        && end.is_after(state.side(sender).end)
        && matches!(state.phase(), TcpPhase::SynSent | TcpPhase::SynRecv)
    {
        // A new initial sequence number before the handshake is over: the sender has started again.
        begin(state, sender, segment);
        if direction == Direction::Reply && !flags.contains(TcpFlags::ACK) {
            return Fit::Accept;
        }
    }

    if !flags.contains(TcpFlags::ACK) || flags.contains(TcpFlags::RST) && ack == Seq(0) {
        // No acknowledgement, or a reset of a stack that sets ACK with nothing behind it: taken as saying nothing new.
        ack = state.side(receiver).end;
        sack = ack;
    }
    if flags.contains(TcpFlags::RST) && seq == Seq(0) && state.phase() == TcpPhase::SynSent {
        // A reset that answers a SYN has no number of its own (RFC 9293 section 3.10.7.1).
        seq = state.side(sender).end;
        end_seen = seq;
    }

    match judge(state, sender, seq, end_seen, sack) {
        Fit::Accept => {}
        other => {
            if other == Fit::Ignore(Reason::TcpOvershoot) {
                // Its acknowledgement will be valid.
                state.side_mut(sender).end = end_seen;
                state.set_flag(sender, UNACKED);
            }
            return if setting.tcp.liberal || state.flags(sender) & LIBERAL != 0 {
                Fit::Accept
            } else {
                other
            };
        }
    }
    update(state, direction, segment, end_seen, ack, sack);
    if event == Event::Ack {
        state.count_grace(sender);
        repeat(state, direction, segment, seq, ack, end_seen);
    }
    Fit::Accept
}

/// The highest number that a segment acknowledges, selectively or not (RFC 2018). Blocks count where its receiver has offered to
/// read them.
#[inline]
pub(super) fn sack_edge(state: &TcpState, direction: Direction, segment: &Segment) -> Seq {
    if segment.options.sack_blocks == 0 || state.flags(direction.reverse()) & SACKS == 0 {
        return segment.ack;
    }
    let edges = segment.options.sack_ranges().iter();
    edges.fold(segment.ack, |edge, (_, right)| edge.max(*right))
}

/// The four bounds.
fn judge(state: &TcpState, sender: Direction, seq: Seq, end: Seq, sack: Seq) -> Fit {
    let receiver = sender.reverse();
    let (own, peer) = (state.side(sender), state.side(receiver));
    let limit = state.limit(sender);
    let ack_lag = own.window.max(ACK_LAG_MIN);
    let acks_sent = !sack.is_after(peer.end);
    let acks_recent = sack.is_after(peer.end - ack_lag - 1);
    let in_window = end.is_after(own.end - peer.window - 1);
    if seq.is_after(limit) {
        // I, with grace for stacks that send more than they may.
        let overshoot = (end - limit).wrapping_add(1);
        if peer.window != 0 && in_window && acks_recent && acks_sent && overshoot <= peer.window {
            return Fit::Ignore(Reason::TcpOvershoot);
        }
        return Fit::Invalid(Reason::TcpAboveWindow);
    }
    if !acks_sent {
        return Fit::Invalid(Reason::TcpAckUnsent); // III
    }
    if peer.window != 0 && !in_window {
        return Fit::Ignore(Reason::TcpBelowWindow); // II
    }
    if !acks_recent {
        return Fit::Ignore(Reason::TcpAckOld); // IV
    }
    Fit::Accept
}

/// A side begins with this SYN.
fn begin(state: &mut TcpState, sender: Direction, segment: &Segment) {
    let end = segment.end();
    state.side_mut(sender).end = end;
    state.set_limit(sender, end);
    // The window of a SYN is never scaled (RFC 7323 section 2.2).
    state.side_mut(sender).window = u32::from(segment.window).max(1);
    state.take_options(sender, &segment.options);
    if sender == Direction::Reply && state.flags[0] & state.flags[1] & SCALES == 0 {
        // Scaling is used by both or by none (RFC 7323 section 2.2).
        state.set_scale(Direction::Original, 0);
        state.set_scale(Direction::Reply, 0);
    }
}

/// A side is met in its middle: its history is whatever this segment implies.
fn learn(state: &mut TcpState, sender: Direction, segment: &Segment, sack: Seq) {
    let receiver = sender.reverse();
    let end = segment.end();
    let window = (u32::from(segment.window) << state.scale(sender)).max(1);
    state.side_mut(sender).end = end;
    state.side_mut(sender).window = window;
    state.set_limit(sender, end + window);
    let peer = state.side(receiver);
    if peer.window == 0 {
        state.side_mut(receiver).end = sack;
        state.set_limit(receiver, sack);
    } else if sack == peer.end + 1 {
        // Likely the answer to a keep-alive.
        state.side_mut(receiver).end = sack;
    }
}

/// What a segment within all bounds teaches.
#[inline]
pub(super) fn update(
    state: &mut TcpState,
    direction: Direction,
    segment: &Segment,
    end: Seq,
    ack: Seq,
    sack: Seq,
) {
    let (sender, receiver) = (direction, direction.reverse());
    let scale = if segment.flags.contains(TcpFlags::SYN) {
        0
    } else {
        state.scale(sender)
    };
    let window = u32::from(segment.window) << scale;
    let limit = state.limit(sender);
    let known = state.flags(sender) & ACKED != 0;
    let own = state.side_mut(sender);
    own.window = own.window.max(window.wrapping_add(sack - ack));
    let sent = end.is_after(own.end);
    if sent {
        own.end = end;
    }
    let acks = segment.flags.contains(TcpFlags::ACK);
    if acks {
        own.acked = if known { own.acked.max(ack) } else { ack };
    }
    let edge = sack + window;
    if !edge.is_before(own.grant) {
        // One more behind a closed window, for the probe (RFC 9293 section 3.8.6.1).
        own.grant = edge + u32::from(window == 0);
    }
    if sent {
        state.set_flag(sender, UNACKED);
    }
    if acks {
        state.set_flag(sender, ACKED);
    }
    let peer = state.side_mut(receiver);
    if peer.window != 0 && end.is_after(limit) {
        peer.window = peer.window.wrapping_add(end - limit);
    }
    if ack == peer.end {
        state.clear_flag(receiver, UNACKED);
    }
}

/// Counts repetitions of one segment.
#[inline]
pub(super) fn repeat(
    state: &mut TcpState,
    direction: Direction,
    segment: &Segment,
    seq: Seq,
    ack: Seq,
    end: Seq,
) {
    if state.last_direction() == direction
        && state.last_seq == seq
        && state.last_ack == ack
        && state.last_end == end
        && state.last_window == segment.window
    {
        state.repeats = state.repeats.wrapping_add(1);
    } else {
        state.set_last(direction, state.last_event());
        state.last_seq = seq;
        state.last_ack = ack;
        state.last_end = end;
        state.last_window = segment.window;
        state.repeats = 0;
    }
}
