//! How a datagram was cut into fragments, and cutting it so again.
//!
//! Apart from [`Reassembler`](super::Reassembler), which puts together and judges, because this is for what comes behind the hooks: a
//! datagram that came in pieces leaves in pieces, no larger than they were.
//!
//! ```text
//!  fragments ─► Reassembler ─► datagram ─► hooks ─► Cut::fragments ─► fragments
//! ```
//!
//! Sources: RFC 791 section 3.2; RFC 8200 section 4.5; RFC 6864 section 4 (the identification is the sender's).

use alloc::vec::Vec;

use super::build::BuildError;
use super::checksum;
use super::ipv4::{DONT_FRAGMENT, MORE};
use super::layout::{bytes_at, put_at};

/// How a datagram came in fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// What they had in common: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// Bytes of the largest, network header included.
    pub largest: u32,
    /// Bytes that each repeated: the network header; for IPv6 with the extension headers before the fragment header.
    pub repeated: u32,
    /// Whether IPv4's "don't fragment" bit was set in one of them.
    pub dont_fragment: bool,
}

impl Cut {
    /// The datagram in fragments of at most `mtu` bytes, and no larger than those that it came in; by itself where it is no larger. Later
    /// IPv4 fragments repeat the options that are to be copied (RFC 791 section 3.1).
    ///
    /// ```
    /// use gufc::key::Tuple;
    /// use gufc::time::Instant;
    /// use gufc::wire::build::{Datagram, Transport};
    /// use gufc::wire::{Arrival, Frame, Limits, Reassembler, Reassembly};
    ///
    /// let large = Datagram::new("2001:db8::1".parse()?, "2001:db8::2".parse()?, Transport::udp(5, 53)).with_payload(&[7; 3000]);
    /// let came = large.fragments(1280)?;
    /// let mut reassembler = Reassembler::new(Limits::default());
    /// let mut datagram = Vec::new();
    /// for mut piece in came.clone() {
    ///     let frame: Frame = Frame::ip(&mut piece, &Arrival::default())?;
    ///     if let Reassembly::Complete(bytes) = reassembler.push(&frame, Instant::START) {
    ///         datagram = bytes.to_vec();
    ///     }
    /// }
    /// assert_eq!(reassembler.cut().fragments(&datagram, 1500)?, came);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError::Mtu`] where there is no room for eight bytes of payload, [`BuildError::Options`] where `packet` has not the headers of
    /// the datagram. Cost: one pass over it, one allocation a fragment.
    pub fn fragments(&self, packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, BuildError> {
        let limit = mtu.min(self.largest as usize);
        if packet.len() <= limit {
            return Ok(alloc::vec![packet.to_vec()]);
        }
        let (header, payload) = packet
            .split_at_checked(self.repeated as usize)
            .ok_or(BuildError::Options)?;
        let is_v6 = match header.first().map(|byte| byte >> 4) {
            Some(4) if header.len() >= 20 => false,
            Some(6) if header.len() >= 40 => true,
            _ => return Err(BuildError::Options),
        };
        let added = if is_v6 { 8 } else { 0 };
        let room = limit.saturating_sub(header.len() + added) & !7;
        if room == 0 {
            return Err(BuildError::Mtu);
        }
        let last = payload.len().saturating_sub(1) / room;
        let piece = |(number, part): (usize, &[u8])| {
            let (offset, more) = (number * room, number < last);
            if is_v6 {
                self.piece_v6(header, part, offset, more)
            } else {
                self.piece_v4(header, part, offset, more)
            }
        };
        payload.chunks(room).enumerate().map(piece).collect()
    }

    fn piece_v4(
        &self,
        header: &[u8],
        part: &[u8],
        offset: usize,
        more: bool,
    ) -> Result<Vec<u8>, BuildError> {
        let (fixed, options) = header.split_at_checked(20).ok_or(BuildError::Options)?;
        let mut bytes = fixed.to_vec();
        if offset == 0 {
            bytes.extend_from_slice(options);
        } else {
            copy_options(options, &mut bytes);
        }
        let size = bytes.len();
        let length = u16::try_from(size + part.len()).map_err(|_| BuildError::TooLong)?;
        let word = (offset / 8) as u16
            | if more { MORE } else { 0 }
            | if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        put_at(&mut bytes, 0, [0x40 | (size / 4) as u8]);
        put_at(&mut bytes, 2, length.to_be_bytes());
        put_at(&mut bytes, 4, (self.identification as u16).to_be_bytes());
        put_at(&mut bytes, 6, word.to_be_bytes());
        put_at(&mut bytes, 10, [0; 2]);
        let sum = !checksum::sum(&bytes);
        put_at(&mut bytes, 10, sum.to_be_bytes());
        bytes.extend_from_slice(part);
        Ok(bytes)
    }

    fn piece_v6(
        &self,
        header: &[u8],
        part: &[u8],
        offset: usize,
        more: bool,
    ) -> Result<Vec<u8>, BuildError> {
        let at = next_header_at(header);
        let [next] = bytes_at(header, at).ok_or(BuildError::Options)?;
        let mut bytes = header.to_vec();
        put_at(&mut bytes, at, [super::ipv6::FRAGMENT]);
        let length =
            u16::try_from(header.len() + 8 + part.len() - 40).map_err(|_| BuildError::TooLong)?;
        put_at(&mut bytes, 4, length.to_be_bytes());
        bytes.extend_from_slice(&[next, 0]);
        bytes.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
        bytes.extend_from_slice(&self.identification.to_be_bytes());
        bytes.extend_from_slice(part);
        Ok(bytes)
    }
}

/// Appends the options that later fragments repeat, padded to a multiple of four bytes.
fn copy_options(mut options: &[u8], to: &mut Vec<u8>) {
    /// The bit of an option's kind that asks for it.
    const COPIED: u8 = 0x80;
    while let Some(kind) = options.first() {
        let size = match (kind, options.get(1)) {
            (0, _) => break,
            (1, _) => 1,
            (_, Some(size)) => usize::from(*size).max(2),
            (_, None) => break,
        };
        let Some((option, rest)) = options.split_at_checked(size) else {
            break;
        };
        if kind & COPIED != 0 {
            to.extend_from_slice(option);
        }
        options = rest;
    }
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Where in an IPv6 header and its extension headers the number stands of what follows them.
pub(super) fn next_header_at(header: &[u8]) -> usize {
    let (mut place, mut at) = (6, super::ipv6::HEADER);
    while let Some([_, words]) = bytes_at::<2>(header, at) {
        place = at;
        at += (usize::from(words) + 1) * 8;
    }
    place
}
