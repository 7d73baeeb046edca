//! The prefix trie's twin: a list, searched from end to end; and the operations that both are put through.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::toy::Choices;
use crate::key::Key;
use crate::trie::prefix::{Cursor, Handle, MOVES_MAX, Prefix, PrefixTrie, Width};

/// A list of prefixes.
#[derive(Clone, Debug, Default)]
pub struct LinearPrefixes<K, V> {
    /// In no order.
    pub list: Vec<(Prefix<K>, V)>,
}

impl<K: Key, V> LinearPrefixes<K, V>
where
    K::Words: Width,
{
    /// None yet.
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Adds or changes one.
    pub fn insert(&mut self, prefix: Prefix<K>, value: V) -> Option<V> {
        match self.list.iter_mut().find(|(other, _)| *other == prefix) {
            Some((_, old)) => Some(core::mem::replace(old, value)),
            None => {
                self.list.push((prefix, value));
                None
            }
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, prefix: Prefix<K>) -> Option<V> {
        let at = self.list.iter().position(|(other, _)| *other == prefix)?;
        Some(self.list.swap_remove(at).1)
    }

    /// Exactly this one.
    pub fn get(&self, prefix: Prefix<K>) -> Option<&V> {
        let found = self.list.iter().find(|(other, _)| *other == prefix)?;
        Some(&found.1)
    }

    /// The longest that a key has.
    pub fn longest(&self, key: K) -> Option<(Prefix<K>, &V)> {
        let having = self.list.iter().filter(|(prefix, _)| prefix.contains(key));
        having
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(prefix, value)| (*prefix, value))
    }

    /// All that cover one, the shortest first.
    pub fn covering(&self, prefix: Prefix<K>) -> Vec<(Prefix<K>, &V)> {
        self.sorted(|other| other.covers(&prefix))
    }

    /// All that one covers, in order.
    pub fn within(&self, prefix: Prefix<K>) -> Vec<(Prefix<K>, &V)> {
        self.sorted(|other| prefix.covers(other))
    }

    fn sorted(&self, wanted: impl Fn(&Prefix<K>) -> bool) -> Vec<(Prefix<K>, &V)> {
        let mut found: Vec<_> = self
            .list
            .iter()
            .filter(|(prefix, _)| wanted(prefix))
            .map(|(prefix, value)| (*prefix, value))
            .collect();
        found.sort_unstable_by_key(|(prefix, _)| *prefix);
        found
    }
}

/// What may be done to a trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixOp<K> {
    /// Add or change.
    Insert(Prefix<K>),
    /// Take out.
    Remove(Prefix<K>),
    /// Take all out.
    Clear,
    /// Ask for an address, alone and among many.
    Longest(K),
    /// Walk what covers a prefix and what it covers, and look from its subtree.
    Around(Prefix<K>),
    /// Go some steps on with a walk begun before.
    Walk(u8),
}

/// Both, side by side.
#[derive(Debug)]
pub struct PrefixTwins<K: Key>
where
    K::Words: Width,
{
    /// The trie.
    pub trie: PrefixTrie<K, u32>,
    /// The list.
    pub twin: LinearPrefixes<K, u32>,
    handles: BTreeMap<Prefix<K>, Handle>,
    stale: Vec<Handle>,
    cursor: Cursor<K>,
    walked: Option<Prefix<K>>,
    next: u32,
}

impl<K: Key> PrefixTwins<K>
where
    K::Words: Width,
{
    /// Both empty, the trie for so many prefixes.
    pub fn new(capacity: usize) -> Self {
        let all = Prefix::new(K::from_words(K::Words::default()), 0);
        Self {
            trie: PrefixTrie::try_new(capacity).expect("memory for a test"),
            twin: LinearPrefixes::new(),
            handles: BTreeMap::new(),
            stale: Vec::new(),
            cursor: Cursor::within(all.expect("no bits are few enough")),
            walked: None,
            next: 0,
        }
    }

    /// Does an operation to both and compares all that they say.
    ///
    /// # Errors
    ///
    /// The difference.
    pub fn apply(&mut self, op: PrefixOp<K>) -> Result<(), String> {
        match op {
            PrefixOp::Insert(prefix) => self.insert(prefix),
            PrefixOp::Remove(prefix) => {
                let [found, wanted] = [self.trie.remove(prefix), self.twin.remove(prefix)];
                self.stale.extend(self.handles.remove(&prefix));
                same("remove", found, wanted)
            }
            PrefixOp::Clear => {
                self.trie.clear();
                self.twin.list.clear();
                self.stale.extend(self.handles.values());
                self.handles.clear();
                same("clear", self.trie.len(), 0)
            }
            PrefixOp::Longest(key) => self.longest(key),
            PrefixOp::Around(prefix) => self.around(prefix),
            PrefixOp::Walk(steps) => self.walk(steps),
        }
    }

    fn insert(&mut self, prefix: Prefix<K>) -> Result<(), String> {
        self.next += 1;
        let before = self.trie.work().moved;
        let full = self.trie.len() == self.trie.capacity() && self.twin.get(prefix).is_none();
        match self.trie.insert(prefix, self.next) {
            Ok(old) => {
                same("insert", old, self.twin.insert(prefix, self.next))?;
                same("insert into a full trie", full, false)?;
            }
            Err(_) => same("insert refused", full, true)?,
        }
        let moved = self.trie.work().moved - before;
        same(
            "insert moved at most what is said",
            moved.min(MOVES_MAX),
            moved,
        )?;
        if let Some(handle) = self.trie.handle(prefix) {
            let known = *self.handles.entry(prefix).or_insert(handle);
            same("handle", handle, known)?;
        }
        self.longest(prefix.first())?;
        self.longest(prefix.last())
    }

    fn longest(&self, key: K) -> Result<(), String> {
        let wanted = self.twin.longest(key);
        same("longest", self.trie.longest(key), wanted)?;
        let keys: Vec<K> = (0..K::BITS + 2).map(|bit| flip(key, bit)).collect();
        let mut found = alloc::vec![None; keys.len()];
        self.trie.longest_many(&keys, &mut found);
        for (key, found) in keys.iter().zip(found) {
            same("longest of many", found, self.twin.longest(*key))?;
        }
        Ok(())
    }

    fn around(&self, prefix: Prefix<K>) -> Result<(), String> {
        same("get", self.trie.get(prefix), self.twin.get(prefix))?;
        let covering = self.twin.covering(prefix);
        let found: Vec<_> = self.trie.covering(prefix).collect();
        same("covering", &found, &covering)?;
        let mut found: Vec<_> = self.trie.covering(prefix).rev().collect();
        found.reverse();
        same("covering from the back", &found, &covering)?;
        let found: Vec<_> = self.trie.within(prefix).collect();
        same("within", &found, &self.twin.within(prefix))?;
        let subtree = self.trie.index().subtree(prefix);
        for key in [prefix.first(), prefix.last()] {
            let found = subtree.longest(key);
            let found = found.and_then(|(prefix, number)| Some((prefix, self.trie.at(number)?)));
            same("longest in subtree", found, self.twin.longest(key))?;
        }
        Ok(())
    }

    /// A walk that edits come between sees all that was there all the time, in order.
    fn walk(&mut self, steps: u8) -> Result<(), String> {
        let mut iter = self.trie.index().resume(self.cursor);
        for _ in 0..steps {
            let next = iter.next().map(|(prefix, _)| prefix);
            let behind = |prefix: &Prefix<K>| self.walked.is_none_or(|walked| *prefix > walked);
            let there = self.twin.list.iter().map(|(prefix, _)| *prefix);
            same("next in order", next, there.filter(behind).min())?;
            match next {
                Some(_) => self.walked = next,
                None => {
                    let all = Prefix::new(K::from_words(K::Words::default()), 0);
                    self.cursor = Cursor::within(all.expect("no bits are few enough"));
                    self.walked = None;
                    return Ok(());
                }
            }
        }
        self.cursor = iter.cursor();
        Ok(())
    }

    /// Compares everything.
    ///
    /// # Errors
    ///
    /// The difference, or what is wrong with the trie.
    pub fn check(&self) -> Result<(), String> {
        self.trie.check()?;
        same("count", self.trie.len(), self.twin.list.len())?;
        let wanted = self.twin.sorted(|_| true);
        let found: Vec<_> = self.trie.iter().collect();
        same("all in order", &found, &wanted)?;
        for (prefix, value) in wanted {
            same("get", self.trie.get(prefix), Some(value))?;
            let named = self
                .handles
                .get(&prefix)
                .and_then(|handle| self.trie.get_by(*handle));
            same("by handle", named, Some((prefix, value)))?;
        }
        for handle in &self.stale {
            same("by stale handle", self.trie.get_by(*handle), None)?;
        }
        Ok(())
    }
}

fn flip<K: Key>(key: K, bit: u32) -> K {
    let mut words = key.words();
    if let Some(word) = words.as_mut().get_mut(bit as usize / 64) {
        *word ^= 1 << (63 - bit % 64);
    }
    K::from_words(words)
}

fn same<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {found:?}, not {wanted:?}"))
    }
}

/// A prefix from a small world whose prefixes nest, collide and lie far apart.
pub fn prefix<K: Key>(choices: &mut Choices<'_>) -> Prefix<K>
where
    K::Words: Width,
{
    let mut words = K::Words::default();
    let stems = choices.byte();
    // Few stems, so that skipped bits are long; then bits close together at one of four depths.
    let depth = u32::from(stems >> 6) * K::BITS / 4;
    let low = u32::from(choices.byte());
    if let Some(word) = words.as_mut().first_mut() {
        *word = u64::from(stems & 1) << 63 | u64::from(stems & 2) << 40 | u64::from(low & 1) << 62;
    }
    if let Some(word) = words.as_mut().get_mut(depth as usize / 64) {
        *word ^= u64::from(low) << 56 >> (depth % 64);
    }
    let len = match stems >> 2 & 3 {
        0 => depth + u32::from(choices.byte()) % 9,
        1 => u32::from(choices.byte()) % (K::BITS + 1),
        2 => depth + 8,
        _ => K::BITS,
    };
    let len = len.min(K::BITS) as u8;
    Prefix::new(K::from_words(words), len).expect("not longer than the key")
}

/// An operation from bytes.
pub fn prefix_op<K: Key>(choices: &mut Choices<'_>) -> PrefixOp<K>
where
    K::Words: Width,
{
    match choices.byte() {
        0..=130 => PrefixOp::Insert(prefix(choices)),
        131..=200 => PrefixOp::Remove(prefix(choices)),
        201..=215 => PrefixOp::Longest(prefix(choices).last()),
        216..=235 => PrefixOp::Around(prefix(choices)),
        236..=254 => PrefixOp::Walk(choices.byte() % 8),
        255 => PrefixOp::Clear,
    }
}

fn story<K: Key>(choices: &mut Choices<'_>, each: bool) -> Result<(), String>
where
    K::Words: Width,
{
    let mut twins = PrefixTwins::<K>::new(usize::from(choices.byte()) + 8);
    while !choices.is_empty() {
        twins.apply(prefix_op(choices))?;
        if each {
            twins.check()?;
        }
    }
    twins.check()
}

/// Reads bytes as operations on a trie of either family and does them to trie and twin: for fuzzing.
///
/// # Errors
///
/// The first difference.
pub fn prefix_ops(data: &[u8]) -> Result<(), String> {
    run(data, false)
}

/// [`prefix_ops`], with everything checked after every operation.
///
/// # Errors
///
/// The first difference.
pub fn prefix_ops_checked(data: &[u8]) -> Result<(), String> {
    run(data, true)
}

fn run(data: &[u8], each: bool) -> Result<(), String> {
    let mut choices = Choices::new(data);
    if choices.byte() & 1 == 0 {
        story::<Ipv4Addr>(&mut choices, each)
    } else {
        story::<Ipv6Addr>(&mut choices, each)
    }
}
