//! The transitions of a TCP connection as a tracker between the two ends sees it.
//!
//! Apart because it is the one place where the states are decided; everything else is about numbers.
//!
//! Source: the tracker of Linux 6.18, itself after RFC 9293 section 3.3.2 seen from the middle. Two outcomes are no states: a
//! packet is *ignored* when it passes but is not believed, since only its answer will tell, and *invalid* when no
//! conforming end sends it in this state.

use crate::hook::Direction;
use crate::packet::TcpFlags;

/// The state of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpPhase {
    /// Nothing seen yet.
    #[default]
    None,
    /// SYN seen.
    SynSent,
    /// SYN and ACK seen.
    SynRecv,
    /// The handshake's last ACK seen, or picked up in its middle.
    Established,
    /// The first FIN seen.
    FinWait,
    /// The first FIN acknowledged.
    CloseWait,
    /// The second FIN seen.
    LastAck,
    /// The second FIN acknowledged.
    TimeWait,
    /// Reset.
    Close,
    /// SYN seen from both sides.
    SynSent2,
}

impl TcpPhase {
    /// Every state in order.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
    ];

    /// Its name in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }

    /// Whether it is on its way out.
    pub const fn is_closing(self) -> bool {
        matches!(
            self,
            Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait | Self::Close
        )
    }
}

/// What a segment's flags amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(in super::super) enum Event {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    #[default]
    None,
}

impl Event {
    /// The first that applies: reset, SYN with or without ACK, FIN, ACK, none of them.
    pub(super) const fn of(flags: TcpFlags) -> Self {
        if flags.contains(TcpFlags::RST) {
            Self::Rst
        } else if flags.contains(TcpFlags::SYN) {
            if flags.contains(TcpFlags::ACK) {
                Self::SynAck
            } else {
                Self::Syn
            }
        } else if flags.contains(TcpFlags::FIN) {
            Self::Fin
        } else if flags.contains(TcpFlags::ACK) {
            Self::Ack
        } else {
            Self::None
        }
    }

    pub(super) const ALL: [Self; 6] = [
        Self::Syn,
        Self::SynAck,
        Self::Fin,
        Self::Ack,
        Self::Rst,
        Self::None,
    ];
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The connection goes to this state, if the numbers agree.
    To(TcpPhase),
    /// The packet passes and is not believed.
    Ignore,
    /// The packet is refused.
    Invalid,
}

/// What follows. Cost: two loads.
pub(super) fn next(direction: Direction, event: Event, phase: TcpPhase) -> Next {
    TRANSITIONS[direction as usize][event as usize][phase as usize]
}

/// Whether stacks send these flags together, PSH, ECE and CWR aside.
pub(super) const fn are_sane(flags: TcpFlags) -> bool {
    const ASIDE: u8 = TcpFlags::PSH.0 | TcpFlags::ECE.0 | TcpFlags::CWR.0;
    const S: u8 = TcpFlags::SYN.0;
    const A: u8 = TcpFlags::ACK.0;
    const F: u8 = TcpFlags::FIN.0;
    const R: u8 = TcpFlags::RST.0;
    const U: u8 = TcpFlags::URG.0;
    let flags = flags.0 & !ASIDE;
    flags == S
        || flags == S | U
        || flags == S | A
        || flags == R
        || flags == R | A
        || flags == F | A
        || flags == F | A | U
        || flags == A
        || flags == A | U
}

const SS: Next = Next::To(TcpPhase::SynSent);
const SR: Next = Next::To(TcpPhase::SynRecv);
const ES: Next = Next::To(TcpPhase::Established);
const FW: Next = Next::To(TcpPhase::FinWait);
const CW: Next = Next::To(TcpPhase::CloseWait);
const LA: Next = Next::To(TcpPhase::LastAck);
const TW: Next = Next::To(TcpPhase::TimeWait);
const CL: Next = Next::To(TcpPhase::Close);
const S2: Next = Next::To(TcpPhase::SynSent2);
const IG: Next = Next::Ignore;
const IV: Next = Next::Invalid;

/// `[direction][event][state]`.
#[rustfmt::skip]
const TRANSITIONS: [[[Next; 10]; 6]; 2] = [
    // Original direction.
    [
        // SYN. It opens, or repeats the opening (SS, S2). Over a live connection it may be stale or forged: it passes so that
        // the other end can answer with a challenge (RFC 5961 section 4) or a SYN/ACK. After the end it reopens (TW, CL).
        //NO  SS  SR  ES  FW  CW  LA  TW  CL  S2
        [ SS, SS, IG, IG, IG, IG, IG, SS, SS, S2 ],
        // SYN/ACK. The opener sends one only when both opened at once (S2), or repeats that one (SR).
        [ IV, IV, SR, IV, IV, IV, IV, IV, IV, SR ],
        // FIN. Before the handshake is over it fits nowhere (SS, S2). The second one, of whichever side, makes LAST_ACK.
        [ IV, IV, FW, FW, LA, LA, LA, TW, CL, IV ],
        // ACK. The handshake's last (SR), data (ES), of the first FIN (FW), data behind it (CW), of the second (LA). With
        // nothing known it may be the middle of a connection (NO).
        [ ES, IV, ES, ES, CW, CW, TW, TW, CL, IV ],
        // RST closes everything; whether it is believed is another question.
        [ IV, CL, CL, CL, CL, CL, CL, CL, CL, CL ],
        // None of them: no segment.
        [ IV, IV, IV, IV, IV, IV, IV, IV, IV, IV ],
    ],
    // Reply direction.
    [
        // SYN. Both open at once (SS, S2), or the other side reopens a finished connection (TW). The answering side has no
        // other reason to send one.
        //NO  SS  SR  ES  FW  CW  LA  TW  CL  S2
        [ IV, S2, IV, IV, IV, IV, IV, SS, IV, S2 ],
        // SYN/ACK. The answer (SS, S2). Later it is a repetition, or answers a SYN that was let through (IG).
        [ IV, SR, IG, IG, IG, IG, IG, IG, IG, SR ],
        // FIN. As in the original direction.
        [ IV, IV, FW, FW, LA, LA, LA, TW, CL, IV ],
        // ACK. Before the handshake it may be a challenge to a SYN (SS, S2). In SR the answering side's own ACK proves nothing
        // about the opener.
        [ IV, IG, SR, ES, CW, CW, TW, TW, CL, IG ],
        // RST.
        [ IV, CL, CL, CL, CL, CL, CL, CL, CL, CL ],
        // None of them.
        [ IV, IV, IV, IV, IV, IV, IV, IV, IV, IV ],
    ],
];
