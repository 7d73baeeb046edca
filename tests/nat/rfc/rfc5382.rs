//! RFC 5382: TCP.

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
