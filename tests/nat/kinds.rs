//! The kinds of translation, one fact a test: what leaves, and that what comes back arrives as it was asked for.

use gufc::hook::{Context, HookSet};
use gufc::hooks::nat::Clamp;
use gufc::interest::Scratch;
use gufc::key::{Endpoint, FlowKey, Tuple};
use gufc::packet::{Interface, Origin, Packet, TcpFlags};
use gufc::pipeline::Walk;
use gufc::testing::nat::{packet, surroundings};
use gufc::verdict::{Egress, Path};
use gufc::wire::build::{Datagram, Tcp, Transport};
use gufc::wire::{Arrival, Frame, Limits, Reassembler, Reassembly};

use super::world::{IN, OUT, Play, end, gateway, ip, key, plain, rfc, with};

/// There and back, and there again from the cache: what arrives back is the answer to what was sent, to the byte.
fn round(rules: &str, there: &str, wire: &str) {
    let mut gateway = gateway(rules, &[]);
    let sent = gateway.wire(IN, there);
    assert_eq!(plain(&sent), wire);
    let back = gateway.answer(&sent).expect("an answer");
    let answer = key(there).inverse().expect("an answer");
    assert_eq!(plain(&back), answer.to_string());
    let flags = TcpFlags::SYN.union(TcpFlags::ACK);
    assert_eq!(
        back.bytes,
        packet(&answer, flags, b"answer"),
        "the bytes of an answer that nobody translated"
    );
    if key(there).protocol() == gufc::key::Protocol::UDP {
        let again = gateway.wire(IN, there);
        assert!(again.path.is_cached(), "{:?}", again.path);
        assert_eq!(again.bytes, sent.bytes);
    }
}

#[test]
fn masquerade() {
    round(
        "oif 2 masquerade",
        "udp 10.0.0.1:4000 > 198.51.100.1:53",
        "udp 203.0.113.1:4000 > 198.51.100.1:53",
    );
    round(
        "oif 2 masquerade",
        "tcp 10.0.0.1:4000 > 198.51.100.1:80",
        "tcp 203.0.113.1:4000 > 198.51.100.1:80",
    );
    round(
        "oif 2 masquerade",
        "icmp 10.0.0.1 > 198.51.100.1 type 8 code 0 id 7",
        "icmp 203.0.113.1 > 198.51.100.1 id 7 type 8 code 0",
    );
    round(
        "oif 2 masquerade",
        "udp [fd00::1]:4000 > [2001:db8:5::1]:53",
        "udp [2001:db8:f::1]:4000 > [2001:db8:5::1]:53",
    );
    round(
        "oif 2 masquerade",
        "icmpv6 fd00::1 > 2001:db8:5::1 type 128 code 0 id 7",
        "icmpv6 2001:db8:f::1 > 2001:db8:5::1 id 7 type 128 code 0",
    );
    round(
        "oif 2 masquerade to :2000-2000",
        "udp 10.0.0.1:4000 > 198.51.100.1:53",
        "udp 203.0.113.1:2000 > 198.51.100.1:53",
    );
}

#[test]
fn source_to_an_address_or_a_range() {
    round(
        "oif 2 snat to 203.0.113.4",
        "tcp 10.0.0.1:4000 > 198.51.100.1:80",
        "tcp 203.0.113.4:4000 > 198.51.100.1:80",
    );
    round(
        "oif 2 snat to 203.0.113.4:99-99",
        "udp 10.0.0.1:4000 > 198.51.100.1:80",
        "udp 203.0.113.4:99 > 198.51.100.1:80",
    );
    round(
        "oif 2 snat to 2001:db8:f::8",
        "tcp [fd00::1]:4000 > [2001:db8:5::1]:80",
        "tcp [2001:db8:f::8]:4000 > [2001:db8:5::1]:80",
    );
    let mut gateway = gateway("oif 2 snat to 203.0.113.4-203.0.113.5", &[]);
    let mut seen = std::collections::BTreeSet::new();
    for host in 3..40 {
        seen.insert(
            gateway
                .source(&format!(
                    "udp 10.0.0.{host}:{} > 198.51.100.1:53",
                    5000 + host
                ))
                .address,
        );
    }
    assert_eq!(seen.len(), 2, "both addresses are used");
}

#[test]
fn persistent_keeps_a_client_at_one_address() {
    let mut gateway = gateway("oif 2 snat to 203.0.113.4-203.0.113.9 persistent", &[]);
    let first = gateway
        .source("udp 10.0.0.1:4000 > 198.51.100.1:53")
        .address;
    for peer in 2..30 {
        let text = format!("udp 10.0.0.1:{} > 198.51.100.{peer}:53", 4000 + peer);
        assert_eq!(gateway.source(&text).address, first);
    }
}

#[test]
fn random_draws_the_port() {
    let mut gateway = gateway("oif 2 snat to 203.0.113.4 random", &[]);
    let kept = (0..20).filter(|n| {
        let port = 4000 + n;
        gateway
            .source(&format!("udp 10.0.0.1:{port} > 198.51.100.1:53"))
            .port
            == port
    });
    assert!(kept.count() <= 1);
}

#[test]
fn destination_to_an_address_and_a_port() {
    let rules = "iif 2 ip daddr 203.0.113.1 tcp dport 8080 dnat to 10.0.0.5:80\niif 2 ip6 daddr 2001:db8:f::1 tcp dport 8080 dnat to [fd00::5]:80";
    let mut gateway = gateway(rules, &[]);
    for (there, inside, answer) in [
        (
            "tcp 198.51.100.1:9 > 203.0.113.1:8080",
            "tcp 198.51.100.1:9 > 10.0.0.5:80",
            "tcp 203.0.113.1:8080 > 198.51.100.1:9",
        ),
        (
            "tcp [2001:db8:5::1]:9 > [2001:db8:f::1]:8080",
            "tcp [2001:db8:5::1]:9 > [fd00::5]:80",
            "tcp [2001:db8:f::1]:8080 > [2001:db8:5::1]:9",
        ),
    ] {
        let sent = gateway.wire(OUT, there);
        assert_eq!((plain(&sent).as_str(), sent.egress), (inside, Some(IN)));
        let back = gateway.answer(&sent).expect("an answer");
        assert_eq!((plain(&back).as_str(), back.egress), (answer, Some(OUT)));
    }
}

#[test]
fn redirect_to_this_machine() {
    let mut gateway = gateway("iif 1 udp dport 53 redirect to :5353", &[]);
    let sent = gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    assert_eq!(
        (plain(&sent).as_str(), sent.egress),
        ("udp 10.0.0.1:4000 > 10.0.0.254:5353", None)
    );
    let sent = gateway.wire(IN, "udp [fd00::1]:4000 > [2001:db8:5::1]:53");
    assert_eq!(
        (plain(&sent).as_str(), sent.egress),
        ("udp [fd00::1]:4000 > [fd00::fe]:5353", None)
    );
}

#[test]
fn netmap_keeps_the_host() {
    round(
        "oif 2 snat prefix to 192.0.2.0/24",
        "udp 10.0.0.77:4000 > 198.51.100.1:53",
        "udp 192.0.2.77:4000 > 198.51.100.1:53",
    );
    round(
        "oif 2 snat prefix to 2001:db8:aa::/64",
        "udp [fd00::77]:4000 > [2001:db8:5::1]:53",
        "udp [2001:db8:aa::77]:4000 > [2001:db8:5::1]:53",
    );
    let mut gateway = gateway(
        "iif 2 ip daddr 192.0.2.0/24 dnat prefix to 10.0.0.0/24",
        &[],
    );
    let sent = gateway.wire(OUT, "udp 198.51.100.1:9 > 192.0.2.77:53");
    assert_eq!(
        (plain(&sent).as_str(), sent.egress),
        ("udp 198.51.100.1:9 > 10.0.0.77:53", Some(IN))
    );
}

#[test]
fn shifted_ports_keep_their_distance() {
    let mut gateway = gateway(
        "iif 2 udp dport 5000-5009 dnat to 10.0.0.5:7000-7009 shift 5000",
        &[],
    );
    let sent = gateway.wire(OUT, "udp 198.51.100.1:9 > 203.0.113.1:5003");
    assert_eq!(plain(&sent), "udp 198.51.100.1:9 > 10.0.0.5:7003");
}

#[test]
fn twice_both_ends() {
    let rules = "iif 1 ip daddr 203.0.113.1 udp dport 80 dnat to 10.0.0.5:80\noif 1 ip saddr 10.0.0.0/24 masquerade";
    round(
        rules,
        "udp 10.0.0.1:4000 > 203.0.113.1:80",
        "udp 10.0.0.254:4000 > 10.0.0.5:80",
    );
}

#[test]
fn nothing_matches_and_nothing_clashes_nothing_changes() {
    round(
        "",
        "udp 10.0.0.1:4000 > 198.51.100.1:53",
        "udp 10.0.0.1:4000 > 198.51.100.1:53",
    );
    round(
        "ip saddr 10.0.0.1 no snat\noif 2 masquerade",
        "udp 10.0.0.1:4000 > 198.51.100.1:53",
        "udp 10.0.0.1:4000 > 198.51.100.1:53",
    );
}

/// A null binding: what no rule is for still changes its port rather than take another's answers.
#[test]
fn null_binding_gives_way_to_a_clash() {
    let mut gateway = gateway("ip saddr 10.0.0.1 oif 2 snat to 10.0.0.2", &[]);
    assert_eq!(
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53"),
        end("10.0.0.2:4000")
    );
    let own = gateway.source("udp 10.0.0.2:4000 > 198.51.100.1:53");
    assert_eq!(own.address, ip("10.0.0.2"));
    assert!(
        own.port >= 1024 && own.port != 4000,
        "another port of the same class"
    );
    assert_eq!(gateway.nat().counters().unclashed, 1);
}

#[test]
fn ports_are_kept_where_free_and_stay_in_their_class() {
    let mut gateway = gateway("oif 2 masquerade", &[]);
    for (port, class) in [
        (400u16, 1..=511u16),
        (700, 600..=1023),
        (4000, 1024..=65_535),
    ] {
        let first = gateway.source(&format!("udp 10.0.0.1:{port} > 198.51.100.1:53"));
        assert_eq!(first.port, port);
        let second = gateway.source(&format!("udp 10.0.0.2:{port} > 198.51.100.1:53"));
        assert!(
            second.port != port && class.contains(&second.port),
            "{second:?}"
        );
    }
}

#[test]
fn a_client_end_keeps_its_outside_end_where_it_can() {
    let mut gateway = gateway("oif 2 masquerade random", &[]);
    let mut kept = with(
        &rfc(),
        "oif 2 snat to 203.0.113.4-203.0.113.5:2000-2999",
        &[],
    );
    let first = kept.source("udp 10.0.0.1:4000 > 198.51.100.1:53");
    for peer in 2..10 {
        assert_eq!(
            kept.source(&format!("udp 10.0.0.1:4000 > 198.51.100.{peer}:53")),
            first
        );
    }
    let ports: std::collections::BTreeSet<u16> = (1..10)
        .map(|peer| {
            gateway
                .source(&format!("udp 10.0.0.1:4000 > 198.51.100.{peer}:53"))
                .port
        })
        .collect();
    assert!(ports.len() > 1, "unless it is told to draw");
}

/// The masqueraded address is gone: what was under way ends, and begins anew with the new one.
#[test]
fn masquerade_follows_the_address_after_a_flush() {
    let mut gateway = gateway("oif 2 masquerade", &[]);
    let sent = gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    let ended = gateway.with(|nat| {
        nat.set_addresses(Interface(2), &[ip("203.0.113.77")]);
        nat.flush(Interface(2))
    });
    assert_eq!(ended, 1);
    gateway.surroundings.addresses[1].1 = vec![ip("203.0.113.77")];
    assert_eq!(
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53"),
        end("203.0.113.77:4000")
    );
    let late = gateway.answer(&sent);
    assert!(
        late.is_none_or(|late| late.egress == Some(OUT)),
        "an answer to the old address goes to nobody inside"
    );
}

#[test]
fn an_interface_without_an_address_drops_and_counts() {
    let mut around = surroundings();
    around.addresses[1].1.retain(|address| address.is_ipv6());
    let mut gateway = gufc::testing::nat::Gateway::new(&rfc(), around, 64, &[], "oif 2 masquerade")
        .expect("a gateway");
    assert!(
        gateway
            .try_send(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53")
            .is_none()
    );
    assert_eq!(gateway.nat().counters().no_address, 1);
    assert_eq!(gateway.nat().tracker().len(), 0);
}

/// RFC 768: no checksum stays no checksum, and one that comes to zero is sent as ones.
#[test]
fn udp_without_a_checksum_stays_so() {
    let mut gateway = gateway("oif 2 masquerade", &[]);
    let transport = Transport::Udp {
        source: 4000,
        destination: 53,
        checksum: false,
    };
    let datagram =
        Datagram::new(ip("10.0.0.1"), ip("198.51.100.1"), transport).with_payload(b"abc");
    for _ in 0..2 {
        let sent = gateway
            .send(IN, &datagram.emit().expect("a packet"))
            .expect("equal")
            .expect("passes");
        assert_eq!(sent.bytes[26..28], [0, 0]);
        assert_eq!(sent.key.source().address, ip("203.0.113.1"));
    }
    // Every payload once: one of them makes the sum come to zero.
    let mut ones = 0;
    for n in 0..=u16::MAX {
        let bytes = packet(
            &key("udp 10.0.0.1:4000 > 198.51.100.1:53"),
            TcpFlags::NONE,
            &n.to_be_bytes(),
        );
        let mut frame = bytes.clone();
        let mut frame: Frame<'_> =
            Frame::ip(&mut frame, &Arrival::on(Interface(IN))).expect("a packet");
        let outcome = gateway.cache.process(&mut frame, gateway.now);
        assert!(outcome.verdict.is_accept() && frame.is_intact());
        assert_ne!(
            frame.packet()[26..28],
            [0, 0],
            "never zero, which would mean none"
        );
        ones += u32::from(frame.packet()[26..28] == [0xff, 0xff]);
    }
    assert_eq!(ones, 1);
}

/// Fragments in order and out of order: put together before translation, cut again behind it.
#[test]
fn fragments_are_translated_as_the_datagram_that_they_are() {
    for v6 in [false, true] {
        let (from, to, own) = if v6 {
            ("fd00::1", "2001:db8:5::1", "2001:db8:f::1")
        } else {
            ("10.0.0.1", "198.51.100.1", "203.0.113.1")
        };
        let payload: Vec<u8> = (0..4000u32).map(|n| n as u8).collect();
        let datagram =
            Datagram::new(ip(from), ip(to), Transport::udp(4000, 53)).with_payload(&payload);
        let pieces = datagram.fragments(1280).expect("pieces");
        assert!(pieces.len() > 2);
        for backwards in [false, true] {
            let mut gateway = gateway("oif 2 masquerade", &[]);
            let mut reassembler = Reassembler::new(Limits::default());
            let mut pieces = pieces.clone();
            if backwards {
                pieces.reverse();
            }
            let mut whole = None;
            for piece in &mut pieces {
                let frame: Frame<'_> =
                    Frame::ip(piece, &Arrival::on(Interface(IN))).expect("a piece");
                if let Reassembly::Complete(bytes) = reassembler.push(&frame, gateway.now) {
                    whole = Some(bytes.to_vec());
                }
            }
            let sent = gateway
                .send(IN, &whole.expect("whole"))
                .expect("equal")
                .expect("passes");
            assert_eq!(sent.key.source(), Endpoint::new(ip(own), 4000));
            assert_eq!(sent.bytes[sent.bytes.len() - 4000..], payload);
        }
    }
}

/// Without reassembly a fragment has no connection: it is not translated, and a filter can tell.
#[test]
fn a_lone_fragment_is_invalid_and_not_translated() {
    let mut gateway = gateway("oif 2 masquerade", &[]);
    let datagram = Datagram::new(ip("10.0.0.1"), ip("198.51.100.1"), Transport::udp(4000, 53));
    let pieces = datagram
        .with_payload(&[7; 3000])
        .fragments(1280)
        .expect("pieces");
    for piece in &pieces {
        let sent = gateway.send(IN, piece).expect("equal").expect("passes");
        assert_eq!(sent.key.source().address, ip("10.0.0.1"));
    }
    assert_eq!(gateway.nat().tracker().len(), 0);
}

#[test]
fn errors_come_home_with_the_packet_that_they_are_about() {
    for (there, router) in [
        ("udp 10.0.0.1:4000 > 198.51.100.1:53", "192.0.2.7"),
        ("tcp 10.0.0.1:4000 > 198.51.100.1:80", "192.0.2.7"),
        (
            "icmp 10.0.0.1 > 198.51.100.1 type 8 code 0 id 7",
            "192.0.2.7",
        ),
        ("udp [fd00::1]:4000 > [2001:db8:5::1]:53", "2001:db8::7"),
        ("tcp [fd00::1]:4000 > [2001:db8:5::1]:80", "2001:db8::7"),
        (
            "icmpv6 fd00::1 > 2001:db8:5::1 type 128 code 0 id 7",
            "2001:db8::7",
        ),
    ] {
        let mut gateway = gateway("oif 2 masquerade to :2000-2003", &[]);
        let sent = gateway.wire(IN, there);
        let error = gateway.complain(router, &sent).expect("it passes");
        assert_eq!(error.quoted(), Some(key(there)), "quoting what was sent");
        assert_eq!(error.key.destination().address, key(there).source().address);
        assert_eq!(
            (error.key.source().address, error.egress),
            (ip(router), Some(IN))
        );
        let mut bytes = error.bytes.clone();
        let frame: Frame<'_> = Frame::ip(&mut bytes, &Arrival::default()).expect("a packet");
        assert!(frame.is_intact());
        // The packet within is the one that was sent, its checksums too.
        let within = frame.transport()[8..].to_vec();
        let original = packet(&key(there), TcpFlags::SYN, b"payload");
        assert_eq!(within, original);
    }
}

/// The inside end refuses what came by a forward: the error leaves as if the outside end had sent it.
#[test]
fn errors_from_inside_leave_as_from_outside() {
    for (rule, there, outside) in [
        (
            "iif 2 udp dport 80 dnat to 10.0.0.5:8080",
            "udp 198.51.100.1:9 > 203.0.113.1:80",
            "203.0.113.1",
        ),
        (
            "iif 2 udp dport 80 dnat to [fd00::5]:8080",
            "udp [2001:db8:5::1]:9 > [2001:db8:f::1]:80",
            "2001:db8:f::1",
        ),
    ] {
        let mut gateway = gateway(rule, &[]);
        let sent = gateway.wire(OUT, there);
        let from = sent.key.destination().address.to_string();
        let error = gateway.complain(&from, &sent).expect("it passes");
        assert_eq!(error.quoted(), Some(key(there)));
        assert_eq!(
            (error.key.source().address, error.egress),
            (ip(outside), Some(OUT))
        );
    }
}

#[test]
fn redirects_do_not_pass_a_translation() {
    let mut gateway = gateway("oif 2 masquerade", &[]);
    let sent = gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    let redirect = Datagram::new(ip("192.0.2.7"), ip("203.0.113.1"), Transport::error(5, 1))
        .with_payload(&sent.bytes);
    let got = gateway
        .send(OUT, &redirect.emit().expect("a packet"))
        .expect("equal");
    assert_eq!(got, None);
    assert_eq!(gateway.nat().counters().errors_dropped, 1);
}

/// A SYN and its answer through a link of 1,400 bytes: the segment size is lowered, never raised, and the checksum kept.
#[test]
fn segment_sizes_are_clamped_both_ways() {
    let mut hooks = (Clamp::new(),);
    hooks.0.set_mtu(Interface(2), Some(1400));
    for (flags, mss, expected, out) in [
        (TcpFlags::SYN, 1460, 1360, true),
        (TcpFlags::SYN.union(TcpFlags::ACK), 1460, 1360, false),
        (TcpFlags::SYN, 1000, 1000, true),
        (TcpFlags::ACK, 1460, 1460, true),
    ] {
        let mut tcp = Tcp {
            flags,
            ..Tcp::new(4000, 80)
        };
        tcp.options.mss = Some(mss);
        let mut bytes = Datagram::new(ip("10.0.0.1"), ip("198.51.100.1"), Transport::Tcp(tcp))
            .emit()
            .expect("a packet");
        let ingress = if out { IN } else { OUT };
        let mut frame: Frame<'_> =
            Frame::ip(&mut bytes, &Arrival::on(Interface(ingress))).expect("a packet");
        let mut context = Context::new(gufc::time::Instant::START, Origin::Received);
        context.egress = Some(Egress {
            interface: Interface(if out { OUT } else { IN }),
            next_hop: 0,
        });
        let mut destiny = Default::default();
        hooks.judge(
            &mut frame,
            &mut context,
            &mut destiny,
            HookSet::ALL,
            &mut Scratch::new(),
        );
        assert_eq!(
            frame.segment().expect("a segment").options.mss,
            Some(expected)
        );
        assert!(frame.is_intact());
    }
}

/// An edit of rules decides about connections to come.
#[test]
fn an_edit_leaves_live_connections_alone() {
    let mut gateway = gateway("oif 2 masquerade", &[]);
    let first = gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    let rule: gufc::hooks::nat::Rule = "oif 2 snat to 203.0.113.4".parse().expect("a rule");
    let edit = |gateway: &mut gufc::testing::nat::Gateway| {
        gateway.edit(|(nat, ..)| {
            let inserted = nat.insert(gufc::hooks::nat::Place::First, rule.clone());
            inserted
                .map(|(_, change)| change)
                .map_err(|why| why.to_string())
        })
    };
    edit(&mut gateway).expect("room");
    let again = gateway.wire(IN, "udp 10.0.0.1:4000 > 198.51.100.1:53");
    assert_eq!(again.bytes, first.bytes);
    assert!(
        matches!(again.path, Path::Hit | Path::Restamped),
        "{:?}",
        again.path
    );
    assert_eq!(
        gateway.source("udp 10.0.0.2:4000 > 198.51.100.1:53"),
        end("203.0.113.4:4000")
    );
    // Unless it says otherwise.
    let (id, ..) = gateway
        .nat()
        .rules(gufc::hooks::nat::End::Source)
        .nth(1)
        .expect("the masquerade");
    gateway
        .edit(|(nat, ..)| {
            let removed = nat.remove(id, gufc::hooks::nat::Live::End);
            removed
                .map(|(_, change)| change)
                .map_err(|why| why.to_string())
        })
        .expect("there");
    assert_eq!(gateway.nat().tracker().len(), 1);
    assert_eq!(
        gateway.source("udp 10.0.0.1:4000 > 198.51.100.1:53"),
        Endpoint::new(
            ip("203.0.113.4"),
            gateway
                .nat()
                .tracker()
                .iter()
                .find_map(|one| {
                    let reply: &Tuple = one.tuple(gufc::hook::Direction::Reply);
                    (one.tuple(gufc::hook::Direction::Original).source().address == ip("10.0.0.1"))
                        .then_some(reply.destination().port)
                })
                .expect("a connection")
        )
    );
}
