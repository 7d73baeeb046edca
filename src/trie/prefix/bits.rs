//! An address as a left-aligned number, one machine word for IPv4 and two for IPv6.
//!
//! Apart because a lookup does nothing but shift it: the bits still to be looked at are always the topmost.

use core::fmt::Debug;
use core::hash::Hash;

/// A bit string of up to 64 or 128 bits, first bit topmost, zeros behind the end.
pub trait Bits: Copy + Eq + Ord + Hash + Debug + Default + private::Sealed + 'static {
    /// Bits of the machine number.
    const WIDTH: u32;
    /// The first 64 bits.
    fn top(self) -> u64;
    /// The bits from `count` on, moved to the front. `count` is taken modulo `WIDTH`.
    #[must_use]
    fn skip(self, count: u32) -> Self;
    /// The first `count` bits, zeros behind them.
    #[must_use]
    fn first(self, count: u32) -> Self;
    /// The number with every bit behind the first `count` set.
    #[must_use]
    fn last(self, count: u32) -> Self;
    /// How many leading bits both have in common; `WIDTH` when they are equal.
    fn common(self, other: Self) -> u32;
    /// The number one larger; `None` past the end.
    fn next(self) -> Option<Self>;
    /// This with the `count` bits from `position` on replaced by `value`, which has no more bits.
    #[must_use]
    fn with(self, position: u32, count: u32, value: u64) -> Self;
}

/// The words of a [`Key`](crate::key::Key) of at most 128 bits.
pub trait Width: private::Sealed {
    /// The number that holds them.
    type Bits: Bits;
    /// As a number.
    fn bits(self) -> Self::Bits;
    /// As words.
    fn words(bits: Self::Bits) -> Self;
}

mod private {
    pub trait Sealed {}
    impl Sealed for u64 {}
    impl Sealed for u128 {}
    impl Sealed for [u64; 1] {}
    impl Sealed for [u64; 2] {}
}

macro_rules! bits {
    ($number:ty, $top:expr) => {
        impl Bits for $number {
            const WIDTH: u32 = <$number>::BITS;

            #[inline]
            fn top(self) -> u64 {
                $top(self)
            }
            #[inline]
            fn skip(self, count: u32) -> Self {
                self.wrapping_shl(count)
            }
            #[inline]
            fn first(self, count: u32) -> Self {
                self & !Self::MAX.checked_shr(count).unwrap_or(0)
            }
            #[inline]
            fn last(self, count: u32) -> Self {
                self | Self::MAX.checked_shr(count).unwrap_or(0)
            }
            #[inline]
            fn common(self, other: Self) -> u32 {
                (self ^ other).leading_zeros()
            }
            #[inline]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            #[inline]
            fn with(self, position: u32, count: u32, value: u64) -> Self {
                if count == 0 {
                    return self;
                }
                let free = Self::BITS.saturating_sub(position + count);
                let mask = ((1 as Self) << count).wrapping_sub(1);
                self & !(mask << free) | (Self::from(value) & mask) << free
            }
        }
    };
}

bits!(u64, |bits| bits);
bits!(u128, |bits| (bits >> 64) as u64);

impl Width for [u64; 1] {
    type Bits = u64;
    #[inline]
    fn bits(self) -> u64 {
        self[0]
    }
    #[inline]
    fn words(bits: u64) -> Self {
        [bits]
    }
}

impl Width for [u64; 2] {
    type Bits = u128;
    #[inline]
    fn bits(self) -> u128 {
        u128::from(self[0]) << 64 | u128::from(self[1])
    }
    #[inline]
    fn words(bits: u128) -> Self {
        [(bits >> 64) as u64, bits as u64]
    }
}
