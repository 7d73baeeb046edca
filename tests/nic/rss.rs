//! The hash as the trie's header, and what a flood of equal hashes costs.

use core::net::Ipv4Addr;

use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Filter, Policy};
use gufc::key::{FlowKey, Key, Protocol, SevenTuple};
use gufc::nic::{
    ByNic, End, Indirection, PortSolver, Queue, Rss, RssHeader, RssKey, Symmetry, chi_square,
};
use gufc::packet::{Packet, Rewrite};
use gufc::testing::prng::SplitMix64;
use gufc::time::Instant;
use gufc::trie::{HeaderHash, LcIndex, MOVES_MAX, Seeded};
use gufc::verdict::Path;

fn flow(source: u32, sport: u16) -> SevenTuple<Ipv4Addr> {
    let server = Ipv4Addr::new(192, 0, 2, 1);
    SevenTuple::new(
        Ipv4Addr::from_bits(source),
        server,
        Protocol::TCP,
        sport,
        443,
    )
}

/// Flows of one and the same hash, made by whoever knows the key: the first, and combinations of source bits that change no bit of
/// the hash.
fn colliding(rss: &Rss, count: usize) -> Vec<SevenTuple<Ipv4Addr>> {
    let first = flow(0x0a00_0001, 1_000);
    let wanted = rss.hash(&first.fields());
    // The words of the 48 bits of source address and port; elimination leaves combinations that change nothing.
    let zero = rss.hash(&flow(0, 0).fields());
    let mut basis: Vec<(u32, u64)> = Vec::new();
    let mut kernel: Vec<u64> = Vec::new();
    for bit in 0..48u32 {
        let with = flow((1u64 << bit >> 16) as u32, (1u64 << bit) as u16);
        let (mut word, mut made) = (rss.hash(&with.fields()) ^ zero, 1u64 << bit);
        for (known, by) in &basis {
            if word ^ known < word {
                word ^= known;
                made ^= by;
            }
        }
        if word == 0 {
            kernel.push(made);
        } else {
            basis.push((word, made));
            basis.sort_by_key(|(word, _)| core::cmp::Reverse(*word));
        }
    }
    assert!(kernel.len() >= 16);
    let base = u64::from(0x0a00_0001u32) << 16 | 1_000;
    (0..count as u64)
        .map(|combination| {
            let picked = kernel
                .iter()
                .enumerate()
                .filter(|(i, _)| combination >> i & 1 == 1);
            let bits = picked.fold(base, |bits, (_, change)| bits ^ change);
            let made = flow((bits >> 16) as u32, bits as u16);
            assert_eq!(rss.hash(&made.fields()), wanted);
            made
        })
        .collect()
}

/// Up to 16,384 flows with one hash, by an attacker who knows the NIC's key: the trie stays correct, no lookup reads more
/// than the stated bound, no edit moves more, and other flows are found as fast as before.
#[test]
fn a_flood_of_one_hash_costs_bounded_work() {
    for symmetry in [Symmetry::None, Symmetry::Xor] {
        let rss = Rss::new(RssKey::MICROSOFT).with_symmetry(symmetry);
        let header = RssHeader::new(rss.clone(), 0x5eed);
        let mut index = LcIndex::try_with_hash(header.clone(), 20_000).expect("memory");
        let others: Vec<_> = (0..2_000).map(|n| flow(0xc633_6400 + n, 7)).collect();
        for (id, other) in others.iter().enumerate() {
            index.insert(other, id as u32).expect("room");
        }
        let calm: u32 = others.iter().map(|other| index.trace(other).slots).sum();
        let flood = colliding(&rss, 16_384);
        let mut moves = index.work().moves();
        let mut held = Vec::new();
        for (id, one) in flood.iter().enumerate() {
            // Nodes may run out before entries do; such a flow is not cached.
            if index.insert(one, id as u32).is_ok() {
                held.push((*one, id as u32));
            }
            let now = index.work().moves();
            assert!(now - moves <= MOVES_MAX as u64, "{} moves", now - moves);
            moves = now;
        }
        assert!(held.len() > 1_000, "{} held", held.len());
        let bound = 64 + SevenTuple::<Ipv4Addr>::BITS;
        let mut deepest = 0;
        for (one, id) in &held {
            assert_eq!(index.find(one), Some(*id));
            let from_nic = header.header_of(rss.hash(&one.fields()));
            assert_eq!(index.find_hashed(from_nic, one), Some(*id));
            deepest = deepest.max(index.trace(one).slots);
        }
        assert!((3..=bound).contains(&deepest), "{deepest} slots");
        // Others pay at most for the slot that they share with the flood.
        let flooded: u32 = others.iter().map(|other| index.trace(other).slots).sum();
        assert!(flooded <= calm + 40, "{calm} slots before, {flooded} after");
        assert_eq!(index.check(), Ok(()));
        for (one, _) in &held {
            assert!(index.remove(one).is_some());
        }
        assert_eq!((index.len(), index.check()), (others.len(), Ok(())));
    }
}

/// What a NIC says of the hash is believed for the time of a lookup only: wrong, it finds nothing, and never another flow.
#[test]
fn a_wrong_hash_finds_nothing_or_the_right_flow() {
    let rss = Rss::new(RssKey::from_seed([3, 4]));
    let header = RssHeader::new(rss.clone(), 9);
    let mut index = LcIndex::try_with_hash(header.clone(), 1_000).expect("memory");
    for n in 0..1_000 {
        index.insert(&flow(n, 80), n).expect("room");
    }
    let mut chance = SplitMix64(5);
    for n in 0..1_000 {
        let key = flow(n, 80);
        let wrong = header.header_of(chance.next() as u32);
        assert!(matches!(index.find_hashed(wrong, &key), None | Some(_)));
        assert_eq!(index.find_hashed(wrong, &key).unwrap_or(n), n);
        let right = header.header_of(rss.hash(&key.fields()));
        assert_eq!(index.find_hashed(right, &key), Some(n));
    }
}

/// Random flows spread over queues as chance would have it, under a random key and each symmetry; a symmetric key is
/// worse by what it must be, for its hash has 16 bits.
#[test]
fn flows_spread_evenly() {
    let mut chance = SplitMix64(11);
    let flows: Vec<_> = (0..200_000)
        .map(|_| flow(chance.next() as u32, chance.next() as u16))
        .collect();
    let table = Indirection::equal(7, 16);
    for rss in [
        Rss::new(RssKey::MICROSOFT),
        Rss::new(RssKey::from_seed([7, 7])),
        Rss::new(RssKey::MICROSOFT).with_symmetry(Symmetry::Xor),
        Rss::new(RssKey::MICROSOFT).with_symmetry(Symmetry::OrXor),
        Rss::new(RssKey::symmetric(0x6d5a)),
    ] {
        let mut counts = [0; 16];
        for flow in &flows {
            counts[table.queue(rss.hash(&flow.fields())).index()] += 1;
        }
        // 15 degrees of freedom: above 50 once in 80,000 runs of true chance.
        let chi = chi_square(&counts, &[1; 16]);
        assert!(chi < 50.0, "{chi} {counts:?}");
    }
}

/// Every port of a masquerading shard's own is one whose reply comes home, and shards never choose the same.
#[test]
fn ports_of_different_queues_are_different() {
    let rss = Rss::new(RssKey::MICROSOFT);
    let table = Indirection::equal(7, 8);
    let reply = SevenTuple::new(
        Ipv4Addr::new(198, 51, 100, 7),
        Ipv4Addr::new(192, 0, 2, 1),
        Protocol::TCP,
        443,
        0,
    );
    let reply = reply.fields();
    let solver = PortSolver::new(&rss, &reply, End::Destination, 0x7fff, table.bits());
    let mut owners = vec![None; 1 << 16];
    for queue in (0..8).map(Queue) {
        for port in solver.ports_to(&table, queue, &reply, 0x8000, 3) {
            assert_eq!(owners[usize::from(port)].replace(queue), None, "{port}");
        }
    }
    let owned = owners.iter().filter(|owner| owner.is_some()).count();
    assert_eq!(owned, 0x8000, "each port of the block has one owner");
}

/// A packet that is its key and what the NIC says of its hash.
#[derive(Clone, Copy)]
struct Hashed {
    key: ByNic<Ipv4Addr>,
    hash: Option<u32>,
}

impl Packet for Hashed {
    type Key = ByNic<Ipv4Addr>;
    fn key(&self) -> Self::Key {
        self.key
    }
    fn length(&self) -> u32 {
        100
    }
    fn transport(&self) -> &[u8] {
        &[]
    }
    fn transport_length(&self) -> u32 {
        80
    }
    fn hash(&self) -> Option<u32> {
        self.hash
    }
    fn hop_limit(&self) -> u8 {
        64
    }
    fn rewrite(&mut self, rewrite: &Rewrite<Self::Key>) {
        self.key = rewrite.to;
    }
    fn set_hop_limit(&mut self, _: u8) {}
}

/// A whole cache over the NIC's hash: right, wrong or missing, the hash changes nothing of what a packet meets.
#[test]
fn a_cache_takes_the_hash_of_the_nic() {
    let filter = Filter::new("filter", 10, 1, Policy::Accept);
    let config = Config::new([11, 12]);
    let rss = Rss::new(RssKey::from_seed(config.seed));
    let mut cache = FlowCache::new(config, (filter,)).expect("a valid configuration");
    let now = Instant::from_secs(1);
    let mut chance = SplitMix64(6);
    for n in 0..2_000 {
        let key = ByNic(flow(n, 80));
        let right = rss.hash(&key.fields());
        assert_eq!(
            cache_header(&rss, right),
            RssHeader::from_seed([11, 12]).header(&key)
        );
        let hashes = [
            Some(right),
            Some(right),
            None,
            Some(chance.next() as u32),
            Some(right ^ 1),
        ];
        for (place, hash) in hashes.into_iter().enumerate() {
            let path = cache.process(&mut Hashed { key, hash }, now).path;
            let expected = if place == 0 { Path::Miss } else { Path::Hit };
            assert_eq!(path, expected, "flow {n}, packet {place}");
        }
    }
    assert_eq!((cache.len(), cache.check()), (2_000, Ok(())));
}

fn cache_header(rss: &Rss, hash: u32) -> u64 {
    RssHeader::new(rss.clone(), 11 ^ 12).header_of(hash)
}
