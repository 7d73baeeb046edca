//! RFC 5508: ICMP.

use super::*;

const PING: &str = "icmp 10.0.0.1 > 198.51.100.1 type 8 code 0 id 2000";

#[test]
fn req_1_query_identifiers_are_endpoint_independent() {
    is_endpoint_independent("icmp", "type 8 code 0 id 2000");
    let mut gateway = mapped();
    let sent = gateway.wire(IN, PING);
    let back = gateway.answer(&sent).expect("an answer");
    assert_eq!(
        back.key.inverse().map(|key| key.at(Default::default())),
        Some(key(PING))
    );
}

#[test]
fn req_2_query_sessions_live_a_minute() {
    let mut gateway = mapped();
    let sent = gateway.wire(IN, PING);
    gateway.wait(secs(59));
    assert!(
        gateway
            .answer(&sent)
            .is_some_and(|back| back.egress == Some(IN))
    );
    gateway.wait(secs(61));
    assert_eq!(gateway.nat().tracker().len(), 0);
}

fn strict(gateway: &mut Gateway) {
    let rules = parse_rules("ct state invalid drop", |_| None).expect("rules");
    gateway
        .edit(|(_, _, filter)| {
            let replaced = filter.replace(rules.clone(), Policy::Accept);
            replaced
                .map(|(_, change)| change)
                .map_err(|why| why.to_string())
        })
        .expect("room");
}

/// An error about what was sent, its bytes changed by `spoil`, and its checksum made right again if `mend`.
fn spoiled(spoil: impl Fn(&mut Vec<u8>), mend: bool) -> bool {
    let mut gateway = mapped();
    strict(&mut gateway);
    let sent = gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    let mut bytes = error(ip("192.0.2.7"), sent.key.source().address, &sent.bytes);
    spoil(&mut bytes);
    if mend {
        bytes[22..24].copy_from_slice(&[0, 0]);
        let sum = gufc::wire::checksum::checksum(&bytes[20..]);
        bytes[22..24].copy_from_slice(&sum.to_be_bytes());
    }
    let got = gateway.send(OUT, &bytes).expect("equal");
    got.is_some_and(|got| {
        assert_eq!(
            got.key.destination().address,
            ip("10.0.0.1"),
            "translated, or not at all"
        );
        true
    })
}

#[test]
fn req_3_damaged_errors_are_dropped() {
    assert!(spoiled(|_| {}, false));
    assert!(
        !spoiled(|bytes| bytes[22] ^= 1, false),
        "the error's own checksum"
    );
}

#[test]
fn req_3_the_quoted_transport_checksum_does_not_count() {
    assert!(spoiled(|bytes| bytes[28 + 26] ^= 1, true));
}

#[test]
fn req_3_quoted_options_are_skipped() {
    let mut gateway = mapped();
    let mut datagram = Datagram::new(ip("10.0.0.1"), ip("198.51.100.1"), Transport::udp(4000, 53));
    datagram.options = vec![1, 1, 1, 1];
    let sent = gateway
        .send(IN, &datagram.emit().expect("a packet"))
        .expect("equal")
        .expect("passes");
    let error = gateway.complain("192.0.2.7", &sent).expect("passes");
    assert_eq!(
        error.quoted(),
        Some(key("udp 10.0.0.1:4000 > 198.51.100.1:53"))
    );
}

#[test]
fn req_4_errors_from_outside_keep_type_and_code() {
    let mut gateway = mapped();
    let sent = gateway.wire(IN, PING);
    for (kind, code) in [(3, 0), (3, 4), (3, 13), (11, 0), (12, 0)] {
        let datagram = Datagram::new(
            ip("192.0.2.7"),
            ip("203.0.113.8"),
            Transport::error(kind, code),
        );
        let bytes = datagram.with_payload(&sent.bytes).emit().expect("a packet");
        let got = gateway.send(OUT, &bytes).expect("equal").expect("passes");
        assert_eq!(got.bytes[20..22], [kind, code]);
        assert_eq!(
            (got.key.destination().address, got.quoted()),
            (ip("10.0.0.1"), Some(key(PING)))
        );
    }
}

#[test]
fn req_4_errors_about_nothing_known_are_invalid() {
    let mut gateway = mapped();
    strict(&mut gateway);
    let stray = packet(
        &key("udp 203.0.113.8:4000 > 198.51.100.1:53"),
        TcpFlags::NONE,
        b"",
    );
    let bytes = error(ip("192.0.2.7"), ip("203.0.113.8"), &stray);
    assert_eq!(gateway.send(OUT, &bytes), Ok(None));
}

#[test]
fn req_5_errors_from_inside_show_the_outside_end() {
    let mut gateway = mapped();
    let own = gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
    let sent = gateway.wire(
        OUT,
        &format!("udp 198.51.100.1:53 > {}:{}", own.address, own.port),
    );
    let error = gateway.complain("10.0.0.1", &sent).expect("passes");
    assert_eq!(error.key.source().address, own.address);
    assert_eq!(
        error.quoted(),
        Some(key("udp 198.51.100.1:53 > 203.0.113.8:4000"))
    );
}

#[test]
fn req_6_errors_do_not_refresh_a_query() {
    let mut gateway = mapped();
    let sent = gateway.wire(IN, PING);
    gateway.wait(secs(40));
    assert!(gateway.complain("192.0.2.7", &sent).is_some());
    assert_eq!(gateway.nat().tracker().len(), 1, "nor end it");
    gateway.wait(secs(40));
    assert_eq!(gateway.nat().tracker().len(), 0);
}

/// Both ends are inside; the error about a packet that was turned back is turned back as well.
#[test]
fn req_7_errors_are_turned_back_too() {
    let mut gateway = mapped();
    let own = gateway.source("udp 10.0.0.2:5000 > 198.51.100.1:53");
    let there = format!("udp 10.0.0.1:4000 > {}:{}", own.address, own.port);
    let sent = gateway.wire(IN, &there);
    let error = gateway.complain("10.0.0.2", &sent).expect("passes");
    assert_eq!(error.quoted(), Some(key(&there)));
    assert_eq!(error.key.destination().address, ip("10.0.0.1"));
    assert_eq!(error.key.source().address, own.address);
}

/// What the sender of a packet that was refused is told: type and code, and the packet as he sent it.
fn told(gateway: &mut Gateway, text: &str) -> Option<(u8, u8)> {
    assert!(gateway.try_send(IN, text).is_none(), "{text}");
    let Verdict::Reject(answer) = gateway.verdict else {
        assert_eq!(gateway.verdict, Verdict::Drop);
        return None;
    };
    let mut came = packet(&key(text), TcpFlags::SYN, b"payload");
    let came: Frame<'_> = Frame::ip(&mut came, &Arrival::default()).expect("a packet");
    let own = match key(text).source().address.is_ipv4() {
        true => ip("10.0.0.254"),
        false => ip("fd00::fe"),
    };
    let mut out = [0; ANSWER_MAX];
    let length = came.answer(answer.into(), own, &mut out).expect("answered");
    let sent: Frame<'_> = Frame::ip(&mut out[..length], &Arrival::default()).expect("a packet");
    assert!(sent.is_intact());
    assert_eq!(sent.quoted(), Some(key(text)));
    assert_eq!(sent.key().destination().address, key(text).source().address);
    Some((sent.transport()[0], sent.transport()[1]))
}

/// By a pool, whatever it has nothing left of; of both families.
#[test]
fn req_8_who_gets_no_port_is_told() {
    let prohibited = |config| PoolConfig {
        answer: Some(Answer::AdminProhibited),
        ..config
    };
    let v6 = PoolConfig {
        addresses: vec![ip("2001:db8:f::8")],
        inside: vec!["fd00::/64".parse().expect("a prefix")],
        ..pool(1024, 1024)
    };
    let rate = PoolConfig {
        rate: Some(1),
        ..wide()
    };
    let quota = PoolConfig {
        quota: Some(1),
        ..wide()
    };
    for (config, code) in [
        (pool(1024, 1024), (3, 13)),
        (quota, (3, 13)),
        (rate, (3, 13)),
        (v6, (1, 1)),
    ] {
        let is_v4 = code.0 == 3;
        let rules = "oif 2 snat to pool 0";
        let mut gateway = gateway(rules, &[prohibited(config)]);
        let texts = ["tcp", "udp", "icmp"].map(|protocol| {
            let at = |port| match (is_v4, protocol) {
                (true, "icmp") => {
                    format!("icmp 10.0.0.1 > 198.51.100.1 type 8 code 0 id {port}")
                }
                (false, "icmp") => {
                    format!("icmpv6 fd00::1 > 2001:db8:5::1 type 128 code 0 id {port}")
                }
                (true, _) => format!("{protocol} 10.0.0.1:{port} > 198.51.100.1:80"),
                (false, _) => format!("{protocol} [fd00::1]:{port} > [2001:db8:5::1]:80"),
            };
            [at(2000), at(2002)]
        });
        for [first, _] in &texts {
            // One of a quota or a rate is of all protocols together.
            let _ = gateway.try_send(IN, first);
        }
        for [_, second] in &texts {
            assert_eq!(told(&mut gateway, second), Some(code));
            assert_eq!(told(&mut gateway, second), Some(code), "each time");
        }
    }
}

/// Without a pool the owner says so; else it is silent, as in Linux.
#[test]
fn req_8_a_range_answers_if_it_is_to() {
    let mut gateway = gateway("oif 2 snat to 203.0.113.4:2000-2000", &[]);
    let second = "udp 10.0.0.2:4000 > 198.51.100.1:53";
    gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    assert_eq!(told(&mut gateway, second), None);
    gateway.with(|nat| nat.set_answer(Some(Answer::AdminProhibited)));
    assert_eq!(told(&mut gateway, second), Some((3, 13)));
    assert_eq!(gateway.nat().counters().exhausted, 2);
}

/// Nor does an interface that has no address to masquerade by.
#[test]
fn req_8_an_interface_without_address_answers_if_it_is_to() {
    let mut gateway = gateway("oif 2 masquerade", &[]);
    gateway.with(|nat| nat.set_addresses(Interface(2), &[]));
    let text = "udp 10.0.0.2:4000 > 198.51.100.1:53";
    assert_eq!(told(&mut gateway, text), None);
    gateway.with(|nat| nat.set_answer(Some(Answer::HostUnreachable)));
    assert_eq!(told(&mut gateway, text), Some((3, 1)));
    assert_eq!(gateway.nat().counters().no_address, 2);
}

/// Nobody outside is told what is open and what is not.
#[test]
fn req_8_filtering_stays_silent() {
    let config = PoolConfig {
        filtering: Filtering::AddressAndPortDependent,
        ..wide()
    };
    let mut gateway = gateway(POOL, &[config]);
    gateway.with(|nat| nat.set_answer(Some(Answer::AdminProhibited)));
    let own = gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
    let stranger = format!("udp 198.51.100.9:9 > {}:{}", own.address, own.port);
    assert!(gateway.try_send(OUT, &stranger).is_none());
    assert_eq!(gateway.verdict, Verdict::Drop);
}

/// Whatever is said where there is no pool.
#[test]
fn req_9_a_pool_can_be_silent() {
    let silent = PoolConfig {
        answer: None,
        ..pool(1024, 1024)
    };
    let mut gateway = gateway(POOL, &[silent]);
    gateway.with(|nat| nat.set_answer(Some(Answer::AdminProhibited)));
    gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    let second = "udp 10.0.0.2:4000 > 198.51.100.1:53";
    assert_eq!(told(&mut gateway, second), None);
    assert_eq!(gateway.nat().counters().unlent, 1);
}

#[test]
fn req_8_a_full_tracker_answers_if_it_is_to() {
    for (capacity, per_source_max) in [(1, None), (4096, Some(1))] {
        for (answer, wanted) in [
            (None, None),
            (Some(Answer::AdminProhibited), Some((3, 13))),
            (Some(Answer::HostUnreachable), Some((3, 1))),
        ] {
            let config = Config {
                capacity,
                per_source_max,
                answer,
                ..super::super::world::rfc()
            };
            let mut gateway = with(&config, POOL, &[wide()]);
            let there = key("tcp 10.0.0.1:4000 > 198.51.100.1:80");
            let sent = gateway.wire(IN, &there.to_string());
            gateway.answer(&sent).expect("an answer");
            // An established connection gives way to nobody.
            gateway.try_tcp(IN, &there, TcpFlags::ACK).expect("passes");
            for n in 1..4 {
                let second = format!("udp 10.0.0.1:{} > 198.51.100.1:53", 5000 + n);
                assert_eq!(told(&mut gateway, &second), wanted);
            }
            assert_eq!(gateway.nat().tracker().len(), 1);
        }
    }
}
