//! RFC 4787: UDP.

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
    let answer: Frame<'_> = Frame::ip(&mut out[..length], &Arrival::default()).expect("a packet");
    assert_eq!((answer.transport()[0], answer.transport()[1]), (3, 4));
    assert_eq!(answer.key().destination().address, ip("10.0.0.1"));
}
