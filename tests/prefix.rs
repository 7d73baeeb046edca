//! The prefix trie as users build it, with its full-sized nodes: against its twin, and on real tables where they are at hand.

use std::net::{Ipv4Addr, Ipv6Addr};

use gufc::key::Key;
use gufc::testing::linear_prefix::{PrefixOp, PrefixTwins, prefix_ops_checked};
use gufc::testing::prng::SplitMix64;
use gufc::trie::prefix::{MOVES_MAX, Prefix, PrefixIndex, Width};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn is_its_twin(data in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        if let Err(difference) = prefix_ops_checked(&data) {
            panic!("{difference}");
        }
    }
}

/// Goal: the shapes of dense tables are right too. Method: every /16 to /24 of a corner in random order, checked now and then.
#[test]
fn dense_corners_are_their_twins() {
    let mut random = SplitMix64(1);
    let mut twins = PrefixTwins::<Ipv4Addr>::new(2_000);
    for step in 0..4_000u32 {
        let bits = 0x0a00_0000 | (random.next() as u32 & 0x000f_ffff);
        let len = [16, 20, 22, 23, 24, 24, 24, 24, 28, 32][random.below(10) as usize];
        let prefix = Prefix::new(Ipv4Addr::from_bits(bits), len).expect("a length");
        let op = if random.below(5) < 3 {
            PrefixOp::Insert(prefix)
        } else {
            PrefixOp::Remove(prefix)
        };
        twins.apply(op).unwrap_or_else(|why| panic!("{why}"));
        if step % 200 == 0 {
            twins.check().unwrap_or_else(|why| panic!("{why}"));
        }
    }
    twins.check().unwrap_or_else(|why| panic!("{why}"));
}

/// Goal: of a million insertions and removals none moves more than is said. Method: five crowds of prefixes, each in another
/// part of the address space and of another density, come in one order and go in another.
#[test]
fn moves_are_bounded() {
    let mut random = SplitMix64(2);
    let mut index = PrefixIndex::<Ipv4Addr>::try_new(110_000).expect("memory");
    let (mut most, mut before) = (0, 0);
    let mut watch = |index: &PrefixIndex<Ipv4Addr>| {
        let moved = index.work().moved;
        most = most.max(moved - before);
        before = moved;
    };
    for crowd in 0..5u32 {
        let mut prefixes: Vec<_> = (0..100_000u32)
            .map(|n| {
                let sparse = random.next() as u32 >> (2 * crowd);
                let bits = if n % 4 == 0 { n << 6 } else { sparse };
                let len = 8 + random.below(25) as u8;
                Prefix::new(Ipv4Addr::from_bits(bits), len).expect("a length")
            })
            .collect();
        if crowd % 2 == 0 {
            prefixes.sort_unstable();
        }
        for prefix in &prefixes {
            index.insert(*prefix, crowd).expect("room");
            watch(&index);
        }
        index.check().unwrap_or_else(|why| panic!("{why}"));
        for place in (1..prefixes.len()).rev() {
            prefixes.swap(place, random.below(place as u64 + 1) as usize);
        }
        for prefix in &prefixes {
            index.remove(*prefix);
            watch(&index);
        }
        assert!(index.is_empty());
    }
    index.check().unwrap_or_else(|why| panic!("{why}"));
    assert!(most <= MOVES_MAX, "{most}");
    assert!(most > 100, "nothing was resized: {most}");
    let work = index.work();
    assert!(work.halved > 0 && work.inflated > 0, "{work:?}");
    assert!(work.moved < 30 * 1_000_000, "{work:?}");
}

/// The case of Linux's halving bug (Duyck, 2014): a node with one full child and hardly anything else stayed large, 1048 pointers
/// where 36 do.
#[test]
fn one_full_child_does_not_veto_halving() {
    let mut index = PrefixIndex::<Ipv4Addr>::try_new(10_000).expect("memory");
    let host = |bits| Prefix::host(Ipv4Addr::from_bits(bits));
    // A node of many slots, all overflowing.
    for slot in 0..256u32 {
        for n in 0..16 {
            index.insert(host(slot << 24 | n << 20), n).expect("room");
        }
    }
    let grown = index.stats().slots;
    assert!(grown >= 256, "{grown}");
    // One slot stays full; of the others nothing is left but two prefixes far away.
    for slot in 1..256u32 {
        for n in 0..16 {
            if (slot, n) != (255, 0) && (slot, n) != (128, 0) {
                index
                    .remove(host(slot << 24 | n << 20))
                    .expect("it was there");
            }
        }
    }
    index.check().unwrap_or_else(|why| panic!("{why}"));
    let left = index.stats();
    assert!(left.slots <= 36, "{left:?}");
}

/// The tables of `GUFC_PREFIXES`, a folder with `ris-v4.txt` and `ris-v6.txt` of `HEX LENGTH` lines, are taken in, walked in
/// order, looked up, and taken out again.
#[test]
fn real_tables() {
    let Some(folder) = std::env::var_os("GUFC_PREFIXES") else {
        eprintln!("skipped: GUFC_PREFIXES names no folder of tables");
        return;
    };
    let folder = std::path::Path::new(&folder);
    real_table::<Ipv4Addr>(&folder.join("ris-v4.txt"));
    real_table::<Ipv6Addr>(&folder.join("ris-v6.txt"));
}

fn real_table<K: Key>(path: &std::path::Path)
where
    K::Words: Width,
{
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: {} cannot be read", path.display());
        return;
    };
    let mut table: Vec<Prefix<K>> = text
        .lines()
        .map(|line| {
            let (hex, len) = line.split_once(' ').expect("two words");
            let bits = u128::from_str_radix(hex, 16).expect("hex") << (128 - K::BITS);
            let mut words = K::Words::default();
            for (word, half) in words
                .as_mut()
                .iter_mut()
                .zip([(bits >> 64) as u64, bits as u64])
            {
                *word = half;
            }
            Prefix::new(K::from_words(words), len.parse().expect("a length")).expect("in range")
        })
        .collect();
    let mut index = PrefixIndex::<K>::try_new(table.len()).expect("memory");
    for (number, prefix) in table.iter().enumerate() {
        index.insert(*prefix, number as u32).expect("room");
    }
    index.check().unwrap_or_else(|why| panic!("{why}"));
    for (number, prefix) in table.iter().enumerate().step_by(97) {
        assert_eq!(index.get(*prefix), Some(number as u32));
        let covering: Vec<_> = index.covering(Prefix::host(prefix.last())).collect();
        assert_eq!(index.longest(prefix.last()), covering.last().copied());
        assert!(covering.contains(&(*prefix, number as u32)));
    }
    table.sort_unstable();
    let walked: Vec<_> = index.iter().map(|(prefix, _)| prefix).collect();
    assert!(walked == table, "not all, or not in order");
    for prefix in &table {
        assert!(index.remove(*prefix).is_some());
    }
    index.check().unwrap_or_else(|why| panic!("{why}"));
    assert!(index.is_empty() && index.stats().nodes == 0);
}
