//! A pool lent a free port whose tuple was, with this peer, a connection's of the gateway itself: the packet was dropped, and so were
//! its repetitions, while other ports were free.

#[test]
fn lent_a_port_that_clashed() {
    gufc::testing::nat_story::nat(&[
        84, 1, 1, 220, 0, 114, 128, 0, 183, 57, 154, 0, 0, 0, 0, 0, 0, 0, 0, 64, 9, 0, 0, 0, 1,
        128, 0, 110, 0, 0, 251, 0, 32, 1, 28, 33, 0, 134, 0, 0, 90, 97, 0, 0, 0, 0, 0, 110, 2, 0,
        46, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ])
    .expect("no difference");
}
