//! A UDP datagram that is shorter than its packet had its payload exchanged as if its checksum went over the datagram alone, while it
//! is verified over all of the packet: a right checksum became a wrong one. Such a datagram is left alone now.

#[test]
fn short_datagram_was_spliced() {
    gufc::testing::frame::frame(&[
        36, 9, 1, 8, 157, 1, 255, 255, 255, 255, 255, 9, 69, 0, 0, 35, 0, 0, 0, 0, 64, 17, 70, 142,
        10, 0, 0, 2, 198, 53, 100, 7, 3, 232, 0, 53, 0, 13, 10, 71, 112, 97, 121, 108, 111, 97,
        100,
    ]);
}
