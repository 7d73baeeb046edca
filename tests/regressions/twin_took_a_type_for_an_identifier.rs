//! The slow translator took the type and code of an ICMP reply for the identifier that its query left with.

#[test]
fn twin_took_a_type_for_an_identifier() {
    gufc::testing::nat_story::nat(&[
        20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 29,
        96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 46, 0, 0, 224, 1, 0, 0, 0, 0, 0, 0, 96, 89, 0, 0, 0, 0, 0,
        0, 64, 1, 0, 0, 0, 0, 0, 0, 87, 18, 32, 1, 0, 0, 0, 0, 0, 0, 238, 0, 0, 46, 0, 0, 14, 0, 0,
        224, 1, 0, 0, 0, 0, 0, 0, 0, 57, 32, 0, 0, 4, 8, 0, 46, 0, 0, 182, 0, 22, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 78, 0, 0, 64, 57, 92, 80, 0, 4, 24,
    ])
    .expect("no difference");
}
