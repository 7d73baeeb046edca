//! Sixteen bytes that are either nothing, a bucket of up to eight entries, or a node: one load tells which.
//!
//! Apart because everything else under the hashed head is written in terms of this word. The raw head's slot (`prefix::slot`) is as
//! wide and tells the same three apart, with a cover in the place of the tags.
//!
//! ```text
//!            63      56                                   7      0
//!  tags     | tag 7    | tag 6 | ...              | tag 1 | tag 0 |   1ttttttt each, 0 where no entry
//!
//!            63   62       48 47     40 39   36 35   32 31        0
//!  empty    |                        0                            |
//!  bucket   | 0 |     0      |    0    | class | count | first cell |
//!  node     | 1 |   free     |  bits 40..48, see below            |
//!
//!            63   62    53 52    48 47     32 31        0
//!  node     | 1 | extra    | bits   | position | first child |       2^bits children, side by side
//! ```
//!
//! A node's `position` is the number of the string's bit at which its index begins; bits skipped between a parent's index
//! and that are path compression. The node lives in its parent's slot (Nilsson and Karlsson packed theirs the same way), so
//! walking a level touches one cache line.

use super::arena::Item;

/// Entries that a bucket can hold: as many as tags fit one word.
pub(crate) const BUCKET: usize = 8;

/// An index into the arena of nodes' children.
pub(crate) type Child = u32;

/// Index bits of the largest node below the root. It bounds what one inflation moves.
pub(crate) const BITS_MAX: u32 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct Slot {
    pub(crate) tags: u64,
    pub(crate) word: u64,
}

const NODE: u64 = 1 << 63;
const COUNT: u32 = 32;
const CLASS: u32 = 36;
const POSITION: u32 = 32;
const BITS: u32 = 48;

/// In the first word of a free block: not a pattern that tags can have (each tag byte is 0 or at least 0x80).
const FREE: u64 = 0x0101_0101_0101_0100;

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// What a slot holds, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Empty,
    Bucket(Bucket),
    Node(Node),
}

/// A run of cells: `count` entries in a block of class `class` from cell `base` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) base: u32,
    pub(crate) count: usize,
    pub(crate) class: usize,
}

/// `2^bits` children from `base` on, indexed by the string's bits `position..position + bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) base: Child,
    pub(crate) position: u32,
    pub(crate) bits: u32,
}

impl Node {
    /// Number of children.
    pub(crate) fn size(self) -> usize {
        1 << self.bits
    }
}

/// The tag of an entry: the header's highest seven bits, and a bit that tells it from "no entry".
#[inline]
pub(crate) fn tag(header: u64) -> u8 {
    (header >> 57) as u8 | 0x80
}

impl Slot {
    pub(crate) const EMPTY: Self = Self { tags: 0, word: 0 };

    #[inline]
    pub(crate) fn node(node: Node) -> Self {
        Self {
            tags: 0,
            word: NODE
                | u64::from(node.base)
                | u64::from(node.position) << POSITION
                | u64::from(node.bits) << BITS,
        }
    }

    #[inline]
    pub(crate) fn bucket(bucket: Bucket, tags: u64) -> Self {
        Self {
            tags,
            word: u64::from(bucket.base)
                | (bucket.count as u64) << COUNT
                | (bucket.class as u64) << CLASS,
        }
    }

    #[inline]
    pub(crate) fn view(self) -> View {
        if self.word == 0 {
            View::Empty
        } else if self.is_node() {
            View::Node(Node {
                base: self.word as u32,
                position: (self.word >> POSITION) as u32 & 0xffff,
                bits: (self.word >> BITS) as u32 & 31,
            })
        } else {
            View::Bucket(Bucket {
                base: self.word as u32,
                count: (self.word >> COUNT) as usize & 15,
                class: (self.word >> CLASS) as usize & 15,
            })
        }
    }

    #[inline]
    pub(crate) fn is_node(self) -> bool {
        self.word & NODE != 0
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.word == 0
    }

    /// First cell of a bucket.
    #[inline]
    pub(crate) fn base(self) -> u32 {
        self.word as u32
    }

    /// Entries whose tag equals `tag`, as a mask with the top bit of each byte; `trailing_zeros / 8` is the first one's place.
    ///
    /// The borrow of the subtraction may mark a byte above a true match as well. It never marks "no entry": such a byte has
    /// its top bit set in `x`. A marked entry's key is compared anyway, so a wrong mark costs time only.
    #[inline]
    pub(crate) fn matches(self, tag: u8) -> u64 {
        let x = self.tags ^ u64::from(tag).wrapping_mul(ONES);
        x.wrapping_sub(ONES) & !x & TOPS
    }

    /// The tag at `place`.
    #[inline]
    pub(crate) fn tag_at(self, place: usize) -> u8 {
        (self.tags >> (8 * place)) as u8
    }
}

/// The first slot has the order in its tags, and the neighbours in its word.
impl Item for Slot {
    fn chain(order: u32, previous: u32, next: u32) -> [Self; 2] {
        let first = Self {
            tags: FREE + u64::from(order),
            word: u64::from(previous) << 32 | u64::from(next),
        };
        [first, Self::EMPTY]
    }

    fn chained([first, _]: [Self; 2]) -> Option<(u32, u32, u32)> {
        let order = first.tags.wrapping_sub(FREE);
        (order < 0x80).then_some((order as u32, (first.word >> 32) as u32, first.word as u32))
    }
}

/// `tags` with the byte at `place` set to `tag`.
#[inline]
pub(crate) fn with_tag(tags: u64, place: usize, tag: u8) -> u64 {
    let shift = 8 * place as u32;
    tags & !(0xff << shift) | u64::from(tag) << shift
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::trie::arena::tests::exercise;

    #[test]
    fn blocks_of_slots_join_until_all_is_whole() {
        exercise::<Vec<Slot>>();
    }

    #[test]
    fn words_round_trip() {
        let node = Node {
            base: u32::MAX,
            position: 0xffff,
            bits: 31,
        };
        assert_eq!(Slot::node(node).view(), View::Node(node));
        let bucket = Bucket {
            base: u32::MAX,
            count: BUCKET,
            class: 3,
        };
        assert_eq!(Slot::bucket(bucket, 7).view(), View::Bucket(bucket));
        assert_eq!(Slot::EMPTY.view(), View::Empty);
    }

    #[test]
    fn every_true_match_is_marked_and_no_empty_place_ever() {
        // Goal: the word-wide comparison misses nothing. Method: all places, tags around the borrow's edge cases.
        for wanted in [0x80u8, 0x81, 0xfe, 0xff] {
            for other in [0x80u8, 0x81, 0x82, 0xfe, 0xff] {
                for set in 0..256u32 {
                    for count in 0..=BUCKET {
                        let mut tags = 0;
                        for place in 0..count {
                            let t = if set >> place & 1 == 1 { wanted } else { other };
                            tags = with_tag(tags, place, t);
                        }
                        let marked = Slot { tags, word: 1 }.matches(wanted);
                        for place in 0..BUCKET {
                            let bit = marked >> (8 * place + 7) & 1;
                            if place >= count {
                                assert_eq!(bit, 0);
                            } else if set >> place & 1 == 1 {
                                assert_eq!(bit, 1);
                            }
                        }
                    }
                }
            }
        }
    }
}
