//! The laws of keys, over random tuples of both families.

use core::net::{Ipv4Addr, Ipv6Addr};

use gufc::key::{Endpoint, FlowKey, Key, Locality, Protocol, SevenTuple, Tuple, Zone};
use proptest::prelude::*;

use crate::transparency::cases;

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::TCP),
        Just(Protocol::UDP),
        Just(Protocol::ICMP),
        Just(Protocol::ICMPV6),
        any::<u8>().prop_map(Protocol)
    ]
}

fn rest() -> impl Strategy<Value = (Protocol, u16, u16, u8, u32)> {
    let port = || prop_oneof![Just(0_u16), Just(8 << 8), Just(128 << 8), any::<u16>()];
    (
        protocol(),
        port(),
        port(),
        0_u8..4,
        prop_oneof![Just(0), 0..=Zone::MAX],
    )
}

fn v4() -> impl Strategy<Value = SevenTuple<Ipv4Addr>> {
    (any::<u32>(), any::<u32>(), rest()).prop_map(
        |(s, d, (protocol, sport, dport, locality, zone))| {
            let zone = Zone::new(zone).expect("in range");
            SevenTuple::new(
                Ipv4Addr::from_bits(s),
                Ipv4Addr::from_bits(d),
                protocol,
                sport,
                dport,
            )
            .at(Locality::from_bits(locality))
            .in_zone(zone)
        },
    )
}

fn v6() -> impl Strategy<Value = SevenTuple<Ipv6Addr>> {
    (any::<u128>(), any::<u128>(), rest()).prop_map(
        |(s, d, (protocol, sport, dport, locality, zone))| {
            let zone = Zone::new(zone).expect("in range");
            SevenTuple::new(
                Ipv6Addr::from_bits(s),
                Ipv6Addr::from_bits(d),
                protocol,
                sport,
                dport,
            )
            .at(Locality::from_bits(locality))
            .in_zone(zone)
        },
    )
}

/// The bit string as text, bit by bit.
fn bits<K: Key>(key: &K) -> String {
    (0..K::BITS)
        .map(|bit| if key.bit(bit) == 1 { '1' } else { '0' })
        .collect()
}

fn key_laws<K: Key>(a: K, b: K) -> Result<(), TestCaseError> {
    prop_assert_eq!(K::from_words(a.words()), a);
    prop_assert_eq!(
        a.cmp(&b),
        bits(&a).cmp(&bits(&b)),
        "the order of keys is that of their bits"
    );
    prop_assert_eq!(a.words().as_ref().len(), K::BITS.div_ceil(64) as usize);
    Ok(())
}

fn flow_laws<K: FlowKey>(key: K) -> Result<(), TestCaseError> {
    if let Some(inverse) = key.inverse() {
        prop_assert_eq!(inverse.inverse(), Some(key));
        prop_assert_eq!(inverse.source().address, key.destination().address);
    } else {
        prop_assert!(key.protocol().is_icmp());
    }
    prop_assert_eq!(key.with(key.source(), key.destination()), Some(key));
    let other = Endpoint {
        port: 7,
        ..key.destination()
    };
    let moved = key.with(other, key.source()).expect("of one family");
    prop_assert_eq!((moved.source(), moved.destination()), (other, key.source()));
    prop_assert_eq!(moved.fields().zone, key.fields().zone);
    Ok(())
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn ipv4(a in v4(), b in v4()) {
        key_laws(a, b)?;
        flow_laws(a)?;
        prop_assert_eq!(a.to_string().parse(), Ok(a));
    }

    #[test]
    fn ipv6(a in v6(), b in v6()) {
        key_laws(a, b)?;
        flow_laws(a)?;
        prop_assert_eq!(a.to_string().parse(), Ok(a));
    }

    #[test]
    fn either(a in v4(), b in v6()) {
        for tuple in [Tuple::V4(a), Tuple::V6(b)] {
            flow_laws(tuple)?;
            prop_assert_eq!(tuple.to_string().parse(), Ok(tuple));
        }
        prop_assert!(Tuple::V4(a) < Tuple::V6(b));
        prop_assert_eq!(Tuple::V4(a).fields(), a.fields());
    }

    /// What is not a tuple is refused, not misread.
    #[test]
    fn any_text(text in "[a-z0-9.:>\\[\\] ]{0,60}") {
        if let Ok(tuple) = text.parse::<Tuple>() {
            prop_assert_eq!(tuple.to_string().parse::<Tuple>(), Ok(tuple));
        }
    }
}

#[test]
fn texts_refused() {
    use gufc::key::ParseTupleError as E;
    for (text, error) in [
        ("", E::Protocol),
        ("tpc 10.0.0.1:1 > 10.0.0.2:2", E::Protocol),
        ("tcp 10.0.0:1 > 10.0.0.2:2", E::Source),
        ("tcp 10.0.0.1:1 10.0.0.2:2", E::Arrow),
        ("tcp 10.0.0.1:1 > 10.0.0.2:99999", E::Destination),
        ("tcp 10.0.0.1:1 > [::1]:2", E::Family),
        ("tcp 10.0.0.1:1 > 10.0.0.2:2 zone 4194304", E::Option),
        ("tcp 10.0.0.1:1 > 10.0.0.2:2 type 8", E::Option),
        ("icmp 10.0.0.1 > 10.0.0.2 id 1 type 256", E::Option),
    ] {
        assert_eq!(text.parse::<Tuple>(), Err(error), "{text}");
    }
}
