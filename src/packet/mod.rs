//! What a packet must offer: facts for hooks to read, changes for a destiny to make.
//!
//! [`Packet`] is the seam between the crate and a dataplane: [`wire::Frame`](crate::wire::Frame) implements it over bytes,
//! and a dataplane with its own parser implements it over that.

mod defect;
mod rewrite;
mod segment;
mod splice;
mod translation;

pub use defect::Defect;
pub use rewrite::Rewrite;
pub use segment::{Segment, SegmentOptions, Seq, TcpFlags};
pub use splice::Unspliceable;
pub use translation::{Mtus, Translation, Untranslatable};

use core::ops::Range;

use crate::cookie::FlowCookie;
use crate::key::FlowKey;

/// Where a packet came from. Each origin has a cache of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// It arrived on an interface.
    #[default]
    Received,
    /// A process of this machine sent it.
    Local,
}

/// An interface by the dataplane's own number; 0 is "none or unknown".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(pub u32);

/// Whether a packet is a fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fragment {
    /// Not a fragment.
    #[default]
    Whole,
    /// An IPv6 fragment header that is both first and last: processed as a whole packet (RFC 6946).
    Atomic,
    /// The first fragment of several: the transport header is there, the datagram is not.
    First,
    /// A later fragment: no transport header, ports read as 0.
    Later,
}

impl Fragment {
    /// Whether the packet is only a part of a datagram.
    pub const fn is_part(self) -> bool {
        matches!(self, Self::First | Self::Later)
    }
}

/// One packet on its way: what hooks may read and what a destiny may rewrite.
///
/// After a [`rewrite`](Self::rewrite) every reading method answers for the packet as it is now.
///
/// # Laws
///
/// * Reading methods have no effect and answer the same until the packet is rewritten.
/// * `p.rewrite(&Rewrite::between(&p.key(), &k))` leaves `p.key() == k`, for `k` of the same family and protocol.
/// * A checksum that was right before a rewrite is right after it, and after a translation.
/// * `p.splice(at, new)?` leaves `new` in the place of the bytes `at`, and everything before and behind them as it was.
/// * Where `p.renumber(&s)`, `p.segment()` has the numbers of `s`.
/// * `p.translate(&Translation::between(&p.key(), &k))?` leaves `p.key() == k`, for `k` a [`crossed`](crate::key::crossed) key of
///   the packet's, with ports of one's choice where there are some; where it refuses, `p` is as it was.
pub trait Packet {
    /// The type that names its flow.
    type Key: FlowKey;

    /// The name of the packet's flow. Cost: O(1); a parser keeps it ready.
    fn key(&self) -> Self::Key;

    /// Received, or generated here.
    fn origin(&self) -> Origin {
        Origin::Received
    }

    /// The interface that it arrived on.
    fn ingress(&self) -> Interface {
        Interface(0)
    }

    /// Bytes of the packet from the network header on, by that header.
    fn length(&self) -> u32;

    /// Whether it is a fragment.
    fn fragment(&self) -> Fragment {
        Fragment::Whole
    }

    /// Its TCP flags; none for other protocols.
    fn tcp_flags(&self) -> TcpFlags {
        TcpFlags::NONE
    }

    /// The bytes from the transport header on, as far as they are present.
    fn transport(&self) -> &[u8];

    /// Bytes from the transport header on, by the network header; more than [`transport`](Self::transport) holds when the
    /// capture was cut short.
    fn transport_length(&self) -> u32;

    /// The TCP segment as a tracker sees it; `None` for other protocols and where the header is defective.
    fn segment(&self) -> Option<Segment> {
        None
    }

    /// For an ICMP error, the key of the packet that it quotes, as that packet was sent; `None` for every other packet and
    /// where the quotation cannot be read.
    fn quoted(&self) -> Option<Self::Key> {
        None
    }

    /// What is wrong with the packet behind its network header, if anything. Such a packet has a key (with ports 0 where they
    /// could not be read) and a verdict, and is never cached.
    fn defect(&self) -> Option<Defect> {
        None
    }

    /// Whether the transport checksum is right, or is somebody else's business (offloaded, partial, absent, not all bytes
    /// there). Cost: one pass over the packet; nothing calls it on a hit.
    fn is_intact(&self) -> bool {
        true
    }

    /// Time to live or hop limit.
    fn hop_limit(&self) -> u8;

    /// The hash that the NIC computed over the flow, if it did.
    fn hash(&self) -> Option<u32> {
        None
    }

    /// The cookie that the NIC, or the socket that sent the packet, holds for the flow.
    fn cookie(&self) -> Option<FlowCookie> {
        None
    }

    /// Gives the packet the addresses and ports of [`Rewrite::to`], with its checksums kept right.
    ///
    /// Cost: O(1), whatever the packet's length.
    fn rewrite(&mut self, rewrite: &Rewrite<Self::Key>);

    /// For an ICMP error, changes the addresses and ports of the quoted packet likewise, and the ICMP checksum with them.
    ///
    /// False, and no change, where the packet quotes nothing that can be changed.
    fn rewrite_quoted(&mut self, rewrite: &Rewrite<Self::Key>) -> bool {
        let _ = rewrite;
        false
    }

    /// Makes the packet one of the other family (RFC 7915), with the addresses and ports of the translation's key; an ICMP error
    /// with the packet that it quotes. The hop limit stays.
    ///
    /// # Errors
    ///
    /// Why it cannot; then the packet is as it was. Types of packets that cannot change their family refuse with
    /// [`Untranslatable::Unsupported`], as this does if it is not implemented.
    fn translate(&mut self, translation: &Translation<Self::Key>) -> Result<(), Untranslatable> {
        let _ = translation;
        Err(Untranslatable::Unsupported)
    }

    /// Sets the time to live or hop limit, with the header checksum kept right.
    fn set_hop_limit(&mut self, hop_limit: u8);

    /// Lowers the TCP maximum segment size option of a SYN to `mss` where it is larger. False where nothing changed.
    fn clamp_mss(&mut self, mss: u16) -> bool {
        let _ = mss;
        false
    }

    /// Puts `new` in the place of payload bytes, be it longer or shorter, with lengths and checksums kept right; `at` counts as
    /// [`transport`](Self::transport) does. TCP's numbers stay: those of what comes later are the caller's to
    /// [change](Self::renumber).
    ///
    /// # Errors
    ///
    /// Why it cannot; then the packet is as it was. Types of packets that cannot change their payload refuse with
    /// [`Unspliceable::Unsupported`], as this does if it is not implemented.
    fn splice(&mut self, at: Range<usize>, new: &[u8]) -> Result<(), Unspliceable> {
        let _ = (at, new);
        Err(Unspliceable::Unsupported)
    }

    /// Gives a TCP segment the sequence number of `segment`, and its acknowledgement and edges of selective acknowledgements
    /// where it has such, with the checksum kept right. False, and no change, for every other packet, and where it is not
    /// implemented.
    fn renumber(&mut self, segment: &Segment) -> bool {
        let _ = segment;
        false
    }
}
