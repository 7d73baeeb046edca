//! Exchanging bytes of a packet's payload for others, more or fewer, and TCP's numbers that follow from it: what application
//! helpers of a translator need.
//!
//! Apart from rewriting because lengths change. What is longer begins earlier, in the room before the packet; what is shorter
//! ends earlier, so that a link header before it stays where it is.
//!
//! ```text
//!  longer    | headroom [ IP ][ TCP ][ a ][ old ][ b ]|
//!            |    [ IP ][ TCP ][ a ][ new, longer ][ b ]|      headers and `a` move forward
//!  shorter   [ IP ][ TCP ][ a ][ old ][ b ]
//!            [ IP ][ TCP ][ a ][ new ][ b ]                     `b` moves forward
//! ```

use core::ops::Range;

use super::layout::{DATAGRAM_MAX, bytes_at, put_at, word_at};
use super::rewrite::fix;
use super::{Checksums, Frame, FrameKey, checksum, ipv6};
use crate::key::{Family, Protocol};
use crate::packet::{Segment, Seq, TcpFlags, Unspliceable};

impl<K: FrameKey> Frame<'_, K> {
    /// [`Packet::splice`](crate::packet::Packet::splice).
    pub(super) fn exchange(&mut self, at: Range<usize>, new: &[u8]) -> Result<(), Unspliceable> {
        let protocol = self.layout.protocol;
        let transport = usize::from(self.layout.transport);
        let bytes = self.packet.get(transport..).unwrap_or(&[]);
        let present = bytes.len();
        let header = match (protocol, bytes_at(bytes, 12)) {
            (Protocol::UDP, _) => 8,
            (Protocol::TCP, Some([offset])) => usize::from(offset >> 4) * 4,
            (Protocol::TCP, None) => return Err(Unspliceable::Incomplete),
            _ => return Err(Unspliceable::Protocol),
        };
        let stated = self.layout.transport_length() as usize;
        if self.defect.is_some() || self.layout.fragment.is_part() || present != stated {
            return Err(Unspliceable::Incomplete);
        }
        // A datagram that is shorter than its packet is left alone: over which of the two its checksum goes is not agreed upon.
        if protocol == Protocol::UDP
            && word_at(bytes, 4).is_none_or(|own| usize::from(own) != present)
        {
            return Err(Unspliceable::Incomplete);
        }
        if at.start < header || at.end < at.start || at.end > present {
            return Err(Unspliceable::Range);
        }
        let (old_length, length) = (present, present - at.len() + new.len());
        let counted = match self.layout.family {
            Family::V4 => transport + length,
            Family::V6 => transport + length - ipv6::HEADER,
        };
        if counted > DATAGRAM_MAX as usize {
            return Err(Unspliceable::TooLong);
        }
        // Everything behind the first byte that changes may come to lie at another parity.
        let even = at.start & !1;
        let before = checksum::sum(bytes.get(even..).unwrap_or(&[]));
        let (buffer, begin) = self.packet.buffer();
        let place = begin + transport + at.start;
        if new.len() > at.len() {
            let growth = new.len() - at.len();
            let start = begin.checked_sub(growth).ok_or(Unspliceable::Room)?;
            if place <= buffer.len() {
                buffer.copy_within(begin..place, start);
            }
            self.packet.set_begin(start);
        } else {
            let (tail, to) = (begin + transport + at.end, place + new.len());
            if tail <= buffer.len() && to <= tail {
                buffer.copy_within(tail.., to);
            }
            self.packet
                .set_end(begin.saturating_add(transport + length));
        }
        let place = self.packet.get_mut(transport + at.start..);
        super::translate::write(place.unwrap_or(&mut []), new.iter());
        self.layout.length = (transport + length) as u32;
        self.put_length(counted as u16);
        let checksums = self.arrival.checksums;
        let Some(bytes) = self.packet.get_mut(transport..) else {
            return Ok(());
        };
        let after = checksum::sum(bytes.get(even..).unwrap_or(&[]));
        let mut change = checksum::difference(before, after);
        let lengths = checksum::difference(old_length as u16, length as u16);
        if protocol == Protocol::UDP {
            put_at(bytes, 4, (length as u16).to_be_bytes());
            change = checksum::add(change, lengths);
        }
        fix(bytes, protocol, lengths, change, checksums);
        Ok(())
    }

    /// Writes the network header's length field, and lets the header checksum follow.
    fn put_length(&mut self, length: u16) {
        let at = match self.layout.family {
            Family::V4 => 2,
            Family::V6 => 4,
        };
        let Some(old) = word_at(&self.packet, at) else {
            return;
        };
        put_at(&mut self.packet, at, length.to_be_bytes());
        if self.layout.family == Family::V4 {
            if let Some(sum) = word_at(&self.packet, 10) {
                let sum = checksum::update(sum, checksum::difference(old, length));
                put_at(&mut self.packet, 10, sum.to_be_bytes());
            }
        }
    }

    /// [`Packet::renumber`](crate::packet::Packet::renumber).
    pub(super) fn put_numbers(&mut self, segment: &Segment) -> bool {
        if self.layout.protocol != Protocol::TCP
            || self.layout.fragment.is_part()
            || self.defect.is_some()
        {
            return false;
        }
        let checksums = self.arrival.checksums;
        let Some(bytes) = self.packet.get_mut(usize::from(self.layout.transport)..) else {
            return false;
        };
        let Some([offset, flags]) = bytes_at(bytes, 12) else {
            return false;
        };
        let mut change = put_seq(bytes, 4, segment.seq);
        if TcpFlags(flags).contains(TcpFlags::ACK) {
            change = checksum::add(change, put_seq(bytes, 8, segment.ack));
        }
        let edges = segment
            .options
            .sack_ranges()
            .iter()
            .flat_map(|(left, right)| [*left, *right]);
        if let Some((first, blocks)) = sack_option(bytes, usize::from(offset >> 4) * 4) {
            for (number, edge) in edges.take(2 * blocks).enumerate() {
                change = checksum::add(change, put_seq(bytes, first + 4 * number, edge));
            }
        }
        if checksums == Checksums::Full {
            fix(bytes, Protocol::TCP, 0, change, checksums);
        }
        true
    }
}

/// Puts a number at `at`, and gives what that changes in the sum.
fn put_seq(bytes: &mut [u8], at: usize, new: Seq) -> u16 {
    let Some(old) = bytes_at::<4>(bytes, at) else {
        return 0;
    };
    let new = new.0.to_be_bytes();
    put_at(bytes, at, new);
    let change = checksum::difference(checksum::sum(&old), checksum::sum(&new));
    // At an odd offset its bytes are the other halves of words (RFC 1071 section 2 B).
    if at % 2 == 0 {
        change
    } else {
        change.swap_bytes()
    }
}

/// Where the edges of the first selective acknowledgement lie in a TCP header, and how many blocks there are; at most four.
fn sack_option(segment: &[u8], header: usize) -> Option<(usize, usize)> {
    let options = segment.get(20..header)?;
    let mut at = 0;
    loop {
        match options.get(at..)? {
            [1, ..] => at += 1,
            [5, length, rest @ ..] if *length > 2 && (*length - 2) % 8 == 0 => {
                let bytes = usize::from(*length) - 2;
                return (rest.len() >= bytes).then_some((20 + at + 2, (bytes / 8).min(4)));
            }
            [0, ..] => return None,
            [_, length, ..] if *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    }
}
