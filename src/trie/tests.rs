//! The exact head against its twin: random, exhaustive, flooded.

use alloc::vec::Vec;
use core::net::Ipv4Addr;
use proptest::prelude::*;

use super::*;
use crate::testing::trie::{Nibble, Spread, ToyHash, TrieOp, TrieRun};

fn op() -> impl Strategy<Value = TrieOp> {
    let key = 0..Spread::COUNT;
    prop_oneof![
        12 => (key.clone(), any::<u8>()).prop_map(|(k, id)| TrieOp::Insert(k, id)),
        8 => key.clone().prop_map(TrieOp::Remove),
        2 => key.prop_map(TrieOp::Find),
        3 => Just(TrieOp::Step),
        1 => Just(TrieOp::Rewind),
        1 => (0u8..20).prop_map(TrieOp::Sweep),
        1 => (0u8..20).prop_map(TrieOp::Reserve),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 96 }))]

    #[test]
    fn trie_and_twin_agree(hash in 0u8..8, capacity in 0usize..300, ops in proptest::collection::vec(op(), 0..250)) {
        let mut run = TrieRun::new(ToyHash::nth(hash), capacity);
        for op in ops {
            run.apply(op);
            run.check();
        }
    }
}

#[test]
fn fills_and_empties_under_every_hash() {
    // Goal: growth and its reverse, all the way, and nothing leaks. Method: all keys in one order, out in another.
    for hash in 0..8 {
        for stride in [1u16, 7, 641] {
            let mut run = TrieRun::new(ToyHash::nth(hash), 4 * usize::from(Spread::COUNT));
            for n in 0..Spread::COUNT {
                run.apply(TrieOp::Insert(n, n as u8));
                if n % 16 == 0 {
                    run.check();
                }
            }
            assert_eq!(run.trie().len(), usize::from(Spread::COUNT), "hash {hash}");
            run.apply(TrieOp::Find(1000));
            run.apply(TrieOp::Rewind);
            for n in 0..Spread::COUNT {
                run.apply(TrieOp::Remove(n.wrapping_mul(stride) % Spread::COUNT));
                if n % 3 == 0 {
                    run.apply(TrieOp::Step);
                }
                if n % 16 == 0 {
                    run.check();
                }
            }
            run.check();
            let stats = run.trie().stats();
            assert_eq!((stats.entries, stats.cells, stats.node_slots), (0, 0, 0));
            assert!(stats.root <= 2, "{stats:?}");
        }
    }
}

#[test]
fn all_small_worlds() {
    // Goal: every shape. Method: all ordered ways to insert up to five of sixteen keys, under a header that is the key and
    // under a header that is the same for all; then remove them in the same and in reverse order.
    fn go(index: &mut LcIndex<Nibble, ToyHash>, keys: &mut Vec<u8>, left: u32) {
        index.check().unwrap();
        for n in 0..16u8 {
            let expected = keys.iter().position(|&k| k == n).map(|p| p as u32);
            assert_eq!(index.find(&Nibble(n)), expected);
        }
        if left == 0 {
            let mut copy = index.clone();
            for &n in keys.iter() {
                assert!(copy.remove(&Nibble(n)).is_some());
            }
            copy.check().unwrap();
            return;
        }
        let floor = if cfg!(miri) { 14 } else { 0 };
        for n in floor..16u8 {
            if !keys.contains(&n) {
                index.insert(&Nibble(n), keys.len() as u32).unwrap();
                keys.push(n);
                go(index, keys, left - 1);
                keys.pop();
                assert_eq!(index.remove(&Nibble(n)), Some(keys.len() as u32));
            }
        }
    }
    for (hash, depth) in [(ToyHash::Identity, 4), (ToyHash::Constant(0), 3)] {
        let mut index = LcIndex::try_with_hash(hash, 16).unwrap();
        go(&mut index, &mut Vec::new(), depth);
        index.check().unwrap();
    }
    // Five leaves: all sets, in rising and falling order (all orders take a minute).
    for set in 0u32..1 << 16 {
        if set.count_ones() > 5 {
            continue;
        }
        for hash in [ToyHash::Identity, ToyHash::Constant(u64::MAX)] {
            let mut index = LcIndex::try_with_hash(hash, 5).unwrap();
            let keys = || (0..16u8).filter(|n| set >> n & 1 == 1);
            keys().for_each(|n| assert_eq!(index.insert(&Nibble(n), u32::from(n)), Ok(None)));
            index.check().unwrap();
            (0..16u8).for_each(|n| {
                let expected = (set >> n & 1 == 1).then_some(u32::from(n));
                assert_eq!(index.find(&Nibble(n)), expected);
            });
            keys()
                .rev()
                .for_each(|n| assert_eq!(index.remove(&Nibble(n)), Some(u32::from(n))));
            index.check().unwrap();
        }
    }
}

#[test]
fn sixteen_leaves_split_buckets() {
    // Goal: buckets of more than eight split and merge at every bit of a four-bit key. Method: all 2^16 sets at once would
    // be slow with checks; every 37th will do.
    for set in (0u32..1 << 16).step_by(if cfg!(miri) { 9001 } else { 37 }) {
        for hash in [ToyHash::Identity, ToyHash::Constant(3)] {
            let mut index = LcIndex::try_with_hash(hash, 16).unwrap();
            for n in 0..16u8 {
                if set >> n & 1 == 1 {
                    index.insert(&Nibble(n), u32::from(n)).unwrap();
                }
            }
            index.check().unwrap();
            for n in 0..16u8 {
                let expected = (set >> n & 1 == 1).then_some(u32::from(n));
                assert_eq!(index.find(&Nibble(n)), expected);
                assert_eq!(index.remove(&Nibble(n)), expected);
                index.check().unwrap();
            }
        }
    }
}

#[test]
fn a_flood_of_equal_headers_only_deepens() {
    // Goal: the promise against floods. Method: ten thousand keys, one header; count what a lookup reads.
    let count: u32 = if cfg!(miri) { 300 } else { 10_000 };
    let mut index = LcIndex::try_with_hash(ToyHash::Constant(12345), 20 * count as usize).unwrap();
    let key = |n: u32| Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1));
    let mut moved = 0;
    for n in 0..count {
        let before = index.work().moves();
        index.insert(&key(n), n).unwrap();
        moved = moved.max(index.work().moves() - before);
    }
    index.check().unwrap();
    let (mut slots, mut sum) = (0, 0);
    for n in 0..2 * count {
        let trace = index.trace(&key(n));
        assert_eq!(trace.found, n < count);
        assert!(trace.cells <= 8);
        slots = slots.max(trace.slots);
        sum += u64::from(trace.slots);
    }
    assert!(slots <= 1 + Ipv4Addr::BITS, "{slots}");
    // Level compression: ten thousand even keys take 11 one-bit levels, or about 4 of four bits.
    assert!(
        sum / u64::from(2 * count) <= 6,
        "{}",
        sum / u64::from(2 * count)
    );
    assert!(moved <= MOVES_MAX as u64);
    for n in 0..count {
        assert_eq!(index.remove(&key(n)), Some(n));
    }
    index.check().unwrap();
    assert_eq!(index.stats().node_slots, 0);
}

#[test]
fn full_is_an_answer() {
    for capacity in [0, 1, 2, 9, 100, 1000] {
        let mut index = LcIndex::<Ipv4Addr>::try_new([3, 4], capacity).unwrap();
        for n in 0..capacity as u32 {
            assert_eq!(index.insert(&Ipv4Addr::from_bits(n), n), Ok(None));
        }
        assert_eq!(index.insert(&Ipv4Addr::BROADCAST, 0), Err(Full));
        index.check().unwrap();
        if capacity > 0 {
            assert_eq!(index.insert(&Ipv4Addr::UNSPECIFIED, 7), Ok(Some(0)));
        }
        assert_eq!(index.len(), capacity);
    }
    assert_eq!(
        LcIndex::<Ipv4Addr>::try_new([3, 4], CAPACITY_MAX + 1).err(),
        Some(ReserveError::TooMany)
    );
}

#[test]
fn dual_index_is_two_indexes_under_one_capacity() {
    use crate::key::Tuple;
    let mut index = DualIndex::with_seed([5, 6], 60).unwrap();
    let key = |n: u32| -> Tuple {
        let text = if n % 3 == 0 {
            std::format!("udp 10.0.0.{n}:1 > 10.0.0.1:2")
        } else {
            std::format!("udp [2001:db8::{n:x}]:1 > [2001:db8::1]:2")
        };
        text.parse().unwrap()
    };
    for n in 0..60 {
        assert_eq!(index.insert(&key(n), n), Ok(None));
    }
    assert_eq!(index.insert(&key(61), 61), Err(Full));
    assert_eq!(index.insert(&key(6), 106), Ok(Some(6)));
    let keys: Vec<_> = (0..100).map(key).collect();
    let mut ids = [None; 100];
    index.find_many(&keys, &mut ids);
    for (n, id) in (0u32..).zip(ids) {
        let expected = (n < 60).then_some(if n == 6 { 106 } else { n });
        assert_eq!((id, index.find(&key(n))), (expected, expected));
    }
    let (mut cursor, mut seen) = (Cursor::new(), Vec::new());
    while let Some((key, id)) = index.next(&mut cursor) {
        assert_eq!(index.remove(&key), Some(id));
        seen.push(id);
    }
    seen.sort_unstable();
    assert_eq!((seen.len(), index.len()), (60, 0));
    seen.dedup();
    assert_eq!(seen.len(), 60);
    index.check().unwrap();
}

/// A reproducible stream of numbers.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ z >> 29
    }
}

#[test]
fn no_operation_moves_more_than_stated() {
    // Goal: the bound, over a million inserts and removes; and capacity is reached under a good hash at every size.
    // Method: fill to the brim, churn at the brim (fragments the cells most), empty; count each operation's moves.
    let count: u32 = match (cfg!(miri), cfg!(debug_assertions)) {
        (true, _) => 200,
        // A million operations in all.
        (_, true) => 340_000,
        _ => 1_000_000,
    };
    let mut index = LcIndex::<Ipv4Addr>::try_new([9, 9], count as usize).unwrap();
    let (mut most, mut total, mut operations) = (0, 0, 0u64);
    let mut done = |index: &LcIndex<Ipv4Addr>, before: Work| {
        let moves = index.work().moves() - before.moves();
        assert!(moves <= MOVES_MAX as u64);
        most = most.max(moves);
        total += moves;
        operations += 1;
    };
    for n in 0..count {
        let before = index.work();
        assert_eq!(index.insert(&Ipv4Addr::from_bits(n), n), Ok(None), "{n}");
        done(&index, before);
    }
    index.check().unwrap();
    let mut draw = numbers(1);
    let mut present: Vec<u32> = (0..count).collect();
    for n in count..count + count / 2 {
        let at = draw() as usize % present.len();
        let before = index.work();
        assert_eq!(
            index.remove(&Ipv4Addr::from_bits(present[at])),
            Some(present[at])
        );
        done(&index, before);
        let before = index.work();
        assert_eq!(index.insert(&Ipv4Addr::from_bits(n), n), Ok(None), "{n}");
        done(&index, before);
        present[at] = n;
    }
    index.check().unwrap();
    for n in present {
        let before = index.work();
        assert_eq!(index.remove(&Ipv4Addr::from_bits(n)), Some(n));
        done(&index, before);
    }
    index.check().unwrap();
    assert_eq!((index.stats().cells, index.stats().node_slots), (0, 0));
    // Amortised: a handful of moves an operation.
    assert!(total <= 8 * operations, "{total} moves in {operations}");
    std::println!(
        "most {most}, average {}.{:02}",
        total / operations,
        total * 100 / operations % 100
    );
}

#[test]
fn thresholds_do_not_ping_pong() {
    // Goal: one entry going and coming at a threshold costs what it costs elsewhere. Method: at every size up to 3000,
    // insert and remove the same key four times and count.
    let mut index = LcIndex::<Ipv4Addr>::try_new([7, 8], 4000).unwrap();
    for n in 0..if cfg!(miri) { 100 } else { 3000 } {
        let before = index.work().moves();
        for _ in 0..4 {
            index.insert(&Ipv4Addr::BROADCAST, 0).unwrap();
            index.remove(&Ipv4Addr::BROADCAST).unwrap();
        }
        let moves = index.work().moves() - before;
        assert!(moves <= 8 * 40, "{moves} moves at {n}");
        index.insert(&Ipv4Addr::from_bits(n), n).unwrap();
    }
}

#[test]
fn sparse_pages_are_gathered_when_memory_ends() {
    // Goal: fragmentation never makes a table full that has room. Method: fill, remove so that most blocks are free but
    // nearly every page holds one, allow a third of the pages kept in reserve, and insert as many again.
    let count = if cfg!(miri) { 200 } else { 4000 };
    let mut index = LcIndex::<Ipv4Addr>::try_new([3, 1], count as usize).unwrap();
    let key = Ipv4Addr::from_bits;
    for n in 0..count {
        index.insert(&key(n), n).unwrap();
    }
    let mut draw = numbers(5);
    index.cells.squeeze(count as usize / 200);
    for round in 1..=6 {
        let base = round * count;
        let mut gone = Vec::new();
        for n in base - count..base {
            if draw() % 8 != 0 {
                assert_eq!(index.remove(&key(n)), Some(n));
                gone.push(n);
            }
        }
        index.check().unwrap();
        for &n in &gone {
            index.insert(&key(n + count), n + count).unwrap();
        }
        index.check().unwrap();
        for n in base - count..base {
            if !gone.contains(&n) {
                assert_eq!(index.remove(&key(n)), Some(n));
                index.insert(&key(n + count), n + count).unwrap();
            }
        }
        index.check().unwrap();
        for n in base..base + count {
            assert_eq!(index.find(&key(n)), Some(n));
        }
    }
}
