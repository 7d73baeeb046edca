//! The bit string that a key is to the trie: its header, lowest bit first, then the key itself.
//!
//! Apart because all walks read their indexes from here, across word boundaries.

use core::cmp::Ordering;

/// A header and a key's words as one string of bits. Order is that of the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits<W> {
    /// The header turned around, so that the bit that the root looks at first comes first.
    turned: u64,
    words: W,
}

impl<W: Copy + AsRef<[u64]> + Ord> Bits<W> {
    #[inline]
    pub(crate) fn new(header: u64, words: W) -> Self {
        Self {
            turned: header.reverse_bits(),
            words,
        }
    }

    /// Word `index` of the string; 0 past the end.
    #[inline]
    fn word(&self, index: usize) -> u64 {
        match index.checked_sub(1) {
            None => self.turned,
            Some(index) => self.words.as_ref().get(index).copied().unwrap_or(0),
        }
    }

    /// `count` bits from `position` on, as a number. `count` is 1 to 32.
    #[inline]
    pub(crate) fn take(&self, position: u32, count: u32) -> usize {
        let (index, offset) = (position as usize / 64, position % 64);
        let mut window = self.word(index) << offset;
        if offset != 0 {
            window |= self.word(index + 1) >> (64 - offset);
        }
        (window >> (64 - count)) as usize
    }

    /// The first bit in which two strings differ; `None` when they are equal.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<u32> {
        let words = 1 + self.words.as_ref().len();
        (0..words).find_map(|index| {
            let x = self.word(index) ^ other.word(index);
            (x != 0).then(|| index as u32 * 64 + x.leading_zeros())
        })
    }
}

impl<W: Copy + Ord> PartialOrd for Bits<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W: Copy + Ord> Ord for Bits<W> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.turned, self.words).cmp(&(other.turned, other.words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_bits_across_words() {
        let bits = Bits::new(1, [0x8000_0000_0000_0001u64, 0xf000_0000_0000_0000]);
        assert_eq!(bits.take(0, 4), 0b1000);
        assert_eq!(bits.take(62, 4), 0b0010);
        assert_eq!(bits.take(63, 1), 0);
        assert_eq!(bits.take(64, 1), 1);
        assert_eq!(bits.take(127, 4), 0b1111);
        assert_eq!(bits.take(190, 4), 0);
        assert_eq!(bits.take(64, 32), 0x8000_0000);
    }

    #[test]
    fn differences_are_found_in_every_word() {
        for position in 0..192u32 {
            let header = if position < 64 { 1u64 << position } else { 0 };
            let mut words = [0u64; 2];
            if position >= 64 {
                words[position as usize / 64 - 1] = 1 << (63 - position % 64);
            }
            let (zero, one) = (Bits::new(0, [0; 2]), Bits::new(header, words));
            assert_eq!(zero.first_difference(&one), Some(position));
            assert_eq!(one.take(position, 1), 1);
            assert!(zero < one);
        }
        let same = Bits::new(5, [6, 7]);
        assert_eq!(same.first_difference(&same), None);
    }
}
