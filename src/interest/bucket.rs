//! The rules of one pair of prefixes: one in the slot, a few in a list, many in a bucket.
//!
//! Apart from the pairs so that a pair's cost in time and memory follows how many rules it has, and so that a pair with a
//! hundred thousand (any source, any destination) is still looked up by what its rules differ in.
//!
//! ```text
//!  cell      one rule, or a list of up to 24, or the number of a bucket
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

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::pool::{NONE, Pool};
use super::rule::{Dimension, Flow, Rule};
use super::table::{Slot, Table};
use super::visit::Visit;

/// What a key has: a rule, a list or a bucket. 32 bytes, on a boundary of 32, so that it never straddles a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Cell {
    /// Kind in the upper 8 bits, key in the lower 48.
    kind_key: u64,
    content: Rule,
}

const _: () = assert!(size_of::<Cell>() == 32);

const ONE: u64 = 1 << 56;
const LIST: u64 = 2 << 56;
const BUCKET: u64 = 3 << 56;
const KEY_MASK: u64 = (1 << 48) - 1;

/// Most rules of a list.
const LIST_MAX: usize = if cfg!(any(test, miri, fuzzing)) {
    4
} else {
    24
};
/// At so few rules, all of them in its chunks, a bucket becomes a list again.
const LIST_AGAIN: usize = LIST_MAX / 2;

impl Cell {
    fn one(key: u64, rule: Rule) -> Self {
        Self {
            kind_key: ONE | key,
            content: rule,
        }
    }

    fn list(key: u64, base: u32, count: usize) -> Self {
        let mut content = super::pool::Pooled::BLANK;
        let Rule {
            value, slot_any, ..
        } = &mut content;
        *value = base;
        *slot_any = count as u32;
        Self {
            kind_key: LIST | key,
            content,
        }
    }

    fn bucket(key: u64, number: u32) -> Self {
        Self {
            kind_key: BUCKET | key,
            ..Self::list(key, number, 0)
        }
    }

    fn kind(&self) -> u64 {
        self.kind_key & !KEY_MASK
    }

    fn base(&self) -> u32 {
        self.content.value
    }

    fn count(&self) -> usize {
        self.content.slot_any as usize
    }
}

impl Slot for Cell {
    const EMPTY: Self = Self {
        kind_key: 0,
        content: <Rule as super::pool::Pooled>::BLANK,
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

type Groups = [[u64; 16]; 10];

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
                self.rules.insert(&mut base, 1, 1, rule);
                Cell::list(key, base, 2)
            }
            LIST if cell.count() < LIST_MAX => {
                let mut base = cell.base();
                self.rules
                    .insert(&mut base, cell.count(), cell.count(), rule);
                Cell::list(key, base, cell.count() + 1)
            }
            LIST => {
                let number = self.open(key, level);
                for i in 0..cell.count() as u32 {
                    let moved = self.rules.at(cell.base() + i);
                    self.put(number, moved);
                }
                self.rules.discard(cell.base(), cell.count());
                self.put(number, rule);
                Cell::bucket(key, number)
            }
            _ => {
                self.put(cell.base(), rule);
                cell
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
        let mut base = NONE;
        let mut count = 0;
        for chunk in &bucket.chunks {
            for i in 0..chunk.count as u32 {
                let rule = self.rules.at(chunk.base + i);
                self.rules.insert(&mut base, count, count, rule);
                count += 1;
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
        match count {
            0 => None,
            1 => {
                let rule = self.rules.at(base);
                self.rules.discard(base, 1);
                Some(Cell::one(bucket.key, rule))
            }
            _ => Some(Cell::list(bucket.key, base, count)),
        }
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
            Cell::list(cell.key(), base, count - 1)
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

    /// Gives priority and slot of every rule of a cell that admits the flow to `visit`.
    #[inline]
    pub(super) fn admitting(&self, cell: &Cell, flow: &Flow, visit: &mut impl Visit) {
        match cell.kind() {
            ONE => {
                if cell.content.admits(flow) {
                    visit.visit(cell.content.priority, cell.content.slot());
                }
            }
            LIST => {
                for rule in self.rules.block(cell.base(), cell.count()) {
                    if rule.admits(flow) {
                        visit.visit(rule.priority, rule.slot());
                    }
                }
            }
            _ => self.admitting_bucket(cell.base(), flow, visit),
        }
    }

    fn admitting_bucket(&self, number: u32, flow: &Flow, visit: &mut impl Visit) {
        let Some(Some(bucket)) = self.buckets.get(number as usize) else {
            return;
        };
        for (at, dimension) in Dimension::ALL.into_iter().enumerate().skip(bucket.level) {
            if bucket.split.get(at).is_some_and(|&rules| rules > 0) {
                let key = key_below(number, value_in(at, flow.value(dimension)));
                if let Some(cell) = self.below.get(key) {
                    self.admitting(&cell, flow, visit);
                }
            }
        }
        let nibbles = nibbles_of(flow);
        let summaries = bucket.summaries.iter().zip(&bucket.firsts);
        for ((summary, first), chunks) in summaries.zip(bucket.chunks.chunks(64)) {
            if !visit.wants(*first) {
                continue;
            }
            let mut may = if chunks.len() < 3 {
                u64::MAX >> (64 - chunks.len())
            } else {
                intersect(summary, &nibbles)
            };
            while may != 0 {
                let chunk = chunks.get(may.trailing_zeros() as usize);
                may &= may - 1;
                let Some(chunk) = chunk else {
                    break;
                };
                if !visit.wants(chunk.first) {
                    continue;
                }
                let block = self.rules.block(chunk.base, chunk.count);
                let candidates = intersect(&chunk.groups, &nibbles);
                let mut sure = candidates & chunk.exact;
                while sure != 0 {
                    if let Some(rule) = block.get(sure.trailing_zeros() as usize) {
                        visit.visit(rule.priority, rule.slot());
                    }
                    sure &= sure - 1;
                }
                let mut unsure = candidates & !chunk.exact;
                while unsure != 0 {
                    if let Some(rule) = block.get(unsure.trailing_zeros() as usize) {
                        if rule.admits(flow) {
                            visit.visit(rule.priority, rule.slot());
                        }
                    }
                    unsure &= unsure - 1;
                }
            }
        }
    }

    /// Gives every rule of a cell that some flow meets together with `region` to `visit`.
    pub(super) fn meeting(&self, cell: &Cell, region: &Rule, visit: &mut impl FnMut(&Rule)) {
        match cell.kind() {
            ONE => {
                if cell.content.meets(region) {
                    visit(&cell.content);
                }
            }
            LIST => {
                let list = self.rules.block(cell.base(), cell.count());
                list.iter()
                    .filter(|rule| rule.meets(region))
                    .for_each(visit);
            }
            _ => self.meeting_bucket(cell.base(), region, visit),
        }
    }

    fn meeting_bucket(&self, number: u32, region: &Rule, visit: &mut impl FnMut(&Rule)) {
        let Some(Some(bucket)) = self.buckets.get(number as usize) else {
            return;
        };
        for (at, dimension) in Dimension::ALL.into_iter().enumerate().skip(bucket.level) {
            let (first, last) = region.span(dimension);
            for &value in bucket
                .values
                .range(value_in(at, first)..=value_in(at, last))
            {
                if let Some(cell) = self.below.get(key_below(number, value)) {
                    self.meeting(&cell, region, visit);
                }
            }
        }
        for chunk in &bucket.chunks {
            let mut candidates = u64::MAX >> (64 - chunk.count.clamp(1, 64));
            for (group, nibbles) in chunk.groups.iter().zip(nibbles(region)) {
                let words = group.iter().enumerate();
                candidates &= words
                    .filter(|(v, _)| nibbles >> v & 1 == 1)
                    .fold(0, |any, (_, word)| any | word);
            }
            let block = self.rules.block(chunk.base, chunk.count);
            while candidates != 0 {
                if let Some(rule) = block.get(candidates.trailing_zeros() as usize) {
                    if rule.meets(region) {
                        visit(rule);
                    }
                }
                candidates &= candidates - 1;
            }
        }
    }

    /// The rule of a slot in a cell. Cost: as [`take`](Self::take).
    pub(super) fn find(&self, cell: &Cell, slot: u32) -> Option<Rule> {
        match cell.kind() {
            ONE => Some(cell.content).filter(|rule| rule.slot() == slot),
            LIST => {
                let list = self.rules.block(cell.base(), cell.count());
                list.iter().find(|rule| rule.slot() == slot).copied()
            }
            _ => {
                let place = self.places.get(u64::from(slot) + 1)?;
                match place.holder {
                    Holder::Chunks(number) => {
                        let bucket = self.buckets.get(number as usize)?.as_ref()?;
                        let chunk = bucket.chunks.get(place.at as usize / CHUNK)?;
                        Some(self.rules.at(chunk.base + place.at % CHUNK as u32))
                    }
                    Holder::Below(key) => {
                        let cell = self.below.get(key)?;
                        (cell.kind() != BUCKET).then(|| self.find(&cell, slot))?
                    }
                }
            }
        }
    }

    /// Tests one cell and all below it: gives the number of its rules, each given to `seen`.
    pub(super) fn check(
        &self,
        cell: &Cell,
        seen: &mut dyn FnMut(&Rule),
    ) -> Result<usize, &'static str> {
        match cell.kind() {
            ONE => {
                seen(&cell.content);
                Ok(1)
            }
            LIST => {
                let list = self.rules.block(cell.base(), cell.count());
                if list.len() != cell.count() || !(2..=LIST_MAX).contains(&list.len()) {
                    return Err("bucket: length of a list");
                }
                list.iter().for_each(seen);
                Ok(list.len())
            }
            _ => self.check_bucket(cell, seen),
        }
    }

    fn check_bucket(
        &self,
        cell: &Cell,
        seen: &mut dyn FnMut(&Rule),
    ) -> Result<usize, &'static str> {
        let number = cell.base();
        let Some(Some(bucket)) = self.buckets.get(number as usize) else {
            return Err("bucket: none of that number");
        };
        if bucket.key != cell.key() {
            return Err("bucket: another cell's");
        }
        let mut total = 0;
        let mut split = [0; 3];
        for &value in &bucket.values {
            let key = key_below(number, value);
            let below = self
                .below
                .get(key)
                .ok_or("bucket: a value without a cell")?;
            let mut fault = false;
            let count = self.check(&below, &mut |rule| {
                fault |= bucket.way(rule).map(|(v, _)| v) != Some(value);
                let place = self.places.get(u64::from(rule.slot()) + 1);
                fault |= match place.map(|p| p.holder) {
                    Some(Holder::Below(k)) => below.kind() != BUCKET && k != key,
                    Some(Holder::Chunks(_)) => below.kind() != BUCKET,
                    None => true,
                };
                seen(rule);
            })?;
            if fault {
                return Err("bucket: a rule in the wrong cell");
            }
            total += count;
            if let Some(split) = split.get_mut((value >> 22) as usize) {
                *split += count;
            }
        }
        if split != bucket.split {
            return Err("bucket: count of rules below");
        }
        if bucket.summaries.len() != bucket.chunks.len().div_ceil(64) {
            return Err("bucket: count of summaries");
        }
        let mut summary: Groups = [[0; 16]; 10];
        for (index, chunk) in bucket.chunks.iter().enumerate() {
            let mut groups: Groups = [[0; 16]; 10];
            let block = self.rules.block(chunk.base, chunk.count);
            let full = index + 1 < bucket.chunks.len();
            if block.len() != chunk.count || block.is_empty() || full && block.len() != CHUNK {
                return Err("bucket: length of a chunk");
            }
            for (at, rule) in block.iter().enumerate() {
                if bucket.way(rule).is_some() {
                    return Err("bucket: a rule in the chunks that belongs below");
                }
                mark(&mut groups, &nibbles(rule), at);
                mark(&mut summary, &nibbles(rule), index % 64);
                let place = self.places.get(u64::from(rule.slot()) + 1);
                let here = (Holder::Chunks(number), (index * CHUNK + at) as u32);
                if place.map(|p| (p.holder, p.at)) != Some(here) {
                    return Err("bucket: whereabouts of a rule");
                }
                seen(rule);
            }
            let exact = (0..).zip(block).fold(0, |exact, (at, rule)| {
                exact | u64::from(is_exact(rule)) << at
            });
            if chunk.first != earliest(block) || chunk.exact != exact {
                return Err("bucket: summary of a chunk");
            }
            if *chunk.groups != groups {
                return Err("bucket: bits of a chunk");
            }
            total += block.len();
            if index % 64 == 63 || !full {
                if bucket.summaries.get(index / 64).map(|s| **s) != Some(summary) {
                    return Err("bucket: bits of a summary");
                }
                summary = [[0; 16]; 10];
            }
        }
        for (at, first) in bucket.firsts.iter().enumerate() {
            if *first != bucket.first_of(at) {
                return Err("bucket: earliest of a summary");
            }
        }
        if bucket.firsts.len() != bucket.summaries.len() {
            return Err("bucket: count of summaries");
        }
        if total != bucket.len || total == 0 {
            return Err("bucket: count of rules");
        }
        Ok(total)
    }

    /// Tests the tables, once all cells are tested.
    pub(super) fn check_tables(&self) -> Result<(), &'static str> {
        self.below.check()?;
        self.places.check()?;
        let open = self.buckets.iter().filter(|b| b.is_some()).count();
        if open != self.len() {
            return Err("bucket: count of buckets");
        }
        let values: usize = self.buckets.iter().flatten().map(|b| b.values.len()).sum();
        if values != self.below.len() {
            return Err("bucket: cells below that no bucket knows");
        }
        Ok(())
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
}

impl Bucket {
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

/// Whether a rule admits exactly the flows that have its nibbles: it asks for nothing else, and its port ranges are whole blocks.
fn is_exact(rule: &Rule) -> bool {
    let whole = |(first, width): (u16, u16)| {
        let last = first.wrapping_add(width);
        // Nibbles below the one where the ends part must run from 0 to 15.
        let below = match (first ^ last).checked_ilog2() {
            None => 0,
            Some(bit) => (1u16 << (bit / 4 * 4)) - 1,
        };
        first & below == 0 && last & below == below
    };
    rule.asks_protocol_at_most() && whole(rule.source_ports()) && whole(rule.destination_ports())
}

/// A value with the number of its dimension above it: 24 bits.
fn value_in(dimension: usize, value: u32) -> u32 {
    (dimension as u32) << 22 | value
}

fn key_below(bucket: u32, value: u32) -> u64 {
    u64::from(bucket) << 24 | u64::from(value)
}

/// The nibbles that a rule admits, a set for each group.
fn nibbles(rule: &Rule) -> [u16; 10] {
    let mut sets = [u16::MAX; 10];
    let (ports, protocol) = sets.split_at_mut(8);
    let sides = [rule.destination_ports(), rule.source_ports()];
    for (side, (first, width)) in ports.chunks_mut(4).zip(sides) {
        let last = first.wrapping_add(width);
        let mut shift = 12;
        for set in side {
            let (from, to) = (first >> shift & 15, last >> shift & 15);
            *set = (u16::MAX >> (15 - to)) & (u16::MAX << from);
            if from != to {
                break;
            }
            shift -= 4;
        }
    }
    if let (Some(value), [high, low]) = (rule.protocol(), protocol) {
        *high = 1 << (value >> 4);
        *low = 1 << (value & 15);
    }
    sets
}

/// The nibbles of a flow.
fn nibbles_of(flow: &Flow) -> [u8; 10] {
    let (d, s, p) = (flow.destination_port, flow.source_port, flow.protocol());
    let nibble = |port: u16, shift: u32| (port >> shift & 15) as u8;
    [
        nibble(d, 12),
        nibble(d, 8),
        nibble(d, 4),
        nibble(d, 0),
        nibble(s, 12),
        nibble(s, 8),
        nibble(s, 4),
        nibble(s, 0),
        p >> 4,
        p & 15,
    ]
}

fn mark(groups: &mut Groups, nibbles: &[u16; 10], at: usize) {
    for (group, set) in groups.iter_mut().zip(nibbles) {
        for (value, word) in group.iter_mut().enumerate() {
            *word |= u64::from(set >> value & 1) << at;
        }
    }
}

fn erase(groups: &mut Groups, at: usize) {
    for word in groups.iter_mut().flatten() {
        *word &= !(1 << at);
    }
}

/// Makes a chunk's bit in a summary what the chunk says.
fn summarize(summary: &mut Groups, groups: &Groups, at: usize) {
    for (mine, theirs) in summary.iter_mut().flatten().zip(groups.iter().flatten()) {
        *mine = *mine & !(1 << at) | u64::from(*theirs != 0) << at;
    }
}

#[inline]
fn intersect(groups: &Groups, nibbles: &[u8; 10]) -> u64 {
    groups
        .iter()
        .zip(nibbles)
        .fold(u64::MAX, |all, (group, &nibble)| {
            all & group[usize::from(nibble & 15)]
        })
}
