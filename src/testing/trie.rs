//! Operations on the exact-match trie, and the `BTreeMap` that answers them slowly.
//!
//! One enum drives the property tests and the fuzz target `trie_ops`, so a crash found by either is a case for both.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::key::{Field, Key};
use crate::trie::{Cursor, Folded, Full, HeaderHash, LcIndex, MOVES_MAX, Subtree};

/// A key of four bits: few enough to try all tries of up to five leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nibble(pub u8);

impl Key for Nibble {
    const BITS: u32 = 4;
    const FIELDS: &'static [Field] = &[Field {
        name: "nibble",
        offset: 0,
        width: 4,
    }];
    type Words = [u64; 1];

    fn words(&self) -> [u64; 1] {
        [u64::from(self.0 & 15) << 60]
    }

    fn from_words([word]: [u64; 1]) -> Self {
        Self((word >> 60) as u8)
    }
}

/// A key of 130 bits in three words of which ten vary, at both sides of each word's edge: small domain, long strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spread(pub u16);

impl Spread {
    /// Number of different keys.
    pub const COUNT: u16 = 1 << 10;
}

impl Key for Spread {
    const BITS: u32 = 130;
    const FIELDS: &'static [Field] = &[Field {
        name: "spread",
        offset: 0,
        width: 130,
    }];
    type Words = [u64; 3];

    fn words(&self) -> [u64; 3] {
        let n = u64::from(self.0 % Self::COUNT);
        let part = |shift: u32| n >> shift & 3;
        [
            part(8) << 62 | part(6),
            part(4) << 62 | part(2),
            part(0) << 62,
        ]
    }

    fn from_words([a, b, c]: [u64; 3]) -> Self {
        Self(((a >> 62) << 8 | (a & 3) << 6 | (b >> 62) << 4 | (b & 3) << 2 | c >> 62) as u16)
    }
}

/// Hashes from good to useless.
#[derive(Clone, Debug)]
pub enum ToyHash {
    /// As in production.
    Good(Folded),
    /// Only the bits in the mask survive: clusters and collisions.
    Masked(Folded, u64),
    /// All keys have this header.
    Constant(u64),
    /// The key's first 64 bits, first bit lowest: the trie has the shape of the keys.
    Identity,
}

impl ToyHash {
    /// The hash number `n`, for tests that draw one.
    pub fn nth(n: u8) -> Self {
        let good = Folded::new([u64::from(n), 1]);
        match n % 8 {
            0 => Self::Good(good),
            1 => Self::Masked(good, 0x8000_0000_0000_0001),
            2 => Self::Masked(good, 0xff << 28),
            3 => Self::Masked(good, 0x3f),
            4 => Self::Masked(good, 1 << 63 | 0xf << 40),
            5 => Self::Constant(0),
            6 => Self::Constant(u64::MAX),
            _ => Self::Identity,
        }
    }
}

impl HeaderHash for ToyHash {
    fn header<K: Key>(&self, key: &K) -> u64 {
        match self {
            Self::Good(hash) => hash.header(key),
            Self::Masked(hash, mask) => hash.header(key) & mask,
            Self::Constant(header) => *header,
            Self::Identity => key
                .words()
                .as_ref()
                .first()
                .copied()
                .unwrap_or(0)
                .reverse_bits(),
        }
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrieOp {
    /// Insert the key under the id.
    Insert(u16, u8),
    /// Remove the key.
    Remove(u16),
    /// Look up 40 keys from this one on, one by one and all at once.
    Find(u16),
    /// Step a cursor that lives through the whole run.
    Step,
    /// Put the cursor back to the beginning.
    Rewind,
    /// Remove this many entries from the cursor on.
    Sweep(u8),
    /// Raise the capacity.
    Reserve(u8),
    /// Forget everything.
    Clear,
}

impl TrieOp {
    /// Reads an operation off the front of `data`, four bytes each; `None` at the end.
    pub fn decode(data: &mut &[u8]) -> Option<Self> {
        let (&[kind, a, b, c], rest) = data.split_first_chunk()?;
        *data = rest;
        let key = u16::from_le_bytes([a, b]) % Spread::COUNT;
        Some(match kind {
            0..=119 => Self::Insert(key, c),
            120..=199 => Self::Remove(key),
            200..=219 => Self::Find(key),
            220..=239 => Self::Step,
            240..=243 => Self::Rewind,
            244..=250 => Self::Sweep(c),
            251..=254 => Self::Reserve(c),
            255 => Self::Clear,
        })
    }
}

/// A trie and its twin, compared after every operation.
pub struct TrieRun {
    trie: LcIndex<Spread, ToyHash>,
    twin: BTreeMap<Spread, u32>,
    cursor: Cursor<Spread>,
    /// What a full walk of the cursor, begun at the last rewind, must still visit: entries there since then, unvisited.
    owed: BTreeMap<Spread, u32>,
    seen: BTreeMap<Spread, ()>,
}

impl TrieRun {
    /// An empty trie for `capacity` entries under `hash`.
    ///
    /// # Panics
    ///
    /// When memory is short.
    pub fn new(hash: ToyHash, capacity: usize) -> Self {
        Self {
            trie: LcIndex::try_with_hash(hash, capacity).expect("memory for a test"),
            twin: BTreeMap::new(),
            cursor: Cursor::new(),
            owed: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// The trie.
    pub fn trie(&self) -> &LcIndex<Spread, ToyHash> {
        &self.trie
    }

    /// Does `op` on both and compares the answers.
    ///
    /// # Panics
    ///
    /// When they differ, or an operation moved more than it may.
    pub fn apply(&mut self, op: TrieOp) {
        let before = self.trie.work().moves();
        match op {
            TrieOp::Insert(key, id) => self.insert(Spread(key), u32::from(id)),
            TrieOp::Remove(key) => self.remove(Spread(key)),
            TrieOp::Find(from) => self.find(from),
            TrieOp::Step => {
                self.step();
            }
            TrieOp::Rewind => {
                self.cursor = Cursor::new();
                self.owed = self.twin.clone();
                self.seen.clear();
            }
            TrieOp::Sweep(count) => {
                for _ in 0..count {
                    match self.step() {
                        Some(key) => self.remove(key),
                        None => break,
                    }
                }
                return;
            }
            TrieOp::Reserve(more) => {
                let capacity = self.trie.capacity() + usize::from(more);
                self.trie
                    .try_reserve(usize::from(more))
                    .expect("memory for a test");
                assert_eq!(self.trie.capacity(), capacity);
            }
            TrieOp::Clear => {
                self.trie.clear();
                self.twin.clear();
                self.owed.clear();
            }
        }
        let moves = self.trie.work().moves() - before;
        assert!(moves <= MOVES_MAX as u64, "{op:?} moved {moves}");
    }

    /// Compares everything.
    ///
    /// # Panics
    ///
    /// When an invariant is broken or contents differ.
    pub fn check(&self) {
        self.trie.check().expect("an invariant");
        assert_eq!(self.trie.len(), self.twin.len());
        let mut all: Vec<_> = self.trie.iter().collect();
        all.sort_unstable();
        assert!(
            all.iter()
                .copied()
                .eq(self.twin.iter().map(|(&k, &i)| (k, i)))
        );
    }

    fn insert(&mut self, key: Spread, id: u32) {
        let had = self.twin.get(&key).copied();
        match self.trie.insert(&key, id) {
            Ok(replaced) => {
                assert_eq!(replaced, had);
                self.twin.insert(key, id);
                if let Some(owed) = self.owed.get_mut(&key) {
                    *owed = id;
                }
            }
            Err(Full) => {
                // Always full at capacity; earlier only when headers are so bad that nodes run out.
                assert_eq!(had, None);
            }
        }
        assert_eq!(self.trie.find(&key), self.twin.get(&key).copied());
    }

    fn remove(&mut self, key: Spread) {
        assert_eq!(self.trie.remove(&key), self.twin.remove(&key));
        self.owed.remove(&key);
        self.seen.remove(&key);
        assert_eq!(self.trie.find(&key), None);
    }

    fn find(&self, from: u16) {
        let keys: Vec<_> = (from..from + 40)
            .map(|n| Spread(n % Spread::COUNT))
            .collect();
        let mut ids = [None; 40];
        self.trie.find_many(&keys, &mut ids);
        for (key, id) in keys.iter().zip(ids) {
            let expected = self.twin.get(key).copied();
            assert_eq!((self.trie.find(key), id), (expected, expected));
            let subtree = self.trie.subtree(key);
            assert_eq!(self.trie.find_from(subtree, key), expected);
            let wrong = Subtree::from_bits(subtree.to_bits() ^ 1 << (key.0 % 32));
            let elsewhere = self.trie.find_from(wrong, key);
            assert!(elsewhere.is_none() || elsewhere == expected);
            let trace = self.trie.trace(key);
            assert_eq!(trace.found, expected.is_some());
            assert!(trace.slots <= 1 + 64 + Spread::BITS && trace.cells <= 8);
        }
    }

    fn step(&mut self) -> Option<Spread> {
        match self.trie.next(&mut self.cursor) {
            Some((key, id)) => {
                assert_eq!(self.twin.get(&key), Some(&id));
                assert_eq!(self.seen.insert(key, ()), None, "visited twice");
                self.owed.remove(&key);
                Some(key)
            }
            None => {
                assert!(self.owed.is_empty(), "skipped {:?}", self.owed);
                None
            }
        }
    }
}

/// Runs the operations that `data` spells, checking each answer, and all invariants at the end.
///
/// # Panics
///
/// When trie and twin differ.
pub fn trie_ops(data: &[u8]) {
    let Some((&[hash, capacity], mut rest)) = data.split_first_chunk() else {
        return;
    };
    let mut run = TrieRun::new(ToyHash::nth(hash), usize::from(capacity) * 4);
    while let Some(op) = TrieOp::decode(&mut rest) {
        run.apply(op);
    }
    run.check();
}
