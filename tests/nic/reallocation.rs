//! The indirection table is changed while traffic flows: no flow is judged wrongly, and what that costs is counted and bounded.

use gufc::cache::Config;
use gufc::epoch::Change;
use gufc::hooks::filter::{EditError, Filter, Place, Policy, Rule};
use gufc::key::{FlowKey, Protocol, SevenTuple, Tuple};
use gufc::nic::{Facts, Faults, Indirection, Intake, Nic, NicConfig, Queue, Rss, RssKey};
use gufc::shard::{Homes, Placed, Placing, Shard, ShardId};
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::ToyPacket;
use gufc::testing::uncached::Uncached;
use gufc::time::{Duration, Instant};

const QUEUES: u16 = 4;
const FLOWS: u32 = 2_000;

type Hooks = (Filter,);

fn hooks() -> Hooks {
    (Filter::new("filter", 10, 1, Policy::Accept),)
}

fn insert(rule: &str) -> impl Fn(&mut Hooks) -> Result<Change, EditError> {
    let rule: Rule = rule.parse().expect("a rule");
    move |(filter,)| {
        filter
            .insert(Place::First, rule.clone())
            .map(|(_, change)| change)
    }
}

struct World {
    nic: Nic<Tuple, ToyPacket>,
    shards: Vec<Shard<Tuple, Hooks>>,
    twin: Uncached<Hooks>,
    now: Instant,
}

impl World {
    fn new(placing: Placing) -> Self {
        let rss = Rss::new(RssKey::symmetric(0x6d5a));
        let table = Indirection::equal(7, QUEUES);
        let shards = (0..QUEUES).map(|id| {
            Shard::new(
                ShardId(id),
                Config::new([1, 2]),
                hooks(),
                rss.clone(),
                Homes::of_queues(&table),
                placing,
                64,
                Duration::from_secs(60),
            )
            .expect("a valid configuration")
        });
        Self {
            shards: shards.collect(),
            nic: Nic::new(NicConfig::new(QUEUES), rss, table, Faults::new([0, 0])),
            twin: Uncached { hooks: hooks() },
            now: Instant::from_secs(1),
        }
    }

    fn send(&mut self, packet: ToyPacket) -> Queue {
        let taken = self
            .nic
            .receive(&packet.key, Facts::default(), packet, self.now);
        let Intake::Queued(queue) = taken else {
            panic!("{taken:?}")
        };
        let received = self.nic.poll(queue).expect("what was queued");
        let mut packet = received.packet;
        let mut placed = self.shards[queue.index()].process(&mut packet, self.now);
        if let Placed::Elsewhere(remote, handed) = placed {
            let home = usize::from(remote.shard.0);
            placed = self.shards[home].take_over(&mut packet, handed, self.now);
        }
        let Placed::Here(outcome, _) = placed else {
            panic!("{placed:?}")
        };
        let expected = self.twin.process(&mut received.packet.clone(), self.now);
        assert!(outcome.agrees(&expected), "{outcome:?} {expected:?}");
        queue
    }

    fn misses(&self) -> u64 {
        let misses = |shard: &Shard<Tuple, Hooks>| shard.cache().stats().misses;
        self.shards.iter().map(misses).sum()
    }

    fn edit(&mut self, rule: &str) {
        for shard in &mut self.shards {
            assert!(shard.edit(insert(rule)).is_some());
        }
        let done = self.twin.edit(|hooks| insert(rule)(hooks).map(|c| ((), c)));
        assert!(done.is_ok());
    }
}

fn packet(n: u32) -> ToyPacket {
    let key = SevenTuple::new(
        core::net::Ipv4Addr::from_bits(0x0a00_0000 | n),
        core::net::Ipv4Addr::new(192, 0, 2, 1),
        Protocol::TCP,
        1024 + n as u16,
        80 + (n % 4) as u16,
    );
    ToyPacket::new(key)
}

/// Both directions of every flow go by; then a few buckets move in the middle of traffic, and a rule comes; then traffic goes on.
fn story(placing: Placing) -> (World, u64, u64) {
    let mut world = World::new(placing);
    let mut chance = SplitMix64(3);
    let mut traffic = |world: &mut World, rounds: u32| {
        for _ in 0..rounds * FLOWS {
            let there = packet((chance.next() % u64::from(FLOWS)) as u32);
            let key = if chance.next() % 2 == 0 {
                there.key
            } else {
                there.key.inverse().expect("an answer")
            };
            world.send(ToyPacket { key, ..there });
        }
    };
    for n in 0..FLOWS {
        world.send(packet(n));
    }
    traffic(&mut world, 5);
    let before = world.misses();
    assert_eq!(before, u64::from(FLOWS), "one miss for each flow");

    let load = world.nic.take_load();
    let old = world.nic.indirection().clone();
    // A heavier load on one queue than there was, so that there is something to move.
    let load: Vec<u64> = (0..128u16)
        .map(|bucket| {
            let busy = old.queue_of(gufc::nic::Bucket(bucket)) == Queue(0);
            load[usize::from(bucket)] * if busy { 3 } else { 1 }
        })
        .collect();
    let moves = world.nic.indirection_mut().rebalance(&load, QUEUES, 12);
    assert!(!moves.is_empty());
    let moved = (0..FLOWS)
        .map(|n| world.nic.rss().hash(&packet(n).key.fields()))
        .filter(|hash| old.queue(*hash) != world.nic.indirection().queue(*hash))
        .count() as u64;
    assert!(moved > 20, "{moved} flows moved");
    traffic(&mut world, 2);
    world.edit("tcp dport 81 drop");
    traffic(&mut world, 5);
    let misses = world.misses() - before;
    (world, moved, misses)
}

/// Where hooks keep no state of connections, packets are processed where they land: each flow that moved misses once at its new
/// shard, whatever comes after, and no other flow misses.
#[test]
fn a_moved_flow_misses_once() {
    let (world, moved, misses) = story(Placing::Local);
    // A denied flow's two directions are cached as denials, each by itself.
    assert!(misses <= 2 * moved, "{misses} misses, {moved} flows moved");
    assert!(misses >= moved / 2, "{misses} misses, {moved} flows moved");
    let handed: u64 = world.shards.iter().map(|shard| shard.stats().handed).sum();
    assert_eq!(handed, 0);
}

/// Where they do, packets are handed over to where their flow lives: nothing misses at all.
#[test]
fn a_moved_flow_is_handed_over() {
    let (world, moved, misses) = story(Placing::HandOver);
    assert_eq!(misses, 0);
    let handed: u64 = world.shards.iter().map(|shard| shard.stats().handed).sum();
    assert!(handed > moved, "{handed} packets");
    let taken: u64 = world.shards.iter().map(|shard| shard.stats().taken).sum();
    assert_eq!(handed, taken);
}
