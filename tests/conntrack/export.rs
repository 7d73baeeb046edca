//! Connections as bytes and back: exact where trusted, learnt afresh where not, and nothing where a byte is wrong.

use std::net::{IpAddr, Ipv4Addr};

use gufc::hook::Class;
use gufc::hooks::conntrack::{Config, Conntrack, ImportError, TcpPhase, Trust};
use gufc::key::Tuple;
use gufc::packet::{Seq, TcpFlags};
use gufc::time::{Duration, Instant};
use gufc::wire::build::{Datagram, Tcp, Transport};
use gufc::wire::{Arrival, Frame};
use proptest::prelude::*;

const NOW: Instant = Instant::from_secs(100);

fn tracker(capacity: u32) -> Conntrack<Tuple> {
    let config = Config {
        accounting: true,
        ..Config::new(capacity, [1, 2])
    };
    Conntrack::try_new(config).expect("memory")
}

fn end(host: u32, there: bool) -> [IpAddr; 2] {
    let client = Ipv4Addr::from_bits(0x0a00_0000 + host).into();
    let server = Ipv4Addr::new(192, 0, 2, 1).into();
    if there {
        [client, server]
    } else {
        [server, client]
    }
}

fn meet(
    tracker: &mut Conntrack<Tuple>,
    host: u32,
    there: bool,
    transport: impl Into<Transport>,
    now: Instant,
) -> Class {
    let [from, to] = end(host, there);
    let mut bytes = Datagram::new(from, to, transport)
        .with_payload(&[0; 10])
        .emit()
        .expect("a packet");
    let frame = Frame::<Tuple>::ip(&mut bytes, &Arrival::default()).expect("a packet");
    let tracked = tracker.track(&frame, now);
    if let Some(id) = tracked.connection {
        let _ = tracker.confirm(id, now);
    }
    tracked.class
}

fn segment(there: bool, flags: TcpFlags, seq: u32, ack: u32) -> Tcp {
    let (from, to) = if there { (1_000, 80) } else { (80, 1_000) };
    Tcp {
        flags,
        seq: Seq(seq),
        ack: Seq(ack),
        ..Tcp::new(from, to)
    }
}

/// Of every four hosts one has just sent a SYN, one has an open connection, one is closing, one exchanges datagrams; some have marks and
/// labels.
fn peopled(hosts: u32) -> Conntrack<Tuple> {
    let mut tracker = tracker(hosts.max(1));
    for host in 0..hosts {
        let now = NOW + Duration::from_micros(10 * u64::from(host));
        if host % 4 == 3 {
            for there in [true, false, true] {
                let (from, to) = if there { (1_000, 53) } else { (53, 1_000) };
                let _ = meet(&mut tracker, host, there, Transport::udp(from, to), now);
            }
            continue;
        }
        let syn = |there, flags, seq, ack| segment(there, flags, seq, ack);
        let _ = meet(
            &mut tracker,
            host,
            true,
            syn(true, TcpFlags::SYN, 99, 0),
            now,
        );
        if host % 4 == 0 {
            continue;
        }
        let answer = TcpFlags::SYN | TcpFlags::ACK;
        let _ = meet(&mut tracker, host, false, syn(false, answer, 499, 110), now);
        let _ = meet(
            &mut tracker,
            host,
            true,
            syn(true, TcpFlags::ACK, 110, 510),
            now,
        );
        if host % 4 == 2 {
            let fin = TcpFlags::FIN | TcpFlags::ACK;
            let _ = meet(&mut tracker, host, true, syn(true, fin, 120, 510), now);
        }
        let key = host_key(host);
        let (id, _) = tracker.find(&key, now).expect("tracked");
        let _ = tracker.set_mark(id, host, u32::MAX);
        let _ = tracker.set_label(id, u128::from(host / 8) << 64, u128::MAX);
    }
    tracker
}

fn host_key(host: u32) -> Tuple {
    let [client, server] = end(host, true);
    format!("tcp {client}:1000 > {server}:80")
        .parse()
        .expect("a tuple")
}

fn export(tracker: &Conntrack<Tuple>, budget: u32, now: Instant) -> Vec<Vec<u8>> {
    let (mut blocks, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let mut block = Vec::new();
        next = tracker.export(from, budget, now, &mut block);
        blocks.push(block);
    }
    blocks
}

fn lines(tracker: &Conntrack<Tuple>, now: Instant) -> Vec<String> {
    tracker
        .iter()
        .map(|one| {
            format!(
                "{} label {:x} {:?} {:?}",
                one.line(now),
                one.label(),
                one.born(),
                one.end()
            )
        })
        .collect()
}

/// Whatever the steps, what was there is there again, to the byte. `GUFC_SESSIONS` says how many connections.
#[test]
fn connections_come_back_exactly() {
    let hosts = std::env::var("GUFC_SESSIONS").map_or(400, |n| n.parse().expect("a number"));
    let old = peopled(hosts);
    let now = NOW + Duration::from_micros(10 * u64::from(hosts));
    let living =
        (0..hosts).filter(|host| old.find(&host_key(*host), now).is_some() || host % 4 == 3);
    let living = living.count();
    for budget in [7, 1_000, u32::MAX] {
        let mut new = tracker(hosts);
        let begun = std::time::Instant::now();
        let blocks = export(&old, budget, now);
        let mut count = 0;
        for block in &blocks {
            let imported = new.import(block, Trust::Trust, now).expect("a sound block");
            assert_eq!((imported.known, imported.refused), (0, 0));
            count += imported.begun;
        }
        let took = begun.elapsed();
        assert_eq!((count, new.len()), (living, living));
        assert_eq!(new.check(), Ok(()));
        assert_eq!(lines(&new, now), lines(&old, now));
        assert!(export(&new, budget, now) == blocks, "to the byte");
        let bytes: usize = blocks.iter().map(Vec::len).sum();
        println!("{count} connections, {bytes} bytes, out and in in {took:?}");
        let again = new
            .import(&blocks[0], Trust::Trust, now)
            .expect("a sound block");
        assert_eq!((again.begun, again.refused), (0, 0));
        if hosts > 10_000 {
            break;
        }
    }
}

/// Where trusted, the next packets are judged as by the tracker that they came from: those in the window pass, forgeries do not.
/// Where not, windows are learnt from the next packet, and connections stay established.
#[test]
fn imported_connections_go_on() {
    let now = NOW + Duration::from_secs(1);
    let block = export(&peopled(40), u32::MAX, now).remove(0);
    let open = (0..40).filter(|host| host % 4 == 1);
    for trust in [Trust::Trust, Trust::Reevaluate] {
        let (mut old, mut new) = (peopled(40), tracker(64));
        let _ = new.import(&block, trust, now).expect("a sound block");
        for host in open.clone() {
            let forged = segment(true, TcpFlags::RST, 0x4000_0000, 0);
            if trust == Trust::Trust {
                let before = meet(&mut old, host, true, forged.clone(), now);
                assert_eq!(meet(&mut new, host, true, forged, now), before);
                assert_eq!(before, Class::Invalid);
            }
            let data = segment(true, TcpFlags::ACK, 120, 510);
            let before = meet(&mut old, host, true, data.clone(), now);
            assert_eq!(meet(&mut new, host, true, data, now), before);
            assert_eq!(before, Class::Established);
            let (id, _) = new.find(&host_key(host), now).expect("there");
            let phase = new.connection(id).and_then(|one| one.tcp_phase());
            assert_eq!(phase, Some(TcpPhase::Established));
        }
        let after = |tracker: &Conntrack<Tuple>| lines(tracker, now);
        if trust == Trust::Trust {
            assert_eq!(after(&old), after(&new));
        }
    }
}

#[test]
fn there_is_no_more_room_than_there_is() {
    let now = NOW + Duration::from_secs(1);
    let block = export(&peopled(40), u32::MAX, now).remove(0);
    let mut small = tracker(16);
    let imported = small
        .import(&block, Trust::Trust, now)
        .expect("a sound block");
    assert_eq!((imported.begun, imported.refused), (16, 24));
    assert_eq!(
        (small.len(), small.early_dropped(), small.check()),
        (16, 0, Ok(()))
    );
    let config = Config {
        per_source_max: Some(0),
        ..Config::new(64, [1, 2])
    };
    let mut none: Conntrack<Tuple> = Conntrack::try_new(config).expect("memory");
    let imported = none
        .import(&block, Trust::Trust, now)
        .expect("a sound block");
    assert_eq!((imported.begun, imported.refused), (0, 40));
    assert_eq!(
        none.import(b"gufc", Trust::Trust, now),
        Err(ImportError::NotABlock)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A block with a wrong byte, or one too few or too many, is refused whole; so is one that is sound and says what no tracker can
    /// have, and none of it makes the tracker unsound.
    #[test]
    fn damage_is_refused_whole(at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<prop::sample::Index>()) {
        let now = NOW + Duration::from_secs(1);
        let block = export(&peopled(12), u32::MAX, now).remove(0);
        let mut damaged = block.clone();
        damaged[at.index(block.len())] ^= 1 << bit;
        let mut long = block.clone();
        long.push(0);
        for bad in [&damaged, &block[..cut.index(block.len())], &long] {
            let mut tracker = tracker(64);
            prop_assert!(tracker.import(bad, Trust::Trust, now).is_err());
            prop_assert!(tracker.is_empty());
        }
        // The same with a checksum that is right again.
        let body = damaged.len() - 8;
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let sum = damaged[..body].iter().fold(0xcbf2_9ce4_8422_2325, step);
        damaged[body..].copy_from_slice(&sum.to_le_bytes());
        let mut tracker = tracker(64);
        if tracker.import(&damaged, Trust::Trust, now).is_err() {
            prop_assert!(tracker.is_empty());
        }
        prop_assert_eq!(tracker.check(), Ok(()));
        for host in 0..12 {
            let _ = meet(&mut tracker, host, true, segment(true, TcpFlags::ACK, 120, 510), now);
            let _ = meet(&mut tracker, host, false, segment(false, TcpFlags::ACK, 510, 130), now);
        }
        tracker.maintain(Instant::NEVER, 64);
        prop_assert_eq!(tracker.check(), Ok(()));
    }
}
