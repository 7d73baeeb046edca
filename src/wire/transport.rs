//! Transport headers: the ports of each protocol, what can be wrong with it, and where its checksum lies.
//!
//! One file for all of them, because a flow cache needs these three facts of each and no more. TCP's options are read by
//! [`Segment`](crate::packet::Segment).
//!
//! ```text
//!             ports, or what stands for them    checksum at    covers
//!  TCP        0..4                              16             pseudo header, all
//!  UDP        0..4                              6              pseudo header, UDP length; 0: none
//!  UDP-Lite   0..4                              6              pseudo header, coverage
//!  ICMP       type and code 0..2, id 4..6       2              all
//!  ICMPv6     type and code 0..2, id 4..6       2              pseudo header, all
//!  SCTP       0..4                              8 (CRC32c)     all
//!  GRE        none                              4 if present   all
//! ```

use super::layout::{Layout, be16, bytes_at, word_at};
use crate::key::{Protocol, icmp_answer};
use crate::packet::{Defect, Fragment, TcpFlags};

/// What a transport header says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transport {
    /// Source port, or ICMP identifier.
    pub(super) source: u16,
    /// Destination port, or ICMP type and code.
    pub(super) destination: u16,
    /// TCP flags.
    pub(super) flags: TcpFlags,
    /// What is wrong with it.
    pub(super) defect: Option<Defect>,
}

impl Transport {
    fn defective(defect: Defect) -> Self {
        Self {
            defect: Some(defect),
            ..Self::default()
        }
    }

    fn with_ports(ports: [u8; 4]) -> Self {
        let [s0, s1, d0, d1] = ports;
        Self {
            source: be16(s0, s1),
            destination: be16(d0, d1),
            ..Self::default()
        }
    }
}

/// Reads the transport header that `layout` describes; `bytes` begin with it, and may end early.
///
/// A defective header still gives its ports where the four bytes are there. Cost: O(1).
#[inline(always)]
pub(super) fn read(bytes: &[u8], layout: &Layout) -> Transport {
    if layout.fragment == Fragment::Later {
        return Transport::default();
    }
    match layout.protocol {
        Protocol::TCP => tcp(bytes, layout.transport_length()),
        Protocol::UDP => udp(bytes, layout.fragment, layout.transport_length(), false),
        protocol => other(bytes, protocol, layout.fragment, layout.transport_length()),
    }
}

/// All but TCP and UDP: out of line, so that these two are short.
#[inline(never)]
fn other(bytes: &[u8], protocol: Protocol, fragment: Fragment, length: u32) -> Transport {
    match protocol {
        Protocol::UDP_LITE => udp(bytes, fragment, length, true),
        Protocol::ICMP | Protocol::ICMPV6 => icmp(bytes, protocol),
        Protocol::SCTP => sctp(bytes),
        Protocol::GRE => gre(bytes, length),
        _ => Transport::default(),
    }
}

#[inline(always)]
fn tcp(bytes: &[u8], length: u32) -> Transport {
    let Some(&[p0, p1, p2, p3, _, _, _, _, _, _, _, _, offset, flags, ..]) =
        bytes.first_chunk::<20>()
    else {
        return truncated(bytes, Defect::TcpTruncated);
    };
    let header = u32::from(offset >> 4) * 4;
    let defect = if header < 20 || header > length {
        Some(Defect::TcpHeaderLength)
    } else if header as usize > bytes.len() {
        Some(Defect::TcpTruncated)
    } else {
        None
    };
    Transport {
        flags: TcpFlags(flags),
        defect,
        ..Transport::with_ports([p0, p1, p2, p3])
    }
}

/// UDP, and UDP-Lite, where the length field is the checksum's coverage: 0 is everything, 1 to 7 are illegal (RFC 3828
/// section 3.1).
#[inline(always)]
fn udp(bytes: &[u8], fragment: Fragment, length: u32, lite: bool) -> Transport {
    let Some(&[p0, p1, p2, p3, l0, l1, _, _]) = bytes.first_chunk::<8>() else {
        return truncated(bytes, Defect::UdpTruncated);
    };
    let stated = u32::from(be16(l0, l1));
    // The length of a first fragment is that of the whole datagram.
    let beyond = stated > length && fragment != Fragment::First;
    let short = stated < 8 && !(lite && stated == 0);
    Transport {
        defect: (beyond || short).then_some(Defect::UdpLength),
        ..Transport::with_ports([p0, p1, p2, p3])
    }
}

fn icmp(bytes: &[u8], protocol: Protocol) -> Transport {
    let Some(&[kind, code, _, _, i0, i1, _, _]) = bytes.first_chunk::<8>() else {
        return Transport::defective(Defect::IcmpTruncated);
    };
    Transport {
        source: if has_identifier(protocol, kind) {
            be16(i0, i1)
        } else {
            0
        },
        destination: be16(kind, code),
        ..Transport::default()
    }
}

fn sctp(bytes: &[u8]) -> Transport {
    let Some(&[p0, p1, p2, p3, ..]) = bytes.first_chunk::<12>() else {
        return truncated(bytes, Defect::SctpTruncated);
    };
    Transport::with_ports([p0, p1, p2, p3])
}

/// GRE (RFC 2784, RFC 2890) and its version 1 (RFC 2637): the header has to be there as its flags say.
fn gre(bytes: &[u8], length: u32) -> Transport {
    let Some([flags, version]) = bytes_at::<2>(bytes, 0) else {
        return Transport::defective(Defect::GreTruncated);
    };
    let size = gre_header(flags, version);
    if size > length {
        return Transport::defective(Defect::GreTruncated);
    }
    Transport::default()
}

/// Bytes of a GRE header by its flags: checksum or routing, key, sequence number, and in version 1 an acknowledgement.
fn gre_header(flags: u8, version: u8) -> u32 {
    let has = |mask: u8, byte: u8| u32::from(byte & mask != 0) * 4;
    4 + has(0xc0, flags)
        + has(0x20, flags)
        + has(0x10, flags)
        + if version & 7 == 1 {
            has(0x80, version)
        } else {
            0
        }
}

/// A header that is not there in full, with its ports if they are.
#[cold]
fn truncated(bytes: &[u8], defect: Defect) -> Transport {
    Transport {
        defect: Some(defect),
        ..bytes_at(bytes, 0)
            .map(Transport::with_ports)
            .unwrap_or_default()
    }
}

/// Whether messages of this type are queries or answers, which carry an identifier. (Node information queries, RFC 4620, have
/// their query type in its place; it is the same in query and reply and serves as one.)
pub(super) fn has_identifier(protocol: Protocol, kind: u8) -> bool {
    icmp_answer(protocol, kind).is_some()
}

/// Where the 16-bit one's-complement checksum lies, for the protocols that have one at a fixed place.
pub(super) const fn checksum_at(protocol: Protocol) -> Option<usize> {
    match protocol {
        Protocol::TCP => Some(16),
        Protocol::UDP | Protocol::UDP_LITE => Some(6),
        Protocol::ICMP | Protocol::ICMPV6 => Some(2),
        _ => None,
    }
}

/// Whether the checksum includes a pseudo header of addresses.
pub(super) const fn has_pseudo_header(protocol: Protocol) -> bool {
    matches!(
        protocol,
        Protocol::TCP | Protocol::UDP | Protocol::UDP_LITE | Protocol::ICMPV6
    )
}

/// How many bytes the checksum covers, of `length` from the transport header on; `None` where the header says nonsense.
pub(super) fn coverage(bytes: &[u8], protocol: Protocol, length: u32) -> Option<u32> {
    match protocol {
        Protocol::UDP | Protocol::UDP_LITE => match u32::from(word_at(bytes, 4)?) {
            0 if protocol == Protocol::UDP_LITE => Some(length),
            covered if (8..=length).contains(&covered) => Some(covered),
            _ => None,
        },
        _ => Some(length),
    }
}
