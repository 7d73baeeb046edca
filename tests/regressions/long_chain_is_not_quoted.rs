//! The law of answers asked every error to quote the flow that it is about; a chain of extension headers longer than an answer
//! may be quotes none. Found by the fuzz target `frame`.

use gufc::key::{FlowKey, Tuple};
use gufc::packet::Packet;
use gufc::testing::frame::{CHOICES, frame};
use gufc::verdict::Answer;
use gufc::wire::{ANSWER_MAX, Arrival, Frame};

/// An IPv6 packet with destination options of `units` times 8 bytes, and a protocol that has neither ports nor checksum.
fn optioned(units: u8) -> Vec<u8> {
    let chain = usize::from(units) * 8;
    let mut bytes = vec![0; 40 + chain + 8];
    bytes[0] = 0x60;
    bytes[4..6].copy_from_slice(&(chain as u16 + 8).to_be_bytes());
    bytes[6] = 60;
    bytes[7] = 64;
    bytes[8..10].copy_from_slice(&[0xfd, 1]);
    bytes[24..26].copy_from_slice(&[0xfd, 2]);
    bytes[40] = 253;
    bytes[41] = units - 1;
    bytes
}

/// What the answer to a packet quotes.
fn quoted(mut bytes: Vec<u8>) -> Option<Tuple> {
    let packet = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    let mut out = [0; ANSWER_MAX];
    let from = "fd03::1".parse().expect("an address");
    let length = packet
        .answer(Answer::AdminProhibited.into(), from, &mut out)
        .expect("answered");
    assert!(length <= ANSWER_MAX);
    Frame::<Tuple>::ip(&mut out[..length], &Arrival::default())
        .expect("a packet")
        .quoted()
}

#[test]
fn as_much_as_fits_is_quoted() {
    assert_eq!(quoted(optioned(20)).map(|key| key.protocol().0), Some(253));
    assert_eq!(quoted(optioned(200)), None);
    for units in [20, 148, 149, 150, 200] {
        let mut data = vec![0; CHOICES];
        data.extend(optioned(units));
        frame(&data);
    }
}
