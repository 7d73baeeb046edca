//! Verifying transport checksums: the one thing in this folder that reads payload.
//!
//! Apart because nothing does it on a hit.

use super::layout::{bytes_at, word_at};
use super::transport::{coverage, has_pseudo_header};
use super::{Checksums, Frame, FrameKey, checksum, crc32c};
use crate::key::{Family, Protocol};
use crate::packet::Packet;

impl<K: FrameKey> Frame<'_, K> {
    /// [`Packet::is_intact`].
    ///
    /// True where it is not ours to say: checksums that somebody else looks after, fragments, bytes cut off, a source route
    /// (the checksum has an address that is not in the header), UDP without a checksum over IPv4 or IPv6, protocols that
    /// have none. False for a header too defective to find the checksum.
    pub(super) fn verify(&self) -> bool {
        let bytes = self.transport();
        let length = self.transport_length();
        if self.arrival.checksums != Checksums::Full
            || self.layout.fragment.is_part()
            || bytes.len() < length as usize
            || self.layout.routed
        {
            return true;
        }
        let protocol = self.layout.protocol;
        match protocol {
            Protocol::SCTP => sctp(bytes),
            Protocol::GRE => gre(bytes),
            Protocol::UDP if word_at(bytes, 6) == Some(0) => true,
            // Its checksum is mandatory (RFC 3828 section 3.1).
            Protocol::UDP_LITE if word_at(bytes, 6) == Some(0) => false,
            Protocol::TCP
            | Protocol::UDP
            | Protocol::UDP_LITE
            | Protocol::ICMP
            | Protocol::ICMPV6 => {
                let Some(covered) = coverage(bytes, protocol, length) else {
                    return false;
                };
                let sums_up = |covered: u32, length: u32| {
                    let sum = checksum::sum(bytes.get(..covered as usize).unwrap_or(bytes));
                    checksum::add(sum, self.pseudo(protocol, length)) == 0xffff
                };
                if protocol == Protocol::UDP {
                    // The pseudo header has UDP's own length (RFC 768). Where that is less than the packet's, some senders
                    // and middleboxes take the packet's and sum all of it (RFC 9868 section 9 allows for them): either is
                    // taken for right.
                    sums_up(covered, covered) || covered < length && sums_up(length, length)
                } else {
                    sums_up(covered, length)
                }
            }
            _ => true,
        }
    }

    /// The sum of the pseudo header, 0 for a protocol without one.
    fn pseudo(&self, protocol: Protocol, length: u32) -> u16 {
        if !has_pseudo_header(protocol) {
            return 0;
        }
        let zero = ([0; 16], [0; 4]);
        match self.layout.family {
            Family::V4 => checksum::pseudo_v4(
                bytes_at(&self.packet, 12).unwrap_or(zero.1).into(),
                bytes_at(&self.packet, 16).unwrap_or(zero.1).into(),
                protocol,
                length,
            ),
            Family::V6 => checksum::pseudo_v6(
                bytes_at(&self.packet, 8).unwrap_or(zero.0).into(),
                bytes_at(&self.packet, 24).unwrap_or(zero.0).into(),
                protocol,
                length,
            ),
        }
    }
}

/// CRC32c over the packet with the checksum field zero, least significant byte first (RFC 9260 section 6.8).
fn sctp(bytes: &[u8]) -> bool {
    let (Some(head), Some(field), Some(tail)) =
        (bytes.get(..8), bytes_at::<4>(bytes, 8), bytes.get(12..))
    else {
        return false;
    };
    crc32c::crc32c(&[head, &[0; 4], tail]) == u32::from_le_bytes(field)
}

/// The optional checksum of header and payload (RFC 2784 section 2.3).
fn gre(bytes: &[u8]) -> bool {
    match bytes {
        [flags, version, ..] if flags & 0x80 != 0 && version & 7 == 0 => {
            checksum::sum(bytes) == 0xffff
        }
        _ => true,
    }
}
