//! SCTP: the states of an association and the tags that prove a packet's sender.
//!
//! Apart because the machine is another one: chunks instead of flags, tags instead of windows (RFC 9260 sections 4 and 8.5).
//! The state lives in the place of TCP's: a tag in each block's first word.

use super::tcp::TcpState;
use super::{Outcome, Reason, TimeoutClass};
use crate::hook::Direction;

/// The state of an SCTP association.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SctpPhase {
    /// Nothing seen yet.
    #[default]
    None,
    /// INIT seen, or closed.
    Closed,
    /// INIT ACK seen.
    CookieWait,
    /// COOKIE ECHO seen.
    CookieEchoed,
    /// COOKIE ACK seen.
    Established,
    /// SHUTDOWN from the opener.
    ShutdownSent,
    /// SHUTDOWN from the other side.
    ShutdownReceived,
    /// SHUTDOWN ACK seen.
    ShutdownAckSent,
    /// Only heartbeats seen.
    HeartbeatSent,
}

impl SctpPhase {
    /// Every state in order.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Closed,
        Self::CookieWait,
        Self::CookieEchoed,
        Self::Established,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::HeartbeatSent,
    ];

    /// Its name in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Closed => "CLOSED",
            Self::CookieWait => "COOKIE_WAIT",
            Self::CookieEchoed => "COOKIE_ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "SHUTDOWN_SENT",
            Self::ShutdownReceived => "SHUTDOWN_RECD",
            Self::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            Self::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }

    /// Whether it is on its way out.
    pub const fn is_closing(self) -> bool {
        matches!(
            self,
            Self::ShutdownSent | Self::ShutdownReceived | Self::ShutdownAckSent
        )
    }

    fn class(self) -> TimeoutClass {
        match self {
            Self::None | Self::Closed => TimeoutClass::SctpClosed,
            Self::CookieWait => TimeoutClass::SctpCookieWait,
            Self::CookieEchoed => TimeoutClass::SctpCookieEchoed,
            Self::Established => TimeoutClass::SctpEstablished,
            Self::ShutdownSent => TimeoutClass::SctpShutdownSent,
            Self::ShutdownReceived => TimeoutClass::SctpShutdownReceived,
            Self::ShutdownAckSent => TimeoutClass::SctpShutdownAckSent,
            Self::HeartbeatSent => TimeoutClass::SctpHeartbeatSent,
        }
    }
}

pub(super) fn phase(state: &TcpState) -> SctpPhase {
    SctpPhase::ALL
        .get(usize::from(state.number()))
        .copied()
        .unwrap_or(SctpPhase::None)
}

/// Bits in the place of TCP's flags, per direction.
const INIT_SEEN: u8 = 0x01;
/// The last heartbeat of this direction had a tag that is not known.
const HEARTBEAT_FAILED: u8 = 0x02;

/// One chunk: its type (RFC 9260 section 3.2), flags, and the word behind its header, which in INIT and INIT ACK is a tag.
#[derive(Clone, Copy)]
struct Chunk {
    kind: u8,
    flags: u8,
    word: u32,
}

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The chunks of a packet; `None` in the place of one that cannot be read, after which there is no more.
struct Chunks<'a>(&'a [u8]);

impl Iterator for Chunks<'_> {
    type Item = Option<Chunk>;

    fn next(&mut self) -> Option<Option<Chunk>> {
        let &[kind, flags, l0, l1, ref body @ ..] = self.0 else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if length == 0 {
            self.0 = &[];
            return Some(None);
        }
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        let word = body
            .first_chunk()
            .map_or(0, |word| u32::from_be_bytes(*word));
        Some(Some(Chunk { kind, flags, word }))
    }
}

fn chunks(packet: &[u8]) -> Chunks<'_> {
    Chunks(packet.get(12..).unwrap_or(&[]))
}

fn tag(packet: &[u8]) -> u32 {
    packet
        .get(4..8)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |tag| u32::from_be_bytes(*tag))
}

/// The set of the chunk types below 32 in the packet; `None` where they must not stand together. Cost: O(chunks).
fn survey(packet: &[u8]) -> Option<u32> {
    let (mut kinds, mut count, mut alone) = (0, 0, false);
    for chunk in chunks(packet) {
        let Chunk { kind, .. } = chunk?;
        alone |= matches!(kind, INIT | INIT_ACK | SHUTDOWN_COMPLETE);
        if (alone || matches!(kind, COOKIE_ECHO | COOKIE_ACK)) && count > 0 {
            return None;
        }
        if kind < 32 {
            kinds |= 1 << kind;
        }
        count += 1;
    }
    (count > 0).then_some(kinds)
}

const fn has(kinds: u32, kind: u8) -> bool {
    kinds & 1 << kind != 0
}

/// The state of an association whose first packet this is; `None` where it opens none.
pub(super) fn open(packet: &[u8]) -> Option<TcpState> {
    let kinds = survey(packet)?;
    // Out of the blue (RFC 9260 section 8.4).
    if has(kinds, ABORT) || has(kinds, SHUTDOWN_COMPLETE) || has(kinds, COOKIE_ACK) {
        return None;
    }
    let mut state = TcpState::default();
    let tag = tag(packet);
    for chunk in chunks(packet) {
        let Chunk { kind, word, .. } = chunk?;
        let next = transition(Direction::Original, kind, SctpPhase::None)?;
        if next == SctpPhase::None {
            return None;
        }
        match kind {
            INIT if tag == 0 => set_tag(&mut state, Direction::Reply, word),
            INIT => return None,
            HEARTBEAT => set_tag(&mut state, Direction::Original, tag),
            _ => set_tag(&mut state, Direction::Reply, tag),
        }
    }
    Some(state)
}

fn tag_of(state: &TcpState, direction: Direction) -> u32 {
    state.sides[direction as usize].end.0
}

fn set_tag(state: &mut TcpState, direction: Direction, tag: u32) {
    state.sides[direction as usize].end.0 = tag;
}

/// Whether a packet carries nothing but data and acknowledgements, and belongs to the association: what a cached flow may decide by
/// itself. Changes nothing. Cost: O(chunks).
pub(super) fn fits(state: &TcpState, direction: Direction, packet: &[u8]) -> bool {
    const PLAIN: u32 = 1 << DATA | 1 << SACK;
    let plain = survey(packet).is_some_and(|kinds| kinds & !PLAIN == 0);
    plain
        && matches!(
            step(&mut { *state }, direction, packet),
            Outcome::Accept { .. }
        )
}

/// What a packet of `direction` does to its association. `packet` begins with the SCTP header. Cost: O(chunks).
pub(super) fn step(state: &mut TcpState, direction: Direction, packet: &[u8]) -> Outcome {
    match walk(state, direction, packet) {
        Ok(outcome) => outcome,
        Err(reason) => Outcome::Invalid {
            reason,
            shorten: None,
        },
    }
}

fn walk(state: &mut TcpState, direction: Direction, packet: &[u8]) -> Result<Outcome, Reason> {
    let kinds = survey(packet).ok_or(Reason::SctpChunks)?;
    let tag = tag(packet);
    let (d, peer) = (direction as usize, direction.reverse());
    let free = 1 << INIT
        | 1 << SHUTDOWN_COMPLETE
        | 1 << COOKIE_ECHO
        | 1 << ABORT
        | 1 << SHUTDOWN_ACK
        | 1 << HEARTBEAT
        | 1 << HEARTBEAT_ACK;
    if kinds & free == 0 && tag != tag_of(state, direction) {
        return Err(Reason::SctpTag);
    }
    let before = phase(state);
    let mut ignored = None;
    for chunk in chunks(packet) {
        let Chunk { kind, flags, word } = chunk.ok_or(Reason::SctpChunks)?;
        let proper = match kind {
            INIT => tag == 0,
            // With the T bit the tag is the peer's own (RFC 9260 section 8.5.1).
            ABORT | SHUTDOWN_COMPLETE if flags & 1 != 0 => tag == tag_of(state, peer),
            ABORT | SHUTDOWN_COMPLETE | COOKIE_ECHO => tag == tag_of(state, direction),
            HEARTBEAT => {
                if tag_of(state, direction) == 0 {
                    set_tag(state, direction, tag);
                } else if tag != tag_of(state, direction) {
                    if has(kinds, DATA) || ignored.is_some() {
                        return Err(Reason::SctpTag);
                    }
                    state.flags[d] |= HEARTBEAT_FAILED;
                    state.flags[peer as usize] &= !HEARTBEAT_FAILED;
                    ignored = Some(Reason::SctpHeartbeat);
                    continue;
                } else {
                    clear_failed(state);
                }
                true
            }
            HEARTBEAT_ACK => {
                if tag_of(state, direction) == 0 {
                    set_tag(state, direction, tag);
                } else if tag != tag_of(state, direction) {
                    if has(kinds, DATA)
                        || ignored.is_some()
                        || state.flags[peer as usize] & HEARTBEAT_FAILED == 0
                    {
                        return Err(Reason::SctpTag);
                    }
                    // The peer's heartbeat with the other new tag is answered: a restart on a second path.
                    clear_failed(state);
                    set_tag(state, direction, tag);
                    set_tag(state, peer, 0);
                } else {
                    clear_failed(state);
                }
                true
            }
            _ => true,
        };
        if !proper {
            return Err(Reason::SctpTag);
        }
        let from = phase(state);
        let to = transition(direction, kind, from).ok_or(Reason::SctpState)?;
        match kind {
            INIT => {
                if state.flags[d] & state.flags[peer as usize] & INIT_SEEN != 0 {
                    state.flags[peer as usize] &= !INIT_SEEN;
                }
                state.flags[d] |= INIT_SEEN;
                set_tag(state, peer, word);
                if from == SctpPhase::Closed && to == SctpPhase::Closed {
                    ignored = Some(Reason::SctpChunks);
                }
            }
            INIT_ACK => {
                let known = tag_of(state, peer);
                let asked = state.flags[peer as usize] & INIT_SEEN != 0;
                let collision = asked && state.flags[d] & INIT_SEEN != 0;
                if !asked && known != 0 && known != word || collision && known != word {
                    return Err(Reason::SctpTag);
                }
                set_tag(state, peer, word);
            }
            COOKIE_ACK => {
                state.flags[0] &= !INIT_SEEN;
                state.flags[1] &= !INIT_SEEN;
            }
            _ => {}
        }
        state.set_number(to as u8);
    }
    if let Some(reason) = ignored {
        return Ok(Outcome::Ignore(reason));
    }
    let after = phase(state);
    Ok(Outcome::Accept {
        refresh: Some(after.class()),
        assured: after == SctpPhase::Established && before != after,
        changed: before != after,
    })
}

fn clear_failed(state: &mut TcpState) {
    state.flags[0] &= !HEARTBEAT_FAILED;
    state.flags[1] &= !HEARTBEAT_FAILED;
}

/// What follows; `None` is refused. Chunks that are not in the table keep the state.
fn transition(direction: Direction, kind: u8, from: SctpPhase) -> Option<SctpPhase> {
    let row = match kind {
        INIT => 0,
        INIT_ACK => 1,
        ABORT => 2,
        SHUTDOWN => 3,
        SHUTDOWN_ACK => 4,
        ERROR => 5,
        COOKIE_ECHO => 6,
        COOKIE_ACK => 7,
        SHUTDOWN_COMPLETE => 8,
        HEARTBEAT => 9,
        HEARTBEAT_ACK => 10,
        _ => return Some(from),
    };
    TRANSITIONS[direction as usize][row][from as usize]
}

const CL: Option<SctpPhase> = Some(SctpPhase::Closed);
const CW: Option<SctpPhase> = Some(SctpPhase::CookieWait);
const CE: Option<SctpPhase> = Some(SctpPhase::CookieEchoed);
const ES: Option<SctpPhase> = Some(SctpPhase::Established);
const SS: Option<SctpPhase> = Some(SctpPhase::ShutdownSent);
const SR: Option<SctpPhase> = Some(SctpPhase::ShutdownReceived);
const SA: Option<SctpPhase> = Some(SctpPhase::ShutdownAckSent);
const HS: Option<SctpPhase> = Some(SctpPhase::HeartbeatSent);
const IV: Option<SctpPhase> = None;

/// `[direction][chunk][state]`.
#[rustfmt::skip]
const TRANSITIONS: [[[Option<SctpPhase>; 9]; 11]; 2] = [
    // Original direction.
    [
        //NO  CL  CW  CE  ES  SS  SR  SA  HS
        [ CL, CL, CW, CE, ES, CL, CL, SA, CW ], // INIT
        [ CL, CL, CW, CE, ES, SS, SR, SA, CL ], // INIT ACK
        [ CL, CL, CL, CL, CL, CL, CL, CL, CL ], // ABORT
        [ CL, CL, CW, CE, SS, SS, SR, SA, CL ], // SHUTDOWN
        [ SA, CL, CW, CE, ES, SA, SA, SA, SA ], // SHUTDOWN ACK
        [ CL, CL, CW, CE, ES, SS, SR, SA, CL ], // ERROR
        [ CL, CL, CE, CE, ES, SS, SR, SA, CL ], // COOKIE ECHO
        [ CL, CL, CW, ES, ES, SS, SR, SA, CL ], // COOKIE ACK
        [ CL, CL, CW, CE, ES, SS, SR, CL, CL ], // SHUTDOWN COMPLETE
        [ HS, CL, CW, CE, ES, SS, SR, SA, HS ], // HEARTBEAT
        [ CL, CL, CW, CE, ES, SS, SR, SA, HS ], // HEARTBEAT ACK
    ],
    // Reply direction.
    [
        [ IV, CL, CW, CE, ES, SS, SR, SA, IV ], // INIT
        [ IV, CW, CW, CE, ES, SS, SR, SA, IV ], // INIT ACK
        [ IV, CL, CL, CL, CL, CL, CL, CL, IV ], // ABORT
        [ IV, CL, CW, CE, SR, SS, SR, SA, IV ], // SHUTDOWN
        [ IV, CL, CW, CE, ES, SA, SA, SA, IV ], // SHUTDOWN ACK
        [ IV, CL, CW, CL, ES, SS, SR, SA, IV ], // ERROR
        [ IV, CL, CE, CE, ES, SS, SR, SA, IV ], // COOKIE ECHO
        [ IV, CL, CW, ES, ES, SS, SR, SA, IV ], // COOKIE ACK
        [ IV, CL, CW, CE, ES, SS, SR, CL, IV ], // SHUTDOWN COMPLETE
        [ IV, CL, CW, CE, ES, SS, SR, SA, HS ], // HEARTBEAT
        [ IV, CL, CW, CE, ES, SS, SR, SA, ES ], // HEARTBEAT ACK
    ],
];
