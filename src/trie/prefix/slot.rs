//! The words of the prefix trie: a slot of sixteen bytes, and a cell of two halves of four.
//!
//! Apart because everything else is written in terms of them, and because what a lookup tests is decided by how they are
//! packed: a level is one slot, a bucket one cache line.
//!
//! ```text
//!  slot      63 62 61  56 55     48 47   40 39   36 35   32 31                0
//!  empty    | 0  0  0 |                                                       |
//!  bucket   | 0  1  0 |   |      next      | count | order |    first cell    |
//!  node     | 1  0  0 | L | advance |  bits |              |    first child   |   2^bits children, side by side;
//!                                                                                 advance = skipped bits + bits
//!
//!            31    26 25               0     31                             0
//!  cover    |  back  | record         |     | the skipped bits, topmost first |   or, where L is set, the record
//!                                                                                 of a string that has them
//!                                           | the cover's number              |   where there is no node
//!
//!  line     | window 0 | window 1 | ... | window 7 | number 0 | number 1 | ... | number 7 |     eight cells, 64 bytes
//!
//!  window    31                                          1 0
//!           | the prefix's bits below the slot | 1 | 0 ... 0 |
//!           | the first 31 of them                       | 1 |   "long": 31 bits or more; the number is that of a record
//! ```
//!
//! *Cover*: the longest prefix that ends between the node's first and its last index bit and has the slot's address; it ends
//! `back` bits before the slot. Its number stands in its record, and again in slots without a node, so that a lookup that ends
//! there has its answer without one more cache line. The terminating one makes a window say its length: with `m` the ones from it down, an
//! address `w` matches exactly when `w ^ window <= m`. A bucket is a run of cells within one line, shortest prefix first.
//! Bit `40 + n` of its slot, one of the sixteen under *next*, is set where some cell may match an address whose next four bits are
//! `n`: most addresses that no cell matches are told so without the line.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use crate::trie::arena::{Item, Store};

/// An index into the slot arena.
pub(super) type At = u32;

/// Bits in the number of a record.
pub(super) const ID_BITS: u32 = 26;
const ID: u32 = (1 << ID_BITS) - 1;

/// Bits that a window holds of a prefix.
const WINDOW: u32 = 31;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(super) struct Slot {
    word: u64,
    cover: u32,
    skipped: u32,
}

const NODE: u64 = 1 << 63;
const BUCKET: u64 = 1 << 62;
const FREE: u64 = 1 << 61;
const ORDER: u32 = 32;
const COUNT: u32 = 36;
const NEXT: u32 = 40;
const BITS: u32 = 40;
const ADVANCE: u32 = 48;
const LONG: u64 = 1 << 56;

/// What a slot holds, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Empty,
    Bucket(Bucket),
    Node(Node),
}

/// `count` cells at the beginning of a block of `2^order` cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) base: u32,
    pub(super) order: u32,
    pub(super) count: u32,
    /// By an address's next four bits, whether some cell may match it.
    pub(super) next: u16,
}

/// `2^bits` children from `base` on, after `skip` bits that all prefixes below have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) base: At,
    pub(super) bits: u32,
    pub(super) skip: u32,
    /// Whether `skipped` is a record that has the skipped bits, rather than these.
    pub(super) long: bool,
    pub(super) skipped: u32,
}

impl Node {
    pub(super) fn size(self) -> u32 {
        1 << self.bits
    }
}

/// A prefix that covers a slot, ending `back` bits before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) id: u32,
    pub(super) back: u32,
}

impl Slot {
    pub(super) const EMPTY: Self = Self {
        word: 0,
        cover: 0,
        skipped: 0,
    };

    #[inline]
    pub(super) fn view(self) -> View {
        if self.is_node() {
            View::Node(self.as_node())
        } else if self.word & BUCKET != 0 {
            View::Bucket(self.as_bucket())
        } else {
            View::Empty
        }
    }

    /// The node in it, whatever is in it.
    #[inline(always)]
    pub(super) fn as_node(self) -> Node {
        Node {
            base: self.word as u32,
            bits: self.index_bits(),
            skip: self.advance().saturating_sub(self.index_bits()),
            long: self.is_long(),
            skipped: self.skipped,
        }
    }

    /// A node's first child, or a bucket's first cell.
    #[inline(always)]
    pub(super) fn base(self) -> u32 {
        self.word as u32
    }

    /// A node's index bits; means nothing where there is none.
    #[inline(always)]
    pub(super) fn index_bits(self) -> u32 {
        (self.word >> BITS) as u32 & 15
    }

    /// How much deeper a node's children are; means nothing where there is none.
    #[inline(always)]
    pub(super) fn advance(self) -> u32 {
        (self.word >> ADVANCE) as u32 & 0xff
    }

    /// The number of the child that an address goes to whose bits from the slot on begin with `top`. Where the address has not
    /// the skipped bits the number has more bits than [`index_bits`](Self::index_bits): one shift answers both, as in Linux.
    /// Not for long nodes.
    #[inline(always)]
    pub(super) fn index(self, top: u64) -> u64 {
        let differing = top ^ u64::from(self.skipped) << 32;
        differing >> (64_u32.wrapping_sub(self.advance()) & 63)
    }

    /// The bucket in it; one without cells where there is none.
    #[inline(always)]
    pub(super) fn as_bucket(self) -> Bucket {
        Bucket {
            base: self.word as u32,
            order: (self.word >> ORDER) as u32 & 7,
            count: (self.word >> COUNT) as u32 & 15,
            next: (self.word >> NEXT) as u16,
        }
    }

    /// Whether there is a bucket with a cell that may match an address whose bits from the slot on begin with `top`.
    #[inline(always)]
    pub(super) fn may_match(self, top: u64) -> bool {
        let next = self.word >> (u64::from(NEXT) + (top >> 60));
        next & !(self.word >> 63) & 1 != 0
    }

    /// Whether it is a node that skips more bits than the slot holds.
    #[inline(always)]
    pub(super) fn is_long(self) -> bool {
        self.word & LONG != 0
    }

    /// The slot with other contents and the same cover.
    pub(super) fn holding(self, view: View) -> Self {
        let (word, skipped) = match view {
            View::Empty => (0, 0),
            View::Bucket(b) => (
                BUCKET
                    | u64::from(b.base)
                    | u64::from(b.order) << ORDER
                    | u64::from(b.count) << COUNT
                    | u64::from(b.next) << NEXT,
                0,
            ),
            View::Node(n) => (
                NODE | u64::from(n.base)
                    | u64::from(n.bits) << BITS
                    | u64::from(n.skip + n.bits) << ADVANCE
                    | if n.long { LONG } else { 0 },
                n.skipped,
            ),
        };
        Self {
            word,
            skipped,
            ..self
        }
    }

    #[inline]
    pub(super) fn is_node(self) -> bool {
        self.word & NODE != 0
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.word & (NODE | BUCKET) == 0
    }

    /// The cover's word; 0 where there is none.
    #[inline]
    pub(super) fn cover_word(self) -> u32 {
        self.cover
    }

    /// Whether a prefix is exactly as long as the slot is deep.
    pub(super) fn ends_prefix(self) -> bool {
        self.cover != 0 && self.cover >> ID_BITS == 0
    }

    pub(super) fn cover(self) -> Option<Cover> {
        Cover::of(self.cover)
    }

    /// The number of the cover's prefix; means something where there is a cover and no node.
    #[inline(always)]
    pub(super) fn cover_number(self) -> u32 {
        self.skipped
    }

    /// The slot, if it has no node, with the number of its cover's prefix.
    pub(super) fn numbered(self, number: u32) -> Self {
        let skipped = if self.is_node() { self.skipped } else { number };
        Self { skipped, ..self }
    }

    pub(super) fn covered(self, cover: Option<Cover>) -> Self {
        let cover = cover.map_or(0, |c| c.back << ID_BITS | c.id);
        Self { cover, ..self }
    }
}

impl Cover {
    /// Record and `back` of a word.
    #[inline(always)]
    pub(super) fn parts(word: u32) -> (u32, u32) {
        (word & ID, word >> ID_BITS)
    }

    #[inline]
    pub(super) fn of(word: u32) -> Option<Self> {
        (word != 0).then_some(Self {
            id: word & ID,
            back: word >> ID_BITS,
        })
    }
}

/// A prefix in a bucket; a window of 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) window: u32,
    /// The prefix's number; for a long cell, its record.
    pub(super) number: u32,
}

impl Cell {
    /// The cell of a prefix whose bits from the slot on begin with `top`, `len` of them, at least 1.
    #[inline]
    pub(super) fn new(top: u64, len: u32, number: u32) -> Self {
        let top = (top >> 32) as u32;
        let window = if len < WINDOW {
            top & !(u32::MAX >> len) | 1 << (31 - len)
        } else {
            top | 1
        };
        Self { window, number }
    }

    /// Whether `len` bits are too many for a window.
    pub(super) fn too_long(len: u32) -> bool {
        len >= WINDOW
    }

    /// Whether the cell says only how the prefix begins.
    #[inline]
    pub(super) fn is_long(self) -> bool {
        self.window & 1 == 1
    }

    /// Bits below the slot; at least so many where the cell is long.
    #[inline]
    pub(super) fn len(self) -> u32 {
        length(self.window)
    }

    /// A bit for each value that the next four bits of an address have which the cell may match.
    pub(super) fn next(self) -> u16 {
        let values = 1u32 << 4_u32.saturating_sub(self.len());
        (((1 << values) - 1) << (self.bits() >> 60)) as u16
    }

    /// The bits, without the terminating one, topmost first.
    pub(super) fn bits(self) -> u64 {
        u64::from(self.window & self.window.wrapping_sub(1)) << 32
    }

    /// The cell as seen from a slot `count` bits further down, where the prefix has more bits than that. Not for long cells.
    pub(super) fn deeper(self, count: u32) -> Self {
        Self {
            window: self.window << count,
            ..self
        }
    }

    /// The cell as seen from a slot one bit higher up, when the bit between is `bit`. Not where it becomes long.
    pub(super) fn higher(self, bit: u32) -> Self {
        Self {
            window: self.window >> 1 | bit << 31,
            ..self
        }
    }
}

/// Bits in a window.
#[inline]
pub(super) fn length(window: u32) -> u32 {
    31 - window.trailing_zeros().min(31)
}

/// Cells in a line.
pub(super) const LANES: usize = 8;

/// Eight cells, windows together, so that all eight comparisons are a handful of vector instructions.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line {
    pub(super) windows: [u32; LANES],
    pub(super) numbers: [u32; LANES],
}

/// A bit for each window that an address matches whose bits from the slot on begin with `top`; for long cells, perhaps.
#[inline(always)]
pub(super) fn matches(windows: &[u32; LANES], top: u64) -> u32 {
    let top = (top >> 32) as u32;
    let mut hits = [0; LANES];
    for (lane, hit) in hits.iter_mut().enumerate() {
        let window = windows[lane];
        let matches = top ^ window <= window ^ window.wrapping_sub(1);
        *hit = if matches { 1 << lane } else { 0 };
    }
    hits.iter().fold(0, |all, hit| all | hit)
}

/// The lanes of a bucket's cells.
#[inline(always)]
pub(super) fn lanes(bucket: Bucket) -> u32 {
    ((1 << bucket.count) - 1) << (bucket.base as usize % LANES)
}

impl Item for Slot {
    fn chain(order: u32, previous: u32, next: u32) -> [Self; 2] {
        let first = Self {
            word: FREE | u64::from(order),
            cover: previous,
            skipped: next,
        };
        [first, Self::EMPTY]
    }

    fn chained([first, _]: [Self; 2]) -> Option<(u32, u32, u32)> {
        (first.word & FREE != 0).then_some((first.word as u32, first.cover, first.skipped))
    }
}

/// A free block's first cell has no window, yet is not 0.
impl Item for Cell {
    fn chain(order: u32, previous: u32, next: u32) -> [Self; 2] {
        let first = Self {
            window: 0,
            number: 1 << 31 | order,
        };
        let second = Self {
            window: previous,
            number: next,
        };
        [first, second]
    }

    fn chained([first, second]: [Self; 2]) -> Option<(u32, u32, u32)> {
        (first.window == 0 && first.number != 0).then_some((
            first.number & 0xff,
            second.window,
            second.number,
        ))
    }
}

/// Cells in lines of eight.
impl Store for Vec<Line> {
    type Item = Cell;
    fn reserve(&mut self, items: usize) -> Result<(), TryReserveError> {
        self.try_reserve_exact(items.div_ceil(LANES).saturating_sub(self.len()))
    }
    fn len(&self) -> usize {
        self.len() * LANES
    }
    fn grow(&mut self, len: usize) {
        self.resize(len / LANES, Line::default());
    }
    fn clear(&mut self) {
        self.clear();
    }
    fn get(&self, index: u32) -> Cell {
        let lane = index as usize % LANES;
        match self.as_slice().get(index as usize / LANES) {
            Some(line) => Cell {
                window: line.windows[lane],
                number: line.numbers[lane],
            },
            None => Cell::default(),
        }
    }
    fn set(&mut self, index: u32, item: Cell) {
        let lane = index as usize % LANES;
        if let Some(line) = self.as_mut_slice().get_mut(index as usize / LANES) {
            line.windows[lane] = item.window;
            line.numbers[lane] = item.number;
        }
    }
    fn bytes(&self) -> (usize, usize) {
        (
            self.capacity() * size_of::<Line>(),
            self.len() * size_of::<Line>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trie::arena::tests::exercise;

    #[test]
    fn blocks_of_slots_and_of_cells_join_until_all_is_whole() {
        exercise::<Vec<Slot>>();
        exercise::<Vec<Line>>();
    }

    #[test]
    fn slots_round_trip() {
        let node = View::Node(Node {
            base: u32::MAX,
            bits: 15,
            skip: 128,
            long: true,
            skipped: 77,
        });
        let bucket = View::Bucket(Bucket {
            base: u32::MAX,
            order: 3,
            count: 8,
            next: 0xffff,
        });
        let cover = Some(Cover {
            id: (1 << ID_BITS) - 1,
            back: 15,
        });
        for view in [View::Empty, node, bucket] {
            let slot = Slot::EMPTY.covered(cover).holding(view);
            assert_eq!((slot.view(), slot.cover()), (view, cover));
            assert_eq!(Slot::chained([slot; 2]), None);
        }
    }

    #[test]
    fn windows_match_their_addresses_alone() {
        // Goal: the comparison of one word is the comparison of the first bits. Method: all lengths, each single bit flipped.
        let top = 0x9669_0ff0_1234_5678_u64;
        for len in 1..=40 {
            let cell = Cell::new(top, len, 5);
            assert_eq!((cell.number, cell.is_long()), (5, Cell::too_long(len)));
            for next in 0..16 {
                let differing = next ^ top >> 60;
                let matches = differing >> 4_u32.saturating_sub(len) == 0;
                assert_eq!(cell.next() >> next & 1 == 1, matches, "{len} {next}");
            }
            let mut windows = [0; LANES];
            windows[3] = cell.window;
            let matches = |top| matches(&windows, top) >> 3 & 1 == 1;
            assert!(matches(top));
            for bit in 0..64 {
                let known = len.min(WINDOW);
                assert_eq!(matches(top ^ 1 << (63 - bit)), bit >= known, "{len} {bit}");
            }
            if !cell.is_long() {
                assert_eq!(cell.len(), len);
                assert_eq!(cell.bits(), top & !(u64::MAX >> len));
                if len > 3 {
                    assert_eq!(cell.deeper(3), Cell::new(top << 3, len - 3, 5));
                }
                for bit in [0, 1] {
                    if !Cell::too_long(len + 1) {
                        let higher = top >> 1 | u64::from(bit) << 63;
                        assert_eq!(cell.higher(bit), Cell::new(higher, len + 1, 5));
                    }
                }
            }
        }
    }
}
