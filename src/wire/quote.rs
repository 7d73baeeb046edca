//! The packet that an ICMP error quotes: finding it, and naming its flow.
//!
//! Apart from the frame because a quotation is read by other rules: it may end after eight transport bytes, its length field
//! speaks of bytes that are not there, and its checksums are nobody's promise.
//!
//! ```text
//!  ICMP and ICMPv6 errors   | type, code, checksum, 4 more | quoted packet ...
//!  ICMPv6 redirect          | type, code, checksum, 4 more | target 16 | destination 16 | options: 4, length, 6 more | quoted
//! ```

use super::layout::{Layout, bytes_at};
use super::transport::{self, Transport};
use super::{ipv4, ipv6};
use crate::key::{Protocol, SevenTuple};
use crate::packet::Fragment;
use core::net::{Ipv4Addr, Ipv6Addr};

/// Options of a redirect that are looked at for the quoted packet.
const OPTIONS_MAX: usize = 4;

/// A quoted packet: its layout, and the name of its flow in zone 0 with nobody local.
pub(super) enum Quote {
    V4(Layout, SevenTuple<Ipv4Addr>),
    V6(Layout, SevenTuple<Ipv6Addr>),
}

impl Quote {
    pub(super) fn layout(&self) -> &Layout {
        match self {
            Self::V4(layout, _) | Self::V6(layout, _) => layout,
        }
    }
}

/// Where in the ICMP message the quoted packet begins; `None` for messages that quote none.
///
/// Errors are types 3, 4, 5, 11 and 12 of ICMP; all types below 128 of ICMPv6, and redirects (137, code 0) that have the
/// redirected-header option (RFC 4861 section 4.6.3).
pub(super) fn begin(message: &[u8], protocol: Protocol) -> Option<usize> {
    let [kind, code] = bytes_at(message, 0)?;
    match (protocol, kind) {
        (Protocol::ICMP, 3 | 4 | 5 | 11 | 12) | (Protocol::ICMPV6, 0..=127) => Some(8),
        (Protocol::ICMPV6, 137) if code == 0 => redirected(message),
        _ => None,
    }
}

fn redirected(message: &[u8]) -> Option<usize> {
    let mut at = 40;
    for _ in 0..OPTIONS_MAX {
        match bytes_at(message, at)? {
            [_, 0] => return None,
            [4, _] => return Some(at + 8),
            [_, units] => at += usize::from(units) * 8,
        }
    }
    None
}

/// Reads the quoted packet at the start of `bytes`; `v4` says which version it must be.
///
/// `None` when the header cannot be read, for a later fragment, and when the bytes end before the ports (four bytes) or the
/// ICMP header (eight). Cost: O(extension headers).
pub(super) fn read(bytes: &[u8], v4: bool) -> Option<Quote> {
    if v4 {
        let header = ipv4::read(bytes).ok()?;
        let Transport {
            source,
            destination,
            ..
        } = ends(bytes, &header.layout)?;
        let tuple = SevenTuple::new(
            header.source,
            header.destination,
            header.layout.protocol,
            source,
            destination,
        );
        Some(Quote::V4(header.layout, tuple))
    } else {
        let header = ipv6::read(bytes).ok()?;
        let Transport {
            source,
            destination,
            ..
        } = ends(bytes, &header.layout)?;
        let tuple = SevenTuple::new(
            header.source,
            header.destination,
            header.layout.protocol,
            source,
            destination,
        );
        Some(Quote::V6(header.layout, tuple))
    }
}

/// The ports; whatever else is wrong with the quoted transport header does not matter.
fn ends(bytes: &[u8], layout: &Layout) -> Option<Transport> {
    if layout.fragment == Fragment::Later || layout.defect.is_some() {
        return None;
    }
    let transport = bytes.get(usize::from(layout.transport)..)?;
    let needed = match layout.protocol {
        protocol if protocol.has_ports() => 4,
        protocol if protocol.is_icmp() => 8,
        _ => 0,
    };
    transport.get(..needed)?;
    Some(transport::read(transport, layout))
}
