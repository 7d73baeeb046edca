//! TCP: what a segment does to its connection.
//!
//! [`step`] is the procedure, in the order of the decisions; [`table`] has the transitions, [`window`] the numbers, [`state`]
//! the memory, and [`fast`] the part of all this that a cached flow runs.

mod fast;
mod state;
mod table;
mod window;

pub use table::TcpPhase;

pub(super) use fast::{advance, fits};
pub(super) use state::{ACKED, CLOSE_INIT, LIBERAL, SACKS, SCALES, Side, TcpState, UNACKED};

use super::{Config, Mode, Outcome, Reason, Status, TcpConfig, TimeoutClass, Timeouts};
use crate::hook::Direction;
use crate::packet::{Segment, Seq};
use crate::time::Duration;
use state::{CHALLENGED, SIMULTANEOUS, offers};
use table::{Event, Next, are_sane, next};
use window::{Fit, check};

/// What a step may know besides the TCP state.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) mode: Mode,
    pub(super) tcp: &'a TcpConfig,
    pub(super) timeouts: &'a Timeouts,
    pub(super) status: Status,
    /// What is left of the connection's life.
    pub(super) remaining: Duration,
    /// What translation has added to the numbers that the segment acknowledges.
    pub(super) ack_shift: u32,
    /// The same of the highest edge of its selective acknowledgements.
    pub(super) sack_shift: u32,
}

impl<'a> Setting<'a> {
    pub(super) fn new(
        config: &'a Config,
        timeouts: &'a Timeouts,
        status: Status,
        remaining: Duration,
        [ack_shift, sack_shift]: [u32; 2],
    ) -> Self {
        Self {
            mode: config.mode,
            tcp: &config.tcp,
            timeouts,
            status,
            remaining,
            ack_shift,
            sack_shift,
        }
    }
}

/// Seconds that a connection must have left for a pair of unbelievable FINs or resets to shorten its life.
const SHORTEN_MIN: Duration = Duration::from_secs(120);

/// Whether the flags can open a connection or be part of one; asked before anything else.
pub(super) fn has_sane_flags(segment: &Segment) -> bool {
    are_sane(segment.flags)
}

/// The state of a connection whose first packet this is; `None` where it opens none.
pub(super) fn open(segment: &Segment, tcp: &TcpConfig) -> Option<TcpState> {
    match next(
        Direction::Original,
        Event::of(segment.flags),
        TcpPhase::None,
    ) {
        Next::To(TcpPhase::SynSent) => Some(TcpState::opened(segment)),
        Next::To(_) if tcp.loose => Some(TcpState::picked_up(segment)),
        _ => None,
    }
}

/// What a segment of `direction` does to its connection.
pub(super) fn step(
    state: &mut TcpState,
    direction: Direction,
    segment: &Segment,
    setting: &Setting<'_>,
) -> Outcome {
    let event = Event::of(segment.flags);
    let before = *state;
    let decision = match before_window(state, direction, event, segment, setting) {
        Plan::Done(outcome) => return outcome,
        Plan::Check(transition) => match check(state, direction, event, segment, setting) {
            Fit::Accept => transition,
            Fit::Ignore(reason) => return Outcome::Ignore(reason),
            Fit::Invalid(reason) => {
                if setting.mode == Mode::Hardened {
                    *state = before;
                }
                let shorten = note_invalid(state, direction, event, setting);
                return Outcome::Invalid { reason, shorten };
            }
        },
        Plan::Commit(transition) => transition,
    };
    commit(state, direction, event, decision, setting)
}

/// A change of state that waits for the window check.
#[derive(Clone, Copy)]
struct Transition {
    /// The state that the segment was judged in.
    from: TcpPhase,
    to: TcpPhase,
}

/// What the states alone say.
enum Plan {
    Done(Outcome),
    /// If the numbers agree.
    Check(Transition),
    /// Whatever the numbers.
    Commit(Transition),
}

fn before_window(
    state: &mut TcpState,
    direction: Direction,
    event: Event,
    segment: &Segment,
    setting: &Setting<'_>,
) -> Plan {
    let from = state.phase();
    let to = match next(direction, event, from) {
        Next::Invalid => {
            return Plan::Done(Outcome::Invalid {
                reason: Reason::TcpState,
                shorten: None,
            });
        }
        Next::Ignore => return ignore(state, direction, event, segment, from),
        Next::To(to) => to,
    };
    match to {
        TcpPhase::SynSent if matches!(from, TcpPhase::TimeWait | TcpPhase::Close) => {
            let closed = (state.flags[0] | state.flags[1]) & CLOSE_INIT != 0;
            let reset = state.last_direction() == direction && state.last_event() == Event::Rst;
            if closed || reset {
                return Plan::Done(Outcome::Repeat);
            }
            return ignore(state, direction, event, segment, from);
        }
        TcpPhase::TimeWait
            if from == TcpPhase::LastAck
                && event == Event::Ack
                && state.last_direction() != direction
                && state.last_event() == Event::Syn
                && state.last_flags() & CHALLENGED != 0 =>
        {
            // It answers the SYN that came in LAST_ACK, not the FIN (RFC 5961 section 4).
            state.set_last_flags(state.last_flags() & !CHALLENGED);
            return Plan::Done(Outcome::Ignore(Reason::TcpChallenge));
        }
        TcpPhase::SynSent2 => state.set_last_flags(state.last_flags() | SIMULTANEOUS),
        TcpPhase::SynRecv
            if direction == Direction::Reply
                && event == Event::Ack
                && state.last_flags() & SIMULTANEOUS != 0 =>
        {
            return Plan::Check(Transition {
                from,
                to: TcpPhase::Established,
            });
        }
        TcpPhase::Close if event == Event::Rst => {
            return reset(state, direction, segment, from, setting);
        }
        _ => {}
    }
    Plan::Check(Transition { from, to })
}

/// A segment that the state lets pass without believing it.
fn ignore(
    state: &mut TcpState,
    direction: Direction,
    event: Event,
    segment: &Segment,
    from: TcpPhase,
) -> Plan {
    if event == Event::SynAck
        && state.last_event() == Event::Syn
        && state.last_direction() != direction
        && segment.ack == state.last_end
    {
        // The peer answers a SYN that was let through: it knew better. Both sides begin again from there.
        resynchronise(state, direction);
        return Plan::Check(Transition {
            from: TcpPhase::SynSent,
            to: TcpPhase::SynRecv,
        });
    }
    state.set_last(direction, event);
    state.last_seq = segment.seq;
    state.last_end = segment.end();
    state.last_window = segment.window;
    if event == Event::Syn && direction == Direction::Original {
        let (mut flags, scale) = offers(&segment.options);
        if from == TcpPhase::LastAck {
            flags |= CHALLENGED;
        }
        state.set_last_flags(flags);
        state.set_last_scale(scale);
    }
    if from == TcpPhase::SynSent && event == Event::Ack && direction == Direction::Reply {
        state.last_ack = segment.ack;
    }
    Plan::Done(Outcome::Ignore(Reason::TcpIgnored))
}

/// Rebuilds both sides from the SYN that was let through; `answerer` sends the SYN/ACK that proves it.
fn resynchronise(state: &mut TcpState, answerer: Direction) {
    let opener = answerer.reverse();
    let (end, window) = (state.last_end, u32::from(state.last_window).max(1));
    let flags = state.last_flags() & !CHALLENGED;
    state.set_last_flags(flags);
    let scale = state.last_scale();
    *state.side_mut(answerer) = Side::default();
    state.flags[answerer as usize] &= LIBERAL;
    state.set_scale(answerer, 0);
    // Its acknowledgements and what it granted are of the old connection; the flag says that the first are void, and the
    // second is set when the answerer's block begins.
    let side = state.side_mut(opener);
    side.end = end;
    side.window = window;
    state.flags[opener as usize] = flags & (SCALES | SACKS);
    state.set_scale(opener, scale);
    state.set_limit(opener, end);
    state.set_limit(answerer, Seq(0));
}

/// Whether a reset may close.
fn reset(
    state: &mut TcpState,
    direction: Direction,
    segment: &Segment,
    from: TcpPhase,
    setting: &Setting<'_>,
) -> Plan {
    let hardened = setting.mode == Mode::Hardened;
    let close = Transition {
        from,
        to: TcpPhase::Close,
    };
    let peer = direction.reverse();
    let acked = state.side(peer).acked;
    let is_acked = state.flags(peer) & ACKED != 0;
    if from.is_closing() {
        if !hardened {
            return Plan::Commit(close);
        }
        // Deviation 4.
        if matches!(from, TcpPhase::TimeWait | TcpPhase::Close)
            || is_acked && segment.seq.is_after(acked)
        {
            return Plan::Done(Outcome::Ignore(Reason::TcpResetUnproven));
        }
        if is_acked && segment.seq.is_before(acked) {
            return Plan::Done(invalid(Reason::TcpReset));
        }
        return Plan::Check(close);
    }
    let assured = setting.status.contains(Status::ASSURED);
    let established = from == TcpPhase::Established && assured;
    let mut to = TcpPhase::Close;
    if is_acked && state.last_event() != Event::Syn {
        if segment.seq == Seq(0) && !established {
            // Likely the answer to a SYN that was let through.
            return Plan::Check(close);
        }
        if segment.seq.is_before(acked) && !setting.tcp.ignore_invalid_rst {
            return Plan::Done(invalid(Reason::TcpReset));
        }
        let train = state.last_event() == Event::Ack
            && state.last_direction() == direction
            && segment.seq == state.last_end;
        if !established || segment.seq == acked || train {
            return Plan::Check(close);
        }
        // In the window but not exact: a conforming end answers with a challenge (RFC 5961 section 3.2), so it stays open.
        to = from;
    }
    let answers_syn = setting.status.contains(Status::SEEN_REPLY)
        && state.last_event() == Event::Syn
        && state.last_direction() != direction;
    let answers_ack = !assured && state.last_event() == Event::Ack;
    if (answers_syn || answers_ack) && segment.ack == state.last_end {
        if hardened && established {
            // Deviation 1.
            state.set_last(state.last_direction(), Event::None);
            return Plan::Done(Outcome::Ignore(Reason::TcpResetUnproven));
        }
        return Plan::Commit(Transition { from, to });
    }
    if from == TcpPhase::SynSent
        && state.last_event() == Event::Ack
        && state.last_direction() == Direction::Reply
        && segment.seq == state.last_ack
    {
        // The opener resets the old connection that a challenge told it of.
        return Plan::Commit(Transition { from, to });
    }
    Plan::Check(Transition { from, to })
}

fn invalid(reason: Reason) -> Outcome {
    Outcome::Invalid {
        reason,
        shorten: None,
    }
}

/// A FIN or reset that fits nowhere, from both sides in turn, tells that the tracker has lost the connection: it need not
/// linger for days.
fn note_invalid(
    state: &mut TcpState,
    direction: Direction,
    event: Event,
    setting: &Setting<'_>,
) -> Option<TimeoutClass> {
    if !setting.status.contains(Status::ASSURED)
        || setting.status.contains(Status::FIXED_TIMEOUT)
        || !matches!(event, Event::Fin | Event::Rst)
    {
        return None;
    }
    if state.last_direction() != direction && matches!(state.last_event(), Event::Fin | Event::Rst)
    {
        let ceiling = TimeoutClass::TcpUnacknowledged;
        return (setting.remaining >= SHORTEN_MIN
            && setting.remaining > setting.timeouts.of(ceiling))
        .then_some(ceiling);
    }
    state.set_last(direction, event);
    None
}

/// The segment is believed.
fn commit(
    state: &mut TcpState,
    direction: Direction,
    event: Event,
    Transition { from, to }: Transition,
    setting: &Setting<'_>,
) -> Outcome {
    state.set_last(direction, event);
    state.set_phase(to);
    if to == TcpPhase::FinWait && from != to {
        state.set_flag(direction, CLOSE_INIT);
    }
    let mut class = lifetime_of(state, event, to, setting.tcp, setting.timeouts);
    let changed = from != to;
    if !setting.status.contains(Status::SEEN_REPLY) {
        if event == Event::Rst {
            return Outcome::Kill;
        }
        if event == Event::Syn && from == TcpPhase::SynSent {
            // Repeating an unanswered SYN does not keep a connection, nor its translation, alive.
            return Outcome::Accept {
                refresh: None,
                assured: false,
                changed,
            };
        }
        if to == TcpPhase::Established {
            class = setting
                .timeouts
                .at_most(class, TimeoutClass::TcpUnacknowledged);
        }
    }
    let assured = setting.status.contains(Status::SEEN_REPLY)
        && matches!(from, TcpPhase::SynRecv | TcpPhase::Established)
        && to == TcpPhase::Established;
    Outcome::Accept {
        refresh: Some(class),
        assured,
        changed,
    }
}

/// How long the connection lives from now.
#[inline]
fn lifetime_of(
    state: &TcpState,
    event: Event,
    phase: TcpPhase,
    tcp: &TcpConfig,
    timeouts: &Timeouts,
) -> TimeoutClass {
    let class = class_of(phase);
    let longer = |ceiling| timeouts.seconds(class) > timeouts.seconds(ceiling);
    let retransmission = longer(TimeoutClass::TcpRetransmission);
    if state.repeats >= tcp.max_retransmissions && retransmission {
        TimeoutClass::TcpRetransmission
    } else if event == Event::Rst {
        TimeoutClass::TcpClose
    } else if (state.flags[0] | state.flags[1]) & UNACKED != 0
        && longer(TimeoutClass::TcpUnacknowledged)
    {
        TimeoutClass::TcpUnacknowledged
    } else if state.last_window == 0 && retransmission {
        TimeoutClass::TcpRetransmission
    } else {
        class
    }
}

#[inline]
pub(super) fn class_of(phase: TcpPhase) -> TimeoutClass {
    match phase {
        TcpPhase::None | TcpPhase::SynSent => TimeoutClass::TcpSynSent,
        TcpPhase::SynRecv => TimeoutClass::TcpSynRecv,
        TcpPhase::Established => TimeoutClass::TcpEstablished,
        TcpPhase::FinWait => TimeoutClass::TcpFinWait,
        TcpPhase::CloseWait => TimeoutClass::TcpCloseWait,
        TcpPhase::LastAck => TimeoutClass::TcpLastAck,
        TcpPhase::TimeWait => TimeoutClass::TcpTimeWait,
        TcpPhase::Close => TimeoutClass::TcpClose,
        TcpPhase::SynSent2 => TimeoutClass::TcpSynSent2,
    }
}
