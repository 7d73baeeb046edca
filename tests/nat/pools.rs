//! The allocator alone: it neither leaks nor lends twice, at every load; what is full is refused and counted.

use std::collections::BTreeSet;

use core::net::IpAddr;
use gufc::hooks::nat::{Allocation, Deterministic, Pool, PoolConfig, PoolError};
use gufc::key::{Endpoint, Ports, Protocol};
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};

use super::world::{ip, pool};

fn host(n: u64) -> IpAddr {
    IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8])
}

/// As many openings and closings as `GUFC_NAT_OPENS` says, at full use of every port all the time, in all three ways to hand
/// out: a set of what is lent finds a port lent twice, and what is free at the end finds a leak.
#[test]
fn random_openings_at_full_use_leak_nothing_and_lend_nothing_twice() {
    let opens = std::env::var("GUFC_NAT_OPENS").map_or(40_000, |n| n.parse().expect("a number"));
    let inside = "10.0.0.0/27".parse().expect("a prefix");
    for allocation in [
        Allocation::Single,
        Allocation::Blocks { size: 16, max: 2 },
        Allocation::Deterministic { inside },
    ] {
        for quarantine in [Duration::ZERO, Duration::from_millis(3)] {
            let config = PoolConfig {
                allocation,
                quarantine,
                quarantine_max: 50,
                ..pool(1024, 1024 + 511)
            };
            let outside = config.addresses[0];
            let mut pool = Pool::try_new(config, [7, 8]).expect("room");
            let mut chance = SplitMix64(11);
            let (mut lent, mut held) = (BTreeSet::new(), Vec::new());
            let mut refused = 0;
            let (mut now, mut opened) = (Instant::START, 0u64);
            while opened < opens / 6 {
                now = now + Duration::from_micros(10);
                let who = host(chance.below(32));
                match pool.open(who, Protocol::UDP, 1024 + chance.below(600) as u16, now) {
                    Ok(got) => {
                        assert!(lent.insert(got.outside), "{:?} was lent twice", got.outside);
                        held.push((who, got.outside));
                        opened += 1;
                    }
                    // Full for this one: one goes, chosen by chance, and the next comes.
                    Err(PoolError::Exhausted | PoolError::Quota) => {
                        refused += 1;
                        let at = chance.below(held.len() as u64) as usize;
                        let (who, end) = held.swap_remove(at);
                        assert!(lent.remove(&end));
                        assert!(pool.close(who, Protocol::UDP, end, now).is_some());
                        assert_eq!(
                            pool.close(who, Protocol::UDP, end, now),
                            None,
                            "taken back once"
                        );
                    }
                    Err(other) => panic!("{other}"),
                }
                assert_eq!(pool.lent(), lent.len());
            }
            let counted = pool.refused(PoolError::Exhausted) + pool.refused(PoolError::Quota);
            assert_eq!(counted, refused, "every refusal is counted");
            assert!(refused > opened / 4, "the pool was full");
            pool.check().expect("sound");
            for (who, end) in held {
                assert!(pool.close(who, Protocol::UDP, end, now).is_some());
            }
            let later = now + Duration::from_secs(1);
            let _ = pool
                .open(host(0), Protocol::TCP, 1, later)
                .expect("all free");
            assert_eq!(pool.free(outside, Protocol::UDP), 512, "nothing leaked");
            assert_eq!(pool.resting(), 0);
            pool.check().expect("sound");
        }
    }
}

#[test]
fn every_port_of_every_address_is_lent() {
    let mut config = pool(1024, 65_535);
    config.protocols = vec![Protocol::UDP];
    let mut pool = Pool::try_new(config, [1, 2]).expect("room");
    let mut seen = BTreeSet::new();
    for n in 0..64_512 {
        let lent = pool
            .open(host(n % 900), Protocol::UDP, 4000, Instant::START)
            .expect("a port");
        assert!(seen.insert(lent.outside.port));
    }
    assert_eq!(
        pool.open(host(1), Protocol::UDP, 4000, Instant::START),
        Err(PoolError::Exhausted)
    );
    assert_eq!(pool.refused(PoolError::Exhausted), 1);
}

/// However full, a choice looks at a bounded number of words, also where no port has the parity that is wanted.
#[test]
fn a_choice_at_99_percent_looks_at_few_words() {
    let mut config = pool(1024, 65_535);
    config.protocols = vec![Protocol::UDP];
    let mut pool = Pool::try_new(config, [1, 2]).expect("room");
    let mut chance = SplitMix64(3);
    let mut held: Vec<_> = (0..64_512 / 100 * 99)
        .map(|n| {
            (
                host(n),
                pool.open(host(n), Protocol::UDP, 4000, Instant::START)
                    .expect("a port")
                    .outside,
            )
        })
        .collect();
    let before = pool.looked();
    let rounds = 2_000;
    let mut most = 0;
    for _ in 0..rounds {
        let at = chance.below(held.len() as u64) as usize;
        let (who, end) = held.swap_remove(at);
        pool.close(who, Protocol::UDP, end, Instant::START)
            .expect("held");
        let looked = pool.looked();
        let lent = pool
            .open(who, Protocol::UDP, 4000, Instant::START)
            .expect("a port");
        most = most.max(pool.looked() - looked);
        held.push((who, lent.outside));
    }
    assert!(most <= 42, "{most} words in the worst choice");
    let average = (pool.looked() - before) as f64 / f64::from(rounds);
    assert!(average < 20.0, "{average} words a choice");
}

#[test]
fn reserved_ports_are_never_lent() {
    let mut config = pool(1024, 1033);
    config.reserved = vec![(
        config.addresses[0],
        Ports {
            first: 1026,
            last: 1029,
        },
    )];
    let mut pool = Pool::try_new(config, [1, 2]).expect("room");
    for n in 0..6 {
        let lent = pool
            .open(host(n), Protocol::TCP, 1027, Instant::START)
            .expect("a port");
        assert!(!(1026..=1029).contains(&lent.outside.port));
    }
    assert_eq!(
        pool.open(host(9), Protocol::TCP, 1027, Instant::START),
        Err(PoolError::Exhausted)
    );
}

/// One line a block, hours long: the subscriber's next ports come from it, and it names him.
#[test]
fn a_block_is_taken_once_and_names_its_subscriber() {
    let mut config = pool(1024, 65_535);
    config.allocation = Allocation::Blocks { size: 64, max: 2 };
    let mut pool = Pool::try_new(config, [1, 2]).expect("room");
    let (mut lines, mut ends) = (Vec::new(), Vec::new());
    for n in 0..128u16 {
        let lent = pool
            .open(host(1), Protocol::UDP, 4000 + n, Instant::START)
            .expect("a port");
        lines.extend(lent.block);
        ends.push(lent.outside);
        assert_eq!(pool.subscriber_of(lent.outside), Some(host(1)));
    }
    assert_eq!(lines.len(), 2);
    assert_eq!(
        pool.open(host(1), Protocol::UDP, 1, Instant::START),
        Err(PoolError::Quota)
    );
    let given = ends.into_iter().filter_map(|end| {
        pool.close(host(1), Protocol::UDP, end, Instant::START)
            .flatten()
    });
    assert_eq!(given.count(), 2, "and a line when each goes");
}

/// RFC 7422: who had a port follows from the port, with no log.
#[test]
fn a_deterministic_port_names_its_subscriber_for_ever() {
    let inside = "10.0.0.0/24".parse().expect("a prefix");
    let mut config = pool(1024, 65_535);
    config.allocation = Allocation::Deterministic { inside };
    let scheme = Deterministic::new(inside, 1, config.ports).expect("ports");
    let mut pool = Pool::try_new(config, [1, 2]).expect("room");
    for n in 0..256 {
        let lent = pool
            .open(host(n), Protocol::TCP, 40_000, Instant::START)
            .expect("a port");
        assert_eq!(scheme.subscriber_of(0, lent.outside.port), Some(host(n)));
        let (_, block) = scheme.block_of(host(n)).expect("a block");
        assert!(block.contains(lent.outside.port));
    }
    assert_eq!(
        pool.open(ip("10.1.0.1"), Protocol::TCP, 1, Instant::START),
        Err(PoolError::Outsider)
    );
}

#[test]
fn what_was_not_lent_is_not_taken_back() {
    let mut pool = Pool::try_new(pool(1024, 1033), [1, 2]).expect("room");
    let lent = pool
        .open(host(1), Protocol::UDP, 1030, Instant::START)
        .expect("a port");
    for (who, protocol, port) in [
        (2, Protocol::UDP, 1030),
        (1, Protocol::TCP, 1030),
        (1, Protocol::UDP, 1031),
        (1, Protocol::UDP, 9),
    ] {
        let end = Endpoint::new(lent.outside.address, port);
        assert_eq!(pool.close(host(who), protocol, end, Instant::START), None);
    }
    assert_eq!(pool.lent(), 1);
}
