//! Why a packet is not simply part of its connection: each with a name, and counted.
//!
//! Apart so that dashboards can list them.

use core::fmt;

/// Why the tracker refused a packet, let it pass without believing it, or had no room for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    // Invalid: no connection is attached.
    /// A header is not what it should be.
    Malformed,
    /// A part of a datagram, which has to be reassembled first.
    Fragment,
    /// The transport checksum is wrong.
    Checksum,
    /// TCP flags that no stack sends together.
    TcpFlags,
    /// A TCP segment that opens no connection.
    TcpNew,
    /// A TCP segment that the connection's state does not allow.
    TcpState,
    /// A TCP segment beyond the window of its receiver (bound I).
    TcpAboveWindow,
    /// A TCP segment that acknowledges what was never sent (bound III).
    TcpAckUnsent,
    /// A TCP reset older than what its receiver has acknowledged.
    TcpReset,
    /// An ICMP message of unknown type, or a reply that nobody asked for.
    IcmpType,
    /// An ICMP error that quotes no known connection.
    IcmpUnknown,
    /// An ICMP error that goes to somebody else than the sender of the quoted packet.
    IcmpMisdirected,
    /// An ICMP error that quotes a TCP segment never sent ([`Mode::Hardened`](super::Mode::Hardened)).
    IcmpSequence,
    /// An SCTP packet whose chunks open no association, or must not stand together.
    SctpChunks,
    /// An SCTP packet that the association's state does not allow.
    SctpState,
    /// An SCTP packet with a wrong verification tag.
    SctpTag,
    /// An enhanced GRE packet that carries something else than PPP.
    GrePayload,
    // Ignored: it passes, with its class, but changes nothing.
    /// A TCP segment that the state lets pass and nothing more, as it may provoke a telling answer.
    TcpIgnored,
    /// A TCP segment that sticks out of the window less than a window (beyond bound I).
    TcpOvershoot,
    /// A TCP segment whose bytes all lie before the window (bound II).
    TcpBelowWindow,
    /// A TCP segment with a very old acknowledgement (bound IV).
    TcpAckOld,
    /// A TCP acknowledgement that answers a SYN which fits nowhere.
    TcpChallenge,
    /// A TCP reset that proves nothing ([`Mode::Hardened`](super::Mode::Hardened)).
    TcpResetUnproven,
    /// An SCTP heartbeat on a path whose tag is not known.
    SctpHeartbeat,
    // Dropped: there is no place.
    /// The table is full and everything in it is worth more.
    Full,
    /// The source has as many connections as it may.
    SourceLimit,
    /// A helper needs the command in one piece.
    HelperPartial,
    /// A helper could not announce the connection.
    HelperExpectation,
    /// A helper reads in order, and what comes before is missing.
    HelperOrder,
    /// The packet cannot be changed as a helper, or what it changed before, demands.
    HelperRewrite,
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every reason in order.
    pub const ALL: [Self; 30] = [
        Self::Malformed,
        Self::Fragment,
        Self::Checksum,
        Self::TcpFlags,
        Self::TcpNew,
        Self::TcpState,
        Self::TcpAboveWindow,
        Self::TcpAckUnsent,
        Self::TcpReset,
        Self::IcmpType,
        Self::IcmpUnknown,
        Self::IcmpMisdirected,
        Self::IcmpSequence,
        Self::SctpChunks,
        Self::SctpState,
        Self::SctpTag,
        Self::GrePayload,
        Self::TcpIgnored,
        Self::TcpOvershoot,
        Self::TcpBelowWindow,
        Self::TcpAckOld,
        Self::TcpChallenge,
        Self::TcpResetUnproven,
        Self::SctpHeartbeat,
        Self::Full,
        Self::SourceLimit,
        Self::HelperPartial,
        Self::HelperExpectation,
        Self::HelperOrder,
        Self::HelperRewrite,
    ];

    /// The reason in a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed header",
            Self::Fragment => "fragment not reassembled",
            Self::Checksum => "bad checksum",
            Self::TcpFlags => "tcp: flags that do not go together",
            Self::TcpNew => "tcp: opens no connection",
            Self::TcpState => "tcp: not allowed in this state",
            Self::TcpAboveWindow => "tcp: beyond the window",
            Self::TcpAckUnsent => "tcp: acknowledges data never sent",
            Self::TcpReset => "tcp: reset too old",
            Self::IcmpType => "icmp: type opens no connection",
            Self::IcmpUnknown => "icmp: error about no known connection",
            Self::IcmpMisdirected => "icmp: error to somebody else",
            Self::IcmpSequence => "icmp: error quotes a segment never sent",
            Self::SctpChunks => "sctp: chunks out of place",
            Self::SctpState => "sctp: not allowed in this state",
            Self::SctpTag => "sctp: wrong verification tag",
            Self::GrePayload => "gre: payload is not ppp",
            Self::TcpIgnored => "tcp: ignored in this state",
            Self::TcpOvershoot => "tcp: sticks out of the window",
            Self::TcpBelowWindow => "tcp: already acknowledged",
            Self::TcpAckOld => "tcp: very old acknowledgement",
            Self::TcpChallenge => "tcp: challenge acknowledgement",
            Self::TcpResetUnproven => "tcp: reset without proof",
            Self::SctpHeartbeat => "sctp: heartbeat on an unknown path",
            Self::Full => "table full",
            Self::SourceLimit => "too many connections from this source",
            Self::HelperPartial => "helper: command in pieces",
            Self::HelperExpectation => "helper: no place for the announced connection",
            Self::HelperOrder => "helper: data before it are missing",
            Self::HelperRewrite => "helper: the packet cannot be rewritten",
        }
    }
}

const _: () = {
    let mut i = 0;
    while i < Reason::COUNT {
        assert!(Reason::ALL[i] as usize == i, "ALL is in order");
        i += 1;
    }
};

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
