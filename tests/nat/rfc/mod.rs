//! What five RFCs ask of a translator, a test for each requirement that is met; the manual's chapter on translation has the
//! rows, and is read here.

use std::collections::BTreeSet;

use gufc::hooks::conntrack::{TimeoutClass, Timeouts};
use gufc::hooks::filter::{Policy, parse_rules};
use gufc::hooks::nat::{Allocation, Filtering, PoolConfig, PoolError, PoolId};
use gufc::key::{FlowKey, Ports};
use gufc::packet::{Interface, Packet, TcpFlags};
use gufc::testing::nat::{Gateway, error, packet};
use gufc::verdict::{Answer, Verdict};
use gufc::wire::build::{Datagram, Transport};
use gufc::wire::{ANSWER_MAX, Arrival, Frame, Notice};

use super::world::{IN, OUT, POOL, Play, end, gateway, ip, key, plain, pool, secs};

fn wide() -> PoolConfig {
    pool(1024, 65_535)
}

fn mapped() -> Gateway {
    gateway(POOL, &[wide()])
}

/// Every packet of these leaves by the same end, whoever it goes to.
fn is_endpoint_independent(protocol: &str, type_and_id: &str) {
    let mut gateway = mapped();
    let mut seen = BTreeSet::new();
    for peer in 1..20 {
        let text = match protocol {
            "icmp" => format!("icmp 10.0.0.1 > 198.51.100.{peer} {type_and_id}"),
            _ => format!(
                "{protocol} 10.0.0.1:4000 > 198.51.100.{peer}:{}",
                50 + peer % 3
            ),
        };
        seen.insert(gateway.source(&text));
    }
    assert_eq!(seen.len(), 1);
}

mod rfc4787 {
    use super::*;

    #[test]
    fn req_1_mapping_is_endpoint_independent() {
        is_endpoint_independent("udp", "");
    }

    #[test]
    fn req_2_one_inside_host_keeps_one_address() {
        let addresses = (1..9).map(|n| ip(&format!("203.0.113.{n}"))).collect();
        let mut gateway = gateway(
            POOL,
            &[PoolConfig {
                addresses,
                ..wide()
            }],
        );
        let mut all = BTreeSet::new();
        for host in 1..9 {
            let of_host: BTreeSet<_> = (0..20)
                .map(|n| {
                    gateway
                        .source(&format!("udp 10.0.0.{host}:{} > 198.51.100.1:53", 4000 + n))
                        .address
                })
                .collect();
            assert_eq!(of_host.len(), 1);
            all.extend(of_host);
        }
        assert!(all.len() > 1);
    }

    #[test]
    fn req_3_no_two_inside_ends_share_an_outside_end() {
        let mut gateway = mapped();
        let ends: BTreeSet<_> = (1..60)
            .map(|host| gateway.source(&format!("udp 10.0.0.{host}:4000 > 198.51.100.{host}:53")))
            .collect();
        assert_eq!(ends.len(), 59, "though their peers differ");
    }

    #[test]
    fn req_4_parity_is_kept() {
        let mut gateway = mapped();
        for host in 1..60 {
            let port = 4000 + host % 2;
            let got = gateway.source(&format!("udp 10.0.0.{host}:{port} > 198.51.100.1:53"));
            assert_eq!(got.port % 2, port % 2);
        }
    }

    #[test]
    fn req_5_mappings_live_five_minutes() {
        assert!(Timeouts::RFC.seconds(TimeoutClass::Udp) >= 300);
        let mut gateway = mapped();
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
        gateway.wait(secs(299));
        let own = gateway.nat().mappings().next().map(|one| one.outside);
        assert_eq!(own, Some(end("203.0.113.8:4000")));
        assert!(
            gateway
                .try_send(OUT, "udp 198.51.100.1:53 > 203.0.113.8:4000")
                .is_some_and(|sent| sent.egress == Some(IN))
        );
    }

    #[test]
    fn req_5_lifetimes_are_the_owners() {
        let mut config = super::super::world::rfc();
        config.timeouts = vec![Timeouts::RFC.with(TimeoutClass::Udp, 20)];
        let mut gateway = super::super::world::with(&config, POOL, &[wide()]);
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
        gateway.wait(secs(21));
        assert_eq!(gateway.nat().mappings().count(), 0);
    }

    #[test]
    fn req_6_outbound_packets_refresh() {
        let mut gateway = mapped();
        for _ in 0..5 {
            gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
            gateway.wait(secs(200));
        }
        assert_eq!(gateway.nat().mappings().count(), 1);
    }

    #[test]
    fn req_8_filtering_is_chosen() {
        let own = PoolConfig::new(vec![ip("203.0.113.8")]);
        assert_eq!(own.filtering, Filtering::EndpointIndependent);
        super::super::mappings::whom_filtering_lets_in();
    }

    #[test]
    fn req_9_hairpin_shows_the_outside_end() {
        let mut gateway = mapped();
        let own = gateway.source("udp 10.0.0.2:5000 > 198.51.100.1:53");
        let sent = gateway.wire(
            IN,
            &format!("udp 10.0.0.1:4000 > {}:{}", own.address, own.port),
        );
        assert_eq!(plain(&sent), "udp 203.0.113.8:4000 > 10.0.0.2:5000");
        assert_eq!(sent.egress, Some(IN));
    }

    /// What a payload says of addresses stays as it is.
    #[test]
    fn req_10_payloads_are_left_alone() {
        let mut gateway = mapped();
        for text in [
            "tcp 10.0.0.1:4000 > 198.51.100.1:21",
            "udp 10.0.0.1:4000 > 198.51.100.1:5060",
        ] {
            let payload = b"PORT 10,0,0,1,15,160\r\n";
            let bytes = packet(&key(text), TcpFlags::SYN, payload);
            let sent = gateway.send(IN, &bytes).expect("equal").expect("passes");
            assert!(sent.bytes.ends_with(payload));
        }
    }

    /// Short of ports it refuses; it never falls back to another behaviour.
    #[test]
    fn req_11_behaviour_does_not_change_under_load() {
        let mut gateway = gateway(POOL, &[pool(1024, 1027)]);
        let ends: Vec<_> = (1..5)
            .map(|host| gateway.source(&format!("udp 10.0.0.{host}:4000 > 198.51.100.1:53")))
            .collect();
        assert!(
            gateway
                .try_send(IN, "udp 10.0.0.9:4000 > 198.51.100.77:53")
                .is_none()
        );
        for (host, own) in (1..5).zip(&ends) {
            assert_eq!(
                gateway.source(&format!("udp 10.0.0.{host}:4000 > 198.51.100.9:99")),
                *own
            );
        }
    }

    #[test]
    fn req_12_errors_end_no_mapping() {
        let mut gateway = mapped();
        let sent = gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
        for router in ["192.0.2.7", "198.51.100.1"] {
            assert!(
                gateway.complain(router, &sent).is_some(),
                "whoever sends it"
            );
        }
        assert_eq!(gateway.nat().mappings().count(), 1);
        assert!(
            gateway
                .answer(&sent)
                .is_some_and(|back| back.egress == Some(IN))
        );
    }

    /// The verdict's owner knows the link's size; the answer is built from the packet.
    #[test]
    fn req_13_too_big_is_answered() {
        let mut bytes = packet(
            &key("udp 10.0.0.1:4000 > 198.51.100.1:53"),
            TcpFlags::NONE,
            &[0; 1400],
        );
        let frame: Frame<'_> = Frame::ip(&mut bytes, &Arrival::default()).expect("a packet");
        let mut out = [0; ANSWER_MAX];
        let length = frame
            .answer(Notice::TooBig { mtu: 1280 }, ip("10.0.0.254"), &mut out)
            .expect("an answer");
        let answer: Frame<'_> =
            Frame::ip(&mut out[..length], &Arrival::default()).expect("a packet");
        assert_eq!((answer.transport()[0], answer.transport()[1]), (3, 4));
        assert_eq!(answer.key().destination().address, ip("10.0.0.1"));
    }
}

mod rfc5382 {
    use super::*;

    #[test]
    fn req_1_mapping_is_endpoint_independent() {
        is_endpoint_independent("tcp", "");
    }

    /// Both ends send a SYN, both answer, and data flows.
    #[test]
    fn req_2_simultaneous_open() {
        let mut gateway = mapped();
        let there = key("tcp 10.0.0.1:4000 > 198.51.100.1:80");
        let sent = gateway.try_tcp(IN, &there, TcpFlags::SYN).expect("passes");
        let back = sent
            .key
            .inverse()
            .expect("an answer")
            .at(Default::default());
        let both = TcpFlags::SYN.union(TcpFlags::ACK);
        for (side, flags) in [
            (OUT, TcpFlags::SYN),
            (IN, both),
            (OUT, both),
            (IN, TcpFlags::ACK),
            (OUT, TcpFlags::ACK),
        ] {
            let key = if side == IN { there } else { back };
            let got = gateway.try_tcp(side, &key, flags).expect("passes");
            assert_eq!(got.egress, Some(3 - side));
            assert_eq!(got.key.source().address == ip("203.0.113.8"), side == IN);
        }
        assert_eq!(gateway.nat().tracker().len(), 1);
    }

    #[test]
    fn req_3_filtering_is_chosen() {
        let config = PoolConfig {
            filtering: Filtering::AddressDependent,
            ..wide()
        };
        let mut gateway = gateway(POOL, &[config]);
        let own = gateway.source("tcp 10.0.0.1:4000 > 198.51.100.1:80");
        let to = format!("{}:{}", own.address, own.port);
        assert!(
            gateway
                .try_send(OUT, &format!("tcp 198.51.100.2:9 > {to}"))
                .is_none()
        );
        assert!(
            gateway
                .try_send(OUT, &format!("tcp 198.51.100.1:9 > {to}"))
                .is_some()
        );
    }

    #[test]
    fn req_5_idle_timeouts() {
        assert!(Timeouts::RFC.seconds(TimeoutClass::TcpEstablished) >= 7440);
        let transitory = [
            TimeoutClass::TcpSynSent,
            TimeoutClass::TcpSynRecv,
            TimeoutClass::TcpFinWait,
            TimeoutClass::TcpCloseWait,
            TimeoutClass::TcpLastAck,
            TimeoutClass::TcpTimeWait,
            TimeoutClass::TcpClose,
            TimeoutClass::TcpSynSent2,
        ];
        assert!(
            transitory
                .iter()
                .all(|class| Timeouts::RFC.seconds(*class) >= 240)
        );
    }

    #[test]
    fn req_7_no_two_inside_ends_share_an_outside_end() {
        let mut gateway = mapped();
        let ends: BTreeSet<_> = (1..60)
            .map(|host| gateway.source(&format!("tcp 10.0.0.{host}:4000 > 198.51.100.{host}:80")))
            .collect();
        assert_eq!(ends.len(), 59);
    }

    #[test]
    fn req_8_hairpin_shows_the_outside_end() {
        let mut gateway = mapped();
        let own = gateway.source("tcp 10.0.0.2:5000 > 198.51.100.1:80");
        let sent = gateway.wire(
            IN,
            &format!("tcp 10.0.0.1:4000 > {}:{}", own.address, own.port),
        );
        assert_eq!(plain(&sent), "tcp 203.0.113.8:4000 > 10.0.0.2:5000");
    }

    #[test]
    fn req_10_errors_end_no_connection() {
        let mut gateway = mapped();
        let sent = gateway.wire(IN, "tcp 10.0.0.1:4000 > 198.51.100.1:80");
        assert!(gateway.complain("198.51.100.1", &sent).is_some());
        assert_eq!(
            (
                gateway.nat().tracker().len(),
                gateway.nat().mappings().count()
            ),
            (1, 1)
        );
        assert!(
            gateway
                .answer(&sent)
                .is_some_and(|back| back.egress == Some(IN))
        );
    }
}

mod rfc5508 {
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
        let mut datagram =
            Datagram::new(ip("10.0.0.1"), ip("198.51.100.1"), Transport::udp(4000, 53));
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
}

mod rfc7857 {
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
}

mod rfc6888 {
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
        let passed = (0..9).filter_map(|n| {
            gateway.try_send(IN, &format!("udp 10.0.0.1:4000 > 198.51.100.{n}:53"))
        });
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
}

/// The chapter has a row for each requirement, and each test that a row names is one.
#[test]
fn the_manual_names_tests_that_exist() {
    let page = include_str!("../../src/manual/nat.md");
    let sources = [
        ("rfc", include_str!("rfc.rs")),
        ("kinds", include_str!("kinds.rs")),
        ("pools", include_str!("pools.rs")),
        ("mappings", include_str!("mappings.rs")),
        ("story", include_str!("story.rs")),
        ("nat64", include_str!("nat64.rs")),
        ("nat64_fragments", include_str!("nat64_fragments.rs")),
        ("wire::translating", include_str!("../wire/translating.rs")),
        (
            "conntrack::fragments",
            include_str!("../conntrack/fragments.rs"),
        ),
        ("conntrack::stacks", include_str!("../conntrack/stacks.rs")),
    ];
    let (mut named, mut rows) = (BTreeSet::new(), 0);
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let is_row =
            line.contains("| met |") || line.contains("| not ours |") || line.contains("| no |");
        rows += usize::from(is_row);
        let is_test = |word: &&str| {
            sources
                .iter()
                .any(|(own, _)| word.starts_with(&format!("{own}::")))
        };
        let tests: Vec<&str> = line.split('`').filter(is_test).collect();
        assert!(
            !line.contains("| met |") || !tests.is_empty(),
            "no test: {line}"
        );
        for test in tests {
            let (module, name) = test.rsplit_once("::").expect("a path");
            let top = module
                .split("::rfc")
                .next()
                .filter(|_| !module.starts_with("rfc"))
                .unwrap_or("rfc");
            let source = sources.iter().find(|(own, _)| *own == top);
            let (_, source) = source.unwrap_or_else(|| panic!("{test}: no such module"));
            assert!(
                source.contains(&format!("fn {name}(")),
                "{test} does not exist"
            );
            if let Some(inner) = module.strip_prefix("rfc::") {
                assert!(
                    source.contains(&format!("mod {inner} {{")),
                    "{test}: no such module"
                );
            }
            named.insert(test.to_string());
        }
    }
    assert!(rows >= 100, "{rows} rows");
    // And every requirement's test is named there.
    for line in include_str!("rfc.rs")
        .lines()
        .filter(|line| line.starts_with("    fn req_") || line.starts_with("    fn sec_"))
    {
        let name = line
            .trim_start_matches("    fn ")
            .split('(')
            .next()
            .expect("a name");
        assert!(
            named
                .iter()
                .any(|test| test.ends_with(&format!("::{name}"))),
            "{name} is in no row"
        );
    }
}
