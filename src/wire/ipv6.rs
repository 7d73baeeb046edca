//! IPv6 (RFC 8200): the fixed header and the chain of extension headers behind it.
//!
//! The chain is walked once, at most [`HEADERS_MAX`] headers long, so that no packet costs more than that.
//!
//! ```text
//!  0        4                12                                       32
//!  | version| traffic class  | flow label                              |  0
//!  | payload length                    | next header  | hop limit      |  4
//!  | source                                                            |  8
//!  | destination                                                       | 24
//!  | extension headers: next header 8, length 8, ...                   | 40
//! ```

use core::net::Ipv6Addr;

use super::layout::{DATAGRAM_MAX, Layout, be16, bytes_at};
use crate::key::{Family, Protocol};
use crate::packet::{Defect, Fragment};

/// Bytes of the fixed header.
pub(super) const HEADER: usize = 40;
/// Extension headers that are followed; no sane packet has more than four or five (RFC 8504 section 5.3 lets a host limit
/// them).
pub(super) const HEADERS_MAX: usize = 8;

const _: () = assert!(
    HEADER + HEADERS_MAX * 256 * 8 < 1 << 16,
    "an offset of the transport header fits 16 bits: each extension header is at most 256 times 8 bytes"
);

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// What the header and its chain say.
pub(super) struct Header {
    pub(super) layout: Layout,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
}

/// Reads the fixed header and follows the chain; whether the packet is there in full ([`Layout::length`]) is the caller's to
/// check, since the quotations of ICMP errors are not.
///
/// Cost: O(extension headers), at most [`HEADERS_MAX`].
#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<Header, Defect> {
    let head = bytes.first_chunk::<HEADER>().ok_or(Defect::Ipv6Truncated)?;
    let [first, _, _, _, l0, l1, next, _, addresses @ ..] = head;
    if first >> 4 != 6 {
        return Err(Defect::Ipv6Version);
    }
    let mut layout = Layout {
        family: Family::V6,
        protocol: Protocol(*next),
        transport: HEADER as u16,
        length: HEADER as u32 + u32::from(be16(*l0, *l1)),
        fragment: Fragment::Whole,
        fragment_at: 0,
        routed: false,
        defect: None,
    };
    if is_extension(*next) {
        if let Err(defect) = walk(bytes, &mut layout) {
            layout.defect = Some(defect);
        }
    }
    let (source, destination) = split(addresses);
    Ok(Header {
        layout,
        source,
        destination,
    })
}

/// Whether a next header number names an extension header that has another header behind it.
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
    )
}

/// Follows the chain to the transport header, to an opaque header (ESP, "no next header"), or to the end of what a later
/// fragment shows. Where the chain is malformed, `layout` stands at the header that is, and names it as the protocol.
fn walk(bytes: &[u8], layout: &mut Layout) -> Result<(), Defect> {
    for count in 0..=HEADERS_MAX {
        let Protocol(next) = layout.protocol;
        if !is_extension(next) || layout.fragment == Fragment::Later {
            break;
        }
        if count == HEADERS_MAX || next == HOP_BY_HOP && count > 0 {
            return Err(Defect::Ipv6ExtensionChain);
        }
        let at = usize::from(layout.transport);
        let [following, words, b2, b3] = bytes_at(bytes, at).ok_or(Defect::Ipv6Extension)?;
        let size = match next {
            FRAGMENT => 8,
            AUTHENTICATION => (u16::from(words) + 2) * 4,
            _ => (u16::from(words) + 1) * 8,
        };
        let end = layout.transport + size;
        if u32::from(end) > layout.length || usize::from(end) > bytes.len() {
            return Err(Defect::Ipv6Extension);
        }
        match next {
            FRAGMENT if layout.fragment_at != 0 => return Err(Defect::Ipv6ExtensionChain),
            FRAGMENT => fragment(layout, be16(b2, b3), end),
            // Segments left.
            ROUTING if b3 != 0 => layout.routed = true,
            _ => {}
        }
        layout.transport = end;
        layout.protocol = Protocol(following);
    }
    Ok(())
}

/// Notes the fragment header at the end of what was read so far; `word` is its offset and flags, `end` where it ends.
fn fragment(layout: &mut Layout, word: u16, end: u16) {
    let (offset, more) = (u32::from(word & !7), word & 1 != 0);
    layout.fragment_at = layout.transport;
    layout.fragment = match (offset, more) {
        (0, false) => Fragment::Atomic,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    let piece = layout.length.saturating_sub(u32::from(end));
    let unfragmentable = u32::from(layout.transport) - HEADER as u32;
    if unfragmentable + offset + piece > DATAGRAM_MAX || more && piece % 8 != 0 {
        layout.defect = Some(Defect::FragmentRange);
    }
}

/// Both addresses of a header.
#[inline]
fn split(addresses: &[u8; 32]) -> (Ipv6Addr, Ipv6Addr) {
    let mut source = [0; 16];
    let mut destination = [0; 16];
    let (s, d) = addresses.split_at(16);
    source.copy_from_slice(s);
    destination.copy_from_slice(d);
    (source.into(), destination.into())
}

/// Writes both addresses. False, and no change, without a header.
#[inline]
pub(super) fn set_addresses(bytes: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) -> bool {
    let Some([_, _, _, _, _, _, _, _, addresses @ ..]) = bytes.first_chunk_mut::<HEADER>() else {
        return false;
    };
    let (s, d) = addresses.split_at_mut(16);
    s.copy_from_slice(&source.octets());
    d.copy_from_slice(&destination.octets());
    true
}

/// Sets the hop limit.
pub(super) fn set_hop_limit(bytes: &mut [u8], hop_limit: u8) {
    if let Some([_, _, _, _, _, _, _, place, ..]) = bytes.first_chunk_mut::<HEADER>() {
        *place = hop_limit;
    }
}

/// Identification, offset in bytes, and whether more fragments follow, from the fragment header at `at`.
pub(super) fn piece(bytes: &[u8], at: usize) -> Option<(u32, u32, bool)> {
    let [_, _, o0, o1, id @ ..] = bytes_at::<8>(bytes, at)?;
    Some((
        u32::from_be_bytes(id),
        u32::from(be16(o0, o1) & !7),
        o1 & 1 != 0,
    ))
}
