//! The Internet checksum: one's-complement sums (RFC 1071) and incremental updates (RFC 1624, equation 3).
//!
//! Apart from the protocols because all of them share it, and because a rewrite never needs more than
//! [`difference`] and [`update`].
//!
//! A *sum* is the one's-complement sum of big-endian 16-bit words; a *checksum* is its complement, as it stands in a header.
//! Zero has two forms, 0x0000 and 0xffff. A sum of data that are not all zero is never 0x0000, so a computed checksum is
//! never 0xffff; both forms verify.
//!
//! ```
//! use gufc::wire::checksum::{checksum, difference, sum, update};
//!
//! // RFC 1071 section 3.
//! assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
//! // RFC 1624 section 4: 0xdd2f, word 0x5555 becomes 0x3285.
//! assert_eq!(update(0xdd2f, difference(0x5555, 0x3285)), 0x0000);
//! assert_eq!(checksum(&[0xff, 0xff, 0, 0]), 0);
//! ```

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::key::Protocol;

/// One's-complement sum of `bytes` as big-endian words; an odd last byte counts as the high half of a word.
///
/// Cost: one pass over `bytes`, four bytes a step.
pub fn sum(bytes: &[u8]) -> u16 {
    // The sum may be taken in any byte order and swapped at the end (RFC 1071 section 2 B).
    let mut total = 0u64;
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        if let &[a, b, c, d] = chunk {
            total += u64::from(u32::from_ne_bytes([a, b, c, d]));
        }
    }
    let last = match *chunks.remainder() {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    total += u64::from(u32::from_ne_bytes(last));
    u16::from_be(fold(total))
}

/// [`sum`] of an IPv4 header without options, which every packet pays for: five words in no loop.
#[inline]
pub(super) fn sum_20(header: &[u8; 20]) -> u16 {
    let &[
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        b2,
        b3,
        c0,
        c1,
        c2,
        c3,
        d0,
        d1,
        d2,
        d3,
        e0,
        e1,
        e2,
        e3,
    ] = header;
    let word = |bytes: [u8; 4]| u64::from(u32::from_ne_bytes(bytes));
    u16::from_be(fold(
        word([a0, a1, a2, a3])
            + word([b0, b1, b2, b3])
            + word([c0, c1, c2, c3])
            + word([d0, d1, d2, d3])
            + word([e0, e1, e2, e3]),
    ))
}

/// The checksum of `bytes`: the complement of [`sum`].
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// One's-complement addition of two sums.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// What a word that changes from `old` to `new` adds to a sum: `!old + new`.
#[inline]
pub const fn difference(old: u16, new: u16) -> u16 {
    add(!old, new)
}

/// The checksum after its data changed by `difference`: `!(!checksum + difference)`, equation 3 of RFC 1624.
///
/// A wrong checksum stays wrong by the same amount: errors are kept, not masked.
#[inline]
pub const fn update(checksum: u16, difference: u16) -> u16 {
    !add(!checksum, difference)
}

/// Sum of IPv4's pseudo header: addresses, protocol and transport length (RFC 9293 section 3.1).
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: Protocol, length: u32) -> u16 {
    fold(
        u64::from(source.to_bits())
            + u64::from(destination.to_bits())
            + u64::from(protocol.0)
            + u64::from(length),
    )
}

/// Sum of IPv6's pseudo header: addresses, upper-layer length and protocol (RFC 8200 section 8.1).
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: Protocol, length: u32) -> u16 {
    let addresses = [source.to_bits(), destination.to_bits()];
    let words = addresses
        .iter()
        .flat_map(|bits| [96, 64, 32, 0].map(|shift| u64::from((bits >> shift) as u32)));
    fold(words.sum::<u64>() + u64::from(protocol.0) + u64::from(length))
}

/// A sum of many words as one word.
///
/// Four rounds at most: 64 bits fold to 33, then 18, then 17, then 16.
#[inline]
const fn fold(mut total: u64) -> u16 {
    total = (total >> 32) + (total & 0xffff_ffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The definition of RFC 1071, word by word.
    fn slow(bytes: &[u8]) -> u16 {
        let mut total = 0u16;
        for pair in bytes.chunks(2) {
            let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
            total = add(total, word);
        }
        total
    }

    #[test]
    fn worked_cases() {
        // An IPv4 header and its two changes, worked by hand: source address, then time to live 64 to 63.
        let header = [
            0x45, 0, 0, 0x28, 0x12, 0x34, 0x40, 0, 0x40, 6, 0, 0, 192, 168, 1, 10, 198, 51, 100, 7,
        ];
        assert_eq!(checksum(&header), 0x3caf);
        let source = add(difference(0xc0a8, 0xcb00), difference(0x010a, 0x7105));
        assert_eq!(update(0x3caf, source), 0xc25b);
        assert_eq!(update(0xc25b, difference(0x4006, 0x3f06)), 0xc35b);
    }

    #[test]
    fn all_ones_fold() {
        assert_eq!(sum(&[0xff; 65_535]), 0xff00);
        assert_eq!(fold(u64::MAX), 0xffff);
    }

    proptest! {
        /// The fast sum is the definition's, up to the two forms of zero, for every length and alignment.
        #[test]
        fn sum_agrees(bytes in proptest::collection::vec(any::<u8>(), 0..80), skip in 0usize..4) {
            let bytes = bytes.get(skip..).unwrap_or(&[]);
            prop_assert_eq!(sum(bytes), slow(bytes));
        }

        /// An update gives what the full computation gives, exactly, when the data are not all zero afterwards.
        #[test]
        fn update_agrees(mut words in proptest::collection::vec(0u16..4, 1..6), at in 0usize..6, new: u16) {
            let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
            let old = checksum(&bytes(&words));
            let at = at % words.len();
            let change = difference(words[at], new);
            words[at] = new;
            let all_zero = words.iter().all(|w| *w == 0);
            let (updated, full) = (update(old, change), checksum(&bytes(&words)));
            prop_assert!(updated == full || all_zero && updated == 0, "{updated:#x} {full:#x}");
        }

        #[test]
        fn pseudo_headers_agree(s: [u8; 16], d: [u8; 16], protocol: u8, length in 0u32..0x2_0000) {
            let mut v6 = Vec::new();
            v6.extend(s);
            v6.extend(d);
            v6.extend(length.to_be_bytes());
            v6.extend([0, 0, 0, protocol]);
            prop_assert_eq!(pseudo_v6(s.into(), d.into(), Protocol(protocol), length), slow(&v6));
            let (s, d) = ([s[0], s[1], s[2], s[3]], [d[0], d[1], d[2], d[3]]);
            let mut v4 = Vec::new();
            v4.extend(s);
            v4.extend(d);
            v4.extend([0, protocol]);
            v4.extend((length as u16).to_be_bytes());
            prop_assert_eq!(pseudo_v4(s.into(), d.into(), Protocol(protocol), length & 0xffff), slow(&v4));
        }
    }
}
