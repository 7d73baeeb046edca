//! RFC 6888: translators for many subscribers.

use super::*;

#[test]
fn req_3_any_addresses_and_ports() {
    let addresses = ["192.0.2.3", "203.0.113.200", "198.18.7.7"]
        .map(ip)
        .to_vec();
    let config = PoolConfig {
        ports: Ports { first: 3, last: 77 },
        ..PoolConfig::new(addresses.clone())
    };
    let mut gateway = gateway(POOL, &[config]);
    let ends: BTreeSet<_> = (1..40)
        .map(|host| gateway.source(&format!("udp 10.0.0.{host}:50 > 198.51.100.1:53")))
        .collect();
    assert!(
        ends.iter()
            .all(|end| addresses.contains(&end.address) && (3..=77).contains(&end.port))
    );
    assert_eq!(
        ends.iter()
            .map(|end| end.address)
            .collect::<BTreeSet<_>>()
            .len(),
        3
    );
}

#[test]
fn req_4_a_subscribers_ports_are_limited() {
    let mut gateway = gateway(
        POOL,
        &[PoolConfig {
            quota: Some(5),
            ..wide()
        }],
    );
    let passed = |gateway: &mut Gateway, host: u8| {
        let sent = (0..9).filter_map(|n| {
            gateway.try_send(
                IN,
                &format!("udp 10.0.0.{host}:{} > 198.51.100.1:53", 4000 + n),
            )
        });
        sent.count()
    };
    assert_eq!([passed(&mut gateway, 1), passed(&mut gateway, 2)], [5, 5]);
    assert_eq!(
        gateway
            .nat()
            .pool(PoolId(0))
            .expect("a pool")
            .refused(PoolError::Quota),
        8
    );
    // What he has goes on, and what ends makes room.
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.1:4000 > 198.51.100.2:53")
            .is_some()
    );
    gateway.wait(secs(301));
    assert_eq!(passed(&mut gateway, 1), 5);
}

#[test]
fn req_4c_a_subscribers_rate_is_limited() {
    let mut gateway = gateway(
        POOL,
        &[PoolConfig {
            rate: Some(3),
            ..wide()
        }],
    );
    let sent = |gateway: &mut Gateway, from: u16| {
        let sent = (from..from + 9).filter_map(|port| {
            gateway.try_send(IN, &format!("udp 10.0.0.1:{port} > 198.51.100.1:53"))
        });
        sent.count()
    };
    assert_eq!(sent(&mut gateway, 4000), 3);
    gateway.wait(secs(1));
    assert_eq!(sent(&mut gateway, 5000), 3);
    assert_eq!(
        gateway
            .nat()
            .pool(PoolId(0))
            .expect("a pool")
            .refused(PoolError::Rate),
        12
    );
}

#[test]
fn req_5_a_subscribers_connections_are_limited() {
    let mut config = super::super::world::rfc();
    config.per_source_max = Some(4);
    let mut gateway = super::super::world::with(&config, POOL, &[wide()]);
    let passed = (0..9)
        .filter_map(|n| gateway.try_send(IN, &format!("udp 10.0.0.1:4000 > 198.51.100.{n}:53")));
    assert_eq!(passed.count(), 4);
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.2:4000 > 198.51.100.1:53")
            .is_some()
    );
}

#[test]
fn req_6_destinations_can_be_exempt() {
    let rules = format!("ip daddr 198.51.100.7 no snat\n{POOL}");
    let mut gateway = gateway(&rules, &[wide()]);
    assert_eq!(
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.7:53"),
        end("10.0.0.1:4000")
    );
    assert_eq!(
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.8:53"),
        end("203.0.113.8:4000")
    );
}

#[test]
fn req_8_freed_ports_rest() {
    let config = PoolConfig {
        quarantine: secs(120),
        ..pool(1024, 1024)
    };
    let mut gateway = gateway(POOL, &[config]);
    gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
    gateway.wait(secs(301));
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.2:4000 > 198.51.100.1:53")
            .is_none()
    );
    gateway.wait(secs(119));
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.2:4000 > 198.51.100.1:53")
            .is_none()
    );
    gateway.wait(secs(1));
    assert_eq!(
        gateway.source("udp 10.0.0.2:4000 > 198.51.100.1:53").port,
        1024
    );
}

#[test]
fn req_11_full_is_counted_and_evicts_nobody() {
    let mut gateway = gateway(POOL, &[pool(1024, 1027)]);
    let sent: Vec<_> = (1..5)
        .map(|host| gateway.wire(IN, &format!("udp 10.0.0.{host}:4000 > 198.51.100.1:53")))
        .collect();
    for host in 5..30 {
        assert!(
            gateway
                .try_send(IN, &format!("udp 10.0.0.{host}:4000 > 198.51.100.1:53"))
                .is_none()
        );
    }
    assert_eq!(gateway.nat().counters().unlent, 25);
    for (host, one) in (1..5).zip(&sent) {
        let back = gateway.answer(one).expect("an answer");
        assert_eq!(
            back.key.destination().address,
            ip(&format!("10.0.0.{host}"))
        );
    }
}

#[test]
fn req_11_the_sender_is_told_that_the_host_is_unreachable() {
    let mut gateway = gateway(POOL, &[pool(1024, 1024)]);
    gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    for _ in 0..3 {
        let second = "udp 10.0.0.2:4000 > 198.51.100.1:53";
        assert!(gateway.try_send(IN, second).is_none());
        assert_eq!(gateway.verdict, Verdict::Reject(Answer::HostUnreachable));
    }
    assert_eq!(
        Answer::HostUnreachable.icmp().map(|(v4, _)| v4),
        Some([3, 1])
    );
    // Its packets are answered, it leaves no trace, and the next one passes as soon as a port is free.
    assert_eq!(gateway.nat().tracker().len(), 1);
    gateway.wait(secs(301));
    gateway.wire(IN, "udp 10.0.0.2:4000 > 198.51.100.1:53");
}

#[test]
fn req_14_one_line_for_a_block() {
    let config = PoolConfig {
        allocation: Allocation::Blocks { size: 64, max: 4 },
        ..wide()
    };
    let mut gateway = gateway(POOL, &[config]);
    let ports: BTreeSet<u16> = (0..64)
        .map(|n| {
            gateway
                .source(&format!("udp 10.0.0.1:{} > 198.51.100.1:53", 4000 + n))
                .port
        })
        .collect();
    assert_eq!(
        ports
            .last()
            .zip(ports.first())
            .map(|(last, first)| last - first),
        Some(63),
        "one block"
    );
}
