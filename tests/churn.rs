//! Edits under traffic, counted to the packet: whom an edit touches is re-run once, whoever else pays one comparison, and no
//! packet meets the rules of before.

use gufc::cache::{Config, FlowCache, Stats};
use gufc::hooks::filter::{EditError, Filter, Place, Policy, Rule, RuleId};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::Packet;
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};

type Cache = FlowCache<Tuple, (Filter,)>;

const FLOWS: u32 = 1_000;
/// Flow `n` comes from network 10.b.0.0/16 with b = n % BLOCKS, and an edit concerns one of these.
const BLOCKS: u32 = 20;
const NOW: Instant = Instant::from_secs(1);

fn flow(n: u32) -> ToyPacket {
    let (block, within) = (n % BLOCKS, n / BLOCKS);
    let text = format!("udp 10.{block}.0.{within}:4000 > 192.0.2.1:53");
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn drop_block(block: u32) -> Rule {
    let text = format!("ip saddr 10.{block}.0.0/16 drop");
    text.parse().expect("a rule")
}

fn cache(regions: usize) -> Cache {
    let config = Config {
        sessions: FLOWS as usize,
        regions,
        ..Config::new([1, 2])
    };
    let filter = Filter::new("filter", 4, 1, Policy::Accept);
    let mut cache = Cache::new(config, (filter,)).expect("a cache");
    for n in 0..FLOWS {
        let _ = cache.process(&mut flow(n), NOW);
    }
    cache
}

/// Puts the rule of a block in, or takes it out again where it stands.
fn toggle(cache: &mut Cache, standing: &mut Option<(RuleId, u32)>, block: u32) -> u32 {
    let before = *standing;
    let edit = cache.edit(|(filter,)| {
        Ok::<_, EditError>(match before {
            Some((id, _)) => (None, filter.remove(id)?.1),
            None => {
                let (id, change) = filter.insert(Place::First, drop_block(block))?;
                (Some(id), change)
            }
        })
    });
    let (id, _) = edit.expect("room for one rule");
    *standing = id.map(|id| (id, block));
    before.map_or(block, |(_, block)| block)
}

fn rerun(stats: &Stats) -> u64 {
    stats.rechecked + stats.revisited + stats.misses
}

/// A thousand edits between packets of flows drawn at random; however long a flow has slept, and whatever has fallen off the
/// ring meanwhile, it is re-run exactly when an edit since its last packet touched it, and its verdict is that of now.
fn churn(regions: usize, to_one_block: bool) -> Stats {
    let mut cache = cache(regions);
    let mut prng = SplitMix64(7);
    let mut standing = None;
    let mut edited = [0u32; BLOCKS as usize];
    let mut seen = [0u32; FLOWS as usize];
    let start = rerun(cache.stats());
    let mut due = 0;
    for edit in 1..=1_000 {
        let block = if to_one_block {
            0
        } else {
            prng.below(u64::from(BLOCKS)) as u32
        };
        let block = toggle(&mut cache, &mut standing, block);
        edited[block as usize] = edit;
        for _ in 0..10 {
            let n = prng.below(u64::from(FLOWS)) as u32;
            let block = n % BLOCKS;
            let outcome = cache.process(&mut flow(n), NOW);
            let denied = standing.is_some_and(|(_, standing)| standing == block);
            assert_eq!(
                outcome.verdict.is_accept(),
                !denied,
                "edit {edit}, flow {n}"
            );
            due += u64::from(edited[block as usize] > seen[n as usize]);
            seen[n as usize] = edit;
            assert_eq!(rerun(cache.stats()) - start, due, "edit {edit}, flow {n}");
        }
    }
    assert_eq!(cache.check(), Ok(()));
    cache.stats().clone()
}

#[test]
fn flows_rerun_are_flows_touched() {
    let stats = churn(256, true);
    assert!(stats.cleared > 8_000, "{stats:?}");
    let stats = churn(256, false);
    assert!(stats.rechecked + stats.revisited > 5_000, "{stats:?}");
}

/// What has fallen off the ring does not make flows look again that no edit came near.
#[test]
fn a_ring_that_overflows_stays_exact() {
    let stats = churn(8, true);
    assert!(stats.log_lost > 0, "{stats:?}");
    let _ = churn(1, true);
}

/// One commit, so many flows: each of the others has one region tested, once.
#[test]
fn an_untouched_flow_pays_one_box_test() {
    let mut cache = cache(256);
    let mut standing = None;
    for _ in 0..2 {
        let before = cache.stats().clone();
        let _ = toggle(&mut cache, &mut standing, 3);
        for _ in 0..3 {
            for n in 0..FLOWS {
                let _ = cache.process(&mut flow(n), NOW);
            }
        }
        let after = cache.stats();
        assert_eq!(after.region_tests - before.region_tests, u64::from(FLOWS));
        assert_eq!(rerun(after) - rerun(&before), u64::from(FLOWS / BLOCKS));
        let untouched = u64::from(FLOWS - FLOWS / BLOCKS);
        assert_eq!(after.restamped - before.restamped, untouched);
    }
}

/// A flow that no edit came near is cleared by a look at the granules, after ten thousand commits as after ten.
#[test]
fn a_long_sleeper_wakes_cheaply() {
    let mut cache = cache(16);
    let mut standing = None;
    for _ in 0..10_000 {
        let _ = toggle(&mut cache, &mut standing, 3);
    }
    let before = cache.stats().clone();
    for n in (0..FLOWS).filter(|n| n % BLOCKS != 3) {
        assert!(cache.process(&mut flow(n), NOW).verdict.is_accept());
    }
    let after = cache.stats();
    assert_eq!(after.region_tests, before.region_tests);
    assert_eq!(
        after.cleared - before.cleared,
        u64::from(FLOWS - FLOWS / BLOCKS)
    );
    assert_eq!(after.log_lost, before.log_lost);
}

/// A burst counts as its packets one at a time do, edits before it or not: which of its flows no edit came near is told for all of
/// them together, and flows come several times, are touched, idle out and begin within it.
#[test]
fn a_burst_counts_as_single_packets() {
    for regions in [1, 8, 256] {
        let mut single = cache(regions);
        let mut burst = cache(regions);
        let mut standing = [None; 2];
        let mut prng = SplitMix64(11);
        for round in 0..200u64 {
            for _ in 0..prng.below(9) {
                let block = prng.below(u64::from(BLOCKS)) as u32;
                let _ = toggle(&mut single, &mut standing[0], block);
                let _ = toggle(&mut burst, &mut standing[1], block);
            }
            // Now and then all sessions have idled out.
            let now = NOW + Duration::from_secs(3_600) * (round / 50) as u32;
            // Some flows are new, and make others end; some packets are replies.
            let mut packets: Vec<ToyPacket> = (0..50)
                .map(|_| {
                    let there = flow(prng.below(u64::from(FLOWS / 4) + 20) as u32 * 4);
                    match prng.below(3) {
                        0 => ToyPacket::new(there.key().inverse().expect("a reply")),
                        _ => there,
                    }
                })
                .collect();
            let mut alone = packets.clone().into_iter().map(|mut packet| {
                let outcome = single.process(&mut packet, now);
                (packet.key(), outcome)
            });
            burst.process_batch(&mut packets, now, |packet, outcome| {
                assert_eq!(alone.next(), Some((packet.key(), outcome)), "{round}");
            });
            assert_eq!(alone.next(), None);
            drop(alone);
            assert_eq!(burst.stats(), single.stats(), "{round}");
        }
        assert_eq!(burst.check(), Ok(()));
        assert!(
            regions == 1 || burst.stats().cleared > 1_000,
            "{:?}",
            burst.stats()
        );
    }
}
