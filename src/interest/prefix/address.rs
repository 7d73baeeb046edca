//! Addresses as bits: what the trie, and whatever else is generic over the family, asks of them.
//!
//! Apart from the trie because it knows nothing of how prefixes are kept.

use super::node::Hit;

/// An address as the trie sees it.
pub(in crate::interest) trait Bits:
    Copy + Eq + core::fmt::Debug + 'static
{
    /// Bits in the address.
    const WIDTH: u32;
    const ZERO: Self;
    /// Words of 32 bits in the address.
    const WORDS: usize = Self::WIDTH as usize / 32;
    /// Room for every prefix of one address.
    type Hits: AsRef<[Hit]> + AsMut<[Hit]>;
    const NO_HITS: Self::Hits;

    fn from_aligned(bits: u128) -> Self;
    fn aligned(self) -> u128;
    /// Six bits from `depth`, zeros past the end.
    fn chunk(self, depth: u32) -> u32;
    /// Leading bits in which two agree.
    fn common(self, other: Self) -> u32;
    /// Whether two agree in the first `len` bits.
    fn agrees(self, other: Self, len: u32) -> bool;
    /// The bit that stands for a length of the other side in a set of partners.
    fn partner(len: u32) -> u32;
}

impl Bits for u32 {
    const WIDTH: u32 = 32;
    const ZERO: Self = 0;
    type Hits = [Hit; 33];
    const NO_HITS: Self::Hits = [Hit::NONE; 33];

    fn from_aligned(bits: u128) -> Self {
        (bits >> 96) as u32
    }

    fn aligned(self) -> u128 {
        u128::from(self) << 96
    }

    #[inline]
    fn chunk(self, depth: u32) -> u32 {
        (((u64::from(self) << 32) << (depth & 31)) >> 58) as u32
    }

    #[inline]
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    #[inline]
    fn agrees(self, other: Self, len: u32) -> bool {
        u64::from(self ^ other) >> ((32u32.wrapping_sub(len)) & 63) == 0
    }

    #[inline]
    fn partner(len: u32) -> u32 {
        len & 63
    }
}

impl Bits for u128 {
    const WIDTH: u32 = 128;
    const ZERO: Self = 0;
    type Hits = [Hit; 129];
    const NO_HITS: Self::Hits = [Hit::NONE; 129];

    fn from_aligned(bits: u128) -> Self {
        bits
    }

    fn aligned(self) -> u128 {
        self
    }

    #[inline]
    fn chunk(self, depth: u32) -> u32 {
        ((self << (depth & 127)) >> 122) as u32
    }

    #[inline]
    fn common(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    #[inline]
    fn agrees(self, other: Self, len: u32) -> bool {
        self.common(other) >= len
    }

    /// Two lengths to a bit, three to the last: a set may name a length too many, and costs a probe.
    #[inline]
    fn partner(len: u32) -> u32 {
        let half = len >> 1;
        if half > 63 { 63 } else { half }
    }
}
