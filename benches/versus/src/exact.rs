//! Exact flows: hits in bursts, singly, fenced; misses; inserts and removes.

use std::collections::HashMap;
use std::hash::Hash;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use foldhash::fast::FixedState;
use gufc::key::{Key, SevenTuple};
use gufc::trie::{Folded, HeaderHash, LcIndex};

use crate::flows::{self, Hosts};
use crate::report::{Contender, OURS, Report};

pub const SIZES: [(usize, &str); 5] = [
    (1_000, "1k"),
    (10_000, "10k"),
    (100_000, "100k"),
    (1_000_000, "1M"),
    (4_000_000, "4M"),
];

const BURST: usize = 32;

pub fn run(report: &mut Report) {
    family::<Ipv4Addr>(report);
    family::<Ipv6Addr>(report);
}

/// What every contender can do.
pub trait Map<K>: Sized {
    const NAME: &'static str;
    fn with_capacity(capacity: usize) -> Self;
    fn insert(&mut self, key: K, id: u32);
    fn remove(&mut self, key: &K) -> Option<u32>;
    fn find(&self, key: &K) -> Option<u32>;
    /// Sum of the ids found and of one more for each miss.
    fn burst(&self, keys: &[K]) -> u64 {
        keys.iter().map(|key| score(self.find(key))).sum()
    }
}

#[inline]
fn score(id: Option<u32>) -> u64 {
    id.map_or(1, |id| u64::from(id) + 2)
}

impl<K: Key> Map<K> for LcIndex<K> {
    const NAME: &'static str = OURS;
    fn with_capacity(capacity: usize) -> Self {
        LcIndex::try_new([0x1234_5678, 0x9abc_def0], capacity).expect("memory")
    }
    fn insert(&mut self, key: K, id: u32) {
        LcIndex::insert(self, &key, id).expect("room");
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        LcIndex::remove(self, key)
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        LcIndex::find(self, key)
    }
    #[inline]
    fn burst(&self, keys: &[K]) -> u64 {
        let mut ids = [None; BURST];
        self.find_many(keys, &mut ids);
        ids.iter().take(keys.len()).map(|&id| score(id)).sum()
    }
}

type Fold = FixedState;

impl<K: Hash + Eq + Copy> Map<K> for hashbrown::HashMap<K, u32, Fold> {
    const NAME: &'static str = "hashbrown";
    fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, Fold::with_seed(7))
    }
    fn insert(&mut self, key: K, id: u32) {
        self.insert(key, id);
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        self.remove(key)
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        self.get(key).copied()
    }
}

/// hashbrown as fast as we could make it: under our own hash, which knows that a key is a few words, and hashing a whole burst
/// before it looks anything up.
pub struct Staged<K> {
    table: hashbrown::HashTable<(K, u32)>,
    hasher: Folded,
}

impl<K: Key> Map<K> for Staged<K> {
    const NAME: &'static str = "hashbrown-staged";
    fn with_capacity(capacity: usize) -> Self {
        Self {
            table: hashbrown::HashTable::with_capacity(capacity),
            hasher: Folded::new([7, 7]),
        }
    }
    fn insert(&mut self, key: K, id: u32) {
        let hasher = &self.hasher;
        self.table
            .insert_unique(hasher.header(&key), (key, id), |(key, _)| {
                hasher.header(key)
            });
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        let hash = self.hasher.header(key);
        let entry = self.table.find_entry(hash, |(k, _)| k == key).ok()?;
        Some(entry.remove().0.1)
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.header(key);
        self.table.find(hash, |(k, _)| k == key).map(|&(_, id)| id)
    }
    #[inline]
    fn burst(&self, keys: &[K]) -> u64 {
        let mut hashes = [0; BURST];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hasher.header(key);
        }
        keys.iter()
            .zip(hashes)
            .map(|(key, hash)| score(self.table.find(hash, |(k, _)| k == key).map(|&(_, id)| id)))
            .sum()
    }
}

impl<K: Hash + Eq + Copy> Map<K> for HashMap<K, u32> {
    const NAME: &'static str = "std";
    fn with_capacity(capacity: usize) -> Self {
        HashMap::with_capacity(capacity)
    }
    fn insert(&mut self, key: K, id: u32) {
        self.insert(key, id);
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        self.remove(key)
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        self.get(key).copied()
    }
}

impl<K: Hash + Eq + Copy> Map<K> for indexmap::IndexMap<K, u32, Fold> {
    const NAME: &'static str = "indexmap";
    fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, Fold::with_seed(7))
    }
    fn insert(&mut self, key: K, id: u32) {
        self.insert(key, id);
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        self.swap_remove(key)
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        self.get(key).copied()
    }
}

impl<K: Hash + Eq + Copy> Map<K> for papaya::HashMap<K, u32, Fold> {
    const NAME: &'static str = "papaya";
    fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, Fold::with_seed(7))
    }
    fn insert(&mut self, key: K, id: u32) {
        self.pin().insert(key, id);
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        self.pin().remove(key).copied()
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        self.pin().get(key).copied()
    }
    #[inline]
    fn burst(&self, keys: &[K]) -> u64 {
        let map = self.pin();
        keys.iter().map(|key| score(map.get(key).copied())).sum()
    }
}

impl<K: Hash + Eq + Copy> Map<K> for dashmap::DashMap<K, u32, Fold> {
    const NAME: &'static str = "dashmap";
    fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, Fold::with_seed(7))
    }
    fn insert(&mut self, key: K, id: u32) {
        dashmap::DashMap::insert(self, key, id);
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        dashmap::DashMap::remove(self, key).map(|(_, id)| id)
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        self.get(key).map(|id| *id)
    }
}

impl<K: Hash + Eq + Copy> Map<K> for scc::HashMap<K, u32, Fold> {
    const NAME: &'static str = "scc";
    fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, Fold::with_seed(7))
    }
    fn insert(&mut self, key: K, id: u32) {
        let _ = self.insert_sync(key, id);
    }
    fn remove(&mut self, key: &K) -> Option<u32> {
        self.remove_sync(key).map(|(_, id)| id)
    }
    #[inline]
    fn find(&self, key: &K) -> Option<u32> {
        self.read_sync(key, |_, id| *id)
    }
}

fn build<K: Copy, M: Map<K>>(keys: &[K]) -> M {
    let mut map = M::with_capacity(keys.len());
    for (id, &key) in keys.iter().enumerate() {
        map.insert(key, id as u32);
    }
    map
}

fn family<A: Hosts>(report: &mut Report) {
    let v = A::NAME;
    for (size, label) in SIZES {
        let large = size >= 1_000_000;
        let name = |kind: &str| format!("exact {kind} {v} {label}");
        let kinds = [
            "burst-uniform",
            "burst-zipf",
            "single",
            "fenced",
            "miss-burst",
            "miss-single",
        ];
        let wanted: Vec<_> = kinds
            .iter()
            .filter(|kind| report.wants(&name(kind)))
            .collect();
        let edit = report.wants(&name("insert-remove"));
        if wanted.is_empty() && !edit {
            continue;
        }
        let mut keys = flows::flows::<A>(size + size.min(1 << 17), 5);
        let strangers = keys.split_off(size);
        if !wanted.is_empty() {
            lookups::<SevenTuple<A>>(report, &keys, &strangers, large, &|kind| name(kind));
        }
        if edit {
            edits::<SevenTuple<A>>(report, &keys, &name("insert-remove"));
        }
    }
}

/// Packets looked up in one round by each contender.
const PACKETS: usize = 1 << 17;
/// Rounds' worth of packets before the trace repeats.
const SEGMENTS: usize = 8;

fn lookups<K: Key + Hash>(
    report: &mut Report,
    keys: &[K],
    strangers: &[K],
    large: bool,
    name: &dyn Fn(&str) -> String,
) {
    let ours: LcIndex<K> = build(keys);
    let hashbrown: hashbrown::HashMap<K, u32, Fold> = build(keys);
    let staged: Staged<K> = build(keys);
    let std: HashMap<K, u32> = build(keys);
    let indexmap: indexmap::IndexMap<K, u32, Fold> = build(keys);
    let papaya: papaya::HashMap<K, u32, Fold> = build(keys);
    let dashmap: dashmap::DashMap<K, u32, Fold> = build(keys);
    let scc: scc::HashMap<K, u32, Fold> = build(keys);

    let trace = |order: Vec<usize>| -> Vec<K> { order.into_iter().map(|at| keys[at]).collect() };
    let length = PACKETS * SEGMENTS;
    let mut lines: Vec<(&str, Vec<K>, Way, f64)> = Vec::new();
    let cases = [
        ("burst-uniform", Way::Burst, if large { 1.0 } else { 1.25 }),
        ("burst-zipf", Way::Burst, if large { 1.0 } else { 1.25 }),
        ("single", Way::Single, 1.25),
        ("fenced", Way::Fenced, if large { 1.0 } else { 1.25 }),
        (
            "miss-burst",
            Way::Burst,
            if keys.len() >= 100_000 { 1.0 } else { 1.25 },
        ),
        (
            "miss-single",
            Way::Single,
            if keys.len() >= 100_000 { 1.0 } else { 1.25 },
        ),
    ];
    for (kind, way, bar) in cases {
        if report.wants(&name(kind)) {
            let packets = if kind.starts_with("miss") {
                let order = flows::uniform(strangers.len(), length);
                order.into_iter().map(|at| strangers[at]).collect()
            } else if kind.ends_with("zipf") {
                trace(flows::zipf(keys.len(), length))
            } else {
                trace(flows::uniform(keys.len(), length))
            };
            lines.push((kind, packets, way, bar));
        }
    }
    for (kind, packets, way, bar) in lines {
        let packets = packets.as_slice();
        report.measure(
            &name(kind),
            PACKETS,
            Some(("hashbrown", bar)),
            vec![
                contender(&ours, packets, way),
                contender(&hashbrown, packets, way),
                contender(&staged, packets, way),
                contender(&std, packets, way),
                contender(&indexmap, packets, way),
                contender(&papaya, packets, way),
                contender(&dashmap, packets, way),
                contender(&scc, packets, way),
            ],
        );
    }
}

#[derive(Clone, Copy)]
enum Way {
    /// 32 at a time.
    Burst,
    /// One after the other, as fast as they come.
    Single,
    /// One after the other, nothing overlaps.
    Fenced,
}

fn contender<'a, K: Copy, M: Map<K>>(map: &'a M, packets: &'a [K], way: Way) -> Contender<'a> {
    Contender::new(M::NAME, move |round| {
        let from = round % SEGMENTS * PACKETS;
        let packets = &packets[from..from + PACKETS];
        match way {
            Way::Burst => packets
                .chunks(BURST)
                .map(|burst| map.burst(black_box(burst)))
                .fold(0, u64::wrapping_add),
            Way::Single => packets
                .iter()
                .map(|key| score(map.find(key)))
                .fold(0, u64::wrapping_add),
            Way::Fenced => packets
                .iter()
                .map(|key| {
                    let sum = score(black_box(map.find(key)));
                    fence();
                    sum
                })
                .fold(0, u64::wrapping_add),
        }
    })
}

/// Waits until all before it is done.
#[inline]
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction has no preconditions.
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
}

/// Pairs of one remove and one insert at constant size, in random order.
fn edits<K: Key + Hash>(report: &mut Report, keys: &[K], name: &str) {
    // Half of the keys are in, half are out; each pair swaps one for another.
    let count = keys.len() / 2;
    let pairs = 1 << 15;
    let contenders = vec![
        editor::<K, LcIndex<K>>(keys, count, pairs),
        editor::<K, hashbrown::HashMap<K, u32, Fold>>(keys, count, pairs),
        editor::<K, HashMap<K, u32>>(keys, count, pairs),
        editor::<K, indexmap::IndexMap<K, u32, Fold>>(keys, count, pairs),
        editor::<K, papaya::HashMap<K, u32, Fold>>(keys, count, pairs),
        editor::<K, dashmap::DashMap<K, u32, Fold>>(keys, count, pairs),
        editor::<K, scc::HashMap<K, u32, Fold>>(keys, count, pairs),
    ];
    report.measure(name, 2 * pairs, Some(("hashbrown", 1.5)), contenders);
}

fn editor<'a, K: Key, M: Map<K> + 'a>(keys: &'a [K], count: usize, pairs: usize) -> Contender<'a> {
    let mut map: M = M::with_capacity(keys.len());
    for (id, &key) in keys.iter().take(count).enumerate() {
        map.insert(key, id as u32);
    }
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    let mut draw = flows::Draw(17);
    Contender::new(M::NAME, move |_| {
        let mut sum = 0u64;
        for _ in 0..pairs {
            let leaving = draw.below(count);
            let coming = count + draw.below(keys.len() - count);
            sum = sum.wrapping_add(score(map.remove(&keys[order[leaving] as usize])));
            map.insert(keys[order[coming] as usize], order[coming]);
            order.swap(leaving, coming);
        }
        sum
    })
}
