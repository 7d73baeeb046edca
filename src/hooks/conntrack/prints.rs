//! Which connection has a tuple: an index by 64 bits of hash, that keeps no tuple itself.
//!
//! Apart because it is where memory is saved: a tuple stands in its connection, once, and an entry here has the same size for
//! IPv4 and IPv6. What a print names is a candidate; the caller compares tuples.
//!
//! ```text
//!  tuple ──► print, 64 bits ──► number: slot, direction ──► the tuple there, compared
//!                   └─► strays: those whose print another tuple had first (1 in 2^64 for each pair, unless the seed is known)
//! ```

use alloc::vec::Vec;

use crate::key::{Field, Key};
use crate::trie::{HeaderHash, LcIndex, ReserveError, Trace};

/// A tuple's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Print(u64);

impl Key for Print {
    const BITS: u32 = 64;
    const FIELDS: &'static [Field] = &[Field {
        name: "print",
        offset: 0,
        width: 64,
    }];
    type Words = [u64; 1];

    #[inline]
    fn words(&self) -> [u64; 1] {
        [self.0]
    }

    fn from_words([word]: [u64; 1]) -> Self {
        Self(word)
    }
}

/// A print is mixed already.
#[derive(Clone, Copy, Debug)]
struct Whole;

impl HeaderHash for Whole {
    #[inline]
    fn header<K: Key>(&self, key: &K) -> u64 {
        key.words().as_ref().first().copied().unwrap_or(0)
    }
}

/// Strays at once; one more is refused.
const STRAYS_MAX: usize = 16;

/// Numbers by print. Where a method takes `is_meant`, that says whether the tuple of a number is the one in question.
#[derive(Debug)]
pub(super) struct Prints {
    index: LcIndex<Print, Whole>,
    strays: Vec<(u64, u32)>,
}

impl Prints {
    /// All memory is reserved here.
    pub(super) fn try_new(capacity: usize) -> Result<Self, ReserveError> {
        let mut strays = Vec::new();
        strays.try_reserve_exact(STRAYS_MAX)?;
        Ok(Self {
            index: LcIndex::try_with_hash(Whole, capacity)?,
            strays,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.index.len() + self.strays.len()
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        self.index.reserved_bytes() + self.strays.capacity() * size_of::<(u64, u32)>()
    }

    /// Bytes that [`reserved_bytes`](Self::reserved_bytes) says of so many entries.
    pub(super) fn bytes_for(capacity: usize) -> usize {
        LcIndex::<Print, Whole>::bytes_for(capacity) + STRAYS_MAX * size_of::<(u64, u32)>()
    }

    /// Cost: one index look-up, and one tuple compared.
    #[inline]
    pub(super) fn find(&self, print: u64, is_meant: impl Fn(u32) -> bool) -> Option<u32> {
        match self.index.find_hashed(print, &Print(print)) {
            Some(number) if is_meant(number) => Some(number),
            _ if self.strays.is_empty() => None,
            _ => self
                .stray(print, is_meant)
                .and_then(|at| Some(self.strays.get(at)?.1)),
        }
    }

    /// Reads ahead what inserting and removing these prints will read.
    #[inline]
    pub(super) fn warm(&self, prints: &[u64]) -> u64 {
        self.index.warm_many_hashed(prints)
    }

    /// What looking the print up reads.
    pub(super) fn trace(&self, print: u64) -> Trace {
        self.index.trace(&Print(print))
    }

    #[cold]
    fn stray(&self, print: u64, is_meant: impl Fn(u32) -> bool) -> Option<usize> {
        let mut strays = self.strays.iter();
        strays.position(|(other, number)| *other == print && is_meant(*number))
    }

    /// Gives a tuple a number, in place of the one that it has; false when there is no room.
    pub(super) fn insert(
        &mut self,
        print: u64,
        number: u32,
        is_meant: impl Fn(u32) -> bool,
    ) -> bool {
        if !self.strays.is_empty() {
            let stray = self.stray(print, &is_meant);
            if let Some(stray) = stray.and_then(|at| self.strays.get_mut(at)) {
                stray.1 = number;
                return true;
            }
        }
        match self.index.insert_hashed(print, &Print(print), number) {
            Ok(Some(other)) if !is_meant(other) => {
                // Another tuple has the print: it stays where it is.
                let back = self.index.insert_hashed(print, &Print(print), other);
                let room = back.is_ok() && self.strays.len() < STRAYS_MAX;
                if room {
                    self.strays.push((print, number));
                }
                room
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// Takes a tuple's number away, if it is one that `is_own` says.
    pub(super) fn remove(&mut self, print: u64, is_own: impl Fn(u32) -> bool) {
        match self.index.remove_hashed(print, &Print(print)) {
            Some(number) if is_own(number) => return,
            Some(other) => {
                // There is room for what was there.
                let back = self.index.insert_hashed(print, &Print(print), other);
                debug_assert!(back.is_ok());
            }
            None => {}
        }
        if !self.strays.is_empty() {
            if let Some(at) = self.stray(print, is_own) {
                self.strays.swap_remove(at);
            }
        }
    }

    /// Whether the parts agree with one another; for tests.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.index.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        /// Tuples 0 to 23 share four prints: no answer is another tuple's, and what is refused leaves nothing.
        #[test]
        fn tuples_of_one_print_are_told_apart(ops in prop::collection::vec((0..24u32, 0..3u8), 1..200)) {
            let mut prints = Prints::try_new(64).expect("memory");
            let mut oracle = BTreeMap::new();
            // A number names its tuple and one of four lives.
            let tuple = |number: u32| number >> 2;
            let mut life = 0;
            for (which, op) in ops {
                let print = u64::from(which % 4);
                match op {
                    0 | 1 => {
                        life = (life + 1) % 4;
                        let number = which << 2 | life;
                        let strays = oracle.len() - prints.index.len();
                        let known = oracle.contains_key(&which);
                        let done = prints.insert(print, number, |n| tuple(n) == which);
                        prop_assert!(done || !known && strays == STRAYS_MAX);
                        if done {
                            oracle.insert(which, number);
                        }
                    }
                    _ => {
                        prints.remove(print, |n| tuple(n) == which);
                        oracle.remove(&which);
                    }
                }
                prop_assert_eq!(prints.check(), Ok(()));
                prop_assert_eq!(prints.len(), oracle.len());
                for one in 0..24 {
                    let found = prints.find(u64::from(one % 4), |n| tuple(n) == one);
                    prop_assert_eq!(found, oracle.get(&one).copied());
                }
            }
        }
    }
}
