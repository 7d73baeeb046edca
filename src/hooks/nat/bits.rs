//! A set of 16-bit numbers that finds its next member fast.
//!
//! Apart because ports and blocks are both such sets.

use alloc::vec::Vec;

use crate::key::Ports;
use crate::trie::ReserveError;

/// Which numbers are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parity {
    Any,
    Even,
    Odd,
}

impl Parity {
    pub(super) const fn of(number: u16) -> Self {
        if number & 1 == 0 {
            Self::Even
        } else {
            Self::Odd
        }
    }

    /// The bits of a word.
    const fn mask(self) -> u64 {
        match self {
            Self::Any => !0,
            Self::Even => 0x5555_5555_5555_5555,
            Self::Odd => 0xaaaa_aaaa_aaaa_aaaa,
        }
    }
}

/// The set: a bit for each number, and above each word a bit where it has even ones, and one where it has odd ones.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    upper: [[u64; 16]; 2],
    len: u32,
}

impl Bits {
    /// All numbers of `members`.
    pub(super) fn try_new(members: Ports) -> Result<Self, ReserveError> {
        let mut words = Vec::new();
        words.try_reserve_exact(1024)?;
        words.resize(1024, 0);
        let mut bits = Self {
            words,
            upper: [[0; 16]; 2],
            len: 0,
        };
        for number in members.first..=members.last {
            bits.give(number);
        }
        Ok(bits)
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_free(&self, number: u16) -> bool {
        let word = self.words.get(usize::from(number >> 6));
        word.is_some_and(|word| word >> (number & 63) & 1 != 0)
    }

    /// Puts a number in.
    pub(super) fn give(&mut self, number: u16) {
        let at = usize::from(number >> 6);
        let [even, odd] = &mut self.upper;
        let upper = if number & 1 == 0 { even } else { odd };
        if let (Some(word), Some(upper)) = (self.words.get_mut(at), upper.get_mut(at >> 6)) {
            self.len += (*word >> (number & 63) & 1 == 0) as u32;
            *word |= 1 << (number & 63);
            *upper |= 1 << (at & 63);
        }
    }

    /// Takes a number out.
    pub(super) fn take(&mut self, number: u16) {
        let at = usize::from(number >> 6);
        let [even, odd] = &mut self.upper;
        let upper = if number & 1 == 0 { even } else { odd };
        if let (Some(word), Some(upper)) = (self.words.get_mut(at), upper.get_mut(at >> 6)) {
            self.len -= (*word >> (number & 63) & 1) as u32;
            *word &= !(1 << (number & 63));
            if *word & Parity::of(number).mask() == 0 {
                *upper &= !(1 << (at & 63));
            }
        }
    }

    /// The first member of `range` at or behind `start`, going round, of the parity wanted. Adds the words
    /// looked at to `looked`: at most 17 of the upper row each way and 2 of the lower.
    pub(super) fn find(
        &self,
        range: Ports,
        start: u16,
        parity: Parity,
        looked: &mut u64,
    ) -> Option<u16> {
        let start = start.clamp(range.first, range.last);
        self.scan(start, range.last, parity, looked).or_else(|| {
            let before = start.checked_sub(1).filter(|last| *last >= range.first)?;
            self.scan(range.first, before, parity, looked)
        })
    }

    fn scan(&self, first: u16, last: u16, parity: Parity, looked: &mut u64) -> Option<u16> {
        let (begin, end) = (usize::from(first >> 6), usize::from(last >> 6));
        let mask = parity.mask();
        let mut at = begin;
        while at <= end {
            *looked += 1;
            let upper = self.upper(at >> 6, parity)? >> (at & 63);
            if upper == 0 {
                at = (at | 63) + 1;
                continue;
            }
            at += upper.trailing_zeros() as usize;
            if at > end {
                return None;
            }
            let mut word = self.words.get(at)? & mask;
            if at == begin {
                word &= !0 << (first & 63);
            }
            if at == end {
                word &= !0 >> (63 - (last & 63));
            }
            if word != 0 {
                return Some((at as u32 * 64 + word.trailing_zeros()) as u16);
            }
            at += 1;
        }
        None
    }

    /// A word of the upper row: which words below have members of this parity.
    fn upper(&self, at: usize, parity: Parity) -> Option<u64> {
        let [even, odd] = &self.upper;
        let (even, odd) = (even.get(at)?, odd.get(at)?);
        Some(match parity {
            Parity::Any => even | odd,
            Parity::Even => *even,
            Parity::Odd => *odd,
        })
    }

    /// Whether both rows and the count agree; for tests.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let ones: u32 = self.words.iter().map(|word| word.count_ones()).sum();
        let agrees = |(at, word): (usize, &u64)| {
            [Parity::Even, Parity::Odd].into_iter().all(|parity| {
                let upper = self.upper(at >> 6, parity).unwrap_or(0);
                (word & parity.mask() != 0) == (upper >> (at & 63) & 1 != 0)
            })
        };
        if ones != self.len || !self.words.iter().enumerate().all(agrees) {
            return Err("the rows of a set of ports agree");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        /// Against a set of numbers, in a window that crosses words and rows.
        #[test]
        fn agrees_with_a_set(
            base in prop::sample::select(alloc::vec![0u16, 60, 4090, 65_400]),
            edits in prop::collection::vec((any::<bool>(), 0u16..130), 0..200),
            start in 0u16..130,
            odd: bool,
        ) {
            let range = Ports { first: base, last: base + 129 };
            let mut bits = Bits::try_new(range).expect("room");
            let mut twin: BTreeSet<u16> = (range.first..=range.last).collect();
            for (give, number) in edits {
                if give {
                    bits.give(base + number);
                    twin.insert(base + number);
                } else {
                    bits.take(base + number);
                    twin.remove(&(base + number));
                }
                prop_assert_eq!(bits.is_free(base + number), give);
            }
            bits.check().map_err(TestCaseError::fail)?;
            prop_assert_eq!(bits.len() as usize, twin.len());
            let start = base + start;
            let any = twin.range(start..).next().or(twin.iter().next()).copied();
            prop_assert_eq!(bits.find(range, start, Parity::Any, &mut 0), any);
            let parity = if odd { Parity::Odd } else { Parity::Even };
            let fits = |n: &&u16| (**n % 2 == 1) == odd;
            let same = twin.range(start..).find(fits).or(twin.iter().find(fits)).copied();
            prop_assert_eq!(bits.find(range, start, parity, &mut 0), same);
        }
    }
}
