//! Whatever comes in, the tracker stays sound; and what a connection costs in memory.

use std::net::Ipv4Addr;

use gufc::hook::{Class, Direction};
use gufc::hooks::conntrack::{Config, Conntrack, Mode};
use gufc::key::{SevenTuple, Tuple};
use gufc::packet::Packet;
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};
use gufc::wire::{Arrival, Frame};
use proptest::prelude::*;

/// Bytes that are often nearly a packet: few addresses and ports, all protocols, and any transport header.
pub(super) fn bytes(chance: &mut SplitMix64) -> Vec<u8> {
    let protocols = [1, 6, 6, 17, 47, 58, 132, 136, 253];
    let protocol = protocols[chance.below(9) as usize];
    let ends = [chance.below(2) as u8, chance.below(2) as u8];
    let mut transport = chance.bytes(8 + chance.clone().below(40) as usize);
    let small = |chance: &mut SplitMix64| chance.below(3) as u8;
    for at in [0, 1, 2, 3] {
        transport[at] = if protocol == 132 || at % 2 == 1 {
            small(chance)
        } else {
            0
        };
    }
    if protocol == 6 && transport.len() >= 20 {
        transport[12] = 0x50 | transport[12] & 0x20;
        let flags = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, transport[13]];
        transport[13] = flags[chance.below(8) as usize];
        for at in [4, 5, 6, 8, 9, 10] {
            transport[at] = 0;
        }
    }
    if matches!(protocol, 1 | 58) {
        let kinds = [0, 3, 8, 11, 128, 129, 1, 137, transport[0]];
        transport[0] = kinds[chance.below(9) as usize];
        if chance.below(2) == 0 && transport.len() > 36 {
            // Something to quote.
            let quoted = [
                0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, ends[1], 10, 0, 0, ends[0],
            ];
            transport[8..28].copy_from_slice(&quoted);
        }
    }
    let length = 20 + transport.len() as u16;
    let [high, low] = length.to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend([10, 0, 0, ends[0], 10, 0, 0, ends[1]]);
    let sum = !gufc::wire::checksum::sum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(transport);
    packet
}

proptest! {
    #[test]
    fn any_bytes(seed: u64) {
        let mut chance = SplitMix64(seed);
        let mut config = Config::new(1 + chance.below(6) as u32, [chance.next(), chance.next()]);
        config.checksum = false;
        config.accounting = chance.below(2) == 0;
        config.news_capacity = chance.below(4) as usize;
        config.pending_max = chance.below(4) as u32;
        config.per_source_max = (chance.below(2) == 0).then_some(3);
        config.mode = if chance.below(2) == 0 { Mode::Linux } else { Mode::Hardened };
        let capacity = config.capacity as usize;
        let mut tracker: Conntrack<Tuple> = Conntrack::try_new(config).expect("room");
        let mut now = Instant::from_secs(1);
        for _ in 0..80 {
            let mut bytes = bytes(&mut chance);
            let Ok(frame) = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()) else {
                continue;
            };
            if let (Some((id, direction)), Some(segment)) =
                (tracker.find(&frame.key(), now), frame.segment())
            {
                if tracker.fits(id, direction, &segment, now) {
                    tracker.advance(id, direction, &segment, frame.length(), now);
                }
            }
            let tracked = tracker.track(&frame, now);
            prop_assert!(!tracked.drop || tracked.connection.is_none());
            prop_assert_eq!(tracked.connection.is_some(), tracked.direction.is_some());
            if let Some(id) = tracked.connection {
                let new = tracked.class == Class::New && tracked.direction == Some(Direction::Original);
                match chance.below(8) {
                    0 => tracker.refuse(id),
                    1 if new => {
                        let seen = tracker.connection(id).map(|one| *one.tuple(Direction::Reply));
                        tracker.set_reply(id, seen.expect("there"));
                    }
                    2 => drop(tracker.delete(id)),
                    _ => drop(tracker.confirm(id, now)),
                }
            }
            prop_assert!(tracker.len() <= capacity);
            if let Err(broken) = tracker.check() {
                return Err(TestCaseError::fail(broken));
            }
            now = now + Duration::from_secs(chance.below(20));
            if chance.below(10) == 0 {
                let _ = tracker.maintain(now, 2);
            }
            for one in tracker.iter() {
                let _ = one.line(now).to_string();
            }
        }
    }
}

/// Bytes for one connection of each kind of key: both lines, and two entries of the index.
#[test]
fn bytes_for_a_connection() {
    fn cost<K: gufc::hooks::conntrack::Trackable>(accounting: bool) -> usize {
        let capacity = 1 << 16;
        let mut config = Config::new(capacity, [1, 2]);
        config.accounting = accounting;
        let expected = Conntrack::<K>::bytes_for(&config);
        let tracker: Conntrack<K> = Conntrack::try_new(config).expect("room");
        assert_eq!(tracker.reserved_bytes(), expected, "as foretold");
        tracker.reserved_bytes() / capacity as usize
    }
    type V4 = SevenTuple<Ipv4Addr>;
    type V6 = SevenTuple<std::net::Ipv6Addr>;
    let costs = [
        cost::<V4>(false),
        cost::<V4>(true),
        cost::<V6>(false),
        cost::<V6>(true),
    ];
    println!(
        "bytes for a connection: v4 {}, accounted {}; v6 {}, accounted {}",
        costs[0], costs[1], costs[2], costs[3]
    );
    assert!(costs[1] <= 256, "{costs:?}");
    let both = [cost::<Tuple>(false), cost::<Tuple>(true)];
    assert!(both[0] <= 256, "{both:?}");
}
