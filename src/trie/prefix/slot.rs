//! The words of the prefix trie: a slot of sixteen bytes and a cell of eight.
//!
//! Apart because everything else is written in terms of them, and because what a lookup tests is decided by how they are
//! packed: a level is one slot, a bucket one cache line.
//!
//! ```text
//!  slot      63 62 61 60   52    51 47 40   36 34 32 31                          0
//!  empty    | 0   |                                                               |
//!  bucket   | 1   |                       |count|ord|   first cell                |
//!  node     | 2   |    L skip     | bits  |         |   first child               |   2^bits children, side by side
//!
//!            31   26 25                     0   31                                0
//!  cover    | back  |  id                    | | the skipped bits, topmost first  |   or, where L is set, the id of
//!                                                                                     a prefix that has them
//!
//!  cell      63                            27 26 25                              0
//!           | the prefix's bits below the slot, then a one, then zeros |  id      |
//!           | the first 37 of them,           1 |                         id      |   "long": 37 bits or more
//! ```
//!
//! *Cover*: the longest prefix that ends between the node's first and its last index bit and has the slot's address; it ends
//! `back` bits before the slot. The terminating one makes a cell say its length: with `m` the ones from it down, an address
//! `w` matches exactly when `w ^ cell <= m`.

/// An index into the slot arena.
pub(super) type At = u32;

/// Bits in the number of a prefix.
pub(super) const ID_BITS: u32 = 26;
const ID: u64 = (1 << ID_BITS) - 1;

/// Bits that a cell holds of a prefix.
const WINDOW: u32 = 37;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(super) struct Slot {
    word: u64,
    cover: u32,
    skipped: u32,
}

const KIND: u32 = 62;
const BUCKET: u64 = 1;
const NODE: u64 = 2;
const FREE: u64 = 3;
const ORDER: u32 = 32;
const COUNT: u32 = 36;
const BITS: u32 = 40;
const SKIP: u32 = 48;
const LONG: u64 = 1 << 56;

/// What a slot holds, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Empty,
    Bucket(Bucket),
    Node(Node),
}

/// `count` cells at the end of a block of `2^order` cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) base: u32,
    pub(super) order: u32,
    pub(super) count: u32,
}

/// `2^bits` children from `base` on, after `skip` bits that all prefixes below have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) base: At,
    pub(super) bits: u32,
    pub(super) skip: u32,
    /// Whether `skipped` is the id of a prefix that has the skipped bits, rather than these.
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
        match self.word >> KIND {
            BUCKET => View::Bucket(Bucket {
                base: self.word as u32,
                order: (self.word >> ORDER) as u32 & 7,
                count: (self.word >> COUNT) as u32 & 15,
            }),
            NODE => View::Node(Node {
                base: self.word as u32,
                bits: (self.word >> BITS) as u32 & 15,
                skip: (self.word >> SKIP) as u32 & 0xff,
                long: self.word & LONG != 0,
                skipped: self.skipped,
            }),
            _ => View::Empty,
        }
    }

    /// The slot with other contents and the same cover.
    pub(super) fn holding(self, view: View) -> Self {
        let (word, skipped) = match view {
            View::Empty => (0, 0),
            View::Bucket(b) => (
                BUCKET << KIND
                    | u64::from(b.base)
                    | u64::from(b.order) << ORDER
                    | u64::from(b.count) << COUNT,
                0,
            ),
            View::Node(n) => (
                NODE << KIND
                    | u64::from(n.base)
                    | u64::from(n.bits) << BITS
                    | u64::from(n.skip) << SKIP
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
        self.word >> KIND == NODE
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.word >> KIND == 0
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

    pub(super) fn covered(self, cover: Option<Cover>) -> Self {
        let cover = cover.map_or(0, |c| c.back << ID_BITS | c.id);
        Self { cover, ..self }
    }
}

impl Cover {
    #[inline]
    pub(super) fn of(word: u32) -> Option<Self> {
        (word != 0).then_some(Self {
            id: word & ID as u32,
            back: word >> ID_BITS,
        })
    }
}

/// A prefix in a bucket; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell(pub(super) u64);

impl Cell {
    /// The cell of a prefix whose bits from the slot on begin with `top`, `len` of them, at least 1.
    #[inline]
    pub(super) fn new(top: u64, len: u32, id: u32) -> Self {
        let window = if len < WINDOW {
            top & !(u64::MAX >> len) | 1 << (63 - len)
        } else {
            top & !((1 << (64 - WINDOW)) - 1) | 1 << (63 - WINDOW)
        };
        Self(window | u64::from(id))
    }

    #[inline]
    pub(super) fn id(self) -> u32 {
        (self.0 & ID) as u32
    }

    /// Bits and terminator.
    #[inline]
    pub(super) fn window(self) -> u64 {
        self.0 & !ID
    }

    /// Whether the cell says only how the prefix begins.
    #[inline]
    pub(super) fn is_long(self) -> bool {
        self.0 >> ID_BITS & 1 == 1
    }

    /// Bits below the slot, where the cell is not long.
    #[inline]
    pub(super) fn len(self) -> u32 {
        63 - self.window().trailing_zeros().min(63)
    }

    /// Whether an address whose bits from the slot on begin with `top` matches; for a long cell, perhaps. "None" matches.
    #[inline]
    pub(super) fn matches(self, top: u64) -> bool {
        let window = self.window();
        top ^ window <= window ^ window.wrapping_sub(1)
    }

    /// The cell as seen from a slot `count` bits further down. Not for long cells.
    pub(super) fn deeper(self, count: u32) -> Self {
        Self(self.window() << count | u64::from(self.id()))
    }

    /// The cell as seen from a slot one bit higher up, when the bit between is `bit`.
    pub(super) fn higher(self, bit: u64) -> Self {
        let long = if self.is_long() { 1 << ID_BITS } else { 0 };
        let window = (self.window() >> 1 | bit << 63) & !ID | long;
        Self(window | u64::from(self.id()))
    }
}

/// What lies in an arena: something that a free block can be chained through.
pub(super) trait Item: Copy + Default {
    /// Smallest block, as a power of two.
    const ORDER_MIN: u32;
    /// Writes a free block's order and neighbours into its first items.
    fn chain(block: &mut [Self], order: u32, previous: u32, next: u32);
    /// Reads them; `None` for a block in use.
    fn chained(block: &[Self]) -> Option<(u32, u32, u32)>;
}

impl Item for Slot {
    const ORDER_MIN: u32 = 1;

    fn chain(block: &mut [Self], order: u32, previous: u32, next: u32) {
        if let Some(first) = block.first_mut() {
            *first = Self {
                word: FREE << KIND | u64::from(order),
                cover: previous,
                skipped: next,
            };
        }
    }

    fn chained(block: &[Self]) -> Option<(u32, u32, u32)> {
        let first = block.first()?;
        (first.word >> KIND == FREE).then_some((first.word as u32, first.cover, first.skipped))
    }
}

/// A free block's first cell has no id, yet is not 0: `next`, order, and a mark; its second has `previous`.
impl Item for Cell {
    const ORDER_MIN: u32 = 1;

    fn chain(block: &mut [Self], order: u32, previous: u32, next: u32) {
        if let [first, second, ..] = block {
            *first = Self(u64::from(next) << 32 | u64::from(order) << 28 | 1 << ID_BITS);
            *second = Self(u64::from(previous) << 32 | 1 << ID_BITS);
        }
    }

    fn chained(block: &[Self]) -> Option<(u32, u32, u32)> {
        match block {
            [first, second, ..] if first.id() == 0 && first.0 != 0 => Some((
                (first.0 >> 28) as u32 & 15,
                (second.0 >> 32) as u32,
                (first.0 >> 32) as u32,
            )),
            _ => None,
        }
    }
}

const _: () = assert!(ID_BITS + WINDOW + 1 == 64);

#[cfg(test)]
mod tests {
    use super::*;

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
        });
        let cover = Some(Cover {
            id: (1 << ID_BITS) - 1,
            back: 15,
        });
        for view in [View::Empty, node, bucket] {
            let slot = Slot::EMPTY.covered(cover).holding(view);
            assert_eq!((slot.view(), slot.cover()), (view, cover));
            assert_eq!(Slot::chained(&[slot]), None);
        }
    }

    #[test]
    fn cells_match_their_addresses_alone() {
        // Goal: the comparison of one word is the comparison of the first bits. Method: all lengths, each single bit flipped.
        let top = 0x9669_0ff0_1234_5678_u64;
        for len in 1..=64 {
            let cell = Cell::new(top, len, 5);
            assert_eq!((cell.id(), cell.is_long()), (5, len >= WINDOW));
            assert!(cell.matches(top));
            for bit in 0..64 {
                let known = len.min(WINDOW);
                assert_eq!(
                    cell.matches(top ^ 1 << (63 - bit)),
                    bit >= known,
                    "{len} {bit}"
                );
            }
            if len < WINDOW {
                assert_eq!(cell.len(), len);
                if len > 3 {
                    assert_eq!(cell.deeper(3), Cell::new(top << 3, len - 3, 5));
                }
            }
            for bit in [0, 1] {
                assert_eq!(
                    cell.higher(bit),
                    Cell::new(top >> 1 | bit << 63, len + 1, 5)
                );
            }
        }
        assert!(Cell::default().matches(top));
    }
}
