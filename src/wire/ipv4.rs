//! IPv4 (RFC 791): reading the header, and writing what may change in it.
//!
//! ```text
//!  0        4        8               16               24              32
//!  | version| length | service       | total length                    |  0
//!  | identification                  | flags  | fragment offset        |  4
//!  | time to live    | protocol      | header checksum                 |  8
//!  | source                                                            | 12
//!  | destination                                                       | 16
//!  | options, 0 to 40 bytes                                            | 20
//! ```

use core::net::Ipv4Addr;

use super::checksum;
use super::layout::{DATAGRAM_MAX, Layout, be16};
use crate::key::{Family, Protocol};
use crate::packet::{Defect, Fragment};

/// Bytes of the header without options.
pub(super) const HEADER: usize = 20;
/// The "more fragments" bit of the word at byte 6.
pub(super) const MORE: u16 = 0x2000;
/// The "don't fragment" bit of the word at byte 6.
pub(super) const DONT_FRAGMENT: u16 = 0x4000;
/// The fragment offset in the word at byte 6, in units of 8 bytes.
const OFFSET: u16 = 0x1fff;

/// What the header says.
pub(super) struct Header {
    pub(super) layout: Layout,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
}

/// Reads a header and checks what the header alone can tell: not that the packet is there in full
/// ([`Layout::length`]), nor the checksum ([`is_intact`]), since the quotations of ICMP errors may lack both.
///
/// Cost: O(1).
#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<Header, Defect> {
    let head = bytes.first_chunk::<HEADER>().ok_or(Defect::Ipv4Truncated)?;
    let &[
        first,
        _,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = head;
    if first >> 4 != 4 {
        return Err(Defect::Ipv4Version);
    }
    let header = u16::from(first & 15) * 4;
    let length = u32::from(be16(l0, l1));
    if header < HEADER as u16 || u32::from(header) > length {
        return Err(Defect::Ipv4HeaderLength);
    }
    let word = be16(f0, f1);
    let offset = u32::from(word & OFFSET) * 8;
    let fragment = match (offset, word & MORE) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    };
    let mut layout = Layout {
        family: Family::V4,
        protocol: Protocol(protocol),
        transport: header,
        length,
        fragment,
        fragment_at: 0,
        routed: false,
        defect: None,
    };
    if header > HEADER as u16 {
        let options = bytes
            .get(HEADER..usize::from(header))
            .ok_or(Defect::Ipv4Truncated)?;
        layout.routed = is_source_routed(options);
    }
    if offset + layout.transport_length() > DATAGRAM_MAX - HEADER as u32 {
        layout.defect = Some(Defect::FragmentRange);
    }
    Ok(Header {
        layout,
        source: Ipv4Addr::new(s0, s1, s2, s3),
        destination: Ipv4Addr::new(d0, d1, d2, d3),
    })
}

/// [`read`] for a header without options of a packet that is no fragment, and for no other: nearly all, and with what is then
/// constant left constant.
#[inline(always)]
pub(super) fn read_plain(bytes: &[u8]) -> Option<Header> {
    let head = bytes.first_chunk::<HEADER>()?;
    let &[
        first,
        _,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = head;
    let length = u32::from(be16(l0, l1));
    let plain = first == 0x45 && be16(f0, f1) & (MORE | OFFSET) == 0 && length >= HEADER as u32;
    plain.then_some(Header {
        layout: Layout {
            family: Family::V4,
            protocol: Protocol(protocol),
            transport: HEADER as u16,
            length,
            fragment: Fragment::Whole,
            fragment_at: 0,
            routed: false,
            defect: None,
        },
        source: Ipv4Addr::new(s0, s1, s2, s3),
        destination: Ipv4Addr::new(d0, d1, d2, d3),
    })
}

/// Whether the header checksum is right. Cost: one pass over the header, at most 60 bytes.
#[inline]
pub(super) fn is_intact(bytes: &[u8], layout: &Layout) -> bool {
    if usize::from(layout.transport) == HEADER {
        return bytes
            .first_chunk::<HEADER>()
            .is_some_and(|head| checksum::sum_20(head) == 0xffff);
    }
    bytes
        .get(..usize::from(layout.transport))
        .is_some_and(|header| checksum::sum(header) == 0xffff)
}

/// Whether a source route option has hops left (RFC 791 section 3.1: the pointer is not beyond the option).
#[inline(never)]
fn is_source_routed(mut options: &[u8]) -> bool {
    loop {
        match options {
            [1, rest @ ..] => options = rest,
            [kind, length, rest @ ..] if *kind != 0 => {
                if matches!(kind, 131 | 137) {
                    return rest.first().is_some_and(|pointer| pointer <= length);
                }
                match options.get(usize::from(*length)..) {
                    Some(next) if *length >= 2 => options = next,
                    _ => return false,
                }
            }
            _ => return false,
        }
    }
}

/// Writes both addresses and updates the header checksum by `difference`. False, and no change, without a header.
#[inline]
pub(super) fn set_addresses(
    bytes: &mut [u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    difference: u16,
) -> bool {
    let Some(head) = bytes.first_chunk_mut::<HEADER>() else {
        return false;
    };
    let [_, _, _, _, _, _, _, _, _, _, c0, c1, addresses @ ..] = head;
    let [s0, s1, s2, s3] = source.octets();
    let [d0, d1, d2, d3] = destination.octets();
    *addresses = [s0, s1, s2, s3, d0, d1, d2, d3];
    [*c0, *c1] = checksum::update(be16(*c0, *c1), difference).to_be_bytes();
    true
}

/// Sets the time to live and updates the header checksum.
#[inline]
pub(super) fn set_time_to_live(bytes: &mut [u8], time_to_live: u8) {
    if let Some([_, _, _, _, _, _, _, _, ttl, protocol, c0, c1, ..]) =
        bytes.first_chunk_mut::<HEADER>()
    {
        let difference = checksum::difference(be16(*ttl, *protocol), be16(time_to_live, *protocol));
        *ttl = time_to_live;
        [*c0, *c1] = checksum::update(be16(*c0, *c1), difference).to_be_bytes();
    }
}

/// Identification, offset in bytes, and whether more fragments follow.
pub(super) fn piece(bytes: &[u8]) -> Option<(u32, u32, bool)> {
    let &[_, _, _, _, i0, i1, f0, f1, ..] = bytes.first_chunk::<HEADER>()?;
    let word = be16(f0, f1);
    Some((
        u32::from(be16(i0, i1)),
        u32::from(word & OFFSET) * 8,
        word & MORE != 0,
    ))
}
