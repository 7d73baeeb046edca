//! Shards on threads: a rule is published by one thread while others process packets, and nobody waits.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gufc::cache::Config;
use gufc::hooks::filter::{Filter, Place, Policy, Rule, RuleId};
use gufc::key::{Protocol, SevenTuple, Tuple};
use gufc::nic::{Indirection, Rss, RssKey};
use gufc::packet::Packet;
use gufc::shard::{Control, Edit, Homes, Placed, Placing, Shard, ShardId, SharedShard, shards};
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::verdict::Verdict;

type Hooks = (Filter,);

fn set(count: u16, ring: usize) -> (Control<Edit<Hooks>>, Vec<SharedShard<Tuple, Hooks>>) {
    let table = Indirection::equal(7, count);
    let all = (0..count).map(|id| {
        Shard::new(
            ShardId(id),
            Config {
                sessions: 1_024,
                ..Config::new([1, 2])
            },
            (Filter::new("filter", 2_000, 1, Policy::Accept),),
            Rss::new(RssKey::symmetric(0x6d5a)),
            Homes::of_queues(&table),
            Placing::Local,
            16,
            Duration::from_secs(60),
        )
        .expect("a valid configuration")
    });
    shards(all.collect(), ring)
}

fn packets(count: u32) -> Vec<ToyPacket> {
    let packet = |n: u32| {
        ToyPacket::new(SevenTuple::new(
            core::net::Ipv4Addr::from_bits(0x0a00_0000 | n),
            core::net::Ipv4Addr::new(192, 0, 2, 1),
            Protocol::TCP,
            1_000,
            80,
        ))
    };
    (0..count).map(packet).collect()
}

/// Goal: across threads, once a generation is visible no packet is judged by older rules. Method: rule `n` makes all packets
/// bear mark `n`; the control thread says which rule is visible, and each shard asserts that no packet that came after that bears
/// an older mark. Edits and packets overlap as the machine has it.
#[test]
fn no_shard_judges_by_rules_older_than_what_is_visible() {
    const EDITS: u64 = 200;
    let (control, shards) = set(2, 8);
    let visible = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mut shard in shards {
            let (visible, done) = (&visible, &done);
            scope.spawn(move || {
                let mut burst = packets(64);
                let now = Instant::from_secs(1);
                let mut rounds = 0u64;
                while !done.load(Ordering::Acquire) || rounds == 0 {
                    // What is visible when the burst is taken from the NIC.
                    let since = visible.load(Ordering::Acquire);
                    shard.process_burst(&mut burst, now, |_, placed| {
                        let Placed::Here(outcome, None) = placed else {
                            panic!("{placed:?}")
                        };
                        assert!(
                            u64::from(outcome.mark) >= since,
                            "mark {} when {since} was visible",
                            outcome.mark
                        );
                    });
                    rounds += 1;
                }
                shard.catch_up();
                assert_eq!(shard.shard().stats().failed_edits, 0);
                assert_eq!(shard.shard().cache().stats().misses, 64);
            });
        }
        for n in 1..=EDITS {
            let edit = Edit::new(move |(filter,): &mut Hooks| {
                let rule: Rule = format!("meta mark set {n} accept").parse().ok()?;
                filter
                    .insert(Place::First, rule)
                    .ok()
                    .map(|(_, change)| change)
            });
            let mut next = Some(edit);
            while let Some(edit) = next.take() {
                match control.publish(edit) {
                    Ok(generation) => {
                        // The control thread may wait; packets do not.
                        if n % 3 == 0 {
                            while !control.is_visible(generation) {
                                std::thread::yield_now();
                            }
                            visible.store(n, Ordering::Release);
                        }
                    }
                    Err(backlog) => {
                        std::thread::yield_now();
                        next = Some(backlog.0);
                    }
                }
            }
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(control.generation().number(), EDITS);
}

#[test]
fn a_shard_is_send_and_a_control_handle_is_for_all() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<Shard<Tuple, Hooks>>();
    is_send::<SharedShard<Tuple, Hooks>>();
    is_shared::<Control<Edit<Hooks>>>();
}

/// A shard that has no packets parks: edits become visible without it, and its first packet afterwards is judged by them.
#[test]
fn a_parked_shard_holds_nobody_up() {
    let (control, mut all) = set(2, 4);
    let drop_all = Edit::new(|(filter,): &mut Hooks| {
        let rule: Rule = "drop".parse().ok()?;
        filter
            .insert(Place::First, rule)
            .ok()
            .map(|(_, change)| change)
    });
    all[1].park();
    let generation = control.publish(drop_all).ok().expect("room in the ring");
    assert!(!control.is_visible(generation));
    assert_eq!(all[0].catch_up(), 1);
    assert!(control.is_visible(generation));
    assert_eq!(all[1].wake(), 1);
    all[1].process_burst(&mut packets(3), Instant::START, |packet, placed| {
        assert!(matches!(placed, Placed::Here(outcome, _) if outcome.verdict == Verdict::Drop));
        assert_eq!(packet.hop_limit(), 64);
    });
}

/// A ring that is full because a shard sleeps refuses, counts, and loses nothing; an edit that cannot be done is counted too.
#[test]
fn a_full_ring_refuses_and_a_failed_edit_is_counted() {
    let (control, mut all) = set(1, 2);
    let remove = || Edit::new(|(filter,): &mut Hooks| filter.remove(RuleId(7)).ok().map(|r| r.1));
    assert!(control.publish(remove()).is_ok() && control.publish(remove()).is_ok());
    assert!(control.publish(remove()).is_err());
    assert_eq!(control.backlogs(), 1);
    assert_eq!(all[0].catch_up(), 2);
    assert_eq!(all[0].shard().stats().failed_edits, 2);
    assert!(control.publish(remove()).is_ok());
}
