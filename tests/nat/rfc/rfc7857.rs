//! RFC 7857: updates of the three.

use super::*;

#[test]
fn sec_2_2_partial_open_and_closing_have_lifetimes_of_their_own() {
    let own = Timeouts::RFC
        .with(TimeoutClass::TcpSynSent, 111)
        .with(TimeoutClass::TcpFinWait, 222);
    assert_eq!(own.seconds(TimeoutClass::TcpSynSent), 111);
    assert_eq!(own.seconds(TimeoutClass::TcpFinWait), 222);
    assert_eq!(
        [TimeoutClass::TcpSynSent, TimeoutClass::TcpFinWait]
            .map(|class| Timeouts::RFC.seconds(class)),
        [240; 2]
    );
}

#[test]
fn sec_2_3_a_reset_leaves_the_session_for_four_minutes() {
    let mut gateway = mapped();
    let there = key("tcp 10.0.0.1:4000 > 198.51.100.1:80");
    let sent = gateway.wire(IN, &there.to_string());
    gateway.answer(&sent).expect("an answer");
    let reset = gateway
        .try_tcp(IN, &there, TcpFlags::RST.union(TcpFlags::ACK))
        .expect("translated");
    assert_eq!(reset.key.source().address, ip("203.0.113.8"));
    gateway.wait(secs(239));
    assert_eq!(gateway.nat().mappings().count(), 1);
    gateway.wait(secs(2));
    assert_eq!(gateway.nat().mappings().count(), 0);
}

/// Without a pool, one outside end serves many peers at once: tuples differ, and answers find home.
#[test]
fn sec_3_one_outside_end_for_several_inside_ends() {
    let mut gateway = gateway("oif 2 snat to 203.0.113.4:2000-2000", &[]);
    let mut sent = Vec::new();
    for host in 1..20 {
        let one = gateway.wire(
            IN,
            &format!("udp 10.0.0.{host}:4000 > 198.51.100.{host}:53"),
        );
        assert_eq!(one.key.source(), end("203.0.113.4:2000"));
        sent.push((host, one));
    }
    for (host, one) in sent {
        let back = gateway.answer(&one).expect("an answer");
        assert_eq!(
            back.key.destination().address,
            ip(&format!("10.0.0.{host}"))
        );
    }
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.99:4000 > 198.51.100.1:53")
            .is_none(),
        "but not the same peer twice"
    );
    assert_eq!(gateway.nat().counters().exhausted, 1);
}

#[test]
fn sec_4_a_shortage_refuses_rather_than_moves() {
    let addresses = vec![ip("203.0.113.8"), ip("203.0.113.9")];
    let mut gateway = gateway(
        POOL,
        &[PoolConfig {
            addresses,
            ..pool(1024, 1031)
        }],
    );
    let own = gateway
        .source("udp 10.0.0.1:4000 > 198.51.100.1:53")
        .address;
    let sources: Vec<_> = (1..20)
        .map(|n| gateway.try_send(IN, &format!("udp 10.0.0.1:{} > 198.51.100.1:53", 4000 + n)))
        .collect();
    assert!(
        sources
            .iter()
            .flatten()
            .all(|sent| sent.key.source().address == own)
    );
    assert_eq!(sources.iter().flatten().count(), 7);
    assert_eq!(gateway.nat().counters().unlent, 12);
}

#[test]
fn sec_5_behaviour_is_chosen_for_each_protocol() {
    let other = PoolConfig {
        addresses: vec![ip("203.0.113.9")],
        filtering: Filtering::AddressAndPortDependent,
        ..wide()
    };
    let rules = "ip saddr 10.0.0.0/24 oif 2 meta l4proto udp snat to pool 0\nip saddr 10.0.0.0/24 oif 2 snat to pool 1";
    let rules = if gufc::hooks::nat::parse_rules(rules, |_| None).is_ok() {
        rules.to_string()
    } else {
        "udp dport 0-65535 ip saddr 10.0.0.0/24 oif 2 snat to pool 0\nip saddr 10.0.0.0/24 oif 2 snat to pool 1".to_string()
    };
    let mut gateway = gateway(&rules, &[wide(), other]);
    let udp = gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
    let tcp = gateway.source("tcp 10.0.0.1:4000 > 198.51.100.1:80");
    assert_eq!(
        (udp, tcp),
        (end("203.0.113.8:4000"), end("203.0.113.9:4000"))
    );
    assert!(
        gateway
            .try_send(OUT, "udp 198.51.100.9:9 > 203.0.113.8:4000")
            .is_some()
    );
    assert!(
        gateway
            .try_send(OUT, "tcp 198.51.100.9:9 > 203.0.113.9:4000")
            .is_none()
    );
}

#[test]
fn sec_7_parity_can_be_off() {
    let config = PoolConfig {
        keep_parity: false,
        keep_port: false,
        ..wide()
    };
    let mut gateway = gateway(POOL, &[config]);
    let odd = (1..60).filter(|host| {
        gateway
            .source(&format!("udp 10.0.0.{host}:4000 > 198.51.100.1:53"))
            .port
            % 2
            == 1
    });
    assert!((10..50).contains(&odd.count()));
}

#[test]
fn sec_8_ports_are_drawn() {
    let mut gateway = gateway(
        POOL,
        &[PoolConfig {
            keep_port: false,
            ..wide()
        }],
    );
    let ports: Vec<u16> = (0..60)
        .map(|n| {
            gateway
                .source(&format!("udp 10.0.0.1:{} > 198.51.100.1:53", 4000 + n))
                .port
        })
        .collect();
    let steps: BTreeSet<u16> = ports
        .windows(2)
        .map(|two| two[1].wrapping_sub(two[0]))
        .collect();
    assert!(steps.len() > 50, "no rule tells the next port");
}

#[test]
fn sec_10_a_query_mapping_goes_with_its_last_session() {
    let mut gateway = mapped();
    gateway.wire(IN, "icmp 10.0.0.1 > 198.51.100.1 type 8 code 0 id 2000");
    gateway.wait(secs(61));
    assert_eq!(gateway.nat().mappings().count(), 0);
}
