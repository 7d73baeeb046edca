//! A SYN flood against a full table behind a full cache: counted, not timed.

use gufc::cache::{self, FlowCache};
use gufc::hooks::conntrack::{Config, Conntrack, Reason, Status};
use gufc::hooks::filter::{Filter, Policy, Table};
use gufc::key::Tuple;
use gufc::packet::Origin;
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};
use gufc::verdict::Outcome;

use super::story::{Told, segment};

type Cache = FlowCache<Tuple, (Conntrack<Tuple>, Filter)>;

const ROOM: u32 = 1_024;
const FLOWS: u32 = 200;

fn dataplane() -> Cache {
    let mut filter = Filter::new("filter", 8, 7, Policy::Drop);
    let rules: Table = "chain main {
        policy drop
        ct state invalid drop
        ct state established,related accept
        tcp dport 80 tcp flags syn / fin,syn,rst,ack accept
    }"
    .parse()
    .expect("rules");
    let _ = filter.commit(filter.diff(&rules)).expect("room");
    let tracker = Conntrack::try_new(Config::new(ROOM, [1, 2])).expect("room");
    let config = cache::Config {
        sessions: ROOM as usize,
        ..cache::Config::new([3, 4])
    };
    FlowCache::new(config, (tracker, filter)).expect("room")
}

/// A client's tuple, and its server's.
fn ends(client: u32) -> [Tuple; 2] {
    let [a, b, c, d] = client.to_be_bytes();
    let own = format!("{a}.{b}.{c}.{d}:1000");
    let tuple = |text: String| text.parse().expect("a tuple");
    [
        tuple(format!("tcp {own} > 192.0.2.2:80")),
        tuple(format!("tcp 192.0.2.2:80 > {own}")),
    ]
}

struct World {
    cache: Cache,
    now: Instant,
}

impl World {
    fn send(&mut self, key: Tuple, words: &str) -> Outcome {
        let mut packet = Told::tcp(key, segment(words));
        self.cache.process(&mut packet, self.now)
    }

    /// The steps of a client's handshake and first request; `between` comes before each.
    fn open(&mut self, client: u32, mut between: impl FnMut(&mut Self)) -> bool {
        let [out, back] = ends(client);
        let steps = [
            (out, "S 0:0 w900 l0"),
            (back, "SA 0:1 w900 l0"),
            (out, "A 1:1 w900 l0"),
            (out, "A 1:1 w900 l100"),
            (back, "A 1:101 w900 l300"),
        ];
        let passed = steps.iter().all(|(key, words)| {
            between(self);
            self.send(*key, words).verdict.is_accept()
        });
        passed && self.is_assured(client)
    }

    fn is_assured(&self, client: u32) -> bool {
        let (tracker, _) = self.cache.hooks();
        let found = tracker.find(&ends(client)[0], self.now);
        found.is_some_and(|(id, _)| {
            let one = tracker.connection(id).expect("found");
            one.status().contains(Status::ASSURED)
        })
    }

    /// What looking this tuple up costs: nodes of the cache's index, and of the tracker's.
    fn slots(&self, key: &Tuple) -> u32 {
        let (tracker, _) = self.cache.hooks();
        self.cache.trace(Origin::Received, key).slots + tracker.trace(key).slots
    }
}

/// Goal: established flows all survive and stay on the fast path, new clients come through, nothing grows, and no packet costs more late
/// in the flood than early. Method: 40,000 forged SYNs, forty times what there is room for; between every two hundred a client opens,
/// twenty forged SYNs before each of its packets.
#[test]
fn a_flood_of_openings_costs_the_others_nothing() {
    let mut world = World {
        cache: dataplane(),
        now: Instant::from_secs(1),
    };
    for client in 0..FLOWS {
        assert!(world.open(0x0a00_0000 + client, |_| ()));
    }
    let mut chance = SplitMix64(1);
    let mut forged = 0;
    let mut depths = Vec::new();
    let mut flood = |world: &mut World, count: u32| {
        for _ in 0..count {
            forged += 1;
            let [out, _] = ends(0xc000_0000 | chance.next() as u32 >> 4);
            depths.push(world.slots(&out));
            let outcome = world.send(out, "S 5:0 w900 l0");
            assert!(outcome.verdict.is_accept(), "{outcome:?}");
            let (tracker, _) = world.cache.hooks();
            assert!(tracker.len() <= ROOM as usize && world.cache.len() <= ROOM as usize);
        }
    };
    let (mut hits, mut sent) = (0, 0);
    for round in 0..200 {
        flood(&mut world, 100);
        let client = 0x0b00_0000 + round;
        let opened = world.open(client, |world| flood(world, 20));
        assert!(opened, "round {round}: a handshake completes");
        for n in 0..10 {
            let [out, _] = ends(0x0a00_0000 + (round * 10 + n) % FLOWS);
            let outcome = world.send(out, "A 101:301 w900 l0");
            assert!(outcome.verdict.is_accept());
            hits += u32::from(outcome.path.is_cached());
            sent += 1;
        }
        world.now = world.now + Duration::from_millis(20);
    }
    assert!((0..FLOWS).all(|n| world.is_assured(0x0a00_0000 + n)));
    assert!((0..200).all(|n| world.is_assured(0x0b00_0000 + n)));
    assert_eq!(hits, sent, "established flows stay on the fast path");
    assert_eq!(forged, 40_000);
    let (tracker, _) = world.cache.hooks();
    assert_eq!(tracker.len(), ROOM as usize);
    assert_eq!(
        tracker.early_dropped(),
        u64::from(FLOWS + 200 + forged - ROOM),
        "each new one puts one out"
    );
    assert_eq!(tracker.count(Reason::Full), 0);
    // Work: a look-up goes through as many nodes at the end as when the table had just filled, on average and at most.
    let look = |range: &[u32]| {
        let sum: u32 = range.iter().sum();
        let most = range.iter().copied().max().unwrap_or(0);
        (f64::from(sum) / range.len() as f64, most)
    };
    let (early, late) = (look(&depths[2_000..8_000]), look(&depths[34_000..]));
    assert!(
        late.0 <= early.0 * 1.05 && late.1 <= early.1 + 1,
        "{early:?} {late:?}"
    );
    assert!(late.0 < 8.0, "{late:?}");
    assert_eq!(world.cache.check(), Ok(()));
    world.cache.hooks().0.check().expect("sound");
}
