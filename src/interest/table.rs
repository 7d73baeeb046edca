//! A hash table of plain slots that grows and shrinks a few slots at a time.
//!
//! Apart from every other table because an edit must never wait for a rehash: the table is resized by a cursor that moves
//! past at most a few clusters an edit, and a lookup still searches one place.
//!
//! The home of a key is its hash scaled to the table's length, so that slots lie in the order of their hashes (but for the
//! displacements of linear probing) whatever the length. A resize therefore copies the old pages in order into the new ones
//! in order: pages behind the cursor are freed as it passes, pages ahead of it are not yet there, and which of the two
//! tables holds a key is told by comparing the key's old home with the cursor.
//!
//! ```text
//!  old    ......freed......|#####_###__####_|     the slot before the cursor was empty: no cluster straddles it
//!                          ^ cursor
//!  new    ###_##_##__#_##_#|..not there yet..............|
//! ```
//!
//! Cost, at a load of at most 4/5: a lookup that finds reads 3 slots on average and one that does not 13 at the most loaded
//! moment (Knuth, TAOCP vol. 3, 6.4 Theorem K); an edit, the same and [`STEP`] slots moved while a resize is under way.
//! The hash is keyed: who does not know the seed cannot choose keys that collide.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a table holds.
pub(super) trait Slot: Copy {
    const EMPTY: Self;
    fn is_empty(&self) -> bool;
    /// What it is found by.
    fn key(&self) -> u64;
}

/// Slots found by a key of 64 bits.
#[derive(Debug)]
pub(super) struct Table<S> {
    seed: u64,
    len: usize,
    current: Pages<S>,
    /// The table being left, and how far: keys with a home before the cursor have moved.
    old: Pages<S>,
    cursor: u32,
}

/// Slots in a page.
const PAGE: usize = 64;
/// Slots that an edit moves while a resize is under way, before it stops at the next empty slot.
pub(super) const STEP: u32 = 8;
/// Fewest homes of a table that holds anything.
const HOMES_MIN: u32 = 8;

#[derive(Debug)]
struct Pages<S> {
    pages: Vec<Option<Box<[S; PAGE]>>>,
    held: usize,
    /// Homes; slots behind them take what the last homes displace.
    homes: u32,
}

impl<S: Slot> Pages<S> {
    const NONE: Self = Self {
        pages: Vec::new(),
        held: 0,
        homes: 0,
    };

    #[inline]
    fn home(&self, hash: u32) -> u32 {
        ((u64::from(hash) * u64::from(self.homes)) >> 32) as u32
    }

    #[inline]
    fn at(&self, index: u32) -> S {
        match self.pages.get(index as usize / PAGE) {
            Some(Some(page)) => page[index as usize % PAGE],
            _ => S::EMPTY,
        }
    }

    fn put(&mut self, index: u32, slot: S) {
        let at = index as usize / PAGE;
        while self.pages.len() <= at {
            self.pages.push(None);
        }
        if let Some(page) = self.pages.get_mut(at) {
            if page.is_none() {
                self.held += 1;
            }
            page.get_or_insert_with(|| Box::new([S::EMPTY; PAGE]))[index as usize % PAGE] = slot;
        }
    }

    #[inline]
    fn find(&self, home: u32, key: u64) -> Result<(u32, S), u32> {
        let mut index = home;
        loop {
            let slot = self.at(index);
            if slot.is_empty() {
                return Err(index);
            }
            if slot.key() == key {
                return Ok((index, slot));
            }
            index += 1;
        }
    }

    fn bytes(&self) -> usize {
        self.held * size_of::<[S; PAGE]>() + self.pages.capacity() * size_of::<usize>()
    }
}

impl<S: Slot> Table<S> {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            seed,
            len: 0,
            current: Pages::NONE,
            old: Pages::NONE,
            cursor: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.current.bytes() + self.old.bytes()
    }

    /// The hash of a key: two rounds of multiplication, folded, under the seed.
    #[inline]
    pub(super) fn hash(&self, key: u64) -> u32 {
        let wide = u128::from(key ^ self.seed) * u128::from(self.seed.rotate_left(32) | 1);
        let folded = (wide >> 64) as u64 ^ wide as u64;
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// The slot of a key.
    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<S> {
        let hash = self.hash(key);
        self.get_hashed(key, hash)
    }

    /// [`get`](Self::get) for a key whose hash is known.
    #[inline]
    pub(super) fn get_hashed(&self, key: u64, hash: u32) -> Option<S> {
        let (pages, home) = self.place(hash);
        pages.find(home, key).ok().map(|(_, slot)| slot)
    }

    /// The slot at the home of a hash, whosever it is: [`get_hashed`](Self::get_hashed) says more unless it is empty.
    #[inline]
    pub(super) fn peek(&self, hash: u32) -> S {
        let (pages, home) = self.place(hash);
        pages.at(home)
    }

    /// Puts what `change` makes of the slot of a key, or of its absence. The new slot has the same key.
    pub(super) fn change(&mut self, key: u64, change: impl FnOnce(Option<S>) -> S) {
        self.step();
        let hash = self.hash(key);
        let (pages, home) = self.place_mut(hash);
        match pages.find(home, key) {
            Ok((index, slot)) => pages.put(index, change(Some(slot))),
            Err(index) => {
                pages.put(index, change(None));
                self.len += 1;
                self.fit();
            }
        }
    }

    /// Removes the slot of a key.
    pub(super) fn remove(&mut self, key: u64) -> Option<S> {
        self.step();
        let hash = self.hash(key);
        let (pages, home) = self.place(hash);
        let (mut gap, found) = pages.find(home, key).ok()?;
        let old = self.is_old(hash);
        // What follows moves up, unless that were before its home (Knuth 6.4 algorithm R).
        let mut index = gap + 1;
        loop {
            let pages = if old { &self.old } else { &self.current };
            let slot = pages.at(index);
            if slot.is_empty() {
                break;
            }
            if pages.home(self.hash(slot.key())) <= gap {
                let pages = if old {
                    &mut self.old
                } else {
                    &mut self.current
                };
                pages.put(gap, slot);
                gap = index;
            }
            index += 1;
        }
        let pages = if old {
            &mut self.old
        } else {
            &mut self.current
        };
        pages.put(gap, S::EMPTY);
        self.len -= 1;
        self.fit();
        Some(found)
    }

    /// All slots, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = S> {
        let pages = self.old.pages.iter().chain(&self.current.pages);
        pages
            .flatten()
            .flat_map(|page| page.iter().copied())
            .filter(|slot| !slot.is_empty())
    }

    #[inline]
    fn is_old(&self, hash: u32) -> bool {
        self.old.homes != 0 && self.old.home(hash) >= self.cursor
    }

    #[inline]
    fn place(&self, hash: u32) -> (&Pages<S>, u32) {
        if self.is_old(hash) {
            (&self.old, self.old.home(hash))
        } else {
            (&self.current, self.current.home(hash))
        }
    }

    fn place_mut(&mut self, hash: u32) -> (&mut Pages<S>, u32) {
        if self.current.homes == 0 {
            self.current.homes = HOMES_MIN;
        }
        if self.is_old(hash) {
            let home = self.old.home(hash);
            (&mut self.old, home)
        } else {
            let home = self.current.home(hash);
            (&mut self.current, home)
        }
    }

    /// Begins a resize when the load asks for one.
    fn fit(&mut self) {
        let homes = self.current.homes as usize;
        let wanted = if self.len * 5 > homes * 4 {
            homes + homes / 4 + 2
        } else if homes > HOMES_MIN as usize && self.len * 3 < homes {
            homes - homes / 3
        } else {
            return;
        };
        if self.len == 0 {
            self.current = Pages::NONE;
            self.old = Pages::NONE;
            return;
        }
        // A resize still under way ends first. The rates are such that little of it can be left.
        while self.old.homes != 0 {
            self.step();
        }
        let homes = (wanted as u32).max(HOMES_MIN);
        let mut pages = Vec::new();
        pages.reserve_exact(homes as usize / PAGE + 2);
        let grown = Pages {
            pages,
            held: 0,
            homes,
        };
        self.old = core::mem::replace(&mut self.current, grown);
        self.cursor = 0;
        self.step();
    }

    /// Moves some slots of the table being left.
    fn step(&mut self) {
        if self.old.homes == 0 {
            return;
        }
        let end = (self.old.pages.len() * PAGE) as u32;
        let mut moved = 0;
        while self.cursor < end {
            let slot = self.old.at(self.cursor);
            if slot.is_empty() {
                if moved >= STEP {
                    break;
                }
            } else {
                let hash = self.hash(slot.key());
                let home = self.current.home(hash);
                if let Err(index) = self.current.find(home, slot.key()) {
                    self.current.put(index, slot);
                }
                self.old.put(self.cursor, S::EMPTY);
            }
            moved += 1;
            self.cursor += 1;
            if self.cursor as usize % PAGE == 0 {
                let passed = self.old.pages.get_mut(self.cursor as usize / PAGE - 1);
                if passed.and_then(Option::take).is_some() {
                    self.old.held -= 1;
                }
            }
        }
        if self.cursor >= end {
            self.old = Pages::NONE;
            self.cursor = 0;
        }
    }

    /// Tests that every slot is found where it is, and the count. Cost: O(n).
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let mut count = 0;
        for (pages, from, old) in [(&self.old, self.cursor, true), (&self.current, 0, false)] {
            for index in from..(pages.pages.len() * PAGE) as u32 {
                let slot = pages.at(index);
                if slot.is_empty() {
                    continue;
                }
                count += 1;
                let hash = self.hash(slot.key());
                if self.is_old(hash) != old {
                    return Err("table: a slot on the wrong side of the cursor");
                }
                if pages.find(pages.home(hash), slot.key()).map(|(at, _)| at) != Ok(index) {
                    return Err("table: a slot that is not found");
                }
            }
        }
        if count != self.len {
            return Err("table: count of slots");
        }
        if self.len * 5 > self.current.homes as usize * 4 + 40 {
            return Err("table: load above four fifths");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    /// Key above 16, value below; never 0.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Pair(u64);

    impl Slot for Pair {
        const EMPTY: Self = Self(0);
        fn is_empty(&self) -> bool {
            self.0 == 0
        }
        fn key(&self) -> u64 {
            self.0 >> 16
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        /// Against a map, with growth and shrinking in midst: waves of inserts and removes over a few hundred keys.
        #[test]
        fn like_a_map(seed: u64, ops in prop::collection::vec((0u8..8, 0u64..300), 0..1500)) {
            let mut table = Table::new(seed);
            let mut map = BTreeMap::new();
            let mut filling = true;
            for (step, (op, key)) in ops.into_iter().enumerate() {
                if op == 0 && step % 7 == 0 {
                    filling = !filling;
                }
                if (op != 1) == filling {
                    let value = step as u64 & 0xffff | 1;
                    table.change(key, |old: Option<Pair>| {
                        assert_eq!(old.map(|s| s.0 & 0xffff), map.get(&key).copied());
                        Pair(key << 16 | value)
                    });
                    map.insert(key, value);
                } else {
                    let removed = table.remove(key).map(|s| s.0 & 0xffff);
                    prop_assert_eq!(removed, map.remove(&key));
                }
                prop_assert_eq!(table.check(), Ok(()));
                prop_assert_eq!(table.get(key).map(|s| s.0 & 0xffff), map.get(&key).copied());
            }
            prop_assert_eq!(table.iter().count(), map.len());
        }
    }

    /// Growth is gradual: no edit of a hundred thousand moves more than a stated number of slots, counted by the cursor.
    #[test]
    fn no_edit_moves_much() {
        let mut table = Table::new(7);
        let mut worst = 0;
        for key in 1..if cfg!(miri) { 300 } else { 100_000u64 } {
            let before = (table.old.homes, table.cursor);
            table.change(key, |_| Pair(key << 16 | 1));
            if table.old.homes == before.0 {
                worst = worst.max(table.cursor.saturating_sub(before.1));
            }
        }
        assert!(worst < 400, "{worst} slots in one edit");
    }
}
