//! What a key has: one rule, a list of a few, or the number of a bucket.
//!
//! Apart from the buckets because a search that wants only the first rule often needs no more than this.

use super::super::pool::Pooled;
use super::super::rule::Rule;
use super::super::table::Slot;

/// What a key has: a rule, a list or a bucket. 32 bytes, on a boundary of 32, so that it never straddles a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(in crate::interest) struct Cell {
    /// Kind in the upper 8 bits, key in the lower 48.
    kind_key: u64,
    pub(super) content: Rule,
}

const _: () = assert!(size_of::<Cell>() == 32);

pub(super) const ONE: u64 = 1 << 56;
pub(super) const LIST: u64 = 2 << 56;
pub(super) const BUCKET: u64 = 3 << 56;
const KEY_MASK: u64 = (1 << 48) - 1;

/// Most rules of a list.
pub(super) const LIST_MAX: usize = if cfg!(any(test, miri, fuzzing)) {
    4
} else {
    24
};
/// At so few rules, all of them in its chunks, a bucket becomes a list again.
pub(super) const LIST_AGAIN: usize = LIST_MAX / 2;

impl Cell {
    pub(super) fn one(key: u64, rule: Rule) -> Self {
        Self {
            kind_key: ONE | key,
            content: rule,
        }
    }

    /// `first` is the earliest priority of its rules.
    pub(super) fn list(key: u64, base: u32, count: usize, first: u64) -> Self {
        let mut content = Rule::BLANK;
        content.priority = first;
        content.value = base;
        content.slot_any = count as u32;
        Self {
            kind_key: LIST | key,
            content,
        }
    }

    /// `first` is no later than the earliest priority of its rules.
    pub(super) fn bucket(key: u64, number: u32, first: u64) -> Self {
        Self {
            kind_key: BUCKET | key,
            ..Self::list(key, number, 0, first)
        }
    }

    /// The earliest priority of its rules; of a bucket's, perhaps that of one long gone.
    #[inline]
    pub(in crate::interest) fn first(&self) -> u64 {
        self.content.priority
    }

    /// Whether it has one rule.
    #[inline]
    pub(in crate::interest) fn is_one(&self) -> bool {
        self.kind() == ONE
    }

    pub(super) fn kind(&self) -> u64 {
        self.kind_key & !KEY_MASK
    }

    pub(super) fn base(&self) -> u32 {
        self.content.value
    }

    pub(super) fn count(&self) -> usize {
        self.content.slot_any as usize
    }
}

impl Slot for Cell {
    const EMPTY: Self = Self {
        kind_key: 0,
        content: <Rule as Pooled>::BLANK,
    };

    #[inline]
    fn is_empty(&self) -> bool {
        self.kind_key == 0
    }

    #[inline]
    fn key(&self) -> u64 {
        self.kind_key & KEY_MASK
    }
}
