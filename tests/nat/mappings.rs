//! Mappings beside connections: whom they let in, what keeps them, forwards, hairpin, and that whatever fails leaves nothing.

use gufc::hooks::conntrack::Config;
use gufc::hooks::nat::{Filtering, PoolConfig, PoolError, PoolId};
use gufc::key::FlowKey;
use gufc::packet::TcpFlags;
use gufc::testing::nat::Gateway;

use super::world::{IN, OUT, POOL, Play, end, gateway, ip, key, plain, pool, rfc, secs, with};

fn filtering(filtering: Filtering) -> Gateway {
    gateway(
        POOL,
        &[PoolConfig {
            filtering,
            ..pool(1024, 65_535)
        }],
    )
}

#[test]
pub(super) fn whom_filtering_lets_in() {
    for (how, anybody, same_address) in [
        (Filtering::EndpointIndependent, true, true),
        (Filtering::AddressDependent, false, true),
        (Filtering::AddressAndPortDependent, false, false),
    ] {
        let mut gateway = filtering(how);
        let own = gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
        let inbound = |from: &str| format!("udp {from} > {}:{}", own.address, own.port);
        let arrives = |gateway: &mut Gateway, from: &str| {
            let sent = gateway.try_send(OUT, &inbound(from));
            sent.is_some_and(|sent| {
                assert_eq!(
                    (sent.key.destination(), sent.egress),
                    (end("10.0.0.1:4000"), Some(IN))
                );
                true
            })
        };
        assert!(arrives(&mut gateway, "198.51.100.1:53"), "the peer");
        assert_eq!(arrives(&mut gateway, "198.51.100.1:54"), same_address);
        assert_eq!(arrives(&mut gateway, "198.51.100.9:53"), anybody);
        let refused = u64::from(!anybody) + u64::from(!same_address);
        assert_eq!(gateway.nat().counters().filtered, refused);
    }
}

#[test]
fn a_mapping_ends_with_its_last_connection_and_gives_its_port_back_once() {
    let mut gateway = gateway(POOL, &[pool(1024, 1024)]);
    gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
    gateway.wait(secs(200));
    gateway.source("udp 10.0.0.1:4000 > 198.51.100.2:53");
    gateway.wait(secs(200));
    assert_eq!(
        gateway
            .nat()
            .mappings()
            .map(|one| one.sessions)
            .sum::<u32>(),
        1,
        "the first has expired"
    );
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.2:4000 > 198.51.100.1:53")
            .is_none(),
        "the port is still his"
    );
    gateway.wait(secs(200));
    assert_eq!(
        (
            gateway.nat().mappings().count(),
            gateway.nat().pool(PoolId(0)).expect("a pool").lent()
        ),
        (0, 0)
    );
    assert_eq!(
        gateway.source("udp 10.0.0.2:4000 > 198.51.100.1:53").port,
        1024
    );
}

#[test]
fn a_forward_lets_anybody_in_and_answers_leave_as_it() {
    let mut gateway = filtering(Filtering::AddressAndPortDependent);
    let forward = |gateway: &mut Gateway, inside: &str, outside: &str| {
        gateway.with(|nat| nat.forward(PoolId(0), &key(inside), end(outside)))
    };
    let inside = "tcp 10.0.0.5:80 > 0.0.0.0:0";
    assert_eq!(forward(&mut gateway, inside, "203.0.113.8:8080"), Ok(()));
    assert_eq!(
        forward(&mut gateway, inside, "203.0.113.8:8081"),
        Err(PoolError::Exhausted),
        "one for each inside end"
    );
    assert_eq!(
        forward(
            &mut gateway,
            "tcp 10.0.0.6:80 > 0.0.0.0:0",
            "203.0.113.8:8080"
        ),
        Err(PoolError::Exhausted)
    );
    let sent = gateway.wire(OUT, "tcp 198.51.100.1:9 > 203.0.113.8:8080");
    assert_eq!(plain(&sent), "tcp 198.51.100.1:9 > 10.0.0.5:80");
    let back = gateway.answer(&sent).expect("an answer");
    assert_eq!(plain(&back), "tcp 203.0.113.8:8080 > 198.51.100.1:9");
    let own = gateway.wire(IN, "tcp 10.0.0.5:80 > 198.51.100.7:9");
    assert_eq!(plain(&own), "tcp 203.0.113.8:8080 > 198.51.100.7:9");
    // Nobody else gets the port, and it stays without connections.
    for n in 0..50 {
        assert_ne!(
            gateway
                .source(&format!("tcp 10.0.0.9:8080 > 198.51.100.{n}:80"))
                .port,
            8080
        );
    }
    assert!(
        !gateway.with(|nat| nat.unforward(&key(inside))),
        "connections use it"
    );
    gateway.wait(secs(10_000));
    assert!(gateway.with(|nat| nat.unforward(&key(inside))));
    assert_eq!(
        gateway.source("tcp 10.0.0.9:8080 > 198.51.100.1:80").port,
        8080
    );
}

/// Both ends behind the translator: each sees the other's outside end, and a packet to itself arrives once.
#[test]
fn hairpin() {
    for how in [Filtering::EndpointIndependent, Filtering::AddressDependent] {
        for (a, b) in [
            ("udp 10.0.0.1:4000", "udp 10.0.0.2:5000"),
            ("tcp 10.0.0.1:4000", "tcp 10.0.0.2:5000"),
        ] {
            let mut gateway = filtering(how);
            let own_a = gateway.source(&format!("{a} > 198.51.100.1:53"));
            let own_b = gateway.source(&format!("{b} > 198.51.100.1:53"));
            if how == Filtering::AddressDependent {
                let refused =
                    gateway.try_send(IN, &format!("{a} > {}:{}", own_b.address, own_b.port));
                assert!(
                    refused.is_none(),
                    "the other has not sent to this address yet"
                );
                // So it does: this is refused by the first's filter in turn, or opens it for both.
                let _ = gateway.try_send(IN, &format!("{b} > {}:{}", own_a.address, own_a.port));
                continue;
            }
            let sent = gateway.wire(IN, &format!("{a} > {}:{}", own_b.address, own_b.port));
            assert_eq!(
                (sent.key.source(), sent.egress),
                (own_a, Some(IN)),
                "seen as its outside end"
            );
            assert_eq!(
                sent.key.destination(),
                key(&format!("{b} > 1.1.1.1:1")).source()
            );
            let back = gateway.answer(&sent).expect("an answer");
            assert_eq!((back.key.source(), back.egress), (own_b, Some(IN)));
            assert_eq!(
                back.key.destination(),
                key(&format!("{a} > 1.1.1.1:1")).source()
            );
        }
    }
    let mut gateway = filtering(Filtering::EndpointIndependent);
    let own = gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
    let sent = gateway.wire(
        IN,
        &format!("udp 10.0.0.1:4000 > {}:{}", own.address, own.port),
    );
    assert_eq!(
        (sent.key.source(), sent.key.destination()),
        (own, end("10.0.0.1:4000"))
    );
}

/// The tracker is full of connections that must not go: the packet is dropped, and the port is free for the next.
#[test]
fn a_full_tracker_costs_no_port() {
    let config = Config {
        capacity: 2,
        ..rfc()
    };
    let mut gateway = with(&config, POOL, &[pool(1024, 65_535)]);
    for n in 1..3 {
        let there = format!("tcp 10.0.0.{n}:4000 > 198.51.100.1:80");
        let sent = gateway.wire(IN, &there);
        gateway.answer(&sent).expect("an answer");
        gateway
            .try_tcp(IN, &key(&there), TcpFlags::ACK)
            .expect("the third of three");
    }
    let lent = |gateway: &Gateway| gateway.nat().pool(PoolId(0)).expect("a pool").lent();
    for n in 0..20 {
        let _ = gateway.try_send(IN, &format!("udp 10.0.0.9:{} > 198.51.100.1:53", 5000 + n));
        assert_eq!(lent(&gateway), gateway.nat().mappings().count());
        assert!(gateway.nat().tracker().len() <= 2);
    }
    gateway.wait(secs(10_000));
    assert_eq!((lent(&gateway), gateway.nat().connections()), (0, 0));
}

/// The outside end is there but the very tuple is another's: refused, counted, and nothing is kept of it.
#[test]
fn a_tuple_that_is_another_s_costs_no_port() {
    let rules = "ip saddr 10.0.0.7 oif 2 snat to 203.0.113.8:1024-1024\nip saddr 10.0.0.0/24 oif 2 snat to pool 0";
    let mut gateway = gateway(rules, &[pool(1024, 1024)]);
    assert_eq!(
        gateway.source("udp 10.0.0.7:9 > 198.51.100.1:53"),
        end("203.0.113.8:1024")
    );
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53")
            .is_none()
    );
    assert_eq!(gateway.nat().counters().unlent, 1);
    assert_eq!(
        (
            gateway.nat().mappings().count(),
            gateway.nat().pool(PoolId(0)).expect("a pool").lent()
        ),
        (0, 0)
    );
    assert_eq!(
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.2:53"),
        end("203.0.113.8:1024")
    );
}

/// A free port is passed over where the tuple that it would give is another connection's; with another peer it is as good as any.
#[test]
fn a_port_that_clashes_is_passed_over() {
    let rules = "ip saddr 10.0.0.7 oif 2 snat to 203.0.113.8:1024-1024\nip saddr 10.0.0.0/24 oif 2 snat to pool 0";
    let mut config = pool(1024, 1025);
    config.keep_port = true;
    let mut gateway = gateway(rules, &[config]);
    let clashing = gateway.source("udp 10.0.0.7:9 > 198.51.100.1:53");
    assert_eq!(clashing, end("203.0.113.8:1024"));
    let source = gateway.source("udp 10.0.0.1:1024 > 198.51.100.1:53");
    assert_eq!(source, end("203.0.113.8:1025"));
    let source = gateway.source("udp 10.0.0.2:1024 > 198.51.100.2:53");
    assert_eq!(source, end("203.0.113.8:1024"));
    assert_eq!(gateway.nat().counters().exhausted, 0);
}

/// A filter refuses the first packet behind the destination's change: nothing is kept.
#[test]
fn a_refused_first_packet_leaves_nothing() {
    let mut gateway = gateway(POOL, &[pool(1024, 65_535)]);
    let rules = gufc::hooks::filter::parse_rules("udp dport 53 drop", |_| None).expect("rules");
    gateway
        .edit(|(_, _, filter)| {
            let replaced = filter.replace(rules.clone(), gufc::hooks::filter::Policy::Accept);
            replaced
                .map(|(_, change)| change)
                .map_err(|why| why.to_string())
        })
        .expect("room");
    for _ in 0..3 {
        assert!(
            gateway
                .try_send(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53")
                .is_none()
        );
    }
    assert_eq!(
        (
            gateway.nat().tracker().len(),
            gateway.nat().connections(),
            gateway.nat().mappings().count()
        ),
        (0, 0, 0)
    );
}

/// A rule that names a pool of the other family is not for the packet; one that could only be is refused.
#[test]
fn a_pool_is_for_its_own_family() {
    let mut gateway = gateway(
        "oif 2 snat to pool 0\noif 2 snat to 2001:db8:f::8",
        &[pool(1024, 65_535)],
    );
    assert_eq!(
        gateway.source("udp [fd00::1]:4000 > [2001:db8:5::1]:53"),
        end("[2001:db8:f::8]:4000")
    );
    let rule: gufc::hooks::nat::Rule = "ip6 saddr fd00::/64 snat to pool 0"
        .parse()
        .expect("a rule");
    let refused = gateway.with(|nat| {
        nat.insert(gufc::hooks::nat::Place::Last, rule.clone())
            .is_err()
    });
    assert!(refused);
}

#[test]
fn a_pool_of_ipv6() {
    let config = PoolConfig {
        inside: vec!["fd00::/64".parse().expect("a prefix")],
        ..PoolConfig::new(vec![ip("2001:db8:f::8"), ip("203.0.113.8")])
    };
    let mut gateway = gateway("ip6 saddr fd00::/64 oif 2 snat to pool 0", &[config]);
    let own = gateway.source("udp [fd00::1]:4000 > [2001:db8:5::1]:53");
    assert_eq!(own, end("[2001:db8:f::8]:4000"));
    assert_eq!(
        gateway.source("udp [fd00::1]:4000 > [2001:db8:5::2]:53"),
        own
    );
    let sent = gateway.wire(OUT, "udp [2001:db8:5::9]:9 > [2001:db8:f::8]:4000");
    assert_eq!(plain(&sent), "udp [2001:db8:5::9]:9 > [fd00::1]:4000");
    let ping = gateway.wire(IN, "icmpv6 fd00::1 > 2001:db8:5::1 type 128 code 0 id 2000");
    assert_eq!(ping.key.source(), end("[2001:db8:f::8]:2000"));
}

/// Only a pool with a prefix joins the two families.
#[test]
fn a_forward_keeps_its_family() {
    let mut gateway = gateway("", &[pool(1024, 65_535)]);
    let inside = key("udp [fd00::1]:80 > [::]:0");
    let refused = gateway.with(|nat| nat.forward(PoolId(0), &inside, end("203.0.113.8:8080")));
    assert_eq!(refused, Err(PoolError::Outsider));
    assert_eq!(gateway.nat().mappings().count(), 0);
}
