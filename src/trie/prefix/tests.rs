//! The trie against its twin; small worlds whole, large ones at random; and the bounds.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::testing::linear_prefix::{LinearPrefixes, PrefixOp, PrefixTwins, prefix_ops_checked};
use crate::testing::prng::SplitMix64;

fn v4(bits: u32, len: u8) -> Prefix<Ipv4Addr> {
    Prefix::new(Ipv4Addr::from_bits(bits), len).unwrap()
}

proptest! {
    /// Goal: trie and list say the same of everything. Method: operations from bytes, all checked after each.
    #[test]
    fn is_its_twin(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Err(difference) = prefix_ops_checked(&data) {
            panic!("{difference}");
        }
    }
}

/// Goal: no shape of trie is wrong. Method: every set of up to five prefixes of at most four bits, every address of four bits,
/// at the beginning of the key; up to four in its middle; then all are taken out in another order.
#[test]
fn small_worlds() {
    let all: Vec<(u32, u8)> = (0..=4u8)
        .flat_map(|len| (0..1u32 << len).map(move |bits| (bits << (4 - len), len)))
        .collect();
    assert_eq!(all.len(), 31);
    for (shift, most) in [(28, 5), (12, 4)] {
        let mut chosen = Vec::new();
        choose(&all, 0, most, &mut chosen, &mut |chosen| {
            small_world(chosen, shift)
        });
    }
}

fn choose(
    all: &[(u32, u8)],
    from: usize,
    most: usize,
    chosen: &mut Vec<(u32, u8)>,
    see: &mut impl FnMut(&[(u32, u8)]),
) {
    see(chosen);
    if most > 0 {
        for index in from..all.len() {
            chosen.push(all[index]);
            choose(all, index + 1, most - 1, chosen, see);
            chosen.pop();
        }
    }
}

fn small_world(chosen: &[(u32, u8)], shift: u32) {
    let mut trie = PrefixTrie::try_new(5).unwrap();
    let mut twin = LinearPrefixes::new();
    let place = |bits: u32| bits << shift | (0xabcd_0000 & !(u32::MAX >> (28 - shift)));
    for (bits, len) in chosen {
        let prefix = v4(place(*bits), len + 28 - shift as u8);
        trie.insert(prefix, (*bits, *len)).unwrap();
        twin.insert(prefix, (*bits, *len));
    }
    let compare = |trie: &PrefixTrie<_, _>, twin: &LinearPrefixes<_, _>| {
        trie.check().unwrap();
        for address in 0..16 {
            let address = Ipv4Addr::from_bits(place(address));
            assert_eq!(trie.longest(address), twin.longest(address));
        }
    };
    compare(&trie, &twin);
    for (bits, len) in chosen.iter().rev() {
        let prefix = v4(place(*bits), len + 28 - shift as u8);
        assert_eq!(trie.remove(prefix), twin.remove(prefix));
        compare(&trie, &twin);
    }
}

/// Goal: what has grown shrinks, and is gone in the end. Method: thousands in random order, in and out, twice.
#[test]
fn grows_and_shrinks_to_nothing() {
    let mut random = SplitMix64(5);
    let mut trie = PrefixTrie::try_new(6000).unwrap();
    let empty = trie.stats();
    for _ in 0..2 {
        let mut prefixes: Vec<_> = (0..5000)
            .map(|_| {
                let word = random.next();
                v4((word >> 32) as u32 & 0x1fff_ffff, 12 + (word % 21) as u8)
            })
            .collect();
        for prefix in &prefixes {
            let _ = trie.insert(*prefix, ());
        }
        trie.check().unwrap();
        let full = trie.stats();
        assert!(full.nodes > 100 && full.depth_max() < 24, "{full:?}");
        prefixes.reverse();
        for prefix in &prefixes {
            trie.remove(*prefix);
        }
        trie.check().unwrap();
        assert!(trie.is_empty());
        assert_eq!(
            (trie.stats().nodes, trie.stats().cells),
            (empty.nodes, empty.cells)
        );
    }
    assert!(trie.work().halved > 0 && trie.work().inflated > 0);
}

/// Goal: a trie for n prefixes takes any n. Method: combs, hosts far apart, nested chains; then all gone and another kind.
#[test]
fn capacity_is_kept_whatever_the_shape() {
    let mut random = SplitMix64(9);
    for kind in 0..4 {
        let mut trie = PrefixTrie::try_new(300).unwrap();
        let mut held = Vec::new();
        for n in 0u32.. {
            if held.len() == 300 {
                break;
            }
            let word = u128::from(random.next()) << 64 | u128::from(random.next());
            let (bits, len) = match kind {
                0 => (word, 128),
                1 => (u128::MAX << (n % 120) & word | 1 << (n % 120), 128),
                2 => (u128::MAX << 8 & word & 0xfff << 110, (n % 129) as u8),
                _ => (word & 0xf000_0000_0000_0000_0000_0000_0000_ffff, 128),
            };
            let prefix = Prefix::new(Ipv6Addr::from_bits(bits), len).unwrap();
            match trie.insert(prefix, ()) {
                Ok(None) => held.push(prefix),
                Ok(Some(())) => {}
                Err(Full) => panic!("full at {} of kind {kind}", held.len()),
            }
        }
        trie.check().unwrap();
        let another = Prefix::new(Ipv6Addr::LOCALHOST, 128).unwrap();
        assert_eq!(trie.insert(another, ()), Err(Full));
        trie.check().unwrap();
    }
}

/// Goal: one full child does not veto halving (Duyck's case: 1048 slots where 36 do). Method: a region fills, and empties but for
/// one dense corner.
#[test]
fn one_full_child_does_not_veto_halving() {
    let mut twins = PrefixTwins::new(4096);
    // One bit pattern a slot, at the depth of each: full under the shrunken constants as under the real ones.
    let spread = |n: u32| v4(n << 20, 32);
    let corner = |n: u32| v4(n << 8 | n, 32);
    for n in 0..1024 {
        twins.trie.insert(spread(n), n).unwrap();
    }
    for n in 0..64 {
        twins.trie.insert(corner(n), n).unwrap();
    }
    let grown = twins.trie.stats().slots;
    for n in 0..1024 {
        twins.trie.remove(spread(n)).unwrap();
    }
    twins.trie.check().unwrap();
    let left = twins.trie.stats();
    assert!(left.slots * 8 < grown, "{} of {grown}", left.slots);
    assert!(left.slots <= 2 * left.prefixes, "{left:?}");
}

/// Goal: no edit moves more than is said. Method: sorted and random insertion and removal of dense and sparse prefixes.
#[test]
fn moves_are_bounded() {
    let mut random = SplitMix64(3);
    let mut trie = PrefixTrie::try_new(40_000).unwrap();
    let mut prefixes: Vec<_> = (0..20_000u32).map(|n| v4(n << 12, 20)).collect();
    prefixes.extend((0..10_000).map(|_| v4(random.next() as u32, 8 + (random.next() % 25) as u8)));
    let mut worst = 0;
    let mut before = 0;
    let mut watch = |trie: &PrefixTrie<_, _>| {
        let moved = trie.work().moved;
        worst = worst.max(moved - before);
        before = moved;
    };
    for round in 0..3 {
        for prefix in &prefixes {
            let _ = trie.insert(*prefix, round);
            watch(&trie);
        }
        trie.check().unwrap();
        for place in 1..prefixes.len() {
            prefixes.swap(place, random.next() as usize % (place + 1));
        }
        for prefix in &prefixes {
            trie.remove(*prefix);
            watch(&trie);
        }
        assert!(trie.is_empty());
    }
    assert!(worst <= MOVES_MAX && worst > 10, "{worst}");
    let edits = 6 * prefixes.len() as u64;
    assert!(trie.work().moved < 12 * edits, "{:?}", trie.work());
}

/// Goal: a prefix that is there already takes its new number wherever the number stands. Method: prefixes of few bits, put in and
/// taken out at random under ever new numbers, all invariants checked and all addresses asked after each.
#[test]
fn numbers_are_overwritten_everywhere() {
    let mut random = SplitMix64(11);
    let mut index = PrefixIndex::<Ipv4Addr>::try_new(200).unwrap();
    let mut twin: Vec<(Prefix<Ipv4Addr>, u32)> = Vec::new();
    for number in 0..if cfg!(miri) { 50 } else { 4000 } {
        let prefix = v4(
            (random.next() as u32 & 31) << 20,
            6 + (random.next() % 8) as u8,
        );
        let before = twin.iter().position(|(other, _)| *other == prefix);
        let before = before.map(|at| twin.swap_remove(at).1);
        if random.next() % 4 == 0 {
            assert_eq!(index.remove(prefix), before);
        } else {
            assert_eq!(index.insert(prefix, number), Ok(before));
            twin.push((prefix, number));
        }
        index.check().unwrap();
        let keys: [_; 33] = core::array::from_fn(|at| Ipv4Addr::from_bits((at as u32) << 20));
        let mut burst = [None; 33];
        index.longest_many(&keys, &mut burst);
        for (key, burst) in keys.iter().zip(burst) {
            let covering = twin.iter().filter(|(prefix, _)| prefix.contains(*key));
            let longest = covering.max_by_key(|(prefix, _)| prefix.len()).copied();
            assert_eq!((index.longest(*key), burst), (longest, longest));
        }
    }
}

#[test]
fn ends_of_the_world() {
    let mut twins = PrefixTwins::<Ipv6Addr>::new(300);
    for len in 0..=128 {
        for bits in [0, u128::MAX] {
            let prefix = Prefix::new(Ipv6Addr::from_bits(bits), len).unwrap();
            twins.apply(PrefixOp::Insert(prefix)).unwrap();
            twins.check().unwrap();
        }
    }
    for len in 0..=128 {
        let prefix = Prefix::new(Ipv6Addr::from_bits(u128::MAX), len).unwrap();
        twins.apply(PrefixOp::Around(prefix)).unwrap();
        twins.apply(PrefixOp::Remove(prefix)).unwrap();
        twins.check().unwrap();
    }
    let nested = twins.trie.covering(Prefix::host(Ipv6Addr::UNSPECIFIED));
    assert_eq!(nested.count(), 128);
}
