//! Where the parts of an IP packet lie: what the two network headers have in common once they are read.
//!
//! Apart from both so that transport, quotation and rewriting know one shape.
//!
//! ```text
//!  0                    fragment_at          transport                        length
//!  | network header     | fragment header    | transport header and payload   | (link padding, cut off)
//! ```

use crate::key::{Family, Protocol};
use crate::packet::{Defect, Fragment};

/// The parts of one packet; offsets count from the network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// IP version.
    pub(super) family: Family,
    /// The transport protocol; for a later IPv6 fragment whatever its fragment header names.
    pub(super) protocol: Protocol,
    /// Offset of the transport header, 20 to 60 (IPv4), 40 to 16,424 (IPv6).
    pub(super) transport: u16,
    /// Bytes of the packet by its header.
    pub(super) length: u32,
    /// Whether it is a fragment.
    pub(super) fragment: Fragment,
    /// Offset of the IPv6 fragment header, 0 where there is none.
    pub(super) fragment_at: u16,
    /// Source-routed and not yet at its last hop: the destination address is not the one in the checksum.
    pub(super) routed: bool,
    /// What is wrong with it though it can be named.
    pub(super) defect: Option<Defect>,
}

impl Layout {
    /// Bytes from the transport header on, by the network header.
    #[inline]
    pub(super) fn transport_length(&self) -> u32 {
        self.length.saturating_sub(u32::from(self.transport))
    }
}

/// The largest datagram, fragments put together (RFC 791 section 3.1; RFC 8200 section 4.5).
pub(super) const DATAGRAM_MAX: u32 = 65_535;

/// Two bytes as a number.
pub(super) const fn be16(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

/// The `N` bytes at `at`, where they are there.
#[inline]
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The word at `at`, where it is there.
#[inline]
pub(super) fn word_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_be_bytes)
}

/// Puts `new` at `at`, if all of it fits, and says whether it did.
#[inline]
pub(super) fn put_at<const N: usize>(bytes: &mut [u8], at: usize, new: [u8; N]) -> bool {
    match bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<N>()) {
        Some(place) => {
            *place = new;
            true
        }
        None => false,
    }
}
