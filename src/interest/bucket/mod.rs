//! The rules of one pair of prefixes: one in the slot, a few in a list, many in a bucket.
//!
//! Apart from the pairs so that a pair's cost in time and memory follows how many rules it has, and so that a pair with a
//! hundred thousand (any source, any destination) is still looked up by what its rules differ in.
//!
//! ```text
//!  cell      one rule, or a list of up to 24 by priority, or the number of a bucket; and the earliest priority in it
//!  bucket    rules with one destination port   ─► a cell for each port    ┐
//!            other rules with one zone         ─► a cell for each zone    ├ one hash table for all buckets
//!            other rules with one source port  ─► a cell for each port    ┘
//!            what is left                      ─► chunks of 64 rules
//!  chunk     10 groups of 16 words: bit i of word v of group g = rule i admits nibble v at place g
//!            (4 nibbles of each port, 2 of the protocol): the AND of ten words is the set of candidates
//!  summary   the same for 64 chunks: bit c = some rule of chunk c admits it
//! ```
//!
//! The cells below a bucket are cells like any other and become buckets in their turn, which split by what their parent has
//! not. The chunk is Lakshman and Stiliadis's bit vector (SIGCOMM 1998, section 4) over nibbles, the summary Baboescu and
//! Varghese's aggregation (SIGCOMM 2001, section 3). A range of ports is kept as the nibbles that it can have, which is a
//! superset once it has parted; candidates are therefore verified.
//!
//! Cost of a lookup in a bucket of n rules: three probes, n / 4096 summaries, ten words for each chunk that may match, and
//! the rules that match. Of an edit: one probe a level, at most 160 words.

mod cell;
mod check;
mod find;
mod nibble;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

pub(super) use self::cell::Cell;
use self::cell::{BUCKET, LIST, LIST_AGAIN, LIST_MAX, ONE};
use self::nibble::{Groups, erase, is_exact, mark, nibbles, summarize};
use super::pool::{NONE, Pool};
use super::rule::{Dimension, Rule};
use super::table::{Slot, Table};

/// Where a rule that is in a bucket lies.
#[derive(Clone, Copy, Debug)]
struct Whereabouts {
    /// The rule's slot in the index, plus 1.
    slot: u32,
    /// Place in the chunks, if it is there.
    at: u32,
    /// Number of the bucket in whose chunks it is, or key of the cell below a bucket.
    holder: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Chunks(u32),
    Below(u64),
}

impl Slot for Whereabouts {
    const EMPTY: Self = Self {
        slot: 0,
        at: 0,
        holder: Holder::Chunks(0),
    };

    fn is_empty(&self) -> bool {
        self.slot == 0
    }

    fn key(&self) -> u64 {
        u64::from(self.slot)
    }
}

/// All lists and buckets of a family.
#[derive(Debug)]
pub(super) struct Buckets {
    rules: Pool<Rule>,
    buckets: Vec<Option<Box<Bucket>>>,
    vacant: Vec<u32>,
    /// Cells below buckets, by bucket and value.
    below: Table<Cell>,
    places: Table<Whereabouts>,
}

#[derive(Debug)]
struct Bucket {
    /// The key of its cell.
    key: u64,
    /// The first dimension that it may split by: those before it are settled by its key.
    level: usize,
    len: usize,
    /// Rules in cells below, by dimension.
    split: [usize; 3],
    /// Keys of the cells below, of which only the lower 24 bits are kept: dimension and value.
    values: BTreeSet<u32>,
    chunks: Vec<Chunk>,
    #[expect(
        clippy::vec_box,
        reason = "growth moves pointers, not a kilobyte for each"
    )]
    summaries: Vec<Box<Groups>>,
    /// Of the chunks of each summary: the earliest priority.
    firsts: Vec<u64>,
}

#[derive(Debug)]
struct Chunk {
    groups: Box<Groups>,
    /// The earliest priority in it.
    first: u64,
    /// Rules that are no more than their nibbles say, so that a candidate needs no test.
    exact: u64,
    base: u32,
    count: usize,
}

const CHUNK: usize = 64;

impl Buckets {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            rules: Pool::new(),
            buckets: Vec::new(),
            vacant: Vec::new(),
            below: Table::new(seed),
            places: Table::new(seed),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len() - self.vacant.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let of_bucket = |bucket: &Bucket| {
            // A tree's nodes are about two thirds full.
            size_of::<Bucket>()
                + bucket.values.len() * 6
                + bucket.chunks.capacity() * size_of::<Chunk>()
                + bucket.firsts.capacity() * size_of::<u64>()
                + (bucket.chunks.len() + bucket.summaries.len()) * size_of::<Groups>()
                + bucket.summaries.capacity() * size_of::<usize>()
        };
        self.rules.bytes()
            + self.below.bytes()
            + self.places.bytes()
            + self.buckets.capacity() * size_of::<usize>()
            + self.vacant.capacity() * size_of::<u32>()
            + self
                .buckets
                .iter()
                .flatten()
                .map(|b| of_bucket(b))
                .sum::<usize>()
    }

    /// The cell of a key with one rule more. `level` is the first dimension that the key does not settle.
    pub(super) fn add(&mut self, cell: Option<Cell>, key: u64, rule: Rule, level: usize) -> Cell {
        let Some(cell) = cell else {
            return Cell::one(key, rule);
        };
        match cell.kind() {
            ONE => {
                let mut base = NONE;
                self.rules.insert(&mut base, 0, 0, cell.content);
                self.lengthen(key, base, 1, rule)
            }
            LIST if cell.count() < LIST_MAX => self.lengthen(key, cell.base(), cell.count(), rule),
            LIST => {
                let number = self.open(key, level);
                for i in 0..cell.count() as u32 {
                    let moved = self.rules.at(cell.base() + i);
                    self.put(number, moved);
                }
                self.rules.discard(cell.base(), cell.count());
                self.put(number, rule);
                Cell::bucket(key, number, rule.priority.min(cell.first()))
            }
            _ => {
                self.put(cell.base(), rule);
                Cell::bucket(key, cell.base(), rule.priority.min(cell.first()))
            }
        }
    }

    /// The cell without the rule of a slot, and that rule. No cell: it was the last. Neither: it was not there.
    pub(super) fn take(&mut self, cell: Cell, slot: u32) -> Option<(Rule, Option<Cell>)> {
        match cell.kind() {
            ONE => (cell.content.slot() == slot).then_some((cell.content, None)),
            LIST => {
                let list = self.rules.block(cell.base(), cell.count());
                let at = list.iter().position(|rule| rule.slot() == slot)?;
                let rule = list.get(at).copied()?;
                Some((rule, Some(self.shorten(cell, at))))
            }
            _ => {
                let place = self.places.remove(u64::from(slot) + 1)?;
                let (rule, mut number) = match place.holder {
                    Holder::Chunks(number) => (self.pull(number, place.at)?, number),
                    Holder::Below(key) => self.take_below(key, slot)?,
                };
                // Upwards: each bucket on the way has one rule less.
                loop {
                    let (key, left) = {
                        let bucket = self.bucket_mut(number)?;
                        bucket.len -= 1;
                        (bucket.key, bucket.len)
                    };
                    let settled = self.settle(number);
                    if number == cell.base() {
                        return Some((rule, settled.or((left > 0).then_some(cell))));
                    }
                    let parent = (key >> 24) as u32;
                    self.replace_below(parent, key, rule, settled, left > 0)?;
                    number = parent;
                }
            }
        }
    }

    /// Takes a rule out of a cell, not a bucket, below a bucket; gives that bucket's number.
    fn take_below(&mut self, key: u64, slot: u32) -> Option<(Rule, u32)> {
        let cell = self.below.get(key)?;
        let (rule, rest) = match cell.kind() {
            BUCKET => return None,
            _ => self.take(cell, slot)?,
        };
        let parent = (key >> 24) as u32;
        self.replace_below(parent, key, rule, rest, rest.is_some())?;
        Some((rule, parent))
    }

    /// Records that the cell of `key` below `parent` has lost `rule`: it is `cell` now, or as it was, or gone.
    fn replace_below(
        &mut self,
        parent: u32,
        key: u64,
        rule: Rule,
        cell: Option<Cell>,
        remains: bool,
    ) -> Option<()> {
        if let Some(cell) = cell {
            self.below.change(key, |_| cell);
        } else if !remains {
            self.below.remove(key);
        }
        let bucket = self.bucket_mut(parent)?;
        let (_, at) = bucket.way(&rule)?;
        if let Some(split) = bucket.split.get_mut(at) {
            *split -= 1;
        }
        if !remains {
            bucket.values.remove(&((key & 0xff_ffff) as u32));
        }
        Some(())
    }

    /// Closes a bucket that is empty, and turns one with few rules, all in its chunks, into the list that it returns.
    fn settle(&mut self, number: u32) -> Option<Cell> {
        let bucket = self.buckets.get(number as usize)?.as_ref()?;
        let in_chunks = bucket.split == [0; 3];
        if !in_chunks || bucket.len > LIST_AGAIN {
            return None;
        }
        let bucket = self.buckets.get_mut(number as usize)?.take()?;
        self.vacant.push(number);
        let is_below = bucket.level > 0;
        let mut rest = None;
        for chunk in &bucket.chunks {
            for i in 0..chunk.count as u32 {
                let rule = self.rules.at(chunk.base + i);
                // So few are never a bucket.
                rest = Some(self.add(rest, bucket.key, rule, bucket.level));
                let slot = rule.slot() + 1;
                if is_below {
                    self.places.change(u64::from(slot), |_| Whereabouts {
                        slot,
                        at: 0,
                        holder: Holder::Below(bucket.key),
                    });
                } else {
                    self.places.remove(u64::from(slot));
                }
            }
            self.rules.discard(chunk.base, chunk.count);
        }
        rest
    }

    /// A list of `count` rules with one more, which goes behind those of its priority.
    fn lengthen(&mut self, key: u64, mut base: u32, count: usize, rule: Rule) -> Cell {
        let list = self.rules.block(base, count);
        let at = list.partition_point(|held| held.priority <= rule.priority);
        self.rules.insert(&mut base, count, at, rule);
        Cell::list(key, base, count + 1, self.rules.at(base).priority)
    }

    fn shorten(&mut self, cell: Cell, at: usize) -> Cell {
        let mut base = cell.base();
        let count = cell.count();
        self.rules.remove(&mut base, count, at);
        if count == 2 {
            let last = self.rules.at(base);
            self.rules.discard(base, 1);
            Cell::one(cell.key(), last)
        } else {
            Cell::list(cell.key(), base, count - 1, self.rules.at(base).priority)
        }
    }

    fn open(&mut self, key: u64, level: usize) -> u32 {
        let bucket = Some(Box::new(Bucket {
            key,
            level,
            len: 0,
            split: [0; 3],
            values: BTreeSet::new(),
            chunks: Vec::new(),
            summaries: Vec::new(),
            firsts: Vec::new(),
        }));
        if let Some(number) = self.vacant.pop() {
            if let Some(place) = self.buckets.get_mut(number as usize) {
                *place = bucket;
            }
            return number;
        }
        self.buckets.push(bucket);
        self.buckets.len() as u32 - 1
    }

    /// Puts a rule into a bucket. The recursion is at most one call a dimension deep.
    fn put(&mut self, number: u32, rule: Rule) {
        let Some(bucket) = self.bucket_mut(number) else {
            return;
        };
        bucket.len += 1;
        let slot = rule.slot() + 1;
        if let Some((value, at)) = bucket.way(&rule) {
            if let Some(split) = bucket.split.get_mut(at) {
                *split += 1;
            }
            bucket.values.insert(value);
            let key = key_below(number, value);
            let here = Whereabouts {
                slot,
                at: 0,
                holder: Holder::Below(key),
            };
            self.places.change(u64::from(slot), |_| here);
            let cell = self.below.get(key);
            let cell = self.add(cell, key, rule, at + 1);
            self.below.change(key, |_| cell);
            return;
        }
        if bucket
            .chunks
            .last()
            .is_none_or(|chunk| chunk.count == CHUNK)
        {
            if bucket.chunks.len() % 64 == 0 {
                bucket.summaries.push(Box::new([[0; 16]; 10]));
                bucket.firsts.push(u64::MAX);
            }
            bucket.chunks.push(Chunk {
                groups: Box::new([[0; 16]; 10]),
                first: u64::MAX,
                exact: 0,
                base: NONE,
                count: 0,
            });
        }
        let index = bucket.chunks.len() - 1;
        if let Some(chunk) = bucket.chunks.last_mut() {
            let at = chunk.count;
            let nibbles = nibbles(&rule);
            mark(&mut chunk.groups, &nibbles, at);
            chunk.count += 1;
            chunk.first = chunk.first.min(rule.priority);
            chunk.exact |= u64::from(is_exact(&rule)) << at;
            if let Some(first) = bucket.firsts.last_mut() {
                *first = rule.priority.min(*first);
            }
            let mut base = chunk.base;
            if let Some(summary) = bucket.summaries.last_mut() {
                mark(summary, &nibbles, index % 64);
            }
            self.rules.insert(&mut base, at, at, rule);
            if let Some(chunk) = self.bucket_mut(number).and_then(|b| b.chunks.last_mut()) {
                chunk.base = base;
            }
            let here = Whereabouts {
                slot,
                at: (index * CHUNK + at) as u32,
                holder: Holder::Chunks(number),
            };
            self.places.change(u64::from(slot), |_| here);
        }
    }

    /// Takes the rule at a place out of a bucket's chunks; the last of all takes its place.
    fn pull(&mut self, number: u32, place: u32) -> Option<Rule> {
        let bucket = self.buckets.get_mut(number as usize)?.as_mut()?;
        let last_index = bucket.chunks.len().checked_sub(1)?;
        let (index, at) = (place as usize / CHUNK, place as usize % CHUNK);
        // The last rule leaves its place.
        let last = bucket.chunks.last_mut()?;
        let last_at = last.count.checked_sub(1)?;
        let moved = self.rules.at(last.base + last_at as u32);
        self.rules.remove(&mut last.base, last.count, last_at);
        last.count = last_at;
        erase(&mut last.groups, last_at);
        last.exact &= !(1 << last_at);
        last.first = earliest(self.rules.block(last.base, last.count));
        let summary = bucket.summaries.get_mut(last_index / 64)?;
        summarize(summary, &last.groups, last_index % 64);
        if last.count == 0 {
            bucket.chunks.pop();
            if last_index % 64 == 0 {
                bucket.summaries.pop();
                bucket.firsts.pop();
            }
        }
        bucket.review(last_index / 64);
        if (index, at) == (last_index, last_at) {
            return Some(moved);
        }
        // And takes that of the rule taken.
        let chunk = bucket.chunks.get_mut(index)?;
        let home = self.rules.at_mut(chunk.base + at as u32)?;
        let taken = core::mem::replace(home, moved);
        let nibbles = nibbles(&moved);
        erase(&mut chunk.groups, at);
        mark(&mut chunk.groups, &nibbles, at);
        chunk.exact = chunk.exact & !(1 << at) | u64::from(is_exact(&moved)) << at;
        chunk.first = earliest(self.rules.block(chunk.base, chunk.count));
        let summary = bucket.summaries.get_mut(index / 64)?;
        summarize(summary, &chunk.groups, index % 64);
        bucket.review(index / 64);
        let slot = moved.slot() + 1;
        self.places.change(u64::from(slot), |_| Whereabouts {
            slot,
            at: place,
            holder: Holder::Chunks(number),
        });
        Some(taken)
    }

    fn bucket_mut(&mut self, number: u32) -> Option<&mut Bucket> {
        self.buckets.get_mut(number as usize)?.as_deref_mut()
    }
}

impl Bucket {
    /// The value below which a rule belongs, and the number of the dimension; none for the chunks.
    fn way(&self, rule: &Rule) -> Option<(u32, usize)> {
        Dimension::ALL
            .into_iter()
            .enumerate()
            .skip(self.level)
            .find_map(|(at, dimension)| Some((value_in(at, rule.exact(dimension)?), at)))
    }

    /// The earliest priority in the chunks of a summary.
    fn first_of(&self, summary: usize) -> u64 {
        let chunks = self.chunks.chunks(64).nth(summary).unwrap_or(&[]);
        chunks
            .iter()
            .map(|chunk| chunk.first)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Brings [`firsts`](Self::firsts) up to date. Cost: 64 chunks.
    fn review(&mut self, summary: usize) {
        let found = self.first_of(summary);
        if let Some(first) = self.firsts.get_mut(summary) {
            *first = found;
        }
    }
}

/// The earliest priority of some rules.
fn earliest(rules: &[Rule]) -> u64 {
    rules
        .iter()
        .map(|rule| rule.priority)
        .min()
        .unwrap_or(u64::MAX)
}

/// A value with the number of its dimension above it: 24 bits.
fn value_in(dimension: usize, value: u32) -> u32 {
    (dimension as u32) << 22 | value
}

fn key_below(bucket: u32, value: u32) -> u64 {
    u64::from(bucket) << 24 | u64::from(value)
}
