//! Everything that can be wrong with a packet, named and countable.

use core::fmt;

/// Why bytes are not a packet that can be judged in full.
///
/// Defects up to [`Ipv6PayloadLength`](Self::Ipv6PayloadLength) make [`wire::Frame::parse`](crate::wire::Frame::parse)
/// fail: without a network header there is no key. The others leave a packet with a key and a
/// [`defect`](super::Packet::defect).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Defect {
    /// Shorter than its link header.
    LinkTruncated,
    /// More VLAN tags than two.
    LinkTags,
    /// The link header says that it carries neither IPv4 nor IPv6.
    NotIp,
    /// Shorter than an IPv4 header.
    Ipv4Truncated,
    /// IPv4 version field other than 4.
    Ipv4Version,
    /// IPv4 header length below 5 words or beyond the total length.
    Ipv4HeaderLength,
    /// IPv4 total length beyond the bytes that are there.
    Ipv4TotalLength,
    /// IPv4 header checksum wrong.
    Ipv4Checksum,
    /// Shorter than an IPv6 header.
    Ipv6Truncated,
    /// IPv6 version field other than 6.
    Ipv6Version,
    /// IPv6 payload length beyond the bytes that are there.
    Ipv6PayloadLength,
    /// An IPv6 extension header is cut short or its length is wrong. The key has that header as its protocol, and no ports.
    Ipv6Extension,
    /// More IPv6 extension headers than the parser follows, or one repeated or out of order that must not be. The key has that
    /// header as its protocol, and no ports.
    Ipv6ExtensionChain,
    /// A fragment that reaches beyond the largest datagram, 65,535 bytes, or an IPv6 fragment before the last whose length is
    /// no multiple of 8.
    FragmentRange,
    /// TCP header not there in full.
    TcpTruncated,
    /// TCP data offset below 5 words or beyond the segment.
    TcpHeaderLength,
    /// UDP or UDP-Lite header not there in full.
    UdpTruncated,
    /// UDP length below 8 or beyond the packet; UDP-Lite coverage 1 to 7 or beyond the packet.
    UdpLength,
    /// ICMP or ICMPv6 header not there in full.
    IcmpTruncated,
    /// SCTP common header not there in full.
    SctpTruncated,
    /// GRE header not there in full.
    GreTruncated,
}

impl Defect {
    /// How many defects there are: the length of a table that counts them by `defect as usize`.
    pub const COUNT: usize = Self::ALL.len();

    /// Every defect in order.
    pub const ALL: [Self; 21] = [
        Self::LinkTruncated,
        Self::LinkTags,
        Self::NotIp,
        Self::Ipv4Truncated,
        Self::Ipv4Version,
        Self::Ipv4HeaderLength,
        Self::Ipv4TotalLength,
        Self::Ipv4Checksum,
        Self::Ipv6Truncated,
        Self::Ipv6Version,
        Self::Ipv6PayloadLength,
        Self::Ipv6Extension,
        Self::Ipv6ExtensionChain,
        Self::FragmentRange,
        Self::TcpTruncated,
        Self::TcpHeaderLength,
        Self::UdpTruncated,
        Self::UdpLength,
        Self::IcmpTruncated,
        Self::SctpTruncated,
        Self::GreTruncated,
    ];

    /// The defect in a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LinkTruncated => "link header truncated",
            Self::LinkTags => "too many VLAN tags",
            Self::NotIp => "neither IPv4 nor IPv6",
            Self::Ipv4Truncated => "IPv4 header truncated",
            Self::Ipv4Version => "IPv4 version wrong",
            Self::Ipv4HeaderLength => "IPv4 header length wrong",
            Self::Ipv4TotalLength => "IPv4 packet truncated",
            Self::Ipv4Checksum => "IPv4 header checksum wrong",
            Self::Ipv6Truncated => "IPv6 header truncated",
            Self::Ipv6Version => "IPv6 version wrong",
            Self::Ipv6PayloadLength => "IPv6 packet truncated",
            Self::Ipv6Extension => "IPv6 extension header malformed",
            Self::Ipv6ExtensionChain => "IPv6 extension chain too long or out of order",
            Self::FragmentRange => "fragment beyond the largest datagram",
            Self::TcpTruncated => "TCP header truncated",
            Self::TcpHeaderLength => "TCP data offset wrong",
            Self::UdpTruncated => "UDP header truncated",
            Self::UdpLength => "UDP length wrong",
            Self::IcmpTruncated => "ICMP header truncated",
            Self::SctpTruncated => "SCTP header truncated",
            Self::GreTruncated => "GRE header truncated",
        }
    }
}

const _: () = {
    let mut i = 0;
    while i < Defect::COUNT {
        assert!(
            Defect::ALL[i] as usize == i,
            "ALL lists the defects in order"
        );
        i += 1;
    }
};

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Defect {}
