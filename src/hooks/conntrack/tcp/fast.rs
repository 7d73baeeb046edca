//! The window step: what the tracker does with a plain segment of an open connection, for a cache to run.
//!
//! Apart because it is the hot path: one 64-byte line of state, four comparisons, no loop, nothing that depends on chance.
//! Everything unusual does not [fit](fits), and then nothing has been changed, so that the whole procedure can judge the
//! segment afresh: two ways through the code, one meaning.

use super::state::{GRACE, TcpState};
use super::table::{Event, TcpPhase};
use super::window::{ACK_LAG_MIN, repeat, sack_edge, update};
use super::{TcpConfig, TimeoutClass, Timeouts, lifetime_of};
use crate::hook::Direction;
use crate::packet::{Segment, TcpFlags};

/// Whether the segment is plain and its numbers are within all bounds, so that [`advance`] does what the whole procedure
/// would do. The connection is known to be assured, with a lifetime that traffic refreshes.
///
/// A segment that sticks out to the right does not fit: it would stretch its receiver's window.
#[inline]
pub(in super::super) fn fits(state: &TcpState, direction: Direction, segment: &Segment) -> bool {
    let plain = segment.flags.0 & !TcpFlags::PSH.0 == TcpFlags::ACK.0
        && state.number() == TcpPhase::Established as u8;
    let own = state.side(direction);
    let peer = state.side(direction.reverse());
    let (end, sack) = (segment.end(), sack_edge(state, direction, segment));
    let known = own.window != 0 && peer.window != 0 && state.flags(direction) & GRACE == 0;
    // Each difference is negative when its bound is broken (see the figure in `window`).
    let right = peer.grant - end; // more than I asks: the end, too
    let left = end - (own.end - peer.window); // II
    let unsent = peer.end - sack; // III
    let old = sack - (peer.end - own.window.max(ACK_LAG_MIN)); // IV
    // I itself: the start may lie far before the end only in a segment longer than 2^31, which there is not.
    plain & known & ((right | left | unsent | old) >> 31 == 0)
}

/// Takes over what a segment that [fits] teaches, and says how long the connection lives from now.
#[inline]
pub(in super::super) fn advance(
    state: &mut TcpState,
    direction: Direction,
    segment: &Segment,
    tcp: &TcpConfig,
    timeouts: &Timeouts,
) -> TimeoutClass {
    let (end, sack) = (segment.end(), sack_edge(state, direction, segment));
    update(state, direction, segment, end, segment.ack, sack);
    repeat(state, direction, segment, segment.seq, segment.ack, end);
    state.set_last(direction, Event::Ack);
    lifetime_of(state, Event::Ack, TcpPhase::Established, tcp, timeouts)
}
